//! `keyward keys show`

use clap::Args;

use super::key::{ask_about, print};
use crate::cli::{api::client::Target, error::Error, output::Output};

#[derive(Args, Debug)]
pub(crate) struct Options {
    /// The key: its identifier or its prefix
    id: String,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    target: Target,
}

impl Options {
    pub(super) fn run(&self) -> Result<(), Error> {
        let client = self.target.open()?;
        let key = ask_about(&client, "GET", &self.id, "", None)?;
        print(&key, self.output)?;
        client.close()
    }
}
