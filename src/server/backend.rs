//! Whom a command asks: the server that has the data directory, or nobody, because it has it itself.

use std::{path::PathBuf, sync::Arc};

use super::{DataDir, DataDirError, Error, Instance, Purpose};
use crate::{
    config::Config,
    env::{Clock, Entropy},
};

/// Where the data is for a command.
#[derive(Debug)]
pub enum Backend {
    /// In this process.
    Local(Instance),
    /// Behind this socket.
    Server(PathBuf),
}

/// Opens the data directory, or finds the server that has it; for `wait` see
/// [`DataDir::take_in_turn`].
pub fn open_or_connect(
    config: &Config,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    wait: &mut dyn FnMut() -> bool,
) -> Result<Backend, Error> {
    match DataDir::take_in_turn(&config.data_dir, wait) {
        Ok(dir) => {
            Instance::open_in(dir, config, clock, entropy, Purpose::Command).map(Backend::Local)
        }
        Err(DataDirError::InUse { .. }) if DataDir::answers(&config.data_dir) => {
            Ok(Backend::Server(DataDir::socket_in(&config.data_dir)))
        }
        Err(err) => Err(err.into()),
    }
}
