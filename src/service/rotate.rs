//! Rotation: a new value for the same key, the old one good for a while longer.

use std::{sync::Arc, time::Duration};

use serde_json::json;

use crate::{
    domain::{
        api_key::ApiKey,
        credential::{Credential, KeyPrefix},
        event::{EventSource, EventType, NewEvent, Subject},
        scope,
    },
    env::Timestamp,
    service::{
        Change, ChangePermit, Conflict, Error, Gain, IssuedKey, KeyAccess, KeyView, Keyward,
        Minted, Principal, Rules, ended_credentials::delete_oldest, keys::WRITERS,
    },
    store::{KeyIndex, KeyRecord, ReadTx, StoredCredential, WriteTx},
};

/// Scopes of which one is needed to rotate the presented key.
const ROTATORS: &[&str] = &[scope::KEYS_ROTATE, scope::KEYS_WRITE, scope::ACCOUNTS_WRITE];

impl Keyward {
    pub const LONGEST_GRACE: Duration = Duration::from_hours(7 * 24);
    /// Less would lock out a caller whose answer is lost on the way.
    pub const LEAST_OWN_GRACE: Duration = Duration::from_mins(1);
    /// Values of one key that may be alive at once, the current one included.
    pub const MOST_LIVE_VALUES: usize = 3;

    /// Takes a change from the caller's budget, and refuses what [`Keyward::rotate_key`] would refuse
    /// now, before a value is minted for nothing.
    pub fn permit_rotation(
        &self,
        caller: &Principal,
        change: Change,
        grace: Option<Duration>,
    ) -> Result<ChangePermit, Error> {
        let permit = self.permit_change(caller)?;
        let (rules, now) = (&self.rules, self.env.time.now());
        let read = |tx: &ReadTx<'_>| rules.key_to_change(tx, now, caller, change, Gain::Secret);
        let record = self.store.read(read)?;
        rules.check_rotation(&record, now, caller, grace, self.store.index())?;
        Ok(permit)
    }

    /// Gives the key a new value. The old one keeps working for the grace period, at most until
    /// the key expires; with a grace of zero every older value ends at once.
    pub fn rotate_key(
        &self,
        permit: ChangePermit,
        change: Change,
        grace: Option<Duration>,
        minted: Minted,
    ) -> Result<IssuedKey, Error> {
        let Minted { plaintext, hash } = minted;
        let prefix = plaintext.prefix();
        let (rules, reader) = (Arc::clone(&self.rules), permit.caller().clone());
        let index = Arc::clone(self.store.index());
        let time = Arc::clone(&self.env.time);
        let needed = if change.access == KeyAccess::Itself { ROTATORS } else { WRITERS };
        let record = self.change(permit, needed, move |tx, caller| {
            let record = rules.key_to_change(tx, tx.now(), &caller, change, Gain::Secret)?;
            let id = change.id;
            let grace = rules.check_rotation(&record, tx.now(), &caller, grace, &index)?;
            // The answer was lost: its value is in no hands, and is replaced instead of kept alive.
            let retry = is_old(&record, &caller);
            let grace = if retry { Duration::ZERO } else { grace };
            let deadline = record.key.ends_by(tx.now().after(grace));
            let fresh = Credential { prefix, hash, issued_at: tx.now(), valid_until: None };
            let keeps_older = retry || tx.now() < deadline;
            let ended = ended_by_rotation(tx, &record, &index, keeps_older, time.is_settled());
            let replacement = Replacement { fresh, deadline, ended };
            replace_current_credential(tx, &caller.source, &record, &replacement)?;
            let record = tx.key(id)?.ok_or(Error::NotFound)?;
            delete_oldest(tx, &caller.source, record, rules.batch)
        })?;
        Ok(IssuedKey { view: self.view(&reader, record), plaintext })
    }

    /// Ends the graces of all old values now.
    pub fn complete_rotation(&self, caller: &Principal, change: Change) -> Result<KeyView, Error> {
        let reader = caller;
        let (rules, permit) = (Arc::clone(&self.rules), self.permit_change(caller)?);
        let index = Arc::clone(self.store.index());
        let record = self.change(permit, WRITERS, move |tx, caller| {
            let record = rules.key_to_change(tx, tx.now(), &caller, change, Gain::Nothing)?;
            let id = change.id;
            let old = record.in_grace(tx.now(), &index).map(|it| it.credential.prefix);
            let old: Vec<_> = old.collect();
            if old.is_empty() {
                return Ok(record);
            }
            if is_old(&record, &caller) && !is_current_used(&record, &index) {
                return Err(Conflict::SuccessorUnused.into());
            }
            let shown: Vec<_> = old.iter().map(KeyPrefix::as_str).collect();
            let receipt = tx.record(
                &caller.source,
                &NewEvent {
                    event_type: EventType::ApiKeyGraceEnded,
                    account: Some(record.key.account_id),
                    subject: Subject::Key(id),
                    data: json!({ "keyPrefixes": shown, "reason": "completed" }),
                },
            )?;
            for prefix in old {
                tx.end_grace(prefix, &receipt)?;
            }
            tx.update_key(&record.key, &receipt)?;
            let record = tx.key(id)?.ok_or(Error::NotFound)?;
            delete_oldest(tx, &caller.source, record, rules.batch)
        })?;
        Ok(self.view(reader, record))
    }
}

