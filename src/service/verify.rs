//! Verification: whether a key is accepted for these scopes now.
//!
//! There are three steps. [`Keyward::identify`] finds the credential from memory. Only its first
//! use since the start needs [`Keyward::verify_secret`], which is slow. [`Keyward::judge`] then
//! reads the state of the key from the index, each time. Memory keeps the fact that a secret is
//! right, never a verdict, so there is nothing to invalidate.

use std::{
    net::IpAddr,
    sync::{Arc, PoisonError},
    time::Duration,
};

use serde_json::{Value, json};
use subtle::ConstantTimeEq;

use crate::{
    domain::{
        address_list::AddressList,
        client_address::{AddressRecording, ClientAddress},
        event::{Actor, EventSource, EventType, NewEvent, RequestContext, Subject},
        id::AccountId,
        plaintext_key::PlaintextKey,
        policy::RequiredScopes,
        rate_limit::Rates,
        scope::ScopeBits,
        verdict::Verdict,
    },
    env::Timestamp,
    service::{Denial, Error, Identity, Keyward, Presented, Principal, Question},
    store::{AccountEntry, IndexedCredential, RuntimeState, WriteTx},
};

/// A verdict, and the credential and account that it is about.
#[derive(Clone, Debug)]
pub struct Verification {
    pub verdict: Verdict,
    /// Known from [`Verdict::Revoked`] on: only a caller that presents a whole secret is told.
    pub entry: Option<Arc<IndexedCredential>>,
    pub account: Option<KeyOwner>,
    /// The wanted scopes that the key does not grant.
    pub missing: ScopeBits,
    pub rates: Rates,
}

/// The account behind a verdict.
#[derive(Clone, Debug)]
pub struct KeyOwner {
    pub operator: bool,
    pub external_id: Option<Box<str>>,
}

/// The state of a credential in the index at one instant.
struct Assessment {
    now: Timestamp,
    verdict: Verdict,
    /// The scopes of the key, with `*` spelt out.
    granted: ScopeBits,
    missing: ScopeBits,
    /// The address of the client, where it was needed.
    client_ip: Option<IpAddr>,
    rates: Rates,
}

impl Keyward {
    /// Returns whether `text` is an accepted key that was verified since the start and holds one of
    /// these scopes. Counts its use if so.
    ///
    /// Handles only the fast path, without an allocation. Every other caller goes through
    /// [`Keyward::identify`] and [`Keyward::judge`], which count the use then.
    pub fn admits_from_memory(
        &self,
        text: &[u8],
        any_of: &[&'static str],
        client_ip: &dyn Fn() -> Option<IpAddr>,
    ) -> bool {
        let Ok(presented) = PlaintextKey::parse(text) else { return false };
        let digest = self.kdf_pool.digest(presented.expose().as_bytes());
        let index = self.store.index();
        let required = self.authorizer.needed(any_of);
        let admitted = index.look(presented.prefix(), |entry| {
            let cached_digest = entry.live().map(RuntimeState::cached_digest);
            let question = Question { required, ..Question::of_call(client_ip) };
            let account = |it: &_| self.assess(entry, Some(it), &question);
            let found = index.account(entry.key.account, account);
            let found = found.unwrap_or_else(|| self.assess(entry, None, &question));
            let admitted = cached_digest.is_some_and(|it| bool::from(it.ct_eq(&digest)))
                && found.verdict == Verdict::Valid;
            if admitted {
                self.count_use(entry, &found, required);
            }
            admitted
        });
        admitted.unwrap_or(false)
    }

    /// Returns the verdict on the identified key, and counts its use.
    ///
    /// Ask right after the key was identified, in the same request: the entry is of that moment.
    pub fn judge<'a>(
        &self,
        identity: &Identity,
        question: impl Into<Question<'a>>,
    ) -> Verification {
        let question = question.into();
        let unknown = |verdict| Verification {
            verdict,
            entry: None,
            account: None,
            missing: ScopeBits::default(),
            rates: Rates::default(),
        };
        let entry = match identity {
            Identity::Known(entry) => Arc::clone(entry),
            Identity::Malformed => return unknown(Verdict::Malformed),
            Identity::Unknown | Identity::Unverified(_) => return unknown(Verdict::NotFound),
        };
        let (account, found) = self
            .store
            .index()
            .account(entry.key.account, |it| {
                let owner = KeyOwner { operator: it.operator, external_id: it.external_id.clone() };
                (Some(owner), self.assess(&entry, Some(it), &question))
            })
            .unwrap_or_else(|| (None, self.assess(&entry, None, &question)));
        if !question.is_ambiguous || found.verdict != Verdict::Valid {
            self.count_use(&entry, &found, question.required);
        }
        let Assessment { verdict, missing, rates, .. } = found;
        Verification { verdict, entry: Some(entry), account, missing, rates }
    }

