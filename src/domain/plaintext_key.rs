//! The plaintext key: how it is generated and parsed.
//!
//! `<label>_` + public part + secret part + checksum, 50 characters of `[A-Za-z0-9_]`. The first
//! twelve are the [`KeyPrefix`]: public, unique, the look-up handle. The last six are the CRC-32
//! (IEEE 802.3) of all before them in base62. So typos and guesses are refused before any look-up,
//! and secret scanners recognise a key without asking the server.

use std::{fmt, str};

use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::{domain::base62, env::Entropy};

/// A complete API key, not encrypted or hashed.
///
/// It lives from its generation to the response body, or from a request to the comparison. `Debug`
/// shows only the prefix, there is no `Display` and no `Serialize`, and the memory is wiped on
/// drop.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct PlaintextKey([u8; Self::LEN]);

/// The first twelve characters of a key: enough to recognise it, useless to forge it.
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct KeyPrefix([u8; Self::LEN]);

/// The label that a key begins with, before the first `_`: the setting `keys.prefix`, such as `rg`.
///
/// It has 1 to 4 characters, so that the key prefix holds at least 7 random ones.
#[derive(Clone, Copy, Eq, Hash, PartialEq)]
pub struct PrefixLabel {
    text: [u8; Self::MAX_LEN],
    len: usize,
}

/// The error for a text without the shape of a key. Has no fields: the text may be a secret.
#[derive(Debug, thiserror::Error)]
#[error("not a keyward API key")]
pub struct MalformedKey;

#[derive(Debug, thiserror::Error)]
#[error("a key prefix is 1 to 4 lower-case letters and digits, the first a letter")]
pub struct InvalidPrefixLabel;

impl PlaintextKey {
    pub const LEN: usize = 50;
    pub(super) const CHECKSUM_LEN: usize = 6;

    /// Generates a key with 190 random bits beyond its public part.
    pub fn generate(label: PrefixLabel, entropy: &dyn Entropy) -> Self {
        let mut key = Self([b'_'; Self::LEN]);
        let (body, checksum) = key.0.split_at_mut(Self::LEN - Self::CHECKSUM_LEN);
        let (head, random) = body.split_at_mut(label.len + 1);
        head[..label.len].copy_from_slice(label.as_str().as_bytes());
        base62::fill_random(entropy, random);
        base62::write_number(u128::from(crc32fast::hash(body)), checksum);
        key
    }

    /// Accepts the exact shape with the right checksum, under any label.
    pub fn parse(text: &[u8]) -> Result<Self, MalformedKey> {
        let bytes: &[u8; Self::LEN] = text.try_into().map_err(|_| MalformedKey)?;
        let underscore = bytes.iter().position(|it| *it == b'_').ok_or(MalformedKey)?;
        let (label, rest) = bytes.split_at(underscore);
        let digits = rest.split_first().map(|(_, digits)| digits).ok_or(MalformedKey)?;
        if PrefixLabel::from_bytes(label).is_none()
            || !digits.iter().all(|it| base62::is_digit(*it))
        {
            return Err(MalformedKey);
        }
        let (body, checksum) = bytes.split_at(Self::LEN - Self::CHECKSUM_LEN);
        let mut expected = [0; Self::CHECKSUM_LEN];
        base62::write_number(u128::from(crc32fast::hash(body)), &mut expected);
        if checksum != expected {
            return Err(MalformedKey);
        }
        Ok(Self(*bytes))
    }

    pub fn prefix(&self) -> KeyPrefix {
        let mut prefix = [0; KeyPrefix::LEN];
        prefix.copy_from_slice(&self.0[..KeyPrefix::LEN]);
        KeyPrefix(prefix)
    }

    /// Returns the plaintext. The name makes every use easy to find.
    pub fn expose(&self) -> &str {
        str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl fmt::Debug for PlaintextKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PlaintextKey({}…)", self.prefix().as_str())
    }
}

impl KeyPrefix {
    pub const LEN: usize = 12;

    /// Reads a key prefix from a database row.
    pub fn from_stored(text: &str) -> Option<Self> {
        text.is_ascii().then_some(())?;
        text.as_bytes().try_into().ok().map(Self)
    }

    /// Builds the synthetic prefix of an imported key.
    pub(super) fn from_ascii(text: [u8; Self::LEN]) -> Self {
        Self(text)
    }

    pub fn as_str(&self) -> &str {
        str::from_utf8(&self.0).unwrap_or_default()
    }

    /// Returns the last 8 characters as a number, which is never 0. Few prefixes share it.
    pub fn last_characters(&self) -> u64 {
        self.0.last_chunk().map_or(u64::MAX, |it| u64::from_le_bytes(*it))
    }

    /// Returns the label before the first `_`; `None` for an imported key.
    pub fn label(&self) -> Option<PrefixLabel> {
        let underscore = self.0.iter().position(|it| *it == b'_')?;
        PrefixLabel::from_bytes(&self.0[..underscore])
    }
}

impl fmt::Debug for KeyPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl PrefixLabel {
    pub(super) const MAX_LEN: usize = 4;
    /// The label of an operator who sets none.
    pub const DEFAULT: Self = Self { text: *b"rg\0\0", len: 2 };

