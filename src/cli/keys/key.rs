//! Requests about one key, and its output.

use std::io::{self, Write};

use clap::Args;
use serde_json::Value;
use zeroize::Zeroizing;

use crate::cli::{
    api::{
        answer::parse,
        client::{Client, Target, encoded},
    },
    error::Error,
    limits::shown_rate,
    output::{self, Format, Output},
    secret,
};

/// The options of a command about one key, and all options of `keyward keys show` and `addresses`.
#[derive(Args, Debug)]
pub(crate) struct OneKey {
    /// The key: its identifier or its prefix
    id: String,
    #[command(flatten)]
    pub(super) output: Output,
    #[command(flatten)]
    pub(super) target: Target,
}

impl OneKey {
    pub(super) fn show(&self) -> Result<(), Error> {
        let client = self.target.open()?;
        let answer = ask_about(&client, &self.id, "GET", "", None)?;
        let exchange = if self.output.output == Format::Json {
            None
        } else {
            token_exchange(&client, &parse(&answer)?)
        };
        client.close()?;
        print(&answer, exchange, self.output)
    }

    /// Prints the addresses from which the key was used.
    pub(super) fn print_addresses(&self) -> Result<(), Error> {
        let client = self.target.open()?;
        let answer = ask_about(&client, &self.id, "GET", "/addresses", None)?;
        client.close()?;
        if self.output.output == Format::Json {
            return Ok(output::raw(&answer)?);
        }
        let addresses: Value = parse(&answer)?;
        let rows = addresses["data"].as_array().into_iter().flatten().map(|it| {
            let moment = |member| output::moment(it, member, "");
            [output::text(it, "address", ""), moment("firstUsedAt"), moment("lastUsedAt")]
        });
        let headings = ["ADDRESS", "FIRST USED", "LAST USED"];
        Ok(output::table(headings, &rows.collect::<Vec<_>>())?)
    }

    /// Sends a request about the key, and prints the key as the answer describes it. `what` follows the
    /// key in the path.
    pub(super) fn print_answer(
        &self,
        method: &str,
        what: &str,
        body: Option<&Value>,
    ) -> Result<(), Error> {
        let client = self.target.open()?;
        let answer = ask_about(&client, &self.id, method, what, body)?;
        client.close()?;
        print(&answer, None, self.output)
    }

    /// Rotates the key and prints the new full key.
    pub(super) fn rotate(&self, body: &Value, quiet: bool) -> Result<(), Error> {
        secret::check_output()?;
        let client = self.target.open()?;
        let made = ask_about(&client, &self.id, "POST", "/rotate", Some(body))?;
        let printed = print_full_key(&made, "rotated", quiet, self.output);
        client.close()?;
        printed
    }
}

/// Sends a request about one key and returns the answer; `what` follows the key in the path.
pub(super) fn ask_about(
    client: &Client,
    key: &str,
    method: &str,
    what: &str,
    body: Option<&Value>,
) -> Result<Zeroizing<Vec<u8>>, Error> {
    let answer = client.ask(method, &format!("/api-keys/{}{what}", encoded(key)), body);
    let absent = format!("there is no key {key}; `keyward keys list` shows identifiers");
    answer.map_err(|err| if let Error::Absent(_) = err { Error::Absent(absent) } else { err })
}

/// Returns whether the key can be exchanged for tokens, if the caller may see its account.
fn token_exchange(client: &Client, key: &Value) -> Option<String> {
    let account = output::text(key, "accountId", "");
    let answer = client.ask("GET", &format!("/accounts/{}", encoded(&account)), None).ok()?;
    output::on_or_off(&parse::<Value>(&answer).ok()?["tokenExchange"])
}

fn print(body: &[u8], exchange: Option<String>, output: Output) -> Result<(), Error> {
    if output.output == Format::Json {
        return Ok(output::raw(body)?);
    }
    let key: Value = parse(body)?;
    let old = key["previousKeys"].as_array().into_iter().flatten().map(|it| {
        let until = output::text(it, "validUntil", "");
        format!("{} until {until}", output::text(it, "keyPrefix", ""))
    });
    let old: Vec<_> = old.collect();
    let metadata = key["metadata"].as_object().filter(|it| !it.is_empty());
    let unused = Some(output::words(&key, "unusedScopes")).filter(|it| !it.is_empty());
    let networks = key["allowedIps"].is_array().then(|| output::words(&key, "allowedIps"));
    Ok(output::facts(&[
        ("id", Some(output::text(&key, "id", ""))),
        ("name", Some(output::text(&key, "name", ""))),
        ("account", Some(output::text(&key, "accountId", ""))),
        ("prefix", Some(output::text(&key, "keyPrefix", ""))),
        ("old values", (!old.is_empty()).then(|| old.join(", "))),
        ("status", Some(output::text(&key, "status", ""))),
        ("scopes", Some(output::words(&key, "scopes"))),
        ("unused scopes", unused),
        ("created", Some(output::moment(&key, "createdAt", ""))),
        ("expires", Some(output::moment(&key, "expiresAt", "never"))),
        ("rate limit", shown_rate(&key["rateLimit"])),
        ("allowed from", networks),
        ("token exchange", exchange),
        ("last used", Some(output::moment(&key, "lastUsedAt", "never"))),
        ("console link", (key["consoleLink"] == true).then(|| "yes".to_owned())),
        ("metadata", metadata.map(|_| key["metadata"].to_string())),
    ])?)
}

/// Prints an answer that holds a full key; `done` is what happened to that key.
pub(super) fn print_full_key(
    body: &[u8],
    done: &'static str,
    quiet: bool,
    output: Output,
) -> Result<(), Error> {
    let key: Value = parse(body)?;
    let outcome = print_key(body, &key, quiet, output);
    secret::printed(outcome, &output::text(&key, "id", ""), done)
}

fn print_key(body: &[u8], key: &Value, quiet: bool, output: Output) -> Result<(), Error> {
    if output.output == Format::Json {
        return Ok(output::raw(body)?);
    }
    let text = output::text(key, "key", "");
    if quiet {
        return Ok(writeln!(io::stdout(), "{text}")?);
    }
    print(body, None, output)?;
    Ok(writeln!(io::stdout(), "\n    {text}\n\nIt is shown only once; keyward keeps its hash.")?)
}
