//! What can go wrong with a backup.

use std::{io, path::PathBuf};

use crate::{service::Finding, store::StoreError};

/// A backup that was not made, or must not be used.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    #[error("{path} cannot be used")]
    File { path: PathBuf, source: io::Error },
    #[error("{dir} has {free} bytes free, and the backup with its check needs {needed}")]
    Space { dir: PathBuf, free: u64, needed: u64 },
    #[error("{path} does not match the digest in its .sha256 file")]
    Digest { path: PathBuf },
    #[error("the copy has other contents when it is opened again")]
    Differs,
    #[error("{0}")]
    Log(#[from] Finding),
    #[error("{0}")]
    Store(#[from] StoreError),
}

impl BackupError {
    /// Tells whether the backup is at fault, rather than the attempt to read it.
    pub fn is_verdict(&self) -> bool {
        match self {
            Self::Digest { .. } | Self::Differs | Self::Log(_) => true,
            Self::Store(err) => {
                !err.is_temporary()
                    && !matches!(err, StoreError::File(_) | StoreError::NewerSchema { .. })
            }
            Self::File { .. } | Self::Space { .. } => false,
        }
    }
}
