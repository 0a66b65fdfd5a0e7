//! The token status list: which outstanding tokens are refused (draft-ietf-oauth-status-list).

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwapOption;
use base64ct::{Base64UrlUnpadded, Encoding};
use pbkdf2::sha2::{Digest, Sha256};
use serde_json::json;
use tokio::sync::watch;

use crate::{
    domain::{
        plaintext_key::KeyPrefix, status_list::StatusBits, token_key::LONGEST_LIFETIME,
        token_keys::FURTHEST_AHEAD, verdict::Verdict,
    },
    env::{Monotonic, Timestamp},
    service::{Error, Keyward, pace::Pace},
    store::{IndexedCredential, StatusPlace},
};

/// How long a retired place is listed as refused: until no token with it is left, even for a gateway
/// whose clock is 5 minutes late, and if the clock went back so little that the keys stayed.
const LISTED: Duration =
    Duration::from_mins(5).saturating_add(FURTHEST_AHEAD).saturating_add(LONGEST_LIFETIME);
/// How long a retired place rests before it is free. In the time after [`LISTED`], every gateway gets a
/// list in which its tokens are not refused.
const REST: Duration = Duration::from_hours(1);
/// The least time from one list to the next.
const LEAST_AGE: Duration = Duration::from_secs(1);

/// A signed list.
#[derive(Debug)]
pub struct StatusList {
    /// A JSON Web Token of the type `statuslist+jwt`.
    pub token: Arc<str>,
    /// A digest of the token.
    pub digest: String,
    /// The number of places that are given.
    pub given: u64,
    made_at: Monotonic,
    /// The same by the clock that its `iat` tells.
    issued_at: Timestamp,
    /// The key that signed it.
    key_id: String,
    /// When the next credential in it ends. The list must then be made again.
    next_end: Option<Timestamp>,
    /// The state of the index that it shows.
    changes: u64,
}

/// The newest list, which a request makes when it is due.
#[derive(Debug, Default)]
pub(super) struct StatusLists {
    newest: ArcSwapOption<StatusList>,
    /// Whether a request makes a list now.
    is_taken: AtomicBool,
    /// Changes at the end of each turn.
    ended: watch::Sender<()>,
    made: AtomicU64,
}

/// The right to make the next list, which one request has at a time. The others wait without a thread.
#[derive(Debug)]
pub struct ListTurn(Arc<StatusLists>);

impl Drop for ListTurn {
    fn drop(&mut self) {
        self.0.is_taken.store(false, Ordering::Release);
        self.0.ended.send_replace(());
    }
}

impl Keyward {
    /// Returns the address of the status list.
    pub(super) fn status_list_uri(&self) -> Result<String, Error> {
        Ok(format!("{}/token-status/1", self.issuer()?))
    }

    /// Returns the newest list if it shows every change that is more than a second old. Reads only memory.
    pub fn status_list_in_memory(&self) -> Option<Arc<StatusList>> {
        let list = self.status_lists.newest.load_full()?;
        if !self.is_key_published(&list.key_id, list.issued_at) {
            return None;
        }
        let age = self.age_of(&list);
        let is_outdated = list.changes != self.store.index().changes()
            || list.next_end.is_some_and(|it| it <= self.env.time.now())
            // So that no gateway gets a list that it may keep for a moment only.
            || self.settings.tokens.status_ttl / 2 <= age;
        (age < LEAST_AGE || !is_outdated).then_some(list)
    }

    /// Returns the turn to make a list, if no other request has it.
    pub fn take_list_turn(&self) -> Option<ListTurn> {
        let lists = &self.status_lists;
        let is_taken = lists.is_taken.swap(true, Ordering::AcqRel);
        (!is_taken).then(|| ListTurn(Arc::clone(lists)))
    }

    /// Returns a channel that changes when a turn has ended. Subscribe before asking for a turn.
    pub fn watch_list_turns(&self) -> watch::Receiver<()> {
        self.status_lists.ended.subscribe()
    }

    /// Returns a list that shows every change that is more than a second old. Makes it, if need be.
    pub fn status_list(&self, turn: &ListTurn) -> Result<Arc<StatusList>, Error> {
        let ListTurn(lists) = turn;
        // Another request may have made it meanwhile.
        if let Some(list) = self.status_list_in_memory() {
            return Ok(list);
        }
        let list = Arc::new(self.make_status_list()?);
        lists.newest.store(Some(Arc::clone(&list)));
        lists.made.fetch_add(1, Ordering::Relaxed);
        Ok(list)
    }

    /// Returns how long a cache may keep the list: as long as it is fresh.
    pub fn fresh_for(&self, list: &StatusList) -> Duration {
        self.settings.tokens.status_ttl.saturating_sub(self.age_of(list))
    }

    /// Returns the age of a list, by the clock that makes it older: a gateway counts from its `iat`.
    fn age_of(&self, list: &StatusList) -> Duration {
        let (now, monotonic) = (self.env.time.now(), self.env.time.monotonic());
        now.since(list.issued_at).max(monotonic.since(list.made_at))
    }

