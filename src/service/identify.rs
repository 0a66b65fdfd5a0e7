//! Whose secret a text is: from memory, or by a derivation at its first use since the start.

use std::sync::Arc;

use serde_json::{Value, json};
use subtle::ConstantTimeEq;

use crate::{
    domain::{
        credential::{KeyPrefix, PlaintextKey},
        event::{Actor, EventType, NewEvent, Origin, Subject},
        foreign_key::{ForeignKey, Origin as ImportOrigin},
        key_hash::{Input, KeyHash},
    },
    env::Entropy,
    service::{Crowded, Error, Keyward, Rules, keys::revoke, mint::lane_of},
    store::{Entry, Live},
};

/// Whose secret was presented.
#[derive(Debug)]
pub enum Identity {
    Malformed,
    Unknown,
    Known(Arc<Entry>),
    /// A known public part whose secret has not been proved since the start.
    Unproven(Unproven),
}

/// A secret to be proved, where time does not matter.
#[derive(Debug)]
pub struct Unproven {
    presented: Secret,
    digest: [u8; 32],
    entry: Arc<Entry>,
}

/// A text that may be a secret.
#[derive(Debug)]
enum Secret {
    Own(PlaintextKey),
    Foreign(ForeignKey),
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
            Self::Foreign(key) => hash.matches_foreign(key),
        }
    }

    fn hashed(&self, iterations: u32, entropy: &dyn Entropy) -> KeyHash {
        match self {
            Self::Own(key) => KeyHash::of(key, iterations, entropy),
            Self::Foreign(key) => KeyHash::of_foreign(key, iterations, entropy),
        }
    }
}

/// A proved secret whose hash is cheaper than the rules now ask for, or of a digest.
#[derive(Debug)]
pub struct Upgrade {
    presented: Secret,
    entry: Arc<Entry>,
}

impl Upgrade {
    pub(super) fn prefix(&self) -> KeyPrefix {
        self.entry.prefix
    }
}

/// A new hash for a proved secret.
#[derive(Debug)]
pub struct Rehashed {
    entry: Arc<Entry>,
    fresh: KeyHash,
}

/// Whose secret it turned out to be, and whether it is to be stored anew.
pub type Proof = (Identity, Option<Upgrade>);

impl Keyward {
    /// Whose secret `text` is, as far as memory knows. No lock, no disk, no derivation.
    pub fn identify(&self, text: &[u8]) -> Identity {
        let Ok(presented) = PlaintextKey::parse(text) else { return self.identify_foreign(text) };
        let prefix = presented.prefix();
        let Some(entry) = self.store.index().find(prefix) else {
            let ours = prefix.brand().is_some_and(|it| self.prover.brands.contains(&it));
            return if ours { Identity::Unknown } else { Identity::Malformed };
        };
        self.recognise(Secret::Own(presented), entry)
    }

    /// Whose secret a text is that is not of our shape: an imported one, or nobody's.
    fn identify_foreign(&self, text: &[u8]) -> Identity {
        let index = self.store.index();
        // Before anything is hashed: mostly nothing was imported.
        if !ImportOrigin::ALL.into_iter().any(|it| index.has_foreign(it)) {
            return Identity::Malformed;
        }
        let Ok(key) = ForeignKey::parse(text) else { return Identity::Malformed };
        match self.find_foreign(&key) {
            Some(entry) => self.recognise(Secret::Foreign(key), entry),
            None => Identity::Malformed,
        }
    }

    /// One key may have come by both of its digests, and nothing could tell. If it has fallen in one
    /// form, it has fallen.
    fn find_foreign(&self, key: &ForeignKey) -> Option<Arc<Entry>> {
        let index = self.store.index();
        let tagger = self.tagger.load();
        let tagger = tagger.as_ref()?;
        let origins = ImportOrigin::ALL.into_iter().filter(|it| index.has_foreign(*it));
        let origins = origins.filter(|it| *it != ImportOrigin::Raw || key.may_be_raw());
        let handles = origins.filter_map(|it| tagger.handle_of(it, key));
        let found: Vec<_> = handles.filter_map(|it| index.find(it)).collect();
        let now = self.env.time.now();
        let fallen = |it: &&Arc<Entry>| {
            let suspended = index.account(it.key.account, |it| it.suspended).unwrap_or(true);
            self.standing(it, suspended, now).is_some()
        };
        found.iter().find(fallen).or(found.first()).map(Arc::clone)
    }

