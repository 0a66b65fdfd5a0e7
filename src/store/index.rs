//! The key index: what verification needs, in memory.
//!
//! A projection of the file, loaded at start and changed only by the writer, after a commit and
//! before anybody hears of it. Nothing fills it on demand, so nothing can refill it with something
//! stale: revoked means revoked because of this. Entries are immutable and swapped whole, so that
//! readers need no lock; what does change under them (the proof of a secret, the last use) lives
//! in [`Live`] and moves from one entry to the next.

use std::sync::{
    Arc, Mutex, OnceLock,
    atomic::{AtomicBool, AtomicI64, Ordering},
};

use papaya::HashMap;
use rusqlite::Connection;

use crate::{
    domain::{
        account::{Account, AccountStatus},
        credential::KeyPrefix,
        id::{AccountId, KeyId},
        key_hash::KeyHash,
        scope::{Catalogue, ScopeBits},
    },
    env::{Env, Monotonic, Timestamp},
    store::{KeyRecord, ReadTx, StoreError, records::Selection, tx::Touched},
};

#[derive(Debug)]
pub struct KeyIndex {
    env: Env,
    catalogue: Arc<Catalogue>,
    entries: HashMap<KeyPrefix, Arc<Entry>>,
    accounts: HashMap<AccountId, Arc<AccountEntry>>,
}

/// One value of a key, as verification sees it.
#[derive(Debug)]
pub struct Entry {
    pub prefix: KeyPrefix,
    pub hash: KeyHash,
    pub grace: Option<Grace>,
    pub key: Arc<KeyEntry>,
    pub live: Arc<Live>,
}

/// When a rotated value ends: by the wall clock or by the monotonic one, whichever is first, so
/// that a clock set back gives it no longer life.
#[derive(Clone, Copy, Debug)]
pub struct Grace {
    valid_until: Timestamp,
    ends: Monotonic,
    /// The end was recorded; no clock brings the value back.
    ended: bool,
}

/// What is common to all values of a key.
#[derive(Debug)]
pub struct KeyEntry {
    pub id: KeyId,
    pub account: AccountId,
    /// What the key grants; `*` is still a bit among the others.
    pub scopes: ScopeBits,
    pub expires_at: Option<Timestamp>,
    pub enabled: bool,
    pub revoked: bool,
    pub name: Box<str>,
    /// Compact JSON; `None` for the empty object.
    pub metadata: Option<Box<str>>,
}

/// Whose keys they are.
#[derive(Debug)]
pub struct AccountEntry {
    pub id: AccountId,
    pub operator: bool,
    pub suspended: bool,
    pub external_id: Option<Box<str>>,
}

/// What changes under an entry without the writer.
#[derive(Debug)]
pub struct Live {
    /// A keyed digest of the secret, once it was proved: a fact that no change can make untrue.
    proof: OnceLock<[u8; 32]>,
    /// Held while the slow proof runs, so that concurrent first uses share one.
    pub proving: Mutex<()>,
    last_used_ms: AtomicI64,
    queued: AtomicBool,
}

/// A change to the index, prepared inside a transaction.
pub(super) enum Image {
    Entry(Arc<Entry>),
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
        let index = Self {
            env: env.clone(),
            catalogue,
            entries: HashMap::default(),
            accounts: HashMap::default(),
        };
        let read = ReadTx::new(conn);
        read.for_each_account(|it| index.apply_one(account_image(&it)))?;
        let all = Selection { filter: "1 = 1", order: "", params: &[] };
        read.for_each_record(&all, |record| {
            let mut images = Vec::with_capacity(1);
            index.key_images(&record, &mut images);
            index.apply(images);
        })?;
        Ok(index)
    }

    /// The value with this prefix. No lock, no disk.
    pub fn find(&self, prefix: KeyPrefix) -> Option<Arc<Entry>> {
        self.entries.pin().get(&prefix).cloned()
    }

    pub fn account(&self, id: AccountId) -> Option<Arc<AccountEntry>> {
        self.accounts.pin().get(&id).cloned()
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
            Image::Entry(entry) => {
                self.entries.pin().insert(entry.prefix, entry);
            }
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
        let shared = Arc::new(KeyEntry {
            id: key.id,
            account: key.account_id,
            scopes: self.catalogue.bits(&key.scopes),
            expires_at: key.expires_at,
            enabled: key.enabled,
            revoked: key.revoked_at.is_some(),
            name: key.name.as_str().into(),
            metadata: (!key.metadata.is_empty()).then(|| key.metadata.as_json().into()),
        });
        for stored in &record.credentials {
            let credential = &stored.credential;
            let known = self.find(credential.prefix);
            let live = known.as_ref().map_or_else(
                || Arc::new(Live::new(stored.last_used_at)),
                |it| Arc::clone(&it.live),
            );
            let grace = credential.valid_until.map(|valid_until| {
                let fresh = Grace {
                    valid_until,
                    ends: self.env.time.monotonic().after(valid_until.since(self.env.time.now())),
                    ended: stored.ended_at.is_some(),
                };
                match known.as_ref().and_then(|it| it.grace) {
                    Some(old) => Grace { ends: old.ends.min(fresh.ends), ..fresh },
                    None => fresh,
                }
            });
            images.push(Image::Entry(Arc::new(Entry {
                prefix: credential.prefix,
                hash: credential.hash.clone(),
                grace,
                key: Arc::clone(&shared),
                live,
            })));
        }
    }
}

fn account_image(account: &Account) -> Image {
    Image::Account(Arc::new(AccountEntry {
        id: account.id,
        operator: account.is_operator(),
        suspended: account.status == AccountStatus::Suspended,
        external_id: account.external_id.as_ref().map(|it| it.as_str().into()),
    }))
}

impl Grace {
    /// Half open: over at the very instant of the deadline.
    pub fn is_over(self, now: Timestamp, monotonic: Monotonic) -> bool {
        self.ended || self.valid_until <= now || self.ends <= monotonic
    }

    pub fn valid_until(self) -> Timestamp {
        self.valid_until
    }
}

impl Live {
    fn new(last_used: Option<Timestamp>) -> Self {
        Self {
            proof: OnceLock::new(),
            proving: Mutex::new(()),
            last_used_ms: AtomicI64::new(last_used.map_or(i64::MIN, Timestamp::as_millis)),
            queued: AtomicBool::new(false),
        }
    }

    pub fn proof(&self) -> Option<&[u8; 32]> {
        self.proof.get()
    }

    /// Remembers the digest of the text that was proved to be this secret.
    pub fn remember_proof(&self, digest: [u8; 32]) {
        // A second proof of the same secret is the same digest.
        let _ = self.proof.set(digest);
    }

    pub fn last_used(&self) -> Option<Timestamp> {
        let millis = self.last_used_ms.load(Ordering::Acquire);
        (millis != i64::MIN).then(|| Timestamp::from_millis(millis))
    }

    /// Notes a use. Whether this is the first since [`Live::take_use`], and so must be queued.
    pub fn note_use(&self, now: Timestamp) -> bool {
        if now.as_millis() <= self.last_used_ms.load(Ordering::Relaxed) {
            return false;
        }
        self.last_used_ms.fetch_max(now.as_millis(), Ordering::AcqRel);
        !self.queued.load(Ordering::Relaxed) && !self.queued.swap(true, Ordering::AcqRel)
    }

    /// The last use, to be stored; the next one will be queued again.
    pub fn take_use(&self) -> Option<Timestamp> {
        self.queued.store(false, Ordering::Release);
        self.last_used()
    }
}
