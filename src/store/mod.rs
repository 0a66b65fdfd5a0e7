//! The SQLite file: one writer, many readers, and the key index that mirrors part of it.
//!
//! The only module that speaks SQL. [`ReadTx`] and [`WriteTx`] are all that leaves it, and a
//! [`WriteTx`] changes a row only for an [`AuditReceipt`].

mod accounts;
mod audit;
mod checkpoints;
mod copy;
mod credentials;
mod error;
mod import_secrets;
mod index;
mod key_prefixes;
mod keys;
mod load;
mod log_file;
mod outage;
mod readers;
mod records;
mod recovery;
mod runtime_state;
mod schema;
mod startup_check;
mod statistics;
#[cfg(test)]
pub mod steps;
mod time_floor;
mod tree;
mod tx;
mod usage;
mod writer;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::Duration,
};

use r2d2::CustomizeConnection;
use rusqlite::{Connection, functions::FunctionFlags};
use tokio::sync::watch;

pub use self::{
    accounts::AccountPage,
    audit::{AuditHead, AuditReceipt, EventFilter},
    checkpoints::StoredCheckpoint,
    copy::{Census, fold},
    credentials::ExcessCredential,
    error::StoreError,
    index::{AccountEntry, IndexedCredential, KeyEntry, KeyIndex},
    keys::{KeyFilter, KeyPage},
    log_file::LogFile,
    outage::{Divergence, StorageFault},
    records::{KeyRecord, StoredCredential},
    runtime_state::{Counts, RuntimeState},
    schema::stored_time_floor,
    startup_check::{check_startup, try_start},
    statistics::KeyStates,
    tx::{ReadTx, WriteTx},
    usage::{Day, DayOfUse, Use},
};
use self::{
    readers::{ReaderPragmas, Readers},
    schema::Access,
    writer::{Opened, Writer},
};
use crate::{
    domain::{scope::Catalogue, visible::folded},
    env::Env,
};

const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// What the write-ahead log may keep on disk once it has been folded back, in bytes.
const WAL_LIMIT: i64 = 64 * 1024 * 1024;
/// How much of the file a start maps, which reads all of it: without it, the two threads that do so
/// queue for one lock inside SQLite. A running server maps nothing.
const READ_MAP: i64 = 1024 * 1024 * 1024;

/// Everything that is remembered. One for each file and process.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    readers: Arc<Readers>,
    writer: Writer,
    index: Arc<KeyIndex>,
}

impl Store {
    /// Opens the file, making it if there is none, checks it, and loads the index.
    ///
    /// The caller holds the lock of the data directory: no other process writes this file. One of an
    /// earlier version is brought up to date; that a copy of it was kept is up to the caller. If the
    /// file can be read and not written, changes are refused until it can; see
    /// [`Store::storage_fault`].
    pub fn open(path: &Path, env: &Env, catalogue: &Arc<Catalogue>) -> Result<Self, StoreError> {
        let Opening { conn, access, fault } = Opening::of(path)?;
        // Both read all of the file, so they do it side by side, and without copying it.
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
        let writer = Writer::start(opened, conn, fault)?;
        Ok(Self { path: path.to_owned(), readers, writer, index })
    }

    /// What verification needs, in memory.
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

    /// Runs `body` as the only writer. Commits if it returns `Ok`; otherwise leaves no trace.
    ///
    /// Blocks until the change is on the disk and in the index; others may share the commit, none
    /// shares the fate. `body` must not write through another call of this method: it would wait
    /// for itself.
    pub fn write<T, E>(
        &self,
        body: impl for<'tx> FnOnce(&'tx WriteTx<'_>) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        self.writer.write(body)
    }

    /// The `seq` of the newest event that is on the disk and in the index; moves with each commit
    /// that records one.
    pub fn committed(&self) -> watch::Receiver<i64> {
        self.writer.committed()
    }

    /// Why changes are refused at the moment, if they are: the storage did not take the last one.
    pub fn storage_fault(&self) -> Option<StorageFault> {
        self.writer.state().fault()
    }

    /// How often the storage did not take a change.
    pub fn storage_failures(&self) -> u64 {
        self.writer.state().failures()
    }

    /// Why nothing can be written any more: the file is not what the index was made from. The
    /// process must end, so that the next one starts from the file.
    pub fn divergence(&self) -> Option<&Divergence> {
        self.writer.state().divergence()
    }

    /// Folds the write-ahead log back and lets SQLite refresh its statistics. Returns `false` if a
    /// reader holds the log, which then keeps its size.
    pub fn upkeep(&self) -> Result<bool, StoreError> {
        self.writer.upkeep()
    }

    /// Copies the file, as it is at this moment, to a new one at `to`. Nobody has to wait for it.
    pub fn copy_to(&self, to: &Path, progress: impl FnMut(u64, u64)) -> Result<(), StoreError> {
        copy::copy(&schema::open_to_read(&self.path)?.0, to, progress)
    }

    /// What the connections that read are doing.
    pub fn pool_state(&self) -> PoolState {
        self.readers.state()
    }

    /// How much room is left where the file is, in bytes; `None` if that cannot be told.
    pub fn free_space(&self) -> Option<u64> {
        let disk = rustix::fs::statvfs(&self.path).ok()?;
        Some(disk.f_bavail.saturating_mul(disk.f_frsize))
    }

    /// The sizes of the database and of its write-ahead log, in bytes.
    pub fn file_sizes(&self) -> (u64, u64) {
        let size = |path: &Path| std::fs::metadata(path).map_or(0, |it| it.len());
        let mut wal = self.path.clone().into_os_string();
        wal.push("-wal");
        (size(&self.path), size(Path::new(&wal)))
    }
}

/// How a file was opened by a start.
struct Opening {
    conn: Connection,
    access: Access,
    /// Why it can only be read.
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
            "{fault}: changes are refused until it works again"
        );
        let (mut conn, access) = schema::open_to_read(path)?;
        if !schema::is_current(&conn)? {
            return Err(err); // It has to be made, or brought up to date, first.
        }
        ReaderPragmas.on_acquire(&mut conn)?;
        Ok(Self { conn, access, fault: Some(fault) })
    }
}

/// How many connections do something, and how many nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct PoolState {
    pub idle: u32,
    pub busy: u32,
}

/// Each connection gets these, not just the first: a pragma that is set once on a pool holds for
/// whichever connection happened to run it.
fn pragmas(conn: &Connection) -> Result<(), rusqlite::Error> {
    add_functions(conn)?;
    conn.busy_timeout(BUSY_TIMEOUT)?;
    conn.set_prepared_statement_cache_capacity(128);
    conn.pragma_update(None, "journal_mode", "WAL")?;
    // NORMAL would lose answered commits at power loss, and with them perhaps a revocation.
    conn.pragma_update(None, "synchronous", "FULL")?;
    conn.pragma_update(None, "foreign_keys", true)?;
    conn.pragma_update(None, "recursive_triggers", true)?;
    // Each change has a savepoint, which keeps a copy of the pages it touches: not in a file.
    conn.pragma_update(None, "temp_store", "MEMORY")?;
    conn.pragma_update(None, "trusted_schema", false)?;
    conn.pragma_update(None, "journal_size_limit", WAL_LIMIT)
}

/// SQLite's own `lower` knows the letters of ASCII and no others, and no accents.
fn add_functions(conn: &Connection) -> Result<(), rusqlite::Error> {
    let pure = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC;
    conn.create_scalar_function("folded", 1, pure, |call| Ok(folded(&call.get::<String>(0)?)))
}
