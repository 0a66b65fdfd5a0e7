//! What the index holds of a credential and of its key.

use std::sync::{Arc, OnceLock};

use crate::{
    domain::{
        id::{AccountId, KeyId},
        key_hash::KeyHash,
        plaintext_key::KeyPrefix,
        scope::ScopeBits,
    },
    env::{Monotonic, Timestamp},
    store::RuntimeState,
};

/// Later than any instant that can be written down.
const NEVER: i64 = i64::MAX;

/// One value of a key, as verification sees it. There may be a million: every byte counts, and one
/// allocation is less than two.
#[derive(Debug)]
pub struct IndexedCredential {
    pub prefix: KeyPrefix,
    pub hash: KeyHash,
    pub key: KeyEntry,
    /// Only for values that were presented since the start; the others need no room for it.
    pub(super) live: OnceLock<Arc<RuntimeState>>,
    /// Boxed, for hardly any value is in grace.
    pub(super) grace: Option<Box<Grace>>,
}

/// When a rotated value ends: by the wall clock or by the monotonic one, whichever is first, so
/// that a clock set back gives it no longer life.
#[derive(Clone, Copy, Debug)]
pub struct Grace {
    /// When the key was last rotated; an older value may have been replaced earlier.
    pub rotated_at: Option<Timestamp>,
    pub valid_until: Timestamp,
    pub(super) ends: Monotonic,
    /// The end was recorded; no clock brings the value back.
    pub(super) ended: bool,
}

/// What is common to all values of a key; hardly any has more than one.
#[derive(Clone, Debug)]
pub struct KeyEntry {
    pub id: KeyId,
    pub account: AccountId,
    pub enabled: bool,
    pub revoked: bool,
    /// Its expiry was recorded; no clock brings the key back.
    expired: bool,
    scopes: Arc<ScopeBits>,
    /// [`NEVER`] for a key without an end.
    expires_at_ms: i64,
    /// The name, and after it the metadata as compact JSON unless they are empty. Nothing for a
    /// revoked key.
    text: Box<str>,
    name_len: u16,
}

/// What [`KeyEntry`] is made of.
pub(super) struct KeyFacts<'a> {
    pub id: KeyId,
    pub account: AccountId,
    pub name: &'a str,
    pub scopes: Arc<ScopeBits>,
    pub enabled: bool,
    pub revoked: bool,
    pub expiry_recorded: bool,
    pub expires_at: Option<Timestamp>,
    /// Compact JSON; nothing for the empty object.
    pub metadata: &'a str,
}

/// What [`Grace`] is made of.
pub(super) struct GraceFacts {
    pub rotated_at: Option<Timestamp>,
    pub valid_until: Timestamp,
    pub ended: bool,
}

impl IndexedCredential {
    /// What changes without the writer; `None` until the secret was presented since the start.
    pub fn live(&self) -> Option<&RuntimeState> {
        self.live.get().map(|it| &**it)
    }

    /// Remembers the digest of the text that was proved to be this secret.
    pub fn remember_digest(&self, digest: [u8; 32]) {
        // A second digest of the same secret is the same digest.
        self.live.get_or_init(|| Arc::new(RuntimeState::new(digest)));
    }

    /// `None` for a key's current value.
    pub fn grace(&self) -> Option<Grace> {
        self.grace.as_deref().copied()
    }
}

impl KeyEntry {
    pub(super) fn new(facts: &KeyFacts<'_>) -> Self {
        // Verification never shows them of a revoked key, and those may be many. The file keeps them.
        let (name, metadata) = if facts.revoked { ("", "") } else { (facts.name, facts.metadata) };
        Self {
            id: facts.id,
            account: facts.account,
            enabled: facts.enabled,
            revoked: facts.revoked,
            expired: facts.expiry_recorded,
            scopes: Arc::clone(&facts.scopes),
            expires_at_ms: facts.expires_at.map_or(NEVER, Timestamp::as_millis),
            text: [name, metadata].concat().into(),
            // A name is at most 100 characters, so at most 400 bytes.
            name_len: u16::try_from(name.len()).unwrap_or_default(),
        }
    }

    /// What the key grants; `*` is still a bit among the others.
    pub fn scopes(&self) -> ScopeBits {
        *self.scopes
    }

    /// `None` means that the key never expires.
    pub fn expires_at(&self) -> Option<Timestamp> {
        (self.expires_at_ms != NEVER).then(|| Timestamp::from_millis(self.expires_at_ms))
    }

    /// Half open: expired at the very instant.
    pub fn is_expired_at(&self, now: Timestamp) -> bool {
        self.expired || self.expires_at_ms <= now.as_millis()
    }

    /// Empty for a revoked key.
    pub fn name(&self) -> &str {
        self.text.split_at_checked(usize::from(self.name_len)).map_or("", |(name, _)| name)
    }

    /// Compact JSON; `None` for the empty object, and for a revoked key.
    pub fn metadata(&self) -> Option<&str> {
        let (_, metadata) = self.text.split_at_checked(usize::from(self.name_len))?;
        (!metadata.is_empty()).then_some(metadata)
    }
}

impl Grace {
    /// Half open: over at the very instant of the deadline.
    pub fn is_over(self, now: Timestamp, monotonic: Monotonic) -> bool {
        self.ended || self.valid_until <= now || self.ends <= monotonic
    }
}
