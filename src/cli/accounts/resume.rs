//! `keyward accounts resume`

use std::io::{self, Write};

use clap::Args;
use serde_json::json;

use super::account::{about_account, account_id};
use crate::cli::{api::client::Target, error::Error};

#[derive(Args, Debug)]
pub(crate) struct Options {
    /// The account: its identifier or your own external identifier
    account: String,
    #[command(flatten)]
    target: Target,
}

impl Options {
    pub(super) fn run(&self) -> Result<(), Error> {
        let client = self.target.open()?;
        let id = account_id(&client, &self.account)?;
        let body = json!({ "status": "active" });
        let answer = client.ask("PATCH", &format!("/accounts/{id}"), Some(&body));
        about_account(answer, &self.account)?;
        writeln!(io::stdout(), "{id} is active")?;
        client.close()
    }
}
