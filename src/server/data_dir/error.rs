//! The faults of a data directory.

use std::{io, path::PathBuf};

use crate::domain::{checkpoint::CheckpointError, token_keys::InvalidTokenKeys};

/// The room for a path in an address, without the byte that ends it (unix(7)).
const LONGEST_SOCKET: usize = 107;

#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    #[error("the data directory {path} is in use by process {holder}, which is another keyward")]
    InUse { path: PathBuf, holder: String },
    #[error("{path} cannot be used")]
    Unusable { path: PathBuf, source: io::Error },
    #[error(
        "{path} is not there, which signed the checkpoints. If it is a credential of the service, \
         start keyward by its unit; if it is gone, put it back, or, to go on with a new key, remove \
         {public} too and tell the auditors"
    )]
    NoCheckpointKey { path: PathBuf, public: PathBuf },
    #[error("{path}, the key that signs checkpoints, cannot be read")]
    KeyFile { path: PathBuf, source: io::Error },
    #[error("{path} holds no key for checkpoints: {source}")]
    CheckpointKey { path: PathBuf, source: CheckpointError },
    #[error("{path}, the keys that sign tokens, cannot be read")]
    TokenKeyFile { path: PathBuf, source: io::Error },
    #[error(
        "{path} holds no keys that sign tokens: {source}. Remove it to go on with a new key; tokens that \
         were issued before are then refused"
    )]
    TokenKeys { path: PathBuf, source: InvalidTokenKeys },
    #[error("{path} can be read by other users; allow its owner only (chmod 600)")]
    ExposedTokenKeys { path: PathBuf },
    #[error("{path} can be read by other users; allow its owner, or its group, only (chmod 640)")]
    Exposed { path: PathBuf },
    #[error(
        "the data directory {path} belongs to the user {owner}; the server could not read what this \
         user writes there"
    )]
    NotOwner { path: PathBuf, owner: String },
    #[error(
        "the path of the data directory is too long: the control socket {socket} would have {} \
         bytes, and a Unix socket has at most {LONGEST_SOCKET}",
        socket.as_os_str().len()
    )]
    TooLong { socket: PathBuf },
    #[error(
        "{path} belongs to {owner}, and the data directory {dir} to {wanted}: `chown {wanted} {path}`"
    )]
    WrongOwner { path: PathBuf, owner: String, dir: PathBuf, wanted: String },
    #[error("{path} cannot be read and written by its owner: `chmod 600 {path}`")]
    Closed { path: PathBuf },
    #[error("{path} is not a file")]
    NoFile { path: PathBuf },
    #[error(
        "other users may write to the data directory {path}: `chmod 700 {path}`, and look for files \
         that are not yours"
    )]
    OpenToOthers { path: PathBuf },
}

impl DataDirError {
    /// Whether this user cannot see the key. The key itself may be valid.
    pub fn is_out_of_sight(&self) -> bool {
        let Self::KeyFile { source, .. } = self else { return false };
        matches!(source.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied)
    }
}
