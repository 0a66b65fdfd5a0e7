//! What is stored in place of a key.
//!
//! PBKDF2-HMAC-SHA256 (RFC 8018) in PHC string form, a random salt for each secret, the iterations
//! in the string. Generated keys carry 190 random bits, to which stretching adds nothing, so their
//! cost is the floor of SP 800-132: 1,000 iterations.

use std::fmt;

use pbkdf2::{pbkdf2_hmac_array, sha2::Sha256};
use phc::{Ident, Output, ParamsString, PasswordHash, Salt};
use subtle::ConstantTimeEq;

use crate::{domain::credential::PlaintextKey, env::Entropy};

/// One way from a key; enough to recognise it again.
#[derive(Clone, Eq, PartialEq)]
pub struct KeyHash {
    iterations: u32,
    salt: [u8; Self::SALT_LEN],
    digest: [u8; Self::DIGEST_LEN],
}

impl KeyHash {
    pub const MIN_ITERATIONS: u32 = 1_000;
    /// A row that claims more was tampered with: it would only burn our time.
    pub const MAX_ITERATIONS: u32 = 2_000_000;
    const SALT_LEN: usize = 16;
    const DIGEST_LEN: usize = 32;
    const ALGORITHM: &'static str = "pbkdf2-sha256";

    pub fn of(key: &PlaintextKey, iterations: u32, entropy: &dyn Entropy) -> Self {
        let mut salt = [0; Self::SALT_LEN];
        entropy.fill(&mut salt);
        Self { iterations, salt, digest: derive(key, &salt, iterations) }
    }

    /// Takes the same time whether or not, and wherever, the key differs.
    pub fn matches(&self, key: &PlaintextKey) -> bool {
        derive(key, &self.salt, self.iterations).ct_eq(&self.digest).into()
    }

    pub fn iterations(&self) -> u32 {
        self.iterations
    }

    /// The PHC string: `$pbkdf2-sha256$i=1000,l=32$<salt>$<digest>`.
    pub fn encode(&self) -> String {
        let mut params = ParamsString::new();
        let parts = params
            .add_decimal("i", self.iterations)
            .and_then(|()| params.add_decimal("l", u32::try_from(Self::DIGEST_LEN).unwrap_or(0)))
            .ok()
            .and_then(|()| Ident::new(Self::ALGORITHM).ok())
            .zip(Salt::new(&self.salt).ok())
            .zip(Output::new(&self.digest).ok());
        parts.map_or_else(String::new, |((algorithm, salt), hash)| {
            PasswordHash { algorithm, version: None, params, salt: Some(salt), hash: Some(hash) }
                .to_string()
        })
    }

    /// Reads a PHC string of ours; `None` for another algorithm, other sizes or an absurd cost.
    pub fn decode(text: &str) -> Option<Self> {
        let phc = PasswordHash::new(text).ok()?;
        let iterations = phc.params.get_decimal("i")?;
        let length = phc.params.get_decimal("l")?;
        let known = phc.algorithm.as_str() == Self::ALGORITHM
            && usize::try_from(length).ok() == Some(Self::DIGEST_LEN)
            && (Self::MIN_ITERATIONS..=Self::MAX_ITERATIONS).contains(&iterations);
        known.then_some(())?;
        Some(Self {
            iterations,
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

fn derive(key: &PlaintextKey, salt: &[u8], iterations: u32) -> [u8; KeyHash::DIGEST_LEN] {
    pbkdf2_hmac_array::<Sha256, { KeyHash::DIGEST_LEN }>(key.expose().as_bytes(), salt, iterations)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{domain::credential::Brand, env::SeededEntropy};

    #[test]
    fn the_hash_knows_its_key_and_no_other_and_survives_storage() {
        let entropy = SeededEntropy::new(7);
        let brand = Brand::parse("rg").unwrap();
        let key = PlaintextKey::generate(brand, &entropy);
        let other = PlaintextKey::generate(brand, &entropy);
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
    fn absurd_or_foreign_strings_are_refused() {
        let entropy = SeededEntropy::new(7);
        let key = PlaintextKey::generate(Brand::parse("rg").unwrap(), &entropy);
        let good = KeyHash::of(&key, 1_000, &entropy).encode();
        for bad in [
            good.replace("i=1000", "i=999"),
            good.replace("i=1000", "i=2000001"),
            good.replace("l=32", "l=16"),
            good.replace("sha256", "sha512"),
            good.replace("$i=1000,l=32", ""),
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
        let key = PlaintextKey::generate(Brand::parse("rg").unwrap(), &entropy);
        assert_eq!(format!("{:?}", KeyHash::of(&key, 1_000, &entropy)), "KeyHash(…)");
    }
}
