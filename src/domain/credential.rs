//! A key's text: how it is made, told from a typo, recognised and hidden.
//!
//! `<brand>_` + public part + secret part + checksum, 50 characters of `[A-Za-z0-9_]`. The first
//! twelve are the [`KeyPrefix`]: public, unique, the handle for look-ups. The last six are the
//! CRC-32 (IEEE 802.3) of all before them in base62, so that typos and guesses are refused before
//! anything is looked up, and secret scanners can tell a key from a coincidence without asking.

use std::{borrow::Cow, fmt, str};

use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::{
    domain::{base62, key_hash::KeyHash},
    env::{Entropy, Timestamp},
};

/// A full API key in the clear.
///
/// Lives from generation to the response body, or from a request to the comparison. `Debug` shows
/// the prefix only, there is no `Display` and no `Serialize`, and the memory is wiped on drop.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct PlaintextKey([u8; Self::LEN]);

/// The first twelve characters of a key: enough to recognise it, useless to forge it.
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct KeyPrefix([u8; Self::LEN]);

/// What keys begin with before the first `_`, such as `rg`: 1 to 4 characters, so that the prefix
/// holds at least 7 random ones.
#[derive(Clone, Copy, Eq, Hash, PartialEq)]
pub struct Brand {
    text: [u8; Self::MAX_LEN],
    len: usize,
}

/// One value that a key has had. The current one has no deadline; a rotated one has.
#[derive(Clone, Debug)]
pub struct Credential {
    pub prefix: KeyPrefix,
    pub hash: KeyHash,
    pub issued_at: Timestamp,
    /// `None` for the current value; half open, so the value is dead at this very instant.
    pub valid_until: Option<Timestamp>,
}

/// Not shaped like one of our keys. Carries nothing: the text may be someone's secret.
#[derive(Debug, thiserror::Error)]
#[error("not a keyward API key")]
pub struct MalformedKey;

#[derive(Debug, thiserror::Error)]
#[error("a key prefix is 1 to 4 lower-case letters and digits, the first a letter")]
pub struct InvalidBrand;

impl PlaintextKey {
    pub const LEN: usize = 50;
    const CHECKSUM_LEN: usize = 6;

    /// A new key of 190 random bits beyond its public part.
    pub fn generate(brand: Brand, entropy: &dyn Entropy) -> Self {
        let mut key = Self([b'_'; Self::LEN]);
        let (body, checksum) = key.0.split_at_mut(Self::LEN - Self::CHECKSUM_LEN);
        let (head, random) = body.split_at_mut(brand.len + 1);
        head[..brand.len].copy_from_slice(brand.as_str().as_bytes());
        base62::fill_random(entropy, random);
        base62::write_number(u128::from(crc32fast::hash(body)), checksum);
        key
    }