    pub fn parse(text: &str) -> Result<Self, InvalidPrefixLabel> {
        Self::from_bytes(text.as_bytes()).ok_or(InvalidPrefixLabel)
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (first, rest) = bytes.split_first()?;
        let fits = first.is_ascii_lowercase()
            && rest.iter().all(|it| it.is_ascii_lowercase() || it.is_ascii_digit())
            && bytes.len() <= Self::MAX_LEN;
        fits.then(|| {
            let mut text = [0; Self::MAX_LEN];
            text[..bytes.len()].copy_from_slice(bytes);
            Self { text, len: bytes.len() }
        })
    }

    pub fn as_str(&self) -> &str {
        str::from_utf8(&self.text[..self.len]).unwrap_or_default()
    }
}

impl fmt::Debug for PrefixLabel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
#[expect(clippy::string_slice, reason = "keys are ASCII")]
mod tests {
    use super::*;
    use crate::env::SeededEntropy;

    fn label(text: &str) -> PrefixLabel {
        PrefixLabel::parse(text).unwrap()
    }

    #[test]
    fn a_generated_key_has_the_promised_shape_under_every_label() {
        let entropy = SeededEntropy::new(7);
        for (text, public) in [("a", 10), ("rg", 9), ("k2x", 8), ("abcd", 7)] {
            let key = PlaintextKey::generate(label(text), &entropy);
            let shown = key.expose();
            assert_eq!(shown.len(), 50);
            assert!(shown.starts_with(&format!("{text}_")), "{shown}");
            assert_eq!(text.len() + 1 + public, KeyPrefix::LEN);
            assert_eq!(key.prefix().as_str(), &shown[..12]);
            assert_eq!(key.prefix().label(), Some(label(text)));
            assert_eq!(PlaintextKey::parse(shown.as_bytes()).unwrap().expose(), shown);
        }
    }

    #[test]
    fn the_checksum_is_the_crc_32_of_everything_before_it() {
        let body = "rg_8fK2mQ9zTabcdefghijklmnopqrstuvwxyz012345";
        let sum = crc32fast::hash(body.as_bytes());
        let mut digits = [0; 6];
        base62::write_number(u128::from(sum), &mut digits);
        let whole = format!("{body}{}", str::from_utf8(&digits).unwrap());
        assert!(PlaintextKey::parse(whole.as_bytes()).is_ok());
        // From Python: zlib.crc32(body) and the digits 0-9A-Za-z.
        assert_eq!(&whole[44..], "3bAXzK");
    }

    #[test]
    fn every_single_character_change_is_noticed() {
        let key = PlaintextKey::generate(label("rg"), &SeededEntropy::new(7));
        let good = key.expose().as_bytes().to_vec();
        for at in 0..good.len() {
            for wrong in *base62::DIGITS {
                let mut text = good.clone();
                text[at] = wrong;
                assert_eq!(PlaintextKey::parse(&text).is_ok(), text == good, "position {at}");
            }
        }
    }

    #[test]
    fn other_shapes_are_malformed() {
        let key = PlaintextKey::generate(label("rg"), &SeededEntropy::new(7));
        let good = key.expose();
        for bad in
            ["", "rg_", &good[1..], &format!("{good}0"), &format!(" {}", &good[1..]), "é_nonsense"]
        {
            assert!(PlaintextKey::parse(bad.as_bytes()).is_err(), "{bad:?}");
        }
        for bad in ["", "R", "1a", "abcde", "a-b", "é"] {
            assert!(PrefixLabel::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn debug_output_never_holds_the_secret() {
        let key = PlaintextKey::generate(label("rg"), &SeededEntropy::new(7));
        assert_eq!(format!("{key:?}"), format!("PlaintextKey({}…)", key.prefix().as_str()));
    }

    /// Returns these 44 characters with their checksum.
    fn summed(body: &str) -> String {
        assert_eq!(body.len(), 44);
        let mut digits = [0; 6];
        base62::write_number(crc32fast::hash(body.as_bytes()).into(), &mut digits);
        format!("{body}{}", str::from_utf8(&digits).unwrap())
    }

    #[test]
    fn a_right_checksum_does_not_excuse_a_wrong_label_or_character() {
        let tail = "8fK2mQ9zTabcdefghijklmnopqrstuvwxyz0123456789";
        let parse = |body: &str| PlaintextKey::parse(summed(body).as_bytes());
        assert!(parse(&format!("rg_{}", &tail[..41])).is_ok());
        for label in ["", "Rg", "1g", "r-", "abcde"] {
            let body = format!("{label}_{tail}");
            assert!(parse(&body[..44]).is_err(), "{label:?}");
        }
        for character in ["_", "-", ".", " "] {
            assert!(parse(&format!("rg_{}{character}", &tail[..40])).is_err(), "{character:?}");
        }
    }

    #[test]
    fn a_stored_prefix_has_twelve_ascii_characters() {
        let prefix = KeyPrefix::from_stored("rg_8fK2mQ9zT").unwrap();
        assert_eq!((prefix.as_str(), &*format!("{prefix:?}")), ("rg_8fK2mQ9zT", "rg_8fK2mQ9zT"));
        assert_eq!(prefix.last_characters(), u64::from_le_bytes(*b"fK2mQ9zT"));
        for wrong in ["", "rg_8fK2mQ9z", "rg_8fK2mQ9zT0", "rg_8fK2mQ9\u{fc}"] {
            assert!(KeyPrefix::from_stored(wrong).is_none(), "{wrong}");
        }
        assert_eq!(format!("{:?}", label("rg")), "rg");
    }
}
