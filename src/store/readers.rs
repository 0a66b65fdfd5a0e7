//! The connections that read.

use std::{
    path::{Path, PathBuf},
    sync::{
        PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
};

use r2d2::Pool;
use r2d2_sqlite::SqliteConnectionManager;
use rusqlite::OpenFlags;

use crate::store::{
    ReadTx, StorageFault, StoreError,
    connection::{BUSY_TIMEOUT, ReaderPragmas},
    schema::{self, Access},
};

const READERS: u32 = 4;

/// How many of the reading connections are idle, and how many are busy.
#[derive(Clone, Copy, Debug, Default)]
pub struct PoolState {
    pub idle: u32,
    pub busy: u32,
}

/// The pool, which is made anew when the file is opened again.
#[derive(Debug)]
pub(super) struct Readers {
    path: PathBuf,
    access: Access,
    /// While connections are open that cannot share memory with one that writes.
    must_close: AtomicBool,
    /// `None` if the file could not be opened again.
    pool: RwLock<Option<Pool<SqliteConnectionManager>>>,
}

impl Readers {
    /// `must_close` says that the file cannot be written at the moment: a connection that is to
    /// write can only be opened once all of these are closed.
    pub fn open(path: &Path, access: Access, must_close: bool) -> Result<Self, StoreError> {
        let pool = RwLock::new(Some(pool(path, access)?));
        Ok(Self { path: path.to_owned(), access, must_close: must_close.into(), pool })
    }

    pub fn read<T, E: From<StoreError>>(
        &self,
        body: impl FnOnce(&ReadTx<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        // Held until the body is done, so that no connection is in use when all are to be closed.
        let pool = self.pool.read().unwrap_or_else(PoisonError::into_inner);
        let pool = pool.as_ref().ok_or(StoreError::Unavailable(StorageFault::Failed))?;
        let mut conn = pool.get().map_err(StoreError::from)?;
        let snapshot = conn.transaction().map_err(StoreError::from)?;
        body(&ReadTx::new(&snapshot))
    }

    /// Runs `attempt`, which opens the file to write it, and then opens it anew to read it. After
    /// an error, reads go on as before.
    ///
    /// Closes all connections before if the file is `locked`: SQLite asks the system for the locks of
    /// this process once for all of them, so one that it could not give up is there until then.
    pub fn reopen_after<T, E: From<StoreError>>(
        &self,
        locked: bool,
        attempt: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, E> {
        let slot = || self.pool.write().unwrap_or_else(PoisonError::into_inner);
        // Otherwise they stay open: what SQLite keeps in memory beside the file says which commits are
        // on the disk, and would be made anew from a log whose last write may have failed.
        let must_close = locked || self.must_close.load(Ordering::Relaxed);
        let mut closed = must_close.then(|| {
            let mut slot = slot();
            *slot = None;
            slot
        });
        let outcome = attempt().and_then(|it| Ok((it, pool(&self.path, Access::Shared)?)));
        match outcome {
            Ok((it, fresh)) => {
                *closed.unwrap_or_else(slot) = Some(fresh);
                self.must_close.store(false, Ordering::Relaxed);
                Ok(it)
            }
            Err(err) => {
                if let Some(slot) = &mut closed {
                    **slot = pool(&self.path, self.access).ok();
                }
                Err(err)
            }
        }
    }

    pub fn state(&self) -> PoolState {
        let pool = self.pool.read().unwrap_or_else(PoisonError::into_inner);
        let Some(state) = pool.as_ref().map(Pool::state) else { return PoolState::default() };
        PoolState { idle: state.idle_connections, busy: state.connections - state.idle_connections }
    }
}

fn pool(path: &Path, access: Access) -> Result<Pool<SqliteConnectionManager>, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let manager = match access {
        Access::Shared => SqliteConnectionManager::file(path).with_flags(flags),
        Access::AsItLies => SqliteConnectionManager::file(schema::immutable(path))
            .with_flags(flags | OpenFlags::SQLITE_OPEN_URI),
    };
    let pool = Pool::builder()
        .max_size(READERS)
        .test_on_check_out(false)
        .connection_timeout(BUSY_TIMEOUT)
        .connection_customizer(Box::new(ReaderPragmas))
        .build(manager)?;
    Ok(pool)
}
