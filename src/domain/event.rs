//! Events, which are the entries of the audit log, and the hash that chains them.

use std::{fmt, net::IpAddr, sync::Arc};

use pbkdf2::sha2::{Digest, Sha256};
use serde_json::Value;

use crate::{
    domain::{
        api_key::ApiKey,
        id::{AccountId, KeyId},
        named_enum,
        plaintext_key::KeyPrefix,
    },
    env::Timestamp,
};

/// The actor of an event.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Actor {
    Key { id: KeyId, prefix: KeyPrefix, account: AccountId },
    Cli,
    Scheduler,
}

/// The subject of an event.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Subject {
    Key(KeyId),
    Account(AccountId),
    /// keyward itself.
    Server,
}

/// The source of an event: its actor, request id and client address.
#[derive(Clone, Debug)]
pub struct EventSource {
    pub actor: Actor,
    pub request_id: Option<Arc<str>>,
    pub client_ip: Option<IpAddr>,
}

/// The request that causes an event. [`RequestContext::caused_by`] adds the actor once it is known,
/// so an event never names a wrong actor.
#[derive(Clone, Debug, Default)]
pub struct RequestContext {
    pub request_id: Option<Arc<str>>,
    pub client_ip: Option<IpAddr>,
}

impl RequestContext {
    pub fn caused_by(self, actor: Actor) -> EventSource {
        EventSource { actor, request_id: self.request_id, client_ip: self.client_ip }
    }
}

named_enum! {
    /// The type of an event. The names are for ever: never renamed, never reused.
    pub enum EventType {
        ApiKeyCreated => "api_key.created",
        ApiKeyUpdated => "api_key.updated",
        ApiKeyRotated => "api_key.rotated",
        ApiKeyGraceEnded => "api_key.grace_ended",
        ApiKeyRevoked => "api_key.revoked",
        ApiKeyExpiring => "api_key.expiring",
        ApiKeyExpired => "api_key.expired",
        ApiKeyPurged => "api_key.purged",
        ApiKeyRetiredKeyUsed => "api_key.retired_key_used",
        ApiKeyExchanged => "api_key.exchanged",
        ApiKeyNewAddress => "api_key.new_address",
        ApiKeyRehashed => "api_key.rehashed",
        ApiKeyRateLimitNear => "api_key.rate_limit_near",
        ApiKeyRateLimitReached => "api_key.rate_limit_reached",
        ApiKeysImported => "api_keys.imported",
        AccountCreated => "account.created",
        AccountUpdated => "account.updated",
        AccountDeleted => "account.deleted",
        AccountPurged => "account.purged",
        AccountRateLimitNear => "account.rate_limit_near",
        AccountRateLimitReached => "account.rate_limit_reached",
        ClockStepped => "clock.stepped",
        ClockAccepted => "clock.accepted",
        AuthDenied => "auth.denied",
        RootKeyReset => "root_key.reset",
        BackupCreated => "backup.created",
        BackupRestored => "backup.restored",
        WebhookDisabled => "webhook.disabled",
        WebhookEnabled => "webhook.enabled",
        ServerStarted => "server.started",
        ServerStopped => "server.stopped",
    }
}

/// An event to record. `data` is a JSON object of public facts and never holds a secret.
#[derive(Clone, Debug)]
pub struct NewEvent {
    pub event_type: EventType,
    /// The account of the event; `None` for an event about keyward.
    pub account: Option<AccountId>,
    pub subject: Subject,
    pub data: Value,
}

impl NewEvent {
    pub fn about_key(event_type: EventType, key: &ApiKey, data: Value) -> Self {
        let (account, subject) = (Some(key.account_id), Subject::Key(key.id));
        Self { event_type, account, subject, data }
    }

    pub fn about_account(event_type: EventType, account: AccountId, data: Value) -> Self {
        Self { event_type, account: Some(account), subject: Subject::Account(account), data }
    }

    /// Builds an event about keyward itself.
    pub fn about_server(event_type: EventType, data: Value) -> Self {
        Self { event_type, account: None, subject: Subject::Server, data }
    }
}

/// An event as it is stored, with all columns.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Event {
    pub seq: i64,
    pub time: Timestamp,
    pub event_type: String,
    pub account_id: Option<String>,
    pub actor: String,
    pub actor_prefix: Option<String>,
    pub actor_account_id: Option<String>,
    pub subject: String,
    pub request_id: Option<String>,
    pub client_ip: Option<String>,
    pub data: String,
    pub prev_hash: ChainHash,
    pub hash: ChainHash,
}

/// The SHA-256 of an event and of all events before it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ChainHash(pub [u8; 32]);

impl EventSource {
    pub const CLI: Self = Self { actor: Actor::Cli, request_id: None, client_ip: None };
    pub const SCHEDULER: Self = Self { actor: Actor::Scheduler, request_id: None, client_ip: None };
}

impl Actor {
    /// Returns the stored form, which filters take, too.
    pub fn encode(&self) -> String {
        match self {
            Self::Key { id, .. } => id.to_string(),
            Self::Cli => "cli".to_owned(),
            Self::Scheduler => "scheduler".to_owned(),
        }
    }

