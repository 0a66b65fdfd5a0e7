//! What changes without an event, each with its reason in the schema: this, and `usage`.

use rusqlite::{OptionalExtension, params};

use crate::{
    domain::{
        imported_key::ImportForm,
        plaintext_key::{KeyPrefix, PrefixLabel},
    },
    env::Timestamp,
    store::{ReadTx, StoreError, WriteTx, schema},
};

/// What imported keys are found by.
#[derive(Clone)]
pub struct ImportSecrets {
    pub digests: [u8; 32],
    /// By which the secret for texts is recognised; it is not in the database.
    pub texts: Option<[u8; 32]>,
}

impl WriteTx<'_> {
    /// Remembers that keys begin with `brand`.
    pub fn remember_prefix_label(&self, brand: PrefixLabel) -> Result<(), StoreError> {
        self.sql
            .prepare_cached(
                "INSERT INTO key_brands (brand, first_used_at_ms) VALUES (?1, ?2)
                 ON CONFLICT (brand) DO NOTHING",
            )?
            .execute(params![brand.as_str(), self.now().as_millis()])?;
        Ok(())
    }

    /// The secret for the tags of digests; `fresh` becomes it if there is none.
    pub fn import_secret(&self, fresh: [u8; 32]) -> Result<[u8; 32], StoreError> {
        self.sql
            .prepare_cached(
                "INSERT INTO import_secret (id, digests) VALUES (1, ?1) ON CONFLICT DO NOTHING",
            )?
            .execute([&fresh[..]])?;
        let stored = ReadTx::new(self.sql).import_secrets()?;
        Ok(stored.map_or(fresh, |it| it.digests))
    }

    /// Remembers more of a value that is imported in this transaction.
    pub fn mark_imported(&self, marks: &[KeyPrefix]) -> Result<(), StoreError> {
        let mut statement = self.sql.prepare_cached(
            "INSERT INTO imported_values (prefix) VALUES (?1) ON CONFLICT DO NOTHING",
        )?;
        for mark in marks {
            statement.execute([mark.as_str()])?;
        }
        Ok(())
    }

    /// Keeps what the secret for the tags of texts is recognised by.
    pub fn keep_import_check(&self, check: [u8; 32]) -> Result<(), StoreError> {
        let changed = self
            .sql
            .prepare_cached("UPDATE import_secret SET texts = ?1 WHERE id = 1")?
            .execute([&check[..]])?;
        StoreError::unless_one(changed)
    }

    /// Changes nothing, but has the commit reach the disk.
    pub fn touch_disk(&self) -> Result<(), StoreError> {
        schema::write_version(self.sql)
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
    pub fn prefix_labels(&self) -> Result<Vec<PrefixLabel>, StoreError> {
        let mut statement = self.sql.prepare_cached("SELECT brand FROM key_brands")?;
        let rows = statement.query_map([], |row| row.get::<_, String>(0))?;
        rows.map(|row| {
            let row = row?;
            PrefixLabel::parse(&row).map_err(|_| StoreError::Corrupt {
                table: "key_brands",
                column: "brand",
                row,
            })
        })
        .collect()
    }

    /// What there is to find imported keys by, if any was ever imported.
    pub fn import_secrets(&self) -> Result<Option<ImportSecrets>, StoreError> {
        let secrets = self
            .sql
            .prepare_cached("SELECT digests, texts FROM import_secret WHERE id = 1")?
            .query_row([], |row| Ok(ImportSecrets { digests: row.get(0)?, texts: row.get(1)? }))
            .optional()?;
        Ok(secrets)
    }

    /// Whether any value is there that was imported as it is.
    pub fn has_imported_texts(&self) -> Result<bool, StoreError> {
        let mut statement = self
            .sql
            .prepare_cached("SELECT 1 FROM credentials WHERE ?1 <= prefix AND prefix < ?2")?;
        Ok(statement.exists(ImportForm::Raw.handles())?)
    }

    /// Whether a value with this handle was ever imported.
    pub fn was_imported(&self, handle: KeyPrefix) -> Result<bool, StoreError> {
        let mut statement =
            self.sql.prepare_cached("SELECT 1 FROM imported_values WHERE prefix = ?1")?;
        Ok(statement.exists([handle.as_str()])?)
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
