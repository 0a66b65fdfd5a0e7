//! Rotation: a new credential for a key; the old one stays valid for a grace period.

use std::{sync::Arc, time::Duration};

use serde_json::json;

use crate::{
    domain::{
        api_key::ApiKey,
        credential::Credential,
        event::{EventType, NewEvent},
        plaintext_key::KeyPrefix,
        scope,
    },
    env::Timestamp,
    service::{
        Change, ChangePermit, Checks, Conflict, Error, Gain, IssuedKey, KeyAccess, KeyChange,
        KeyView, Keyward, Minted, Principal, ended_credentials::delete_oldest, keys::WRITERS,
    },
    store::{KeyIndex, KeyRecord, StoredCredential},
};

/// The scopes of which a caller needs one to rotate the presented key.
const ROTATORS: &[&str] = &[scope::KEYS_ROTATE, scope::KEYS_WRITE, scope::ACCOUNTS_WRITE];

impl Keyward {
    pub const LONGEST_GRACE: Duration = Duration::from_hours(7 * 24);
    /// The least grace of a key that rotates itself. With less, a lost answer could lock it out.
    pub const LEAST_OWN_GRACE: Duration = Duration::from_mins(1);
    /// The most valid credentials of one key, the current one included.
    pub const MOST_VALID_CREDENTIALS: usize = 3;

    /// Takes a change from the caller's budget, and refuses what [`Keyward::rotate_key`] would
    /// refuse now, before a credential is minted for nothing.
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

    /// Gives the key a new credential. The old one stays valid for the grace period, at most until
    /// the key expires. With a grace of zero, every older credential ends at once.
    pub fn rotate_key(
        &self,
        permit: ChangePermit,
        wanted: KeyChange,
        grace: Option<Duration>,
        minted: Minted,
    ) -> Result<IssuedKey, Error> {
        let Minted { plaintext, hash } = minted;
        let time = Arc::clone(&self.env.time);
        let needed = if wanted.access == KeyAccess::Itself { ROTATORS } else { WRITERS };
        self.change(permit, needed, move |change| {
            let now = change.now();
            let record = change.checks().key_to_change(wanted, Gain::Secret)?;
            let grace = change.checks().grace_of_rotation(&record, grace, &change.index)?;
            // The answer was lost: no client has its credential, which is replaced instead of kept.
            let retry = change.checks().is_retry(&record)?;
            let grace = if retry { Duration::ZERO } else { grace };
            let deadline = record.key.ends_by(now.after(grace));
            let keeps_older = retry || now < deadline;
            let ended = ended_by_rotation(&change, &record, keeps_older, time.is_settled());
            let fresh = Credential::new(plaintext.prefix(), hash, after_all(&record, now));
            let replacement = Replacement { fresh, deadline, ended };
            replace_current_credential(&change, &record, &replacement)?;
            let record = change.key(wanted.id)?.ok_or(Error::NotFound)?;
            let record = delete_oldest(&change, change.source(), record, change.settings.batch)?;
            IssuedKey::new(&change, record, plaintext, None)
        })
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
            let data = json!({ "keyPrefixes": shown, "reason": "completed" });
            let event = NewEvent::about_key(EventType::ApiKeyGraceEnded, &record.key, data);
            let receipt = change.record(&event)?;
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
        if record.key.console_link.is_some() {
            return grace_of_link(own, grace);
        }
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
        if !grace.is_zero() && !self.is_retry(record)? {
            refuse_too_many_credentials(now, record, index)?;
        }
        Ok(grace)
    }

    /// Returns whether the caller repeats a rotation of its own key whose answer was lost: it presents
    /// an old credential, and the key itself made the current one.
    fn is_retry(self, record: &KeyRecord) -> Result<bool, Error> {
        let Some(current) = record.current().filter(|_| is_old(record, self.caller)) else {
            return Ok(false);
        };
        Ok(self.tx.was_made_by_rotation_of(current.credential.prefix, record.key.id)?)
    }
}

/// Returns `now`, or the first instant after every credential of the key was issued. Credentials are
/// ordered by these instants, also within one millisecond and after the clock went back.
fn after_all(record: &KeyRecord, now: Timestamp) -> Timestamp {
    let newest = record.credentials.iter().map(|it| it.credential.issued_at).max();
    newest.map_or(now, |it| now.max(it.after(Duration::from_millis(1))))
}

