//! The key index: what verification needs, in memory.
//!
//! The index is loaded from the file at the start. Later only the writer changes it, after a commit
//! and before the answer. Nothing fills it on demand, so it never gets a stale entry back: a revoked
//! key stays revoked. Entries are immutable and replaced as a whole, so readers need no lock. What
//! changes without the writer is in [`RuntimeState`](crate::store::RuntimeState), which moves from an entry to the next.

mod credential;
mod limits;
mod load;
mod scope_sets;
mod status_places;

use std::sync::{
    Arc, Mutex, OnceLock, PoisonError,
    atomic::{AtomicU8, Ordering},
};

use papaya::HashMap;

use self::{
    credential::GraceFacts, limits::RateWindows, load::ReadCredential, scope_sets::ScopeSets,
    status_places::StatusPlaces,
};
pub use self::{
    credential::{Grace, IndexedCredential, KeyEntry},
    limits::KeyLimits,
    status_places::StatusPlace,
};

use crate::{
    domain::{
        account::{Account, AccountStatus},
        id::AccountId,
        imported_key::ImportForm,
        lifetime::Lifetimes,
        plaintext_key::KeyPrefix,
        rate_limit::RateLimit,
        scope::{Catalogue, ScopeBits, ScopeSet},
    },
    env::Env,
    store::{RateWindow, ReadTx, StoreError, tx::Touched},
};

/// Every credential and account by its prefix or identifier.
#[derive(Debug)]
pub struct KeyIndex {
    env: Env,
    catalogue: Arc<Catalogue>,
    entries: HashMap<KeyPrefix, Arc<IndexedCredential>>,
    accounts: HashMap<AccountId, Arc<AccountEntry>>,
    /// A bit for each import form of a credential that is or was stored; see [`ImportForm`].
    import_forms: AtomicU8,
    /// Many keys share a few sets. Only the writer looks here.
    scope_sets: Mutex<ScopeSets>,
    rate_windows: RateWindows,
    status_places: StatusPlaces,
}

/// What the index holds of an account.
#[derive(Debug)]
pub struct AccountEntry {
    pub id: AccountId,
    pub operator: bool,
    pub suspended: bool,
    /// `None` for the operator account, whose keys follow no policy.
    pub lifetimes: Lifetimes,
    pub external_id: Option<Box<str>>,
    /// Compact JSON; `None` for the empty object.
    pub metadata: Option<Arc<str>>,
    /// The rate limit of the account, which all its keys share.
    pub rate: Option<RateLimit>,
    /// The rate limit of each key that has none of its own.
    pub key_rate: Option<RateLimit>,
    /// Whether its keys may be exchanged for tokens.
    pub token_exchange: bool,
    /// The use of `rate`.
    pub rate_window: Arc<RateWindow>,
}

/// A change to the index, prepared inside a transaction and applied after the commit.
pub(super) enum Image {
    Credential(Arc<IndexedCredential>),
    NoCredential(KeyPrefix),
    Account(Arc<AccountEntry>),
    NoAccount(AccountId),
    StatusPlace(u32, StatusPlace),
}

impl KeyIndex {
    fn empty(env: &Env, catalogue: Arc<Catalogue>) -> Self {
        Self {
            env: env.clone(),
            catalogue,
            entries: HashMap::default(),
            accounts: HashMap::default(),
            import_forms: AtomicU8::new(0),
            scope_sets: Mutex::default(),
            rate_windows: RateWindows::default(),
            status_places: StatusPlaces::default(),
        }
    }

    /// Returns the credential with this prefix. Takes no lock and reads no disk.
    pub fn find(&self, prefix: KeyPrefix) -> Option<Arc<IndexedCredential>> {
        self.entries.pin().get(&prefix).cloned()
    }

    /// Returns what `read` makes of the account. Hands out no `Arc`, because all threads would
    /// contend for the reference count of an account with many keys.
    pub fn account<T>(&self, id: AccountId, read: impl FnOnce(&AccountEntry) -> T) -> Option<T> {
        self.accounts.pin().get(&id).map(|it| read(it))
    }

    /// Returns what `read` makes of the credential with this prefix, without cloning the `Arc`.
    pub fn look<T>(
        &self,
        prefix: KeyPrefix,
        read: impl FnOnce(&Arc<IndexedCredential>) -> T,
    ) -> Option<T> {
        self.entries.pin().get(&prefix).map(read)
    }

    /// Returns whether the grace of this credential is over by either clock. A current credential has
    /// no grace, so this is `false`.
    pub fn grace_is_over(&self, prefix: KeyPrefix) -> bool {
        let time = &self.env.time;
        let grace = self.find(prefix).and_then(|it| it.grace());
        grace.is_some_and(|it| it.is_over(time.now(), time.monotonic()))
    }

