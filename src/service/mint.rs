//! New secrets and new hashes: derivations that no caller waits for but the one who wants them.

use std::sync::Arc;

use crate::{
    domain::{
        imported_key::ImportForm,
        key_hash::KeyHash,
        plaintext_key::{KeyPrefix, PlaintextKey},
    },
    service::{Keyward, QueueFull, Upgrade, identify::Rehashed, kdf_pool::Lane},
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
        self.hashed(PlaintextKey::generate(self.settings.prefix_label, &*self.env.entropy))
    }

    /// As [`Keyward::mint`], on a thread that gives way to all others; `then` is called there.
    /// Refused if too many wait already.
    pub fn mint_apart(
        self: &Arc<Self>,
        then: impl FnOnce(Minted) + Send + 'static,
    ) -> Result<(), QueueFull> {
        let ticket = self.kdf_pool.take_ticket()?;
        let plaintext = PlaintextKey::generate(self.settings.prefix_label, &*self.env.entropy);
        let (app, prefix) = (Arc::clone(self), plaintext.prefix());
        self.kdf_pool.run(Lane::Quick, prefix, move || {
            then(app.hashed(plaintext));
            drop(ticket);
        })
    }

    /// Derives the hash that a proved secret is to be stored under, as [`Keyward::mint_apart`].
    pub fn rehash_apart(
        self: &Arc<Self>,
        upgrade: Upgrade,
        then: impl FnOnce(Rehashed) + Send + 'static,
    ) -> Result<(), QueueFull> {
        let ticket = self.kdf_pool.take_ticket()?;
        let (app, prefix) = (Arc::clone(self), upgrade.prefix());
        self.kdf_pool.run(lane_of(prefix), prefix, move || {
            then(app.rehashed(upgrade));
            drop(ticket);
        })
    }

    fn hashed(&self, plaintext: PlaintextKey) -> Minted {
        self.kdf_pool.count_derivation();
        let hash = KeyHash::of(&plaintext, self.settings.hash_iterations, &*self.env.entropy);
        Minted { plaintext, hash }
    }

    /// How many hashes were derived since the start.
    pub fn derivations(&self) -> u64 {
        self.kdf_pool.derivations()
    }
}

/// The threads that derive the hash of this value.
pub(super) fn lane_of(prefix: KeyPrefix) -> Lane {
    match ImportForm::of(prefix) {
        Some(ImportForm::Raw) => Lane::Slow,
        None | Some(ImportForm::Sha256 | ImportForm::Sha512) => Lane::Quick,
    }
}
