//! The revocation of one key.

use serde_json::{Value, json};

use crate::{
    domain::{
        api_key::ApiKey,
        event::{EventSource, EventType, NewEvent},
    },
    service::Error,
    store::{KeyRecord, WriteTx},
};

/// Revokes the key, with an event. It stays as a tombstone until retention ends, so that
/// verification can tell why it refuses.
pub(in crate::service) fn revoke(
    tx: &WriteTx<'_>,
    source: &EventSource,
    record: &KeyRecord,
    reason: &'static str,
) -> Result<(), Error> {
    revoke_with(tx, source, record, json!({ "reason": reason }))
}

/// Does the same, with the reason and more facts in `data`.
pub(in crate::service) fn revoke_with(
    tx: &WriteTx<'_>,
    source: &EventSource,
    record: &KeyRecord,
    mut data: Value,
) -> Result<(), Error> {
    let prefixes: Vec<_> = record
        .credentials
        .iter()
        .filter(|it| it.ended_at.is_none())
        .map(|it| it.credential.prefix.as_str())
        .collect();
    data["before"] = json!({ "name": record.key.name.as_str(), "keyPrefixes": prefixes });
    let event = NewEvent::about_key(EventType::ApiKeyRevoked, &record.key, data);
    let receipt = tx.record(source, &event)?;
    let tombstone = ApiKey { revoked_at: Some(tx.now()), ..record.key.clone() };
    Ok(tx.update_key(&tombstone, &receipt)?)
}
