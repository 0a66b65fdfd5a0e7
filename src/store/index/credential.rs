//! What the index holds of a credential and of its key.

use std::sync::{Arc, OnceLock};

use super::KeyLimits;
use crate::{
    domain::{
        address_list::AddressList,
        id::{AccountId, KeyId},
        key_hash::KeyHash,
        plaintext_key::KeyPrefix,
        rate_limit::RateLimit,
        scope::ScopeBits,
    },
    env::{Monotonic, Timestamp},
    store::{RuntimeState, StoreError, rows::Fields},
};

/// Later than any [`Timestamp`].
const NEVER: i64 = i64::MAX;

/// One credential, as verification sees it. A server may hold a million of them, so every byte and
/// every allocation counts.
#[derive(Debug)]
pub struct IndexedCredential {
    pub prefix: KeyPrefix,
    pub hash: KeyHash,
    pub key: KeyEntry,
    /// Only for credentials that were verified since the start; the others need no space for it.
    pub(super) live: OnceLock<Arc<RuntimeState>>,
    /// Boxed, because few credentials are in grace.
    pub(super) grace: Option<Box<Grace>>,
}

/// When a rotated credential ends: by the wall clock or by the monotonic clock, the earlier of the
/// two, so that setting the clock back does not extend its life.
#[derive(Clone, Copy, Debug)]
pub struct Grace {
    /// When the key was last rotated; an older credential may have been replaced earlier.
    pub rotated_at: Option<Timestamp>,
    pub valid_until: Timestamp,
    pub(super) ends: Monotonic,
    /// The end was recorded; no clock makes the credential valid again.
    pub(super) ended: bool,
}

/// What all credentials of a key have in common. Each has a copy, because few keys have more than one;
/// the long parts are shared.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts, each from a column")]
pub struct KeyEntry {
    pub id: KeyId,
    pub account: AccountId,
    pub enabled: bool,
    pub revoked: bool,
    /// The expiry was recorded; no clock makes the key valid again.
    expired: bool,
    /// Whether the key has a rotated credential whose end is not recorded.
    pub in_rotation: bool,
    scopes: Arc<ScopeBits>,
    /// `None` for most keys.
    pub limits: Option<Arc<KeyLimits>>,
    /// [`NEVER`] for a key that never expires.
    expires_at_ms: i64,
    /// The name, followed by the metadata as compact JSON unless they are empty. Empty for a revoked
    /// key; without metadata for an expired one.
    text: Arc<str>,
    name_len: u16,
}

/// What the file holds of a [`Grace`].
pub(super) struct GraceFacts {
    pub rotated_at: Option<Timestamp>,
    pub valid_until: Timestamp,
    pub ended: bool,
}

impl IndexedCredential {
    /// Returns what changes without the writer; `None` until the credential is verified for the first
    /// time since the start.
    pub fn live(&self) -> Option<&RuntimeState> {
        self.live.get().map(|it| &**it)
    }

    /// Keeps the digest of the plaintext key that was verified to be this credential.
    pub fn remember_digest(&self, digest: [u8; 32]) {
        // A second thread may come first; its digest is the same.
        self.live.get_or_init(|| Arc::new(RuntimeState::new(digest)));
    }

    /// Returns when the credential ends by the wall clock: with its key or with its grace, the earlier of
    /// the two. `None` means never.
    pub fn ends_at(&self) -> Option<Timestamp> {
        let grace = self.grace.as_deref().map(|it| it.valid_until);
        [self.key.expires_at(), grace].into_iter().flatten().min()
    }

    /// Returns the grace; `None` for a current credential.
    pub fn grace(&self) -> Option<Grace> {
        self.grace.as_deref().copied()
    }
}

impl KeyEntry {
    /// What the index reads of a key, `rotated_at_ms` for the grace of its credentials.
    pub(super) const COLUMNS: &str =
        "id, account_id, name, scopes, enabled, expires_at_ms, metadata,
        revoked_at_ms, expiry_recorded_at_ms, rotated_at_ms, allowed_ips, rate_limit, rate_window_s,
        console_link, gives_until_ms,
        rotated_at_ms IS NOT NULL AND EXISTS (SELECT 1 FROM credentials WHERE key_id = api_keys.id
            AND valid_until_ms IS NOT NULL AND ended_at_ms IS NULL) AS in_rotation";

