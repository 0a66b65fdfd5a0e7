//! `keyward keys revoke`: revokes several keys, and goes on after a failure.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use clap::Args;
use serde_json::Value;

use super::key::ask_about;
use crate::cli::{
    api::{
        answer::parse,
        client::{Client, Target},
    },
    error::Error,
    output::{self, Confirmation},
    request::Reason,
};

#[derive(Args, Debug)]
pub(crate) struct Options {
    /// The keys: identifiers or prefixes
    #[arg(required = true, value_name = "ID")]
    ids: Vec<String>,
    #[command(flatten)]
    reason: Reason,
    #[command(flatten)]
    confirmation: Confirmation,
    #[command(flatten)]
    target: Target,
}

impl Options {
    /// Returns the exit code of the first failure.
    pub(super) fn run(&self) -> Result<ExitCode, Error> {
        let client = self.target.open()?;
        let mut first = None;
        for id in &self.ids {
            match self.revoke_one(&client, id) {
                Ok(()) => (),
                Err(err) if is_about_the_key(&err) => {
                    // There is no further place to report to.
                    let _ = writeln!(io::stderr(), "keyward: {id}: {}", err.with_causes());
                    first.get_or_insert(err.exit_code());
                }
                Err(err) => return Err(err),
            }
        }
        client.close()?;
        Ok(first.map_or(ExitCode::SUCCESS, ExitCode::from))
    }

    fn revoke_one(&self, client: &Client, id: &str) -> Result<(), Error> {
        let key: Value = parse(&ask_about(client, id, "GET", "", None)?)?;
        let name = output::text(&key, "name", "");
        let used = output::moment(&key, "lastUsedAt", "never");
        self.confirmation.ask(&format!("Revoke {id}, \"{name}\", last used: {used}?"))?;
        ask_about(client, id, "DELETE", &self.reason.query(), None)?;
        Ok(writeln!(io::stdout(), "{id} is revoked")?)
    }
}

/// Tells whether the error is about this key only.
fn is_about_the_key(err: &Error) -> bool {
    matches!(
        err,
        Error::Refused(_)
            | Error::Absent(_)
            | Error::Denied(_)
            | Error::Busy(_)
            | Error::NotConfirmed
    )
}
