//! Keys that another system issued, and how they are found again.
//!
//! Nothing in their text says where to look, so each gets a *handle* of twelve characters in place of
//! a prefix: `0`, which no brand begins with, a letter for what was imported, and a tag, which is an
//! HMAC under a secret of the database. To whoever does not have that secret it says nothing.
//!
//! The tag of a raw key is only 16 bits long: a thief of the database could use it to pass over
//! guesses without deriving their hash 600,000 times, and so it must not tell much. Several keys may
//! share one, and a number tells them apart. A digest was stored bare where it came from; its tag is
//! long enough to be its own.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use pbkdf2::sha2::{Digest, Sha256, Sha512};
use zeroize::Zeroizing;

use crate::domain::{
    base62,
    credential::{KeyPrefix, MalformedKey, PlaintextKey},
};

/// The text of a key that is not of our shape. `Debug` shows nothing of it, and it is wiped on drop.
pub struct ForeignKey(Zeroizing<Box<[u8]>>);

/// What was imported of a key.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Origin {
    Raw,
    Sha256,
    Sha512,
}

/// What is known of a key when it is imported.
pub enum Material {
    Raw(ForeignKey),
    Sha256([u8; 32]),
    Sha512(Box<[u8; 64]>),
}

/// Makes tags; one for each database.
#[derive(Clone)]
pub struct Tagger(Zeroizing<[u8; 32]>);

impl ForeignKey {
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

    /// As [`ForeignKey::parse`], of a key that is to be imported.
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

impl fmt::Debug for ForeignKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ForeignKey(…)")
    }
}

impl Origin {
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

    /// What the handle of an imported value tells.
    pub fn of(handle: KeyPrefix) -> Option<Self> {
        let text = handle.as_str().as_bytes();
        let letter = text.strip_prefix(b"0")?.first()?;
        Self::ALL.into_iter().find(|it| it.letter() == *letter)
    }

    /// How many keys may share a tag. Of a hundred thousand raw keys, hardly ever nine do.
    pub fn most_alike(self) -> u8 {
        match self {
            Self::Raw => 16,
            Self::Sha256 | Self::Sha512 => 1,
        }
    }
}

impl Material {
    pub fn origin(&self) -> Origin {
        match self {
            Self::Raw(_) => Origin::Raw,
            Self::Sha256(_) => Origin::Sha256,
            Self::Sha512(_) => Origin::Sha512,
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
    pub fn new(secret: [u8; 32]) -> Self {
        Self(Zeroizing::new(secret))
    }

    /// The handles under which this may be found: the first that is free is its own when it is
    /// imported.
    pub fn handles(&self, origin: Origin, bytes: &[u8]) -> impl Iterator<Item = KeyPrefix> + use<> {
        let tag = self.tag(origin, bytes);
        (0..origin.most_alike()).map(move |number| handle(origin, tag, number))
    }

    /// As [`Tagger::handles`], for what a client presents.
    pub fn handles_of(
        &self,
        origin: Origin,
        key: &ForeignKey,
    ) -> impl Iterator<Item = KeyPrefix> + use<> {
        match origin {
            Origin::Raw => self.handles(origin, key.expose()),
            Origin::Sha256 => self.handles(origin, &key.sha256()),
            Origin::Sha512 => self.handles(origin, &key.sha512()),
        }
    }

    fn tag(&self, origin: Origin, bytes: &[u8]) -> u64 {
        // HMAC takes a key of any length.
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&*self.0) else { return 0 };
        mac.update(&[origin.letter()]);
        mac.update(bytes);
        let tag = mac.finalize().into_bytes();
        tag.iter().take(8).fold(0, |sum, byte| sum << 8 | u64::from(*byte))
    }
}

impl fmt::Debug for Tagger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tagger(…)")
    }
}

fn handle(origin: Origin, tag: u64, number: u8) -> KeyPrefix {
    const RAW_TAG_BITS: u32 = 16;
    let mut text = [b'0'; KeyPrefix::LEN];
    text[1] = origin.letter();
    let (tag, number) = match origin {
        // Ten digits hold 59 bits.
        Origin::Sha256 | Origin::Sha512 => (tag >> 5, None),
        Origin::Raw => (tag >> (u64::BITS - RAW_TAG_BITS), Some(number)),
    };
    let end = if number.is_some() { KeyPrefix::LEN - 2 } else { KeyPrefix::LEN };
    base62::write_number(u128::from(tag), &mut text[2..end]);
    if let Some(number) = number {
        base62::write_number(u128::from(number), &mut text[end..]);
    }
    KeyPrefix::from_ascii(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> ForeignKey {
        ForeignKey::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn a_key_is_found_under_the_handle_that_its_digest_was_given() {
        let tagger = Tagger::new([7; 32]);
        let it = key("sk_live_51HabcdefGHIJKL");
        for material in [
            Material::Sha256(it.sha256()),
            Material::Sha512(Box::new(it.sha512())),
            Material::Raw(key("sk_live_51HabcdefGHIJKL")),
        ] {
            let origin = material.origin();
            let given: Vec<_> = tagger.handles(origin, material.bytes()).collect();
            let sought: Vec<_> = tagger.handles_of(origin, &it).collect();
            assert_eq!(given, sought);
            assert_eq!(given.len(), usize::from(origin.most_alike()));
            let other: Vec<_> = Tagger::new([8; 32]).handles_of(origin, &it).collect();
            assert_ne!(given, other, "it says nothing without the secret");
            for handle in given {
                assert_eq!(Origin::of(handle), Some(origin));
                assert!(handle.brand().is_none() && handle.as_str().starts_with('0'));
            }
        }
        let own = KeyPrefix::from_stored("rg_8fK2mQ9zT").unwrap();
        assert_eq!(Origin::of(own), None);
    }

    #[test]
    fn a_raw_key_gives_away_sixteen_bits() {
        let tagger = Tagger::new([7; 32]);
        let greatest = "0r00000H31"; // 65,535 in base62
        for n in 0..2_000 {
            let key = key(&format!("a-key-that-is-long-enough-{n}"));
            let handle = tagger.handles_of(Origin::Raw, &key).next().unwrap();
            assert!(handle.as_str().get(..10).unwrap() <= greatest, "{handle:?}");
        }
    }

    #[test]
    fn only_what_can_stand_in_a_header_is_a_key() {
        assert!(ForeignKey::parse(b"short").is_ok() && ForeignKey::parse_raw(b"short").is_err());
        for text in ["with a blank in the middle", "ümlaut-ümlaut-ümlaut-x", ""] {
            assert!(ForeignKey::parse(text.as_bytes()).is_err(), "{text}");
        }
        assert!(ForeignKey::parse(&[b'x'; 513]).is_err());
        let own = b"rg_8fK2mQ9zTabcdefghijklmnopqrstuvwxyz0123453bAXzK";
        assert!(ForeignKey::parse(own).is_err());
        assert_eq!(format!("{:?}", key("sk_live_51HabcdefGHIJKL")), "ForeignKey(…)");
    }
}
