//! Keys that the server knows by a digest, such as those that another system issued, and how it finds them.
//!
//! The text of an imported key does not say where to look it up, and the server receives only its
//! digest. So the server makes a key prefix of twelve characters: `0`, which begins no prefix of
//! keyward's own keys, a letter for the import form, and a tag of 59 bits. The tag is an HMAC of the
//! digest under a secret in the database, so callers cannot search for a text with a known tag.
//!
//! A thief of the database can test guesses against a tag at the speed of one HMAC, regardless of the
//! cost of the stored hash. The digest was as easy to test in the system that it came from.

use std::fmt;

use base64ct::{Base64, Encoding};
use hmac::{Hmac, KeyInit, Mac};
use pbkdf2::sha2::{Digest, Sha256, Sha512};
use zeroize::Zeroizing;

use crate::domain::{
    base62,
    plaintext_key::{KeyPrefix, MalformedKey},
};

/// The text of a key that is known by its digest. `Debug` shows nothing of it; dropping it wipes it.
pub struct ImportedKey(Zeroizing<Box<[u8]>>);

/// The digest by which a key was imported.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ImportForm {
    Sha256,
    Sha512,
}

/// The digest of a key's text: all that an import gives to the server.
pub enum ImportedDigest {
    Sha256([u8; 32]),
    Sha512(Box<[u8; 64]>),
}

/// Makes the key prefixes of imported keys, under the secret in the database.
#[derive(Clone)]
pub struct PrefixMaker(Zeroizing<[u8; 32]>);

impl ImportedKey {
    pub const MAX_LEN: usize = 512;

    /// Accepts visible ASCII. An imported key may have any length and keyward's own shape, because a
    /// digest does not tell the form of its text.
    pub fn parse(text: &[u8]) -> Result<Self, MalformedKey> {
        let fits = (1..=Self::MAX_LEN).contains(&text.len());
        if !fits || !text.iter().all(u8::is_ascii_graphic) {
            return Err(MalformedKey);
        }
        Ok(Self(Zeroizing::new(text.into())))
    }

    /// The only way to the text. The name makes every use easy to find.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    pub fn sha256(&self) -> [u8; 32] {
        Sha256::digest(&self.0).into()
    }

    pub fn sha512(&self) -> [u8; 64] {
        Sha512::digest(&self.0).into()
    }
}

impl fmt::Debug for ImportedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ImportedKey(…)")
    }
}

impl ImportForm {
    pub const ALL: [Self; 2] = [Self::Sha256, Self::Sha512];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }

    fn letter(self) -> u8 {
        match self {
            Self::Sha256 => b'a',
            Self::Sha512 => b'b',
        }
    }

    /// Returns the import form that a key prefix names; `None` for keyward's own keys.
    pub fn of(prefix: KeyPrefix) -> Option<Self> {
        let letter = prefix.as_str().as_bytes().strip_prefix(b"0")?.first()?;
        Self::ALL.into_iter().find(|it| it.letter() == *letter)
    }
}

impl fmt::Debug for ImportedDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ImportedDigest({})", self.form().as_str())
    }
}

impl ImportedDigest {
    pub fn of(key: &ImportedKey, form: ImportForm) -> Self {
        Self::of_text(key.expose(), form)
    }

    pub(super) fn of_text(text: &[u8], form: ImportForm) -> Self {
        match form {
            ImportForm::Sha256 => Self::Sha256(Sha256::digest(text).into()),
            ImportForm::Sha512 => Self::Sha512(Box::new(Sha512::digest(text).into())),
        }
    }

    pub fn form(&self) -> ImportForm {
        match self {
            Self::Sha256(_) => ImportForm::Sha256,
            Self::Sha512(_) => ImportForm::Sha512,
        }
    }

    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Sha256(digest) => digest,
            Self::Sha512(digest) => &**digest,
        }
    }
}

/// Decodes the hexadecimal or base64 form of a digest.
pub fn decoded<const N: usize>(text: &str) -> Option<[u8; N]> {
    let text = text.trim();
    if text.len() == 2 * N {
        let digit = |it: &u8| char::from(*it).to_digit(16).and_then(|it| u8::try_from(it).ok());
        let pairs = text.as_bytes().chunks_exact(2);
        let byte = |it: &[u8]| Some(digit(it.first()?)? << 4 | digit(it.get(1)?)?);
        return pairs.map(byte).collect::<Option<Vec<_>>>()?.try_into().ok();
    }
    Base64::decode_vec(text).ok()?.try_into().ok()
}

