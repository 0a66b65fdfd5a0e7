//! The hash that is stored in place of a key.
//!
//! PBKDF2-HMAC-SHA256 (RFC 8018) in PHC string form, a random salt for each secret, the iterations
//! in the string. Generated keys carry 190 random bits, to which stretching adds nothing, so their
//! cost is the floor of SP 800-132: 1,000 iterations.

use std::fmt;

use pbkdf2::{pbkdf2_hmac_array, sha2::Sha256};
use phc::{Ident, Output, ParamsString, PasswordHash, Salt};
use subtle::ConstantTimeEq;

use crate::{
    domain::{
        imported_key::{ImportedDigest, ImportedKey},
        plaintext_key::PlaintextKey,
    },
    env::Entropy,
};

/// The salted hash of a secret. It recognises the secret and does not reveal it.
#[derive(Clone, Eq, PartialEq)]
pub struct KeyHash {
    /// The iterations, and in the two highest bits the [`Input`]. A server may hold a million hashes,
    /// so both share one word.
    cost: u32,
    salt: [u8; Self::SALT_LEN],
    digest: [u8; Self::DIGEST_LEN],
}

/// The bytes that a hash is derived from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Input {
    Text,
    /// The SHA-256 of the text: an import gave the digest only, and the key was not used yet.
    Sha256,
    /// As [`Input::Sha256`], for SHA-512.
    Sha512,
}

impl Input {
    const ALL: [Self; 3] = [Self::Text, Self::Sha256, Self::Sha512];

    /// Returns its name in a PHC string. The text has none.
    pub fn name(self) -> Option<&'static str> {
        match self {
            Self::Text => None,
            Self::Sha256 => Some("sha256"),
            Self::Sha512 => Some("sha512"),
        }
    }
}

impl KeyHash {
    const INPUT_SHIFT: u32 = 30;
    pub const MIN_ITERATIONS: u32 = 1_000;
    /// A stored hash with more iterations was tampered with, and would only cost processor time.
    pub const MAX_ITERATIONS: u32 = 2_000_000;
    const SALT_LEN: usize = 16;
    const DIGEST_LEN: usize = 32;
    const ALGORITHM: &'static str = "pbkdf2-sha256";

    /// Hashes a key of keyward's own.
    pub fn of(key: &PlaintextKey, iterations: u32, entropy: &dyn Entropy) -> Self {
        Self::new(key.expose().as_bytes(), Input::Text, iterations, entropy)
    }

    /// Hashes the text of an imported key.
    pub fn of_imported(key: &ImportedKey, iterations: u32, entropy: &dyn Entropy) -> Self {
        Self::new(key.expose(), Input::Text, iterations, entropy)
    }

    /// Hashes an imported digest. The first use of the key replaces it by a hash of the text.
    pub fn of_digest(digest: &ImportedDigest, iterations: u32, entropy: &dyn Entropy) -> Self {
        let input = match digest {
            ImportedDigest::Sha256(_) => Input::Sha256,
            ImportedDigest::Sha512(_) => Input::Sha512,
        };
        Self::new(digest.bytes(), input, iterations, entropy)
    }

    fn new(bytes: &[u8], input: Input, iterations: u32, entropy: &dyn Entropy) -> Self {
        let mut salt = [0; Self::SALT_LEN];
        entropy.fill(&mut salt);
        let cost = iterations | (input as u32) << Self::INPUT_SHIFT;
        Self { cost, salt, digest: derive(bytes, &salt, iterations) }
    }

    /// As [`KeyHash::matches`], for an imported key.
    pub fn matches_imported(&self, key: &ImportedKey) -> bool {
        match self.input() {
            Input::Text => self.matches_bytes(key.expose()),
            Input::Sha256 => self.matches_bytes(&key.sha256()),
            Input::Sha512 => self.matches_bytes(&key.sha512()),
        }
    }

    pub fn input(&self) -> Input {
        match self.cost >> Self::INPUT_SHIFT {
            0 => Input::Text,
            1 => Input::Sha256,
            _ => Input::Sha512,
        }
    }

    fn matches_bytes(&self, bytes: &[u8]) -> bool {
        derive(bytes, &self.salt, self.iterations()).ct_eq(&self.digest).into()
    }

    /// Returns whether this is the hash of `key`. The time does not depend on where they differ.
    pub fn matches(&self, key: &PlaintextKey) -> bool {
        self.matches_bytes(key.expose().as_bytes())
    }

    pub fn iterations(&self) -> u32 {
        self.cost & ((1 << Self::INPUT_SHIFT) - 1)
    }

    /// Returns the PHC string: `$pbkdf2-sha256$i=1000,l=32$<salt>$<digest>`.
    pub fn encode(&self) -> String {
        let mut params = ParamsString::new();
        let parts = params
            .add_decimal("i", self.iterations())
            .and_then(|()| params.add_decimal("l", u32::try_from(Self::DIGEST_LEN).unwrap_or(0)))
            .and_then(|()| self.input().name().map_or(Ok(()), |it| params.add_str("in", it)))
            .ok()
            .and_then(|()| Ident::new(Self::ALGORITHM).ok())
            .zip(Salt::new(&self.salt).ok())
            .zip(Output::new(&self.digest).ok());
        parts.map_or_else(String::new, |((algorithm, salt), hash)| {
            PasswordHash { algorithm, version: None, params, salt: Some(salt), hash: Some(hash) }
                .to_string()
        })
    }

