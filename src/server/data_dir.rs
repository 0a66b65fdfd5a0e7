//! The directory that one process owns: the database, the lock, the control socket.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError},
    io::{self, Read, Seek, Write},
    os::unix::{
        fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
        net::UnixListener,
    },
    path::{Path, PathBuf},
    process,
};

use crate::http::control::SOCKET;

#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    #[error("the data directory {path} is in use by process {holder}")]
    InUse { path: PathBuf, holder: String },
    #[error("the data directory {path} cannot be used")]
    Unusable { path: PathBuf, source: io::Error },
    #[error("the configured key prefix cannot be used")]
    KeyPrefix,
}

/// A data directory, locked for as long as this lives.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    /// The lock goes with the file, also when the process is killed.
    _lock: File,
}

impl DataDir {
    /// Makes the directory if there is none, and takes it for this process alone.
    pub fn take(path: &Path) -> Result<Self, DataDirError> {
        let unusable = |source| DataDirError::Unusable { path: path.to_owned(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(unusable)?;
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path.join("keyward.lock"))
            .map_err(unusable)?;
        match lock.try_lock() {
            Ok(()) => (),
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                lock.read_to_string(&mut holder).map_err(unusable)?;
                let holder = holder.trim().to_owned();
                return Err(DataDirError::InUse { path: path.to_owned(), holder });
            }
            Err(TryLockError::Error(source)) => return Err(unusable(source)),
        }
        let note = || {
            lock.set_len(0)?;
            lock.rewind()?;
            writeln!(lock, "{}", process::id())
        };
        let mut note = note;
        note().map_err(unusable)?;
        Ok(Self { path: path.to_owned(), _lock: lock })
    }

    pub fn database(&self) -> PathBuf {
        self.path.join("keyward.db")
    }

    /// Where the first root key waits for its first use, if nobody could be shown it.
    pub fn initial_key(&self) -> PathBuf {
        self.path.join("initial-root-key")
    }

    pub fn control_socket(&self) -> PathBuf {
        self.path.join(SOCKET)
    }

    /// Binds the control socket for the owner alone. One that was left behind is nobody's: the
    /// lock is ours.
    pub fn listen_control(&self) -> Result<UnixListener, io::Error> {
        let path = self.control_socket();
        match fs::remove_file(&path) {
            Err(err) if err.kind() != io::ErrorKind::NotFound => return Err(err),
            Ok(()) | Err(_) => (),
        }
        let listener = UnixListener::bind(&path)?;
        fs::set_permissions(&path, Permissions::from_mode(0o600))?;
        listener.set_nonblocking(true)?;
        Ok(listener)
    }
}

impl Drop for DataDir {
    fn drop(&mut self) {
        // Nobody listens any more; the next owner would remove it as well.
        let _ = fs::remove_file(self.control_socket());
    }
}
