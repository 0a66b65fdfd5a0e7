//! An API key as its owner sees it, without its secret.

use std::time::Duration;

use crate::{
    domain::{
        address_list::AddressList,
        id::{AccountId, KeyId},
        lifetime, named_enum,
        rate_limit::RateLimit,
        scope::ScopeSet,
        text::{Metadata, Name},
    },
    env::Timestamp,
};

#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ApiKey {
    pub id: KeyId,
    pub account_id: AccountId,
    pub name: Name,
    pub scopes: ScopeSet,
    pub enabled: bool,
    /// `None` means that the key never expires. Half open: at this very instant it has expired.
    pub expires_at: Option<Timestamp>,
    pub metadata: Metadata,
    /// The addresses from which the key is accepted; `None` means all.
    pub allowed_ips: Option<AddressList>,
    /// `None` means the default of the account.
    pub rate_limit: Option<RateLimit>,
    pub created_at: Timestamp,
    /// The key that created this one; `None` for a local command.
    pub created_by: Option<KeyId>,
    pub updated_at: Timestamp,
    pub rotated_at: Option<Timestamp>,
    /// A revoked key is a tombstone: lists hide it, and verification still knows it.
    pub revoked_at: Option<Timestamp>,
    /// The newest notice of its expiry: 30, 7 or 1 days; see [`notice`](crate::domain::notice).
    pub announced_days: Option<u32>,
    /// What the key may give, if it is the key of a console link.
    pub console_link: Option<ConsoleLink>,
    /// The number of changes, uses not included.
    pub revision: i64,
}

/// The key of a console link: it ends soon, but the keys that its holder makes may live on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ConsoleLink {
    /// The latest end that the key that made the link gives; `None` means any.
    pub gives_until: Option<Timestamp>,
}

named_enum! {
    /// The status of a key at an instant.
    pub enum KeyStatus {
        Active => "active",
        /// Active, with less than [`ApiKey::EXPIRING`] left.
        Expiring => "expiring",
        Expired => "expired",
        Disabled => "disabled",
    }
}

/// The expiry that a request gives to a key.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum RequestedExpiry {
    /// The request names none: a new key gets the default lifetime but expires with its maker at the
    /// latest, and a changed key expires as before.
    #[default]
    Inherit,
    Never,
    At(Timestamp),
    /// This many seconds after the change.
    In(u32),
}

impl From<Option<Option<Timestamp>>> for RequestedExpiry {
    /// Converts a member of a request: absent, null or an instant.
    fn from(member: Option<Option<Timestamp>>) -> Self {
        member.map_or(Self::Inherit, |it| it.map_or(Self::Never, Self::At))
    }
}

impl RequestedExpiry {
    /// Returns the expiry of a key that is changed at `now`; `None` means never.
    pub fn or(self, inherited: Option<Timestamp>, now: Timestamp) -> Option<Timestamp> {
        match self {
            Self::Inherit => inherited,
            Self::Never => None,
            Self::At(instant) => Some(instant),
            Self::In(lifetime) => Some(now.after(lifetime::seconds(lifetime))),
        }
    }
}

impl ApiKey {
    pub const EXPIRING: Duration = Duration::from_hours(7 * 24);

    pub fn is_expired_at(&self, now: Timestamp) -> bool {
        self.expires_at.is_some_and(|deadline| deadline <= now)
    }

    /// Returns when the current secret was made: at the creation or the last rotation.
    pub fn secret_made_at(&self) -> Timestamp {
        self.rotated_at.unwrap_or(self.created_at)
    }

    /// Returns the latest end that the key gives to other keys; `None` means any.
    pub fn gives_until(&self) -> Option<Timestamp> {
        self.console_link.map_or(self.expires_at, |it| it.gives_until)
    }

    /// Returns `end`, or the expiry of the key if that is earlier.
    pub fn ends_by(&self, end: Timestamp) -> Timestamp {
        self.expires_at.map_or(end, |it| it.min(end))
    }

    pub fn status_at(&self, now: Timestamp) -> KeyStatus {
        if !self.enabled {
            return KeyStatus::Disabled;
        }
        match self.expires_at {
            Some(deadline) if deadline <= now => KeyStatus::Expired,
            Some(deadline) if deadline < now.after(Self::EXPIRING) => KeyStatus::Expiring,
            Some(_) | None => KeyStatus::Active,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::scope::ScopeSet;

    fn key() -> ApiKey {
        ApiKey {
            id: KeyId::from_raw(1),
            account_id: AccountId::from_raw(1),
            name: Name::parse("shop").unwrap(),
            scopes: ScopeSet::from_stored("orders:read").unwrap(),
            enabled: true,
            expires_at: Some(Timestamp::from_millis(1_000_000_000)),
            metadata: Metadata::empty(),
            allowed_ips: None,
            rate_limit: None,
            created_at: Timestamp::from_millis(0),
            created_by: None,
            updated_at: Timestamp::from_millis(0),
            rotated_at: None,
            revoked_at: None,
            announced_days: None,
            console_link: None,
            revision: 1,
        }
    }

    #[test]
    fn a_status_changes_at_the_millisecond() {
        let mut key = key();
        let week = i64::try_from(ApiKey::EXPIRING.as_millis()).unwrap();
        let at = |key: &ApiKey, millis| key.status_at(Timestamp::from_millis(millis));
        assert_eq!(at(&key, 1_000_000_000 - week), KeyStatus::Active);
        assert_eq!(at(&key, 1_000_000_000 - week + 1), KeyStatus::Expiring);
        assert_eq!(at(&key, 999_999_999), KeyStatus::Expiring);
        assert_eq!(at(&key, 1_000_000_000), KeyStatus::Expired);
        key.enabled = false;
        assert_eq!(at(&key, 1_000_000_000), KeyStatus::Disabled);
    }

    #[test]
    fn a_key_expires_at_its_instant_and_gives_no_later_end() {
        let at = Timestamp::from_millis;
        let mut key = key();
        key.expires_at = Some(at(1_000));
        assert!(!key.is_expired_at(at(999)) && key.is_expired_at(at(1_000)));
        assert_eq!([key.ends_by(at(999)), key.ends_by(at(1_001))], [at(999), at(1_000)]);
        assert_eq!(key.gives_until(), Some(at(1_000)));
        key.console_link = Some(ConsoleLink { gives_until: Some(at(5_000)) });
        assert_eq!(key.gives_until(), Some(at(5_000)));
        key.console_link = Some(ConsoleLink { gives_until: None });
        assert_eq!(key.gives_until(), None);
        key.expires_at = None;
        assert!(!key.is_expired_at(at(i64::MAX)));
        assert_eq!(key.ends_by(at(7)), at(7));
    }

    #[test]
    fn a_secret_is_as_old_as_the_last_rotation() {
        let mut key = key();
        assert_eq!(key.secret_made_at(), Timestamp::from_millis(0));
        key.rotated_at = Some(Timestamp::from_millis(5));
        assert_eq!(key.secret_made_at(), Timestamp::from_millis(5));
    }

    #[test]
    fn a_request_keeps_sets_or_removes_the_expiry() {
        let (now, old) = (Timestamp::from_millis(1_000), Some(Timestamp::from_millis(9_000)));
        let end = Timestamp::from_millis(5_000);
        assert_eq!(RequestedExpiry::from(None).or(old, now), old);
        assert_eq!(RequestedExpiry::from(Some(None)).or(old, now), None);
        assert_eq!(RequestedExpiry::from(Some(Some(end))).or(old, now), Some(end));
        assert_eq!(RequestedExpiry::In(4).or(old, now), Some(end));
    }
}
