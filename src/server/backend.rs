//! Where a command finds the data: at a running server, or in its own process.

use std::path::PathBuf;

use super::{DataDir, DataDirError, Error, Instance, Purpose, Sources};
use crate::config::Config;

/// Where a command finds the data.
#[derive(Debug)]
pub enum Backend {
    /// In this process.
    Local(Instance),
    /// At the server with this control socket.
    Server(PathBuf),
}

/// Opens the data directory, or finds the server that has it. For `wait` see
/// [`DataDir::take_in_turn`].
pub fn open_or_connect(
    config: &Config,
    sources: Sources,
    wait: &mut dyn FnMut() -> bool,
) -> Result<Backend, Error> {
    match DataDir::take_in_turn(&config.data_dir, wait) {
        Ok(dir) => Instance::open_in(dir, config, sources, Purpose::Command).map(Backend::Local),
        Err(DataDirError::InUse { .. } | DataDirError::LockRemoved { .. })
            if DataDir::answers(&config.data_dir) =>
        {
            Ok(Backend::Server(config.layout().control_socket()))
        }
        Err(err) => Err(err.into()),
    }
}
