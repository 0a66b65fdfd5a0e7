//! The question on every request: is this key good for that, now?
//!
//! Three steps. [`Keyward::identify`] finds out whose secret was presented, from memory; only the
//! first use of a secret since the start needs [`Keyward::verify_secret`], which is slow. How the key then
//! stands is read from the index each time by [`Keyward::judge`]: what memory keeps is the fact
//! that a text is a secret, never a verdict, so there is nothing to invalidate.

use std::{
    sync::{Arc, PoisonError},
    time::Duration,
};

use serde_json::json;
use subtle::ConstantTimeEq;

use crate::{
    domain::{
        event::{Actor, EventSource, EventType, NewEvent, Subject},
        id::AccountId,
        plaintext_key::PlaintextKey,
        policy::RequiredScopes,
        scope::ScopeBits,
        verdict::Verdict,
    },
    env::Timestamp,
    service::{Denial, Error, Identity, Keyward, Presented, Principal},
    store::{IndexedCredential, RuntimeState},
};

/// A verdict, and whom it is about.
#[derive(Clone, Debug)]
pub struct Verification {
    pub verdict: Verdict,
    /// Known from [`Verdict::Revoked`] on: only who presents a whole secret is told.
    pub entry: Option<Arc<IndexedCredential>>,
    pub account: Option<KeyOwner>,
    /// Of the wanted scopes, those that the key does not grant.
    pub missing: ScopeBits,
}

/// The account behind a verdict.
#[derive(Clone, Debug)]
pub struct KeyOwner {
    pub operator: bool,
    pub external_id: Option<Box<str>>,
}

impl Keyward {
    /// Whether `text` is a proved key that stands and holds one of these scopes; its use is counted
    /// then, and only then. For callers who come with every question: what else there is to say
    /// about them, and about all others, [`Keyward::identify`] and [`Keyward::judge`] find out.
    pub fn admits_from_memory(&self, text: &[u8], any_of: &[&'static str]) -> bool {
        let Ok(presented) = PlaintextKey::parse(text) else { return false };
        let digest = self.kdf_pool.digest(presented.expose().as_bytes());
        let admitted = self.store.index().look(presented.prefix(), |entry| {
            let cached_digest = entry.live().map(RuntimeState::cached_digest);
            let key = &entry.key;
            let account = self.store.index().account(key.account, |it| it.suspended);
            let now = self.env.time.now();
            let admitted = cached_digest.is_some_and(|it| bool::from(it.ct_eq(&digest)))
                && self.refusal_reason(entry, account.unwrap_or(true), now).is_none()
                && self.authorizer.permits(self.authorizer.catalogue.powers(key.scopes()), any_of);
            if admitted {
                self.usage.record(entry, Verdict::Valid, now);
                self.initial_key_file.was_used(entry.prefix);
            }
            admitted
        });
        admitted.unwrap_or(false)
    }

    /// How the identified key stands, and whether it grants what is wanted. To be asked right after
    /// it was identified, in the same request: the entry is of that moment.
    pub fn judge(&self, identity: &Identity, need: RequiredScopes) -> Verification {
        let nobody = |verdict| Verification {
            verdict,
            entry: None,
            account: None,
            missing: ScopeBits::default(),
        };
        let entry = match identity {
            Identity::Known(entry) => Arc::clone(entry),
            Identity::Malformed => return nobody(Verdict::Malformed),
            Identity::Unknown | Identity::Unverified(_) => return nobody(Verdict::NotFound),
        };
        let (account, suspended) = self
            .store
            .index()
            .account(entry.key.account, |it| {
                let whose = KeyOwner { operator: it.operator, external_id: it.external_id.clone() };
                (Some(whose), it.suspended)
            })
            .unwrap_or((None, true));
        let now = self.env.time.now();
        let granted = self.authorizer.catalogue.powers(entry.key.scopes());
        let missing = need.missing(granted);
        let verdict =
            self.refusal_reason(&entry, suspended, now).unwrap_or(if missing.is_empty() {
                Verdict::Valid
            } else {
                Verdict::InsufficientScopes
            });
        self.usage.record(&entry, verdict, now);
        if verdict == Verdict::Valid {
            self.initial_key_file.was_used(entry.prefix);
        }
        Verification { verdict, entry: Some(entry), account, missing }
    }

    /// The metadata of an account as compact JSON, from memory; `None` for the empty object.
    pub fn account_metadata(&self, account: AccountId) -> Option<Arc<str>> {
        self.store.index().account(account, |it| it.metadata.clone()).flatten()
    }

    /// Why the key is refused whatever it is asked for; `None` if it is not.
    pub(super) fn refusal_reason(
        &self,
        entry: &IndexedCredential,
        suspended: bool,
        now: Timestamp,
    ) -> Option<Verdict> {
        let key = &entry.key;
        let retired = entry.grace().is_some_and(|it| it.is_over(now, self.env.time.monotonic()));
        let reasons = [
            (key.revoked, Verdict::Revoked),
            (retired, Verdict::Rotated),
            (suspended, Verdict::AccountSuspended),
            (!key.enabled, Verdict::Disabled),
            (key.is_expired_at(now), Verdict::Expired),
        ];
        reasons.into_iter().find(|(applies, _)| *applies).map(|(_, verdict)| verdict)
    }

    /// Whether the caller of a request that lasts still stands and holds one of these scopes, by
    /// the index: no lock, no disk, no derivation.
    pub fn review(&self, caller: &Principal, any_of: &'static [&'static str]) -> Result<(), Error> {
        let Some(presented) = caller.presented else { return Ok(()) };
        let found = self.store.index().find(presented.prefix);
        let found = found.filter(|it| it.key.id == presented.key);
        let entry = found.ok_or(Error::Unauthenticated(Denial::InvalidKey))?;
        let account = self.store.index().account(entry.key.account, |it| it.suspended);
        let suspended = account.unwrap_or(true);
        if let Some(verdict) = self.refusal_reason(&entry, suspended, self.env.time.now()) {
            return Err(Error::Unauthenticated(Denial::from(verdict)));
        }
        let powers = self.authorizer.catalogue.powers(entry.key.scopes());
        if self.authorizer.permits(powers, any_of) {
            Ok(())
        } else {
            Err(Error::MissingScope(any_of))
        }
    }

