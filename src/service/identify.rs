//! Finds the credential of a presented text: from memory, or by the KDF at the first use of the
//! credential since the start.

use std::sync::Arc;

use serde_json::{Value, json};
use subtle::ConstantTimeEq;

use crate::{
    domain::{
        event::{Actor, EventSource, EventType, NewEvent, Subject},
        imported_key::{ImportForm, ImportedKey},
        key_hash::{Input, KeyHash},
        plaintext_key::{KeyPrefix, PlaintextKey},
    },
    env::Entropy,
    service::{Error, Keyward, QueueFull, keys::revocation::revoke},
    store::{IndexedCredential, RuntimeState},
};

/// The credential that a presented text belongs to.
#[derive(Debug)]
pub enum Identity {
    /// Neither a key of keyward's shape and labels nor an imported key.
    Malformed,
    /// A key of keyward's shape that no credential has.
    Unknown,
    Known(Arc<IndexedCredential>),
    /// The prefix is known, and the secret was not verified since the start.
    Unverified(Unverified),
}

/// A presented secret that the KDF is to verify.
#[derive(Debug)]
pub struct Unverified {
    presented: Secret,
    digest: [u8; 32],
    entry: Arc<IndexedCredential>,
}

/// A presented plaintext key.
#[derive(Debug)]
enum Secret {
    Own(PlaintextKey),
    Imported(ImportedKey),
}

impl Secret {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Own(key) => key.expose().as_bytes(),
            Self::Imported(key) => key.expose(),
        }
    }

    fn matches(&self, hash: &KeyHash) -> bool {
        match self {
            Self::Own(key) => hash.matches(key),
            Self::Imported(key) => hash.matches_imported(key),
        }
    }

    fn hashed(&self, iterations: u32, entropy: &dyn Entropy) -> KeyHash {
        match self {
            Self::Own(key) => KeyHash::of(key, iterations, entropy),
            Self::Imported(key) => KeyHash::of_imported(key, iterations, entropy),
        }
    }
}

/// A verified secret whose stored hash has too few iterations, or is a hash of a digest.
#[derive(Debug)]
pub struct Upgrade {
    presented: Secret,
    entry: Arc<IndexedCredential>,
}

impl Upgrade {
    pub(super) fn prefix(&self) -> KeyPrefix {
        self.entry.prefix
    }
}

/// A new hash for a verified secret.
#[derive(Debug)]
pub struct Rehashed {
    entry: Arc<IndexedCredential>,
    fresh: KeyHash,
}

/// The outcome of verification, and the upgrade of the stored hash if it needs one.
pub type SecretVerification = (Identity, Option<Upgrade>);

impl Keyward {
    /// Finds the credential of `text` in memory. Takes no lock, reads no disk, runs no KDF.
    pub fn identify(&self, text: &[u8]) -> Identity {
        let Ok(presented) = PlaintextKey::parse(text) else { return self.identify_imported(text) };
        let prefix = presented.prefix();
        let Some(entry) = self.store.index().find(prefix) else {
            let ours = prefix.label().is_some_and(|it| self.kdf_pool.prefix_labels.contains(&it));
            // A key of this shape may have been given by its digest, which does not tell its prefix.
            let found = self.identify_imported(text);
            let unknown = ours && matches!(found, Identity::Malformed);
            return if unknown { Identity::Unknown } else { found };
        };
        self.recognise(Secret::Own(presented), entry)
    }

    /// As [`Keyward::identify`], for a text whose prefix no credential has.
    fn identify_imported(&self, text: &[u8]) -> Identity {
        let index = self.store.index();
        // Checked before anything is hashed: most servers have no imported keys.
        if !ImportForm::ALL.into_iter().any(|it| index.has_imported(it)) {
            return Identity::Malformed;
        }
        let Ok(key) = ImportedKey::parse(text) else { return Identity::Malformed };
        match self.find_imported(&key) {
            Some(entry) => self.recognise(Secret::Imported(key), entry),
            None => Identity::Malformed,
        }
    }

