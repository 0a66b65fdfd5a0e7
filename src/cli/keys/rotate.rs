//! `keyward keys rotate`

use std::time::Duration;

use clap::Args;
use serde_json::json;

use super::key::{ask_about, print, print_issued};
use crate::{
    cli::{
        api::client::Target,
        error::Error,
        output::{self, Output},
        secret,
    },
    service::Keyward,
};

#[derive(Args, Debug)]
pub(crate) struct Options {
    /// The key: its identifier or its prefix
    id: String,
    /// How long the old value works: 0s to 7d. Without it, as the server is configured
    #[arg(long, value_name = "DURATION", value_parser = grace)]
    grace: Option<Duration>,
    /// Make no new value; end the grace periods of the old values now
    #[arg(long, conflicts_with_all = ["grace", "quiet"])]
    complete: bool,
    /// Print only the key
    #[arg(short, long, conflicts_with = "output")]
    quiet: bool,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    target: Target,
}

impl Options {
    pub(super) fn run(&self) -> Result<(), Error> {
        let client = self.target.open()?;
        if self.complete {
            print(&ask_about(&client, "POST", &self.id, "/rotate/complete", None)?, self.output)?;
            return client.close();
        }
        secret::check_output()?;
        let body = self.grace.map_or(json!({}), |it| json!({ "gracePeriodSeconds": it.as_secs() }));
        let made = ask_about(&client, "POST", &self.id, "/rotate", Some(&body))?;
        let printed = print_issued(&made, "rotated", self.quiet, self.output);
        client.close()?;
        printed
    }
}

/// A grace period as the API takes it.
fn grace(text: &str) -> Result<Duration, String> {
    let grace = output::whole_seconds(text)?;
    let longest = Keyward::LONGEST_GRACE;
    let bounds = || format!("must be from 0s to {}d", longest.as_secs() / (24 * 60 * 60));
    if grace <= longest { Ok(grace) } else { Err(bounds()) }
}
