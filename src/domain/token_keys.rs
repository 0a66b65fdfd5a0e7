//! The set of keys that sign tokens: which one signs, which are published, and when they change.
//!
//! A key is published before it signs, so that gateways know it when its first token arrives. It stays
//! published after it signed its last token, until no token of it is left.
//!
//! If the clock went back, tokens of the keys may end late. Then all keys are replaced at once, so that
//! these tokens are no longer good.

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::{
    domain::token_key::{TokenAlgorithm, TokenKey},
    env::Timestamp,
};

/// How old the newest key gets before the next one is made.
const TURN: Duration = Duration::from_hours(30 * 24);
/// How long a key is published before it signs. The first key of all signs at once.
const LEAD: Duration = Duration::from_hours(24);
/// How long a key is published after another one has taken its place: longer than any token lives.
const TRAIL: Duration = Duration::from_hours(1);
/// For how long ahead a signature is noted, so that the file is not written for each one.
const STRIDE: Duration = Duration::from_mins(5);
/// How far ahead of now the note may be: further ahead, the clock went back. It is more than `STRIDE`, so
/// that a small step replaces no key.
pub const FURTHEST_AHEAD: Duration = Duration::from_mins(10);

/// The keys that sign tokens.
#[derive(Clone, Debug, Default)]
pub struct TokenKeys {
    /// The oldest first.
    keys: Vec<HeldKey>,
    /// No key has signed anything later than this; `None` if none has signed yet.
    signed_until: Option<Timestamp>,
}

/// How the line about signatures begins.
const SIGNED_UNTIL: &str = "signed-until ";

#[derive(Clone, Debug)]
struct HeldKey {
    key: Arc<TokenKey>,
    made_at: Timestamp,
    /// When another key was first seen in its place.
    replaced_at: Option<Timestamp>,
}

/// The error for a text that is not the output of [`TokenKeys::expose`]. Has no fields: the text holds
/// secrets.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "each line must be an algorithm, two instants and a secret, or `signed-until` and an instant"
)]
pub struct InvalidTokenKeys;

impl TokenKeys {
    /// Reads the output of [`TokenKeys::expose`].
    pub fn parse(text: &str) -> Result<Self, InvalidTokenKeys> {
        let line = |line: &str| {
            let [algorithm, made_at, replaced_at, secret] =
                line.split(' ').collect::<Vec<_>>().try_into().ok()?;
            let replaced_at = match replaced_at {
                "-" => None,
                text => Some(Timestamp::parse(text).ok()?),
            };
            let key = Arc::new(TokenKey::parse(TokenAlgorithm::parse(algorithm)?, secret)?);
            Some(HeldKey { key, made_at: Timestamp::parse(made_at).ok()?, replaced_at })
        };
        let (first, rest) = text.split_once('\n').unwrap_or((text, ""));
        let (signed_until, keys) = match first.strip_prefix(SIGNED_UNTIL) {
            Some(at) => (Some(Timestamp::parse(at).map_err(|_| InvalidTokenKeys)?), rest),
            None => (None, text),
        };
        let keys = keys.lines().map(line).collect::<Option<_>>().ok_or(InvalidTokenKeys)?;
        Ok(Self { keys, signed_until })
    }

