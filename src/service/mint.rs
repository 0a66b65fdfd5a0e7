//! New secrets and new hashes, derived on threads of low priority.

use std::sync::Arc;

use crate::{
    domain::{key_hash::KeyHash, plaintext_key::PlaintextKey},
    service::{Keyward, QueueFull, Upgrade, identify::Rehashed},
};

/// A new plaintext key and its hash.
pub struct Minted {
    pub(super) plaintext: PlaintextKey,
    pub(super) hash: KeyHash,
}

impl Keyward {
    /// Makes a new key on this thread. It runs the KDF, so call it before a transaction and never
    /// inside one: the writer must not wait for it.
    pub fn mint(&self) -> Minted {
        self.hashed(PlaintextKey::generate(self.settings.prefix_label, &*self.env.entropy))
    }

    /// As [`Keyward::mint`], on a thread of low priority, which then calls `then`.
    ///
    /// # Errors
    ///
    /// [`QueueFull`] if too many new hashes wait.
    pub fn mint_apart(
        self: &Arc<Self>,
        then: impl FnOnce(Minted) + Send + 'static,
    ) -> Result<(), QueueFull> {
        let ticket = self.kdf_pool.take_ticket()?;
        let plaintext = PlaintextKey::generate(self.settings.prefix_label, &*self.env.entropy);
        let (app, prefix) = (Arc::clone(self), plaintext.prefix());
        self.kdf_pool.run(prefix, move || {
            then(app.hashed(plaintext));
            drop(ticket);
        })
    }

    /// Derives the new hash of a verified secret, on a thread as in [`Keyward::mint_apart`].
    pub fn rehash_apart(
        self: &Arc<Self>,
        upgrade: Upgrade,
        then: impl FnOnce(Rehashed) + Send + 'static,
    ) -> Result<(), QueueFull> {
        let ticket = self.kdf_pool.take_ticket()?;
        let (app, prefix) = (Arc::clone(self), upgrade.prefix());
        self.kdf_pool.run(prefix, move || {
            then(app.rehashed(upgrade));
            drop(ticket);
        })
    }

    /// Derives the hash of this key, as in [`Keyward::mint`].
    pub(super) fn hashed(&self, plaintext: PlaintextKey) -> Minted {
        self.kdf_pool.count_derivation();
        let hash = KeyHash::of(&plaintext, self.settings.hash_iterations, &*self.env.entropy);
        Minted { plaintext, hash }
    }

    /// Returns how many hashes were derived since the start.
    pub fn derivations(&self) -> u64 {
        self.kdf_pool.derivations()
    }
}
