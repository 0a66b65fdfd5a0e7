//! `keyward accounts suspend` and `keyward accounts delete`: both stop all keys of an account.

use std::io::{self, Write};

use clap::Args;
use serde_json::{Value, json};

use super::account::{OneAccount, about_account, account_id};
use crate::{
    cli::{
        api::client::Client,
        error::Error,
        output::{self, Confirmation},
        request::Reason,
    },
    service::Conflict,
};

#[derive(Args, Debug)]
pub(crate) struct Options {
    #[command(flatten)]
    account: OneAccount,
    #[command(flatten)]
    confirmation: Confirmation,
}

/// The options of `keyward accounts delete`.
#[derive(Args, Debug)]
pub(crate) struct Deletion {
    #[command(flatten)]
    reason: Reason,
    #[command(flatten)]
    options: Options,
}

impl Deletion {
    pub(super) fn run(&self) -> Result<(), Error> {
        let query = self.reason.query();
        self.options.run("Delete", "is deleted", |client, path| {
            client.ask("DELETE", &format!("{path}{query}"), None).map(drop)
        })
    }
}

impl Options {
    pub(super) fn suspend(&self) -> Result<(), Error> {
        self.run("Suspend", "is suspended", |client, path| {
            client.ask("PATCH", path, Some(&json!({ "status": "suspended" }))).map(drop)
        })
    }

    fn run(
        &self,
        verb: &str,
        outcome: &str,
        stop: impl Fn(&Client, &str) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let OneAccount { account: named, target } = &self.account;
        let client = target.open()?;
        let id = account_id(&client, named)?;
        let path = format!("/accounts/{id}");
        let account: Value = about_account(client.ask_for("GET", &path, None), named)?;
        // No other account can stop an account, so the account of this key is the operator's.
        let own: Value = client.ask_for("GET", "/accounts/self", None)?;
        if own["id"] == account["id"] {
            return Err(Error::Refused(Conflict::OperatorAccount.to_string()));
        }
        let name = output::text(&account, "name", "");
        self.confirmation.ask(&format!("{verb} {id}, \"{name}\", and stop all its keys?"))?;
        stop(&client, &path)?;
        writeln!(io::stdout(), "{id} {outcome}")?;
        client.close()
    }
}
