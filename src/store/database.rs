//! The open database: the file, the threads and connections that use it, and the key index.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    thread,
};

use r2d2::CustomizeConnection;
use rusqlite::Connection;
use tokio::sync::watch;

use crate::{
    domain::scope::Catalogue,
    env::Env,
    store::{
        DirectoryLock, Divergence, KeyIndex, PoolState, ReadTx, StorageFault, StoreError, WriteTx,
        connection::{READ_MAP, ReaderPragmas},
        copy,
        readers::Readers,
        schema::{self, Access},
        writer::{Opened, Writer},
    },
};

/// An open database, for reading. Each process opens one for each file.
///
/// Only the [`StoreWriter`] that [`Store::open`] returns beside it can change the database:
/// ```compile_fail
/// use keyward::{service::Error, store::Store};
/// fn change(store: &Store) {
///     let _ = store.write(|_| Ok::<_, Error>(()));
/// }
/// ```
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    readers: Arc<Readers>,
    pub(super) writer: Arc<Writer>,
    index: Arc<KeyIndex>,
}

/// The right to change the database.
#[derive(Debug)]
pub struct StoreWriter(Arc<Writer>);

impl Store {
    /// Opens the file, creates it if it does not exist, checks it, and loads the index.
    ///
    /// The caller holds the lock of the data directory, so no other process writes this file. A
    /// file of an earlier version is migrated; the caller keeps a copy of it before. If the file can
    /// be read but not written, changes are refused until it can be; see [`Store::storage_fault`].
    pub fn open(
        path: &Path,
        env: &Env,
        catalogue: &Arc<Catalogue>,
    ) -> Result<(Self, StoreWriter), StoreError> {
        let Opening { conn, access, fault } = Opening::of(path)?;
        // Both read the whole file, so they run side by side and read it mapped, without a copy.
        conn.pragma_update(None, "mmap_size", READ_MAP)?;
        let (sound, index) = thread::scope(|scope| {
            let check = scope.spawn(|| schema::check_file(path));
            let index = KeyIndex::load(&conn, env, Arc::clone(catalogue));
            (check.join().unwrap_or(Err(StoreError::Panicked)), index)
        });
        sound?;
        let index = Arc::new(index?);
        conn.pragma_update(None, "mmap_size", 0)?;
        let readers = Arc::new(Readers::open(path, access, fault.is_some())?);
        let opened = Opened {
            path: path.to_owned(),
            index: Arc::clone(&index),
            readers: Arc::clone(&readers),
            env: env.clone(),
        };
        let writer = Arc::new(Writer::start(opened, conn, fault)?);
        let store = Self { path: path.to_owned(), readers, writer: Arc::clone(&writer), index };
        Ok((store, StoreWriter(writer)))
    }

    /// Refuses changes from now on unless this process holds `lock`.
    pub fn watch_lock(&self, lock: Arc<dyn DirectoryLock>) {
        self.writer.state().watch(lock);
    }

    /// Returns what verification needs, in memory.
    pub fn index(&self) -> &Arc<KeyIndex> {
        &self.index
    }

    /// Runs `body` on one consistent snapshot.
    pub fn read<T, E: From<StoreError>>(
        &self,
        body: impl FnOnce(&ReadTx<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        self.readers.read(body)
    }

    /// Returns a watch on the `seq` of the newest event that is on the disk and in the index.
    pub fn committed(&self) -> watch::Receiver<i64> {
        self.writer.committed()
    }

    /// Returns why changes are refused at the moment, if they are: the last write to the storage
    /// failed.
    pub fn storage_fault(&self) -> Option<StorageFault> {
        self.writer.state().fault()
    }

    /// Returns how many writes to the storage have failed since the start.
    pub fn storage_failures(&self) -> u64 {
        self.writer.state().failures()
    }

    /// Returns why nothing can be written any more: the file is no longer the one that the index was
    /// made from. The process must end, so that the next one starts from the file.
    pub fn divergence(&self) -> Option<&Divergence> {
        self.writer.state().divergence()
    }

    /// Folds the write-ahead log back. Returns `false` if a reader holds the log, which then keeps its size.
    pub fn upkeep(&self) -> Result<bool, StoreError> {
        self.writer.upkeep()
    }

    /// Copies the file, as it is at this moment, to a new file at `to`. Reads and writes go on
    /// meanwhile.
    pub fn copy_to(&self, to: &Path, progress: impl FnMut(u64, u64)) -> Result<(), StoreError> {
        copy::copy(&schema::open_to_read(&self.path)?.0, to, progress)
    }

    /// Returns how many of the reading connections are busy.
    pub fn pool_state(&self) -> PoolState {
        self.readers.state()
    }

    /// Returns the free space of the file system that holds the file, in bytes; `None` if it cannot
    /// be determined.
    pub fn free_space(&self) -> Option<u64> {
        let disk = rustix::fs::statvfs(&self.path).ok()?;
        Some(disk.f_bavail.saturating_mul(disk.f_frsize))
    }

    /// Returns the sizes of the database and of its write-ahead log, in bytes.
    pub fn file_sizes(&self) -> (u64, u64) {
        let size = |path: &Path| std::fs::metadata(path).map_or(0, |it| it.len());
        (size(&self.path), size(&schema::beside(&self.path, "-wal")))
    }
}

impl StoreWriter {
    /// Runs `body` as the only writer. Commits if it returns `Ok`; otherwise nothing changes.
    ///
    /// Blocks until the change is on the disk and in the index. Other changes may share the commit;
    /// an error of one does not undo the others. `body` must not call this method again: it would
    /// wait for itself.
    pub fn write<T, E>(
        &self,
        body: impl for<'tx> FnOnce(&'tx WriteTx<'_>) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        self.0.write(body)
    }
}

/// The result of opening a file at the start.
struct Opening {
    conn: Connection,
    access: Access,
    /// Why the file can only be read, if so.
    fault: Option<StorageFault>,
}

impl Opening {
    fn of(path: &Path) -> Result<Self, StoreError> {
        let err = match schema::open_to_write(path) {
            Ok(conn) => return Ok(Self { conn, access: Access::Shared, fault: None }),
            Err(err) => err,
        };
        let Some(fault) = err.storage_fault() else { return Err(err) };
        tracing::error!(
            error = &err as &dyn std::error::Error,
            "{fault}: changes are refused until the storage works again"
        );
        let (mut conn, access) = match schema::open_to_read(path) {
            // The storage had no room for a new database.
            Err(StoreError::Empty { .. }) => return Err(err),
            opened => opened?,
        };
        if !schema::is_current(&conn)? {
            return Err(err); // A new or older file has to be written before it can be read.
        }
        ReaderPragmas.on_acquire(&mut conn)?;
        Ok(Self { conn, access, fault: Some(fault) })
    }
}
