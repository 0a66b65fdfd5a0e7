//! `keyward health`: whether the server works.

use std::{
    io::{self, Write},
    path::PathBuf,
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
        error::Error,
        exit_code,
    },
    http::control::SOCKET,
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
            let dir = self.target.config()?.data_dir;
            let answer = socket::probe(dir.join(SOCKET), path, PROBE_PATIENCE);
            answer.map_err(|err| unanswered(dir, err))?
        };
        let well = answer == 200;
        writeln!(io::stdout(), "{}", if well { "ok" } else { "not well" })?;
        Ok(exit_code::health(well))
    }
}

fn unanswered(dir: PathBuf, err: io::Error) -> Error {
    use io::ErrorKind as Kind;
    if err.kind() == Kind::TimedOut {
        return Error::Silent { patience: PROBE_PATIENCE };
    }
    if err.kind() == Kind::PermissionDenied {
        return Error::NoAccess { path: dir.join(SOCKET) };
    }
    let absent = matches!(err.kind(), Kind::NotFound | Kind::ConnectionRefused);
    if absent { Error::NoServer { dir } } else { Error::Control(err) }
}
