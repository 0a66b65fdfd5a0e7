//! `keyward keys`: the keys of an account, by the rules of the API.

mod list;
mod revoke;

use std::{
    io::{self, Write},
    process::ExitCode,
    time::Duration,
};

use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use crate::{
    cli::{
        Error,
        accounts::{about_account, account_id},
        appendix::{examples_of, help},
        client::{Client, Target, encoded},
        output::{self, Format, Output},
        secret,
    },
    service::Keyward,
};

#[derive(Debug, Subcommand)]
pub(super) enum KeysCommand {
    /// List keys
    #[command(after_long_help = help(&examples_of("keys list")))]
    List(list::List),
    /// Create a key; it is shown only once
    #[command(after_long_help = help(&examples_of("keys create")))]
    Create(Create),
    /// Show a key
    Show(Show),
    /// Change the given properties of a key
    #[command(after_long_help = help(&examples_of("keys update")))]
    Update(Update),
    /// Give a key a new value; the old value works for a grace period
    #[command(after_long_help = help(&examples_of("keys rotate")))]
    Rotate(Rotate),
    /// Revoke keys at once; this cannot be undone
    #[command(after_long_help = help(&examples_of("keys revoke")))]
    Revoke(revoke::Revoke),
    /// List unused keys
    Unused(list::Unused),
}

#[derive(Args, Debug)]
pub(super) struct Create {
    /// Display name
    #[arg(long)]
    name: String,
    /// A scope of the key; repeatable
    #[arg(long = "scope", value_name = "SCOPE", required = true, value_delimiter = ',')]
    scopes: Vec<String>,
    /// When the key ends: 90d, 2027-01-20, 2027-01-20T12:00:00Z or never
    #[arg(long, value_name = "WHEN", value_parser = output::expiry)]
    expires: Option<Value>,
    /// A JSON object to keep with the key
    #[arg(long, value_name = "JSON", value_parser = output::object)]
    metadata: Option<Value>,
    /// The account: its identifier or your own external identifier
    #[arg(long, value_name = "ACCOUNT")]
    account: Option<String>,
    /// Print only the key
    #[arg(short, long, conflicts_with = "output")]
    quiet: bool,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    target: Target,
}

#[derive(Args, Debug)]
pub(super) struct Show {
    /// The key: its identifier or its prefix
    id: String,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    target: Target,
}

#[derive(Args, Debug)]
pub(super) struct Update {
    /// The key: its identifier or its prefix
    id: String,
    /// Display name
    #[arg(long)]
    name: Option<String>,
    /// A scope of the key; repeatable. Replaces the scopes so far
    #[arg(long = "scope", value_name = "SCOPE", value_delimiter = ',')]
    scopes: Vec<String>,
    /// When the key ends: 90d, 2027-01-20, 2027-01-20T12:00:00Z or never
    #[arg(long, value_name = "WHEN", value_parser = output::expiry)]
    expires: Option<Value>,
    /// Accept the key again
    #[arg(long)]
    enable: bool,
    /// Refuse the key until it is enabled again
    #[arg(long, conflicts_with = "enable")]
    disable: bool,
    /// A JSON object that replaces the one kept with the key
    #[arg(long, value_name = "JSON", value_parser = output::object)]
    metadata: Option<Value>,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    target: Target,
}

#[derive(Args, Debug)]
pub(super) struct Rotate {
    /// The key: its identifier or its prefix
    id: String,
    /// How long the old value works: 0s to 7d. Without it, as the server is configured
    #[arg(long, value_name = "DURATION", value_parser = grace)]
    grace: Option<Duration>,
    /// Make no new value; end the grace periods of the old values now
    #[arg(long, conflicts_with_all = ["grace", "quiet"])]
    complete: bool,
    /// Print only the key
    #[arg(short, long, conflicts_with = "output")]
    quiet: bool,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    target: Target,
}

pub(super) fn run(command: KeysCommand) -> Result<ExitCode, Error> {
    match command {
        KeysCommand::Revoke(it) => return revoke::revoke(&it),
        KeysCommand::List(it) => list::list(&it),
        KeysCommand::Create(it) => create(&it),
        KeysCommand::Show(it) => show(&it),
        KeysCommand::Update(it) => update(&it),
        KeysCommand::Rotate(it) => rotate(&it),
        KeysCommand::Unused(it) => list::unused(&it),
    }?;
    Ok(ExitCode::SUCCESS)
}

