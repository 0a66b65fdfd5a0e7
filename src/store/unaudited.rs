//! What changes without an event, each with its reason in the schema: this, and `usage`.

use rusqlite::{OptionalExtension, params};

use crate::{
    domain::credential::Brand,
    env::Timestamp,
    store::{ReadTx, StoreError, WriteTx},
};

impl WriteTx<'_> {
    /// Remembers that keys begin with `brand`.
    pub fn remember_brand(&self, brand: Brand) -> Result<(), StoreError> {
        self.sql
            .prepare_cached(
                "INSERT INTO key_brands (brand, first_used_at_ms) VALUES (?1, ?2)
                 ON CONFLICT (brand) DO NOTHING",
            )?
            .execute(params![brand.as_str(), self.now().as_millis()])?;
        Ok(())
    }

    /// The secret under which imported keys get their tags; `fresh` becomes it if there is none.
    pub fn import_secret(&self, fresh: [u8; 32]) -> Result<[u8; 32], StoreError> {
        self.sql
            .prepare_cached(
                "INSERT INTO import_secret (id, secret) VALUES (1, ?1) ON CONFLICT DO NOTHING",
            )?
            .execute([&fresh[..]])?;
        Ok(ReadTx::new(self.sql).import_secret()?.unwrap_or(fresh))
    }

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
    /// Every brand that keys ever began with.
    pub fn brands(&self) -> Result<Vec<Brand>, StoreError> {
        let mut statement = self.sql.prepare_cached("SELECT brand FROM key_brands")?;
        let rows = statement.query_map([], |row| row.get::<_, String>(0))?;
        rows.map(|row| {
            let row = row?;
            Brand::parse(&row).map_err(|_| StoreError::Corrupt {
                table: "key_brands",
                column: "brand",
                row,
            })
        })
        .collect()
    }

    /// The secret under which imported keys have their tags, if any was ever imported.
    pub fn import_secret(&self) -> Result<Option<[u8; 32]>, StoreError> {
        let secret = self
            .sql
            .prepare_cached("SELECT secret FROM import_secret WHERE id = 1")?
            .query_row([], |row| row.get(0))
            .optional()?;
        Ok(secret)
    }

    pub fn time_floor(&self) -> Result<Option<Timestamp>, StoreError> {
        let floor = self
            .sql
            .prepare_cached("SELECT floor_ms FROM time_floor WHERE id = 1")?
            .query_row([], |row| row.get::<_, i64>(0))
            .optional()?;
        Ok(floor.map(Timestamp::from_millis))
    }
}
