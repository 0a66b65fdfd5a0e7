//! A copy of the file, taken while it is written to.

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

/// How much is copied between two looks at the progress, in pages of 4 KiB.
const STEP: i32 = 1_000;

/// What a file holds, to be held against another.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Census {
    /// The number of the newest event.
    pub events: i64,
    pub accounts: i64,
    pub keys: i64,
    pub values: i64,
}

/// Copies what `source` sees at this moment to a new file at `to`, which is complete, and on the
/// disk, when this returns. Writers go on meanwhile. `progress` is told what is left and the whole,
/// in pages.
pub(super) fn copy(
    source: &Connection,
    to: &Path,
    mut progress: impl FnMut(u64, u64),
) -> Result<(), StoreError> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600).open(to).map_err(StoreError::File)?;
    let outcome = fill(source, to, &mut progress);
    if outcome.is_err() {
        // Half a copy is worse than none.
        let _ = fs::remove_file(to);
    }
    outcome
}

#[expect(clippy::disallowed_methods, reason = "the copy is nobody's database yet")]
fn fill(
    source: &Connection,
    to: &Path,
    progress: &mut impl FnMut(u64, u64),
) -> Result<(), StoreError> {
    // One snapshot for all steps: without it the copy would begin again after each commit.
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
    // One file that can be moved, instead of one with a log beside it.
    target.pragma_update(None, "journal_mode", "DELETE")?;
    target.close().map_err(|(_, err)| err)?;
    File::open(to).and_then(|it| it.sync_all()).map_err(StoreError::File)
}

/// Reads all of a copy: whether SQLite finds it whole and every row refers to one that is there.
pub(super) fn inspect(conn: &Connection) -> Result<(), StoreError> {
    let verdict: String = conn.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?;
    if verdict != "ok" {
        return Err(StoreError::Damaged(verdict));
    }
    let mut orphans = conn.prepare("PRAGMA foreign_key_check")?;
    if let Some(row) = orphans.query([])?.next()? {
        let table: String = row.get(0)?;
        return Err(StoreError::Damaged(format!("a row of {table} refers to one that is gone")));
    }
    Ok(())
}

/// Takes the write-ahead log beside the file at `path` back into it. Nobody else may use the file.
pub fn fold(path: &Path) -> Result<(), StoreError> {
    let conn = schema::open(path)?;
    pragmas(&conn)?;
    conn.pragma_update(None, "journal_mode", "DELETE")?;
    conn.close().map_err(|(_, err)| err.into())
}

impl ReadTx<'_> {
    /// How much there is of everything.
    pub fn census(&self) -> Result<Census, StoreError> {
        let sql = "SELECT (SELECT coalesce(max(seq), 0) FROM events),
                          (SELECT count(*) FROM accounts),
                          (SELECT count(*) FROM api_keys),
                          (SELECT count(*) FROM credentials)";
        let census = self.sql.query_row(sql, [], |row| {
            Ok(Census {
                events: row.get(0)?,
                accounts: row.get(1)?,
                keys: row.get(2)?,
                values: row.get(3)?,
            })
        });
        Ok(census?)
    }
}
