//! Whom a command asks: the server that has the data directory, or nobody, because it has it itself.

use std::{path::PathBuf, sync::Arc};

use super::{DataDir, DataDirError, Error, Purpose, Site};
use crate::{
    config::Config,
    env::{Clock, Entropy},
};

/// Where the data is for a command.
#[derive(Debug)]
pub enum Reached {
    /// In this process.
    Database(Site),
    /// Behind this socket.
    Server(PathBuf),
}

/// Opens the data directory, or finds the server that has it; for `wait` see
/// [`DataDir::take_in_turn`].
pub fn reach(
    config: &Config,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    wait: &mut dyn FnMut() -> bool,
) -> Result<Reached, Error> {
    match DataDir::take_in_turn(&config.data_dir, wait) {
        Ok(dir) => {
            Site::open_in(dir, config, clock, entropy, Purpose::Command).map(Reached::Database)
        }
        Err(DataDirError::InUse { .. }) if DataDir::answers(&config.data_dir) => {
            Ok(Reached::Server(DataDir::socket_in(&config.data_dir)))
        }
        Err(err) => Err(err.into()),
    }
}
