//! Finds out whether a server would start with a file, without starting one.

use std::path::Path;

use rusqlite::Connection;

use crate::store::{Census, KeyIndex, LogFile, ReadTx, StoreError, schema};

/// Opens the file at `path` as a start would, reads all that a start reads, and closes it again. This
/// migrates a file of an earlier version, so `path` must be a scratch copy.
pub fn try_start(path: &Path) -> Result<Census, StoreError> {
    examine(&schema::open_to_write(path)?)
}

/// Fails if a start would refuse the file at `path`. Changes nothing, so a server may be running. For a
/// file of an earlier version it checks what can be checked before the migration.
pub fn check_startup(path: &Path) -> Result<Census, StoreError> {
    schema::check_mode(path)?;
    let mut file = LogFile::open(path)?;
    let Some(version) = file.outdated()? else { return file.examine() };
    let snapshot = file.conn.transaction()?;
    schema::check(&snapshot)?;
    // Version 1 has no table of imported keys.
    if 1 < version {
        schema::refuse_plain_text_imports(&snapshot)?;
    }
    ReadTx::new(&snapshot).census()
}

impl LogFile {
    /// Returns the version of the file, if it is an earlier one, which a start would migrate.
    pub fn outdated(&self) -> Result<Option<i64>, StoreError> {
        schema::outdated(&self.conn)
    }

    /// Reads all that a start reads, and changes nothing. The file must have the current version.
    pub fn examine(&mut self) -> Result<Census, StoreError> {
        // One snapshot, because a server may be writing.
        let snapshot = self.conn.transaction()?;
        examine(&snapshot)
    }
}

/// Fails where [`super::Store::open`], or the start after it, would fail.
fn examine(conn: &Connection) -> Result<Census, StoreError> {
    schema::check(conn)?;
    KeyIndex::check(conn)?;
    let read = ReadTx::new(conn);
    read.refuse_development()?;
    read.time_floor()?;
    read.prefix_labels()?;
    read.import_secret()?;
    read.census()
}
