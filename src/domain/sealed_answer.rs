//! Sealed answers: what keyward keeps of an answer to a request with an `Idempotency-Key`.
//!
//! An answer is encrypted with ChaCha20-Poly1305 (RFC 8439) under a key that is derived with HKDF
//! (RFC 5869) from the API key that the caller presented. keyward stores neither of the two keys, so
//! the database alone opens no answer.

use std::{fmt, iter};

use chacha20poly1305::{ChaCha20Poly1305, KeyInit, Nonce, aead::AeadInOut};
use hkdf::Hkdf;
use pbkdf2::sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::{
    domain::{id::KeyId, plaintext_key::KeyPrefix},
    env::Entropy,
};

/// What the text of a presented key is mixed with, so that no other use of it gives the same secret.
const PURPOSE: &[u8] = b"keyward idempotency v1";
/// Every derived key encrypts one answer, so the nonce need not differ.
const NONCE: [u8; 12] = [0; 12];
const SALT_LEN: usize = 32;

/// The secret that a presented API key gives for its sealed answers.
///
/// It does not reveal the API key. `Debug` shows nothing of it, and the memory is wiped on drop.
pub struct SealingSecret(Zeroizing<[u8; 32]>);

/// A request with an `Idempotency-Key`, as digests. A request that repeats another has the same ones.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct IdempotentRequest {
    pub caller: KeyId,
    /// The digest of the `Idempotency-Key`.
    pub token: [u8; 32],
    /// The digest of everything that the request asks for.
    pub digest: [u8; 32],
}

impl SealingSecret {
    /// Derives the secret from the text of a presented key.
    pub fn of_presented(text: &[u8]) -> Self {
        let (secret, _) = Hkdf::<Sha256>::extract(Some(PURPOSE), text);
        Self(Zeroizing::new(secret.into()))
    }

    /// Encrypts an answer to `request`, which is bound to it.
    ///
    /// # Panics
    ///
    /// Never: an answer is shorter than the 256 GiB that the cipher can encrypt.
    #[expect(clippy::expect_used, reason = "an answer is shorter than 256 GiB")]
    pub fn seal(
        &self,
        request: &IdempotentRequest,
        mut answer: Zeroizing<Vec<u8>>,
        entropy: &dyn Entropy,
    ) -> Vec<u8> {
        let mut salt = [0; SALT_LEN];
        entropy.fill(&mut salt);
        let encrypted = self.cipher(&salt).encrypt_in_place(
            &Nonce::from(NONCE),
            &request.bound(),
            &mut *answer,
        );
        encrypted.expect("an answer is short enough");
        [&salt[..], &answer].concat()
    }

    /// Returns the answer; `None` if another key or another request sealed it, or if it was changed.
    pub fn open(&self, request: &IdempotentRequest, sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let (salt, sealed) = sealed.split_first_chunk::<SALT_LEN>()?;
        let mut answer = Zeroizing::new(sealed.to_vec());
        let cipher = self.cipher(salt);
        cipher.decrypt_in_place(&Nonce::from(NONCE), &request.bound(), &mut *answer).ok()?;
        Some(answer)
    }

    #[expect(
        clippy::expect_used,
        reason = "the lengths are those of SHA-256 and of the cipher's key"
    )]
    fn cipher(&self, salt: &[u8; SALT_LEN]) -> ChaCha20Poly1305 {
        let mut key = Zeroizing::new([0; 32]);
        let derived = Hkdf::<Sha256>::from_prk(&self.0[..]).expect("as long as a SHA-256");
        derived.expand_multi_info(&[PURPOSE, salt], &mut key[..]).expect("one SHA-256 is enough");
        ChaCha20Poly1305::new_from_slice(&key[..]).expect("as long as a key")
    }
}

impl fmt::Debug for SealingSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SealingSecret")
    }
}

impl IdempotentRequest {
    /// Describes a request of this credential. `parts` are all that the request asks for.
    pub fn new(caller: KeyId, prefix: KeyPrefix, token: &str, parts: &[&[u8]]) -> Self {
        let all = iter::once(prefix.as_str().as_bytes()).chain(parts.iter().copied());
        let mut digest = Sha256::new();
        for part in all {
            // With its length, so that no two lists of parts give the same bytes.
            digest.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
            digest.update(part);
        }
        Self { caller, token: Sha256::digest(token).into(), digest: digest.finalize().into() }
    }

    /// Returns the data that an answer is bound to.
    fn bound(&self) -> Vec<u8> {
        [self.caller.to_string().as_bytes(), &self.token, &self.digest].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        domain::plaintext_key::{PlaintextKey, PrefixLabel},
        env::SeededEntropy,
    };

    fn request(key: &PlaintextKey, token: &str, parts: &[&[u8]]) -> IdempotentRequest {
        IdempotentRequest::new(KeyId::from_raw(7), key.prefix(), token, parts)
    }

    #[test]
    fn only_the_same_key_and_the_same_request_open_an_answer() {
        let entropy = SeededEntropy::new(7);
        let key = PlaintextKey::generate(PrefixLabel::DEFAULT, &entropy);
        let other = PlaintextKey::generate(PrefixLabel::DEFAULT, &entropy);
        let secret = SealingSecret::of_presented(key.expose().as_bytes());
        let asked = request(&key, "token", &[b"POST", b"/api-keys"]);
        let answer = || Zeroizing::new(b"the answer".to_vec());
        let sealed = secret.seal(&asked, answer(), &entropy);
        assert_eq!(secret.open(&asked, &sealed), Some(answer()));
        assert_ne!(secret.seal(&asked, answer(), &entropy), sealed, "a new salt");
        assert!(!sealed.windows(6).any(|it| it == b"answer"));

        let thief = SealingSecret::of_presented(other.expose().as_bytes());
        assert_eq!(thief.open(&asked, &sealed), None);
        for changed in [
            request(&key, "other", &[b"POST", b"/api-keys"]),
            request(&key, "token", &[b"POST/", b"api-keys"]),
            request(&other, "token", &[b"POST", b"/api-keys"]),
            IdempotentRequest { caller: KeyId::from_raw(8), ..asked },
        ] {
            assert_eq!(secret.open(&changed, &sealed), None, "{changed:?}");
        }
        for at in 0..sealed.len() {
            let mut tampered = sealed.clone();
            tampered[at] ^= 1;
            assert_eq!(secret.open(&asked, &tampered), None, "byte {at}");
        }
        assert_eq!(secret.open(&asked, &sealed[..SALT_LEN - 1]), None);
    }

    #[test]
    fn debug_output_never_holds_the_secret() {
        assert_eq!(format!("{:?}", SealingSecret::of_presented(b"text")), "SealingSecret");
    }
}
