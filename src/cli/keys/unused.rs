//! `keyward keys unused`

use std::time::Duration;

use clap::Args;

use super::selection::Selection;
use crate::cli::{api::client::encoded, error::Error, output};

#[derive(Args, Debug)]
pub(crate) struct Options {
    /// List keys that were not used for this many days
    #[arg(long, default_value_t = 90, value_parser = clap::value_parser!(u16).range(1..))]
    days: u16,
    #[command(flatten)]
    selection: Selection,
}

impl Options {
    pub(super) fn run(&self) -> Result<(), Error> {
        let past = output::ago(Duration::from_hours(24 * u64::from(self.days)));
        let filter = format!("unusedSince={}&", encoded(&past));
        self.selection.print_some(&filter, |key| key["status"] != "expired")
    }
}
