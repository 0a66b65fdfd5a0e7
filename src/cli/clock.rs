//! `keyward clock`: accepts the machine's clock.

use std::{
    io::{self, Write},
    time::Duration,
};

use clap::Subcommand;

use crate::{
    cli::{
        api::machine::control,
        error::Error,
        settings::{self, Location},
    },
    http::control::ClockAnswer,
};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Accept the machine's clock although keyward has seen a later time
    Accept(Location),
}

impl Command {
    pub(super) fn run(&self) -> Result<(), Error> {
        let Self::Accept(location) = self;
        let config = settings::load_here(location)?;
        let answer: ClockAnswer = control(&config, "/clock/accept", &())?;
        let back = humantime::format_duration(Duration::from_millis(answer.back_ms));
        let mut out = io::stdout();
        Ok(writeln!(out, "The machine's clock was accepted; keyward's time went back by {back}.")?)
    }
}