/// Returns the old credentials whose end this rotation records: those in grace, unless it keeps
/// them, and those whose grace is over, so that they do not pile up before the job runs. While the
/// wall clock is in doubt, it records nothing about the latter.
fn ended_by_rotation(
    change: &Change<'_>,
    record: &KeyRecord,
    keeps_older: bool,
    settled: bool,
) -> Vec<KeyPrefix> {
    let in_grace: Vec<_> =
        record.in_grace(change.now(), &change.index).map(|it| it.credential.prefix).collect();
    let old = record.credentials.iter();
    old.filter(|it| it.ended_at.is_none() && it.credential.valid_until.is_some())
        .map(|it| it.credential.prefix)
        .filter(|it| if in_grace.contains(it) { !keeps_older } else { settled })
        .collect()
}

/// Returns the grace period of a console link: none, so that a link works for one browser. Only the link
/// rotates itself: otherwise a key that expires could take over a link that gives later ends. A lost
/// answer costs a new link.
fn grace_of_link(own: bool, grace: Option<Duration>) -> Result<Duration, Error> {
    if !own {
        return Err(Conflict::IsConsoleLink.into());
    }
    if grace.is_some_and(|it| !it.is_zero()) {
        let detail = "must be 0: a console link works for one browser, so nothing else may keep it";
        return Err(Error::invalid("/gracePeriodSeconds", "out_of_range", detail));
    }
    Ok(Duration::ZERO)
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

/// Refuses an old credential, unless no newer one was ever used, as in a retry after a lost answer.
/// So a leaked old credential cannot take the key over, not even between a later rotation and the
/// first use of its credential.
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

/// Returns whether the caller presents an old credential of this very key.
fn is_old(record: &KeyRecord, caller: &Principal) -> bool {
    let current = record.current().map(|it| it.credential.prefix);
    let presented = caller.presented.filter(|it| it.key == record.key.id);
    presented.is_some_and(|it| Some(it.prefix) != current)
}

/// Returns whether any credential newer than the presented one was ever used.
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

fn is_used(credential: &StoredCredential, index: &KeyIndex) -> bool {
    let live = index.find(credential.credential.prefix).and_then(|it| it.live()?.last_used());
    credential.last_used_at.or(live).is_some()
}

fn refuse_too_many_credentials(
    now: Timestamp,
    record: &KeyRecord,
    index: &KeyIndex,
) -> Result<(), Error> {
    let deadlines: Vec<Timestamp> =
        record.in_grace(now, index).filter_map(|it| it.credential.valid_until).collect();
    match deadlines.iter().min() {
        // The current credential is one, and the new one will be another.
        Some(first) if Keyward::MOST_VALID_CREDENTIALS < deadlines.len() + 2 => {
            let retry_after = first.since(now);
            Err(Conflict::TooManyLiveKeys { retry_after }.into())
        }
        Some(_) | None => Ok(()),
    }
}

/// A new credential, and what it changes about the older ones.
struct Replacement {
    fresh: Credential,
    /// When the credential that is still current ends.
    deadline: Timestamp,
    /// The credentials in grace that end with this rotation.
    ended: Vec<KeyPrefix>,
}

fn replace_current_credential(
    change: &Change<'_>,
    record: &KeyRecord,
    replacement: &Replacement,
) -> Result<(), Error> {
    let Replacement { fresh, deadline, ended } = replacement;
    let data = json!({
        "before": {
            "keyPrefix": record.current().map(|it| it.credential.prefix.as_str().to_owned()),
        },
        "after": {
            "keyPrefix": fresh.prefix.as_str(),
            "previousValidUntil": deadline.to_string(),
        },
        "ended": ended.iter().map(KeyPrefix::as_str).collect::<Vec<_>>(),
    });
    let event = NewEvent::about_key(EventType::ApiKeyRotated, &record.key, data);
    let receipt = change.record(&event)?;
    for prefix in ended {
        change.end_grace(*prefix, &receipt)?;
    }
    change.replace_credential(fresh, *deadline, &receipt)?;
    let rotated = ApiKey { rotated_at: Some(change.now()), ..record.key.clone() };
    Ok(change.update_key(&rotated, &receipt)?)
}
