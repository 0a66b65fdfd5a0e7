//! `keyward accounts update`

use clap::Args;
use serde_json::Value;

use super::account::OneAccount;
use crate::cli::{
    error::Error,
    limits::AccountLimits,
    output::{self, Output},
    request,
};

#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Display name
    #[arg(long)]
    name: Option<String>,
    /// Your own identifier of this customer
    #[arg(long, value_name = "ID")]
    external_id: Option<String>,
    /// A scope that keys of this account may hold; repeatable. Replaces the current scopes
    #[arg(long = "allow", value_name = "SCOPE", value_delimiter = ',')]
    allowed: Vec<String>,
    /// Allow every scope of the catalogue
    #[arg(long, conflicts_with = "allowed")]
    allow_all: bool,
    /// The maximum number of keys
    #[arg(long, value_name = "N")]
    max_keys: Option<u32>,
    /// The longest lifetime of a key, such as 90d; `server` means the server's own
    #[arg(long, value_name = "LIFETIME", value_parser = output::lifetime)]
    max_key_lifetime: Option<Value>,
    /// The lifetime of a key that is created without --expires; `server` means the server's own
    #[arg(long, value_name = "LIFETIME", value_parser = output::lifetime)]
    default_key_lifetime: Option<Value>,
    /// A JSON object that replaces the metadata of the account
    #[arg(long, value_name = "JSON", value_parser = output::object)]
    metadata: Option<Value>,
    /// Whether its keys can be exchanged for tokens, which gateways verify on their own
    #[arg(long, value_name = "SWITCH", value_parser = ["on", "off"])]
    token_exchange: Option<String>,
    #[command(flatten)]
    limits: AccountLimits,
    #[command(flatten)]
    account: OneAccount,
    #[command(flatten)]
    output: Output,
}

impl Options {
    pub(super) fn run(&self) -> Result<(), Error> {
        let all = self.allow_all.then_some(Value::Null);
        let body = request::changes(
            [
                ("name", self.name.clone().map(Value::from)),
                ("externalId", self.external_id.clone().map(Value::from)),
                ("allowedScopes", all.or_else(|| request::list(&self.allowed))),
                ("maxKeys", self.max_keys.map(Value::from)),
                ("maxKeyLifetimeSeconds", self.max_key_lifetime.clone()),
                ("defaultKeyLifetimeSeconds", self.default_key_lifetime.clone()),
                ("tokenExchange", output::switch(self.token_exchange.as_deref())),
                ("metadata", self.metadata.clone()),
            ]
            .into_iter()
            .chain(self.limits.members()),
        )?;
        self.account.print_answer("PATCH", Some(&body), self.output)
    }
}