    /// Returns all keys as text: a line for each one, below the line about signatures.
    pub fn expose(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::new());
        if let Some(at) = self.signed_until {
            for part in [SIGNED_UNTIL, &at.to_string(), "\n"] {
                text.push_str(part);
            }
        }
        for HeldKey { key, made_at, replaced_at } in &self.keys {
            let replaced_at = replaced_at.map_or_else(|| "-".to_owned(), |it| it.to_string());
            let algorithm = key.algorithm().as_str();
            for part in [algorithm, " ", &made_at.to_string(), " ", &replaced_at, " "] {
                text.push_str(part);
            }
            text.push_str(&key.expose());
            text.push('\n');
        }
        text
    }

    /// Returns the key that signs at `now`: the newest of this algorithm that was published for long
    /// enough. Until there is one, the key signs that signed before, or else the first.
    pub fn signer(&self, algorithm: TokenAlgorithm, now: Timestamp) -> Option<&Arc<TokenKey>> {
        self.signing(algorithm, now).map(|it| &it.key)
    }

    /// Returns how long ago the key that signs at `now` was made.
    pub fn age(&self, algorithm: TokenAlgorithm, now: Timestamp) -> Option<Duration> {
        self.signing(algorithm, now).map(|it| now.since(it.made_at))
    }

    fn signing(&self, algorithm: TokenAlgorithm, now: Timestamp) -> Option<&HeldKey> {
        let known = || self.keys.iter().rev().filter(|it| it.made_at.after(LEAD) <= now);
        let ours = known().find(|it| it.key.algorithm() == algorithm);
        ours.or_else(|| known().next()).or_else(|| self.keys.first())
    }

    /// Returns whether the clock went back so far since the last signatures that tokens may end late.
    pub fn signed_after(&self, now: Timestamp) -> bool {
        self.signed_until.is_some_and(|it| now.after(FURTHEST_AHEAD) < it)
    }

    /// Returns these keys with the note that they sign at `now`; `None` if they have it. It must be stored
    /// before they sign, because it shows after a restart that the clock went back.
    pub fn noted(&self, now: Timestamp) -> Option<Self> {
        let is_noted = self.signed_until.is_some_and(|it| now <= it);
        let signed_until = Some(now.after(STRIDE));
        (!is_noted).then(|| Self { signed_until, ..self.clone() })
    }

    /// Returns whether this key is held.
    pub fn holds(&self, id: &str) -> bool {
        self.keys.iter().any(|it| it.key.id() == id)
    }

    /// Returns the keys that must be held at `now`; `None` if they are these. The clock has been steady
    /// for `steady`. `make` makes a key.
    pub fn turned(
        &self,
        algorithm: TokenAlgorithm,
        now: Timestamp,
        steady: Duration,
        make: impl FnOnce() -> TokenKey,
    ) -> Option<Self> {
        let is_void = self.signed_after(now);
        let mut turned = if is_void { Self::default() } else { self.clone() };
        let keys = &mut turned.keys;
        let mut changed = is_void;
        // An instant in the future would keep the next key from being made, or this one published.
        for at in keys.iter_mut().flat_map(|it| [Some(&mut it.made_at), it.replaced_at.as_mut()]) {
            if let Some(at) = at.filter(|it| now < **it) {
                *at = now;
                changed = true;
            }
        }
        let newest = keys.iter().rfind(|it| it.key.algorithm() == algorithm);
        if newest.is_none_or(|it| it.made_at.after(TURN) <= now) {
            keys.push(HeldKey { key: Arc::new(make()), made_at: now, replaced_at: None });
            changed = true;
        }
        let signer = turned.signing(algorithm, now).map(|it| Arc::clone(&it.key));
        let mut is_older = true;
        for it in &mut turned.keys {
            let signs = signer.as_ref().is_some_and(|signer| Arc::ptr_eq(signer, &it.key));
            is_older &= !signs;
            let is_replaced = is_older || it.key.algorithm() != algorithm && !signs;
            if is_replaced != it.replaced_at.is_some() {
                it.replaced_at = is_replaced.then_some(now);
                changed = true;
            }
        }
        let held = turned.keys.len();
        let trails = |at: Timestamp| now < at.after(TRAIL) || steady < TRAIL;
        turned.keys.retain(|it| it.replaced_at.is_none_or(trails));
        (changed || turned.keys.len() < held).then_some(turned)
    }

    /// Returns the public keys as a JSON Web Key Set (RFC 7517, 5).
    pub fn to_jwks(&self) -> Value {
        json!({ "keys": self.keys.iter().map(|it| it.key.to_jwk()).collect::<Vec<_>>() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::SeededEntropy;

    const ED: TokenAlgorithm = TokenAlgorithm::EdDsa;
    const ES: TokenAlgorithm = TokenAlgorithm::Es256;

    struct Held {
        keys: TokenKeys,
        now: Timestamp,
        steady: Duration,
        entropy: SeededEntropy,
    }

    impl Held {
        fn new() -> Self {
            let now = Timestamp::from_millis(1_767_225_600_000);
            let (keys, entropy) = (TokenKeys::default(), SeededEntropy::new(1));
            let mut it = Self { keys, now, steady: Duration::MAX, entropy };
            assert!(it.turn(ED));
            it
        }

        /// Returns whether anything changed. The text form keeps all of it.
        fn turn(&mut self, algorithm: TokenAlgorithm) -> bool {
            let make = || TokenKey::generate(algorithm, &self.entropy);
            let turned = self.keys.turned(algorithm, self.now, self.steady, make);
            let changed = turned.is_some();
            let text = turned.unwrap_or_else(|| self.keys.clone()).expose();
            self.keys = TokenKeys::parse(&text).unwrap();
            assert_eq!(self.keys.expose(), text);
            changed
        }

        fn after(&mut self, by: Duration) -> &mut Self {
            self.now = self.now.after(by);
            self
        }

        /// Notes a signature. Returns whether the file has to be written for it.
        fn sign(&mut self) -> bool {
            let noted = self.keys.noted(self.now);
            let text = noted.as_ref().map(TokenKeys::expose);
            if let Some(text) = &text {
                self.keys = TokenKeys::parse(text).unwrap();
                assert_eq!(self.keys.expose(), *text);
            }
            text.is_some()
        }

        fn signer(&self, algorithm: TokenAlgorithm) -> String {
            self.keys.signer(algorithm, self.now).unwrap().id().to_owned()
        }

        fn published(&self) -> Vec<String> {
            let jwks = self.keys.to_jwks();
            let keys = jwks["keys"].as_array().unwrap().iter();
            keys.map(|it| it["kid"].as_str().unwrap().to_owned()).collect()
        }
    }

    const MOMENT: Duration = Duration::from_millis(1);

    #[test]
    fn a_key_is_published_before_it_signs_and_after_its_last_token() {
        let mut held = Held::new();
        let first = held.signer(ED);
        assert_eq!(held.published(), std::slice::from_ref(&first));
        assert!(!held.after(TURN.saturating_sub(MOMENT)).turn(ED));
        assert!(held.after(MOMENT).turn(ED));
        let second = held.published()[1].clone();
        assert_eq!((held.published().len(), held.signer(ED)), (2, first.clone()));
        assert!(!held.after(LEAD.saturating_sub(MOMENT)).turn(ED));
        assert_eq!(held.signer(ED), first);
        held.after(MOMENT);
        assert_eq!(held.signer(ED), second, "it signs although no job ran");
        assert!(held.turn(ED));
        assert!(!held.after(TRAIL.saturating_sub(MOMENT)).turn(ED));
        assert_eq!(held.published(), [first, second.clone()]);
        assert!(held.after(MOMENT).turn(ED));
        assert_eq!(held.published(), [second]);
    }

    #[test]
    fn a_job_that_did_not_run_for_long_shortens_nothing() {
        let mut held = Held::new();
        let first = held.signer(ED);
        held.after(3 * TURN).turn(ED);
        assert_eq!(held.signer(ED), first, "the new key is not known yet");
        held.after(3 * TURN);
        let second = held.signer(ED);
        assert_ne!(second, first);
        held.turn(ED);
        assert!(held.published().contains(&first), "its last token may be of this moment");
        held.after(TRAIL).turn(ED);
        assert!(!held.published().contains(&first));
    }

    #[test]
    fn a_key_of_another_algorithm_is_published_before_it_signs() {
        let mut held = Held::new();
        let first = held.signer(ED);
        assert!(held.turn(ES));
        let second = held.published()[1].clone();
        assert!(!held.after(LEAD.saturating_sub(MOMENT)).turn(ES));
        assert_eq!(held.signer(ES), first);
        held.after(MOMENT);
        assert_eq!(held.signer(ES), second);
        assert!(held.turn(ES));
        held.after(TRAIL.saturating_sub(MOMENT)).turn(ED);
        assert_eq!(held.signer(ED), first, "back in time: the same key");
        held.after(2 * MOMENT).turn(ED);
        assert_eq!(held.published(), [first.clone(), second], "the other one trails from then on");
        held.after(TRAIL).turn(ED);
        assert_eq!(held.published(), [first]);
    }

    #[test]
    fn an_algorithm_that_was_taken_back_has_never_signed() {
        let mut held = Held::new();
        let first = held.signer(ED);
        held.turn(ES);
        held.after(MOMENT).turn(ED);
        assert_eq!(held.signer(ED), first);
        held.after(TRAIL).turn(ED);
        assert_eq!(held.published(), [first]);
    }

    #[test]
    fn a_key_that_has_not_signed_stays_when_the_clock_goes_back_and_is_renewed_in_time() {
        let mut held = Held::new();
        let first = held.signer(ED);
        held.now = held.now.before(10 * TURN);
        assert!(held.turn(ED));
        assert_eq!(held.signer(ED), first);
        held.after(TURN).turn(ED);
        assert_eq!(held.published().len(), 2, "its age counts from the clock of now");
        held.after(LEAD).turn(ED);
        assert_ne!(held.signer(ED), first);
        held.after(TRAIL).turn(ED);
        assert!(!held.published().contains(&first));
    }

    #[test]
    fn keys_that_signed_far_ahead_of_the_clock_are_replaced_with_all_others() {
        let mut held = Held::new();
        let first = held.signer(ED);
        assert!(held.sign());
        held.after(STRIDE);
        assert!(!held.sign(), "the file is written for the first of many signatures");
        held.after(MOMENT);
        assert!(held.sign());
        held.turn(ES);
        let noted = held.now.after(STRIDE);
        held.now = noted.before(FURTHEST_AHEAD);
        assert!(!held.keys.signed_after(held.now));
        held.turn(ED);
        assert!(held.published().contains(&first));
        held.now = held.now.before(MOMENT);
        assert!(held.keys.signed_after(held.now) && held.turn(ED));
        assert!(!held.published().contains(&first));
        assert_eq!(held.published(), [held.signer(ED)]);
        assert!(!held.keys.signed_after(held.now) && !held.turn(ED));
    }

    #[test]
    fn keys_that_a_step_has_made_old_stay_until_the_clock_was_steady() {
        let mut held = Held::new();
        let first = held.signer(ED);
        held.turn(ES);
        held.after(LEAD).turn(ES);
        held.steady = TRAIL.saturating_sub(MOMENT);
        held.after(TRAIL).turn(ES);
        assert!(held.published().contains(&first), "its last token may be of a moment ago");
        held.steady = TRAIL;
        held.turn(ES);
        assert!(!held.published().contains(&first));
    }

    #[test]
    fn a_damaged_file_is_told_without_its_secrets() {
        let held = Held::new();
        let text = held.keys.expose();
        assert!(TokenKeys::parse("").unwrap().keys.is_empty());
        for bad in [
            "x",
            "EdDSA 1 - x",
            "signed-until x",
            "signed-until ",
            &text.replace('-', "+"),
            &text.replace("EdDSA", "RS256"),
        ] {
            assert_eq!(TokenKeys::parse(bad).unwrap_err(), InvalidTokenKeys, "{bad}");
        }
    }

    #[test]
    fn a_key_is_held_under_its_id_and_its_age_counts_from_when_it_was_made() {
        let mut held = Held::new();
        let first = held.signer(ED);
        assert_eq!(held.keys.age(ED, held.now), Some(Duration::ZERO));
        held.after(MOMENT);
        assert_eq!(held.keys.age(ED, held.now), Some(MOMENT));
        assert_eq!(TokenKeys::default().age(ED, held.now), None);
        assert!(held.keys.holds(&first) && !held.keys.holds("another"));
    }
}
