//! The keyward of this machine: the running server, or, when none runs, a server inside this process.

use std::{path::PathBuf, thread, time::Duration};

use serde::{Serialize, de::DeserializeOwned};

use super::{
    answer::{Answer, Lines, parse, refusal},
    socket,
};
use crate::{
    cli::{error::Error, settings},
    config::Config,
    env::{Clock, SystemClock},
    server::{self, Backend, InProcessServer, Sources},
};

/// How long this command waits for other commands that hold the data directory.
const PATIENCE: Duration = Duration::from_secs(10);
/// The time between two attempts to lock the data directory.
const PAUSE: Duration = Duration::from_millis(20);

/// A keyward that answers on a control socket.
pub(crate) enum Machine {
    Server(PathBuf),
    InProcess(InProcessServer),
}

impl Machine {
    /// Connects to the server that owns the data directory. If none runs, locks the directory and
    /// starts a server inside this process.
    pub(crate) fn open(config: &Config) -> Result<Self, Error> {
        settings::database(&config.data_dir)?;
        match server::open_or_connect(config, Sources::system(), &mut patience(PATIENCE))? {
            Backend::Local(instance) => Ok(Self::InProcess(InProcessServer::start(instance)?)),
            Backend::Server(socket) => Ok(Self::Server(socket)),
        }
    }

    /// Returns the server of the data directory, whether or not it runs.
    pub(crate) fn server_of(config: &Config) -> Result<Self, Error> {
        settings::database(&config.data_dir)?;
        Ok(Self::Server(config.layout().control_socket()))
    }

    fn socket(&self) -> PathBuf {
        match self {
            Self::Server(socket) => socket.clone(),
            Self::InProcess(it) => it.socket(),
        }
    }

    /// Sends a request that a healthy server answers at once.
    pub(super) fn send(
        &self,
        method: &str,
        target: &str,
        body: Option<&[u8]>,
    ) -> Result<Answer, Error> {
        socket::send(&self.socket(), method, target, body)
    }

    /// Opens a stream. Returns the status of the answer, and its lines as they come.
    pub(crate) fn stream(&self, target: &str) -> Result<(u16, Lines), Error> {
        socket::stream(&self.socket(), target)
    }

    /// Sends a request that only the control socket takes, and reads the answer.
    pub(crate) fn control<T: DeserializeOwned>(
        &self,
        path: &str,
        request: &impl Serialize,
    ) -> Result<T, Error> {
        let (status, body) = socket::post(&self.socket(), path, request)?;
        if status == 200 { parse(&body) } else { Err(refusal(status, &body)) }
    }

    /// Ends the server inside this process. Its database is complete only after that.
    pub(crate) fn close(self) -> Result<(), Error> {
        match self {
            Self::InProcess(it) => Ok(it.close()?),
            Self::Server(_) => Ok(()),
        }
    }
}

/// Sends one request to the control socket of this machine's keyward, and reads the answer.
pub(crate) fn control<T: DeserializeOwned>(
    config: &Config,
    path: &str,
    request: &impl Serialize,
) -> Result<T, Error> {
    let machine = Machine::open(config)?;
    let answer = machine.control(path, request)?;
    machine.close()?;
    Ok(answer)
}

/// Returns a function that waits for a moment and tells whether less than `limit` has passed.
pub(crate) fn patience(limit: Duration) -> impl FnMut() -> bool {
    let clock = SystemClock::new();
    let started = clock.monotonic();
    move || {
        thread::sleep(PAUSE);
        clock.monotonic().since(started) < limit
    }
}
