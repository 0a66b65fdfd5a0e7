//! A database that is only read, with or without a server: for auditors and for checks.

use std::path::Path;

use rusqlite::Connection;

use crate::{
    env::Timestamp,
    store::{Census, ReadTx, StoreError, copy, schema},
};

/// A database that is open for reading only.
#[derive(Debug)]
pub struct LogFile {
    pub(super) conn: Connection,
}

impl LogFile {
    /// Opens the file at `path`, beside a running server or without one. The file may be on a read-only
    /// file system, such as a mounted snapshot.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let (conn, _) = schema::open_to_read(path)?;
        conn.pragma_update(None, "trusted_schema", false)?;
        Ok(Self { conn })
    }

    /// Copies the file, with its write-ahead log, to a new file at `to`.
    pub fn copy_to(&self, to: &Path, progress: impl FnMut(u64, u64)) -> Result<(), StoreError> {
        copy::copy(&self.conn, to, progress)
    }

    /// Reads the whole file. Fails unless SQLite finds it intact.
    pub fn inspect(&self) -> Result<(), StoreError> {
        copy::inspect(&self.conn)
    }

    /// Counts the rows of the file.
    pub fn census(&self) -> Result<Census, StoreError> {
        ReadTx::new(&self.conn).census()
    }

    /// Returns the time floor that a server has stored, if any.
    pub fn time_floor(&self) -> Result<Option<Timestamp>, StoreError> {
        ReadTx::new(&self.conn).time_floor()
    }

    /// Returns whether keys of any account can be exchanged for tokens.
    pub fn has_token_exchange(&self) -> Result<bool, StoreError> {
        ReadTx::new(&self.conn).has_token_exchange()
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