    /// Now that the text is known: if this very key was here in another form, and was removed, what is
    /// left of it is revoked. Asks the file.
    fn settle(&self, key: &ForeignKey, entry: &Entry) -> Result<(), Error> {
        let tagger = self.tagger.load();
        let Some(tagger) = tagger.as_ref() else { return Ok(()) };
        let handles: Vec<_> =
            ImportOrigin::ALL.into_iter().filter_map(|it| tagger.handle_of(it, key)).collect();
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
        self.store.write(move |tx| {
            let origin = Origin { actor: Actor::Scheduler, request_id: None, client_ip: None };
            let Some(record) = tx.key(id)? else { return Ok(()) };
            // One that was rotated has a value of its own by now, which is no concern of this.
            let imported =
                record.find(handle).is_some_and(|it| it.credential.valid_until.is_none());
            if imported && record.key.revoked_at.is_none() {
                revoke(tx, &origin, &record, "imported_twice")?;
            }
            Ok(())
        })
    }

    fn recognise(&self, presented: Secret, entry: Arc<Entry>) -> Identity {
        let digest = self.prover.digest(presented.bytes());
        match entry.live().map(Live::proof) {
            Some(proof) if bool::from(proof.ct_eq(&digest)) => Identity::Known(entry),
            // The proof is of the one text that is right: this is another.
            Some(_) => Identity::Unknown,
            None => Identity::Unproven(Unproven { presented, digest, entry }),
        }
    }

    /// Whether a text that is not of our shape may be an imported key.
    pub fn may_be_imported(&self, text: &[u8]) -> bool {
        !matches!(self.identify_foreign(text), Identity::Malformed)
    }

    /// Derives the hash of an unproven secret, here and now. Slow on purpose.
    pub fn prove(&self, unproven: Unproven) -> Result<Proof, Error> {
        let Unproven { presented, digest, entry } = unproven;
        let proved = if let Some(proof) = entry.live().map(Live::proof) {
            bool::from(proof.ct_eq(&digest))
        } else {
            self.prover.count_derivation();
            presented.matches(&entry.hash)
        };
        if !proved {
            return Ok((Identity::Unknown, None));
        }
        if let Secret::Foreign(key) = &presented {
            self.settle(key, &entry)?;
        }
        entry.remember_proof(digest);
        // Looked up again: that took its time, and the key may have been revoked meanwhile.
        let current = match &presented {
            Secret::Own(_) => self.store.index().find(entry.prefix),
            Secret::Foreign(key) => self.find_foreign(key),
        };
        if let Some(current) = &current {
            // The writer may have put it there before it could know of the proof.
            current.remember_proof(digest);
        }
        let weak = entry.hash.iterations() < self.rules.iterations_for(entry.prefix)
            || entry.hash.input() != Input::Text;
        let upgrade = weak.then(|| Upgrade { presented, entry });
        Ok((current.map_or(Identity::Unknown, Identity::Known), upgrade))
    }

    /// As [`Keyward::prove`], on a thread that gives way to all others; `then` is called there.
    /// Concurrent first uses of a key share a derivation. Refused if too many wait already.
    pub fn prove_apart(
        self: &Arc<Self>,
        unproven: Unproven,
        then: impl FnOnce(Result<Proof, Error>) + Send + 'static,
    ) -> Result<(), Crowded> {
        let (app, prefix) = (Arc::clone(self), unproven.entry.prefix);
        self.prover.run(lane_of(prefix), prefix, move || then(app.prove(unproven)))
    }

    /// A hash of today's cost for a proved secret. Slow on purpose.
    pub(super) fn rehashed(&self, upgrade: Upgrade) -> Rehashed {
        let Upgrade { presented, entry } = upgrade;
        self.prover.count_derivation();
        let iterations = self.rules.iterations_for(entry.prefix);
        Rehashed { fresh: presented.hashed(iterations, &*self.env.entropy), entry }
    }

    /// Stores a proved secret under its new hash, unless another request did meanwhile.
    pub fn store_rehashed(&self, rehashed: Rehashed) -> Result<(), Error> {
        let Rehashed { entry, fresh } = rehashed;
        self.store.write(move |tx| {
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
            let origin = Origin { actor, request_id: None, client_ip: None };
            let receipt = tx.record(&origin, &event)?;
            Ok(tx.replace_hash(entry.prefix, &entry.hash, &fresh, &receipt)?)
        })
    }
}

impl Rules {
    /// What the hash of a value costs at least. Of a key that was imported as it is nobody knows how
    /// well it was made. Behind a digest somebody took it for strong enough; and the tag of a digest,
    /// with its secret in the same database, would show a thief the way around any cost.
    pub(super) fn iterations_for(&self, handle: KeyPrefix) -> u32 {
        match ImportOrigin::of(handle) {
            Some(ImportOrigin::Raw) => self.hash_iterations.max(KeyHash::FOREIGN_ITERATIONS),
            None | Some(ImportOrigin::Sha256 | ImportOrigin::Sha512) => self.hash_iterations,
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
