//! The ended credentials of a key: how many are kept, and how the others are deleted.
//!
//! A key keeps its newest ended credentials, so that verification can answer `ROTATED`. Each write
//! on a key reads all its credentials, so their number must have a limit.

use std::sync::atomic::Ordering;

use serde_json::json;

use crate::{
    domain::{
        event::{EventSource, EventType, NewEvent, Subject},
        id::{AccountId, KeyId},
        plaintext_key::KeyPrefix,
    },
    service::{Error, Keyward, pace::Pace},
    store::{ExcessCredential, KeyRecord, WriteTx},
};

/// How many ended credentials of one key are kept. Older ones answer `NOT_FOUND`.
pub(super) const KEPT: u32 = 20;

/// Deletes the ended credentials of `record` beyond the newest [`KEPT`], with an event. Called by
/// every change that ends a credential. Returns the record without them.
pub(super) fn delete_oldest(
    tx: &WriteTx<'_>,
    source: &EventSource,
    mut record: KeyRecord,
    most: u32,
) -> Result<KeyRecord, Error> {
    let ended = record.credentials.iter().filter(|it| it.ended_at.is_some());
    let ended: Vec<KeyPrefix> = ended.map(|it| it.credential.prefix).collect();
    let excess = ended.len().saturating_sub(KEPT as usize).min(most as usize);
    let oldest = ended.get(..excess).unwrap_or_default();
    if !oldest.is_empty() {
        delete(tx, source, record.key.account_id, record.key.id, oldest)?;
        record.credentials.retain(|it| !oldest.contains(&it.credential.prefix));
    }
    Ok(record)
}

fn delete(
    tx: &WriteTx<'_>,
    source: &EventSource,
    account: AccountId,
    key: KeyId,
    prefixes: &[KeyPrefix],
) -> Result<(), Error> {
    let shown: Vec<_> = prefixes.iter().map(KeyPrefix::as_str).collect();
    let event = NewEvent {
        event_type: EventType::ApiKeyPurged,
        account: Some(account),
        subject: Subject::Key(key),
        data: json!({ "keyPrefixes": shown, "reason": "too_many_rotated" }),
    };
    let receipt = tx.record(source, &event)?;
    for prefix in prefixes {
        tx.delete_credential(*prefix, &receipt)?;
    }
    Ok(())
}

impl Keyward {
    /// Deletes what [`delete_oldest`] would have deleted, in a file of a version that kept all ended
    /// credentials. Runs once in each process: later, every change keeps the limit itself. Returns
    /// how many credentials it deleted, and whether it is done.
    pub(super) fn bound_ended_credentials(
        &self,
        pace: &mut Pace<'_>,
    ) -> Result<(u64, bool), Error> {
        /// Finding them reads all ended credentials, so one reading serves many batches.
        const BATCHES: u32 = 10;
        let (batch, mut deleted) = (self.settings.batch.max(1), 0);
        while !self.ended_bounded.load(Ordering::Acquire) {
            let limit = batch.saturating_mul(BATCHES);
            let found = self.store.read(|tx| tx.excess_credentials(KEPT, limit))?;
            if found.is_empty() {
                self.ended_bounded.store(true, Ordering::Release);
            }
            for batch in found.chunks(batch as usize) {
                let batch = batch.to_vec();
                deleted += self.system_change(move |tx| {
                    let mut deleted = 0;
                    for of_one_key in batch.chunk_by(|one, next| one.key == next.key) {
                        deleted += delete_excess(tx, of_one_key)?;
                    }
                    Ok::<_, Error>(deleted)
                })?;
                if !pace.continues() {
                    return Ok((deleted, false));
                }
            }
        }
        Ok((deleted, true))
    }
}

/// Deletes credentials of one key that were found by another transaction.
fn delete_excess(tx: &WriteTx<'_>, excess: &[ExcessCredential]) -> Result<u64, Error> {
    let Some(first) = excess.first() else { return Ok(0) };
    let mut prefixes = Vec::with_capacity(excess.len());
    for it in excess {
        if tx.has_ended_credential(it.key, it.prefix)? {
            prefixes.push(it.prefix);
        }
    }
    if !prefixes.is_empty() {
        delete(tx, &EventSource::SCHEDULER, first.account, first.key, &prefixes)?;
    }
    Ok(prefixes.len() as u64)
}
