//! Statements about credentials: what a rotation adds, retires and ends.

use rusqlite::params;

use crate::{
    domain::{
        credential::Credential,
        id::{AccountId, KeyId},
        imported_key::ImportForm,
        key_hash::KeyHash,
        plaintext_key::KeyPrefix,
    },
    env::Timestamp,
    store::{AuditReceipt, ReadTx, StoreError, WriteTx, rows::Table, tx::Touched},
};

/// An ended credential beyond the number that is kept for each key.
#[derive(Clone, Copy, Debug)]
pub struct ExcessCredential {
    pub account: AccountId,
    pub key: KeyId,
    pub prefix: KeyPrefix,
}

impl ReadTx<'_> {
    /// Returns the hash of the credential with this prefix, also from a file of an earlier version.
    pub fn hash_of(&self, prefix: KeyPrefix) -> Result<Option<KeyHash>, StoreError> {
        let mut statement =
            self.sql.prepare_cached("SELECT prefix, phc FROM credentials WHERE prefix = ?1")?;
        Table::CREDENTIALS.first(&mut statement, [prefix], |row| row.get("phc"))
    }

    /// Returns rotated credentials whose end is not recorded yet, the earliest deadline first.
    /// Without those of revoked keys, which ended with their key.
    pub fn credentials_in_grace(
        &self,
        after: Option<(Timestamp, KeyPrefix)>,
        limit: u32,
    ) -> Result<Vec<(KeyId, KeyPrefix, Timestamp)>, StoreError> {
        let mut statement = self.sql.prepare_cached(
            "SELECT c.key_id, c.prefix, c.valid_until_ms
             FROM credentials AS c JOIN api_keys AS k ON k.id = c.key_id
             WHERE c.valid_until_ms IS NOT NULL AND c.ended_at_ms IS NULL
               AND k.revoked_at_ms IS NULL
               AND (c.valid_until_ms, c.prefix) > (?1, ?2)
             ORDER BY c.valid_until_ms, c.prefix LIMIT ?3",
        )?;
        let first = || (Timestamp::MIN, String::new());
        let (deadline, prefix) = after.map_or_else(first, |(at, it)| (at, it.as_str().to_owned()));
        Table::CREDENTIALS.all(&mut statement, params![deadline, prefix, limit], |row| {
            Ok((row.get("key_id")?, row.get("prefix")?, row.get("valid_until_ms")?))
        })
    }

    /// Returns ended credentials beyond the newest `kept` of their key. Reads every ended credential.
    pub fn excess_credentials(
        &self,
        kept: u32,
        limit: u32,
    ) -> Result<Vec<ExcessCredential>, StoreError> {
        let mut statement = self.sql.prepare(
            "SELECT v.key_id, v.prefix, k.account_id
             FROM (SELECT key_id, prefix, row_number() OVER (
                       PARTITION BY key_id ORDER BY ended_at_ms DESC, prefix) AS age
                   FROM credentials INDEXED BY credentials_ended
                   WHERE ended_at_ms IS NOT NULL) AS v
             JOIN api_keys AS k ON k.id = v.key_id
             WHERE ?1 < v.age LIMIT ?2",
        )?;
        Table::CREDENTIALS.all(&mut statement, [kept, limit], |row| {
            Ok(ExcessCredential {
                account: row.get("account_id")?,
                key: row.get("key_id")?,
                prefix: row.get("prefix")?,
            })
        })
    }

    /// Returns whether this is a credential of the key whose end was recorded.
    pub fn has_ended_credential(&self, key: KeyId, prefix: KeyPrefix) -> Result<bool, StoreError> {
        let mut statement = self.sql.prepare_cached(
            "SELECT 1 FROM credentials
             WHERE key_id = ?1 AND prefix = ?2 AND ended_at_ms IS NOT NULL",
        )?;
        Ok(statement.exists(params![key, prefix])?)
    }

    /// Returns whether this unused credential was made by a rotation that key `actor` asked for.
    pub fn was_made_by_rotation_of(
        &self,
        prefix: KeyPrefix,
        actor: KeyId,
    ) -> Result<bool, StoreError> {
        let mut statement = self.sql.prepare_cached(
            "SELECT 1 FROM credentials AS c JOIN events AS e ON e.seq = c.audit_seq
             WHERE c.prefix = ?1 AND e.type = 'api_key.rotated' AND e.actor = ?2",
        )?;
        Ok(statement.exists(params![prefix, actor.to_string()])?)
    }

    /// Returns credentials whose end was recorded before `cutoff`.
    pub fn purgeable_credentials(
        &self,
        cutoff: Timestamp,
        limit: u32,
    ) -> Result<Vec<(KeyId, KeyPrefix)>, StoreError> {
        let mut statement = self.sql.prepare_cached(
            "SELECT key_id, prefix FROM credentials WHERE ended_at_ms < ?1 LIMIT ?2",
        )?;
        Table::CREDENTIALS.all(&mut statement, params![cutoff, limit], |row| {
            Ok((row.get("key_id")?, row.get("prefix")?))
        })
    }
}

