//! New secrets and new hashes: derivations that no caller waits for but the one who wants them.

use std::sync::Arc;

use crate::{
    domain::{
        credential::{KeyPrefix, PlaintextKey},
        foreign_key::Origin as ImportOrigin,
        key_hash::KeyHash,
    },
    service::{Crowded, Keyward, Upgrade, identify::Rehashed, prover::Lane},
};

/// A new plaintext key and its hash.
pub struct Minted {
    pub(super) plaintext: PlaintextKey,
    pub(super) hash: KeyHash,
}

impl Keyward {
    /// Makes a new key, here and now. Slow on purpose, so it runs before a transaction, never
    /// inside one: the writer waits for no derivation.
    pub fn mint(&self) -> Minted {
        self.hashed(PlaintextKey::generate(self.rules.brand, &*self.env.entropy))
    }

    /// As [`Keyward::mint`], on a thread that gives way to all others; `then` is called there.
    /// Refused if too many wait already.
    pub fn mint_apart(
        self: &Arc<Self>,
        then: impl FnOnce(Minted) + Send + 'static,
    ) -> Result<(), Crowded> {
        let ticket = self.prover.take_ticket()?;
        let plaintext = PlaintextKey::generate(self.rules.brand, &*self.env.entropy);
        let (app, prefix) = (Arc::clone(self), plaintext.prefix());
        self.prover.run(Lane::Quick, prefix, move || {
            then(app.hashed(plaintext));
            drop(ticket);
        })
    }

    /// Derives the hash that a proved secret is to be stored under, as [`Keyward::mint_apart`].
    pub fn rehash_apart(
        self: &Arc<Self>,
        upgrade: Upgrade,
        then: impl FnOnce(Rehashed) + Send + 'static,
    ) -> Result<(), Crowded> {
        let ticket = self.prover.take_ticket()?;
        let (app, prefix) = (Arc::clone(self), upgrade.prefix());
        self.prover.run(lane_of(prefix), prefix, move || {
            then(app.rehashed(upgrade));
            drop(ticket);
        })
    }

    fn hashed(&self, plaintext: PlaintextKey) -> Minted {
        self.prover.count_derivation();
        let hash = KeyHash::of(&plaintext, self.rules.hash_iterations, &*self.env.entropy);
        Minted { plaintext, hash }
    }

    /// How many hashes were derived since the start.
    pub fn derivations(&self) -> u64 {
        self.prover.derivations()
    }
}

/// The threads that derive the hash of this value.
pub(super) fn lane_of(prefix: KeyPrefix) -> Lane {
    match ImportOrigin::of(prefix) {
        Some(ImportOrigin::Raw) => Lane::Slow,
        None | Some(ImportOrigin::Sha256 | ImportOrigin::Sha512) => Lane::Quick,
    }
}