    pub fn key_id(&self) -> Option<KeyId> {
        match self {
            Self::Key { id, .. } => Some(*id),
            Self::Cli | Self::Scheduler => None,
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key(id) => id.fmt(f),
            Self::Account(id) => id.fmt(f),
            Self::Server => f.write_str("keyward"),
        }
    }
}

impl Event {
    /// Returns the hash of this event after `prev_hash`.
    ///
    /// SHA-256 over a tag, the previous hash, then `seq` and `time` (milliseconds) as 8 bytes each,
    /// big endian, then each text column as its length in bytes (8, big endian) and its UTF-8
    /// bytes. An absent column has the length 2^64 - 1 and no bytes. The hash covers the bytes as
    /// stored, so nothing depends on a canonical form, and no two events share an encoding.
    #[must_use]
    pub fn expected_hash(&self) -> ChainHash {
        const ABSENT: u64 = u64::MAX;
        let mut hasher = Sha256::new();
        hasher.update(b"keyward event v1\n");
        hasher.update(self.prev_hash.0);
        hasher.update(self.seq.to_be_bytes());
        hasher.update(self.time.as_millis().to_be_bytes());
        for field in [
            Some(&self.event_type),
            self.account_id.as_ref(),
            Some(&self.actor),
            self.actor_prefix.as_ref(),
            self.actor_account_id.as_ref(),
            Some(&self.subject),
            self.request_id.as_ref(),
            self.client_ip.as_ref(),
            Some(&self.data),
        ] {
            let len = field.map_or(ABSENT, |it| it.len() as u64);
            hasher.update(len.to_be_bytes());
            hasher.update(field.map_or("", String::as_str));
        }
        ChainHash(hasher.finalize().into())
    }
}

impl ChainHash {
    /// The hash before the first event.
    pub const GENESIS: Self = Self([0; 32]);
}

impl fmt::Display for ChainHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|it| write!(f, "{it:02x}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event() -> Event {
        Event {
            seq: 1,
            time: Timestamp::from_millis(1_000),
            event_type: "api_key.created".to_owned(),
            account_id: Some("acct_1".to_owned()),
            actor: "cli".to_owned(),
            actor_prefix: None,
            actor_account_id: None,
            subject: "key_1".to_owned(),
            request_id: None,
            client_ip: None,
            data: "{}".to_owned(),
            prev_hash: ChainHash::GENESIS,
            hash: ChainHash::GENESIS,
        }
    }

    #[test]
    fn every_column_counts() {
        let some = || Some("x".to_owned());
        let changes: [fn(&mut Event, Option<String>); 12] = [
            |it, _| it.seq = 2,
            |it, _| it.time = Timestamp::from_millis(1_001),
            |it, _| it.event_type.push('x'),
            |it, x| it.account_id = x,
            |it, _| it.actor.push('x'),
            |it, x| it.actor_prefix = x,
            |it, x| it.actor_account_id = x,
            |it, _| it.subject.push('x'),
            |it, x| it.request_id = x,
            |it, x| it.client_ip = x,
            |it, _| it.data.push('x'),
            |it, _| it.prev_hash = ChainHash([1; 32]),
        ];
        let mut seen = vec![event().expected_hash()];
        for change in changes {
            let mut other = event();
            change(&mut other, some());
            let hash = other.expected_hash();
            assert!(!seen.contains(&hash), "{other:?}");
            seen.push(hash);
        }
    }

    #[test]
    fn moving_a_byte_between_columns_or_emptying_one_changes_the_hash() {
        let (mut left, mut right) = (event(), event());
        left.actor = "ab".to_owned();
        left.subject = "c".to_owned();
        right.actor = "a".to_owned();
        right.subject = "bc".to_owned();
        assert_ne!(left.expected_hash(), right.expected_hash());
        let mut empty = event();
        empty.request_id = Some(String::new());
        assert_ne!(empty.expected_hash(), event().expected_hash());
    }

    #[test]
    fn an_actor_and_a_subject_have_the_text_that_is_stored() {
        let (key, account) = (KeyId::from_raw(1), AccountId::from_raw(2));
        let prefix = KeyPrefix::from_stored("rg_8fK2mQ9zT").unwrap();
        let actor = Actor::Key { id: key, prefix, account };
        assert_eq!((actor.encode(), actor.key_id()), (key.to_string(), Some(key)));
        assert_eq!((Actor::Cli.encode(), Actor::Cli.key_id()), ("cli".to_owned(), None));
        assert_eq!(Actor::Scheduler.encode(), "scheduler");
        assert_eq!(Subject::Key(key).to_string(), key.to_string());
        assert_eq!(Subject::Account(account).to_string(), account.to_string());
        assert_eq!(Subject::Server.to_string(), "keyward");
    }

    #[test]
    fn a_hash_is_shown_as_64_hexadecimal_digits() {
        let shown = ChainHash([0x0a; 32]).to_string();
        assert_eq!(shown, "0a".repeat(32));
    }
}
