//! The key index: what verification needs, in memory.
//!
//! A projection of the file, loaded at start and changed only by the writer, after a commit and
//! before anybody hears of it. Nothing fills it on demand, so nothing can refill it with something
//! stale: revoked means revoked because of this. Entries are immutable and swapped whole, so that
//! readers need no lock; what does change under them lives in [`RuntimeState`](crate::store::RuntimeState) and moves from one entry to
//! the next.

mod credential;
mod load;

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicU8, Ordering},
    },
};

use papaya::HashMap;

pub use self::credential::{Grace, IndexedCredential, KeyEntry};
use self::credential::{GraceFacts, KeyFacts};

use crate::{
    domain::{
        account::{Account, AccountStatus},
        id::AccountId,
        imported_key::ImportForm,
        key_hash::KeyHash,
        plaintext_key::KeyPrefix,
        scope::{Catalogue, ScopeBits, ScopeSet},
    },
    env::Env,
    store::{KeyRecord, ReadTx, StoreError, tx::Touched},
};

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
    fn entry(
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

    fn insert(&self, entry: Arc<IndexedCredential>) {
        if let Some(origin) = ImportForm::of(entry.prefix) {
            self.foreign.fetch_or(1 << origin as u8, Ordering::Release);
        }
        self.entries.pin().insert(entry.prefix, entry);
    }

    fn shared_scopes(&self, scopes: &ScopeSet) -> Arc<ScopeBits> {
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
