//! Keys that another system issued, and how they are found again.
//!
//! Nothing in their text says where to look, so each gets a *handle* of twelve characters in place of
//! a prefix: `0`, which no brand begins with, a letter for what was imported, and a tag of 59 bits: an
//! HMAC under a secret. Nobody meets the tag of a key by chance or by trying.
//!
//! Whoever has the secret can try texts against a tag as fast as an HMAC goes, whatever the stored hash
//! costs. For a digest that is no loss, as it lay bare where it came from: its secret is in the database.
//! The secret for texts is kept outside of it, in a file that no backup holds.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use pbkdf2::sha2::{Digest, Sha256, Sha512};
use zeroize::Zeroizing;

use crate::domain::{
    base62,
    plaintext_key::{KeyPrefix, MalformedKey, PlaintextKey},
};

/// The text of a key that is not of our shape. `Debug` shows nothing of it, and it is wiped on drop.
pub struct ImportedKey(Zeroizing<Box<[u8]>>);

/// What was imported of a key.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ImportForm {
    Raw,
    Sha256,
    Sha512,
}

/// What is known of a key when it is imported.
pub enum Material {
    Raw(ImportedKey),
    Sha256([u8; 32]),
    Sha512(Box<[u8; 64]>),
}

/// Makes handles.
#[derive(Clone)]
pub struct Tagger {
    digests: Secret,
    texts: Option<Secret>,
}

type Secret = Zeroizing<[u8; 32]>;

impl ImportedKey {
    pub const MAX_LEN: usize = 512;
    /// Of a key that is imported as it is. Shorter ones can be guessed, whatever they are hashed
    /// with; of what stands behind a digest nobody knows how long it is.
    pub const LEAST_RAW_LEN: usize = 20;

    /// Accepts visible ASCII that is not of our own shape.
    pub fn parse(text: &[u8]) -> Result<Self, MalformedKey> {
        let fits = (1..=Self::MAX_LEN).contains(&text.len());
        if !fits || !text.iter().all(u8::is_ascii_graphic) || PlaintextKey::parse(text).is_ok() {
            return Err(MalformedKey);
        }
        Ok(Self(Zeroizing::new(text.into())))
    }

    /// As [`ImportedKey::parse`], of a key that is to be imported.
    pub fn parse_raw(text: &[u8]) -> Result<Self, MalformedKey> {
        Self::parse(text).ok().filter(Self::may_be_raw).ok_or(MalformedKey)
    }

    pub fn may_be_raw(&self) -> bool {
        Self::LEAST_RAW_LEN <= self.0.len()
    }

    /// The only way to the text. Named so that a search finds every use.
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
    /// The surest first.
    pub const ALL: [Self; 3] = [Self::Sha256, Self::Sha512, Self::Raw];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }

    fn letter(self) -> u8 {
        match self {
            Self::Raw => b'r',
            Self::Sha256 => b'a',
            Self::Sha512 => b'b',
        }
    }

    /// Between which texts, the second of them outside, all its handles are.
    pub fn handles(self) -> [String; 2] {
        [self.letter(), self.letter() + 1].map(|it| format!("0{}", char::from(it)))
    }

    /// What the handle of an imported value tells.
    pub fn of(handle: KeyPrefix) -> Option<Self> {
        let text = handle.as_str().as_bytes();
        let letter = text.strip_prefix(b"0")?.first()?;
        Self::ALL.into_iter().find(|it| it.letter() == *letter)
    }
}

impl Material {
    pub fn origin(&self) -> ImportForm {
        match self {
            Self::Raw(_) => ImportForm::Raw,
            Self::Sha256(_) => ImportForm::Sha256,
            Self::Sha512(_) => ImportForm::Sha512,
        }
    }

    /// What its hash is derived from.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Raw(key) => key.expose(),
            Self::Sha256(digest) => digest,
            Self::Sha512(digest) => &**digest,
        }
    }
}

impl Tagger {
    /// That knows digests only.
    pub fn new(digests: [u8; 32]) -> Self {
        Self { digests: Zeroizing::new(digests), texts: None }
    }

    #[must_use]
    pub fn with_texts(self, texts: [u8; 32]) -> Self {
        Self { texts: Some(Zeroizing::new(texts)), ..self }
    }

