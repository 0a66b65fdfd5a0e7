//! The audit log of a file that no server needs to run for: a copy in an auditor's hands.

use std::path::Path;

use rusqlite::Connection;

use crate::{
    env::Timestamp,
    store::{Census, ReadTx, StoreError, copy, schema},
};

/// A database, opened to be read and nothing else.
#[derive(Debug)]
pub struct LogFile {
    pub(super) conn: Connection,
}

impl LogFile {
    /// Opens the file at `path`, beside a running server or without one. Where nothing can be
    /// written, such as on a mounted snapshot, it is read as it lies there.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let (conn, _) = schema::open_to_read(path)?;
        conn.pragma_update(None, "trusted_schema", false)?;
        Ok(Self { conn })
    }

    /// Copies it, with what a log beside it holds, to a new file at `to`.
    pub fn copy_to(&self, to: &Path, progress: impl FnMut(u64, u64)) -> Result<(), StoreError> {
        copy::copy(&self.conn, to, progress)
    }

    /// Whether SQLite finds all of it whole.
    pub fn inspect(&self) -> Result<(), StoreError> {
        copy::inspect(&self.conn)
    }

    /// How much there is of everything.
    pub fn census(&self) -> Result<Census, StoreError> {
        ReadTx::new(&self.conn).census()
    }

    /// The latest time that a server has kept, if any has.
    pub fn time_floor(&self) -> Result<Option<Timestamp>, StoreError> {
        ReadTx::new(&self.conn).time_floor()
    }

    /// Runs `body` on one consistent snapshot.
    pub fn read<T, E: From<StoreError>>(
        &mut self,
        body: impl FnOnce(&ReadTx<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        let snapshot = self.conn.transaction().map_err(StoreError::from)?;
        body(&ReadTx::new(&snapshot))
    }
}
