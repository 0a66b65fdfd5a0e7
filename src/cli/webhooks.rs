//! `keyward webhooks`: the state of webhooks on this machine.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::{
    cli::{
        api::machine::control,
        error::Error,
        output::{self, Format, Output},
        settings::{self, Location},
    },
    http::control::webhooks::WebhookList,
};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List the webhooks with their positions in the audit log
    List(List),
    /// Enable a webhook whose receiver answered 410, or try again at once
    Enable(Enable),
}

#[derive(Args, Debug)]
pub(super) struct List {
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    place: Location,
}

#[derive(Args, Debug)]
pub(super) struct Enable {
    /// The name of the webhook in the configuration
    name: String,
    #[command(flatten)]
    list: List,
}

impl Command {
    pub(super) fn run(&self) -> Result<(), Error> {
        match self {
            Self::List(it) => it.show("/webhooks/list", None),
            Self::Enable(it) => {
                // Only names of this form exist, and any other text is no part of a path.
                let fits = |c: char| c.is_ascii_alphanumeric() || c == '-';
                if it.name.is_empty() || !it.name.chars().all(fits) {
                    return Err(Error::Usage(format!("`{}` is no name of a webhook", it.name)));
                }
                it.list.show(&format!("/webhooks/{}/enable", it.name), Some(&it.name))
            }
        }
    }
}

impl List {
    /// Asks the server, and prints the webhook `only`, or all of them.
    fn show(&self, path: &str, only: Option<&str>) -> Result<(), Error> {
        let config = settings::load_here(&self.place)?;
        let mut found: WebhookList = control(&config, path, &())?;
        found.data.retain(|it| only.is_none_or(|only| it.name == only));
        if self.output.output == Format::Json {
            return Ok(output::json(&json!(found))?);
        }
        let all: Vec<Value> = found.data.iter().map(|it| json!(it)).collect();
        let rows = all.iter().map(|it| {
            [
                output::text(it, "name", ""),
                output::text(it, "status", ""),
                it["seq"].to_string(),
                it["lag"].to_string(),
                output::moment(it, "nextAttemptAt", "-"),
                output::text(it, "lastError", "-"),
            ]
        });
        let headings =
            ["NAME", "STATUS", "DELIVERED UP TO", "BEHIND", "NEXT ATTEMPT", "LAST ERROR"];
        Ok(output::table(headings, &rows.collect::<Vec<_>>())?)
    }
}
