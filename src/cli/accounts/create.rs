//! `keyward accounts create`

use std::io::{self, Write};

use clap::Args;
use serde_json::Value;

use super::account::print_facts;
use crate::cli::{
    api::{answer::parse, client::Target},
    error::Error,
    limits::AccountLimits,
    output::{self, Format, Output},
    request, secret,
};

#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Display name
    #[arg(long)]
    name: String,
    /// Your own identifier of this customer
    #[arg(long, value_name = "ID")]
    external_id: Option<String>,
    /// A scope that keys of this account may hold; repeatable. Without it, all scopes
    #[arg(long = "allow", value_name = "SCOPE", value_delimiter = ',')]
    allowed: Vec<String>,
    /// The maximum number of keys
    #[arg(long, value_name = "N")]
    max_keys: Option<u32>,
    /// The longest lifetime of a key, such as 90d; `server` means the server's own
    #[arg(long, value_name = "LIFETIME", value_parser = output::lifetime)]
    max_key_lifetime: Option<Value>,
    /// The lifetime of a key that is created without --expires; `server` means the server's own
    #[arg(long, value_name = "LIFETIME", value_parser = output::lifetime)]
    default_key_lifetime: Option<Value>,
    /// Metadata of the account: a JSON object
    #[arg(long, value_name = "JSON", value_parser = output::object)]
    metadata: Option<Value>,
    /// Whether its keys can be exchanged for tokens, which gateways verify on their own
    #[arg(long, value_name = "SWITCH", value_parser = ["on", "off"])]
    token_exchange: Option<String>,
    #[command(flatten)]
    limits: AccountLimits,
    /// Print only the account's first key
    #[arg(short, long, conflicts_with = "output")]
    quiet: bool,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    target: Target,
}

impl Options {
    pub(super) fn run(&self) -> Result<(), Error> {
        let body = request::object(
            [
                ("name", Some(self.name.clone().into())),
                ("externalId", self.external_id.clone().map(Value::from)),
                ("allowedScopes", request::list(&self.allowed)),
                ("maxKeys", self.max_keys.map(Value::from)),
                ("maxKeyLifetimeSeconds", self.max_key_lifetime.clone()),
                ("defaultKeyLifetimeSeconds", self.default_key_lifetime.clone()),
                ("tokenExchange", output::switch(self.token_exchange.as_deref())),
                ("metadata", self.metadata.clone()),
            ]
            .into_iter()
            .chain(self.limits.members()),
        );
        secret::check_output()?;
        let client = self.target.open()?;
        let made = client.ask("POST", "/accounts", Some(&body))?;
        let account: Value = parse(&made)?;
        let outcome = self.print(&made, &account);
        client.close()?;
        secret::printed(outcome, &output::text(&account["apiKey"], "id", ""), "created")
    }

    fn print(&self, made: &[u8], account: &Value) -> Result<(), Error> {
        if self.output.output == Format::Json {
            return Ok(output::raw(made)?);
        }
        let key = output::text(&account["apiKey"], "key", "");
        let mut out = io::stdout();
        if self.quiet {
            return Ok(writeln!(out, "{key}")?);
        }
        print_facts(account)?;
        writeln!(out, "\nThe first key of the account, which can manage its keys:\n\n    {key}\n")?;
        Ok(writeln!(out, "It is shown only once; keyward keeps its hash.")?)
    }
}