impl Rules {
    /// The grace period, if the caller may rotate the key so.
    fn check_rotation(
        &self,
        record: &KeyRecord,
        now: Timestamp,
        caller: &Principal,
        grace: Option<Duration>,
        index: &KeyIndex,
    ) -> Result<Duration, Error> {
        let own = caller.key() == Some(record.key.id);
        let least = if own { Keyward::LEAST_OWN_GRACE } else { Duration::ZERO };
        let grace = grace.unwrap_or_else(|| self.rotation_grace.max(least));
        if grace < least {
            return Err(grace_required());
        }
        refuse_dead(now, record)?;
        refuse_superseded(record, caller, index)?;
        // A retry replaces a value and adds none.
        if !grace.is_zero() && !is_old(record, caller) {
            refuse_too_many_credentials(now, record, index)?;
        }
        Ok(grace)
    }
}

/// The old values whose end this rotation records: those in grace unless it keeps them, and those
/// whose grace is over, so that they do not pile up until the job comes by. While the wall clock is
/// in doubt, nothing is recorded about the latter.
fn ended_by_rotation(
    tx: &WriteTx<'_>,
    record: &KeyRecord,
    index: &KeyIndex,
    keeps_older: bool,
    settled: bool,
) -> Vec<KeyPrefix> {
    let in_grace: Vec<_> =
        record.in_grace(tx.now(), index).map(|it| it.credential.prefix).collect();
    let old = record.credentials.iter();
    old.filter(|it| it.ended_at.is_none() && it.credential.valid_until.is_some())
        .map(|it| it.credential.prefix)
        .filter(|it| if in_grace.contains(it) { !keeps_older } else { settled })
        .collect()
}

fn grace_required() -> Error {
    Error::invalid(
        "/gracePeriodSeconds",
        "grace_required",
        format!(
            "a key that rotates itself needs at least {} seconds, or a lost answer would lock it out",
            Keyward::LEAST_OWN_GRACE.as_secs()
        ),
    )
}

fn refuse_dead(now: Timestamp, record: &KeyRecord) -> Result<(), Error> {
    if record.key.is_expired_at(now) {
        return Err(Conflict::KeyNotActive.into());
    }
    Ok(())
}

/// An old value may rotate its key only while no newer one was ever used, which is what a retry
/// after a lost answer looks like. A leaked old value must not take the key over, not even in the
/// moment between a later rotation and the first use of its value.
fn refuse_superseded(
    record: &KeyRecord,
    caller: &Principal,
    index: &KeyIndex,
) -> Result<(), Error> {
    if is_old(record, caller) && is_successor_used(record, caller, index) {
        return Err(Conflict::Superseded.into());
    }
    Ok(())
}

/// Whether the caller presents a value of this very key that is not its current one.
fn is_old(record: &KeyRecord, caller: &Principal) -> bool {
    let current = record.current().map(|it| it.credential.prefix);
    let presented = caller.presented.filter(|it| it.key == record.key.id);
    presented.is_some_and(|it| Some(it.prefix) != current)
}

/// Whether any value that is newer than the presented one was ever used.
fn is_successor_used(record: &KeyRecord, caller: &Principal, index: &KeyIndex) -> bool {
    let presented = caller.presented.and_then(|it| record.find(it.prefix));
    let issued_at = presented.map(|it| it.credential.issued_at);
    let mut newer =
        record.credentials.iter().filter(|it| Some(it.credential.issued_at) > issued_at);
    is_current_used(record, index) || newer.any(|it| is_used(it, index))
}

fn is_current_used(record: &KeyRecord, index: &KeyIndex) -> bool {
    record.current().is_some_and(|it| is_used(it, index))
}

fn is_used(value: &StoredCredential, index: &KeyIndex) -> bool {
    let live = index.find(value.credential.prefix).and_then(|it| it.live()?.last_used());
    value.last_used_at.or(live).is_some()
}

fn refuse_too_many_credentials(
    now: Timestamp,
    record: &KeyRecord,
    index: &KeyIndex,
) -> Result<(), Error> {
    let deadlines: Vec<Timestamp> =
        record.in_grace(now, index).filter_map(|it| it.credential.valid_until).collect();
    match deadlines.iter().min() {
        // The current value is one, and the new one will be another.
        Some(first) if Keyward::MOST_LIVE_VALUES < deadlines.len() + 2 => {
            let retry_after = first.since(now);
            Err(Conflict::TooManyLiveKeys { retry_after }.into())
        }
        Some(_) | None => Ok(()),
    }
}

/// A new value, and what becomes of the older ones.
struct Replacement {
    fresh: Credential,
    /// When the value that is current until now ends.
    deadline: Timestamp,
    /// Values in grace that end with this rotation.
    ended: Vec<KeyPrefix>,
}

fn replace_current_credential(
    tx: &WriteTx<'_>,
    source: &EventSource,
    record: &KeyRecord,
    replacement: &Replacement,
) -> Result<(), Error> {
    let Replacement { fresh, deadline, ended } = replacement;
    let event = NewEvent {
        event_type: EventType::ApiKeyRotated,
        account: Some(record.key.account_id),
        subject: Subject::Key(record.key.id),
        data: json!({
            "before": {
                "keyPrefix": record.current().map(|it| it.credential.prefix.as_str().to_owned()),
            },
            "after": {
                "keyPrefix": fresh.prefix.as_str(),
                "previousValidUntil": deadline.to_string(),
            },
            "ended": ended.iter().map(KeyPrefix::as_str).collect::<Vec<_>>(),
        }),
    };
    let receipt = tx.record(source, &event)?;
    for prefix in ended {
        tx.end_grace(*prefix, &receipt)?;
    }
    tx.replace_credential(fresh, *deadline, &receipt)?;
    let rotated = ApiKey { rotated_at: Some(tx.now()), ..record.key.clone() };
    Ok(tx.update_key(&rotated, &receipt)?)
}
