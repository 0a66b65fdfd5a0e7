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
    service::{Crowded, Error, Keyward, Rules, prover::Lane},
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
    /// The values that it may be of, at least one; of our own keys exactly one.
    candidates: Vec<Arc<Entry>>,
}

/// A text that may be a secret.
#[derive(Debug)]
enum Secret {
    Own(PlaintextKey),
    Foreign(ForeignKey),
}

impl Secret {
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

impl Keyward {
    /// Whose secret `text` is, as far as memory knows. No lock, no disk, no derivation.
    pub fn identify(&self, text: &[u8]) -> Identity {
        let Ok(presented) = PlaintextKey::parse(text) else { return self.identify_foreign(text) };
        let prefix = presented.prefix();
        let Some(entry) = self.store.index().find(prefix) else {
            let ours = prefix.brand().is_some_and(|it| self.prover.brands.contains(&it));
            return if ours { Identity::Unknown } else { Identity::Malformed };
        };
        let digest = self.prover.digest(presented.expose().as_bytes());
        match entry.live().map(Live::proof) {
            Some(proof) if bool::from(proof.ct_eq(&digest)) => Identity::Known(entry),
            // The proof is of the one text that is right: this is another.
            Some(_) => Identity::Unknown,
            None => {
                let (presented, candidates) = (Secret::Own(presented), vec![entry]);
                Identity::Unproven(Unproven { presented, digest, candidates })
            }
        }
    }

    /// Whose secret a text is that is not of our shape: an imported one, or nobody's.
    fn identify_foreign(&self, text: &[u8]) -> Identity {
        let index = self.store.index();
        let mut origins =
            ImportOrigin::ALL.into_iter().filter(|it| index.has_foreign(*it)).peekable();
        if origins.peek().is_none() {
            return Identity::Malformed;
        }
        let tagger = self.tagger.load();
        let (Some(tagger), Ok(key)) = (&*tagger, ForeignKey::parse(text)) else {
            return Identity::Malformed;
        };
        let digest = self.prover.digest(key.expose());
        let origins = origins.filter(|it| *it != ImportOrigin::Raw || key.may_be_raw());
        let (mut candidates, mut others) = (Vec::new(), false);
        for origin in origins {
            for entry in tagger.handles_of(origin, &key).filter_map(|it| index.find(it)) {
                match entry.live().map(Live::proof) {
                    Some(proof) if bool::from(proof.ct_eq(&digest)) => {
                        return Identity::Known(entry);
                    }
                    Some(_) => others = true,
                    None => candidates.push(entry),
                }
            }
            // The long tag of a digest leaves no doubt. Raw keys with the short tag of this text,
            // which take long to tell apart, need not be looked at.
            if !candidates.is_empty() {
                break;
            }
        }
        match (candidates.is_empty(), others) {
            (true, false) => Identity::Malformed,
            (true, true) => Identity::Unknown,
            (false, _) => {
                let presented = Secret::Foreign(key);
                Identity::Unproven(Unproven { presented, digest, candidates })
            }
        }
    }

    /// Whether a text that is not of our shape may be an imported key.
    pub fn may_be_imported(&self, text: &[u8]) -> bool {
        !matches!(self.identify_foreign(text), Identity::Malformed)
    }

    /// Derives the hash of an unproven secret, here and now. Slow on purpose.
    pub fn prove(&self, unproven: Unproven) -> (Identity, Option<Upgrade>) {
        let Unproven { presented, digest, candidates } = unproven;
        let proves = |entry: &Arc<Entry>| match entry.live().map(Live::proof) {
            Some(proof) => bool::from(proof.ct_eq(&digest)),
            None => self.derives(&presented, entry),
        };
        let Some(entry) = candidates.into_iter().find(proves) else {
            return (Identity::Unknown, None);
        };
        entry.remember_proof(digest);
        let weak = entry.hash.iterations() < self.rules.iterations_for(entry.prefix)
            || entry.hash.input() != Input::Text;
        let upgrade = weak.then(|| Upgrade { presented, entry: Arc::clone(&entry) });
        // Looked up again: that took its time, and the key may have been revoked meanwhile.
        let current = self.store.index().find(entry.prefix);
        if let Some(current) = &current {
            // The writer may have put it there before it could know of the proof.
            current.remember_proof(digest);
        }
        (current.map_or(Identity::Unknown, Identity::Known), upgrade)
    }

    /// Whether the hash follows from the text. A costly one of an imported key is derived for so
    /// many wrong texts a minute and no more: each guess would cost us more than its maker. Nobody
    /// can aim at one, as none knows its tag; with our own, whose prefix is no secret, this would
    /// be a way to lock them out.
    fn derives(&self, presented: &Secret, entry: &Entry) -> bool {
        if !is_costly(&entry.hash) || ImportOrigin::of(entry.prefix).is_none() {
            return presented.matches(&entry.hash);
        }
        let now = self.env.time.monotonic();
        if self.prover.was_guessed_at(entry.prefix, now) {
            return false;
        }
        let matches = presented.matches(&entry.hash);
        if !matches {
            self.prover.note_guess(entry.prefix, now);
        }
        matches
    }

    /// As [`Keyward::prove`], on a thread that gives way to all others; `then` is called there.
    /// Concurrent first uses of a key share a derivation. Refused if too many wait already.
    pub fn prove_apart(
        self: &Arc<Self>,
        unproven: Unproven,
        then: impl FnOnce((Identity, Option<Upgrade>)) + Send + 'static,
    ) -> Result<(), Crowded> {
        let app = Arc::clone(self);
        let lane = match &*unproven.candidates {
            [one] if !is_costly(&one.hash) => Lane::Of(one.prefix),
            _ => Lane::Slow,
        };
        self.prover.run(lane, move || then(app.prove(unproven)))
    }

    /// Stores a proved secret under a hash of today's cost, unless somebody else did meanwhile.
    pub fn rehash(&self, upgrade: &Upgrade) -> Result<(), Error> {
        let entry = Arc::clone(&upgrade.entry);
        let iterations = self.rules.iterations_for(entry.prefix);
        let fresh = upgrade.presented.hashed(iterations, &*self.env.entropy);
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
    /// What the hash of a value costs at least. Of a raw key that was imported nobody knows how well
    /// it was made. With a digest somebody else took it for strong enough, and its long tag, beside
    /// the secret that it is made under, would show a thief the way around any cost.
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

/// Whether deriving it takes longer than anybody should wait behind.
fn is_costly(hash: &KeyHash) -> bool {
    const COSTLY: u32 = 100_000;
    COSTLY <= hash.iterations()
}
