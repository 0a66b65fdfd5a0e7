//! The keys that sign tokens, and the signing: JSON Web Signatures in the compact form (RFC 7515), of
//! JSON Web Tokens (RFC 7519). keyward never reads a token.

use std::{fmt, time::Duration};

use base64ct::{Base64UrlUnpadded, Encoding};
use ed25519_dalek::{Signer, SigningKey};
use pbkdf2::sha2::{Digest, Sha256};
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::{
    domain::named_enum,
    env::{Entropy, ring_random},
};

named_enum! {
    /// How tokens are signed. The names are those of JSON Web Algorithms.
    pub enum TokenAlgorithm {
        /// Ed25519 (RFC 8037).
        EdDsa => "EdDSA",
        /// ECDSA on the curve P-256 (RFC 7518, 3.4), for gateways without Ed25519.
        Es256 => "ES256",
    }
}

/// The longest lifetime of a token.
pub const LONGEST_LIFETIME: Duration = Duration::from_mins(15);

/// A key that signs tokens.
pub struct TokenKey {
    algorithm: TokenAlgorithm,
    secret: Secret,
    id: String,
    /// The members of the public key that its thumbprint covers.
    public: Value,
}

enum Secret {
    EdDsa(Box<SigningKey>),
    /// `ring` shows no secret of a key and does not wipe it. So its stored form stays beside it.
    Es256(Box<EcdsaKeyPair>, Zeroizing<Vec<u8>>),
}

/// The length of an uncompressed point of P-256: a tag, then two coordinates.
const POINT: usize = 65;

impl TokenKey {
    /// Generates a key.
    ///
    /// # Panics
    /// As [`Entropy::fill`] does.
    #[expect(clippy::expect_used, reason = "see `Entropy::fill`: there is no safe way to go on")]
    pub fn generate(algorithm: TokenAlgorithm, entropy: &dyn Entropy) -> Self {
        let made = match algorithm {
            TokenAlgorithm::EdDsa => {
                let mut seed = Zeroizing::new([0; 32]);
                entropy.fill(&mut *seed);
                Self::new(algorithm, &*seed)
            }
            TokenAlgorithm::Es256 => {
                let alg = &ECDSA_P256_SHA256_FIXED_SIGNING;
                let made = EcdsaKeyPair::generate_pkcs8(alg, &ring_random());
                made.ok().and_then(|it| Self::new(algorithm, it.as_ref()))
            }
        };
        made.expect("the operating system's random source failed")
    }

    /// Builds the key with this secret: a seed of Ed25519, or PKCS #8 of P-256.
    fn new(algorithm: TokenAlgorithm, secret: &[u8]) -> Option<Self> {
        let text = |bytes: &[u8]| Base64UrlUnpadded::encode_string(bytes);
        let (secret, public) = match algorithm {
            TokenAlgorithm::EdDsa => {
                let key = SigningKey::from_bytes(secret.try_into().ok()?);
                let x = text(key.verifying_key().as_bytes());
                let public = json!({ "crv": "Ed25519", "kty": "OKP", "x": x });
                (Secret::EdDsa(Box::new(key)), public)
            }
            TokenAlgorithm::Es256 => {
                let alg = &ECDSA_P256_SHA256_FIXED_SIGNING;
                let pair = EcdsaKeyPair::from_pkcs8(alg, secret, &ring_random()).ok()?;
                let point: &[u8; POINT] = pair.public_key().as_ref().try_into().ok()?;
                let (x, y) = point.split_at(POINT.div_ceil(2));
                let x = x.get(1..).unwrap_or_default();
                let public = json!({ "crv": "P-256", "kty": "EC", "x": text(x), "y": text(y) });
                (Secret::Es256(Box::new(pair), Zeroizing::new(secret.to_vec())), public)
            }
        };
        // RFC 7638: the hash of the required members in the order of their names, without white space.
        let id = text(&Sha256::digest(public.to_string()));
        Some(Self { algorithm, secret, id, public })
    }

    /// Reads the output of [`TokenKey::expose`].
    pub fn parse(algorithm: TokenAlgorithm, text: &str) -> Option<Self> {
        let secret = Zeroizing::new(Base64UrlUnpadded::decode_vec(text).ok()?);
        Self::new(algorithm, &secret)
    }

    /// Returns the secret as text.
    pub fn expose(&self) -> Zeroizing<String> {
        let secret: &[u8] = match &self.secret {
            Secret::EdDsa(key) => key.as_bytes(),
            Secret::Es256(_, pkcs8) => pkcs8,
        };
        Zeroizing::new(Base64UrlUnpadded::encode_string(secret))
    }

