//! The keys that sign tokens, in the data directory and in memory.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use arc_swap::ArcSwap;
use serde_json::Value;

use crate::{
    domain::{token_key::TokenKey, token_keys::TokenKeys},
    service::{Error, Keyward, TokenRefusal},
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

    /// Replaces the file atomically. Its owner alone can read it.
    fn keep(&self, keys: &TokenKeys) -> Result<(), io::Error> {
        let fresh = self.file.with_extension("new");
        // A file that an interrupted change left may have another mode.
        match fs::remove_file(&fresh) {
            Err(err) if err.kind() != io::ErrorKind::NotFound => return Err(err),
            Ok(()) | Err(_) => (),
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh)?;
        file.write_all(keys.expose().as_bytes())?;
        file.sync_all()?;
        fs::rename(fresh, &self.file)
    }
}

impl Keyward {
    /// Makes the next key when it is due, and drops keys that no token needs any more. A key is stored
    /// before it is published. Returns whether anything changed.
    pub(super) fn turn_token_keys(&self) -> Result<bool, Error> {
        let ring = &self.token_keys;
        let _turn = ring.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let algorithm = self.settings.tokens.algorithm;
        let make = || TokenKey::generate(algorithm, &*self.env.entropy);
        let Some(turned) = ring.keys.load().turned(algorithm, self.env.time.now(), make) else {
            return Ok(false);
        };
        ring.keep(&turned).map_err(TokenRefusal::NoKeys)?;
        ring.keys.store(Arc::new(turned));
        Ok(true)
    }

    /// Returns the key that signs now. Makes it if there is none, which writes a file.
    pub(super) fn token_signer(&self) -> Result<Arc<TokenKey>, Error> {
        let (algorithm, now) = (self.settings.tokens.algorithm, self.env.time.now());
        let signer = || self.token_keys.keys.load().signer(algorithm, now).cloned();
        if let Some(key) = signer() {
            return Ok(key);
        }
        self.turn_token_keys()?;
        signer().ok_or(Error::NotFound)
    }

    /// Returns the public keys of tokens as a JSON Web Key Set.
    pub fn token_jwks(&self) -> Result<Value, Error> {
        self.issuer()?;
        self.token_signer()?;
        Ok(self.token_keys.keys.load().to_jwks())
    }

    /// Returns how long ago the key that signs tokens was made; `None` if there is none yet.
    pub fn token_key_age(&self) -> Option<Duration> {
        let (algorithm, now) = (self.settings.tokens.algorithm, self.env.time.now());
        self.token_keys.keys.load().age(algorithm, now)
    }
}