impl PrefixMaker {
    pub fn new(secret: Zeroizing<[u8; 32]>) -> Self {
        Self(secret)
    }

    /// Returns the key prefix of a key with this digest.
    pub fn prefix_of(&self, digest: &ImportedDigest) -> KeyPrefix {
        let letter = digest.form().letter();
        let tag = self.mac(&[&[letter], digest.bytes()]);
        let tag = tag.iter().take(8).fold(0, |sum, byte| sum << 8 | u64::from(*byte));
        let mut text = [b'0'; KeyPrefix::LEN];
        text[1] = letter;
        // Ten digits hold 59 bits.
        base62::write_number(u128::from(tag >> 5), &mut text[2..]);
        KeyPrefix::from_ascii(text)
    }

    /// Returns the key prefix that a presented key has if it was imported in this form.
    pub fn prefix_for(&self, form: ImportForm, key: &ImportedKey) -> KeyPrefix {
        self.prefix_of(&ImportedDigest::of(key, form))
    }

    fn mac(&self, parts: &[&[u8]]) -> [u8; 32] {
        // HMAC takes a key of any length.
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&*self.0) else { return [0; 32] };
        for part in parts {
            mac.update(part);
        }
        mac.finalize().into_bytes().into()
    }
}

impl fmt::Debug for PrefixMaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrefixMaker(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> ImportedKey {
        ImportedKey::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn a_key_is_found_under_the_prefix_that_its_digest_was_given() {
        let maker = PrefixMaker::new([7; 32].into());
        let it = key("sk_live_51HabcdefGHIJKL");
        for digest in
            [ImportedDigest::Sha256(it.sha256()), ImportedDigest::Sha512(Box::new(it.sha512()))]
        {
            let form = digest.form();
            let given = maker.prefix_of(&digest);
            assert_eq!(maker.prefix_for(form, &it), given);
            let other = PrefixMaker::new([8; 32].into());
            assert_ne!(other.prefix_for(form, &it), given, "it depends on the secret");
            assert_eq!(ImportForm::of(given), Some(form));
            assert!(given.label().is_none() && given.as_str().starts_with('0'));
        }
        let own = KeyPrefix::from_stored("rg_8fK2mQ9zT").unwrap();
        assert_eq!(ImportForm::of(own), None);
    }

    #[test]
    fn only_what_can_stand_in_a_header_is_a_key() {
        assert!(ImportedKey::parse(b"short").is_ok());
        for text in ["with a blank in the middle", "ümlaut-ümlaut-ümlaut-x", ""] {
            assert!(ImportedKey::parse(text.as_bytes()).is_err(), "{text}");
        }
        assert!(ImportedKey::parse(&[b'x'; 513]).is_err());
        // A digest may be that of a key of keyward's own shape.
        let own = b"rg_8fK2mQ9zTabcdefghijklmnopqrstuvwxyz0123453bAXzK";
        assert!(ImportedKey::parse(own).is_ok());
        assert_eq!(format!("{:?}", key("sk_live_51HabcdefGHIJKL")), "ImportedKey(…)");
    }

    #[test]
    fn neither_the_digest_nor_the_secret_is_shown() {
        let digest = ImportedDigest::of(&key("sk_live_51HabcdefGHIJKL"), ImportForm::Sha512);
        assert_eq!(format!("{digest:?}"), "ImportedDigest(sha512)");
        assert_eq!(format!("{:?}", PrefixMaker::new([7; 32].into())), "PrefixMaker(\u{2026})");
        assert_eq!(ImportForm::ALL.map(ImportForm::as_str), ["sha256", "sha512"]);
    }

    #[test]
    fn a_digest_is_read_in_hexadecimal_and_in_base64() {
        assert_eq!(decoded::<2>("0aF9"), Some([0x0a, 0xf9]));
        assert_eq!(decoded::<3>(" AQID\n"), Some([1, 2, 3]));
        for wrong in ["", "0a", "0aF", "0aFg", "0aF900", "AQID"] {
            assert_eq!(decoded::<2>(wrong), None, "{wrong}");
        }
    }
}
