//! Whose secret a text is: from memory, or by a derivation at its first use since the start.

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
    service::{Error, Keyward, QueueFull, Settings, keys::revoke, mint::lane_of},
    store::{IndexedCredential, RuntimeState},
};

/// Whose secret was presented.
#[derive(Debug)]
pub enum Identity {
    Malformed,
    Unknown,
    Known(Arc<IndexedCredential>),
    /// A known public part whose secret has not been proved since the start.
    Unverified(Unverified),
}

/// A secret to be proved, where time does not matter.
#[derive(Debug)]
pub struct Unverified {
    presented: Secret,
    digest: [u8; 32],
    entry: Arc<IndexedCredential>,
}

/// A text that may be a secret.
#[derive(Debug)]
enum Secret {
    Own(PlaintextKey),
    Foreign(ImportedKey),
}

impl Secret {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Own(key) => key.expose().as_bytes(),
            Self::Foreign(key) => key.expose(),
        }
    }

    fn matches(&self, hash: &KeyHash) -> bool {
        match self {
            Self::Own(key) => hash.matches(key),
            Self::Foreign(key) => hash.matches_imported(key),
        }
    }

    fn hashed(&self, iterations: u32, entropy: &dyn Entropy) -> KeyHash {
        match self {
            Self::Own(key) => KeyHash::of(key, iterations, entropy),
            Self::Foreign(key) => KeyHash::of_imported(key, iterations, entropy),
        }
    }
}

/// A proved secret whose hash is cheaper than the rules now ask for, or of a digest.
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

/// A new hash for a proved secret.
#[derive(Debug)]
pub struct Rehashed {
    entry: Arc<IndexedCredential>,
    fresh: KeyHash,
}

/// Whose secret it turned out to be, and whether it is to be stored anew.
pub type SecretVerification = (Identity, Option<Upgrade>);

impl Keyward {
    /// Whose secret `text` is, as far as memory knows. No lock, no disk, no derivation.
    pub fn identify(&self, text: &[u8]) -> Identity {
        let Ok(presented) = PlaintextKey::parse(text) else { return self.identify_imported(text) };
        let prefix = presented.prefix();
        let Some(entry) = self.store.index().find(prefix) else {
            let ours = prefix.label().is_some_and(|it| self.kdf_pool.prefix_labels.contains(&it));
            return if ours { Identity::Unknown } else { Identity::Malformed };
        };
        self.recognise(Secret::Own(presented), entry)
    }

    /// Whose secret a text is that is not of our shape: an imported one, or nobody's.
    fn identify_imported(&self, text: &[u8]) -> Identity {
        let index = self.store.index();
        // Before anything is hashed: mostly nothing was imported.
        if !ImportForm::ALL.into_iter().any(|it| index.has_imported(it)) {
            return Identity::Malformed;
        }
        let Ok(key) = ImportedKey::parse(text) else { return Identity::Malformed };
        match self.find_imported(&key) {
            Some(entry) => self.recognise(Secret::Foreign(key), entry),
            None => Identity::Malformed,
        }
    }

    /// One key may have come by both of its digests, and nothing could tell. If it has fallen in one
    /// form, it has fallen.
    fn find_imported(&self, key: &ImportedKey) -> Option<Arc<IndexedCredential>> {
        let index = self.store.index();
        let tagger = self.tagger.load();
        let tagger = tagger.as_ref()?;
        let origins = ImportForm::ALL.into_iter().filter(|it| index.has_imported(*it));
        let origins = origins.filter(|it| *it != ImportForm::Raw || key.may_be_raw());
        let handles = origins.filter_map(|it| tagger.handle_of(it, key));
        let found: Vec<_> = handles.filter_map(|it| index.find(it)).collect();
        let now = self.env.time.now();
        let fallen = |it: &&Arc<IndexedCredential>| {
            let suspended = index.account(it.key.account, |it| it.suspended).unwrap_or(true);
            self.refusal_reason(it, suspended, now).is_some()
        };
        found.iter().find(fallen).or(found.first()).map(Arc::clone)
    }