    pub fn knows_texts(&self) -> bool {
        self.texts.is_some()
    }

    /// Under which this is found; `None` for a text, if there is no secret for texts.
    pub fn handle(&self, material: &Material) -> Option<KeyPrefix> {
        self.handle_under(material.origin(), material.bytes())
    }

    /// Under which a presented key is found, had it been imported so.
    pub fn handle_of(&self, origin: ImportForm, key: &ImportedKey) -> Option<KeyPrefix> {
        match origin {
            ImportForm::Raw => self.handle_under(origin, key.expose()),
            ImportForm::Sha256 => self.handle_under(origin, &key.sha256()),
            ImportForm::Sha512 => self.handle_under(origin, &key.sha512()),
        }
    }

    /// By which a digest is recognised of a key that was imported as it is. Under the secret for texts,
    /// so that it tells a thief of the database nothing; `None` if there is none.
    pub fn mark_of_digest(&self, digest: &[u8]) -> Option<KeyPrefix> {
        self.texts.as_ref().map(|secret| tagged(secret, b'x', digest))
    }

    fn handle_under(&self, origin: ImportForm, bytes: &[u8]) -> Option<KeyPrefix> {
        let secret = match origin {
            ImportForm::Raw => self.texts.as_ref()?,
            ImportForm::Sha256 | ImportForm::Sha512 => &self.digests,
        };
        Some(tagged(secret, origin.letter(), bytes))
    }
}

fn tagged(secret: &Secret, letter: u8, bytes: &[u8]) -> KeyPrefix {
    let tag = mac(secret, &[&[letter], bytes]);
    let tag = tag.iter().take(8).fold(0, |sum, byte| sum << 8 | u64::from(*byte));
    let mut text = [b'0'; KeyPrefix::LEN];
    text[1] = letter;
    // Ten digits hold 59 bits.
    base62::write_number(u128::from(tag >> 5), &mut text[2..]);
    KeyPrefix::from_ascii(text)
}

/// By which a secret for texts is recognised, and which does not tell it.
pub fn check_of(secret: &[u8; 32]) -> [u8; 32] {
    mac(secret, &[b"keyward import check"])
}

fn mac(secret: &[u8; 32], parts: &[&[u8]]) -> [u8; 32] {
    // HMAC takes a key of any length.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret) else { return [0; 32] };
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

impl fmt::Debug for Tagger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tagger(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> ImportedKey {
        ImportedKey::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn a_key_is_found_under_the_handle_that_it_was_given() {
        let tagger = Tagger::new([7; 32]).with_texts([8; 32]);
        let it = key("sk_live_51HabcdefGHIJKL");
        for material in [
            Material::Sha256(it.sha256()),
            Material::Sha512(Box::new(it.sha512())),
            Material::Raw(key("sk_live_51HabcdefGHIJKL")),
        ] {
            let origin = material.origin();
            let given = tagger.handle(&material).unwrap();
            assert_eq!(tagger.handle_of(origin, &it), Some(given));
            let other = Tagger::new([8; 32]).with_texts([7; 32]);
            assert_ne!(other.handle_of(origin, &it), Some(given), "it hangs on the secret");
            assert_eq!(ImportForm::of(given), Some(origin));
            assert!(given.label().is_none() && given.as_str().starts_with('0'));
        }
        assert!(Tagger::new([7; 32]).handle_of(ImportForm::Raw, &it).is_none());
        let own = KeyPrefix::from_stored("rg_8fK2mQ9zT").unwrap();
        assert_eq!(ImportForm::of(own), None);
    }

    #[test]
    fn only_what_can_stand_in_a_header_is_a_key() {
        assert!(ImportedKey::parse(b"short").is_ok() && ImportedKey::parse_raw(b"short").is_err());
        for text in ["with a blank in the middle", "ümlaut-ümlaut-ümlaut-x", ""] {
            assert!(ImportedKey::parse(text.as_bytes()).is_err(), "{text}");
        }
        assert!(ImportedKey::parse(&[b'x'; 513]).is_err());
        let own = b"rg_8fK2mQ9zTabcdefghijklmnopqrstuvwxyz0123453bAXzK";
        assert!(ImportedKey::parse(own).is_err());
        assert_eq!(format!("{:?}", key("sk_live_51HabcdefGHIJKL")), "ImportedKey(…)");
    }
}
