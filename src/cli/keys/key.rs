//! One key: asked for and printed.

use std::io::{self, Write};

use serde_json::Value;
use zeroize::Zeroizing;

use crate::cli::{
    api::{
        answer::parse,
        client::{Client, encoded},
    },
    error::Error,
    output::{self, Format, Output},
    secret,
};

/// Asks the API about one key, or changes it; `what` is what comes after the key in the path.
pub(super) fn ask_about(
    client: &Client,
    method: &str,
    key: &str,
    what: &str,
    body: Option<&Value>,
) -> Result<Zeroizing<Vec<u8>>, Error> {
    let answer = client.ask(method, &format!("/api-keys/{}{what}", encoded(key)), body);
    let absent = format!("there is no key {key}; `keyward keys list` shows identifiers");
    answer.map_err(|err| if let Error::Absent(_) = err { Error::Absent(absent) } else { err })
}

pub(super) fn print(body: &[u8], output: Output) -> Result<(), Error> {
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
    Ok(output::facts(&[
        ("id", Some(output::text(&key, "id", ""))),
        ("name", Some(output::text(&key, "name", ""))),
        ("account", Some(output::text(&key, "accountId", ""))),
        ("prefix", Some(output::text(&key, "keyPrefix", ""))),
        ("old values", (!old.is_empty()).then(|| old.join(", "))),
        ("status", Some(output::text(&key, "status", ""))),
        ("scopes", Some(output::words(&key, "scopes"))),
        ("created", Some(output::moment(&key, "createdAt", ""))),
        ("expires", Some(output::moment(&key, "expiresAt", "never"))),
        ("last used", Some(output::moment(&key, "lastUsedAt", "never"))),
        ("metadata", metadata.map(|_| key["metadata"].to_string())),
    ])?)
}

/// Prints an answer that holds a full key; `done` is what happened to that key.
pub(super) fn print_issued(
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
    print(body, output)?;
    Ok(writeln!(io::stdout(), "\n    {text}\n\nIt is shown this once; only its hash is kept.")?)
}
