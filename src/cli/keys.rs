//! `keyward keys`: the keys of an account, by the rules of the API.

mod revoke;

use std::{
    io::{self, Write},
    process::ExitCode,
    time::Duration,
};

use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Map, Value, json};

use crate::cli::{
    Error,
    accounts::account_id,
    client::{Client, Target, encoded},
    output::{self, Format, Output},
};

#[derive(Debug, Subcommand)]
pub(super) enum KeysCommand {
    /// List keys
    List(List),
    /// Make a key; it is shown this once
    Create(Create),
    /// Show a key
    Show(Show),
    /// Change a key; what is not named stays as it is
    Update(Update),
    /// Give a key a new value; the old one stays good for a while
    Rotate(Rotate),
    /// Revoke keys, at once and for ever
    Revoke(revoke::Revoke),
    /// List the keys that nobody has used for so long
    Unused(Unused),
}

#[derive(Args, Debug)]
pub(super) struct Whose {
    /// The account, by its identifier or by your own for it; without it, that of the operator or of
    /// the key in use
    #[arg(long, value_name = "ACCOUNT")]
    account: Option<String>,
    /// The keys of all accounts
    #[arg(long, conflicts_with = "account")]
    all: bool,
}

#[derive(Args, Debug)]
pub(super) struct List {
    #[command(flatten)]
    whose: Whose,
    /// Only keys that stand so
    #[arg(long, value_enum)]
    status: Option<Status>,
    /// Only keys with this scope
    #[arg(long)]
    scope: Option<String>,
    /// Only keys that expire before this: 30d, 2027-01-20 or 2027-01-20T12:00:00Z
    #[arg(long, value_name = "WHEN", value_parser = when)]
    expiring_before: Option<String>,
    /// Only keys with this in their name, or with a prefix that begins so
    #[arg(long, value_name = "TEXT")]
    query: Option<String>,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    target: Target,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Status {
    Active,
    Expiring,
    Expired,
    Disabled,
}

#[derive(Args, Debug)]
pub(super) struct Create {
    /// Display name
    #[arg(long)]
    name: String,
    /// A scope that the key grants; can be given several times
    #[arg(long = "scope", value_name = "SCOPE", required = true, value_delimiter = ',')]
    scopes: Vec<String>,
    /// When it ends: 90d, 2027-01-20, 2027-01-20T12:00:00Z or never
    #[arg(long, value_name = "WHEN", value_parser = output::expiry)]
    expires: Option<Value>,
    /// A JSON object to be kept with the key
    #[arg(long, value_name = "JSON", value_parser = output::object)]
    metadata: Option<Value>,
    /// The account, by its identifier or by your own for it
    #[arg(long, value_name = "ACCOUNT")]
    account: Option<String>,
    /// Print the key and nothing else
    #[arg(short, long, conflicts_with = "output")]
    quiet: bool,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    target: Target,
}

#[derive(Args, Debug)]
pub(super) struct Show {
    /// The key's identifier
    id: String,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    target: Target,
}

#[derive(Args, Debug)]
pub(super) struct Update {
    /// The key's identifier
    id: String,
    /// Display name
    #[arg(long)]
    name: Option<String>,
    /// A scope that the key is to grant, in place of those it has; can be given several times
    #[arg(long = "scope", value_name = "SCOPE", value_delimiter = ',')]
    scopes: Vec<String>,
    /// When it ends: 90d, 2027-01-20, 2027-01-20T12:00:00Z or never
    #[arg(long, value_name = "WHEN", value_parser = output::expiry)]
    expires: Option<Value>,
    /// Accept it again
    #[arg(long)]
    enable: bool,
    /// Refuse it until it is enabled again
    #[arg(long, conflicts_with = "enable")]
    disable: bool,
    /// A JSON object in place of the one that is kept with the key
    #[arg(long, value_name = "JSON", value_parser = output::object)]
    metadata: Option<Value>,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    target: Target,
}

#[derive(Args, Debug)]
pub(super) struct Rotate {
    /// The key's identifier
    id: String,
    /// How long the old value stays good: 0s to 7d; without it, what the server is set to
    #[arg(long, value_name = "DURATION", value_parser = output::whole_seconds)]
    grace: Option<Duration>,
    /// Make no new value, but end the grace of the old ones now
    #[arg(long, conflicts_with_all = ["grace", "quiet"])]
    complete: bool,
    /// Print the key and nothing else
    #[arg(short, long, conflicts_with = "output")]
    quiet: bool,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    target: Target,
}

#[derive(Args, Debug)]
pub(super) struct Unused {
    /// For how many days
    #[arg(long, default_value_t = 90, value_parser = clap::value_parser!(u16).range(1..))]
    days: u16,
    #[command(flatten)]
    whose: Whose,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    target: Target,
}

pub(super) fn run(command: KeysCommand) -> Result<ExitCode, Error> {
    match command {
        KeysCommand::Revoke(it) => return revoke::revoke(&it),
        KeysCommand::List(it) => list(&it),
        KeysCommand::Create(it) => create(&it),
        KeysCommand::Show(it) => show(&it),
        KeysCommand::Update(it) => update(&it),
        KeysCommand::Rotate(it) => rotate(&it),
        KeysCommand::Unused(it) => unused(&it),
    }?;
    Ok(ExitCode::SUCCESS)
}

fn list(it: &List) -> Result<(), Error> {
    let client = it.target.open()?;
    let status = it.status.and_then(|it| Some(it.to_possible_value()?.get_name().to_owned()));
    let filters = [
        ("status", status.as_ref()),
        ("scope", it.scope.as_ref()),
        ("expiringBefore", it.expiring_before.as_ref()),
        ("q", it.query.as_ref()),
    ];
    let filters = filters.into_iter().filter_map(|(name, value)| Some((name, value?)));
    let mut filter = form_urlencoded::Serializer::new(String::new());
    let filter = format!("&{}", filter.extend_pairs(filters).finish());
    let keys = keys_of(&client, &it.whose, &filter)?;
    print(&keys, &it.whose, it.output)?;
    client.close()
}

fn unused(it: &Unused) -> Result<(), Error> {
    let client = it.target.open()?;
    let past = output::ago(Duration::from_hours(24 * u64::from(it.days)));
    let filter = format!("&unusedSince={}", encoded(&past));
    let mut keys = keys_of(&client, &it.whose, &filter)?;
    keys.retain(|it| it["status"] != "expired");
    print(&keys, &it.whose, it.output)?;
    client.close()
}

fn create(it: &Create) -> Result<(), Error> {
    let client = it.target.open()?;
    let account = it.account.as_ref().map(|it| account_id(&client, it)).transpose()?;
    let path = account.map_or("/api-keys".to_owned(), |it| format!("/accounts/{it}/api-keys"));
    let mut body = Map::new();
    body.insert("name".to_owned(), json!(it.name));
    body.insert("scopes".to_owned(), json!(it.scopes));
    given(&mut body, "expiresAt", it.expires.as_ref());
    given(&mut body, "metadata", it.metadata.as_ref());
    let made = client.ask("POST", &path, Some(&body.into()))?;
    issued(&made, it.quiet, it.output)?;
    client.close()
}

fn show(it: &Show) -> Result<(), Error> {
    let client = it.target.open()?;
    let key = client.ask("GET", &format!("/api-keys/{}", encoded(&it.id)), None)?;
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
    let path = format!("/api-keys/{}", encoded(&it.id));
    let key = client.ask("PATCH", &path, Some(&body.into()))?;
    one(&key, it.output)?;
    client.close()
}

fn rotate(it: &Rotate) -> Result<(), Error> {
    let client = it.target.open()?;
    let path = format!("/api-keys/{}/rotate", encoded(&it.id));
    if it.complete {
        one(&client.ask("POST", &format!("{path}/complete"), None)?, it.output)?;
        return client.close();
    }
    let body = it.grace.map_or(json!({}), |it| json!({ "gracePeriodSeconds": it.as_secs() }));
    let made = client.ask("POST", &path, Some(&body))?;
    issued(&made, it.quiet, it.output)?;
    client.close()
}

/// The keys of whom they were asked for; `filter` is the rest of the query.
fn keys_of(client: &Client, whose: &Whose, filter: &str) -> Result<Vec<Value>, Error> {
    let of =
        |account: &str| client.list(&format!("/accounts/{account}/api-keys?limit=1000{filter}"));
    match &whose.account {
        Some(account) => of(&account_id(client, account)?),
        None if whose.all => {
            let accounts = client.list("/accounts?limit=1000")?;
            let mut keys = Vec::new();
            for account in &accounts {
                keys.extend(of(&output::text(account, "id", "self"))?);
            }
            Ok(keys)
        }
        None => client.list(&format!("/api-keys?limit=1000{filter}")),
    }
}

fn print(keys: &[Value], whose: &Whose, output: Output) -> Result<(), Error> {
    if output.output == Format::Json {
        return Ok(output::list(keys)?);
    }
    let id = |it| {
        let id = output::text(it, "id", "");
        if whose.all { format!("{}  {id}", output::text(it, "accountId", "")) } else { id }
    };
    let rows: Vec<_> = keys
        .iter()
        .map(|it| {
            [
                id(it),
                output::text(it, "name", ""),
                output::text(it, "keyPrefix", ""),
                output::text(it, "status", ""),
                output::moment(it, "lastUsedAt", "never"),
                output::moment(it, "expiresAt", "never"),
                output::words(it, "scopes"),
            ]
        })
        .collect();
    let first = if whose.all { "ACCOUNT  ID" } else { "ID" };
    output::table([first, "NAME", "PREFIX", "STATUS", "LAST USED", "EXPIRES", "SCOPES"], &rows)?;
    Ok(())
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

/// Prints an answer that holds a full key.
fn issued(body: &[u8], quiet: bool, output: Output) -> Result<(), Error> {
    if output.output == Format::Json {
        return Ok(output::raw(body)?);
    }
    let key: Value = serde_json::from_slice(body).map_err(|err| Error::Control(err.into()))?;
    let text = output::text(&key, "key", "");
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

fn when(text: &str) -> Result<String, String> {
    output::instant(text).map(|it| it.to_string())
}
