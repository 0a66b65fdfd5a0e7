//! `keyward accounts link`

use std::{
    io::{self, Write},
    time::Duration,
};

use clap::Args;
use serde_json::Value;

use super::account::{OneAccount, about_account, account_id};
use crate::{
    cli::{
        api::answer::parse,
        error::Error,
        output::{self, Format, Output},
        request, secret,
    },
    service::Keyward,
};

#[derive(Args, Debug)]
pub(crate) struct Options {
    /// A scope of the link, which its holder can give to keys; repeatable. Without it, all that the
    /// account allows
    #[arg(long = "scope", value_name = "SCOPE", value_delimiter = ',')]
    scopes: Vec<String>,
    /// How long the link is valid: 1m to 1d. Default: the setting of the server
    #[arg(long, value_name = "DURATION", value_parser = lifetime)]
    expires_in: Option<Duration>,
    /// Display name of the link's key
    #[arg(long)]
    name: Option<String>,
    #[command(flatten)]
    account: OneAccount,
    #[command(flatten)]
    output: Output,
}

impl Options {
    pub(super) fn run(&self) -> Result<(), Error> {
        let OneAccount { account: named, target } = &self.account;
        let body = request::object([
            ("name", self.name.clone().map(Value::from)),
            ("scopes", request::list(&self.scopes)),
            ("expiresIn", self.expires_in.map(|it| it.as_secs().into())),
        ]);
        secret::check_output()?;
        let client = target.open()?;
        let id = account_id(&client, named)?;
        let made = client.ask("POST", &format!("/accounts/{id}/console-links"), Some(&body));
        let made = about_account(made, named)?;
        let link: Value = parse(&made)?;
        let outcome = self.print(&made, &link);
        client.close()?;
        secret::printed(outcome, &output::text(&link["apiKey"], "id", ""), "created")
    }

    fn print(&self, made: &[u8], link: &Value) -> Result<(), Error> {
        if self.output.output == Format::Json {
            return Ok(output::raw(made)?);
        }
        writeln!(io::stdout(), "{}", output::text(link, "url", ""))?;
        Ok(writeln!(
            io::stderr(),
            "The link works for one browser, until {}. Send it only to the holder of the account.",
            output::text(link, "expiresAt", "")
        )?)
    }
}

/// Parses the validity of a link within the bounds of the API.
fn lifetime(text: &str) -> Result<Duration, String> {
    let lifetime = output::whole_seconds(text)?;
    let allowed = Keyward::SHORTEST_LINK..=Keyward::LONGEST_LINK;
    allowed
        .contains(&lifetime)
        .then_some(lifetime)
        .ok_or_else(|| "must be from 1m to 1d".to_owned())
}
