//! Statements about the values of keys: what rotation adds, retires and ends.

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
    store::{AuditReceipt, ReadTx, StoreError, WriteTx, accounts::account_id, tx::Touched},
};

/// An ended value that is one too many for its key.
#[derive(Clone, Copy, Debug)]
pub struct ExcessCredential {
    pub account: AccountId,
    pub key: KeyId,
    pub prefix: KeyPrefix,
}

impl ReadTx<'_> {
    /// Values whose grace no event has ended yet, the earliest deadline first. A revocation ended
    /// those of its key.
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
        let (deadline, prefix) = after.map_or((i64::MIN, String::new()), |(deadline, prefix)| {
            (deadline.as_millis(), prefix.as_str().to_owned())
        });
        let rows = statement.query_map(params![deadline, prefix, limit], |row| {
            Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?, row.get::<_, i64>(2)?))
        })?;
        rows.map(|row| {
            let (key, prefix, deadline) = row?;
            Ok((key_id(key)?, key_prefix(prefix)?, Timestamp::from_millis(deadline)))
        })
        .collect()
    }

    /// Ended values beyond the newest `kept` of their key. Reads every ended value in the file.
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
        let rows = statement.query_map([kept, limit], |row| {
            Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?, row.get::<_, String>(2)?))
        })?;
        rows.map(|row| {
            let (key, prefix, account) = row?;
            let (key, prefix) = (key_id(key)?, key_prefix(prefix)?);
            Ok(ExcessCredential { account: account_id(account)?, key, prefix })
        })
        .collect()
    }

    /// Whether this is a value of the key whose end was recorded.
    pub fn has_ended_credential(&self, key: KeyId, prefix: KeyPrefix) -> Result<bool, StoreError> {
        let mut statement = self.sql.prepare_cached(
            "SELECT 1 FROM credentials
             WHERE key_id = ?1 AND prefix = ?2 AND ended_at_ms IS NOT NULL",
        )?;
        Ok(statement.exists(params![key.to_string(), prefix.as_str()])?)
    }

    /// Returns whether this credential, unused until now, was made by a rotation that key `actor` asked for.
    pub fn was_made_by_rotation_of(
        &self,
        prefix: KeyPrefix,
        actor: KeyId,
    ) -> Result<bool, StoreError> {
        let mut statement = self.sql.prepare_cached(
            "SELECT 1 FROM credentials AS c JOIN events AS e ON e.seq = c.audit_seq
             WHERE c.prefix = ?1 AND e.type = 'api_key.rotated' AND e.actor = ?2",
        )?;
        Ok(statement.exists(params![prefix.as_str(), actor.to_string()])?)
    }

    /// Rotated values whose end was recorded before `cutoff`.
    pub fn purgeable_credentials(
        &self,
        cutoff: Timestamp,
        limit: u32,
    ) -> Result<Vec<(KeyId, KeyPrefix)>, StoreError> {
        let mut statement = self.sql.prepare_cached(
            "SELECT key_id, prefix FROM credentials WHERE ended_at_ms < ?1 LIMIT ?2",
        )?;
        let rows = statement.query_map(params![cutoff.as_millis(), limit], |row| {
            Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?))
        })?;
        rows.map(|row| {
            let (key, prefix) = row?;
            Ok((key_id(key)?, key_prefix(prefix)?))
        })
        .collect()
    }
}

impl WriteTx<'_> {
    /// Makes `fresh` the key's current value; the one before it stays valid until `deadline`.
    /// With a deadline that is now, its end needs no event of its own.
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
            .execute(params![
                receipt.key()?.to_string(),
                deadline.as_millis(),
                self.now().as_millis(),
                receipt.seq()
            ])?;
        StoreError::unless_one(retired)?;
        self.insert_credential(fresh, receipt)
    }

    /// Ends the grace of one value, now. Its deadline never moves away by this.
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
            .execute(params![
                id.to_string(),
                prefix.as_str(),
                self.now().as_millis(),
                receipt.seq()
            ])?;
        self.touch(Touched::Key(id));
        StoreError::unless_one(ended)
    }

    /// Stores a value under a stronger hash, if it still has the weaker one.
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
            .execute(params![
                id.to_string(),
                prefix.as_str(),
                from.encode(),
                to.encode(),
                receipt.seq()
            ])?;
        self.touch(Touched::Key(id));
        StoreError::unless_one(replaced)
    }

    /// Removes one value whose grace has ended. Its last use stays with the key.
    pub fn delete_credential<'tx>(
        &'tx self,
        prefix: KeyPrefix,
        receipt: &AuditReceipt<'tx>,
    ) -> Result<(), StoreError> {
        let id = receipt.key()?.to_string();
        self.sql
            .prepare_cached(
                "INSERT INTO credential_usage (key_id, prefix, last_used_at_ms)
                 SELECT key_id, '', last_used_at_ms FROM credential_usage
                 WHERE key_id = ?1 AND prefix = ?2
                 ON CONFLICT (key_id, prefix) DO UPDATE
                 SET last_used_at_ms = max(last_used_at_ms, excluded.last_used_at_ms)",
            )?
            .execute(params![id, prefix.as_str()])?;
        self.sql
            .prepare_cached("DELETE FROM credential_usage WHERE key_id = ?1 AND prefix = ?2")?
            .execute(params![id, prefix.as_str()])?;
        let deleted = self
            .sql
            .prepare_cached(
                "DELETE FROM credentials
                 WHERE key_id = ?1 AND prefix = ?2 AND ended_at_ms IS NOT NULL",
            )?
            .execute(params![id, prefix.as_str()])?;
        self.touch(Touched::Gone(prefix));
        StoreError::unless_one(deleted)
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
                credential.prefix.as_str(),
                id.to_string(),
                credential.hash.encode(),
                credential.issued_at.as_millis(),
                credential.valid_until.map(Timestamp::as_millis),
                receipt.seq(),
            ])?;
        if ImportForm::of(credential.prefix).is_some() {
            self.sql
                .prepare_cached("INSERT INTO imported_values (prefix) VALUES (?1)")?
                .execute([credential.prefix.as_str()])?;
        }
        self.touch(Touched::Key(id));
        Ok(())
    }
}

fn key_id(text: String) -> Result<KeyId, StoreError> {
    let unreadable = |row| StoreError::Corrupt { table: "api_keys", column: "id", row };
    KeyId::parse(&text).map_err(|_| unreadable(text))
}

pub(super) fn key_prefix(text: String) -> Result<KeyPrefix, StoreError> {
    let unreadable = |row| StoreError::Corrupt { table: "credentials", column: "prefix", row };
    KeyPrefix::from_stored(&text).ok_or_else(|| unreadable(text))
}
