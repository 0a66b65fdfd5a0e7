//! The time floor: the largest confirmed time, which the next start reads.

use std::{fs, path::Path};

use rusqlite::OptionalExtension;

use crate::{
    env::Timestamp,
    store::{ReadTx, StoreError, WriteTx, schema},
};

/// Returns the time floor in the file at `path`, if the file exists and has one. A start asks for it
/// first, because the program's now depends on it.
pub fn stored_time_floor(path: &Path) -> Result<Option<Timestamp>, StoreError> {
    if !fs::metadata(path).is_ok_and(|it| 0 < it.len()) {
        return Ok(None);
    }
    let (conn, _) = schema::open_to_read(path)?;
    if schema::version(&conn, path)? == 0 {
        return Ok(None);
    }
    ReadTx::new(&conn).time_floor()
}

impl WriteTx<'_> {
    /// Keeps the time floor for the next start.
    pub fn keep_time_floor(&self, floor: Timestamp) -> Result<(), StoreError> {
        self.sql
            .prepare_cached(
                "INSERT INTO time_floor (id, floor_ms) VALUES (1, ?1)
                 ON CONFLICT (id) DO UPDATE SET floor_ms = excluded.floor_ms",
            )?
            .execute([floor])?;
        Ok(())
    }
}

impl ReadTx<'_> {
    /// Returns the time floor, if one was kept.
    pub fn time_floor(&self) -> Result<Option<Timestamp>, StoreError> {
        let floor = self
            .sql
            .prepare_cached("SELECT floor_ms FROM time_floor WHERE id = 1")?
            .query_row([], |row| row.get(0))
            .optional()?;
        Ok(floor)
    }
}