    /// Accepts the exact shape with the right checksum, under any brand.
    pub fn parse(text: &[u8]) -> Result<Self, MalformedKey> {
        let bytes: &[u8; Self::LEN] = text.try_into().map_err(|_| MalformedKey)?;
        let underscore = bytes.iter().position(|it| *it == b'_').ok_or(MalformedKey)?;
        let (brand, rest) = bytes.split_at(underscore);
        let digits = rest.split_first().map(|(_, digits)| digits).ok_or(MalformedKey)?;
        if Brand::from_bytes(brand).is_none() || !digits.iter().all(|it| base62::is_digit(*it)) {
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

    /// The only way to the text. Named so that a search finds every use.
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

    /// For rows that were a prefix when they were written.
    pub fn from_stored(text: &str) -> Option<Self> {
        text.is_ascii().then_some(())?;
        text.as_bytes().try_into().ok().map(Self)
    }

    /// Of a handle that is made up.
    pub(super) fn from_ascii(text: [u8; Self::LEN]) -> Self {
        Self(text)
    }

    pub fn as_str(&self) -> &str {
        str::from_utf8(&self.0).unwrap_or_default()
    }

    /// What stands before the first `_`.
    pub fn brand(&self) -> Option<Brand> {
        let underscore = self.0.iter().position(|it| *it == b'_')?;
        Brand::from_bytes(&self.0[..underscore])
    }
}

impl fmt::Debug for KeyPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Brand {
    const MAX_LEN: usize = 4;
    /// The brand of an operator who sets none.
    pub const DEFAULT: Self = Self { text: *b"rg\0\0", len: 2 };

    pub fn parse(text: &str) -> Result<Self, InvalidBrand> {
        Self::from_bytes(text.as_bytes()).ok_or(InvalidBrand)
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

impl fmt::Debug for Brand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Credential {
    pub fn is_valid_at(&self, now: Timestamp) -> bool {
        self.valid_until.is_none_or(|deadline| now < deadline)
    }
}

/// Base62 digits after the `_` from which on a text counts as a key, whole or cut short. Our
/// identifiers have 22, and a key cut down to fewer still lacks more than 100 secret bits.
const KEY_SHAPED_DIGITS: usize = 23;

/// From this length on a text may hold a whole secret, if not the checksum behind it.
const SECRET_SHAPED_LEN: usize = PlaintextKey::LEN - PlaintextKey::CHECKSUM_LEN;

/// Whether anything in `text` has the shape of a key with its whole secret, whatever its checksum.
///
/// Asks for more than masking does, because it refuses: identifiers of other services look like the
/// beginning of a key.
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

/// `text` with every such thing cut down to its first twelve characters and an ellipsis.
pub(super) fn mask(text: &str) -> Cow<'_, str> {
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

/// The next run of `brand_digits…` at or after `from`, as a half-open range of bytes.
fn next_key(bytes: &[u8], from: usize) -> Option<(usize, usize)> {
    let mut at = from;
    loop {
        let underscore = at + bytes.get(at..)?.iter().position(|it| *it == b'_')?;
        let digits = bytes[underscore + 1..].iter().take_while(|it| base62::is_digit(**it)).count();
        // The brand may have other letters before it: `keyrg_…` pasted together is still a key.
        let word = bytes[from..underscore]
            .iter()
            .rev()
            .take(Brand::MAX_LEN)
            .take_while(|it| it.is_ascii_lowercase() || it.is_ascii_digit())
            .count();
        let brand = (underscore - word..underscore).find(|it| bytes[*it].is_ascii_lowercase());
        if let Some(start) = brand
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

    fn brand(text: &str) -> Brand {
        Brand::parse(text).unwrap()
    }

    #[test]
    fn a_generated_key_has_the_promised_shape_under_every_brand() {
        let entropy = SeededEntropy::new(7);
        for (text, public) in [("a", 10), ("rg", 9), ("k2x", 8), ("abcd", 7)] {
            let key = PlaintextKey::generate(brand(text), &entropy);
            let shown = key.expose();
            assert_eq!(shown.len(), 50);
            assert!(shown.starts_with(&format!("{text}_")), "{shown}");
            assert_eq!(text.len() + 1 + public, KeyPrefix::LEN);
            assert_eq!(key.prefix().as_str(), &shown[..12]);
            assert_eq!(key.prefix().brand(), Some(brand(text)));
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
        let key = PlaintextKey::generate(brand("rg"), &SeededEntropy::new(7));
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
        let key = PlaintextKey::generate(brand("rg"), &SeededEntropy::new(7));
        let good = key.expose();
        for bad in
            ["", "rg_", &good[1..], &format!("{good}0"), &format!(" {}", &good[1..]), "é_nonsense"]
        {
            assert!(PlaintextKey::parse(bad.as_bytes()).is_err(), "{bad:?}");
        }
        for bad in ["", "R", "1a", "abcde", "a-b", "é"] {
            assert!(Brand::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn debug_output_never_holds_the_secret() {
        let key = PlaintextKey::generate(brand("rg"), &SeededEntropy::new(7));
        assert_eq!(format!("{key:?}"), format!("PlaintextKey({}…)", key.prefix().as_str()));
    }

    #[test]
    fn whatever_looks_like_a_key_is_masked_and_identifiers_are_not() {
        let key = PlaintextKey::generate(brand("rg"), &SeededEntropy::new(7));
        let (text, prefix) = (key.expose(), key.prefix());
        let prefix = prefix.as_str();
        for (given, shown) in [
            (text.to_owned(), format!("{prefix}…")),
            (format!("/v1?k={text}&x"), format!("/v1?k={prefix}…&x")),
            (format!("{text} {text}"), format!("{prefix}… {prefix}…")),
            (format!("x_{text}"), format!("x_{prefix}…")),
            (text[..40].to_owned(), format!("{prefix}…")),
            ("key_0000000000000000000042".to_owned(), "key_0000000000000000000042".to_owned()),
            ("acct_0000000000000000000042".to_owned(), "acct_0000000000000000000042".to_owned()),
            ("user_29w83sxmDNGwOuEthce5gg56FcC".to_owned(), "user_29w83sx…".to_owned()),
            ("snake_case_words".to_owned(), "snake_case_words".to_owned()),
            ("Grüße_ä".to_owned(), "Grüße_ä".to_owned()),
        ] {
            assert_eq!(mask(&given), shown);
            assert_eq!(holds_key(&given), given.contains(text));
        }
    }

    #[test]
    fn a_rotated_value_stops_at_its_deadline_exactly() {
        let entropy = SeededEntropy::new(7);
        let key = PlaintextKey::generate(brand("rg"), &entropy);
        let credential = Credential {
            prefix: key.prefix(),
            hash: KeyHash::of(&key, 1_000, &entropy),
            issued_at: Timestamp::from_millis(0),
            valid_until: Some(Timestamp::from_millis(300_000)),
        };
        assert!(credential.is_valid_at(Timestamp::from_millis(299_999)));
        assert!(!credential.is_valid_at(Timestamp::from_millis(300_000)));
    }
}
