//! The key index: what verification needs, in memory.
//!
//! A projection of the file, loaded at start and changed only by the writer, after a commit and
//! before anybody hears of it. Nothing fills it on demand, so nothing can refill it with something
//! stale: revoked means revoked because of this. Entries are immutable and swapped whole, so that
//! readers need no lock; what does change under them lives in [`RuntimeState`] and moves from one entry to
//! the next.

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicU8, Ordering},
    },
};

use papaya::HashMap;
use rusqlite::Connection;

use crate::{
    domain::{
        account::{Account, AccountStatus},
        id::{AccountId, KeyId},
        imported_key::ImportForm,
        key_hash::KeyHash,
        plaintext_key::KeyPrefix,
        scope::{Catalogue, ScopeBits, ScopeSet},
    },
    env::{Env, Monotonic, Timestamp},
    store::{KeyRecord, ReadTx, RuntimeState, StoreError, tx::Touched},
};

/// Later than any instant that can be written down.
const NEVER: i64 = i64::MAX;

#[derive(Debug)]
pub struct KeyIndex {
    env: Env,
    catalogue: Arc<Catalogue>,
    entries: HashMap<KeyPrefix, Arc<IndexedCredential>>,
    accounts: HashMap<AccountId, Arc<AccountEntry>>,
    /// A bit for each kind of imported values that there are, or were; see [`ImportForm`].
    foreign: AtomicU8,
    /// Scope sets that occur: many keys share few of them. Only writers look here.
    scope_sets: Mutex<HashSet<Arc<ScopeBits>>>,
}

/// One value of a key, as verification sees it. There may be a million: every byte counts, and one
/// allocation is less than two.
#[derive(Debug)]
pub struct IndexedCredential {
    pub prefix: KeyPrefix,
    pub hash: KeyHash,
    pub key: KeyEntry,
    /// Only for values that were presented since the start; the others need no room for it.
    live: OnceLock<Arc<RuntimeState>>,
    /// Boxed, for hardly any value is in grace.
    grace: Option<Box<Grace>>,
}

/// When a rotated value ends: by the wall clock or by the monotonic one, whichever is first, so
/// that a clock set back gives it no longer life.
#[derive(Clone, Copy, Debug)]
pub struct Grace {
    /// When the key was last rotated; an older value may have been replaced earlier.
    pub rotated_at: Option<Timestamp>,
    pub valid_until: Timestamp,
    ends: Monotonic,
    /// The end was recorded; no clock brings the value back.
    ended: bool,
}

/// What is common to all values of a key; hardly any has more than one.
#[derive(Clone, Debug)]
pub struct KeyEntry {
    pub id: KeyId,
    pub account: AccountId,
    pub enabled: bool,
    pub revoked: bool,
    /// Its expiry was recorded; no clock brings the key back.
    expired: bool,
    scopes: Arc<ScopeBits>,
    /// [`NEVER`] for a key without an end.
    expires_at_ms: i64,
    /// The name, and after it the metadata as compact JSON unless they are empty. Nothing for a
    /// revoked key.
    text: Box<str>,
    name_len: u16,
}

/// What [`KeyEntry`] is made of.
pub(super) struct KeyFacts<'a> {
    pub id: KeyId,
    pub account: AccountId,
    pub name: &'a str,
    pub scopes: Arc<ScopeBits>,
    pub enabled: bool,
    pub revoked: bool,
    pub expiry_recorded: bool,
    pub expires_at: Option<Timestamp>,
    /// Compact JSON; nothing for the empty object.
    pub metadata: &'a str,
}

/// What [`Grace`] is made of.
pub(super) struct GraceFacts {
    pub rotated_at: Option<Timestamp>,
    pub valid_until: Timestamp,
    pub ended: bool,
}

/// Whose keys they are.
#[derive(Debug)]
pub struct AccountEntry {
    pub id: AccountId,
    pub operator: bool,
    pub suspended: bool,
    pub external_id: Option<Box<str>>,
    /// Compact JSON; `None` for the empty object.
    pub metadata: Option<Arc<str>>,
}

/// A change to the index, prepared inside a transaction.
pub(super) enum Image {
    IndexedCredential(Arc<IndexedCredential>),
    NoEntry(KeyPrefix),
    Account(Arc<AccountEntry>),
    NoAccount(AccountId),
}

