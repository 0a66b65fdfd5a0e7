//! A key as it is shown: the row, its credentials, and their last use from memory.

use std::collections::HashMap;

use pbkdf2::sha2::{Digest, Sha256};
use serde_json::{Value, json};

use crate::{
    domain::{
        api_key::{ApiKey, KeyStatus},
        id::KeyId,
        plaintext_key::KeyPrefix,
        scope::Catalogue,
        text::Metadata,
    },
    env::Timestamp,
    service::{Keyward, Principal},
    store::{KeyRecord, StoreError},
};

#[derive(Clone, Debug)]
pub struct KeyView {
    pub key: ApiKey,
    /// The prefix of the current credential.
    pub prefix: Option<KeyPrefix>,
    pub status: KeyStatus,
    pub last_used_at: Option<Timestamp>,
    /// The old credentials that are still in grace, the oldest first.
    pub previous: Vec<PreviousCredential>,
    /// Whether a key of the operator made this one, which the reader may not know.
    pub creator_hidden: bool,
}

#[derive(Clone, Copy, Debug)]
pub struct PreviousCredential {
    pub prefix: KeyPrefix,
    pub valid_until: Timestamp,
    pub last_used_at: Option<Timestamp>,
}

impl Keyward {
    /// Returns the key as this caller may see it.
    pub(super) fn view(&self, caller: &Principal, record: KeyRecord) -> KeyView {
        let creator_hidden = self.creators_hidden(caller, std::slice::from_ref(&record));
        self.shown(record, creator_hidden.first().copied().unwrap_or(true))
    }

    /// As [`Keyward::view`], with one read of the file.
    pub(super) fn views(&self, caller: &Principal, records: Vec<KeyRecord>) -> Vec<KeyView> {
        let hidden = self.creators_hidden(caller, &records);
        records.into_iter().zip(hidden).map(|(it, hidden)| self.shown(it, hidden)).collect()
    }

    /// Returns for each key whether its creator is hidden from the caller. The log outlives the
    /// creator, so it tells the account. If it cannot be read now, the creators are hidden.
    fn creators_hidden(&self, caller: &Principal, records: &[KeyRecord]) -> Vec<bool> {
        let foreign = |it: &ApiKey| {
            !caller.operator && it.created_by.is_some() && it.created_by != caller.key()
        };
        if !records.iter().any(|it| foreign(&it.key)) {
            return vec![false; records.len()];
        }
        let mut known: HashMap<Option<KeyId>, bool> = HashMap::new();
        let hidden = self.store.read::<_, StoreError>(|tx| {
            let of = |it: &KeyRecord| {
                let key = &it.key;
                if !foreign(key) {
                    return Ok(false);
                }
                if let Some(hidden) = known.get(&key.created_by) {
                    return Ok(*hidden);
                }
                let hidden = tx.creator_account(key.id)? != Some(key.account_id);
                known.insert(key.created_by, hidden);
                Ok(hidden)
            };
            records.iter().map(of).collect()
        });
        hidden.unwrap_or_else(|_| vec![true; records.len()])
    }

    fn shown(&self, record: KeyRecord, creator_hidden: bool) -> KeyView {
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
                Some(PreviousCredential {
                    prefix,
                    valid_until: record.key.ends_by(it.credential.valid_until?),
                    last_used_at: seen(prefix).max(it.last_used_at),
                })
            })
            .collect();
        KeyView {
            prefix: record.current().map(|it| it.credential.prefix),
            status: record.key.status_at(now),
            last_used_at,
            previous,
            creator_hidden,
            key: record.key,
        }
    }
}

/// Returns the properties of a new key, for the log.
pub(super) fn key_facts(catalogue: &Catalogue, key: &ApiKey, prefix: KeyPrefix) -> Value {
    let mut facts = settings(catalogue, key);
    if let Some(members) = facts.as_object_mut() {
        members.insert("keyPrefix".to_owned(), json!(prefix.as_str()));
    }
    facts
}

/// Returns the settings of a key that its owner can change, for the log.
pub(super) fn settings(catalogue: &Catalogue, key: &ApiKey) -> Value {
    // Without `..`, so that the compiler leads here from a new field.
    let ApiKey {
        name,
        scopes,
        enabled,
        expires_at,
        metadata,
        id: _,
        account_id: _,
        created_at: _,
        created_by: _,
        updated_at: _,
        rotated_at: _,
        revoked_at: _,
        revision: _,
    } = key;
    with_metadata(
        json!({
            "name": name.as_str(),
            "scopes": catalogue.ordered(scopes),
            "enabled": enabled,
            "expiresAt": expires_at.map(|it| it.to_string()),
        }),
        metadata,
    )
}

/// The longest metadata in the log, in bytes of compact JSON. Clients choose the metadata, and the
/// log is kept for ever.
const LONGEST_LOGGED_METADATA: usize = 256;

/// Returns `facts` with the member `metadata`, or `metadataDigest` if the metadata is long.
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

/// Returns the members in which two objects differ, before and after.
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
