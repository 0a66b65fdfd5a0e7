//! The revocation of one key.

use serde_json::{Value, json};

use crate::{
    domain::{
        api_key::ApiKey,
        event::{EventSource, EventType, NewEvent},
        text::ReasonText,
    },
    service::Error,
    store::{KeyRecord, WriteTx},
};

/// Why a key is revoked.
#[derive(Clone, Copy)]
pub(in crate::service) struct RevocationReason<'a> {
    /// The word of the program.
    pub code: &'static str,
    /// The words of the caller.
    pub text: Option<&'a ReasonText>,
}

impl From<&'static str> for RevocationReason<'_> {
    fn from(code: &'static str) -> Self {
        Self { code, text: None }
    }
}

/// Revokes the key, with an event. It stays as a tombstone until retention ends, so that
/// verification can tell why it refuses.
pub(in crate::service) fn revoke<'a>(
    tx: &WriteTx<'_>,
    source: &EventSource,
    record: &KeyRecord,
    reason: impl Into<RevocationReason<'a>>,
) -> Result<(), Error> {
    let RevocationReason { code, text } = reason.into();
    let mut data = json!({ "reason": code });
    if let Some(text) = text {
        data["reasonText"] = json!(text.as_str());
    }
    revoke_with(tx, source, record, data)
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
    tx.update_key(&tombstone, &receipt)?;
    Ok(tx.empty_ended_answers(record.key.id)?)
}