    /// Finds the credential of an imported key. One key may have been imported by both digests, which
    /// the import cannot see: then a refused credential wins over a valid one.
    fn find_imported(&self, key: &ImportedKey) -> Option<Arc<IndexedCredential>> {
        let index = self.store.index();
        let maker = self.imported_prefixes.get()?;
        let forms = ImportForm::ALL.into_iter().filter(|it| index.has_imported(*it));
        let found: Vec<_> = forms.filter_map(|it| index.find(maker.prefix_for(it, key))).collect();
        let now = self.env.time.now();
        let refused = |it: &&Arc<IndexedCredential>| self.refusal_now(it, now).is_some();
        found.iter().find(refused).or(found.first()).map(Arc::clone)
    }

    /// Returns whether this text belongs to a key that was removed: to one that was imported by the other
    /// digest, or to a credential that this server issued. An import cannot see that, because only the text
    /// shows it. Reads the database.
    fn was_removed(&self, key: &ImportedKey) -> Result<bool, Error> {
        let Some(maker) = self.imported_prefixes.get() else { return Ok(false) };
        let own = PlaintextKey::parse(key.expose()).map(|it| it.prefix());
        self.store.read(|tx| {
            for prefix in ImportForm::ALL.map(|it| maker.prefix_for(it, key)) {
                if tx.was_imported(prefix)? && tx.key_with_prefix(prefix)?.is_none() {
                    return Ok(true);
                }
            }
            Ok(own.map_or(Ok(false), |it| tx.was_removed(it))?)
        })
    }

    /// Revokes a key that was imported, if it has the text of this key of keyward's own. This only tells
    /// the operator early: the own key decides while it is there, and [`Keyward::was_removed`] decides
    /// later.
    fn revoke_imported_copy(&self, key: &PlaintextKey) {
        let key = ImportedKey::parse(key.expose().as_bytes()).ok();
        let copy = key.and_then(|it| self.find_imported(&it));
        if let Some(copy) = copy.filter(|it| !it.key.revoked && it.grace().is_none()) {
            self.try_to_revoke_imported(&copy);
        }
    }

    /// Revokes the key of this imported credential. A failure of the storage is logged, and changes no
    /// verdict.
    fn try_to_revoke_imported(&self, entry: &IndexedCredential) {
        if let Err(err) = self.revoke_imported(entry) {
            tracing::warn!(
                key = %entry.key.id,
                key_prefix = entry.prefix.as_str(),
                error = &err as &dyn std::error::Error,
                "an imported key has the text of another key, and could not be revoked"
            );
        }
    }

    /// Revokes the key of this imported credential.
    fn revoke_imported(&self, entry: &IndexedCredential) -> Result<(), Error> {
        let (id, prefix) = (entry.key.id, entry.prefix);
        self.system_change(move |tx| {
            let source = EventSource { actor: Actor::Scheduler, request_id: None, client_ip: None };
            let Some(record) = tx.key(id)? else { return Ok(()) };
            // After a rotation the key has a secret of keyward's own, which stays good.
            let current = record.find(prefix).is_some_and(|it| it.credential.valid_until.is_none());
            if current && record.key.revoked_at.is_none() {
                revoke(tx, &source, &record, "imported_twice")?;
            }
            Ok(())
        })
    }

    fn recognise(&self, presented: Secret, entry: Arc<IndexedCredential>) -> Identity {
        let digest = self.kdf_pool.digest(presented.bytes());
        match entry.live().map(RuntimeState::cached_digest) {
            Some(cached_digest) if bool::from(cached_digest.ct_eq(&digest)) => {
                Identity::Known(entry)
            }
            // The cached digest is that of the one right text, so this is another text.
            Some(_) => Identity::Unknown,
            None => Identity::Unverified(Unverified { presented, digest, entry }),
        }
    }

    /// Returns whether a text that has not keyward's shape may be an imported key.
    pub fn may_be_imported(&self, text: &[u8]) -> bool {
        !matches!(self.identify_imported(text), Identity::Malformed)
    }

