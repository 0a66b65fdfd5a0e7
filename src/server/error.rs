//! Why a server does not start, or why it ends.

use std::{
    io,
    path::{Path, PathBuf},
};

use super::{DataDirError, PolicyError, RootKeyFileError, STOP_LIMIT, TlsError, WebhookError};
use crate::{
    domain::data_layout::DataLayout,
    service::{self, BackupError, Mismatch},
    store::{Divergence, StorageFault, StoreError},
};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    #[error("{0}")]
    Store(#[from] StoreError),
    #[error("{}", fault.about(path))]
    Database { path: PathBuf, fault: StoreError },
    #[error("{0}")]
    Service(#[from] service::Error),
    #[error("cannot listen on {address}")]
    Listen { address: String, source: io::Error },
    #[error("{0}")]
    Backup(#[from] BackupError),
    #[error(
        "the database has an earlier version and was not migrated, because it could not be copied first"
    )]
    Migration(#[source] BackupError),
    #[error("the restore failed after it had moved the old files; they are in {place}")]
    AfterExchange { place: PathBuf, source: Box<Error> },
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error(transparent)]
    Policy(#[from] PolicyError),
    #[error(transparent)]
    Webhook(#[from] WebhookError),
    #[error(transparent)]
    RootKeyFile(#[from] RootKeyFileError),
    #[error(transparent)]
    Mismatch(#[from] Mismatch),
    #[error("the scheduler cannot be started")]
    Jobs(#[from] tokio_cron_scheduler::JobSchedulerError),
    #[error("the server failed")]
    Run(#[source] io::Error),
    #[error("the disk of {dir} is full: {free} bytes free")]
    DiskFull { dir: PathBuf, free: u64 },
    #[error("not everything could be stored: {0}")]
    NotStored(#[source] service::Error),
    #[error("writing has stopped: {0}")]
    Halted(Divergence),
    #[error(
        "stopped after {} seconds without waiting further; what was answered is safe, the latest \
         times of use may be missing",
        STOP_LIMIT.as_secs()
    )]
    CutShort,
}

impl Error {
    /// Names the disk in the error of a full one, and the database in every other error of the store.
    pub(super) fn in_the_directory(self, dir: &Path) -> Self {
        let (Self::Store(fault)
        | Self::Mismatch(Mismatch::Store(fault))
        | Self::Service(service::Error::Unavailable(fault) | service::Error::Internal(fault))) =
            self
        else {
            return self;
        };
        match rustix::fs::statvfs(dir) {
            Ok(disk) if fault.storage_fault() == Some(StorageFault::Full) => {
                let free = disk.f_bavail.saturating_mul(disk.f_frsize);
                Self::DiskFull { dir: dir.to_owned(), free }
            }
            Ok(_) | Err(_) => Self::Database { path: DataLayout::new(dir).database(), fault },
        }
    }
}
