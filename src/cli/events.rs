//! `keyward events`: prints, checks and exports the audit log.

mod export;
mod log;
mod tail;
mod verify;

use std::process::ExitCode;

use clap::Subcommand;

use crate::cli::{
    appendix::{examples_of, help},
    error::Error,
    exit_code::done,
};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Print the newest events in the order of the log
    #[command(after_long_help = help(&examples_of("events tail")))]
    Tail(tail::Options),
    /// Check the whole log; if it was changed, print the first changed event and exit 3
    Verify(verify::Options),
    /// Export the log for other systems, one line for each event
    Export(export::Options),
}

impl Command {
    pub(super) fn run(self) -> Result<ExitCode, Error> {
        match self {
            Self::Tail(it) => it.run().map(done),
            Self::Verify(it) => it.run(),
            Self::Export(it) => it.run().map(done),
        }
    }
}
