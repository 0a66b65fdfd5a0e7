//! Keys in other text, and the texts that keyward stores.

use keyward::domain::{
    mask::{holds_key, masked},
    plaintext_key::PlaintextKey,
    text::{ExternalId, Location, Name, ReasonText},
    visible::{escaped, is_hidden},
};

use super::KEY;

pub const TOKENS: &[&str] = &[
    KEY,
    "acct_01KYq8Zt3mV5xW7aBcDeFg",
    "x_AAAAAAAAAAAAAAAAAAAAAAA",
    "_",
    "…",
    "\u{200d}",
    "\u{fe0f}",
    "\u{202e}",
    "\u{301}",
    "❤",
];

pub fn run(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let shown = masked(text);
    assert_eq!(masked(&shown), shown, "a masked text has no more to mask");
    assert!(!holds_key(&shown), "{shown}");
    for secret in keys_in(input) {
        assert!(holds_key(text), "a key is found wherever it stands");
        // The same characters may stand elsewhere without a label, where they are no key.
        let count = |it: &str, part: &str| it.matches(part).count();
        let elsewhere = count(text, &secret[12..]) - count(text, &secret);
        assert!(count(&shown, &secret[12..]) <= elsewhere, "a masked text shows a secret: {shown}");
    }
    assert!(!escaped(text).chars().any(is_hidden));
    stored(text, Name::parse(text).ok().map(|it| it.as_str().to_owned()), 100, |it| {
        Name::parse(it).is_ok_and(|parsed| parsed.as_str() == it)
    });
    stored(text, ReasonText::parse(text).ok().map(|it| it.as_str().to_owned()), 200, |it| {
        ReasonText::parse(it).is_ok_and(|parsed| parsed.as_str() == it)
    });
    stored(text, Location::parse(text).ok().map(|it| it.as_str().to_owned()), 200, |it| {
        Location::parse(it).is_ok_and(|parsed| parsed.as_str() == it)
    });
    if let Ok(id) = ExternalId::parse(text) {
        assert_eq!(id.as_str(), text);
        assert!(!holds_key(text));
    }
}

/// Checks a text that keyward would store.
fn stored(given: &str, stored: Option<String>, most: usize, again: impl Fn(&str) -> bool) {
    let Some(stored) = stored else { return };
    assert!((1..=most).contains(&stored.chars().count()));
    assert!(!holds_key(&stored) && again(&stored), "{given:?} was stored as {stored:?}");
}

/// Returns every text in `bytes` that is a key.
fn keys_in(bytes: &[u8]) -> impl Iterator<Item = String> {
    let found = bytes.windows(PlaintextKey::LEN).filter_map(|it| PlaintextKey::parse(it).ok());
    found.map(|it| it.expose().to_owned())
}
