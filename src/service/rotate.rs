//! Rotation: a new value for the same key, the old one good for a while longer.

use std::{sync::Arc, time::Duration};

use serde_json::json;

use crate::{
    domain::{
        api_key::ApiKey,
        credential::Credential,
        event::{EventType, NewEvent, Subject},
        plaintext_key::KeyPrefix,
        scope,
    },
    env::Timestamp,
    service::{
        Change, ChangePermit, Checks, Conflict, Error, Gain, IssuedKey, KeyAccess, KeyChange,
        KeyView, Keyward, Minted, Principal, ended_credentials::delete_oldest, keys::WRITERS,
    },
    store::{KeyIndex, KeyRecord, StoredCredential, WriteTx},
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
        wanted: KeyChange,
        grace: Option<Duration>,
    ) -> Result<ChangePermit, Error> {
        let permit = self.permit_change(caller)?;
        self.store.read(|tx| {
            let checks = self.checks(tx, caller);
            let record = checks.key_to_change(wanted, Gain::Secret)?;
            checks.grace_of_rotation(&record, grace, self.store.index())
        })?;
        Ok(permit)
    }

    /// Gives the key a new value. The old one keeps working for the grace period, at most until
    /// the key expires; with a grace of zero every older value ends at once.
    pub fn rotate_key(
        &self,
        permit: ChangePermit,
        wanted: KeyChange,
        grace: Option<Duration>,
        minted: Minted,
    ) -> Result<IssuedKey, Error> {
        let Minted { plaintext, hash } = minted;
        let (reader, prefix) = (permit.caller().clone(), plaintext.prefix());
        let (index, time) = (Arc::clone(self.store.index()), Arc::clone(&self.env.time));
        let needed = if wanted.access == KeyAccess::Itself { ROTATORS } else { WRITERS };
        let record = self.change(permit, needed, move |change| {
            let now = change.now();
            let record = change.checks().key_to_change(wanted, Gain::Secret)?;
            let grace = change.checks().grace_of_rotation(&record, grace, &index)?;
            // The answer was lost: no client has its credential, which is replaced instead of kept.
            let retry = is_old(&record, change.caller());
            let grace = if retry { Duration::ZERO } else { grace };
            let deadline = record.key.ends_by(now.after(grace));
            let keeps_older = retry || now < deadline;
            let ended = ended_by_rotation(&change, &record, &index, keeps_older, time.is_settled());
            let fresh = Credential::new(prefix, hash, now);
            let replacement = Replacement { fresh, deadline, ended };
            replace_current_credential(&change, &record, &replacement)?;
            let record = change.key(wanted.id)?.ok_or(Error::NotFound)?;
            delete_oldest(&change, change.source(), record, change.settings.batch)
        })?;
        Ok(IssuedKey { view: self.view(&reader, record), plaintext })
    }

    /// Ends the grace periods of all old credentials now.
    pub fn complete_rotation(
        &self,
        caller: &Principal,
        wanted: KeyChange,
    ) -> Result<KeyView, Error> {
        let permit = self.permit_change(caller)?;
        let index = Arc::clone(self.store.index());
        let record = self.change(permit, WRITERS, move |change| {
            let record = change.checks().key_to_change(wanted, Gain::Nothing)?;
            let old = record.in_grace(change.now(), &index).map(|it| it.credential.prefix);
            let old: Vec<_> = old.collect();
            if old.is_empty() {
                return Ok(record);
            }
            if is_old(&record, change.caller()) && !is_current_used(&record, &index) {
                return Err(Conflict::SuccessorUnused.into());
            }
            let shown: Vec<_> = old.iter().map(KeyPrefix::as_str).collect();
            let receipt = change.record(&NewEvent {
                event_type: EventType::ApiKeyGraceEnded,
                account: Some(record.key.account_id),
                subject: Subject::Key(wanted.id),
                data: json!({ "keyPrefixes": shown, "reason": "completed" }),
            })?;
            for prefix in old {
                change.end_grace(prefix, &receipt)?;
            }
            change.update_key(&record.key, &receipt)?;
            let record = change.key(wanted.id)?.ok_or(Error::NotFound)?;
            delete_oldest(&change, change.source(), record, change.settings.batch)
        })?;
        Ok(self.view(caller, record))
    }
}

impl Checks<'_> {
    /// Returns the grace period, if the caller may rotate the key with it.
    fn grace_of_rotation(
        self,
        record: &KeyRecord,
        grace: Option<Duration>,
        index: &KeyIndex,
    ) -> Result<Duration, Error> {
        let Self { now, caller, settings, .. } = self;
        let own = caller.key() == Some(record.key.id);
        let least = if own { Keyward::LEAST_OWN_GRACE } else { Duration::ZERO };
        let grace = grace.unwrap_or_else(|| settings.rotation_grace.max(least));
        if grace < least {
            return Err(grace_required());
        }
        if record.key.is_expired_at(now) {
            return Err(Conflict::KeyNotActive.into());
        }
        refuse_superseded(record, caller, index)?;
        // A retry replaces a credential and adds none.
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
    change: &Change<'_>,
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
    let receipt = change.record(&event)?;
    for prefix in ended {
        change.end_grace(*prefix, &receipt)?;
    }
    change.replace_credential(fresh, *deadline, &receipt)?;
    let rotated = ApiKey { rotated_at: Some(change.now()), ..record.key.clone() };
    Ok(change.update_key(&rotated, &receipt)?)
}
