//! Statements about API keys.

use rusqlite::{OptionalExtension, params};

use crate::{
    domain::{
        api_key::ApiKey,
        credential::Credential,
        event::Subject,
        id::{AccountId, KeyId},
        plaintext_key::KeyPrefix,
        scope::Scope,
    },
    env::Timestamp,
    store::{
        AuditReceipt, KeyRecord, ReadTx, StoreError, WriteTx,
        records::{KEYS, Selection},
        rows::Table,
        tx::Touched,
    },
};

impl ReadTx<'_> {
    /// Counts the keys of an account that its limit counts: neither revoked nor expired, and no console
    /// links.
    pub fn live_key_count(&self, account: AccountId, now: Timestamp) -> Result<u32, StoreError> {
        let mut statement = self.sql.prepare_cached(
            "SELECT (SELECT count(*) FROM api_keys INDEXED BY api_keys_by_end
                     WHERE account_id = ?1 AND revoked_at_ms IS NULL AND expires_at_ms IS NULL)
                  + (SELECT count(*) FROM api_keys INDEXED BY api_keys_by_end
                     WHERE account_id = ?1 AND revoked_at_ms IS NULL AND expires_at_ms > ?2)
                  - (SELECT count(*) FROM api_keys INDEXED BY api_keys_of_links
                     WHERE console_link = 1 AND account_id = ?1 AND expires_at_ms > ?2
                       AND revoked_at_ms IS NULL)",
        )?;
        Ok(statement.query_row(params![account, now], |row| row.get(0))?)
    }

    /// Returns whether a key of this account, or the account itself, has this scope.
    pub fn names_scope(&self, scope: &Scope, account: AccountId) -> Result<bool, StoreError> {
        let mut statement = self.sql.prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM api_keys
                            WHERE account_id = ?2 AND revoked_at_ms IS NULL
                              AND instr(' ' || scopes || ' ', ?1) > 0)
                 OR EXISTS (SELECT 1 FROM accounts WHERE id = ?2 AND deleted_at_ms IS NULL
                              AND instr(' ' || allowed_scopes || ' ', ?1) > 0)",
        )?;
        let padded = format!(" {} ", scope.as_str());
        Ok(statement.query_row(params![padded, account], |row| row.get(0))?)
    }

    /// Returns whether any key or account has this scope.
    ///
    /// Reads all of them, so only the operator may ask for it.
    pub fn names_scope_anywhere(&self, scope: &Scope) -> Result<bool, StoreError> {
        let mut statement = self.sql.prepare(
            "SELECT EXISTS (SELECT 1 FROM api_keys WHERE revoked_at_ms IS NULL
                              AND instr(' ' || scopes || ' ', ?1) > 0)
                 OR EXISTS (SELECT 1 FROM accounts WHERE deleted_at_ms IS NULL
                              AND instr(' ' || allowed_scopes || ' ', ?1) > 0)",
        )?;
        let padded = format!(" {} ", scope.as_str());
        Ok(statement.query_row([padded], |row| row.get(0))?)
    }

    /// Counts the stored keys of an account, revoked and expired ones included, without console links.
    pub fn stored_key_count(&self, account: AccountId) -> Result<u32, StoreError> {
        let mut statement = self.sql.prepare_cached(
            "SELECT stored - (SELECT count(*) FROM api_keys INDEXED BY api_keys_of_links
                              WHERE console_link = 1 AND account_id = ?1)
             FROM key_counts WHERE account_id = ?1",
        )?;
        let count = statement.query_row([account], |row| row.get(0)).optional()?;
        Ok(count.unwrap_or_default())
    }

    /// Returns when the first key of an account ended, revoked or expired by `now`, after `skipped`
    /// others. A key that expired before it was revoked ended when it expired.
    ///
    /// Reads all revoked keys of the account, so only a refusal asks this.
    pub fn nth_end(
        &self,
        account: AccountId,
        now: Timestamp,
        skipped: u32,
    ) -> Result<Option<Timestamp>, StoreError> {
        let mut statement = self.sql.prepare_cached(
            "SELECT min(revoked_at_ms, coalesce(expires_at_ms, revoked_at_ms))
             FROM api_keys INDEXED BY api_keys_by_end
             WHERE account_id = ?1 AND revoked_at_ms IS NOT NULL AND console_link = 0
             UNION ALL
             SELECT expires_at_ms FROM api_keys INDEXED BY api_keys_by_end
             WHERE account_id = ?1 AND revoked_at_ms IS NULL AND expires_at_ms <= ?2
               AND console_link = 0",
        )?;
        let ends = statement.query_map(params![account, now], |row| row.get::<_, Timestamp>(0))?;
        let mut ends = ends.collect::<Result<Vec<_>, _>>()?;
        let skipped = skipped as usize;
        let found = skipped < ends.len();
        Ok(found.then(|| *ends.select_nth_unstable(skipped).1))
    }

    /// Returns all keys of an account that are not revoked.
    pub fn unrevoked_keys(&self, account: AccountId) -> Result<Vec<KeyRecord>, StoreError> {
        self.records(&Selection {
            index: Some("api_keys_by_account"),
            filter: "k.account_id = ?1 AND k.revoked_at_ms IS NULL",
            order: "",
            params: &[&account],
        })
    }

    /// Returns the enabled, never-expiring keys of the operator account with the scope `*`.
    pub fn root_keys(&self, operator: AccountId) -> Result<Vec<KeyRecord>, StoreError> {
        self.records(&Selection {
            index: Some("api_keys_for_everything"),
            filter: "k.account_id = ?1 AND k.revoked_at_ms IS NULL AND k.enabled = 1
                     AND k.expires_at_ms IS NULL AND instr(' ' || k.scopes || ' ', ' * ') > 0",
            order: "",
            params: &[&operator],
        })
    }

    /// Returns the key that has or had a credential with this prefix.
    pub fn key_with_prefix(&self, prefix: KeyPrefix) -> Result<Option<KeyRecord>, StoreError> {
        let one = Selection {
            index: None,
            filter: "k.id = (SELECT key_id FROM credentials WHERE prefix = ?1)",
            order: "",
            params: &[&prefix],
        };
        Ok(self.records(&one)?.pop())
    }

    /// Returns the identifier of the key that has or had a credential with this prefix.
    pub(super) fn key_of(&self, prefix: KeyPrefix) -> Result<Option<KeyId>, StoreError> {
        let mut statement =
            self.sql.prepare_cached("SELECT key_id FROM credentials WHERE prefix = ?1")?;
        Table::CREDENTIALS.first(&mut statement, [prefix], |row| row.get("key_id"))
    }

    /// Returns keys that have expired by `now` and whose expiry has no event yet, the earliest first.
    pub fn unrecorded_expiries(
        &self,
        now: Timestamp,
        limit: u32,
    ) -> Result<Vec<KeyRecord>, StoreError> {
        self.records(&Selection {
            index: Some("api_keys_with_unrecorded_expiry"),
            filter: "k.expires_at_ms <= ?1 AND k.expiry_recorded_at_ms IS NULL
                     AND k.revoked_at_ms IS NULL",
            order: "ORDER BY k.expires_at_ms LIMIT ?2",
            params: &[&now, &limit],
        })
    }

    /// Returns keys that expire after `now` but not after `end`, and whose newest notice is `announced`.
    pub fn keys_to_announce(
        &self,
        announced: Option<u32>,
        (now, end): (Timestamp, Timestamp),
        limit: u32,
    ) -> Result<Vec<KeyRecord>, StoreError> {
        self.records(&Selection {
            index: Some("api_keys_by_notice"),
            filter: "k.announced_days IS ?1 AND k.expires_at_ms > ?2 AND k.expires_at_ms <= ?3
                     AND k.revoked_at_ms IS NULL",
            order: "ORDER BY k.expires_at_ms LIMIT ?4",
            params: &[&announced, &now, &end, &limit],
        })
    }

    /// Returns keys that expired or were revoked before `cutoff`, and console links that expired before
    /// `link_cutoff`.
    pub fn purgeable_keys(
        &self,
        cutoff: Timestamp,
        link_cutoff: Timestamp,
        limit: u32,
    ) -> Result<Vec<KeyRecord>, StoreError> {
        self.records(&Selection {
            index: None,
            // Limited inside, so that a batch does not collect all keys first.
            filter: "k.id IN (
                SELECT id FROM (SELECT id FROM api_keys WHERE revoked_at_ms < ?1 LIMIT ?2)
                UNION
                SELECT id FROM (SELECT id FROM api_keys WHERE expires_at_ms < ?1 LIMIT ?2)
                UNION
                SELECT id FROM (SELECT id FROM api_keys INDEXED BY api_keys_of_ended_links
                                WHERE console_link = 1 AND expires_at_ms < ?3 LIMIT ?2))",
            order: "LIMIT ?2",
            params: &[&cutoff, &limit, &link_cutoff],
        })
    }

    /// Returns the highest identifier in the file.
    pub(super) fn last_id(&self) -> Result<u128, StoreError> {
        let max = |sql| self.sql.query_row(sql, [], |row| row.get::<_, Option<String>>(0));
        let key = max("SELECT max(id) FROM api_keys")?;
        let account = max("SELECT max(id) FROM accounts")?;
        let key = key.and_then(|it| KeyId::parse(&it).ok()).map_or(0, KeyId::as_raw);
        let account =
            account.and_then(|it| AccountId::parse(&it).ok()).map_or(0, AccountId::as_raw);
        Ok(key.max(account))
    }
}

