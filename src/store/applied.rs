//! What `keyward apply` made, which is what it may remove. Not audited: the events of the accounts and keys
//! themselves say who made them.

use rusqlite::params;

use crate::{
    domain::{
        id::{AccountId, KeyId},
        plaintext_key::KeyPrefix,
    },
    store::{ReadTx, StoreError, WriteTx, rows::Table},
};

const APPLIED_ACCOUNTS: Table = Table { name: "applied_accounts", key: "account_id" };
const APPLIED_KEYS: Table = Table { name: "applied_keys", key: "prefix" };

impl WriteTx<'_> {
    /// Remembers that a file made or resumed this account.
    pub fn remember_applied_account(&self, id: AccountId) -> Result<(), StoreError> {
        self.sql
            .prepare_cached(
                "INSERT INTO applied_accounts (account_id) VALUES (?1) ON CONFLICT DO NOTHING",
            )?
            .execute([id])?;
        Ok(())
    }

    /// Forgets that a file made or resumed this account, so that no later `apply --prune` suspends it.
    pub fn forget_applied_account(&self, id: AccountId) -> Result<(), StoreError> {
        self.sql
            .prepare_cached("DELETE FROM applied_accounts WHERE account_id = ?1")?
            .execute([id])?;
        Ok(())
    }

    /// Remembers that a file made this key. `prefix` is that of the digest in the file.
    pub fn remember_applied_key(&self, prefix: KeyPrefix, id: KeyId) -> Result<(), StoreError> {
        self.sql
            .prepare_cached("INSERT INTO applied_keys (prefix, key_id) VALUES (?1, ?2)")?
            .execute(params![prefix, id])?;
        Ok(())
    }
}

impl ReadTx<'_> {
    /// Returns the accounts that a file made or resumed, by age.
    pub fn applied_accounts(&self) -> Result<Vec<AccountId>, StoreError> {
        let mut statement = self
            .sql
            .prepare_cached("SELECT account_id FROM applied_accounts ORDER BY account_id")?;
        APPLIED_ACCOUNTS.all(&mut statement, [], |row| row.get("account_id"))
    }

    /// Returns the keys that a file made and that the database still has, by age.
    pub fn applied_keys(&self) -> Result<Vec<KeyId>, StoreError> {
        let mut statement =
            self.sql.prepare_cached("SELECT key_id FROM applied_keys ORDER BY key_id")?;
        APPLIED_KEYS.all(&mut statement, [], |row| row.get("key_id"))
    }

    /// Returns the key that a file made from the digest with this prefix, also after its rotation.
    pub fn applied_key(&self, prefix: KeyPrefix) -> Result<Option<KeyId>, StoreError> {
        let mut statement =
            self.sql.prepare_cached("SELECT key_id FROM applied_keys WHERE prefix = ?1")?;
        APPLIED_KEYS.first(&mut statement, [prefix], |row| row.get("key_id"))
    }
}
