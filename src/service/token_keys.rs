//! The keys that sign tokens, in the data directory and in memory.

use std::{
    io,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use arc_swap::ArcSwap;
use serde_json::Value;

use crate::{
    domain::{token_key::TokenKey, token_keys::TokenKeys},
    env::Timestamp,
    service::{Error, Keyward, TokenRefusal, files::replace_file},
};

/// The keys that sign tokens. They are in no backup: tokens live for minutes, and new keys are made.
#[derive(Debug)]
pub struct TokenKeyRing {
    keys: ArcSwap<TokenKeys>,
    file: PathBuf,
    /// Serialises changes.
    turn: Mutex<()>,
}

impl TokenKeyRing {
    /// Builds the ring of keys that were read from `file`.
    pub fn new(keys: TokenKeys, file: PathBuf) -> Self {
        Self { keys: ArcSwap::from_pointee(keys), file, turn: Mutex::default() }
    }

    /// Stores the keys. The owner of the file alone can read it.
    fn keep(&self, keys: &TokenKeys) -> Result<(), io::Error> {
        replace_file(&self.file, 0o600, &keys.expose())
    }

    /// Notes that the keys sign at `now`. Without storage they go on: the note only matters for a start
    /// with another clock.
    fn note(&self, now: Timestamp) {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(noted) = self.keys.load().noted(now) else { return };
        if let Err(err) = self.keep(&noted) {
            let error = &err as &dyn std::error::Error;
            tracing::warn!(error, "it cannot be stored until when the keys of tokens have signed");
        }
        self.keys.store(Arc::new(noted));
    }
}

impl Keyward {
    /// Makes the next key when it is due, and drops keys that no token needs any more. Replaces all keys if
    /// the clock went back behind their tokens. A key is stored before it is published. Returns whether
    /// anything changed.
    pub(super) fn turn_token_keys(&self) -> Result<bool, Error> {
        let ring = &self.token_keys;
        let _turn = ring.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let algorithm = self.settings.tokens.algorithm;
        let make = || TokenKey::generate(algorithm, &*self.env.entropy);
        let (now, steady) = (self.env.time.now(), self.env.time.steady_for());
        let keys = ring.keys.load();
        let Some(turned) = keys.turned(algorithm, now, steady, make) else { return Ok(false) };
        ring.keep(&turned).map_err(TokenRefusal::NoKeys)?;
        if keys.signed_after(now) {
            tracing::warn!(
                "the keys that sign tokens were replaced: the clock went back, and tokens from before \
                 would end late"
            );
        }
        ring.keys.store(Arc::new(turned));
        Ok(true)
    }

    /// Returns the keys of now. Makes them if there are none that may sign, which writes a file.
    fn token_keys_at(&self, now: Timestamp) -> Result<Arc<TokenKeys>, Error> {
        let keys = self.token_keys.keys.load_full();
        let algorithm = self.settings.tokens.algorithm;
        if keys.signer(algorithm, now).is_some() && !keys.signed_after(now) {
            return Ok(keys);
        }
        self.turn_token_keys()?;
        Ok(self.token_keys.keys.load_full())
    }

    /// Returns the key that signs at `now`, which is the time that its token tells.
    pub(super) fn token_signer(&self, now: Timestamp) -> Result<Arc<TokenKey>, Error> {
        let keys = self.token_keys_at(now)?;
        if keys.noted(now).is_some() {
            self.token_keys.note(now);
        }
        let signer = keys.signer(self.settings.tokens.algorithm, now).cloned();
        signer.ok_or(Error::NotFound)
    }

    /// Returns whether a token that this key signed at `at` is good for gateways that fetch the keys now.
    pub(super) fn is_key_published(&self, id: &str, at: Timestamp) -> bool {
        let (keys, now) = (self.token_keys.keys.load(), self.env.time.now());
        at <= now && keys.holds(id) && !keys.signed_after(now)
    }

    /// Replaces the keys that sign tokens, if tokens of theirs would end late by the clock of now.
    pub(super) fn refuse_late_tokens(&self) -> Result<(), Error> {
        if self.token_keys.keys.load().signed_after(self.env.time.now()) {
            self.turn_token_keys()?;
        }
        Ok(())
    }

    /// Returns the public keys of tokens as a JSON Web Key Set.
    pub fn token_jwks(&self) -> Result<Value, Error> {
        self.issuer()?;
        Ok(self.token_keys_at(self.env.time.now())?.to_jwks())
    }

    /// Returns how long ago the key that signs tokens was made; `None` if there is none yet.
    pub fn token_key_age(&self) -> Option<Duration> {
        let (algorithm, now) = (self.settings.tokens.algorithm, self.env.time.now());
        self.token_keys.keys.load().age(algorithm, now)
    }
}