impl WriteTx<'_> {
    /// Makes `fresh` the current credential of the key; the one before stays valid until `deadline`.
    /// If the deadline is not later than now, its end is recorded by the same event.
    pub fn replace_credential<'tx>(
        &'tx self,
        fresh: &Credential,
        deadline: Timestamp,
        receipt: &AuditReceipt<'tx>,
    ) -> Result<(), StoreError> {
        let retired = self
            .sql
            .prepare_cached(
                "UPDATE credentials
                 SET valid_until_ms = ?2, audit_seq = ?4,
                     ended_at_ms = CASE WHEN ?2 <= ?3 THEN ?3 END
                 WHERE key_id = ?1 AND valid_until_ms IS NULL",
            )?
            .execute(params![receipt.key()?, deadline, self.now(), receipt.seq()])?;
        StoreError::unless_one(retired)?;
        self.insert_credential(fresh, receipt)
    }

    /// Ends the grace of one credential now. This never moves its deadline to a later time.
    pub fn end_grace<'tx>(
        &'tx self,
        prefix: KeyPrefix,
        receipt: &AuditReceipt<'tx>,
    ) -> Result<(), StoreError> {
        let id = receipt.key()?;
        let ended = self
            .sql
            .prepare_cached(
                "UPDATE credentials
                 SET valid_until_ms = min(valid_until_ms, ?3), ended_at_ms = ?3, audit_seq = ?4
                 WHERE key_id = ?1 AND prefix = ?2
                   AND valid_until_ms IS NOT NULL AND ended_at_ms IS NULL",
            )?
            .execute(params![id, prefix, self.now(), receipt.seq()])?;
        self.touch(Touched::Key(id));
        StoreError::unless_one(ended)
    }

    /// Replaces the hash `from` of a credential by the stronger hash `to`.
    pub fn replace_hash<'tx>(
        &'tx self,
        prefix: KeyPrefix,
        from: &KeyHash,
        to: &KeyHash,
        receipt: &AuditReceipt<'tx>,
    ) -> Result<(), StoreError> {
        let id = receipt.key()?;
        let replaced = self
            .sql
            .prepare_cached(
                "UPDATE credentials SET phc = ?4, audit_seq = ?5
                 WHERE key_id = ?1 AND prefix = ?2 AND phc = ?3",
            )?
            .execute(params![id, prefix, from, to, receipt.seq()])?;
        self.touch(Touched::Key(id));
        StoreError::unless_one(replaced)
    }

    /// Removes one credential whose grace has ended. The key keeps the time of its last use.
    pub fn delete_credential<'tx>(
        &'tx self,
        prefix: KeyPrefix,
        receipt: &AuditReceipt<'tx>,
    ) -> Result<(), StoreError> {
        let id = receipt.key()?;
        self.sql
            .prepare_cached(
                "INSERT INTO credential_usage (key_id, prefix, last_used_at_ms)
                 SELECT key_id, '', last_used_at_ms FROM credential_usage
                 WHERE key_id = ?1 AND prefix = ?2
                 ON CONFLICT (key_id, prefix) DO UPDATE
                 SET last_used_at_ms = max(last_used_at_ms, excluded.last_used_at_ms)",
            )?
            .execute(params![id, prefix])?;
        self.sql
            .prepare_cached("DELETE FROM credential_usage WHERE key_id = ?1 AND prefix = ?2")?
            .execute(params![id, prefix])?;
        let deleted = self
            .sql
            .prepare_cached(
                "DELETE FROM credentials
                 WHERE key_id = ?1 AND prefix = ?2 AND ended_at_ms IS NOT NULL",
            )?
            .execute(params![id, prefix])?;
        StoreError::unless_one(deleted)?;
        self.gone(prefix)
    }

    pub(super) fn insert_credential<'tx>(
        &'tx self,
        credential: &Credential,
        receipt: &AuditReceipt<'tx>,
    ) -> Result<(), StoreError> {
        let id = receipt.key()?;
        self.sql
            .prepare_cached(
                "INSERT INTO credentials (prefix, key_id, phc, issued_at_ms, valid_until_ms,
                                          audit_seq)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            )?
            .execute(params![
                credential.prefix,
                id,
                credential.hash,
                credential.issued_at,
                credential.valid_until,
                receipt.seq(),
            ])?;
        if ImportForm::of(credential.prefix).is_some() {
            self.sql
                .prepare_cached("INSERT INTO imported_values (prefix) VALUES (?1)")?
                .execute([credential.prefix])?;
        }
        self.touch(Touched::Key(id));
        Ok(())
    }
}