    /// Returns how many lists were made since the start, and how many credentials are in the newest.
    pub fn status_lists(&self) -> (u64, u64) {
        let given = self.status_lists.newest.load().as_ref().map_or(0, |it| it.given);
        (self.status_lists.made.load(Ordering::Relaxed), given)
    }

    /// Makes a list of now. [`Keyward::status_list`] makes one only when it is due.
    pub fn make_status_list(&self) -> Result<StatusList, Error> {
        let issuer = self.issuer()?;
        let index = self.store.index();
        // First, so that a later change is known to be missing.
        let changes = index.changes();
        let (now, made_at) = (self.env.time.now(), self.env.time.monotonic());
        let steady = self.env.time.steady_for();
        let (mut refused, mut highest, mut given, mut next_end) = (Vec::new(), None, 0, None);
        index.for_each_status_place(|place, state| {
            highest = highest.max(Some(place));
            match state {
                StatusPlace::Given(prefix) => {
                    given += 1;
                    match self.end_of_good(prefix, now) {
                        Some(Some(end)) => {
                            next_end = Some(next_end.map_or(end, |it: Timestamp| it.min(end)));
                        }
                        Some(None) => (),
                        None => refused.push(place),
                    }
                }
                // A step of the clock makes no token good again that was refused.
                StatusPlace::Retired(at) if steady < LISTED || now < at.after(LISTED) => {
                    refused.push(place);
                }
                StatusPlace::Retired(_) | StatusPlace::Free => (),
            }
        });
        let mut bits = StatusBits::for_places(highest.map_or(0, |it| it as usize + 1));
        for place in refused {
            bits.refuse(place);
        }
        let rules = &self.settings.tokens;
        let issued_at = now.as_millis().div_euclid(1_000);
        let signer = self.token_signer(now)?;
        let token = signer.sign(
            "statuslist+jwt",
            &json!({
                "iss": issuer,
                "sub": self.status_list_uri()?,
                "iat": issued_at,
                // Until the last token that keyward issued before this list has ended.
                "exp": issued_at + seconds(rules.lifetime + rules.status_ttl),
                "ttl": seconds(rules.status_ttl),
                "status_list": { "bits": 1, "lst": bits.encode() },
            }),
        );
        let digest = Base64UrlUnpadded::encode_string(&Sha256::digest(&token));
        let (token, key_id) = (token.into(), signer.id().to_owned());
        let issued_at = now;
        Ok(StatusList { token, digest, given, made_at, issued_at, key_id, next_end, changes })
    }

    /// Returns when a credential ends whose tokens are good now, `Some(None)` if it has no end; and `None`
    /// if its tokens are refused.
    fn end_of_good(&self, prefix: KeyPrefix, now: Timestamp) -> Option<Option<Timestamp>> {
        let is_good = |it: &Arc<_>| self.refusal_now(it, now).is_none() && self.has_exchange(it);
        let end = |it: &Arc<IndexedCredential>| is_good(it).then(|| it.ends_at());
        self.store.index().look(prefix, end).flatten()
    }

    /// Turns the keys, and frees the places of credentials that have ended. Returns how many things
    /// changed.
    pub(super) fn keep_tokens(&self, pace: &mut Pace<'_>) -> Result<u64, Error> {
        if self.settings.tokens.issuer.is_none() {
            return Ok(0);
        }
        let turned = u64::from(self.turn_token_keys()?) + self.record_exchanges(false)?;
        let batch = self.settings.batch;
        let mut retired = 0;
        let ended = self.ended_with_place();
        for some in ended.chunks(batch as usize) {
            let some = some.to_vec();
            retired +=
                self.system_change(move |tx| Ok::<_, Error>(tx.retire_status_places(&some)?))?;
            if !pace.continues() {
                return Ok(turned + retired);
            }
        }
        if !self.env.time.is_settled() {
            return Ok(turned + retired);
        }
        // The clock was ahead when they were retired. They would rest until it is there again.
        let moved = pace.run(|| {
            self.system_change(move |tx| {
                let moved = tx.retire_future_places(batch)?;
                Ok((moved, u64::from(batch) <= moved))
            })
        })?;
        // The wall clock alone does not tell that so much time has passed.
        if self.env.time.steady_for() < REST {
            return Ok(turned + retired + moved);
        }
        let freed = pace.run(|| {
            let cutoff = self.env.time.now().before(REST);
            self.system_change(move |tx| {
                let freed = tx.free_status_places(cutoff, batch)?;
                Ok((freed, u64::from(batch) <= freed))
            })
        })?;
        Ok(turned + retired + moved + freed)
    }

    /// Returns the credentials with a place that are never accepted again.
    fn ended_with_place(&self) -> Vec<KeyPrefix> {
        let (index, now) = (self.store.index(), self.env.time.now());
        let mut ended = Vec::new();
        if !self.env.time.is_settled() {
            return ended;
        }
        index.for_each_status_place(|_, state| {
            let StatusPlace::Given(prefix) = state else { return };
            let verdict = index.look(prefix, |it| self.refusal_now(it, now));
            let is_over = verdict.is_none_or(|it| {
                matches!(it, Some(Verdict::Revoked | Verdict::Rotated | Verdict::Expired))
            });
            if is_over {
                ended.push(prefix);
            }
        });
        ended
    }
}

fn seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}
