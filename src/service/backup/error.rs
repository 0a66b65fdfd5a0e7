//! What can go wrong with a backup.

use std::{
    io,
    path::{Path, PathBuf},
};

use crate::{
    service::Finding,
    store::{StoreError, may_pass},
};

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
    #[error("the database cannot be copied to {path}")]
    Copy { path: PathBuf, source: StoreError },
    #[error("{0}")]
    Store(#[from] StoreError),
}

impl BackupError {
    /// Tells whether the backup is at fault, rather than the attempt to read it.
    pub fn is_verdict(&self) -> bool {
        match self {
            Self::Digest { .. } | Self::Differs | Self::Log(_) => true,
            Self::Store(err) | Self::Copy { source: err, .. } => {
                !err.is_temporary()
                    && !matches!(err, StoreError::File(_) | StoreError::NewerSchema { .. })
            }
            Self::File { .. } | Self::Space { .. } => false,
        }
    }

    /// Tells whether trying again may help, without a person who changes something before.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Space { .. } => true,
            Self::File { source, .. } => may_pass(source),
            Self::Store(err) | Self::Copy { source: err, .. } => err.may_pass(),
            Self::Digest { .. } | Self::Differs | Self::Log(_) => false,
        }
    }

    /// Names the copy in an error of the store.
    pub(super) fn about_copy(self, path: &Path) -> Self {
        if let Self::Store(source) = self {
            return Self::Copy { path: path.to_owned(), source };
        }
        self
    }
}
