//! `keyward keys list` and `keyward keys unused`.

use std::time::Duration;

use clap::{Args, ValueEnum};
use serde_json::Value;

use crate::cli::{
    Error,
    accounts::{about_account, account_id},
    client::{Client, Target, encoded},
    output::{self, Format, Limit, Output},
};

#[derive(Args, Debug)]
pub(in crate::cli) struct Accounts {
    /// The account: its identifier or your own external identifier. Without it, the account of the
    /// key in use, or the operator's
    #[arg(long, value_name = "ACCOUNT")]
    account: Option<String>,
    /// Include the keys of all accounts
    #[arg(long, conflicts_with = "account")]
    all: bool,
}

#[derive(Args, Debug)]
pub(in crate::cli) struct List {
    #[command(flatten)]
    accounts: Accounts,
    /// Filter by status
    #[arg(long, value_enum)]
    status: Option<Status>,
    /// Filter by scope
    #[arg(long)]
    scope: Option<String>,
    /// Show only keys that expire before this: 30d, 2027-01-20 or 2027-01-20T12:00:00Z
    #[arg(long, value_name = "WHEN", value_parser = when)]
    expiring_before: Option<String>,
    /// Show only keys whose name contains this text, or whose prefix begins with it
    #[arg(long, value_name = "TEXT")]
    query: Option<String>,
    #[command(flatten)]
    limit: Limit,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    target: Target,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(in crate::cli) enum Status {
    Active,
    Expiring,
    Expired,
    Disabled,
}

#[derive(Args, Debug)]
pub(in crate::cli) struct Unused {
    /// The number of days
    #[arg(long, default_value_t = 90, value_parser = clap::value_parser!(u16).range(1..))]
    days: u16,
    #[command(flatten)]
    accounts: Accounts,
    #[command(flatten)]
    limit: Limit,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    target: Target,
}

pub(super) fn list(it: &List) -> Result<(), Error> {
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
    let filter = format!("{}&", filter.extend_pairs(filters).finish());
    let mut keys = keys_of(&client, &it.accounts, &filter, it.limit.and_one_more())?;
    it.limit.cut(&mut keys);
    print(&keys, &it.accounts, it.output)?;
    client.close()
}

pub(super) fn unused(it: &Unused) -> Result<(), Error> {
    let client = it.target.open()?;
    let past = output::ago(Duration::from_hours(24 * u64::from(it.days)));
    let filter = format!("unusedSince={}&", encoded(&past));
    let mut keys = keys_of(&client, &it.accounts, &filter, usize::MAX)?;
    keys.retain(|it| it["status"] != "expired");
    it.limit.cut(&mut keys);
    print(&keys, &it.accounts, it.output)?;
    client.close()
}

/// The first keys of the chosen accounts, at most `most`; `filter` is the rest of the query.
fn keys_of(
    client: &Client,
    accounts: &Accounts,
    filter: &str,
    most: usize,
) -> Result<Vec<Value>, Error> {
    let of =
        |account: &str, most| client.first(&format!("/accounts/{account}/api-keys?{filter}"), most);
    match &accounts.account {
        Some(account) => about_account(of(&account_id(client, account)?, most), account),
        None if accounts.all => {
            let mut keys = Vec::new();
            for account in client.first("/accounts?", usize::MAX)? {
                if keys.len() < most {
                    keys.extend(of(&output::text(&account, "id", "self"), most - keys.len())?);
                }
            }
            Ok(keys)
        }
        None => client.first(&format!("/api-keys?{filter}"), most),
    }
}

fn print(keys: &[Value], accounts: &Accounts, output: Output) -> Result<(), Error> {
    if output.output == Format::Json {
        return Ok(output::list(keys)?);
    }
    let id = |it| {
        let id = output::text(it, "id", "");
        if accounts.all { format!("{}  {id}", output::text(it, "accountId", "")) } else { id }
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
    let first = if accounts.all { "ACCOUNT  ID" } else { "ID" };
    output::table([first, "NAME", "PREFIX", "STATUS", "LAST USED", "EXPIRES", "SCOPES"], &rows)?;
    Ok(())
}

fn when(text: &str) -> Result<String, String> {
    output::instant(text).map(|it| it.to_string())
}
