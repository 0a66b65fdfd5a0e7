//! The root key: made or provided at the first start, and reset when it is lost.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use serde_json::json;
use zeroize::Zeroizing;

use crate::{
    domain::{
        account::{Account, AccountKind, AccountStatus},
        credential::Credential,
        event::{EventSource, EventType, NewEvent},
        id::KeyId,
        key_hash::KeyHash,
        lifetime::Lifetimes,
        plaintext_key::{KeyPrefix, PlaintextKey},
        root_key::ProvidedRootKey,
        scope::{Scope, ScopeSet},
        text::{Metadata, Name},
    },
    service::{
        Error, Keyward, Minted, NewKey,
        files::{read_text, replace_file},
        keys::expiry::Maker,
        keys::revocation::revoke,
    },
    store::{StoreError, WriteTx},
};

/// A new root key.
pub struct RootKey {
    pub id: KeyId,
    pub plaintext: PlaintextKey,
}

/// The result of [`Keyward::reset_root_key`].
pub struct RootKeyReset {
    pub root_key: RootKey,
    pub revoked: Vec<KeyId>,
}

/// The file that holds the first root key until it is used.
#[derive(Debug, Default)]
pub(super) struct InitialKeyFile {
    /// The last characters of the prefix of the key in the file, and 0 without a file. Spares
    /// verification the lock.
    watched: AtomicU64,
    file: Mutex<Option<(PathBuf, KeyPrefix)>>,
}

impl InitialKeyFile {
    fn watch(&self, path: &Path) {
        let Ok(text) = read_text(path) else { return };
        let Ok(key) = PlaintextKey::parse(text.trim().as_bytes()) else { return };
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        *file = Some((path.to_owned(), key.prefix()));
        self.watched.store(key.prefix().last_characters(), Ordering::Release);
    }

    /// Removes the file at the first use of the key in it.
    pub fn was_used(&self, prefix: KeyPrefix) {
        if self.watched.load(Ordering::Relaxed) != prefix.last_characters() {
            return;
        }
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((path, _)) = file.take_if(|(_, held)| *held == prefix) else { return };
        self.watched.store(0, Ordering::Release);
        match fs::remove_file(&path) {
            Ok(()) => {
                tracing::info!(path = %path.display(), "the root key was used; its file was removed");
            }
            Err(err) => tracing::warn!(
                path = %path.display(),
                error = &err as &dyn std::error::Error,
                "the root key was used but its file cannot be removed; remove it"
            ),
        }
    }
}

/// Writes a key, as a single line, to a file that only its owner can read. Replaces a file of an
/// earlier start that failed, or of a key that was reset.
pub fn write_key_file(path: &Path, key: &PlaintextKey) -> Result<(), StoreError> {
    let line = Zeroizing::new(format!("{}\n", key.expose()));
    let written = replace_file(path, 0o600, &line);
    written.map_err(|source| StoreError::Beside { path: path.to_owned(), source })
}

impl Keyward {
    /// Makes the operator account and its root key, unless they exist.
    ///
    /// `deliver` gets the key before anything is committed. If it fails, nothing has changed and
    /// the next start tries again.
    pub fn first_start(
        &self,
        deliver: impl FnOnce(&PlaintextKey) -> Result<(), StoreError>,
    ) -> Result<Option<RootKey>, Error> {
        if self.has_operator()? {
            return Ok(None);
        }
        let minted = self.mint();
        deliver(&minted.plaintext)?;
        Ok(Some(self.make_operator(minted)?))
    }

    /// Makes the operator account with this root key.
    pub(super) fn make_operator(&self, minted: Minted) -> Result<RootKey, Error> {
        let Minted { plaintext, hash } = minted;
        let id = self.insert_operator(root_key()?, plaintext.prefix(), hash, None)?;
        Ok(RootKey { id, plaintext })
    }

    /// Returns whether the operator account exists: whether this is not the first start.
    pub fn has_operator(&self) -> Result<bool, Error> {
        self.store.read::<_, Error>(|tx| Ok(tx.operator_account()?.is_some()))
    }

    /// Makes the operator account with the root key that the operator provides. Call it at the first start.
    pub fn provide_root_key(&self, provided: ProvidedRootKey) -> Result<KeyId, Error> {
        let (iterations, entropy) = (self.settings.hash_iterations, &*self.env.entropy);
        match provided {
            ProvidedRootKey::Text(key) => {
                let hash = KeyHash::of(&key, iterations, entropy);
                self.insert_operator(root_key()?, key.prefix(), hash, Some("key"))
            }
            ProvidedRootKey::Digest(digest) => {
                let prefix = self.prefix_maker(false)?.prefix_of(&digest);
                let hash = KeyHash::of_digest(&digest, iterations, entropy);
                let new = NewKey { imported: Some(digest.form()), ..root_key()? };
                self.insert_operator(new, prefix, hash, Some("digest"))
            }
        }
    }