    /// Now that the text is known: if this very key was here in another form, and was removed, what is
    /// left of it is revoked. Asks the file.
    fn revoke_if_removed_before(
        &self,
        key: &ImportedKey,
        entry: &IndexedCredential,
    ) -> Result<(), Error> {
        let tagger = self.tagger.load();
        let Some(tagger) = tagger.as_ref() else { return Ok(()) };
        let handles: Vec<_> =
            ImportForm::ALL.into_iter().filter_map(|it| tagger.handle_of(it, key)).collect();
        let removed = self.store.read::<_, Error>(|tx| {
            for handle in handles {
                if tx.was_imported(handle)? && tx.key_with_prefix(handle)?.is_none() {
                    return Ok(true);
                }
            }
            Ok(false)
        })?;
        if !removed {
            return Ok(());
        }
        let (id, handle) = (entry.key.id, entry.prefix);
        self.system_change(move |tx| {
            let source = EventSource { actor: Actor::Scheduler, request_id: None, client_ip: None };
            let Some(record) = tx.key(id)? else { return Ok(()) };
            // One that was rotated has a value of its own by now, which is no concern of this.
            let imported =
                record.find(handle).is_some_and(|it| it.credential.valid_until.is_none());
            if imported && record.key.revoked_at.is_none() {
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
            // The cached digest is of the one text that is right: this is another.
            Some(_) => Identity::Unknown,
            None => Identity::Unverified(Unverified { presented, digest, entry }),
        }
    }

    /// Whether a text that is not of our shape may be an imported key.
    pub fn may_be_imported(&self, text: &[u8]) -> bool {
        !matches!(self.identify_imported(text), Identity::Malformed)
    }

    /// Derives the hash of an unverified secret, here and now. Slow on purpose.
    pub fn verify_secret(&self, unverified: Unverified) -> Result<SecretVerification, Error> {
        let Unverified { presented, digest, entry } = unverified;
        let proved = if let Some(cached_digest) = entry.live().map(RuntimeState::cached_digest) {
            bool::from(cached_digest.ct_eq(&digest))
        } else {
            self.kdf_pool.count_derivation();
            presented.matches(&entry.hash)
        };
        if !proved {
            return Ok((Identity::Unknown, None));
        }
        if let Secret::Foreign(key) = &presented {
            self.revoke_if_removed_before(key, &entry)?;
        }
        entry.remember_digest(digest);
        // Looked up again: that took its time, and the key may have been revoked meanwhile.
        let current = match &presented {
            Secret::Own(_) => self.store.index().find(entry.prefix),
            Secret::Foreign(key) => self.find_imported(key),
        };
        if let Some(current) = &current {
            // The writer may have put it there before it could know of the cached digest.
            current.remember_digest(digest);
        }
        let weak = entry.hash.iterations() < self.settings.iterations_for(entry.prefix)
            || entry.hash.input() != Input::Text;
        let upgrade = weak.then(|| Upgrade { presented, entry });
        Ok((current.map_or(Identity::Unknown, Identity::Known), upgrade))
    }

    /// As [`Keyward::verify_secret`], on a thread that gives way to all others; `then` is called there.
    /// Concurrent first uses of a key share a derivation. Refused if too many wait already.
    pub fn verify_secret_apart(
        self: &Arc<Self>,
        unverified: Unverified,
        then: impl FnOnce(Result<SecretVerification, Error>) + Send + 'static,
    ) -> Result<(), QueueFull> {
        let (app, prefix) = (Arc::clone(self), unverified.entry.prefix);
        self.kdf_pool.run(lane_of(prefix), prefix, move || then(app.verify_secret(unverified)))
    }

    /// A hash of today's cost for a proved secret. Slow on purpose.
    pub(super) fn rehashed(&self, upgrade: Upgrade) -> Rehashed {
        let Upgrade { presented, entry } = upgrade;
        self.kdf_pool.count_derivation();
        let iterations = self.settings.iterations_for(entry.prefix);
        Rehashed { fresh: presented.hashed(iterations, &*self.env.entropy), entry }
    }

    /// Stores a proved secret under its new hash, unless another request did meanwhile.
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

impl Settings {
    /// What the hash of a value costs at least. Of a key that was imported as it is nobody knows how
    /// well it was made. Behind a digest somebody took it for strong enough; and the tag of a digest,
    /// with its secret in the same database, would show a thief the way around any cost.
    pub(super) fn iterations_for(&self, handle: KeyPrefix) -> u32 {
        match ImportForm::of(handle) {
            Some(ImportForm::Raw) => self.hash_iterations.max(KeyHash::FOREIGN_ITERATIONS),
            None | Some(ImportForm::Sha256 | ImportForm::Sha512) => self.hash_iterations,
        }
    }
}

fn facts(hash: &KeyHash) -> Value {
    let mut facts = json!({ "iterations": hash.iterations() });
    if let Some(digest) = hash.input().name() {
        facts["input"] = json!(digest);
    }
    facts
}
