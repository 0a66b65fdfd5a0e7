//! `keyward accounts`: the operator's customers.

use std::io::{self, Write};

use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use crate::{
    cli::{
        Error,
        appendix::{examples_of, help},
        client::{Client, Target, encoded},
        output::{self, Confirmation, Format, Limit, Output},
        secret,
    },
    service::Conflict,
};

#[derive(Debug, Subcommand)]
pub(super) enum AccountsCommand {
    /// List accounts
    List {
        /// Show only accounts whose name or external identifier contains this text
        #[arg(long, value_name = "TEXT")]
        query: Option<String>,
        #[command(flatten)]
        limit: Limit,
        #[command(flatten)]
        output: Output,
        #[command(flatten)]
        target: Target,
    },
    /// Create an account and its first key; the key is shown only once
    #[command(after_long_help = help(&examples_of("accounts create")))]
    Create(Create),
    /// Show an account
    Show {
        /// The account: its identifier or your own external identifier
        account: String,
        #[command(flatten)]
        output: Output,
        #[command(flatten)]
        target: Target,
    },
    /// Change the given properties of an account
    Update(Update),
    /// Refuse all keys of an account until it is resumed
    Suspend(Stop),
    /// Accept the keys of a suspended account again
    Resume {
        /// The account: its identifier or your own external identifier
        account: String,
        #[command(flatten)]
        target: Target,
    },
    /// Delete an account and revoke all its keys; this cannot be undone
    Delete(Stop),
}

#[derive(Args, Debug)]
pub(super) struct Create {
    /// Display name
    #[arg(long)]
    name: String,
    /// Your own identifier of this customer
    #[arg(long, value_name = "ID")]
    external_id: Option<String>,
    /// A scope that keys of this account may hold; repeatable. Without it, all scopes
    #[arg(long = "allow", value_name = "SCOPE", value_delimiter = ',')]
    allowed: Vec<String>,
    /// The largest number of keys
    #[arg(long, value_name = "N")]
    max_keys: Option<u32>,
    /// A JSON object to keep with the account
    #[arg(long, value_name = "JSON", value_parser = output::object)]
    metadata: Option<Value>,
    /// Print only the account's first key
    #[arg(short, long, conflicts_with = "output")]
    quiet: bool,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    target: Target,
}

#[derive(Args, Debug)]
pub(super) struct Update {
    /// The account: its identifier or your own external identifier
    account: String,
    /// Display name
    #[arg(long)]
    name: Option<String>,
    /// Your own identifier of this customer
    #[arg(long, value_name = "ID")]
    external_id: Option<String>,
    /// A scope that keys of this account may hold; repeatable. Replaces the scopes so far
    #[arg(long = "allow", value_name = "SCOPE", value_delimiter = ',')]
    allowed: Vec<String>,
    /// Allow every scope of the catalogue
    #[arg(long, conflicts_with = "allowed")]
    allow_all: bool,
    /// The largest number of keys
    #[arg(long, value_name = "N")]
    max_keys: Option<u32>,
    /// A JSON object that replaces the one kept with the account
    #[arg(long, value_name = "JSON", value_parser = output::object)]
    metadata: Option<Value>,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    target: Target,
}

#[derive(Args, Debug)]
pub(super) struct Stop {
    /// The account: its identifier or your own external identifier
    account: String,
    #[command(flatten)]
    confirmation: Confirmation,
    #[command(flatten)]
    target: Target,
}

pub(super) fn run(command: AccountsCommand) -> Result<(), Error> {
    match command {
        AccountsCommand::List { query, limit, output, target } => {
            list(query.as_deref(), limit, output, &target)
        }
        AccountsCommand::Create(it) => create(&it),
        AccountsCommand::Show { account, output, target } => show(&account, output, &target),
        AccountsCommand::Update(it) => update(&it),
        AccountsCommand::Suspend(it) => stop(&it, "Suspend", "is suspended", suspend),
        AccountsCommand::Delete(it) => stop(&it, "Delete", "is deleted", delete),
        AccountsCommand::Resume { account, target } => {
            let client = target.open()?;
            let id = account_id(&client, &account)?;
            let body = json!({ "status": "active" });
            let answer = client.ask("PATCH", &format!("/accounts/{id}"), Some(&body));
            about_account(answer, &account)?;
            writeln!(io::stdout(), "{id} is active")?;
            client.close()
        }
    }
}

