//! The lock of the data directory, for as long as the process owns it.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Seek, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    process,
    sync::{Mutex, MutexGuard, PoisonError},
};

use rustix::fs::OFlags;

use crate::{
    service::parent,
    store::{DirectoryLock, LockHolder},
};

/// A locked file. The system unlocks it when it is closed, also if the process is killed.
#[derive(Debug)]
pub(super) struct Lock {
    path: PathBuf,
    directory: Place,
    /// `None` once the directory was given up.
    file: Mutex<Option<File>>,
}

/// A file under any name.
type Place = (u64, u64);

fn place(found: &fs::Metadata) -> Place {
    (found.dev(), found.ino())
}

impl Lock {
    pub fn new(path: PathBuf, file: File) -> Result<Self, io::Error> {
        let directory = place(&fs::metadata(parent(&path))?);
        Ok(Self { path, directory, file: Mutex::new(Some(file)) })
    }

    /// Returns whether the file still has its name. Another process could lock a new file of this name.
    pub fn is_in_place(&self) -> bool {
        self.slot().as_ref().is_some_and(|it| self.names(it))
    }

    /// Unlocks the file. A program that starts at this moment holds a copy of every open file until its
    /// `exec`. Without this, the directory would stay locked for that long.
    pub fn release(&self) {
        let Some(file) = self.slot().take() else { return };
        if let Err(err) = file.unlock() {
            let error = &err as &dyn std::error::Error;
            tracing::warn!(error, "the data directory could not be unlocked");
        }
    }

    #[cfg(test)]
    pub fn copy(&self) -> Option<File> {
        self.slot().as_ref().and_then(|it| it.try_clone().ok())
    }

    /// A file that cannot be looked at counts as in its place: nothing shows that another process has it.
    fn names(&self, file: &File) -> bool {
        match (fs::symlink_metadata(&self.path), file.metadata()) {
            (Ok(there), Ok(ours)) => place(&there) == place(&ours),
            (Err(err), _) => err.kind() != io::ErrorKind::NotFound,
            (_, Err(_)) => true,
        }
    }

    fn slot(&self) -> MutexGuard<'_, Option<File>> {
        self.file.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl DirectoryLock for Lock {
    fn holder(&self) -> LockHolder {
        let mut slot = self.slot();
        let Some(held) = slot.as_ref() else { return LockHolder::ThisProcess };
        // A directory that is missing may come back, with the lock in it.
        let directory = fs::metadata(parent(&self.path));
        let is_same = directory.is_ok_and(|it| place(&it) == self.directory);
        if !is_same || self.names(held) {
            return LockHolder::ThisProcess;
        }
        let Ok(mut fresh) = open_lock(&self.path) else { return LockHolder::Unknown };
        match fresh.try_lock() {
            Ok(()) => (),
            Err(TryLockError::WouldBlock) => return LockHolder::AnotherProcess,
            Err(TryLockError::Error(_)) => return LockHolder::Unknown,
        }
        sign(&mut fresh);
        tracing::warn!(path = %self.path.display(), "the lock file was removed, and was made again");
        *slot = Some(fresh);
        LockHolder::ThisProcessAgain
    }
}

/// Writes the number of this process into the lock, for the message of the next one.
pub(super) fn sign(lock: &mut File) {
    let mut write = || {
        lock.set_len(0)?;
        lock.rewind()?;
        writeln!(lock, "{}", process::id())
    };
    if let Err(err) = write() {
        // The lock holds all the same. A full disk may have no room for the number.
        let error = &err as &dyn std::error::Error;
        tracing::warn!(error, "the process number could not be written to the lock file");
    }
}

/// Opens the lock, and makes it if there is none. On a read-only file system an existing lock is enough.
pub(super) fn open_lock(path: &Path) -> Result<File, io::Error> {
    let mut writing = OpenOptions::new();
    writing.read(true).write(true).create(true).truncate(false).mode(0o600);
    match writing.custom_flags(no_link()).open(path) {
        Err(err) if err.kind() == io::ErrorKind::ReadOnlyFilesystem => {
            open_to_ask(path).map_err(|_| err)
        }
        opened => opened,
    }
}

pub(super) fn open_to_ask(path: &Path) -> Result<File, io::Error> {
    OpenOptions::new().read(true).custom_flags(no_link()).open(path)
}

/// To open a pipe must not block.
fn no_link() -> i32 {
    (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed()
}
