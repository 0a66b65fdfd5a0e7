//! The set of keys that sign tokens: which one signs, which are published, and when they change.
//!
//! A key is published before it signs, so that gateways know it when its first token arrives. It stays
//! published after it signed its last token, until no token of it is left.

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::{
    domain::token_key::{TokenAlgorithm, TokenKey},
    env::Timestamp,
};

/// How old the newest key gets before the next one is made.
const TURN: Duration = Duration::from_hours(30 * 24);
/// How long a key is published before it signs. The first key of an algorithm signs at once.
const LEAD: Duration = Duration::from_hours(24);
/// How long a key is published after another one has taken its place: longer than any token lives.
const TRAIL: Duration = Duration::from_hours(1);

/// The keys that sign tokens, the oldest first.
#[derive(Clone, Debug, Default)]
pub struct TokenKeys(Vec<HeldKey>);

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
#[error("each line must be an algorithm, two instants and a secret")]
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
        let keys: Option<Vec<_>> = text.lines().map(line).collect();
        keys.map(Self).ok_or(InvalidTokenKeys)
    }

    /// Returns all keys as text: a line for each one.
    pub fn expose(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::new());
        for HeldKey { key, made_at, replaced_at } in &self.0 {
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

    /// Returns the key that signs at `now`: the newest that was published for long enough, or else the
    /// first.
    pub fn signer(&self, algorithm: TokenAlgorithm, now: Timestamp) -> Option<&Arc<TokenKey>> {
        self.signing(algorithm, now).map(|it| &it.key)
    }

    /// Returns how long ago the key that signs at `now` was made.
    pub fn age(&self, algorithm: TokenAlgorithm, now: Timestamp) -> Option<Duration> {
        self.signing(algorithm, now).map(|it| now.since(it.made_at))
    }

    fn signing(&self, algorithm: TokenAlgorithm, now: Timestamp) -> Option<&HeldKey> {
        let mut ours = self.0.iter().filter(|it| it.key.algorithm() == algorithm);
        let known = |it: &&HeldKey| it.made_at.after(LEAD) <= now;
        ours.clone().rfind(known).or_else(|| ours.next())
    }

    /// Returns the keys that must be held at `now`; `None` if they are these. `make` makes a key.
    pub fn turned(
        &self,
        algorithm: TokenAlgorithm,
        now: Timestamp,
        make: impl FnOnce() -> TokenKey,
    ) -> Option<Self> {
        let mut keys = self.clone();
        let newest = self.0.iter().rfind(|it| it.key.algorithm() == algorithm);
        let is_due = newest.is_none_or(|it| it.made_at.after(TURN) <= now);
        if is_due {
            keys.0.push(HeldKey { key: Arc::new(make()), made_at: now, replaced_at: None });
        }
        let signer = keys.signing(algorithm, now).map(|it| it.made_at);
        let mut changed = is_due;
        for it in &mut keys.0 {
            let is_older = Some(it.made_at) < signer;
            let is_replaced = it.key.algorithm() != algorithm || is_older;
            if is_replaced != it.replaced_at.is_some() {
                it.replaced_at = is_replaced.then_some(now);
                changed = true;
            }
        }
        let held = keys.0.len();
        keys.0.retain(|it| it.replaced_at.is_none_or(|at| now < at.after(TRAIL)));
        (changed || keys.0.len() < held).then_some(keys)
    }

    /// Returns the public keys as a JSON Web Key Set (RFC 7517, 5).
    pub fn to_jwks(&self) -> Value {
        json!({ "keys": self.0.iter().map(|it| it.key.to_jwk()).collect::<Vec<_>>() })
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
        entropy: SeededEntropy,
    }

    impl Held {
        fn new() -> Self {
            let now = Timestamp::from_millis(1_767_225_600_000);
            let mut it = Self { keys: TokenKeys::default(), now, entropy: SeededEntropy::new(1) };
            assert!(it.turn(ED));
            it
        }

        /// Returns whether anything changed. The text form keeps all of it.
        fn turn(&mut self, algorithm: TokenAlgorithm) -> bool {
            let make = || TokenKey::generate(algorithm, &self.entropy);
            let turned = self.keys.turned(algorithm, self.now, make);
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
    fn another_algorithm_signs_at_once_and_the_keys_before_it_trail() {
        let mut held = Held::new();
        let first = held.signer(ED);
        assert!(held.keys.signer(ES, held.now).is_none());
        assert!(held.turn(ES));
        let second = held.signer(ES);
        assert_eq!(held.published(), [first.clone(), second.clone()]);
        held.after(TRAIL.saturating_sub(MOMENT)).turn(ED);
        assert_eq!(held.signer(ED), first, "back in time: the same key");
        held.after(2 * MOMENT).turn(ED);
        assert_eq!(held.published(), [first, second], "the other one trails from the way back on");
        held.after(TRAIL).turn(ED);
        assert_eq!(held.published(), [held.signer(ED)]);
    }

    #[test]
    fn a_clock_that_went_back_takes_no_key_away() {
        let mut held = Held::new();
        let first = held.signer(ED);
        held.now = held.now.before(10 * TURN);
        assert!(!held.turn(ED));
        assert_eq!(held.signer(ED), first);
    }

    #[test]
    fn a_damaged_file_is_told_without_its_secrets() {
        let held = Held::new();
        let text = held.keys.expose();
        assert!(TokenKeys::parse("").unwrap().0.is_empty());
        for bad in ["x", "EdDSA 1 - x", &text.replace('-', "+"), &text.replace("EdDSA", "RS256")] {
            assert_eq!(TokenKeys::parse(bad).unwrap_err(), InvalidTokenKeys, "{bad}");
        }
    }
}
