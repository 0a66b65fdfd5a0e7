//! The token status list: which outstanding tokens are refused (draft-ietf-oauth-status-list).

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwapOption;
use base64ct::{Base64UrlUnpadded, Encoding};
use pbkdf2::sha2::{Digest, Sha256};
use serde_json::json;

use crate::{
    domain::{
        plaintext_key::KeyPrefix, status_list::StatusBits, token_key::LONGEST_LIFETIME,
        verdict::Verdict,
    },
    env::{Monotonic, Timestamp},
    service::{Error, Keyward, pace::Pace},
    store::{IndexedCredential, StatusPlace},
};

/// How long a retired place is listed as refused: until no token with it is left, even for a gateway
/// whose clock is 5 minutes late.
const LISTED: Duration = Duration::from_mins(5).saturating_add(LONGEST_LIFETIME);
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
    /// When the next credential in it ends. The list must then be made again.
    next_end: Option<Timestamp>,
    /// The state of the index that it shows.
    changes: u64,
}

/// The newest list, which a request makes when it is due.
#[derive(Debug, Default)]
pub(super) struct StatusLists {
    newest: ArcSwapOption<StatusList>,
    /// Allows one list to be made at a time.
    turn: Mutex<()>,
    made: AtomicU64,
}

impl Keyward {
    /// Returns the address of the status list.
    pub(super) fn status_list_uri(&self) -> Result<String, Error> {
        Ok(format!("{}/token-status/1", self.issuer()?))
    }

    /// Returns the newest list if it shows every change that is more than a second old. Reads only memory.
    pub fn status_list_in_memory(&self) -> Option<Arc<StatusList>> {
        let list = self.status_lists.newest.load_full()?;
        let age = self.env.time.monotonic().since(list.made_at);
        let is_outdated = list.changes != self.store.index().changes()
            || list.next_end.is_some_and(|it| it <= self.env.time.now())
            // So that no gateway gets a list that it may keep for a moment only.
            || self.settings.tokens.status_ttl / 2 <= age;
        (age < LEAST_AGE || !is_outdated).then_some(list)
    }

    /// Returns a list that shows every change that is more than a second old. Makes it, if need be.
    pub fn status_list(&self) -> Result<Arc<StatusList>, Error> {
        let lists = &self.status_lists;
        let _turn = lists.turn.lock().unwrap_or_else(PoisonError::into_inner);
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
        let age = self.env.time.monotonic().since(list.made_at);
        self.settings.tokens.status_ttl.saturating_sub(age)
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
        let settled = self.env.time.is_settled();
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
                // While the wall clock is in doubt, no token that was refused becomes good.
                StatusPlace::Retired(at) if !settled || now < at.after(LISTED) => {
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
        let token = self.token_signer()?.sign(
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
        Ok(StatusList { token: token.into(), digest, given, made_at, next_end, changes })
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
        let freed = pace.run(|| {
            let cutoff = self.env.time.now().before(REST);
            self.system_change(move |tx| {
                let freed = tx.free_status_places(cutoff, batch)?;
                Ok((freed, u64::from(batch) <= freed))
            })
        })?;
        Ok(turned + retired + freed)
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
