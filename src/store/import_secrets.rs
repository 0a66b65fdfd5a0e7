//! The secret that the key prefixes of imported keys depend on, and the prefixes that no key gets again.

use rusqlite::OptionalExtension;
use zeroize::Zeroizing;

use crate::{
    domain::plaintext_key::KeyPrefix,
    store::{ReadTx, StoreError, WriteTx, tx::Touched},
};

impl WriteTx<'_> {
    /// Returns the stored import secret. Stores `fresh` first if there is none.
    pub fn import_secret_or(
        &self,
        fresh: Zeroizing<[u8; 32]>,
    ) -> Result<Zeroizing<[u8; 32]>, StoreError> {
        self.sql
            .prepare_cached(
                "INSERT INTO import_secret (id, digests) VALUES (1, ?1) ON CONFLICT DO NOTHING",
            )?
            .execute([&fresh[..]])?;
        Ok(ReadTx::new(self.sql).import_secret()?.unwrap_or(fresh))
    }

    /// Remembers the prefix of a credential that is removed, and takes it out of the index. Its plaintext
    /// key may have been imported by its digest, or will be, and must not be accepted through that.
    pub(super) fn gone(&self, prefix: KeyPrefix) -> Result<(), StoreError> {
        self.sql
            .prepare_cached(
                "INSERT INTO imported_values (prefix) VALUES (?1) ON CONFLICT (prefix) DO NOTHING",
            )?
            .execute([prefix])?;
        self.touch(Touched::Gone(prefix));
        Ok(())
    }
}

impl ReadTx<'_> {
    /// Returns the import secret, if any key was ever imported.
    pub fn import_secret(&self) -> Result<Option<Zeroizing<[u8; 32]>>, StoreError> {
        let secret = self
            .sql
            .prepare_cached("SELECT digests FROM import_secret WHERE id = 1")?
            .query_row([], |row| row.get::<_, [u8; 32]>(0))
            .optional()?;
        Ok(secret.map(Zeroizing::new))
    }

    /// Returns whether a key with this prefix was ever imported, purged keys included.
    pub fn was_imported(&self, prefix: KeyPrefix) -> Result<bool, StoreError> {
        self.is_spent(prefix)
    }

    /// Returns whether this server issued a credential with this prefix and has removed it.
    pub fn was_removed(&self, prefix: KeyPrefix) -> Result<bool, StoreError> {
        self.is_spent(prefix)
    }

    fn is_spent(&self, prefix: KeyPrefix) -> Result<bool, StoreError> {
        let mut statement =
            self.sql.prepare_cached("SELECT 1 FROM imported_values WHERE prefix = ?1")?;
        Ok(statement.exists([prefix])?)
    }
}