    pub fn algorithm(&self) -> TokenAlgorithm {
        self.algorithm
    }

    /// Returns the thumbprint of the public key (RFC 7638), which is its `kid`.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Returns the public key as a JSON Web Key (RFC 7517).
    pub fn to_jwk(&self) -> Value {
        let mut jwk = json!({ "kid": self.id, "use": "sig", "alg": self.algorithm.as_str() });
        for (name, value) in self.public.as_object().into_iter().flatten() {
            jwk[name] = value.clone();
        }
        jwk
    }

    /// Returns a token of this type with these claims.
    ///
    /// # Panics
    /// As [`Entropy::fill`] does: each signature with P-256 needs a random number.
    #[expect(clippy::expect_used, reason = "see `Entropy::fill`: there is no safe way to go on")]
    pub fn sign(&self, token_type: &str, claims: &Value) -> String {
        let header = json!({ "alg": self.algorithm.as_str(), "typ": token_type, "kid": self.id });
        let encoded = |it: &Value| Base64UrlUnpadded::encode_string(it.to_string().as_bytes());
        let mut token = [encoded(&header), encoded(claims)].join(".");
        let signature = match &self.secret {
            Secret::EdDsa(key) => key.sign(token.as_bytes()).to_bytes().to_vec(),
            Secret::Es256(pair, _) => {
                let signature = pair.sign(&ring_random(), token.as_bytes());
                signature.expect("the operating system's random source failed").as_ref().to_vec()
            }
        };
        token.push('.');
        token.push_str(&Base64UrlUnpadded::encode_string(&signature));
        token
    }
}

impl fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenKey").field("id", &self.id).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use ring::signature::{
        ECDSA_P256_SHA256_FIXED, ED25519, UnparsedPublicKey, VerificationAlgorithm,
    };

    use super::*;
    use crate::env::SeededEntropy;

    fn bytes(text: &str) -> Vec<u8> {
        Base64UrlUnpadded::decode_vec(text).unwrap()
    }

    /// The key of RFC 8037, appendix A.
    fn of_the_rfc() -> TokenKey {
        let seed = "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A";
        TokenKey::parse(TokenAlgorithm::EdDsa, seed).unwrap()
    }

    #[test]
    fn the_thumbprint_is_that_of_the_standard() {
        let key = of_the_rfc();
        assert_eq!(key.id(), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
        let expected = json!({
            "kid": "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k",
            "use": "sig",
            "alg": "EdDSA",
            "crv": "Ed25519",
            "kty": "OKP",
            "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
        });
        assert_eq!(key.to_jwk(), expected);
        assert!(!format!("{key:?}").contains("nWGxne"));
    }

    #[test]
    fn another_implementation_verifies_every_signature() {
        let entropy = SeededEntropy::new(1);
        for algorithm in TokenAlgorithm::ALL {
            let made = TokenKey::generate(algorithm, &entropy);
            let key = TokenKey::parse(algorithm, &made.expose()).unwrap();
            assert_eq!(key.to_jwk(), made.to_jwk());
            let token = key.sign("at+jwt", &json!({ "sub": "x" }));
            let (signed, signature) = token.rsplit_once('.').unwrap();
            let (header, claims) = signed.split_once('.').unwrap();
            let header: Value = serde_json::from_slice(&bytes(header)).unwrap();
            let expected = json!({ "alg": algorithm.as_str(), "typ": "at+jwt", "kid": key.id() });
            assert_eq!(header, expected);
            assert_eq!(bytes(claims), br#"{"sub":"x"}"#);
            let part = |name: &str| bytes(made.public[name].as_str().unwrap());
            let (how, public): (&'static dyn VerificationAlgorithm, _) = match algorithm {
                TokenAlgorithm::EdDsa => (&ED25519, part("x")),
                TokenAlgorithm::Es256 => {
                    (&ECDSA_P256_SHA256_FIXED, [vec![4], part("x"), part("y")].concat())
                }
            };
            let public = UnparsedPublicKey::new(how, public);
            public.verify(signed.as_bytes(), &bytes(signature)).unwrap();
            assert!(public.verify(b"other", &bytes(signature)).is_err());
        }
    }

    #[test]
    fn a_secret_of_another_form_is_no_key() {
        for algorithm in TokenAlgorithm::ALL {
            for text in ["", "AAAA", "nWGxne", "!"] {
                assert!(TokenKey::parse(algorithm, text).is_none(), "{text}");
            }
        }
    }
}