fn create(it: &Create) -> Result<(), Error> {
    secret::check_output()?;
    let client = it.target.open()?;
    let account = it.account.as_ref().map(|it| account_id(&client, it)).transpose()?;
    let path = account.map_or("/api-keys".to_owned(), |it| format!("/accounts/{it}/api-keys"));
    let mut body = Map::new();
    body.insert("name".to_owned(), json!(it.name));
    body.insert("scopes".to_owned(), json!(it.scopes));
    given(&mut body, "expiresAt", it.expires.as_ref());
    given(&mut body, "metadata", it.metadata.as_ref());
    let mut made = client.ask("POST", &path, Some(&body.into()));
    if let Some(account) = &it.account {
        made = about_account(made, account);
    }
    let printed = issued(&made?, "created", it.quiet, it.output);
    client.close()?;
    printed
}

fn show(it: &Show) -> Result<(), Error> {
    let client = it.target.open()?;
    let key = ask_about(&client, "GET", &it.id, "", None)?;
    one(&key, it.output)?;
    client.close()
}

fn update(it: &Update) -> Result<(), Error> {
    let mut body = Map::new();
    given(&mut body, "name", it.name.as_ref());
    given(&mut body, "scopes", Some(&it.scopes).filter(|it| !it.is_empty()));
    given(&mut body, "expiresAt", it.expires.as_ref());
    given(&mut body, "enabled", (it.enable || it.disable).then_some(&it.enable));
    given(&mut body, "metadata", it.metadata.as_ref());
    if body.is_empty() {
        return Err(Error::Usage("name something to change; see --help".to_owned()));
    }
    let client = it.target.open()?;
    let key = ask_about(&client, "PATCH", &it.id, "", Some(&body.into()))?;
    one(&key, it.output)?;
    client.close()
}

fn rotate(it: &Rotate) -> Result<(), Error> {
    let client = it.target.open()?;
    if it.complete {
        one(&ask_about(&client, "POST", &it.id, "/rotate/complete", None)?, it.output)?;
        return client.close();
    }
    secret::check_output()?;
    let body = it.grace.map_or(json!({}), |it| json!({ "gracePeriodSeconds": it.as_secs() }));
    let made = ask_about(&client, "POST", &it.id, "/rotate", Some(&body))?;
    let printed = issued(&made, "rotated", it.quiet, it.output);
    client.close()?;
    printed
}

/// Asks the API about one key, or changes it; `what` is what comes after the key in the path.
fn ask_about(
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

fn one(body: &[u8], output: Output) -> Result<(), Error> {
    if output.output == Format::Json {
        return Ok(output::raw(body)?);
    }
    let key: Value = serde_json::from_slice(body).map_err(|err| Error::Control(err.into()))?;
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
fn issued(body: &[u8], done: &'static str, quiet: bool, output: Output) -> Result<(), Error> {
    let key: Value = serde_json::from_slice(body).map_err(|err| Error::Control(err.into()))?;
    let outcome = print_issued(body, &key, quiet, output);
    secret::printed(outcome, &output::text(&key, "id", ""), done)
}

fn print_issued(body: &[u8], key: &Value, quiet: bool, output: Output) -> Result<(), Error> {
    if output.output == Format::Json {
        return Ok(output::raw(body)?);
    }
    let text = output::text(key, "key", "");
    if quiet {
        return Ok(writeln!(io::stdout(), "{text}")?);
    }
    one(body, output)?;
    Ok(writeln!(io::stdout(), "\n    {text}\n\nIt is shown this once; only its hash is kept.")?)
}

fn given<T: serde::Serialize>(body: &mut Map<String, Value>, name: &str, value: Option<&T>) {
    if let Some(value) = value {
        body.insert(name.to_owned(), json!(value));
    }
}

/// A grace period as the API takes it.
fn grace(text: &str) -> Result<Duration, String> {
    let grace = output::whole_seconds(text)?;
    let longest = Keyward::LONGEST_GRACE;
    let bounds = || format!("must be from 0s to {}d", longest.as_secs() / (24 * 60 * 60));
    if grace <= longest { Ok(grace) } else { Err(bounds()) }
}
