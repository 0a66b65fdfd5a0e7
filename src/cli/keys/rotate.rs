//! `keyward keys rotate`

use std::time::Duration;

use clap::Args;
use serde_json::json;

use super::key::OneKey;
use crate::{
    cli::{error::Error, output},
    service::Keyward,
};

#[derive(Args, Debug)]
pub(crate) struct Options {
    /// How long the old credential works: 0s to 7d. Default: the setting of the server
    #[arg(long, value_name = "DURATION", value_parser = grace)]
    grace: Option<Duration>,
    /// End all grace periods of the key now, without a new credential
    #[arg(long, conflicts_with_all = ["grace", "quiet"])]
    complete: bool,
    /// Print only the key
    #[arg(short, long, conflicts_with = "output")]
    quiet: bool,
    #[command(flatten)]
    key: OneKey,
}

impl Options {
    pub(super) fn run(&self) -> Result<(), Error> {
        if self.complete {
            return self.key.print_answer("POST", "/rotate/complete", None);
        }
        let body = self.grace.map_or(json!({}), |it| json!({ "gracePeriodSeconds": it.as_secs() }));
        self.key.rotate(&body, self.quiet)
    }
}

/// Parses a grace period within the bounds of the API.
fn grace(text: &str) -> Result<Duration, String> {
    let grace = output::whole_seconds(text)?;
    let longest = Keyward::LONGEST_GRACE;
    let bounds = || format!("must be from 0s to {}d", longest.as_secs() / (24 * 60 * 60));
    if grace <= longest { Ok(grace) } else { Err(bounds()) }
}