    /// Writes the operator account and its first key. `file` is what the file of the operator holds.
    fn insert_operator(
        &self,
        root: NewKey,
        prefix: KeyPrefix,
        hash: KeyHash,
        file: Option<&'static str>,
    ) -> Result<KeyId, Error> {
        let catalogue = Arc::clone(&self.authorizer.catalogue);
        self.system_change(move |tx| {
            let account = Account {
                id: tx.next_account_id(),
                kind: AccountKind::Operator,
                name: name("Operator")?,
                external_id: None,
                status: AccountStatus::Active,
                allowed_scopes: None,
                rate_limit: None,
                key_rate_limit: None,
                token_exchange: false,
                max_keys: None,
                lifetimes: Lifetimes::default(),
                metadata: Metadata::empty(),
                created_at: tx.now(),
                updated_at: tx.now(),
                deleted_at: None,
                revision: 1,
            };
            let mut data =
                json!({ "after": { "name": account.name.as_str(), "kind": "operator" } });
            if let Some(held) = file {
                data["rootKeyFile"] = json!(held);
            }
            let event = NewEvent::about_account(EventType::AccountCreated, account.id, data);
            let receipt = tx.record(&EventSource::CLI, &event)?;
            tx.insert_account(&account, &receipt)?;
            let credential = Credential::new(prefix, hash, tx.now());
            let record = root.insert(tx, Maker::cli(&catalogue), account.id, &credential)?;
            Ok::<_, Error>(record.key.id)
        })
    }

    /// Watches the file of an initial root key, if there is one, to remove it at the first use of
    /// the key.
    pub fn watch_initial_key(&self, path: &Path) {
        self.initial_key_file.watch(path);
    }

    /// Makes another root key. With `revoke_others`, revokes every older one.
    ///
    /// With `to_file`, the key is written there before anything is committed, and the file is
    /// removed at the first use of the key.
    pub fn reset_root_key(
        &self,
        revoke_others: bool,
        to_file: Option<&Path>,
    ) -> Result<RootKeyReset, Error> {
        if self.store.read::<_, Error>(|tx| Ok(tx.operator_account()?))?.is_none() {
            return Err(Error::NotFound);
        }
        let Minted { plaintext, hash } = self.mint();
        if let Some(path) = to_file {
            write_key_file(path, &plaintext)?;
        }
        let catalogue = Arc::clone(&self.authorizer.catalogue);
        let prefix = plaintext.prefix();
        let (id, revoked) = self.system_change(move |tx| {
            let operator = tx.operator_account()?.ok_or(Error::NotFound)?;
            let revoked = if revoke_others { revoke_root_keys(tx, &operator)? } else { vec![] };
            let root = root_key()?;
            let credential = Credential::new(prefix, hash, tx.now());
            let record = root.insert(tx, Maker::cli(&catalogue), operator.id, &credential)?;
            let event = NewEvent::about_account(
                EventType::RootKeyReset,
                operator.id,
                json!({
                    "keyId": record.key.id.to_string(),
                    "keyPrefix": prefix.as_str(),
                    "revoked": revoked.iter().map(ToString::to_string).collect::<Vec<_>>(),
                }),
            );
            tx.record(&EventSource::CLI, &event)?;
            Ok::<_, Error>((record.key.id, revoked))
        })?;
        if let Some(path) = to_file {
            self.watch_initial_key(path);
        }
        Ok(RootKeyReset { root_key: RootKey { id, plaintext }, revoked })
    }
}

/// Revokes every key with the scope `*`, also keys that are disabled or that expire.
fn revoke_root_keys(tx: &WriteTx<'_>, operator: &Account) -> Result<Vec<KeyId>, Error> {
    let mut revoked = Vec::new();
    for record in tx.unrevoked_keys(operator.id)? {
        if record.key.scopes.iter().any(|it| it.as_str() == Scope::EVERYTHING) {
            revoke(tx, &EventSource::CLI, &record, "root_key_reset")?;
            revoked.push(record.key.id);
        }
    }
    Ok(revoked)
}

fn root_key() -> Result<NewKey, Error> {
    let scopes = Scope::parse(Scope::EVERYTHING).ok().and_then(|it| ScopeSet::new([it]));
    Ok(NewKey::new(name("Root key")?, scopes.ok_or(Error::NotFound)?))
}

fn name(text: &'static str) -> Result<Name, Error> {
    Name::parse(text).map_err(|err| Error::invalid("/name", err.code(), err.to_string()))
}
