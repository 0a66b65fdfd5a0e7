//! The time floor: the largest confirmed time, which the next start reads.

use rusqlite::OptionalExtension;

use crate::{
    env::Timestamp,
    store::{ReadTx, StoreError, WriteTx},
};

impl WriteTx<'_> {
    /// Keeps the time floor for the next start.
    pub fn keep_time_floor(&self, floor: Timestamp) -> Result<(), StoreError> {
        self.sql
            .prepare_cached(
                "INSERT INTO time_floor (id, floor_ms) VALUES (1, ?1)
                 ON CONFLICT (id) DO UPDATE SET floor_ms = excluded.floor_ms",
            )?
            .execute([floor.as_millis()])?;
        Ok(())
    }
}

impl ReadTx<'_> {
    /// Returns the time floor, if one was kept.
    pub fn time_floor(&self) -> Result<Option<Timestamp>, StoreError> {
        let floor = self
            .sql
            .prepare_cached("SELECT floor_ms FROM time_floor WHERE id = 1")?
            .query_row([], |row| row.get::<_, i64>(0))
            .optional()?;
        Ok(floor.map(Timestamp::from_millis))
    }
}
