//! Typed identifiers: public, sortable by age, never reused.

use std::{fmt, str};

use crate::{
    domain::base62,
    env::{Entropy, Timestamp},
};

/// The base62 digits of 128 bits.
const DIGITS: usize = 22;

/// The error for a text that is not an id of this type. Has no fields: the text may be a secret.
#[derive(Debug, thiserror::Error)]
#[error("not an identifier of this kind")]
pub struct InvalidId;

// The bytes are big endian, so that identifiers compare as their numbers do. A `u128` would be aligned
// to 16 bytes, and its padding would cost memory for each key.
macro_rules! identifier {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
        pub struct $name([u8; 16]);

        impl $name {
            pub const PREFIX: &'static str = $prefix;

            pub const fn from_raw(raw: u128) -> Self {
                Self(raw.to_be_bytes())
            }

            pub const fn as_raw(self) -> u128 {
                u128::from_be_bytes(self.0)
            }

            /// Reads the printed form, and nothing else.
            pub fn parse(text: &str) -> Result<Self, InvalidId> {
                let digits = text.strip_prefix(Self::PREFIX).ok_or(InvalidId)?.as_bytes();
                if digits.len() != DIGITS {
                    return Err(InvalidId);
                }
                base62::read_number(digits).map(Self::from_raw).ok_or(InvalidId)
            }
        }

        impl $name {
            /// Returns whether `text` may be the beginning of an identifier, and has a digit of it.
            pub fn is_start(text: &str) -> bool {
                text.strip_prefix(Self::PREFIX).is_some_and(|it| !it.is_empty())
            }

            /// As [`fmt::Display`], for the hot path.
            pub fn push_to(self, text: &mut String) {
                let mut digits = [0; DIGITS];
                base62::write_number(self.as_raw(), &mut digits);
                text.push_str(Self::PREFIX);
                text.push_str(str::from_utf8(&digits).unwrap_or_default());
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let mut digits = [0; DIGITS];
                base62::write_number(self.as_raw(), &mut digits);
                f.write_str(Self::PREFIX)?;
                f.write_str(str::from_utf8(&digits).unwrap_or_default())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    };
}

identifier! {
    /// The id of an API key: `key_` and 22 base62 digits. Never reused.
    KeyId, "key_"
}

identifier! {
    /// The id of an account: `acct_` and 22 base62 digits. Never reused.
    AccountId, "acct_"
}

/// Returns the next raw id: 48 bits of time and 80 random ones, always above `last`. So ids sort in
/// the order of their creation, even within one millisecond.
pub fn next_raw(now: Timestamp, entropy: &dyn Entropy, last: u128) -> u128 {
    let mut random = [0; 16];
    entropy.fill(&mut random);
    let time = u128::try_from(now.as_millis()).unwrap_or_default() & 0xFFFF_FFFF_FFFF;
    let fresh = (time << 80) | (u128::from_be_bytes(random) >> 48);
    fresh.max(last.saturating_add(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::SeededEntropy;

    #[test]
    fn ids_rise_even_when_time_stands_still_or_steps_back() {
        let entropy = SeededEntropy::new(1);
        let mut last = 0;
        for millis in [5_000, 5_000, 5_000, 4_000, 9_000] {
            let next = next_raw(Timestamp::from_millis(millis), &entropy, last);
            assert!(last < next);
            assert!(KeyId::from_raw(last).to_string() < KeyId::from_raw(next).to_string());
            last = next;
        }
    }

    #[test]
    fn only_the_printed_form_parses() {
        let id = KeyId::from_raw(42);
        assert_eq!(KeyId::parse(&id.to_string()).unwrap(), id);
        let account = AccountId::from_raw(42).to_string();
        for bad in ["", "key_", "key_1", &account, "key_00000000000000000000_1", "KEY_"] {
            assert!(KeyId::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_id_has_48_bits_of_time_and_80_random_bits() {
        struct Ones;
        impl Entropy for Ones {
            fn fill(&self, buf: &mut [u8]) {
                buf.fill(0xFF);
            }
        }
        let raw = next_raw(Timestamp::from_millis(0x0123_4567_89AB), &Ones, 0);
        assert_eq!(raw, 0x0123_4567_89AB_FFFF_FFFF_FFFF_FFFF_FFFF);
        assert_eq!(next_raw(Timestamp::from_millis(-1), &Ones, 0), u128::MAX >> 48);
    }

    #[test]
    fn the_beginning_of_an_id_has_a_digit() {
        for (text, expected) in
            [("key_0", true), ("key_", false), ("key", false), ("acct_0", false)]
        {
            assert_eq!(KeyId::is_start(text), expected, "{text}");
        }
        let (id, mut text) = (KeyId::from_raw(42), "id=".to_owned());
        id.push_to(&mut text);
        assert_eq!(text, format!("id={id}"));
    }
}
