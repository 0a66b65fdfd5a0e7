//! Finds API keys in other text, and masks them.

use std::{borrow::Cow, str};

use crate::domain::{
    base62,
    plaintext_key::{KeyPrefix, PlaintextKey, PrefixLabel},
};

/// The least number of base62 digits after the `_` for which a text counts as a key, whole or cut
/// short. Our identifiers have 22; a key that is cut to fewer lacks more than 100 secret bits.
const KEY_SHAPED_DIGITS: usize = 23;

/// The least length of a text that may hold a whole secret, without the checksum after it.
const SECRET_SHAPED_LEN: usize = PlaintextKey::LEN - PlaintextKey::CHECKSUM_LEN;

/// Returns whether `text` holds something with the shape of a key and its whole secret. The checksum
/// is not tested.
///
/// Stricter than [`masked`], because callers refuse such a text: identifiers of other services look
/// like the beginning of a key.
pub fn holds_key(text: &str) -> bool {
    let (bytes, mut from) = (text.as_bytes(), 0);
    while let Some((start, end)) = next_key(bytes, from) {
        if SECRET_SHAPED_LEN <= end - start {
            return true;
        }
        from = end;
    }
    false
}

/// Returns `text` with every key in it cut to its first twelve characters and an ellipsis.
///
/// All text that repeats what a client sent goes through here: a key in the wrong place must not
/// reach an answer or a log.
pub fn masked(text: &str) -> Cow<'_, str> {
    let bytes = text.as_bytes();
    let (mut safe, mut done) = (String::new(), 0);
    while let Some((start, end)) = next_key(bytes, done) {
        let shown = start + KeyPrefix::LEN;
        safe.push_str(str::from_utf8(&bytes[done..shown]).unwrap_or_default());
        safe.push('…');
        done = end;
    }
    if done == 0 {
        return Cow::Borrowed(text);
    }
    safe.push_str(str::from_utf8(&bytes[done..]).unwrap_or_default());
    Cow::Owned(safe)
}

/// Returns a text of a client as an answer or a log line repeats it: masked, and if it has more than
/// `max_chars`, cut there and marked with an ellipsis.
pub fn quotable(text: &str, max_chars: usize) -> String {
    let shown = masked(text);
    let end = shown.char_indices().nth(max_chars).map_or(shown.len(), |(at, _)| at);
    match shown.split_at_checked(end) {
        Some((start, rest)) if !rest.is_empty() => format!("{start}…"),
        Some(_) | None => shown.into_owned(),
    }
}

/// Returns the next run of `label_digits…` at or after `from`, as a half-open range of bytes.
fn next_key(bytes: &[u8], from: usize) -> Option<(usize, usize)> {
    let mut at = from;
    loop {
        let underscore = at + bytes.get(at..)?.iter().position(|it| *it == b'_')?;
        let digits = bytes[underscore + 1..].iter().take_while(|it| base62::is_digit(**it)).count();
        // Other letters may come before the label: `keyrg_…`, pasted together, is still a key.
        // They may also end the digits of the run before: two keys without a space between them.
        let word = bytes[..underscore]
            .iter()
            .rev()
            .take(PrefixLabel::MAX_LEN)
            .take_while(|it| it.is_ascii_lowercase() || it.is_ascii_digit())
            .count();
        let label = (underscore - word..underscore).find(|it| bytes[*it].is_ascii_lowercase());
        if let Some(start) = label
            && KEY_SHAPED_DIGITS <= digits
        {
            return Some((start, underscore + 1 + digits));
        }
        at = underscore + 1;
    }
}

#[cfg(test)]
#[expect(clippy::string_slice, reason = "keys are ASCII")]
mod tests {
    use super::*;
    use crate::env::SeededEntropy;

    #[test]
    fn text_that_looks_like_a_key_is_masked_and_identifiers_are_not() {
        let key = PlaintextKey::generate(PrefixLabel::parse("rg").unwrap(), &SeededEntropy::new(7));
        let (text, prefix) = (key.expose(), key.prefix());
        let prefix = prefix.as_str();
        for (given, shown) in [
            (text.to_owned(), format!("{prefix}…")),
            (format!("/v1?k={text}&x"), format!("/v1?k={prefix}…&x")),
            (format!("{text} {text}"), format!("{prefix}… {prefix}…")),
            (format!("x_{text}"), format!("x_{prefix}…")),
            // The label of the second goes with the digits before it.
            (format!("{text}{text}"), format!("{prefix}…{}…", &prefix[2..])),
            (
                format!("acct_0000000000000000000042{text}"),
                format!("acct_0000000…{}…", &prefix[2..]),
            ),
            (text[..40].to_owned(), format!("{prefix}…")),
            ("key_0000000000000000000042".to_owned(), "key_0000000000000000000042".to_owned()),
            ("acct_0000000000000000000042".to_owned(), "acct_0000000000000000000042".to_owned()),
            ("user_29w83sxmDNGwOuEthce5gg56FcC".to_owned(), "user_29w83sx…".to_owned()),
            ("snake_case_words".to_owned(), "snake_case_words".to_owned()),
            ("Grüße_ä".to_owned(), "Grüße_ä".to_owned()),
        ] {
            assert_eq!(masked(&given), shown);
            assert_eq!(holds_key(&given), given.contains(text));
        }
    }

    #[test]
    fn a_text_holds_a_key_from_its_whole_secret_on() {
        let key = PlaintextKey::generate(PrefixLabel::parse("rg").unwrap(), &SeededEntropy::new(7));
        let text = key.expose();
        assert!(holds_key(&text[..44]) && !holds_key(&text[..43]));
        // The position of the text adds nothing to its length.
        let at = |len: usize| format!("{}/{}", "x".repeat(50), &text[..len]);
        assert!(holds_key(&at(44)) && !holds_key(&at(43)));
        // A second key counts after one that is cut short.
        assert!(holds_key(&format!("{} {text}", &text[..43])));
    }

    #[test]
    fn a_text_is_masked_from_23_digits_on() {
        for (given, shown) in [
            ("rg_1234567890123456789012", "rg_1234567890123456789012"),
            ("rg_12345678901234567890123", "rg_123456789\u{2026}"),
            ("_12345678901234567890123", "_12345678901234567890123"),
            ("1_12345678901234567890123", "1_12345678901234567890123"),
        ] {
            assert_eq!(masked(given), shown);
        }
    }

    #[test]
    fn a_long_text_is_cut_and_marked() {
        let key = PlaintextKey::generate(PrefixLabel::parse("rg").unwrap(), &SeededEntropy::new(7));
        let shown = format!("{}…", key.prefix().as_str());
        for (given, expected) in
            [("", ""), ("äöü", "äöü"), ("äöüß", "äöü…"), (key.expose(), "rg_…")]
        {
            assert_eq!(quotable(given, 3), expected);
        }
        assert_eq!(quotable(key.expose(), 20), shown);
    }
}