    /// Returns the verdict on a credential. Every way to a verdict comes through here, so that no
    /// rule can be missing in one of them. The rate limits are last: only a request that nothing else
    /// refuses uses them.
    fn assess(
        &self,
        entry: &IndexedCredential,
        account: Option<&AccountEntry>,
        question: &Question<'_>,
    ) -> Assessment {
        let now = self.env.time.now();
        let granted = self.authorizer.catalogue.powers(entry.key.scopes());
        let missing = question.required.missing(granted);
        let suspended = account.is_none_or(|it| it.suspended);
        let mut rates = Rates::default();
        let refusal = self.refusal_reason(entry, suspended, now);
        let client_ip = if refusal.is_none() { self.client_of(entry, question) } else { None };
        let verdict = match refusal {
            Some(verdict) => verdict,
            // Fails closed: an unknown address is on no list.
            None if !AddressList::admits(entry.key.allowed_ips(), client_ip) => {
                Verdict::IpNotAllowed
            }
            None if !missing.is_empty() => Verdict::InsufficientScopes,
            None => {
                let cost = if question.is_ambiguous { 0 } else { question.cost };
                rates = self.consume_rates(entry, account, cost, now);
                rates.exceeded().map_or(Verdict::Valid, |_| Verdict::RateLimited)
            }
        };
        Assessment { now, verdict, granted, missing, client_ip, rates }
    }

    /// Counts the verdict. Of an accepted request, also records the scopes that it used and the address
    /// of its client.
    fn count_use(
        &self,
        entry: &Arc<IndexedCredential>,
        found: &Assessment,
        required: RequiredScopes,
    ) {
        let now = found.now;
        if found.verdict == Verdict::Valid
            && let Some(live) = entry.live()
        {
            live.use_scopes(self.authorizer.used(entry, required), now);
            let recorded = self.settings.client_addresses != AddressRecording::Off;
            let client_ip = found.client_ip.filter(|_| recorded);
            if let Some(address) = client_ip.and_then(ClientAddress::of) {
                live.use_address(address, now);
            }
        }
        self.usage.count(entry, found.verdict, now);
        if found.verdict == Verdict::Valid {
            self.initial_key_file.was_used(entry.prefix);
        }
    }

    /// Records that an accepted caller used one of the scopes `any_of`.
    pub fn use_permission(&self, caller: &Principal, any_of: &[&'static str]) {
        if let Some(presented) = caller.presented {
            self.use_scopes(presented, self.authorizer.needed(any_of));
        }
    }

    /// Records that the presented key used these scopes, in a request that was counted before.
    pub(super) fn use_scopes(&self, presented: Presented, required: RequiredScopes) {
        let Some(entry) = self.store.index().find(presented.prefix) else { return };
        let used = self.authorizer.used(&entry, required);
        if !used.is_empty() {
            self.usage.use_scopes(&entry, used, self.env.time.now());
        }
    }

    /// Returns the metadata of an account as compact JSON, from memory; `None` for the empty object.
    pub fn account_metadata(&self, account: AccountId) -> Option<Arc<str>> {
        self.store.index().account(account, |it| it.metadata.clone()).flatten()
    }

    /// Returns why the key is refused for every scope; `None` if it is not.
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

    /// As [`Keyward::refusal_reason`], with the state of its account.
    pub(super) fn refusal_now(&self, entry: &IndexedCredential, now: Timestamp) -> Option<Verdict> {
        let suspended = self.store.index().account(entry.key.account, |it| it.suspended);
        self.refusal_reason(entry, suspended.unwrap_or(true), now)
    }

    /// Returns an error if the caller of a long request is no longer accepted, or holds none of these
    /// scopes. Reads the index: no lock, no disk, no derivation.
    pub fn review(&self, caller: &Principal, any_of: &'static [&'static str]) -> Result<(), Error> {
        let Some(presented) = caller.presented else { return Ok(()) };
        let found = self.store.index().find(presented.prefix);
        let found = found.filter(|it| it.key.id == presented.key);
        let entry = found.ok_or(Error::Unauthenticated(Denial::InvalidKey))?;
        let client_ip = &|| caller.client_ip;
        let question = Question::of_call(client_ip);
        let account = |it: &_| self.assess(&entry, Some(it), &question);
        let found = self.store.index().account(entry.key.account, account);
        let found = found.unwrap_or_else(|| self.assess(&entry, None, &question));
        if found.verdict != Verdict::Valid {
            return Err(Error::of_caller(found.verdict));
        }
        if self.authorizer.permits(found.granted, any_of) {
            Ok(())
        } else {
            Err(Error::MissingScope(any_of))
        }
    }

