//! A key as it is shown: the row, its values, and what memory knows of their use.

use pbkdf2::sha2::{Digest, Sha256};
use serde_json::{Value, json};

use crate::{
    domain::{
        api_key::{ApiKey, KeyStatus},
        credential::KeyPrefix,
        scope::Catalogue,
        text::Metadata,
    },
    env::Timestamp,
    service::Keyward,
    store::KeyRecord,
};

#[derive(Clone, Debug)]
pub struct KeyView {
    pub key: ApiKey,
    /// Of the current value.
    pub prefix: Option<KeyPrefix>,
    pub status: KeyStatus,
    pub last_used_at: Option<Timestamp>,
    /// The old values still in grace, the oldest first.
    pub previous: Vec<PreviousValue>,
}

#[derive(Clone, Copy, Debug)]
pub struct PreviousValue {
    pub prefix: KeyPrefix,
    pub valid_until: Timestamp,
    pub last_used_at: Option<Timestamp>,
}

impl Keyward {
    pub(super) fn view(&self, record: KeyRecord) -> KeyView {
        let now = self.env.time.now();
        let seen = |prefix| self.store.index().find(prefix).and_then(|it| it.live()?.last_used());
        let last_used_at = record
            .credentials
            .iter()
            .map(|it| seen(it.credential.prefix))
            .chain([record.last_used_at])
            .max()
            .flatten();
        let previous = record
            .in_grace(now, self.store.index())
            .filter_map(|it| {
                let prefix = it.credential.prefix;
                Some(PreviousValue {
                    prefix,
                    valid_until: it.credential.valid_until?,
                    last_used_at: seen(prefix).max(it.last_used_at),
                })
            })
            .collect();
        KeyView {
            prefix: record.current().map(|it| it.credential.prefix),
            status: record.key.status_at(now),
            last_used_at,
            previous,
            key: record.key,
        }
    }
}

/// What the log says of a key that is made.
pub(super) fn key_facts(catalogue: &Catalogue, key: &ApiKey, prefix: KeyPrefix) -> Value {
    let mut facts = settings(catalogue, key);
    if let Some(members) = facts.as_object_mut() {
        members.insert("keyPrefix".to_owned(), json!(prefix.as_str()));
    }
    facts
}

/// What of a key can be changed by its owner, as the log tells it.
pub(super) fn settings(catalogue: &Catalogue, key: &ApiKey) -> Value {
    with_metadata(
        json!({
            "name": key.name.as_str(),
            "scopes": catalogue.ordered(&key.scopes),
            "enabled": key.enabled,
            "expiresAt": key.expires_at.map(|it| it.to_string()),
        }),
        &key.metadata,
    )
}

/// The longest metadata that the log holds itself, in bytes of compact JSON. The log is kept for
/// ever, and its writers choose the metadata.
const LONGEST_LOGGED_METADATA: usize = 256;

/// `facts` and the metadata: `metadata` itself, or `metadataDigest` if it is long.
pub(super) fn with_metadata(mut facts: Value, metadata: &Metadata) -> Value {
    let json = metadata.as_json();
    if json.len() <= LONGEST_LOGGED_METADATA {
        facts["metadata"] = metadata.to_value();
    } else {
        let sha256: String =
            Sha256::digest(json).iter().fold(String::new(), |hex, it| hex + &format!("{it:02x}"));
        facts["metadataDigest"] = json!({ "sha256": sha256, "length": json.len() });
    }
    facts
}

/// The members in which two objects differ, as they were and as they are.
pub(super) fn changes(before: &Value, after: &Value) -> Value {
    let differing = |one: &Value, other: &Value| -> Value {
        let members = one.as_object().into_iter().flatten();
        members
            .filter(|(name, value)| other.get(name) != Some(value))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect::<serde_json::Map<_, _>>()
            .into()
    };
    json!({ "before": differing(before, after), "after": differing(after, before) })
}
