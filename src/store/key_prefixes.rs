//! The configured prefix labels that keys ever began with.

use rusqlite::params;

use crate::{
    domain::plaintext_key::PrefixLabel,
    store::{ReadTx, StoreError, WriteTx},
};

impl WriteTx<'_> {
    /// Remembers that keys begin with `label`.
    pub fn remember_prefix_label(&self, label: PrefixLabel) -> Result<(), StoreError> {
        self.sql
            .prepare_cached(
                "INSERT INTO key_brands (brand, first_used_at_ms) VALUES (?1, ?2)
                 ON CONFLICT (brand) DO NOTHING",
            )?
            .execute(params![label.as_str(), self.now().as_millis()])?;
        Ok(())
    }
}

impl ReadTx<'_> {
    /// Returns every prefix label that keys ever began with.
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
}
