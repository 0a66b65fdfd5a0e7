//! `keyward keys unused`

use std::time::Duration;

use clap::Args;
use serde_json::Value;

use super::selection::{ScopeColumn, Selection};
use crate::cli::{api::client::encoded, error::Error, output};

#[derive(Args, Debug)]
pub(crate) struct Options {
    /// List keys that were not used for this many days
    #[arg(long, default_value_t = 90, value_parser = clap::value_parser!(u16).range(1..))]
    days: u16,
    /// List keys with scopes that they did not use in the last 30 days, in place of unused keys
    #[arg(long, conflicts_with = "days")]
    scopes: bool,
    #[command(flatten)]
    selection: Selection,
}

impl Options {
    pub(super) fn run(&self) -> Result<(), Error> {
        let is_live = |key: &Value| key["status"] != "expired";
        if self.scopes {
            return self.selection.print_some("unusedScopes=true&", is_live, ScopeColumn::UNUSED);
        }
        let past = output::ago(Duration::from_hours(24 * u64::from(self.days)));
        let filter = format!("unusedSince={}&", encoded(&past));
        self.selection.print_some(&filter, is_live, ScopeColumn::ALL)
    }
}