impl KeyIndex {
    pub(super) fn load(
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
    pub(super) fn check(
        conn: &Connection,
        env: &Env,
        catalogue: Arc<Catalogue>,
    ) -> Result<(), StoreError> {
        ReadTx::new(conn).for_each_account(|_| ())?;
        Self::empty(env, catalogue).load_keys(conn, &mut drop)
    }

    fn empty(env: &Env, catalogue: Arc<Catalogue>) -> Self {
        Self {
            env: env.clone(),
            catalogue,
            entries: HashMap::default(),
            accounts: HashMap::default(),
            foreign: AtomicU8::new(0),
            scope_sets: Mutex::default(),
        }
    }

    /// The value with this prefix. No lock, no disk.
    pub fn find(&self, prefix: KeyPrefix) -> Option<Arc<IndexedCredential>> {
        self.entries.pin().get(&prefix).cloned()
    }

    /// What `read` makes of the account. Taken where it lies: of an account with many keys, a count
    /// of its users would be in everybody's way.
    pub fn account<T>(&self, id: AccountId, read: impl FnOnce(&AccountEntry) -> T) -> Option<T> {
        self.accounts.pin().get(&id).map(|it| read(it))
    }

    /// As [`KeyIndex::find`], and looked at where it lies.
    pub fn look<T>(
        &self,
        prefix: KeyPrefix,
        read: impl FnOnce(&Arc<IndexedCredential>) -> T,
    ) -> Option<T> {
        self.entries.pin().get(&prefix).map(read)
    }

    /// Whether the grace of this value is over, by either clock. A current value has none.
    pub fn grace_is_over(&self, prefix: KeyPrefix) -> bool {
        let time = &self.env.time;
        let grace = self.find(prefix).and_then(|it| it.grace());
        grace.is_some_and(|it| it.is_over(time.now(), time.monotonic()))
    }

    /// Whether there may be values that were imported so.
    pub fn has_imported(&self, origin: ImportForm) -> bool {
        self.foreign.load(Ordering::Acquire) & 1 << origin as u8 != 0
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// How many values are known.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Reads, inside the transaction, what the index must say about `touched` after it.
    pub(super) fn image(
        &self,
        read: &ReadTx<'_>,
        touched: Touched,
        images: &mut Vec<Image>,
    ) -> Result<(), StoreError> {
        match touched {
            Touched::Key(id) => {
                if let Some(record) = read.key(id)? {
                    self.key_images(&record, images);
                }
            }
            Touched::Account(id) => {
                let account = read.account(id)?;
                images.push(account.map_or(Image::NoAccount(id), |it| account_image(&it)));
            }
            // Unless another change in the same batch took the prefix again: then it is a key's.
            Touched::Gone(prefix) => match read.key_with_prefix(prefix)? {
                Some(record) => self.key_images(&record, images),
                None => images.push(Image::NoEntry(prefix)),
            },
        }
        Ok(())
    }

    pub(super) fn apply(&self, images: Vec<Image>) {
        for image in images {
            self.apply_one(image);
        }
    }

    fn apply_one(&self, image: Image) {
        match image {
            Image::IndexedCredential(entry) => self.insert(entry),
            Image::NoEntry(prefix) => {
                self.entries.pin().remove(&prefix);
            }
            Image::Account(account) => {
                self.accounts.pin().insert(account.id, account);
            }
            Image::NoAccount(id) => {
                self.accounts.pin().remove(&id);
            }
        }
    }

    fn key_images(&self, record: &KeyRecord, images: &mut Vec<Image>) {
        let key = &record.key;
        let entry = KeyEntry::new(&KeyFacts {
            id: key.id,
            account: key.account_id,
            name: key.name.as_str(),
            scopes: self.shared_scopes(&key.scopes),
            enabled: key.enabled,
            revoked: key.revoked_at.is_some(),
            expiry_recorded: record.expiry_recorded_at.is_some(),
            expires_at: key.expires_at,
            metadata: if key.metadata.is_empty() { "" } else { key.metadata.as_json() },
        });
        for stored in &record.credentials {
            let credential = &stored.credential;
            let grace = credential.valid_until.map(|valid_until| GraceFacts {
                rotated_at: key.rotated_at,
                valid_until,
                ended: stored.ended_at.is_some(),
            });
            images.push(Image::IndexedCredential(self.entry(
                credential.prefix,
                credential.hash.clone(),
                entry.clone(),
                grace,
            )));
        }
    }

    /// What the index is to hold of a value, keeping what memory knows of it. Only a rotated value
    /// has a `grace`.
    pub(super) fn entry(
        &self,
        prefix: KeyPrefix,
        hash: KeyHash,
        key: KeyEntry,
        grace: Option<GraceFacts>,
    ) -> Arc<IndexedCredential> {
        let known = self.find(prefix);
        let live = known.as_ref().and_then(|it| it.live.get());
        let live = live.map_or_else(OnceLock::new, |it| OnceLock::from(Arc::clone(it)));
        let grace = grace.map(|GraceFacts { rotated_at, valid_until, ended }| {
            let left = valid_until.since(self.env.time.now());
            let ends = self.env.time.monotonic().after(left);
            // What was promised earlier by the monotonic clock stands.
            let promised = known.as_ref().and_then(|it| it.grace());
            let ends = promised.map_or(ends, |it| it.ends.min(ends));
            Box::new(Grace { rotated_at, valid_until, ends, ended })
        });
        Arc::new(IndexedCredential { prefix, hash, key, live, grace })
    }

    pub(super) fn insert(&self, entry: Arc<IndexedCredential>) {
        if let Some(origin) = ImportForm::of(entry.prefix) {
            self.foreign.fetch_or(1 << origin as u8, Ordering::Release);
        }
        self.entries.pin().insert(entry.prefix, entry);
    }

    pub(super) fn shared_scopes(&self, scopes: &ScopeSet) -> Arc<ScopeBits> {
        let bits = self.catalogue.bits(scopes);
        let mut sets = self.scope_sets.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = sets.get(&bits) {
            return Arc::clone(known);
        }
        let fresh = Arc::new(bits);
        sets.insert(Arc::clone(&fresh));
        fresh
    }
}

fn account_image(account: &Account) -> Image {
    Image::Account(Arc::new(AccountEntry {
        id: account.id,
        operator: account.is_operator(),
        suspended: account.status == AccountStatus::Suspended,
        external_id: account.external_id.as_ref().map(|it| it.as_str().into()),
        metadata: (!account.metadata.is_empty()).then(|| account.metadata.as_json().into()),
    }))
}

impl IndexedCredential {
    /// What changes without the writer; `None` until the secret was presented since the start.
    pub fn live(&self) -> Option<&RuntimeState> {
        self.live.get().map(|it| &**it)
    }

    /// Remembers the digest of the text that was proved to be this secret.
    pub fn remember_digest(&self, digest: [u8; 32]) {
        // A second digest of the same secret is the same digest.
        self.live.get_or_init(|| Arc::new(RuntimeState::new(digest)));
    }

    /// `None` for a key's current value.
    pub fn grace(&self) -> Option<Grace> {
        self.grace.as_deref().copied()
    }
}

impl KeyEntry {
    pub(super) fn new(facts: &KeyFacts<'_>) -> Self {
        // Verification never shows them of a revoked key, and those may be many. The file keeps them.
        let (name, metadata) = if facts.revoked { ("", "") } else { (facts.name, facts.metadata) };
        Self {
            id: facts.id,
            account: facts.account,
            enabled: facts.enabled,
            revoked: facts.revoked,
            expired: facts.expiry_recorded,
            scopes: Arc::clone(&facts.scopes),
            expires_at_ms: facts.expires_at.map_or(NEVER, Timestamp::as_millis),
            text: [name, metadata].concat().into(),
            // A name is at most 100 characters, so at most 400 bytes.
            name_len: u16::try_from(name.len()).unwrap_or_default(),
        }
    }

    /// What the key grants; `*` is still a bit among the others.
    pub fn scopes(&self) -> ScopeBits {
        *self.scopes
    }

    /// `None` means that the key never expires.
    pub fn expires_at(&self) -> Option<Timestamp> {
        (self.expires_at_ms != NEVER).then(|| Timestamp::from_millis(self.expires_at_ms))
    }

    /// Half open: expired at the very instant.
    pub fn is_expired_at(&self, now: Timestamp) -> bool {
        self.expired || self.expires_at_ms <= now.as_millis()
    }

    /// Empty for a revoked key.
    pub fn name(&self) -> &str {
        self.text.split_at_checked(usize::from(self.name_len)).map_or("", |(name, _)| name)
    }

    /// Compact JSON; `None` for the empty object, and for a revoked key.
    pub fn metadata(&self) -> Option<&str> {
        let (_, metadata) = self.text.split_at_checked(usize::from(self.name_len))?;
        (!metadata.is_empty()).then_some(metadata)
    }
}

impl Grace {
    /// Half open: over at the very instant of the deadline.
    pub fn is_over(self, now: Timestamp, monotonic: Monotonic) -> bool {
        self.ended || self.valid_until <= now || self.ends <= monotonic
    }
}