/// The account's identifier: `text` itself, or the account that the operator calls so.
pub(super) fn account_id(client: &Client, text: &str) -> Result<String, Error> {
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
pub(super) fn about_account<T>(outcome: Result<T, Error>, text: &str) -> Result<T, Error> {
    outcome.map_err(|err| if let Error::Absent(_) = err { no_account(text) } else { err })
}

fn list(query: Option<&str>, limit: Limit, output: Output, target: &Target) -> Result<(), Error> {
    let client = target.open()?;
    let filter = query.map_or_else(String::new, |it| format!("q={}&", encoded(it)));
    let mut accounts = client.first(&format!("/accounts?{filter}"), limit.and_one_more())?;
    limit.cut(&mut accounts);
    if output.output == Format::Json {
        output::list(&accounts)?;
        return client.close();
    }
    let rows = accounts.iter().map(|it| {
        [
            output::text(it, "id", ""),
            output::text(it, "name", ""),
            output::text(it, "externalId", "-"),
            output::text(it, "status", ""),
            output::moment(it, "createdAt", ""),
        ]
    });
    let headings = ["ID", "NAME", "EXTERNAL ID", "STATUS", "CREATED"];
    output::table(headings, &rows.collect::<Vec<_>>())?;
    client.close()
}

fn create(it: &Create) -> Result<(), Error> {
    let mut body = Map::new();
    body.insert("name".to_owned(), json!(it.name));
    let settings = Given {
        name: None,
        external_id: it.external_id.as_ref(),
        allowed: &it.allowed,
        allow_all: false,
        max_keys: it.max_keys,
        metadata: it.metadata.as_ref(),
    };
    settings.put_into(&mut body);
    secret::check_output()?;
    let client = it.target.open()?;
    let made = client.ask("POST", "/accounts", Some(&body.into()))?;
    let account: Value = serde_json::from_slice(&made).map_err(|err| Error::Control(err.into()))?;
    let outcome = print_created(it, &made, &account);
    client.close()?;
    secret::printed(outcome, &output::text(&account["apiKey"], "id", ""), "created")
}

fn print_created(it: &Create, made: &[u8], account: &Value) -> Result<(), Error> {
    if it.output.output == Format::Json {
        return Ok(output::raw(made)?);
    }
    let key = output::text(&account["apiKey"], "key", "");
    let mut out = io::stdout();
    if it.quiet {
        return Ok(writeln!(out, "{key}")?);
    }
    facts(account)?;
    writeln!(out, "\nIts first key, which manages its keys:\n\n    {key}\n")?;
    Ok(writeln!(out, "It is shown this once; only its hash is kept.")?)
}

fn show(account: &str, output: Output, target: &Target) -> Result<(), Error> {
    let client = target.open()?;
    let id = account_id(&client, account)?;
    let answer = client.ask("GET", &format!("/accounts/{id}"), None);
    one(&about_account(answer, account)?, output)?;
    client.close()
}

fn update(it: &Update) -> Result<(), Error> {
    let mut body = Map::new();
    let settings = Given {
        name: it.name.as_ref(),
        external_id: it.external_id.as_ref(),
        allowed: &it.allowed,
        allow_all: it.allow_all,
        max_keys: it.max_keys,
        metadata: it.metadata.as_ref(),
    };
    settings.put_into(&mut body);
    if body.is_empty() {
        return Err(Error::Usage("name something to change; see --help".to_owned()));
    }
    let client = it.target.open()?;
    let id = account_id(&client, &it.account)?;
    let answer = client.ask("PATCH", &format!("/accounts/{id}"), Some(&body.into()));
    one(&about_account(answer, &it.account)?, it.output)?;
    client.close()
}

fn stop(
    it: &Stop,
    verb: &str,
    outcome: &str,
    carry_out: fn(&Client, &str) -> Result<(), Error>,
) -> Result<(), Error> {
    let client = it.target.open()?;
    let id = account_id(&client, &it.account)?;
    let account = client.ask_for("GET", &format!("/accounts/{id}"), None);
    let account: Value = about_account(account, &it.account)?;
    // No other account can stop an account, so only the operator's own is this one.
    let own: Value = client.ask_for("GET", "/accounts/self", None)?;
    if own["id"] == account["id"] {
        return Err(Error::Refused(Conflict::OperatorAccount.to_string()));
    }
    let name = output::text(&account, "name", "");
    it.confirmation.ask(&format!("{verb} {id}, \"{name}\", and stop all its keys?"))?;
    carry_out(&client, &id)?;
    writeln!(io::stdout(), "{id} {outcome}")?;
    client.close()
}

fn suspend(client: &Client, id: &str) -> Result<(), Error> {
    let body = json!({ "status": "suspended" });
    client.ask("PATCH", &format!("/accounts/{id}"), Some(&body)).map(drop)
}

fn delete(client: &Client, id: &str) -> Result<(), Error> {
    client.ask("DELETE", &format!("/accounts/{id}"), None).map(drop)
}

/// What of an account was named on the command line.
struct Given<'a> {
    name: Option<&'a String>,
    external_id: Option<&'a String>,
    allowed: &'a [String],
    allow_all: bool,
    max_keys: Option<u32>,
    metadata: Option<&'a Value>,
}

impl Given<'_> {
    fn put_into(&self, body: &mut Map<String, Value>) {
        let allowed = (!self.allowed.is_empty()).then(|| json!(self.allowed));
        let members = [
            ("name", self.name.map(|it| json!(it))),
            ("externalId", self.external_id.map(|it| json!(it))),
            ("allowedScopes", if self.allow_all { Some(Value::Null) } else { allowed }),
            ("maxKeys", self.max_keys.map(|it| json!(it))),
            ("metadata", self.metadata.cloned()),
        ];
        let given = members.into_iter().filter_map(|(name, it)| Some((name.to_owned(), it?)));
        body.extend(given);
    }
}

fn one(body: &[u8], output: Output) -> Result<(), Error> {
    if output.output == Format::Json {
        return Ok(output::raw(body)?);
    }
    let account = serde_json::from_slice(body).map_err(|err| Error::Control(err.into()))?;
    Ok(facts(&account)?)
}

fn facts(account: &Value) -> Result<(), io::Error> {
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
