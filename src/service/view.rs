//! A key as it is shown: the row, its credentials, and their last use from memory.

use std::collections::HashMap;

use pbkdf2::sha2::{Digest, Sha256};
use serde_json::{Value, json};

use crate::{
    domain::{
        address_list::AddressList,
        api_key::{ApiKey, KeyStatus},
        id::KeyId,
        plaintext_key::KeyPrefix,
        rate_limit::RateLimit,
        scope::{Catalogue, ScopeBits},
        text::Metadata,
    },
    env::Timestamp,
    service::{Keyward, Principal},
    store::{Day, KeyIndex, KeyRecord, ReadTx, StoreError, WriteTx, scopes_count_since},
};

#[derive(Clone, Debug)]
pub struct KeyView {
    pub key: ApiKey,
    /// The prefix of the current credential.
    pub prefix: Option<KeyPrefix>,
    pub status: KeyStatus,
    pub last_used_at: Option<Timestamp>,
    /// The scopes of the key that were not used lately; see [`scopes_count_since`].
    pub unused_scopes: Vec<String>,
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
        let (index, now) = (self.store.index(), self.env.time.now());
        shown(record, index, now, creator_hidden.first().copied().unwrap_or(true))
    }

    /// As [`Keyward::view`], with one read of the file.
    pub(super) fn views(&self, caller: &Principal, records: Vec<KeyRecord>) -> Vec<KeyView> {
        let hidden = self.creators_hidden(caller, &records);
        let (index, now) = (self.store.index(), self.env.time.now());
        let shown = |(it, hidden)| shown(it, index, now, hidden);
        records.into_iter().zip(hidden).map(shown).collect()
    }

    /// Returns for each key whether its creator is hidden from the caller. If the log cannot be read
    /// now, the creators are hidden.
    fn creators_hidden(&self, caller: &Principal, records: &[KeyRecord]) -> Vec<bool> {
        if !records.iter().any(|it| is_foreign(caller, &it.key)) {
            return vec![false; records.len()];
        }
        let hidden = self.store.read(|tx| creators_hidden(tx, caller, records));
        hidden.unwrap_or_else(|_| vec![true; records.len()])
    }
}

/// Returns a key that this transaction changed, as the caller may see it. The index is as it was before
/// the change.
pub(super) fn changed_key(
    tx: &WriteTx<'_>,
    caller: &Principal,
    record: KeyRecord,
    index: &KeyIndex,
) -> Result<KeyView, StoreError> {
    let hidden = creators_hidden(tx, caller, std::slice::from_ref(&record))?;
    Ok(shown(record, index, tx.now(), hidden.first().copied().unwrap_or(true)))
}

/// Returns whether another key made this one, and the caller may not see every key.
fn is_foreign(caller: &Principal, key: &ApiKey) -> bool {
    !caller.operator && key.created_by.is_some() && key.created_by != caller.key()
}

/// Returns for each key whether its creator is hidden from the caller. The log outlives the creator, so
/// it tells the account.
fn creators_hidden(
    tx: &ReadTx<'_>,
    caller: &Principal,
    records: &[KeyRecord],
) -> Result<Vec<bool>, StoreError> {
    let mut known: HashMap<Option<KeyId>, bool> = HashMap::new();
    let of = |it: &KeyRecord| {
        let key = &it.key;
        if !is_foreign(caller, key) {
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
}

fn shown(record: KeyRecord, index: &KeyIndex, now: Timestamp, creator_hidden: bool) -> KeyView {
    let seen = |prefix| index.find(prefix).and_then(|it| it.live()?.last_used());
    let last_used_at = record
        .credentials
        .iter()
        .map(|it| seen(it.credential.prefix))
        .chain([record.last_used_at])
        .max()
        .flatten();
    let previous = record
        .in_grace(now, index)
        .filter_map(|it| {
            let prefix = it.credential.prefix;
            Some(PreviousCredential {
                prefix,
                valid_until: record.key.ends_by(it.credential.valid_until?),
                last_used_at: seen(prefix).max(it.last_used_at),
            })
        })
        // The key may have expired before the grace period ends.
        .filter(|it| now < it.valid_until)
        .collect();
    KeyView {
        unused_scopes: unused_scopes(&record, index, now),
        prefix: record.current().map(|it| it.credential.prefix),
        status: record.key.status_at(now),
        last_used_at,
        previous,
        creator_hidden,
        key: record.key,
    }
}

/// Returns the scopes of the key that neither the file nor memory knows to be used lately, in the order
/// of the catalogue.
fn unused_scopes(record: &KeyRecord, index: &KeyIndex, now: Timestamp) -> Vec<String> {
    let (first, today) = (scopes_count_since(now), Day::of(now));
    let catalogue = index.catalogue();
    let used = record.credentials.iter().filter_map(|it| index.find(it.credential.prefix));
    let used = used.filter_map(|it| Some(it.live()?.scopes_since(first, today)));
    let used = used.fold(ScopeBits::default(), ScopeBits::or);
    let is_used = |name: &str| {
        record.scope_days.has_since(name, first)
            || catalogue.find(name).is_some_and(|it| it.is_subset_of(used))
    };
    let scopes = catalogue.ordered(&record.key.scopes).into_iter();
    scopes.filter(|it| !is_used(it)).map(str::to_owned).collect()
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
        allowed_ips,
        rate_limit,
        id: _,
        account_id: _,
        created_at: _,
        created_by: _,
        updated_at: _,
        rotated_at: _,
        revoked_at: _,
        announced_days: _,
        console_link: _,
        revision: _,
    } = key;
    with_metadata(
        json!({
            "name": name.as_str(),
            "scopes": catalogue.ordered(scopes),
            "enabled": enabled,
            "expiresAt": expires_at.map(|it| it.to_string()),
            "allowedIps": allowed_ips.as_ref().map(address_facts),
            "rateLimit": rate_limit.map(rate_fact),
        }),
        metadata,
    )
}

fn address_facts(list: &AddressList) -> Vec<String> {
    list.iter().map(ToString::to_string).collect()
}

/// Returns a rate limit, for the log.
pub(super) fn rate_fact(rate: RateLimit) -> Value {
    json!({ "limit": rate.limit(), "windowSeconds": rate.window_secs() })
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
