//! `keyward health`: checks that the server works.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use clap::Args;

use crate::cli::{
    api::{
        client::Target,
        network,
        socket::{self, PROBE_PATIENCE},
    },
    error::Error,
    exit_code,
};

#[derive(Args, Debug)]
pub(super) struct Options {
    /// Check that the server can read and write, not only that it is alive
    #[arg(long)]
    ready: bool,
    #[command(flatten)]
    target: Target,
}

impl Options {
    /// Asks over the network if a URL is named, and otherwise by the control socket, which every server
    /// has, regardless of where it listens.
    pub(super) fn run(&self) -> Result<ExitCode, Error> {
        let path = if self.ready { "/readyz" } else { "/livez" };
        let answer = if let Some(url) = self.target.url() {
            network::probe(&url, path, PROBE_PATIENCE)?
        } else {
            socket::probe(self.target.config()?.layout().control_socket(), path)?
        };
        let well = answer == 200;
        writeln!(io::stdout(), "{}", if well { "ok" } else { "not well" })?;
        Ok(exit_code::health(well))
    }
}
