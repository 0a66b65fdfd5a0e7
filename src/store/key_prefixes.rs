//! The configured prefix labels that keys ever began with.

use rusqlite::params;

use crate::{
    domain::plaintext_key::PrefixLabel,
    store::{ReadTx, StoreError, WriteTx, rows::Table},
};

const KEY_BRANDS: Table = Table { name: "key_brands", key: "brand" };

impl WriteTx<'_> {
    /// Remembers that keys begin with `label`.
    pub fn remember_prefix_label(&self, label: PrefixLabel) -> Result<(), StoreError> {
        self.sql
            .prepare_cached(
                "INSERT INTO key_brands (brand, first_used_at_ms) VALUES (?1, ?2)
                 ON CONFLICT (brand) DO NOTHING",
            )?
            .execute(params![label, self.now()])?;
        Ok(())
    }
}

impl ReadTx<'_> {
    /// Returns every prefix label that keys ever began with.
    pub fn prefix_labels(&self) -> Result<Vec<PrefixLabel>, StoreError> {
        let mut statement = self.sql.prepare_cached("SELECT brand FROM key_brands")?;
        KEY_BRANDS.all(&mut statement, [], |row| row.get("brand"))
    }
}