    /// Reads a row of [`KeyEntry::COLUMNS`], of which the caller has read account and scopes.
    pub(super) fn read(
        row: Fields<'_>,
        account: AccountId,
        scopes: Arc<ScopeBits>,
    ) -> Result<Self, StoreError> {
        let id = row.get("id")?;
        let name = row.text("name")?;
        let enabled = row.get("enabled")?;
        let expires_at: Option<Timestamp> = row.get("expires_at_ms")?;
        let metadata = row.text("metadata")?;
        let revoked = row.get::<Option<Timestamp>>("revoked_at_ms")?.is_some();
        let expired = row.get::<Option<Timestamp>>("expiry_recorded_at_ms")?.is_some();
        let rate = row.rate_limit("rate_limit", "rate_window_s")?;
        let in_rotation = row.get("in_rotation")?;
        let limits = KeyLimits::new(row.get("allowed_ips")?, rate, row.console_link()?);
        // Verification never shows them of revoked and expired keys, which may be many. The file keeps
        // them. No change makes such a key valid again.
        let name = if revoked { "" } else { name };
        let metadata = if revoked || expired || metadata == "{}" { "" } else { metadata };
        Ok(Self {
            id,
            account,
            enabled,
            revoked,
            expired,
            in_rotation,
            scopes,
            limits,
            expires_at_ms: expires_at.map_or(NEVER, Timestamp::as_millis),
            text: [name, metadata].concat().into(),
            // A name is at most 100 characters, so at most 400 bytes.
            name_len: u16::try_from(name.len()).unwrap_or_default(),
        })
    }

    /// Returns the granted scopes; `*` is one bit among them.
    pub fn scopes(&self) -> ScopeBits {
        *self.scopes
    }

    /// Returns the addresses from which the key is accepted; `None` means all.
    pub fn allowed_ips(&self) -> Option<&AddressList> {
        self.limits.as_ref()?.allowed_ips.as_ref()
    }

    /// Returns the rate limit of its own; without it, the default of the account applies.
    pub fn rate(&self) -> Option<RateLimit> {
        self.limits.as_ref()?.rate
    }

    /// Returns the latest end that the key gives to other keys; `None` means any.
    pub fn gives_until(&self) -> Option<Timestamp> {
        let link = self.limits.as_ref().and_then(|it| it.console_link);
        link.map_or_else(|| self.expires_at(), |it| it.gives_until)
    }

    /// Returns the expiry; `None` means that the key never expires.
    pub fn expires_at(&self) -> Option<Timestamp> {
        (self.expires_at_ms != NEVER).then(|| Timestamp::from_millis(self.expires_at_ms))
    }

    /// Returns whether the key has expired. Half open: expired at the instant itself.
    pub fn is_expired_at(&self, now: Timestamp) -> bool {
        self.expired || self.expires_at_ms <= now.as_millis()
    }

    /// Returns the name; empty for a revoked key.
    pub fn name(&self) -> &str {
        self.text.split_at_checked(usize::from(self.name_len)).map_or("", |(name, _)| name)
    }

    /// Returns compact JSON; `None` for the empty object, and for a key that is revoked or whose expiry
    /// was recorded.
    pub fn metadata(&self) -> Option<&str> {
        let (_, metadata) = self.text.split_at_checked(usize::from(self.name_len))?;
        (!metadata.is_empty()).then_some(metadata)
    }
}

impl Grace {
    /// Returns whether the grace is over. Half open: over at the deadline itself.
    pub fn is_over(self, now: Timestamp, monotonic: Monotonic) -> bool {
        self.ended || self.valid_until <= now || self.ends <= monotonic
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The documentation promises at most 300 bytes for a key without metadata. The allocator adds 8
    /// bytes and rounds up to 16, and an `Arc` has two counters.
    #[test]
    fn a_credential_stays_small() {
        assert!(size_of::<IndexedCredential>() <= 168, "{}", size_of::<IndexedCredential>());
    }
}