    /// Returns whether credentials of this import form may be stored.
    pub fn has_imported(&self, form: ImportForm) -> bool {
        self.import_forms.load(Ordering::Acquire) & 1 << form as u8 != 0
    }

    /// The catalogue that names the scopes of the credentials.
    pub fn catalogue(&self) -> &Catalogue {
        &self.catalogue
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Returns the number of credentials.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// As [`KeyIndex::images`], for one row that is no place.
    fn image(
        &self,
        read: &ReadTx<'_>,
        touched: Touched,
        images: &mut Vec<Image>,
    ) -> Result<(), StoreError> {
        match touched {
            Touched::Key(id) => self.key_images(read, id, images)?,
            Touched::Account(id) => {
                let account = read.account(id)?;
                images.push(account.map_or(Image::NoAccount(id), |it| self.account_image(&it)));
            }
            // Another change of the same batch may have given the prefix to a key again.
            Touched::Gone(prefix) => match read.key_of(prefix)? {
                Some(id) => self.key_images(read, id, images)?,
                None => images.push(Image::NoCredential(prefix)),
            },
            Touched::StatusPlace(_) => (),
        }
        Ok(())
    }

    pub(super) fn apply(&self, images: Vec<Image>) {
        let changes = !images.is_empty();
        for image in images {
            self.apply_one(image);
        }
        if changes {
            self.status_places.count_change();
        }
    }

    fn apply_one(&self, image: Image) {
        match image {
            Image::Credential(entry) => self.insert(entry),
            Image::NoCredential(prefix) => {
                let entries = self.entries.pin();
                // Only a key that is never accepted again loses its last credential.
                if let Some(gone) = entries.remove(&prefix)
                    && (gone.key.revoked || gone.key.is_expired_at(self.env.time.now()))
                {
                    self.rate_windows.forget_key(gone.key.id);
                }
            }
            Image::Account(account) => {
                self.accounts.pin().insert(account.id, account);
            }
            Image::NoAccount(id) => {
                self.accounts.pin().remove(&id);
                self.rate_windows.forget_account(id);
            }
            Image::StatusPlace(place, state) => self.status_places.set(place, state),
        }
    }

    /// Returns the new entry of a credential. It keeps the runtime state of the entry that it
    /// replaces, and its deadline by the monotonic clock.
    fn entry(&self, it: ReadCredential) -> Arc<IndexedCredential> {
        let ReadCredential { prefix, hash, key, grace } = it;
        let known = self.find(prefix);
        let live = known.as_ref().and_then(|it| it.live.get());
        let live = live.map_or_else(OnceLock::new, |it| OnceLock::from(Arc::clone(it)));
        let grace = grace.map(|GraceFacts { rotated_at, valid_until, ended }| {
            let left = valid_until.since(self.env.time.now());
            let ends = self.env.time.monotonic().after(left);
            // An earlier deadline by the monotonic clock stands, so that no grace gets longer.
            let promised = known.as_ref().and_then(|it| it.grace());
            let ends = promised.map_or(ends, |it| it.ends.min(ends));
            Box::new(Grace { rotated_at, valid_until, ends, ended })
        });
        Arc::new(IndexedCredential { prefix, hash, key, live, grace })
    }

    fn insert(&self, entry: Arc<IndexedCredential>) {
        if let Some(form) = ImportForm::of(entry.prefix) {
            self.import_forms.fetch_or(1 << form as u8, Ordering::Release);
        }
        self.entries.pin().insert(entry.prefix, entry);
    }

    /// Gives the use of a key's rate limit to `read`. All credentials of the key share it.
    pub fn rate_window<T>(
        &self,
        entry: &IndexedCredential,
        read: impl FnOnce(&RateWindow) -> T,
    ) -> T {
        let find = || self.rate_windows.of_key(entry.key.id);
        match entry.live() {
            Some(live) => read(live.rate_window(find)),
            None => read(&find()),
        }
    }

    fn account_image(&self, account: &Account) -> Image {
        Image::Account(Arc::new(AccountEntry {
            id: account.id,
            operator: account.is_operator(),
            suspended: account.status == AccountStatus::Suspended,
            external_id: account.external_id.as_ref().map(|it| it.as_str().into()),
            metadata: (!account.metadata.is_empty()).then(|| account.metadata.as_json().into()),
            lifetimes: account.lifetimes,
            rate: account.rate_limit,
            key_rate: account.key_rate_limit,
            token_exchange: account.token_exchange,
            rate_window: self.rate_windows.of_account(account.id),
        }))
    }

    fn shared_scopes(&self, scopes: &ScopeSet) -> Arc<ScopeBits> {
        let bits = self.catalogue.bits(scopes);
        self.scope_sets.lock().unwrap_or_else(PoisonError::into_inner).shared(bits)
    }
}
