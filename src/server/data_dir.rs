//! The directory that one process owns. It has the database, the lock and the control socket.

mod checkpoint_key;
mod error;
mod faults;
mod lock;
mod token_keys;

use std::{
    fs::{self, DirBuilder, File, Permissions, TryLockError},
    io::{self, Read},
    os::unix::{
        fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt},
        net::{SocketAddr, UnixListener, UnixStream},
    },
    path::Path,
    sync::Arc,
};

use self::lock::{Lock, open_lock, open_to_ask, sign};
pub use self::{
    checkpoint_key::find_signer,
    error::DataDirError,
    faults::{data_file_faults, lost_database},
    token_keys::check_token_keys,
};
use super::user_name;
use crate::{domain::data_layout::DataLayout, store::DirectoryLock};

/// A data directory, locked for as long as this value lives.
#[derive(Debug)]
pub struct DataDir {
    layout: DataLayout,
    lock: Arc<Lock>,
}

impl DataDir {
    /// Checks that a directory with this path can be a data directory. Makes nothing.
    pub fn check(path: &Path) -> Result<(), DataDirError> {
        let socket = DataLayout::new(path).control_socket();
        let fits = SocketAddr::from_pathname(&socket).is_ok();
        if fits { Ok(()) } else { Err(DataDirError::TooLong { socket }) }
    }

    /// Makes the directory if there is none, and locks it for this process.
    pub fn take(path: &Path) -> Result<Self, DataDirError> {
        Self::check(path)?;
        let layout = DataLayout::new(path);
        let unusable = |source| DataDirError::Unusable { path: path.to_owned(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(unusable)?;
        let owner = fs::metadata(path).map_err(unusable)?.uid();
        let stranger = owner != rustix::process::geteuid().as_raw();
        let not_owner =
            || DataDirError::NotOwner { path: path.to_owned(), owner: user_name(owner) };
        if stranger && !layout.lock().exists() {
            return Err(not_owner());
        }
        if let Some(fault) = data_file_faults(path).into_iter().find(|_| !stranger) {
            return Err(fault);
        }
        let lock = open_lock(&layout.lock());
        let mut lock =
            lock.map_err(|source| DataDirError::Unusable { path: layout.lock(), source })?;
        match lock.try_lock() {
            Ok(()) if stranger => return Err(not_owner()),
            Ok(()) => (),
            Err(TryLockError::WouldBlock) => return Err(in_use(path, lock).map_err(unusable)?),
            Err(TryLockError::Error(source)) => {
                return Err(DataDirError::NoLock { path: layout.lock(), source });
            }
        }
        sign(&mut lock);
        if Self::answers(path) {
            // A program that starts at this moment may hold a copy of the file.
            let _ = lock.unlock();
            let socket = layout.control_socket();
            return Err(DataDirError::LockRemoved { path: path.to_owned(), socket });
        }
        let lock = Arc::new(Lock::new(layout.lock(), lock).map_err(unusable)?);
        Ok(Self { layout, lock })
    }

    /// Returns the lock, for a check that it still holds.
    pub fn lock(&self) -> Arc<dyn DirectoryLock> {
        Arc::clone(&self.lock) as Arc<dyn DirectoryLock>
    }

    /// As [`DataDir::take`], but waits for its turn. The holder may be a command, or a server that
    /// starts or stops. As long as the holder answers nothing, this calls `wait`, which pauses, and
    /// tries again until `wait` returns `false`.
    pub fn take_in_turn(path: &Path, wait: &mut dyn FnMut() -> bool) -> Result<Self, DataDirError> {
        loop {
            match Self::take(path) {
                Err(DataDirError::InUse { .. }) if !Self::answers(path) && wait() => (),
                outcome => return outcome,
            }
        }
    }

    /// Whether a server that has the directory at `path` answers.
    pub fn answers(path: &Path) -> bool {
        UnixStream::connect(DataLayout::new(path).control_socket()).is_ok()
    }

    /// Returns the process that has the directory at `path` and answers nothing, if there is one.
    pub fn silent_holder(path: &Path) -> Option<DataDirError> {
        let lock = open_to_ask(&DataLayout::new(path).lock()).ok()?;
        // This unlocks at once. A start at the same time waits for it.
        if !matches!(lock.try_lock_shared(), Err(TryLockError::WouldBlock)) || Self::answers(path) {
            return None;
        }
        in_use(path, lock).ok()
    }

    pub fn layout(&self) -> &DataLayout {
        &self.layout
    }

    /// Binds one of the two sockets for the owner only. Removes a socket that was left behind: only the
    /// holder of the lock may use its name.
    pub fn listen_at(&self, path: &Path) -> Result<UnixListener, io::Error> {
        match fs::symlink_metadata(path) {
            Ok(found) if found.file_type().is_socket() => fs::remove_file(path)?,
            Ok(_) => {
                return Err(io::Error::new(io::ErrorKind::AlreadyExists, "it is not a socket"));
            }
            Err(err) if err.kind() == io::ErrorKind::NotFound => (),
            Err(err) => return Err(err),
        }
        let listener = UnixListener::bind(path)?;
        fs::set_permissions(path, Permissions::from_mode(0o600))?;
        listener.set_nonblocking(true)?;
        Ok(listener)
    }
}

/// Returns the error that names the holder of the lock.
fn in_use(path: &Path, mut lock: File) -> Result<DataDirError, io::Error> {
    let mut holder = String::new();
    lock.read_to_string(&mut holder)?;
    Ok(DataDirError::InUse { path: path.to_owned(), holder: holder.trim().to_owned() })
}

impl Drop for DataDir {
    fn drop(&mut self) {
        // If the lock was lost, the sockets are those of another process.
        if self.lock.is_in_place() {
            for socket in [self.layout.control_socket(), self.layout.command_socket()] {
                // The next holder of the lock removes a socket that stays.
                let _ = fs::remove_file(socket);
            }
        }
        self.lock.release();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_directory_is_free_at_once_although_a_starting_program_has_a_copy_of_the_lock() {
        let place = tempfile::tempdir().unwrap();
        let held = DataDir::take(place.path()).unwrap();
        let copy = held.lock.copy().unwrap();
        drop(held);
        DataDir::take(place.path()).unwrap();
        drop(copy);
    }
}
