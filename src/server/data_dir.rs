//! The directory that one process owns. It has the database, the lock and the control socket.

mod checkpoint_key;
mod error;
mod faults;
mod token_keys;

use std::{
    fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError},
    io::{self, Read, Seek, Write},
    os::unix::{
        fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt},
        net::{SocketAddr, UnixListener, UnixStream},
    },
    path::Path,
    process,
};

use rustix::fs::OFlags;

pub use self::{checkpoint_key::find_signer, error::DataDirError, faults::data_file_faults};
use super::user_name;
use crate::domain::data_layout::DataLayout;

/// A data directory, locked for as long as this value lives.
#[derive(Debug)]
pub struct DataDir {
    layout: DataLayout,
    /// The system unlocks the file when it is closed, also if the process is killed.
    lock: File,
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
        let mut lock = open_lock(&layout.lock())?;
        match lock.try_lock() {
            Ok(()) if stranger => return Err(not_owner()),
            Ok(()) => (),
            Err(TryLockError::WouldBlock) => return Err(in_use(path, lock).map_err(unusable)?),
            Err(TryLockError::Error(source)) => return Err(unusable(source)),
        }
        let mut note = || {
            lock.set_len(0)?;
            lock.rewind()?;
            writeln!(lock, "{}", process::id())
        };
        if let Err(err) = note() {
            // The lock holds all the same. A full disk may have no room for the number.
            let error = &err as &dyn std::error::Error;
            tracing::warn!(error, "the process number could not be written to the lock file");
        }
        Ok(Self { layout, lock })
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
        match fs::remove_file(path) {
            Err(err) if err.kind() != io::ErrorKind::NotFound => return Err(err),
            Ok(()) | Err(_) => (),
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

/// Opens the lock, and makes it if there is none. On a read-only file system an existing lock is enough.
fn open_lock(path: &Path) -> Result<File, DataDirError> {
    let mut writing = OpenOptions::new();
    writing.read(true).write(true).create(true).truncate(false).mode(0o600);
    let lock = match writing.custom_flags(no_link()).open(path) {
        Err(err) if err.kind() == io::ErrorKind::ReadOnlyFilesystem => {
            open_to_ask(path).map_err(|_| err)
        }
        opened => opened,
    };
    lock.map_err(|source| DataDirError::Unusable { path: path.to_owned(), source })
}

fn open_to_ask(path: &Path) -> Result<File, io::Error> {
    OpenOptions::new().read(true).custom_flags(no_link()).open(path)
}

fn no_link() -> i32 {
    OFlags::NOFOLLOW.bits().cast_signed()
}

impl Drop for DataDir {
    fn drop(&mut self) {
        for socket in [self.layout.control_socket(), self.layout.command_socket()] {
            // The next holder of the lock removes a socket that stays.
            let _ = fs::remove_file(socket);
        }
        // A program that starts at this moment holds a copy of every open file until its `exec`. Without
        // this, the directory would stay locked for that long.
        if let Err(err) = self.lock.unlock() {
            let error = &err as &dyn std::error::Error;
            tracing::warn!(error, "the data directory could not be unlocked");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_directory_is_free_at_once_although_a_starting_program_has_a_copy_of_the_lock() {
        let place = tempfile::tempdir().unwrap();
        let held = DataDir::take(place.path()).unwrap();
        let copy = held.lock.try_clone().unwrap();
        drop(held);
        DataDir::take(place.path()).unwrap();
        drop(copy);
    }
}