    /// Turns whoever was judged good into a caller, who made the request that `source` tells of.
    pub fn principal(&self, found: &Verification, source: EventSource) -> Result<Principal, Error> {
        match (found.verdict, &found.entry, &found.account) {
            (Verdict::Valid, Some(entry), Some(account)) => Ok(Principal {
                presented: Some(Presented { key: entry.key.id, prefix: entry.prefix }),
                account: entry.key.account,
                operator: account.operator,
                powers: self.authorizer.catalogue.powers(entry.key.scopes()),
                expires_at: entry.key.expires_at(),
                source: EventSource {
                    actor: Actor::Key {
                        id: entry.key.id,
                        prefix: entry.prefix,
                        account: entry.key.account,
                    },
                    ..source
                }
                .into(),
            }),
            (verdict, _, _) => Err(Error::Unauthenticated(Denial::from(verdict))),
        }
    }

    /// Whoever may use the control socket of this data directory, and so owns the database: may do
    /// everything that an operator's key may.
    pub fn local_operator(&self, source: EventSource) -> Result<Principal, Error> {
        let account = self.store.read::<_, Error>(|tx| Ok(tx.operator_account()?))?;
        Ok(Principal {
            presented: None,
            account: account.ok_or(Error::NotFound)?.id,
            operator: true,
            powers: self.authorizer.catalogue.everything(),
            expires_at: None,
            source: source.into(),
        })
    }

    /// Whether the use of this retired value is still to be recorded: at most one an hour for each
    /// key. Quick; the answer `true` is given once.
    pub fn should_note_retired_use(&self, found: &Verification) -> bool {
        const MOST_KEYS: usize = 10_000;
        let (Verdict::Rotated, Some(entry)) = (found.verdict, &found.entry) else { return false };
        let now = self.env.time.now();
        let mut notes = self.kdf_pool.retired_uses.lock().unwrap_or_else(PoisonError::into_inner);
        if notes.get(&entry.key.id).is_some_and(|it| now < it.after(RETIRED_USE_INTERVAL)) {
            return false;
        }
        if MOST_KEYS <= notes.len() {
            notes.clear(); // The transaction below asks the log itself.
        }
        notes.insert(entry.key.id, now);
        true
    }

    /// Records that somebody still uses a value whose grace is over.
    pub fn record_retired_use(
        &self,
        found: &Verification,
        source: EventSource,
    ) -> Result<(), Error> {
        let Some(entry) = found.entry.clone() else { return Ok(()) };
        self.system_change(move |tx| {
            let subject = Subject::Key(entry.key.id);
            let event_type = EventType::ApiKeyRetiredKeyUsed;
            let last = tx.last_retired_use(entry.key.id)?;
            if last.is_some_and(|it| tx.now() < it.after(RETIRED_USE_INTERVAL)) {
                return Ok(());
            }
            let event = NewEvent {
                event_type,
                account: Some(entry.key.account),
                subject,
                data: json!({ "keyPrefix": entry.prefix.as_str() }),
            };
            let actor =
                Actor::Key { id: entry.key.id, prefix: entry.prefix, account: entry.key.account };
            tx.record(&EventSource { actor, ..source }, &event)?;
            Ok(())
        })
    }
}

const RETIRED_USE_INTERVAL: Duration = Duration::from_hours(1);
