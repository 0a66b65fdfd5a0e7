//! The faults of a data directory.

use std::{io, path::PathBuf};

use crate::domain::{checkpoint::CheckpointError, token_keys::InvalidTokenKeys};

/// The room for a path in an address, without the byte that ends it (unix(7)).
const LONGEST_SOCKET: usize = 107;

#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    #[error("the data directory {path} is in use by process {holder}, which is another keyward")]
    InUse { path: PathBuf, holder: String },
    #[error(
        "another keyward answers at {socket}, so it uses the data directory {path}; its lock file was \
         removed"
    )]
    LockRemoved { path: PathBuf, socket: PathBuf },
    #[error("{path} cannot be locked; the data directory must be on a local disk")]
    NoLock { path: PathBuf, source: io::Error },
    #[error(
        "{path} is missing or empty, but {sign} shows that there was a database. Keep a copy of \
         everything as it is, and restore a backup with `keyward backup restore`. To begin with an \
         empty database, move all files of the data directory to another place"
    )]
    NoDatabase { path: PathBuf, sign: PathBuf },
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
    #[error(
        "put a copy of {path} back, or, to go on with a new key, remove it and {public} and tell the \
         auditors: it holds no key for checkpoints: {source}"
    )]
    CheckpointKey { path: PathBuf, public: PathBuf, source: CheckpointError },
    #[error("{path}, the keys that sign tokens, cannot be read")]
    TokenKeyFile { path: PathBuf, source: io::Error },
    #[error(
        "remove {path} to go on with a new key, which refuses all tokens that were issued before, or put \
         the file back: it holds no keys that sign tokens"
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
    #[error(
        "{path} is not a file; keyward needs a file of this name. Move what is there to another place"
    )]
    NoFile { path: PathBuf },
    #[error(
        "{path} is not a socket; keyward makes a socket of this name. Move what is there to another \
         place"
    )]
    NoSocket { path: PathBuf },
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
