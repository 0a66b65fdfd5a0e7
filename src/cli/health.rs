//! `keyward health`: checks that the server works.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use clap::Args;

use crate::{
    cli::{
        api::{
            client::Target,
            network,
            socket::{self, PROBE_PATIENCE},
        },
        dev,
        error::Error,
        exit_code,
    },
    domain::data_layout::DataLayout,
};

#[derive(Args, Debug)]
pub(super) struct Options {
    /// Check that the server can read and write, not only that it is alive
    #[arg(long)]
    ready: bool,
    /// If no server uses the data directory, check a `keyward dev` with the same directory for temporary
    /// files. The health check of keyward's container image does this
    #[arg(long)]
    or_dev: bool,
    #[command(flatten)]
    target: Target,
}

impl Options {
    pub(super) fn run(&self) -> Result<ExitCode, Error> {
        let well = self.status()? == 200;
        writeln!(io::stdout(), "{}", if well { "ok" } else { "not well" })?;
        Ok(exit_code::health(well))
    }

    /// Asks over the network if a URL is named, and otherwise by the control socket, which every server
    /// has, regardless of where it listens.
    fn status(&self) -> Result<u16, Error> {
        let path = if self.ready { "/readyz" } else { "/livez" };
        if let Some(url) = self.target.url() {
            return network::probe(&url, path, PROBE_PATIENCE);
        }
        let answer = socket::probe(self.target.config()?.layout().control_socket(), path);
        if !self.or_dev || !has_no_server(&answer) {
            return answer;
        }
        let sockets = dev::data_dirs().into_iter().map(|it| DataLayout::new(it).control_socket());
        let mut answers = sockets.map(|it| socket::probe(it, path));
        answers.find(|it| !has_no_server(it)).unwrap_or(answer)
    }
}

fn has_no_server(answer: &Result<u16, Error>) -> bool {
    matches!(answer, Err(Error::NoServer { .. }))
}
