//! `keyward accounts show`

use clap::Args;

use super::account::{about_account, account_id, print};
use crate::cli::{api::client::Target, error::Error, output::Output};

#[derive(Args, Debug)]
pub(crate) struct Options {
    /// The account: its identifier or your own external identifier
    account: String,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    target: Target,
}

impl Options {
    pub(super) fn run(&self) -> Result<(), Error> {
        let client = self.target.open()?;
        let id = account_id(&client, &self.account)?;
        let answer = client.ask("GET", &format!("/accounts/{id}"), None);
        print(&about_account(answer, &self.account)?, self.output)?;
        client.close()
    }
}
