//! Copies of the file, made while the server writes to it.

use std::{
    fs::{self, File, OpenOptions},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use rusqlite::{
    Connection, OpenFlags,
    backup::{Backup, StepResult},
};

use crate::store::{ReadTx, StoreError, connection::pragmas, schema};

/// How much is copied between two reports of the progress, in pages of 4 KiB.
const STEP: i32 = 1_000;

/// Counts of what a file holds, to compare it with another.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Census {
    /// The number of the newest event.
    pub events: i64,
    pub accounts: i64,
    pub keys: i64,
    pub credentials: i64,
}

/// Copies what `source` sees at this moment to a new file at `to`. The copy is complete, and on the
/// disk, when this returns. Writers go on meanwhile. `progress` gets the pages that are left, and all
/// pages.
pub(super) fn copy(
    source: &Connection,
    to: &Path,
    mut progress: impl FnMut(u64, u64),
) -> Result<(), StoreError> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600).open(to).map_err(StoreError::File)?;
    let outcome = fill(source, to, &mut progress);
    if outcome.is_err() {
        // Half a copy must not be taken for a whole one.
        let _ = fs::remove_file(to);
    }
    outcome
}

#[expect(clippy::disallowed_methods, reason = "no process uses the copy yet")]
fn fill(
    source: &Connection,
    to: &Path,
    progress: &mut impl FnMut(u64, u64),
) -> Result<(), StoreError> {
    // One snapshot for all steps: without it SQLite would restart the copy after each commit.
    let snapshot = source.unchecked_transaction()?;
    let _: i64 = snapshot.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    let mut target = Connection::open_with_flags(to, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    let backup = Backup::new(&snapshot, &mut target)?;
    while backup.step(STEP)? != StepResult::Done {
        let state = backup.progress();
        let pages = |it: i32| u64::from(it.unsigned_abs());
        progress(pages(state.remaining), pages(state.pagecount));
    }
    drop(backup);
    // Without a log beside it, the copy is one file that can be moved.
    target.pragma_update(None, "journal_mode", "DELETE")?;
    target.close().map_err(|(_, err)| err)?;
    File::open(to).and_then(|it| it.sync_all()).map_err(StoreError::File)
}

/// Reads all of a copy. Fails unless SQLite finds it intact and every reference leads to a row.
pub(super) fn inspect(conn: &Connection) -> Result<(), StoreError> {
    let verdict: String = conn.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?;
    if verdict != "ok" {
        return Err(StoreError::damaged(&verdict));
    }
    let mut orphans = conn.prepare("PRAGMA foreign_key_check")?;
    if let Some(row) = orphans.query([])?.next()? {
        let table: String = row.get("table")?;
        return Err(StoreError::Damaged(format!(
            "a row of {table} refers to a row that does not exist"
        )));
    }
    Ok(())
}

/// Folds the write-ahead log beside the file at `path` back into the file, and removes it. No other
/// process may use the file.
pub fn fold(path: &Path) -> Result<(), StoreError> {
    let conn = schema::open(path)?;
    pragmas(&conn)?;
    conn.pragma_update(None, "journal_mode", "DELETE")?;
    conn.close().map_err(|(_, err)| err.into())
}

impl ReadTx<'_> {
    /// Counts the rows of the file.
    pub fn census(&self) -> Result<Census, StoreError> {
        let sql = "SELECT (SELECT coalesce(max(seq), 0) FROM events) AS events,
                          (SELECT count(*) FROM accounts) AS accounts,
                          (SELECT count(*) FROM api_keys) AS keys,
                          (SELECT count(*) FROM credentials) AS credentials";
        let census = self.sql.query_row(sql, [], |row| {
            Ok(Census {
                events: row.get("events")?,
                accounts: row.get("accounts")?,
                keys: row.get("keys")?,
                credentials: row.get("credentials")?,
            })
        });
        Ok(census?)
    }
}