impl WriteTx<'_> {
    /// Adds a key and its first credential.
    pub fn insert_key<'tx>(
        &'tx self,
        key: &ApiKey,
        credential: &Credential,
        receipt: &AuditReceipt<'tx>,
    ) -> Result<(), StoreError> {
        KEYS.insert(self, &receipt.key()?, key, receipt.seq())?;
        self.insert_credential(credential, receipt)
    }

    /// Writes all changeable columns of the key as its next revision.
    pub fn update_key<'tx>(
        &'tx self,
        key: &ApiKey,
        receipt: &AuditReceipt<'tx>,
    ) -> Result<(), StoreError> {
        let id = receipt.key()?;
        self.touch(Touched::Key(id));
        KEYS.update(self, &id, key, receipt.seq())
    }

    /// Marks that the expiry of this key has its event. The revision stays, because no caller changed
    /// the key.
    pub fn mark_expiry_recorded<'tx>(
        &'tx self,
        receipt: &AuditReceipt<'tx>,
    ) -> Result<(), StoreError> {
        self.touch(Touched::Key(receipt.key()?));
        let marked = self
            .sql
            .prepare_cached(
                "UPDATE api_keys SET expiry_recorded_at_ms = ?2, audit_seq = ?3
                 WHERE id = ?1 AND expiry_recorded_at_ms IS NULL",
            )?
            .execute(params![receipt.key()?, self.now(), receipt.seq()])?;
        StoreError::unless_one(marked)
    }

    /// Marks that the expiry of this key was announced this many days before. The revision stays, because
    /// no caller changed the key.
    pub fn mark_announced<'tx>(
        &'tx self,
        days: u32,
        receipt: &AuditReceipt<'tx>,
    ) -> Result<(), StoreError> {
        let marked = self
            .sql
            .prepare_cached(
                "UPDATE api_keys SET announced_days = ?2, audit_seq = ?3 WHERE id = ?1",
            )?
            .execute(params![receipt.key()?, days, receipt.seq()])?;
        StoreError::unless_one(marked)
    }

    /// Removes the key with all its credentials.
    pub fn delete_key<'tx>(&'tx self, receipt: &AuditReceipt<'tx>) -> Result<(), StoreError> {
        let id = receipt.key()?;
        let mut values =
            self.sql.prepare_cached("SELECT prefix FROM credentials WHERE key_id = ?1")?;
        Table::CREDENTIALS.each(&mut values, [id], |row| {
            self.gone(row.get("prefix")?)?;
            Ok(true)
        })?;
        self.delete_rate_window(Subject::Key(id))?;
        let deleted =
            self.sql.prepare_cached("DELETE FROM api_keys WHERE id = ?1")?.execute([id])?;
        StoreError::unless_one(deleted)
    }
}
