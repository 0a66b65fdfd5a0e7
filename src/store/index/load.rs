//! Reads into the index what it holds of keys: of all at the start, of one after a change.
//!
//! A start with a million keys must be fast. So this reads no more than the index holds, and reads
//! two tables side by side, each in the order of the file, instead of joining them.

use std::{collections::HashMap, sync::Arc};

use rusqlite::{Connection, Params, Rows, Statement};

use super::{GraceFacts, Image, IndexedCredential, KeyEntry, KeyIndex, account_image};
use crate::{
    domain::{
        id::{AccountId, KeyId},
        scope::{Catalogue, ScopeBits, ScopeSet},
    },
    env::{Env, Timestamp},
    store::{
        ReadTx, StoreError,
        records::{CREDENTIALS, KEYS},
        rows::{Columns, Fields},
    },
};

/// What the index reads of a credential.
const CREDENTIAL: &str = "key_id, prefix, phc, valid_until_ms, ended_at_ms";

/// The key whose credentials are being read.
struct OpenKey {
    id: String,
    entry: KeyEntry,
    rotated_at: Option<Timestamp>,
}

/// What was made of the last texts. Many keys share a few scope sets, and neighbours often share
/// the account.
#[derive(Default)]
struct Known {
    scopes: HashMap<String, Arc<ScopeBits>>,
    account: Option<(String, AccountId)>,
}

impl KeyIndex {
    /// Reads all keys and accounts of the file.
    pub(in crate::store) fn load(
        conn: &Connection,
        env: &Env,
        catalogue: Arc<Catalogue>,
    ) -> Result<Self, StoreError> {
        let index = Self::empty(env, catalogue);
        let read = ReadTx::new(conn);
        read.for_each_account(|it| index.apply_one(account_image(&it)))?;
        index.read_all(conn, &mut |it| index.insert(it))?;
        Ok(index)
    }

    /// Reads all that an index needs, and keeps none of it: beside a server with a million keys
    /// the memory may not hold as many once more.
    pub(in crate::store) fn check(
        conn: &Connection,
        env: &Env,
        catalogue: Arc<Catalogue>,
    ) -> Result<(), StoreError> {
        ReadTx::new(conn).for_each_account(|_| ())?;
        Self::empty(env, catalogue).read_all(conn, &mut drop)
    }

    /// Adds what the index holds of each credential of one key to `images`.
    pub(super) fn key_images(
        &self,
        read: &ReadTx<'_>,
        id: KeyId,
        images: &mut Vec<Image>,
    ) -> Result<(), StoreError> {
        let columns = KeyEntry::COLUMNS;
        let mut keys =
            read.sql.prepare_cached(&format!("SELECT {columns} FROM api_keys WHERE id = ?1"))?;
        let mut credentials = read
            .sql
            .prepare_cached(&format!("SELECT {CREDENTIAL} FROM credentials WHERE key_id = ?1"))?;
        let mut put = |it| images.push(Image::Credential(it));
        self.read_keys([&mut *keys, &mut *credentials], [id], &mut put)
    }

    fn read_all(
        &self,
        conn: &Connection,
        put: &mut dyn FnMut(Arc<IndexedCredential>),
    ) -> Result<(), StoreError> {
        let columns = KeyEntry::COLUMNS;
        let mut keys = conn.prepare(&format!("SELECT {columns} FROM api_keys ORDER BY id"))?;
        let mut credentials =
            conn.prepare(&format!("SELECT {CREDENTIAL} FROM credentials ORDER BY key_id, prefix"))?;
        self.read_keys([&mut keys, &mut credentials], [], put)
    }

    /// Reads keys and credentials side by side: two statements that go by the identifiers of keys.
    fn read_keys(
        &self,
        [keys, credentials]: [&mut Statement<'_>; 2],
        params: impl Params + Clone,
        put: &mut dyn FnMut(Arc<IndexedCredential>),
    ) -> Result<(), StoreError> {
        let columns = Columns::of(keys);
        let (mut keys, mut known) = (keys.query(params.clone())?, Known::default());
        let mut open: Option<OpenKey> = None;
        CREDENTIALS.each(credentials, params, |row| {
            let id = row.text("key_id")?;
            let key = match open.take() {
                Some(key) if key.id == id => key,
                Some(_) | None => self
                    .key_with(id, (&columns, &mut keys), &mut known)?
                    .ok_or_else(|| row.unreadable("key_id"))?,
            };
            put(self.credential_in(row, &key)?);
            open = Some(key);
            Ok(true)
        })
    }

    /// Reads on to the key with this identifier. The keys that it passes have no credential left.
    fn key_with(
        &self,
        id: &str,
        (columns, keys): (&Columns, &mut Rows<'_>),
        known: &mut Known,
    ) -> Result<Option<OpenKey>, StoreError> {
        while let Some(row) = columns.next(keys, KEYS.table)? {
            if row.text("id")? == id {
                let account = known.account(row)?;
                let scopes = known.scopes(row, self)?;
                let entry = KeyEntry::read(row, account, scopes)?;
                let rotated_at = row.get("rotated_at_ms")?;
                return Ok(Some(OpenKey { id: id.to_owned(), entry, rotated_at }));
            }
        }
        Ok(None)
    }

    fn credential_in(
        &self,
        row: Fields<'_>,
        key: &OpenKey,
    ) -> Result<Arc<IndexedCredential>, StoreError> {
        let (prefix, hash) = (row.get("prefix")?, row.get("phc")?);
        let deadline: Option<Timestamp> = row.get("valid_until_ms")?;
        let ended = row.get::<Option<Timestamp>>("ended_at_ms")?.is_some();
        let rotated_at = key.rotated_at;
        let grace = deadline.map(|valid_until| GraceFacts { rotated_at, valid_until, ended });
        Ok(self.entry(prefix, hash, key.entry.clone(), grace))
    }
}

impl Known {
    fn account(&mut self, row: Fields<'_>) -> Result<AccountId, StoreError> {
        let text = row.text("account_id")?;
        if let Some((known, id)) = &self.account
            && known == text
        {
            return Ok(*id);
        }
        let id = row.get("account_id")?;
        self.account = Some((text.to_owned(), id));
        Ok(id)
    }

    fn scopes(&mut self, row: Fields<'_>, index: &KeyIndex) -> Result<Arc<ScopeBits>, StoreError> {
        let text = row.text("scopes")?;
        if let Some(known) = self.scopes.get(text) {
            return Ok(Arc::clone(known));
        }
        let bits = index.shared_scopes(&row.get::<ScopeSet>("scopes")?);
        self.scopes.insert(text.to_owned(), Arc::clone(&bits));
        Ok(bits)
    }
}
