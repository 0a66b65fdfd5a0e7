//! What a start makes of a file, found out without one.

use std::{path::Path, sync::Arc};

use rusqlite::Connection;

use crate::{
    domain::scope::Catalogue,
    env::Env,
    store::{Census, KeyIndex, LogFile, ReadTx, StoreError, schema},
};

/// Opens the file at `path` as a start would, reads all that a start reads, and closes it again.
/// One of an earlier version is brought up to date by that: it must be a copy that nobody misses.
pub fn try_start(path: &Path) -> Result<Census, StoreError> {
    examine(&schema::open_to_write(path)?)
}

/// Whether a start would take the file at `path`. Changes nothing, so a server may be running; of an
/// earlier version it tells what can be told before the migration.
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
    /// The version of the file, if it is an earlier one, which a start would bring up to date.
    pub fn outdated(&self) -> Result<Option<i64>, StoreError> {
        schema::outdated(&self.conn)
    }

    /// Reads all that a start reads, and changes nothing. Of the current version only.
    pub fn examine(&mut self) -> Result<Census, StoreError> {
        // One snapshot: a server may be writing.
        let snapshot = self.conn.transaction()?;
        examine(&snapshot)
    }
}

/// Refuses what [`super::Store::open`], and who uses what it opened, would stumble over.
fn examine(conn: &Connection) -> Result<Census, StoreError> {
    schema::check(conn)?;
    // A scope that is in no catalogue is no obstacle to a start, so an empty one will do.
    KeyIndex::check(conn, &Env::system(), Arc::new(Catalogue::new([])))?;
    let read = ReadTx::new(conn);
    read.time_floor()?;
    read.prefix_labels()?;
    read.import_secret()?;
    read.census()
}