    /// Verifies a secret on this thread. Runs the KDF, which is slow on purpose.
    pub fn verify_secret(&self, unverified: Unverified) -> Result<SecretVerification, Error> {
        let Unverified { presented, digest, entry } = unverified;
        let verified = if let Some(cached_digest) = entry.live().map(RuntimeState::cached_digest) {
            bool::from(cached_digest.ct_eq(&digest))
        } else if self.kdf_pool.is_refused(&digest) {
            false
        } else {
            self.kdf_pool.count_derivation();
            presented.matches(&entry.hash)
        };
        if !verified {
            return Ok((Identity::Unknown, None));
        }
        match &presented {
            Secret::Own(key) => self.revoke_imported_copy(key),
            Secret::Imported(key) => {
                if self.was_removed(key)? {
                    if entry.grace().is_some() {
                        // Its key was rotated, and has a secret of keyward's own, which stays good.
                        self.kdf_pool.refuse(digest);
                        return Ok((Identity::Unknown, None));
                    }
                    self.try_to_revoke_imported(&entry);
                    let revoked = self.find_imported(key).filter(|it| it.key.revoked);
                    // Cached only now: a revocation that failed is tried again at the next use.
                    return Ok((
                        revoked.map_or(Identity::Unknown, |it| {
                            it.remember_digest(digest);
                            Identity::Known(it)
                        }),
                        None,
                    ));
                }
            }
        }
        entry.remember_digest(digest);
        // Looked up again: the key may have been revoked while the KDF ran.
        let current = match &presented {
            Secret::Own(_) => self.store.index().find(entry.prefix),
            Secret::Imported(key) => self.find_imported(key),
        };
        if let Some(current) = &current {
            // The writer may have replaced the credential before the digest was cached.
            current.remember_digest(digest);
        }
        let weak = entry.hash.iterations() < self.settings.hash_iterations
            || entry.hash.input() != Input::Text;
        let upgrade = weak.then(|| Upgrade { presented, entry });
        Ok((current.map_or(Identity::Unknown, Identity::Known), upgrade))
    }

    /// As [`Keyward::verify_secret`], on a thread of low priority, which then calls `then`. Concurrent
    /// first uses of a key share one derivation.
    ///
    /// # Errors
    ///
    /// [`QueueFull`] if too many tasks wait for that thread.
    pub fn verify_secret_apart(
        self: &Arc<Self>,
        unverified: Unverified,
        then: impl FnOnce(Result<SecretVerification, Error>) + Send + 'static,
    ) -> Result<(), QueueFull> {
        let (app, prefix) = (Arc::clone(self), unverified.entry.prefix);
        self.kdf_pool.run(prefix, move || then(app.verify_secret(unverified)))
    }

    /// Derives a hash with the configured iterations for a verified secret. Runs the KDF.
    pub(super) fn rehashed(&self, upgrade: Upgrade) -> Rehashed {
        let Upgrade { presented, entry } = upgrade;
        self.kdf_pool.count_derivation();
        let fresh = presented.hashed(self.settings.hash_iterations, &*self.env.entropy);
        Rehashed { entry, fresh }
    }

    /// Stores the new hash of a verified secret, unless another request changed the hash meanwhile.
    pub fn store_rehashed(&self, rehashed: Rehashed) -> Result<(), Error> {
        let Rehashed { entry, fresh } = rehashed;
        self.system_change(move |tx| {
            let Some(record) = tx.key(entry.key.id)? else { return Ok(()) };
            let stored = record.find(entry.prefix).map(|it| &it.credential.hash);
            if stored != Some(&entry.hash) {
                return Ok(());
            }
            let event = NewEvent {
                event_type: EventType::ApiKeyRehashed,
                account: Some(entry.key.account),
                subject: Subject::Key(entry.key.id),
                data: json!({
                    "keyPrefix": entry.prefix.as_str(),
                    "before": facts(&entry.hash),
                    "after": facts(&fresh),
                }),
            };
            let actor =
                Actor::Key { id: entry.key.id, prefix: entry.prefix, account: entry.key.account };
            let source = EventSource { actor, request_id: None, client_ip: None };
            let receipt = tx.record(&source, &event)?;
            Ok(tx.replace_hash(entry.prefix, &entry.hash, &fresh, &receipt)?)
        })
    }
}

fn facts(hash: &KeyHash) -> Value {
    let mut facts = json!({ "iterations": hash.iterations() });
    if let Some(digest) = hash.input().name() {
        facts["input"] = json!(digest);
    }
    facts
}
