//! Lists of keys: the options of every list, and its output.

use clap::Args;
use serde_json::Value;

use crate::cli::{
    accounts::account::{about_account, account_id},
    api::client::{Client, Target},
    error::Error,
    output::{self, Format, Limit, Output},
};

/// The options of every list of keys.
#[derive(Args, Debug)]
pub(super) struct Selection {
    /// The account: its identifier, your own external identifier, or `all`. Default: the account of the
    /// key in use, or the operator account
    #[arg(long, value_name = "ACCOUNT")]
    account: Option<String>,
    /// Include the keys of all accounts, as `--account all` does
    #[arg(long, conflicts_with = "account")]
    all: bool,
    #[command(flatten)]
    limit: Limit,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    target: Target,
}

/// The column of a list that shows scopes.
#[derive(Clone, Copy)]
pub(super) struct ScopeColumn {
    heading: &'static str,
    member: &'static str,
}

impl ScopeColumn {
    pub const ALL: Self = Self { heading: "SCOPES", member: "scopes" };
    pub const UNUSED: Self = Self { heading: "UNUSED SCOPES", member: "unusedScopes" };
}

impl Selection {
    /// Prints the keys that match the query `filter`.
    pub(super) fn print_all(&self, filter: &str) -> Result<(), Error> {
        let client = self.target.open()?;
        let keys = self.find(&client, filter, self.limit.and_one_more())?;
        self.print(keys, ScopeColumn::ALL)?;
        client.close()
    }

    /// Prints the keys that match the query `filter` and that `keep` accepts.
    pub(super) fn print_some(
        &self,
        filter: &str,
        keep: impl Fn(&Value) -> bool,
        scopes: ScopeColumn,
    ) -> Result<(), Error> {
        let client = self.target.open()?;
        let mut keys = self.find(&client, filter, usize::MAX)?;
        keys.retain(keep);
        self.print(keys, scopes)?;
        client.close()
    }

    /// Returns the first keys of the chosen accounts, at most `most`.
    fn find(&self, client: &Client, filter: &str, most: usize) -> Result<Vec<Value>, Error> {
        let Some(account) = self.account.as_deref().filter(|_| !self.is_of_all()) else {
            let all = if self.is_of_all() { "account=all&" } else { "" };
            return client.first(&format!("/api-keys?{all}{filter}"), most);
        };
        let id = account_id(client, account)?;
        about_account(client.first(&format!("/accounts/{id}/api-keys?{filter}"), most), account)
    }

    fn is_of_all(&self) -> bool {
        self.all || self.account.as_deref() == Some("all")
    }

    fn print(&self, mut keys: Vec<Value>, scopes: ScopeColumn) -> Result<(), Error> {
        self.limit.cut(&mut keys);
        if self.output.output == Format::Json {
            return Ok(output::list(&keys)?);
        }
        let rows = keys.iter().map(|it| {
            let id = output::text(it, "id", "");
            let account = output::text(it, "accountId", "");
            [
                if self.is_of_all() { format!("{account}  {id}") } else { id },
                output::text(it, "name", ""),
                output::text(it, "keyPrefix", ""),
                output::text(it, "status", ""),
                output::moment(it, "lastUsedAt", "never"),
                output::moment(it, "expiresAt", "never"),
                output::words(it, scopes.member),
            ]
        });
        let first = if self.is_of_all() { "ACCOUNT  ID" } else { "ID" };
        let headings = [first, "NAME", "PREFIX", "STATUS", "LAST USED", "EXPIRES", scopes.heading];
        Ok(output::table(headings, &rows.collect::<Vec<_>>())?)
    }
}
