//! An outage of the storage: its reason, and when the writer tries again.

use rusqlite::Connection;
use std::{
    collections::HashSet,
    fmt, fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use crate::{
    env::Monotonic,
    store::{StorageFault, StoreError, schema::beside, tx::Touched},
};

/// The pause after the first failure; it doubles with each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// Why no change is possible until a new start: the file no longer matches the index, and the process
/// must end.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Divergence {
    #[error(
        "{path} was removed while the server ran. Put the file back, or restore a backup; keep a \
         copy of everything as it is"
    )]
    Gone { path: PathBuf },
    #[error(
        "{path} was replaced while the server ran; the next start goes on from the file that is \
         there now"
    )]
    Replaced { path: PathBuf },
    #[error(
        "changes are missing in {path}: its audit log ends with event {found}, and event {known} \
         was on the disk. Keep a copy of everything as it is; `keyward events verify` tells more"
    )]
    Shorter { path: PathBuf, known: i64, found: i64 },
    #[error(
        "the audit log in {path} was changed: event {seq} is not the one that was recorded. Keep \
         a copy of everything as it is; `keyward events verify` tells more"
    )]
    Differs { path: PathBuf, seq: i64 },
    #[error(
        "{path} is no longer the database that the server wrote: {why}. Keep a copy of everything as \
         it is, and restore a backup"
    )]
    Unusable { path: PathBuf, why: String },
    #[error(
        "another process took the lock of the data directory {dir}: its lock file was removed while \
         the server ran"
    )]
    LockLost { dir: PathBuf },
    #[error("the thread that makes changes panicked; the log says why")]
    WriterPanicked,
}

/// The lock of the directory with the database.
pub trait DirectoryLock: fmt::Debug + Send + Sync {
    /// Returns who holds the lock. Takes it again if its file was removed and no other process was faster.
    fn holder(&self) -> LockHolder;
}

/// Who holds the lock of the directory.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LockHolder {
    ThisProcess,
    /// This process holds it again. Another one may have held it meanwhile.
    ThisProcessAgain,
    AnotherProcess,
    /// The system does not tell now.
    Unknown,
}

/// The number of attempts in a row after which keyward treats the lock as taken. The first ones, 100 and 300 ms
/// after the lock was lost, may meet commands: each holds the lock for a moment, until it finds the server.
const TAKEN_FOR_GOOD: u8 = 3;

/// The state of the storage, which the writer thread sets and other threads read.
#[derive(Debug, Default)]
pub(super) struct StorageState {
    fault: Mutex<Option<StorageFault>>,
    failures: AtomicU64,
    divergence: OnceLock<Divergence>,
    lock: OnceLock<Arc<dyn DirectoryLock>>,
}

impl StorageState {
    /// Records that a change did not reach the disk.
    pub fn failed(&self, fault: StorageFault) {
        self.failures.fetch_add(1, Ordering::Relaxed);
        self.still(fault);
    }

    /// Records that the outage goes on, with this fault.
    pub fn still(&self, fault: StorageFault) {
        *self.slot() = Some(fault);
    }

    /// Records that a change reached the disk. Returns the fault before, if any.
    pub fn works(&self) -> Option<StorageFault> {
        self.slot().take()
    }

    pub fn fault(&self) -> Option<StorageFault> {
        *self.slot()
    }

    pub fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    pub fn part(&self, why: Divergence) {
        // The first divergence is the cause of all others.
        let _ = self.divergence.set(why);
    }

    pub fn divergence(&self) -> Option<&Divergence> {
        self.divergence.get()
    }

    /// Watches this lock from now on.
    pub fn watch(&self, lock: Arc<dyn DirectoryLock>) {
        // Each process takes the lock once.
        let _ = self.lock.set(lock);
    }

    pub fn lock_holder(&self) -> LockHolder {
        self.lock.get().map_or(LockHolder::ThisProcess, |it| it.holder())
    }

    fn slot(&self) -> MutexGuard<'_, Option<StorageFault>> {
        self.fault.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The time from a failure until the file is open again.
#[derive(Debug)]
pub(super) struct Outage {
    pub fault: StorageFault,
    /// The rows that the failed commit changed. The file may hold the change or not.
    pub touched: HashSet<Touched>,
    /// Whether another process may have held the lock, and so may have changed the file.
    pub lock_was_lost: bool,
    /// How often in a row another process held the lock.
    times_taken: u8,
    /// The connection to a log that was removed, until all of the log is in the database.
    pub unsaved: Option<Connection>,
    pause: Duration,
    since: Monotonic,
}

impl Outage {
    pub fn new(fault: StorageFault, touched: HashSet<Touched>, now: Monotonic) -> Self {
        Self {
            fault,
            touched,
            lock_was_lost: false,
            times_taken: 0,
            unsaved: None,
            pause: FIRST_PAUSE,
            since: now,
        }
    }

