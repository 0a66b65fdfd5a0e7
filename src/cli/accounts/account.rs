//! Requests about one account, and its output.

use std::io::{self, Write};

use clap::Args;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::cli::{
    api::{
        answer::parse,
        client::{Client, Target, encoded},
    },
    error::Error,
    limits::shown_rate,
    output::{self, Format, Output},
};

/// The options of a command about one account, and all options of `keyward accounts resume`.
#[derive(Args, Debug)]
pub(crate) struct OneAccount {
    /// The account: its identifier or your own external identifier
    pub(super) account: String,
    #[command(flatten)]
    pub(super) target: Target,
}

/// The options of `keyward accounts show`.
#[derive(Args, Debug)]
pub(crate) struct Show {
    #[command(flatten)]
    account: OneAccount,
    #[command(flatten)]
    output: Output,
}

impl Show {
    pub(super) fn run(&self) -> Result<(), Error> {
        self.account.print_answer("GET", None, self.output)
    }
}

impl OneAccount {
    pub(super) fn resume(&self) -> Result<(), Error> {
        let account: Value = parse(&self.ask("PATCH", Some(&json!({ "status": "active" })))?)?;
        Ok(writeln!(io::stdout(), "{} is active", output::text(&account, "id", ""))?)
    }

    /// Sends a request about the account, and prints the account as the answer describes it.
    pub(super) fn print_answer(
        &self,
        method: &str,
        body: Option<&Value>,
        output: Output,
    ) -> Result<(), Error> {
        let answer = self.ask(method, body)?;
        if output.output == Format::Json {
            return Ok(output::raw(&answer)?);
        }
        Ok(print_facts(&parse(&answer)?)?)
    }

    fn ask(&self, method: &str, body: Option<&Value>) -> Result<Zeroizing<Vec<u8>>, Error> {
        let client = self.target.open()?;
        let id = account_id(&client, &self.account)?;
        let answer = client.ask(method, &format!("/accounts/{id}"), body);
        let answer = about_account(answer, &self.account)?;
        client.close()?;
        Ok(answer)
    }
}

/// Returns the identifier of an account: `text` itself, or that of the account with the external
/// identifier `text`.
pub(crate) fn account_id(client: &Client, text: &str) -> Result<String, Error> {
    if text == "self" || text.starts_with("acct_") {
        return Ok(encoded(text));
    }
    let found = client.list(&format!("/accounts?externalId={}", encoded(text)))?;
    let id = found.first().map(|it| output::text(it, "id", ""));
    id.ok_or_else(|| no_account(text))
}

fn no_account(text: &str) -> Error {
    Error::Absent(format!("there is no account {text}; `keyward accounts list` shows identifiers"))
}

/// Names the account, as it was typed, in the error for an unknown account.
pub(crate) fn about_account<T>(outcome: Result<T, Error>, text: &str) -> Result<T, Error> {
    outcome.map_err(|err| if let Error::Absent(_) = err { no_account(text) } else { err })
}

pub(super) fn print_facts(account: &Value) -> Result<(), io::Error> {
    let metadata = account["metadata"].as_object().filter(|it| !it.is_empty());
    let allowed = if account["allowedScopes"].is_null() {
        "the whole catalogue".to_owned()
    } else {
        output::words(account, "allowedScopes")
    };
    let lifetime = |name: &str| {
        let seconds = account[name].as_u64().map(std::time::Duration::from_secs);
        seconds.map(|it| humantime::format_duration(it).to_string())
    };
    output::facts(&[
        ("id", Some(output::text(account, "id", ""))),
        ("name", Some(output::text(account, "name", ""))),
        ("external id", account["externalId"].as_str().map(str::to_owned)),
        ("status", Some(output::text(account, "status", ""))),
        ("allowed scopes", Some(allowed)),
        ("most keys", account["maxKeys"].as_u64().map(|it| it.to_string())),
        ("longest lifetime", lifetime("maxKeyLifetimeSeconds")),
        ("default lifetime", lifetime("defaultKeyLifetimeSeconds")),
        ("rate limit", shown_rate(&account["rateLimit"])),
        ("rate limit of a key", shown_rate(&account["keyRateLimit"])),
        ("token exchange", output::on_or_off(&account["tokenExchange"])),
        ("created", Some(output::moment(account, "createdAt", ""))),
        ("metadata", metadata.map(|_| account["metadata"].to_string())),
    ])
}
