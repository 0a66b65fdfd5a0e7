//! Statements about API keys and their credentials.

use rusqlite::{OptionalExtension, ToSql, params};

use crate::{
    domain::{
        api_key::{ApiKey, KeyStatus},
        credential::Credential,
        id::{AccountId, KeyId},
        plaintext_key::KeyPrefix,
        scope::Scope,
    },
    env::Timestamp,
    store::{
        AuditReceipt, KeyRecord, ReadTx, StoreError, WriteTx, credentials::key_prefix,
        records::Selection, tx::Touched,
    },
};

/// Which keys to list. Tombstones never are.
#[derive(Clone, Debug, Default)]
pub struct KeyFilter {
    pub status: Option<KeyStatus>,
    pub scope: Option<Scope>,
    /// Made before this instant and not used since.
    pub unused_since: Option<Timestamp>,
    pub expiring_before: Option<Timestamp>,
    /// Part of the name, whatever its case, or the beginning of one of its prefixes.
    pub text: Option<String>,
}

/// Where a page begins, and how long it is.
#[derive(Clone, Copy, Debug)]
pub struct KeyPage {
    pub after: Option<(Timestamp, KeyId)>,
    pub limit: u32,
}

impl ReadTx<'_> {
    /// The keys of an account by age, as they stand at `now`.
    pub fn keys_of(
        &self,
        account: AccountId,
        filter: &KeyFilter,
        page: KeyPage,
        now: Timestamp,
    ) -> Result<Vec<KeyRecord>, StoreError> {
        let mut conditions = vec!["k.account_id = ? AND k.revoked_at_ms IS NULL"];
        let mut values: Vec<Box<dyn ToSql>> = vec![Box::new(account.to_string())];
        let mut add = |condition, given: Vec<Box<dyn ToSql>>| {
            conditions.push(condition);
            values.extend(given);
        };
        if let Some((created_at, id)) = page.after {
            let last: Vec<Box<dyn ToSql>> =
                vec![Box::new(created_at.as_millis()), Box::new(id.to_string())];
            add("(k.created_at_ms, k.id) > (?, ?)", last);
        }
        if let Some(scope) = &filter.scope {
            let padded = format!(" {} ", scope.as_str());
            add("instr(' ' || k.scopes || ' ', ?) > 0", vec![Box::new(padded)]);
        }
        if let Some(before) = filter.expiring_before {
            add("k.expires_at_ms < ?", vec![Box::new(before.as_millis())]);
        }
        if let Some(since) = filter.unused_since {
            let since = since.as_millis();
            let unused = "k.created_at_ms < ? AND NOT EXISTS (
                 SELECT 1 FROM credential_usage AS u
                 WHERE u.key_id = k.id AND u.last_used_at_ms >= ?)";
            add(unused, vec![Box::new(since), Box::new(since)]);
        }
        if let Some(text) = &filter.text {
            let found = "(instr(folded(k.name), folded(?)) > 0 OR EXISTS (
                 SELECT 1 FROM credentials AS c WHERE c.key_id = k.id AND instr(c.prefix, ?) = 1))";
            add(found, vec![Box::new(text.clone()), Box::new(text.clone())]);
        }
        let (now_ms, soon) = (now.as_millis(), now.after(ApiKey::EXPIRING).as_millis());
        match filter.status {
            None => (),
            Some(KeyStatus::Disabled) => add("k.enabled = 0", vec![]),
            Some(KeyStatus::Expired) => {
                add("k.enabled = 1 AND k.expires_at_ms <= ?", vec![Box::new(now_ms)]);
            }
            Some(KeyStatus::Expiring) => {
                let within = "k.enabled = 1 AND k.expires_at_ms > ? AND k.expires_at_ms < ?";
                add(within, vec![Box::new(now_ms), Box::new(soon)]);
            }
            Some(KeyStatus::Active) => {
                let later = "k.enabled = 1 AND coalesce(k.expires_at_ms >= ?, 1)";
                add(later, vec![Box::new(soon)]);
            }
        }
        values.push(Box::new(page.limit));
        let params: Vec<&dyn ToSql> = values.iter().map(|it| &**it).collect();
        self.records(&Selection {
            index: Some("api_keys_by_account"),
            filter: &conditions.join(" AND "),
            order: "ORDER BY k.created_at_ms, k.id LIMIT ?",
            params: &params,
        })
    }

    /// Keys of an account that count towards its limit: neither revoked nor expired.
    pub fn live_key_count(&self, account: AccountId, now: Timestamp) -> Result<u32, StoreError> {
        let mut statement = self.sql.prepare_cached(
            "SELECT (SELECT count(*) FROM api_keys INDEXED BY api_keys_by_end
                     WHERE account_id = ?1 AND revoked_at_ms IS NULL AND expires_at_ms IS NULL)
                  + (SELECT count(*) FROM api_keys INDEXED BY api_keys_by_end
                     WHERE account_id = ?1 AND revoked_at_ms IS NULL AND expires_at_ms > ?2)",
        )?;
        Ok(statement.query_row(params![account.to_string(), now.as_millis()], |row| row.get(0))?)
    }

    /// Whether an enabled key of this account works at `limit` and after it.
    pub fn has_key_beyond(&self, account: AccountId, limit: Timestamp) -> Result<bool, StoreError> {
        let mut statement = self.sql.prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM api_keys
             WHERE account_id = ?1 AND revoked_at_ms IS NULL AND enabled = 1
               AND coalesce(expires_at_ms > ?2, 1))",
        )?;
        Ok(statement
            .query_row(params![account.to_string(), limit.as_millis()], |row| row.get(0))?)
    }

    /// Whether a key of this account, or the account itself, still names this scope.
    pub fn names_scope(&self, scope: &Scope, account: AccountId) -> Result<bool, StoreError> {
        let mut statement = self.sql.prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM api_keys
                            WHERE account_id = ?2 AND revoked_at_ms IS NULL
                              AND instr(' ' || scopes || ' ', ?1) > 0)
                 OR EXISTS (SELECT 1 FROM accounts WHERE id = ?2 AND deleted_at_ms IS NULL
                              AND instr(' ' || allowed_scopes || ' ', ?1) > 0)",
        )?;
        let padded = format!(" {} ", scope.as_str());
        Ok(statement.query_row(params![padded, account.to_string()], |row| row.get(0))?)
    }

    /// Whether any key or account still names this scope.
    ///
    /// Reads all of them, so only the operator may ask this, about a scope that the catalogue lacks.
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

    /// How many keys of an account are stored, revoked and expired ones included.
    pub fn stored_key_count(&self, account: AccountId) -> Result<u32, StoreError> {
        let mut statement =
            self.sql.prepare_cached("SELECT stored FROM key_counts WHERE account_id = ?1")?;
        let count = statement.query_row([account.to_string()], |row| row.get(0)).optional()?;
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
             WHERE account_id = ?1 AND revoked_at_ms IS NOT NULL
             UNION ALL
             SELECT expires_at_ms FROM api_keys INDEXED BY api_keys_by_end
             WHERE account_id = ?1 AND revoked_at_ms IS NULL AND expires_at_ms <= ?2",
        )?;
        let ends = statement
            .query_map(params![account.to_string(), now.as_millis()], |row| row.get::<_, i64>(0))?;
        let mut ends = ends.collect::<Result<Vec<_>, _>>()?;
        let skipped = skipped as usize;
        let found = skipped < ends.len();
        Ok(found.then(|| Timestamp::from_millis(*ends.select_nth_unstable(skipped).1)))
    }

    /// Keys of an account that are not revoked; all of them, with no page to them.
    pub fn standing_keys(&self, account: AccountId) -> Result<Vec<KeyRecord>, StoreError> {
        let account = account.to_string();
        self.records(&Selection {
            index: Some("api_keys_by_account"),
            filter: "k.account_id = ?1 AND k.revoked_at_ms IS NULL",
            order: "",
            params: &[&account],
        })
    }

    /// Enabled, never-expiring keys that may do everything.
    pub fn root_keys(&self, operator: AccountId) -> Result<Vec<KeyRecord>, StoreError> {
        let operator = operator.to_string();
        self.records(&Selection {
            index: Some("api_keys_for_everything"),
            filter: "k.account_id = ?1 AND k.revoked_at_ms IS NULL AND k.enabled = 1
                     AND k.expires_at_ms IS NULL AND instr(' ' || k.scopes || ' ', ' * ') > 0",
            order: "",
            params: &[&operator],
        })
    }

    /// The key that `prefix` is or was a value of.
    pub fn key_with_prefix(&self, prefix: KeyPrefix) -> Result<Option<KeyRecord>, StoreError> {
        let prefix = prefix.as_str();
        let one = Selection {
            index: None,
            filter: "k.id = (SELECT key_id FROM credentials WHERE prefix = ?1)",
            order: "",
            params: &[&prefix],
        };
        Ok(self.records(&one)?.pop())
    }

    /// Keys that have expired by `now` without an event saying so, the oldest first.
    pub fn unrecorded_expiries(
        &self,
        now: Timestamp,
        limit: u32,
    ) -> Result<Vec<KeyRecord>, StoreError> {
        let now = now.as_millis();
        self.records(&Selection {
            index: Some("api_keys_with_unrecorded_expiry"),
            filter: "k.expires_at_ms <= ?1 AND k.expiry_recorded_at_ms IS NULL
                     AND k.revoked_at_ms IS NULL",
            order: "ORDER BY k.expires_at_ms LIMIT ?2",
            params: &[&now, &limit],
        })
    }

    /// Keys that have been dead, by expiry or revocation, since before `cutoff`.
    pub fn purgeable_keys(
        &self,
        cutoff: Timestamp,
        limit: u32,
    ) -> Result<Vec<KeyRecord>, StoreError> {
        let cutoff = cutoff.as_millis();
        self.records(&Selection {
            index: None,
            // Limited inside, or every batch would gather all that there are.
            filter: "k.id IN (
                SELECT id FROM (SELECT id FROM api_keys WHERE revoked_at_ms < ?1 LIMIT ?2)
                UNION
                SELECT id FROM (SELECT id FROM api_keys WHERE expires_at_ms < ?1 LIMIT ?2))",
            order: "LIMIT ?2",
            params: &[&cutoff, &limit],
        })
    }

    /// The highest identifier ever given that is still in the file.
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
    pub fn insert_key<'tx>(
        &'tx self,
        key: &ApiKey,
        credential: &Credential,
        receipt: &AuditReceipt<'tx>,
    ) -> Result<(), StoreError> {
        self.sql
            .prepare_cached(
                "INSERT INTO api_keys (id, account_id, name, scopes, enabled, expires_at_ms,
                                       metadata, created_at_ms, created_by, updated_at_ms,
                                       revision, audit_seq)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
            )?
            .execute(params![
                receipt.key()?.to_string(),
                key.account_id.to_string(),
                key.name.as_str(),
                key.scopes.to_string(),
                key.enabled,
                key.expires_at.map(Timestamp::as_millis),
                key.metadata.as_json(),
                key.created_at.as_millis(),
                key.created_by.map(|it| it.to_string()),
                key.updated_at.as_millis(),
                key.revision,
                receipt.seq(),
            ])?;
        self.insert_credential(credential, receipt)
    }

    /// Writes everything about the key that can change, as the next revision.
    pub fn update_key<'tx>(
        &'tx self,
        key: &ApiKey,
        receipt: &AuditReceipt<'tx>,
    ) -> Result<(), StoreError> {
        let id = receipt.key()?;
        let changed = self
            .sql
            .prepare_cached(
                "UPDATE api_keys
                 SET name = ?2, scopes = ?3, enabled = ?4, expires_at_ms = ?5, metadata = ?6,
                     updated_at_ms = ?7, rotated_at_ms = ?8, revoked_at_ms = ?9,
                     revision = revision + 1, audit_seq = ?10
                 WHERE id = ?1",
            )?
            .execute(params![
                id.to_string(),
                key.name.as_str(),
                key.scopes.to_string(),
                key.enabled,
                key.expires_at.map(Timestamp::as_millis),
                key.metadata.as_json(),
                self.now().as_millis(),
                key.rotated_at.map(Timestamp::as_millis),
                key.revoked_at.map(Timestamp::as_millis),
                receipt.seq(),
            ])?;
        self.touch(Touched::Key(id));
        StoreError::unless_one(changed)
    }

    /// Remembers that the expiry of this key has its event. Its revision stays: nobody changed it.
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
            .execute(params![receipt.key()?.to_string(), self.now().as_millis(), receipt.seq()])?;
        StoreError::unless_one(marked)
    }

    /// Removes the key and, with it, every value it had.
    pub fn delete_key<'tx>(&'tx self, receipt: &AuditReceipt<'tx>) -> Result<(), StoreError> {
        let id = receipt.key()?.to_string();
        let mut values =
            self.sql.prepare_cached("SELECT prefix FROM credentials WHERE key_id = ?1")?;
        for prefix in values.query_map([&id], |row| row.get::<_, String>(0))? {
            self.touch(Touched::Gone(key_prefix(prefix?)?));
        }
        let deleted =
            self.sql.prepare_cached("DELETE FROM api_keys WHERE id = ?1")?.execute([&id])?;
        StoreError::unless_one(deleted)
    }
}
