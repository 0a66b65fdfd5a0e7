//! Reading every key into the index, at the start.
//!
//! A million keys must not keep anybody waiting, so this reads no more than the index keeps, and
//! two tables side by side, each in the order in which the file holds it, instead of joining them.

use std::{collections::HashMap, sync::Arc};

use rusqlite::{Connection, Row, Rows};

use super::{GraceFacts, KeyFacts, account_image};
use crate::{
    domain::{
        id::{AccountId, KeyId},
        key_hash::KeyHash,
        plaintext_key::KeyPrefix,
        scope::{Catalogue, ScopeBits, ScopeSet},
    },
    env::{Env, Timestamp},
    store::{
        IndexedCredential, KeyEntry, KeyIndex, ReadTx, StoreError,
        records::{instant, unreadable},
    },
};

const KEYS: &str = "
    SELECT id, account_id, name, scopes, enabled, expires_at_ms, metadata, revoked_at_ms,
           expiry_recorded_at_ms
    FROM api_keys ORDER BY id";
const VALUES: &str = "
    SELECT key_id, prefix, phc, valid_until_ms, ended_at_ms,
           CASE WHEN valid_until_ms IS NOT NULL
                THEN (SELECT rotated_at_ms FROM api_keys WHERE id = key_id) END
    FROM credentials ORDER BY key_id, prefix";

/// Many keys share few of these, and neighbours often the account.
#[derive(Default)]
struct Known {
    scopes: HashMap<String, Arc<ScopeBits>>,
    account: Option<(String, AccountId)>,
}

impl KeyIndex {
    pub(in crate::store) fn load(
        conn: &Connection,
        env: &Env,
        catalogue: Arc<Catalogue>,
    ) -> Result<Self, StoreError> {
        let index = Self::empty(env, catalogue);
        let read = ReadTx::new(conn);
        read.for_each_account(|it| index.apply_one(account_image(&it)))?;
        index.load_keys(conn, &mut |entry| index.insert(entry))?;
        Ok(index)
    }

    /// Whether all that an index needs can be read. Keeps none of it: beside a server with a million
    /// keys there may be no room for as many once more.
    pub(in crate::store) fn check(
        conn: &Connection,
        env: &Env,
        catalogue: Arc<Catalogue>,
    ) -> Result<(), StoreError> {
        ReadTx::new(conn).for_each_account(|_| ())?;
        Self::empty(env, catalogue).load_keys(conn, &mut drop)
    }

    /// Makes of every value of every key what an index that is still empty is to hold of it.
    fn load_keys(
        &self,
        conn: &Connection,
        put: &mut dyn FnMut(Arc<IndexedCredential>),
    ) -> Result<(), StoreError> {
        let mut known = Known::default();
        let (mut keys, mut values) = (conn.prepare(KEYS)?, conn.prepare(VALUES)?);
        let (mut keys, mut values) = (keys.query([])?, values.query([])?);
        let mut key: Option<(String, KeyEntry)> = None;
        while let Some(row) = values.next()? {
            let id = text(row, 0)?;
            if key.as_ref().is_none_or(|(it, _)| it != id) {
                key = Some(self.key_with(id, &mut keys, &mut known)?);
            }
            if let Some((_, key)) = &key {
                put(self.credential_in(row, key.clone())?);
            }
        }
        Ok(())
    }

    /// Reads on to the key with this identifier. Keys between have no value left.
    fn key_with(
        &self,
        id: &str,
        keys: &mut Rows<'_>,
        known: &mut Known,
    ) -> Result<(String, KeyEntry), StoreError> {
        while let Some(row) = keys.next()? {
            if text(row, 0)? == id {
                return Ok((id.to_owned(), self.key_in(row, id, known)?));
            }
        }
        // A value without a key: the file's own rules forbid it.
        Err(unreadable("id", id.to_owned()))
    }

    fn key_in(&self, row: &Row<'_>, id: &str, known: &mut Known) -> Result<KeyEntry, StoreError> {
        let bad = |column| unreadable(column, id.to_owned());
        let metadata = text(row, 6)?;
        Ok(KeyEntry::new(&KeyFacts {
            id: KeyId::parse(id).map_err(|_| bad("id"))?,
            account: known.account(text(row, 1)?).ok_or_else(|| bad("account_id"))?,
            name: text(row, 2)?,
            scopes: known.scopes(text(row, 3)?, self).ok_or_else(|| bad("scopes"))?,
            enabled: row.get(4)?,
            expires_at: instant(row, 5)?,
            metadata: if metadata == "{}" { "" } else { metadata },
            revoked: instant(row, 7)?.is_some(),
            expiry_recorded: instant(row, 8)?.is_some(),
        }))
    }

    fn credential_in(
        &self,
        row: &Row<'_>,
        key: KeyEntry,
    ) -> Result<Arc<IndexedCredential>, StoreError> {
        let bad = |column, row: &str| StoreError::Corrupt {
            table: "credentials",
            column,
            row: row.to_owned(),
        };
        let prefix = text(row, 1)?;
        let hash = KeyHash::decode(text(row, 2)?).ok_or_else(|| bad("phc", prefix))?;
        let prefix = KeyPrefix::from_stored(prefix).ok_or_else(|| bad("prefix", prefix))?;
        let deadline: Option<Timestamp> = instant(row, 3)?;
        let (ended, rotated_at) = (instant(row, 4)?.is_some(), instant(row, 5)?);
        let end = deadline.map(|valid_until| GraceFacts { rotated_at, valid_until, ended });
        Ok(self.entry(prefix, hash, key, end))
    }
}

impl Known {
    fn account(&mut self, text: &str) -> Option<AccountId> {
        if let Some((known, id)) = &self.account
            && known == text
        {
            return Some(*id);
        }
        let id = AccountId::parse(text).ok()?;
        self.account = Some((text.to_owned(), id));
        Some(id)
    }

    fn scopes(&mut self, text: &str, index: &KeyIndex) -> Option<Arc<ScopeBits>> {
        if let Some(known) = self.scopes.get(text) {
            return Some(Arc::clone(known));
        }
        let bits = index.shared_scopes(&ScopeSet::from_stored(text)?);
        self.scopes.insert(text.to_owned(), Arc::clone(&bits));
        Some(bits)
    }
}

/// A column of the row as it lies there, without a copy.
fn text<'row>(row: &'row Row<'_>, column: usize) -> Result<&'row str, StoreError> {
    Ok(row.get_ref(column)?.as_str().map_err(rusqlite::Error::from)?)
}
