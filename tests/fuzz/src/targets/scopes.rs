//! Scopes, instants, rate limits and patterns of events.

use keyward::{
    domain::{
        rate_limit::RateLimit,
        scope::{Scope, ScopeSet},
        webhook::EventPattern,
    },
    env::Timestamp,
};

use super::CATALOGUE;

pub const TOKENS: &[&str] = &[
    "orders:read",
    "*",
    ":",
    " ",
    "api-keys:read",
    "2025-02-28T12:34:56.789+02:00",
    "0000-01-01T00:00:00Z",
    "9999-12-31T23:59:59.9999Z",
    "100/60s",
    "/30d",
    "api_key.*",
    "account.created",
];

pub fn run(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let scope = Scope::parse(text);
    assert_eq!(scope.is_ok(), has_shape(text), "{text:?}");
    if let Ok(scope) = scope {
        assert_eq!(scope.as_str(), text);
        assert!(ScopeSet::from_stored(text).is_some_and(|it| it.contains(&scope)));
    }
    if let Some(bit) = CATALOGUE.find(text) {
        assert!(CATALOGUE.names(bit).eq([text]), "the bit of a scope names it");
    }
    assert!(CATALOGUE.nearest(text).iter().all(|it| CATALOGUE.find(it).is_some()));
    if let Some(set) = ScopeSet::from_stored(text) {
        assert_eq!(ScopeSet::from_stored(&set.to_string()), Some(set.clone()));
        assert!(text.split(' ').all(|it| set.iter().any(|scope| scope.as_str() == it)));
    }
    if let Ok(instant) = Timestamp::parse(text) {
        let printed = instant.to_string();
        assert_eq!((Timestamp::parse(&printed), printed.len()), (Ok(instant), 24), "{printed}");
        assert_eq!(Timestamp::from_millis(instant.as_millis()), instant);
    }
    if let Some((limit, window)) = RateLimit::parts(text) {
        assert_eq!(RateLimit::parts(&format!("{limit}/{window}s")), Some((limit, window)));
        if let Some(rate) = RateLimit::new(limit, window) {
            assert!(rate.window_start(Timestamp::MAX) % u64::from(window) == 0);
        }
    }
    if let Some(pattern) = EventPattern::parse(text) {
        assert_eq!(pattern.as_str(), text);
    }
}

/// Whether a text has the form of a scope, told without the code of keyward.
fn has_shape(text: &str) -> bool {
    let words: Vec<_> = text.split(':').collect();
    let letter = |it: char| matches!(it, 'a'..='z' | '0'..='9' | '-');
    let two = words.len() == 2 && words.iter().all(|it| !it.is_empty() && it.chars().all(letter));
    text == "*" || two && text.len() <= 64
}
