//! One account: found and printed.

use std::io;

use serde_json::Value;

use crate::cli::{
    api::{
        answer::parse,
        client::{Client, encoded},
    },
    error::Error,
    output::{self, Format, Output},
};

/// The account's identifier: `text` itself, or the account that the operator calls so.
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

/// Names the account in the error if the API does not know it. `text` is as it was typed.
pub(crate) fn about_account<T>(outcome: Result<T, Error>, text: &str) -> Result<T, Error> {
    outcome.map_err(|err| if let Error::Absent(_) = err { no_account(text) } else { err })
}

pub(super) fn print(body: &[u8], output: Output) -> Result<(), Error> {
    if output.output == Format::Json {
        return Ok(output::raw(body)?);
    }
    Ok(print_facts(&parse(body)?)?)
}

pub(super) fn print_facts(account: &Value) -> Result<(), io::Error> {
    let metadata = account["metadata"].as_object().filter(|it| !it.is_empty());
    let allowed = if account["allowedScopes"].is_null() {
        "the whole catalogue".to_owned()
    } else {
        output::words(account, "allowedScopes")
    };
    output::facts(&[
        ("id", Some(output::text(account, "id", ""))),
        ("name", Some(output::text(account, "name", ""))),
        ("external id", account["externalId"].as_str().map(str::to_owned)),
        ("status", Some(output::text(account, "status", ""))),
        ("allowed scopes", Some(allowed)),
        ("most keys", account["maxKeys"].as_u64().map(|it| it.to_string())),
        ("created", Some(output::moment(account, "createdAt", ""))),
        ("metadata", metadata.map(|_| account["metadata"].to_string())),
    ])
}