    /// Records who holds the lock at an attempt. Returns whether another process took it for good.
    pub fn is_taken(&mut self, holder: LockHolder) -> bool {
        self.lock_was_lost |= holder == LockHolder::ThisProcessAgain;
        let is_taken = holder == LockHolder::AnotherProcess;
        self.times_taken = if is_taken { self.times_taken.saturating_add(1) } else { 0 };
        TAKEN_FOR_GOOD <= self.times_taken
    }

    /// Returns the time until the next attempt to open the file.
    pub fn left(&self, now: Monotonic) -> Duration {
        self.pause.saturating_sub(now.since(self.since))
    }

    /// Records a failed attempt, and doubles the pause.
    pub fn goes_on(&mut self, fault: StorageFault, now: Monotonic) {
        self.fault = fault;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        self.since = now;
    }
}

/// The identity of the file, under any name, and of its directory.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Identity {
    file: (u64, u64),
    dir: (u64, u64),
}

impl Identity {
    pub fn of(path: &Path) -> Result<Self, StoreError> {
        let of = |path: &Path| fs::metadata(path).map(|it| (it.dev(), it.ino()));
        let both = || Ok(Self { file: of(path)?, dir: of(parent(path))? });
        both().map_err(StoreError::File)
    }

    /// Returns whether the file at `path` is gone while its directory is still the same. A missing
    /// directory may be a file system that comes back.
    pub fn is_gone(self, path: &Path) -> bool {
        let gone = |path: &Path| match fs::metadata(path) {
            Err(err) => err.kind() == io::ErrorKind::NotFound,
            Ok(_) => false,
        };
        let dir = fs::metadata(parent(path)).map(|it| (it.dev(), it.ino()));
        gone(path) && dir.is_ok_and(|it| it == self.dir)
    }

    pub fn is_file_of(self, other: Self) -> bool {
        self.file == other.file
    }

    /// Fails if the file at `path` is not this one.
    pub fn check(self, path: &Path) -> Result<(), StoreError> {
        match fs::metadata(path) {
            Ok(found) if (found.dev(), found.ino()) == self.file && 0 < found.len() => Ok(()),
            Err(err) if !is_absence(&err) => Err(StoreError::Unavailable(StorageFault::Failed)),
            Ok(_) | Err(_) => Err(StoreError::Unavailable(StorageFault::Moved)),
        }
    }
}

/// Returns whether a path leads nowhere.
pub(super) fn is_absence(err: &io::Error) -> bool {
    matches!(err.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// The write-ahead log and the memory beside a database that is open. SQLite goes on with files that were
/// removed, and what it writes there is gone after a restart.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct FilesBeside([Option<(u64, u64)>; 2]);

impl FilesBeside {
    /// Fails if a file is not the one that was there before.
    pub fn check(&mut self, path: &Path) -> Result<(), StoreError> {
        for (known, suffix) in self.0.iter_mut().zip(["-wal", "-shm"]) {
            let found = match fs::symlink_metadata(beside(path, suffix)) {
                Ok(found) => Some((found.dev(), found.ino())),
                Err(err) if is_absence(&err) => None,
                Err(_) => return Err(StoreError::Unavailable(StorageFault::Failed)),
            };
            if known.is_some() && *known != found {
                return Err(StoreError::Unavailable(StorageFault::Moved));
            }
            *known = found;
        }
        Ok(())
    }
}

fn parent(path: &Path) -> &Path {
    path.parent().filter(|it| !it.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_ten_seconds_and_no_further() {
        let mut now = Monotonic::from_millis(5);
        let mut outage = Outage::new(StorageFault::Failed, HashSet::new(), now);
        let mut pauses = Vec::new();
        for _ in 0..10 {
            let left = outage.left(now);
            pauses.push(left.as_millis());
            assert_eq!(outage.left(now.after(left / 2)), left / 2);
            now = now.after(left);
            assert_eq!(outage.left(now), Duration::ZERO);
            outage.goes_on(StorageFault::Full, now);
        }
        assert_eq!(pauses, [100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000, 10_000]);
    }
}
