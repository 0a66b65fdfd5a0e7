//! Reports of leaked keys: each caller that presents a whole key may revoke it.
//!
//! Possession is the proof, so a report needs no caller and no scope. A rate limit in memory bounds
//! what strangers can make the server do. The budget of the key's account is not used, because a
//! revocation is free.

mod limit;

use std::{collections::HashSet, net::IpAddr, sync::Arc};

use serde_json::{Value, json};

pub(super) use self::limit::ReportLimit;
use crate::{
    domain::{
        event::{EventSource, EventType, NewEvent, RequestContext},
        id::AccountId,
        scope::Scope,
        text::Location,
    },
    service::{
        DeniedCall, Error, Identity, Keyward, Presented,
        denials::LAST_ROOT_KEY,
        ended_credentials::delete_oldest,
        keys::revocation::revoke_with,
        verify::{actor_of, record_retired},
    },
    store::{IndexedCredential, KeyIndex, KeyRecord, ReadTx, StoreError, WriteTx},
};

/// What a report did to one credential.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Effect {
    Revoked,
    GraceEnded,
    /// The key is the last root key, which stays.
    Kept,
    /// The key or the credential had ended before.
    Nothing,
}

/// A credential that a report presents.
struct Leak {
    credential: Presented,
    account: AccountId,
    /// The key reports itself: possession is all that is known of the client.
    source: EventSource,
    location: Option<Location>,
}

/// The number of credentials that a report ended, and of last root keys that it could not revoke.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct LeakEffects {
    pub revoked: u64,
    pub grace_ended: u64,
    pub kept: u64,
}

impl Keyward {
    /// Takes a report of `keys` keys from the limit of its client and of all clients.
    ///
    /// # Errors
    /// [`Error::TooManyReports`]; then nothing was taken.
    pub fn permit_leak_report(&self, client: Option<IpAddr>, keys: usize) -> Result<(), Error> {
        let now = self.env.time.monotonic();
        let taken = self.report_limit.take(client, keys, now);
        taken.map_err(|retry_after| Error::TooManyReports { retry_after })
    }

    /// Ends the presented credentials. The current credential revokes its key. A credential in its
    /// grace period ends alone, so that the clients of the current one continue. The last root key
    /// stays accepted; the audit log and the log of the server say so.
    ///
    /// A report without a known credential fails during an outage as well: else its answer would tell
    /// that nothing in it is known.
    pub fn end_leaked(
        &self,
        presented: &[Identity],
        location: Option<&Location>,
        context: &RequestContext,
    ) -> Result<LeakEffects, Error> {
        let known = presented.iter().filter_map(|it| match it {
            Identity::Known(entry) => Some(Leak::new(entry, location, context)),
            Identity::Malformed | Identity::Unknown | Identity::Unverified(_) => None,
        });
        let mut seen = HashSet::new();
        let known: Vec<_> = known.filter(|it| seen.insert(it.credential.prefix)).collect();
        // Else the write itself finds out whether the outage is over.
        if let Some(fault) = self.store.storage_fault().filter(|_| known.is_empty()) {
            return Err(StoreError::Unavailable(fault).into());
        }
        let (index, batch) = (Arc::clone(self.store.index()), self.settings.batch);
        let (effects, kept) = self.system_change(move |tx| {
            let (mut effects, mut kept) = (LeakEffects::default(), Vec::new());
            for leak in known {
                match leak.end(tx, &index, batch)? {
                    Effect::Revoked => effects.revoked += 1,
                    Effect::GraceEnded => effects.grace_ended += 1,
                    Effect::Kept => {
                        effects.kept += 1;
                        kept.push(leak);
                    }
                    Effect::Nothing => (),
                }
            }
            Ok::<_, Error>((effects, kept))
        })?;
        for leak in &kept {
            self.report_kept_key(leak);
        }
        Ok(effects)
    }

    /// Records that the last root key leaked and stays: in groups, as refused calls, so that
    /// repeated reports do not fill the audit log.
    fn report_kept_key(&self, leak: &Leak) {
        let Presented { key, prefix } = leak.credential;
        self.count_denial(DeniedCall {
            reason: LAST_ROOT_KEY,
            prefix: Some(prefix),
            key: Some((key, leak.account)),
            address: leak.source.client_ip,
        });
        tracing::warn!(
            %key,
            key_prefix = prefix.as_str(),
            "the last root key leaked and stays accepted; replace it with `keyward root-key reset \
             --revoke-others`"
        );
    }
}

/// The reason in the events of the credentials that end.
const LEAKED: &str = "leaked";

impl Leak {
    fn new(
        entry: &IndexedCredential,
        location: Option<&Location>,
        context: &RequestContext,
    ) -> Self {
        Self {
            credential: Presented { key: entry.key.id, prefix: entry.prefix },
            account: entry.key.account,
            source: context.clone().caused_by(actor_of(entry)),
            location: location.cloned(),
        }
    }

    fn end(&self, tx: &WriteTx<'_>, index: &KeyIndex, batch: u32) -> Result<Effect, Error> {
        let Presented { key, prefix } = self.credential;
        let Some(record) = tx.key(key)?.filter(|it| it.key.revoked_at.is_none()) else {
            return Ok(Effect::Nothing);
        };
        if record.current().is_some_and(|it| it.credential.prefix == prefix) {
            if is_last_root_key(tx, &record)? {
                return Ok(Effect::Kept);
            }
            revoke_with(tx, &self.source, &record, self.data(json!({ "reason": LEAKED })))?;
            return Ok(Effect::Revoked);
        }
        if !record.in_grace(tx.now(), index).any(|it| it.credential.prefix == prefix) {
            let data = self.data(json!({ "keyPrefix": prefix.as_str(), "reason": LEAKED }));
            record_retired(tx, &self.source, self.account, data)?;
            return Ok(Effect::Nothing);
        }
        let data = self.data(json!({
            "keyPrefixes": [prefix.as_str()],
            "reason": LEAKED,
        }));
        let event = NewEvent::about_key(EventType::ApiKeyGraceEnded, &record.key, data);
        let receipt = tx.record(&self.source, &event)?;
        tx.end_grace(prefix, &receipt)?;
        tx.update_key(&record.key, &receipt)?;
        let record = tx.key(key)?.ok_or(Error::NotFound)?;
        delete_oldest(tx, &self.source, record, batch)?;
        Ok(Effect::GraceEnded)
    }

    fn data(&self, mut data: Value) -> Value {
        if let Some(location) = &self.location {
            data["location"] = json!(location.as_str());
        }
        data
    }
}

/// Returns whether the operator account has no other root key that never expires.
fn is_last_root_key(tx: &ReadTx<'_>, record: &KeyRecord) -> Result<bool, Error> {
    let key = &record.key;
    if !key.scopes.iter().any(|it| it.as_str() == Scope::EVERYTHING) {
        return Ok(false);
    }
    let operator = tx.operator_account()?.ok_or(Error::NotFound)?;
    Ok(key.account_id == operator.id
        && tx.root_keys(operator.id)?.iter().all(|it| it.key.id == key.id))
}