    /// Reads what [`KeyHash::encode`] wrote. Returns `None` for another algorithm, other sizes, or
    /// iterations out of range.
    pub fn decode(text: &str) -> Option<Self> {
        let phc = PasswordHash::new(text).ok()?;
        let iterations = phc.params.get_decimal("i")?;
        let length = phc.params.get_decimal("l")?;
        let known = phc.algorithm.as_str() == Self::ALGORITHM
            && usize::try_from(length).ok() == Some(Self::DIGEST_LEN)
            && (Self::MIN_ITERATIONS..=Self::MAX_ITERATIONS).contains(&iterations);
        known.then_some(())?;
        let input_name = phc.params.get_str("in");
        let input = Input::ALL.into_iter().find(|it| it.name() == input_name)?;
        // A text that means the same, but is written differently, was not written by `encode`.
        let mut names = ["i", "l"].into_iter().chain(input_name.map(|_| "in"));
        let mut params = phc.params.iter();
        let in_order = names.all(|it| params.next().is_some_and(|(name, _)| name.as_str() == it));
        (in_order && params.next().is_none() && phc.version.is_none()).then_some(())?;
        Some(Self {
            cost: iterations | (input as u32) << Self::INPUT_SHIFT,
            salt: phc.salt?.as_ref().try_into().ok()?,
            digest: phc.hash?.as_bytes().try_into().ok()?,
        })
    }
}

impl fmt::Debug for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyHash(…)")
    }
}

fn derive(bytes: &[u8], salt: &[u8], iterations: u32) -> [u8; KeyHash::DIGEST_LEN] {
    pbkdf2_hmac_array::<Sha256, { KeyHash::DIGEST_LEN }>(bytes, salt, iterations)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{domain::plaintext_key::PrefixLabel, env::SeededEntropy};

    #[test]
    fn the_hash_knows_its_key_and_no_other_and_survives_storage() {
        let entropy = SeededEntropy::new(7);
        let label = PrefixLabel::parse("rg").unwrap();
        let key = PlaintextKey::generate(label, &entropy);
        let other = PlaintextKey::generate(label, &entropy);
        let hash = KeyHash::of(&key, 1_000, &entropy);
        let stored = hash.encode();
        assert!(stored.starts_with("$pbkdf2-sha256$i=1000,l=32$"), "{stored}");
        let read = KeyHash::decode(&stored).unwrap();
        assert!(read.matches(&key));
        assert!(!read.matches(&other));
        assert_eq!(read, hash);
    }

    #[test]
    fn a_string_made_elsewhere_is_understood() {
        // python3: hashlib.pbkdf2_hmac("sha256", key, bytes(range(16)), 1000), base64 without "=".
        let key = PlaintextKey::parse(b"rg_8fK2mQ9zTabcdefghijklmnopqrstuvwxyz0123453bAXzK");
        let stored = "$pbkdf2-sha256$i=1000,l=32$AAECAwQFBgcICQoLDA0ODw$bR6wcjU7WaWMljOSmfEBa3+YLPEd8ciRf+3JCVxsX14";
        assert!(KeyHash::decode(stored).unwrap().matches(&key.unwrap()));
    }

    #[test]
    fn strings_out_of_range_or_of_other_algorithms_are_refused() {
        let entropy = SeededEntropy::new(7);
        let key = PlaintextKey::generate(PrefixLabel::parse("rg").unwrap(), &entropy);
        let good = KeyHash::of(&key, 1_000, &entropy).encode();
        for bad in [
            good.replace("i=1000", "i=999"),
            good.replace("i=1000", "i=2000001"),
            good.replace("l=32", "l=16"),
            good.replace("sha256", "sha512"),
            good.replace("$i=1000,l=32", ""),
            good.replace("i=1000,l=32", "l=32,i=1000"),
            good.replace("l=32", "l=32,x=1"),
            good.replace("$i=", "$v=1$i="),
            good.replace("$i=", "$v=1$i=").replace("i=1000", "i=x"),
            good.chars().take(good.len() - 4).collect(),
            String::new(),
        ] {
            assert!(KeyHash::decode(&bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn debug_output_is_silent() {
        let entropy = SeededEntropy::new(7);
        let key = PlaintextKey::generate(PrefixLabel::parse("rg").unwrap(), &entropy);
        assert_eq!(format!("{:?}", KeyHash::of(&key, 1_000, &entropy)), "KeyHash(…)");
    }

    #[test]
    fn an_imported_key_is_recognised_by_its_text_and_by_either_digest() {
        use crate::domain::imported_key::ImportForm;

        let entropy = SeededEntropy::new(7);
        let key = |text: &[u8]| ImportedKey::parse(text).unwrap();
        let (right, wrong) = (key(b"sk_live_51HabcdefGHIJKL"), key(b"sk_live_51HabcdefGHIJKM"));
        let by_digest =
            |form| KeyHash::of_digest(&ImportedDigest::of(&right, form), 1_000, &entropy);
        for (hash, input) in [
            (KeyHash::of_imported(&right, 1_000, &entropy), Input::Text),
            (by_digest(ImportForm::Sha256), Input::Sha256),
            (by_digest(ImportForm::Sha512), Input::Sha512),
        ] {
            assert!(hash.input() == input && hash.iterations() == 1_000);
            assert!(hash.matches_imported(&right) && !hash.matches_imported(&wrong));
            assert_eq!(KeyHash::decode(&hash.encode()), Some(hash));
        }
    }
}
