//! Reads into the index what it holds of keys: of all at the start, of one after a change.
//!
//! A start with a million keys must be fast. So this reads no more than the index holds, and reads
//! two tables side by side, each in the order of the file, instead of joining them.

use std::{collections::HashMap, sync::Arc};

use rusqlite::{Connection, Params, Rows, Statement};

use super::{Image, KeyEntry, KeyIndex, credential::GraceFacts};
use crate::{
    domain::{
        id::{AccountId, KeyId},
        key_hash::KeyHash,
        plaintext_key::KeyPrefix,
        scope::{Catalogue, ScopeBits, ScopeSet},
    },
    env::{Env, Timestamp},
    store::{
        ReadTx, StoreError,
        rows::{Columns, Fields, Table},
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

/// A credential as it was read, with its key.
pub(super) struct ReadCredential {
    pub prefix: KeyPrefix,
    pub hash: KeyHash,
    pub key: KeyEntry,
    /// Only of a rotated credential.
    pub grace: Option<GraceFacts>,
}

/// What was made of the last texts. Many keys share a few scope sets, and neighbours often share
/// the account.
struct Known<'a> {
    share: &'a dyn Fn(&ScopeSet) -> Arc<ScopeBits>,
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
        index.rate_windows.load(&read, env.time.now())?;
        read.for_each_status_place(|place, state| index.status_places.set(place, state))?;
        read.for_each_account(|it| index.apply_one(index.account_image(&it)))?;
        read_all(conn, &|it| index.shared_scopes(it), &mut |it| index.insert(index.entry(it)))?;
        Ok(index)
    }

    /// Reads all that an index needs, and keeps none of it: beside a server with a million keys
    /// the memory may not hold as many once more.
    pub(in crate::store) fn check(conn: &Connection) -> Result<(), StoreError> {
        let read = ReadTx::new(conn);
        read.for_each_account(|_| ())?;
        read.for_each_status_place(|_, _| ())?;
        // A start takes keys with scopes that no catalogue has, so any catalogue will do.
        let catalogue = Catalogue::new([]);
        read_all(conn, &|it| Arc::new(catalogue.bits(it)), &mut drop)
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
        let share = |it: &ScopeSet| self.shared_scopes(it);
        let mut put = |it| images.push(Image::Credential(self.entry(it)));
        read_keys([&mut *keys, &mut *credentials], [id], Known::new(&share), &mut put)
    }
}

/// Gives every credential of the file to `put`; `share` finds the one copy of a scope set.
fn read_all(
    conn: &Connection,
    share: &dyn Fn(&ScopeSet) -> Arc<ScopeBits>,
    put: &mut dyn FnMut(ReadCredential),
) -> Result<(), StoreError> {
    let columns = KeyEntry::COLUMNS;
    let mut keys = conn.prepare(&format!("SELECT {columns} FROM api_keys ORDER BY id"))?;
    let mut credentials =
        conn.prepare(&format!("SELECT {CREDENTIAL} FROM credentials ORDER BY key_id, prefix"))?;
    read_keys([&mut keys, &mut credentials], [], Known::new(share), put)
}

/// Reads keys and credentials side by side: two statements in the order of the keys' identifiers.
fn read_keys(
    [keys, credentials]: [&mut Statement<'_>; 2],
    params: impl Params + Clone,
    mut known: Known<'_>,
    put: &mut dyn FnMut(ReadCredential),
) -> Result<(), StoreError> {
    let columns = Columns::of(keys);
    let mut keys = keys.query(params.clone())?;
    let mut open: Option<OpenKey> = None;
    Table::CREDENTIALS.each(credentials, params, |row| {
        let id = row.text("key_id")?;
        let key = match open.take() {
            Some(key) if key.id == id => key,
            Some(_) | None => open_key(id, &columns, &mut keys, &mut known)?
                .ok_or_else(|| row.unreadable("key_id"))?,
        };
        put(read_credential(row, &key)?);
        open = Some(key);
        Ok(true)
    })
}

/// Reads on to the key with this identifier. The keys that it passes have no credential left.
fn open_key(
    id: &str,
    columns: &Columns,
    keys: &mut Rows<'_>,
    known: &mut Known<'_>,
) -> Result<Option<OpenKey>, StoreError> {
    while let Some(row) = columns.next(keys, Table::KEYS)? {
        if row.text("id")? == id {
            let (account, scopes) = (known.account(row)?, known.scopes(row)?);
            let entry = KeyEntry::read(row, account, scopes)?;
            let rotated_at = row.get("rotated_at_ms")?;
            return Ok(Some(OpenKey { id: id.to_owned(), entry, rotated_at }));
        }
    }
    Ok(None)
}

fn read_credential(row: Fields<'_>, key: &OpenKey) -> Result<ReadCredential, StoreError> {
    let (prefix, hash) = (row.get("prefix")?, row.get("phc")?);
    let deadline: Option<Timestamp> = row.get("valid_until_ms")?;
    let ended = row.get::<Option<Timestamp>>("ended_at_ms")?.is_some();
    let rotated_at = key.rotated_at;
    let grace = deadline.map(|valid_until| GraceFacts { rotated_at, valid_until, ended });
    Ok(ReadCredential { prefix, hash, key: key.entry.clone(), grace })
}

impl<'a> Known<'a> {
    fn new(share: &'a dyn Fn(&ScopeSet) -> Arc<ScopeBits>) -> Self {
        Self { share, scopes: HashMap::new(), account: None }
    }

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

    fn scopes(&mut self, row: Fields<'_>) -> Result<Arc<ScopeBits>, StoreError> {
        let text = row.text("scopes")?;
        if let Some(known) = self.scopes.get(text) {
            return Ok(Arc::clone(known));
        }
        let bits = (self.share)(&row.get("scopes")?);
        self.scopes.insert(text.to_owned(), Arc::clone(&bits));
        Ok(bits)
    }
}