    /// Returns the caller of a request whose key is [`Verdict::Valid`]; 401 for another verdict, and
    /// 403 for an address that is not allowed.
    pub fn principal(
        &self,
        found: &Verification,
        context: RequestContext,
    ) -> Result<Principal, Error> {
        match (found.verdict, &found.entry, &found.account) {
            (Verdict::Valid, Some(entry), Some(account)) => Ok(Principal {
                presented: Some(Presented { key: entry.key.id, prefix: entry.prefix }),
                account: entry.key.account,
                operator: account.operator,
                powers: self.authorizer.catalogue.powers(entry.key.scopes()),
                gives_until: entry.key.gives_until(),
                allowed_ips: entry.key.allowed_ips().cloned(),
                client_ip: context.client_ip,
                source: context.caused_by(actor_of(entry)).into(),
            }),
            (verdict, _, _) => Err(Error::of_caller(verdict)),
        }
    }

    /// Returns the caller of a request on the control socket. It owns the data directory and so the
    /// database: it may do everything that a key of the operator may. Reads the database.
    pub fn local_operator(&self, source: EventSource) -> Result<Principal, Error> {
        let account = self.store.read::<_, Error>(|tx| Ok(tx.operator_account()?))?;
        Ok(Principal {
            presented: None,
            account: account.ok_or(Error::NotFound)?.id,
            operator: true,
            powers: self.authorizer.catalogue.everything(),
            gives_until: None,
            allowed_ips: None,
            client_ip: None,
            source: source.into(),
        })
    }

    /// Returns whether the use of this retired credential is to be recorded: at most once an hour for
    /// each key. Takes a short lock, and returns `true` to one caller only.
    pub fn should_record_retired_use(&self, found: &Verification) -> bool {
        const MOST_KEYS: usize = 10_000;
        let (Verdict::Rotated, Some(entry)) = (found.verdict, &found.entry) else { return false };
        let now = self.env.time.now();
        let mut recorded =
            self.kdf_pool.retired_uses.lock().unwrap_or_else(PoisonError::into_inner);
        if recorded.get(&entry.key.id).is_some_and(|it| now < it.after(RETIRED_USE_INTERVAL)) {
            return false;
        }
        if MOST_KEYS <= recorded.len() {
            recorded.clear(); // The transaction below asks the log itself.
        }
        recorded.insert(entry.key.id, now);
        true
    }

    /// Records that a credential whose grace period is over is still in use.
    pub fn record_retired_use(
        &self,
        found: &Verification,
        context: RequestContext,
    ) -> Result<(), Error> {
        let Some(entry) = found.entry.clone() else { return Ok(()) };
        self.system_change(move |tx| {
            let data = json!({ "keyPrefix": entry.prefix.as_str() });
            record_retired(tx, &context.caused_by(actor_of(&entry)), entry.key.account, data)
        })
    }
}

/// Records that the key of this source presented a credential whose grace period is over, unless that
/// was recorded less than an hour ago.
pub(super) fn record_retired(
    tx: &WriteTx<'_>,
    source: &EventSource,
    account: AccountId,
    data: Value,
) -> Result<(), Error> {
    let Actor::Key { id, .. } = source.actor else { return Ok(()) };
    let last = tx.last_retired_use(id)?;
    if last.is_some_and(|it| tx.now() < it.after(RETIRED_USE_INTERVAL)) {
        return Ok(());
    }
    let (event_type, subject) = (EventType::ApiKeyRetiredKeyUsed, Subject::Key(id));
    tx.record(source, &NewEvent { event_type, account: Some(account), subject, data })?;
    Ok(())
}

const RETIRED_USE_INTERVAL: Duration = Duration::from_hours(1);

pub(super) fn actor_of(entry: &IndexedCredential) -> Actor {
    Actor::Key { id: entry.key.id, prefix: entry.prefix, account: entry.key.account }
}
