//! The audit log of a file that no server needs to run for: a copy in an auditor's hands.

use std::path::Path;

use rusqlite::{Connection, OpenFlags};

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
    #[expect(clippy::disallowed_methods, reason = "a file that is somebody else's, read only")]
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        // Told apart here: to SQLite every file that it cannot open is the same.
        std::fs::File::open(path).map_err(StoreError::File)?;
        let conn = Connection::open_with_flags(path, flags)?;
        let conn = match schema::version(&conn, path) {
            Ok(_) => conn,
            Err(StoreError::Io(_) | StoreError::ReadOnly(_)) => {
                let mut address = format!("file:{}", encoded(path));
                address.push_str("?immutable=1");
                let conn =
                    Connection::open_with_flags(address, flags | OpenFlags::SQLITE_OPEN_URI)?;
                schema::version(&conn, path)?;
                conn
            }
            Err(err) => return Err(err),
        };
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

/// The path as part of a URI: what has a meaning there is escaped.
fn encoded(path: &Path) -> String {
    let special = |it: char| matches!(it, '%' | '?' | '#');
    let escape = |it: char| {
        if special(it) { format!("%{:02X}", u32::from(it)) } else { it.to_string() }
    };
    path.to_string_lossy().chars().map(escape).collect()
}
