//! The secrets that sign webhooks (Standard Webhooks 1.0.0, "Signature scheme").

use std::fmt;

use base64ct::{Base64, Encoding};
use hmac::{Hmac, KeyInit, Mac};
use pbkdf2::sha2::Sha256;
use zeroize::Zeroizing;

const PREFIX: &str = "whsec_";
const SHORTEST: usize = 24;
const LONGEST: usize = 64;

/// A secret that keyward and a receiver share.
#[derive(Clone, Eq, PartialEq)]
pub struct WebhookSecret(Zeroizing<Vec<u8>>);

/// Why a text is no secret. Never repeats the text.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum InvalidSecret {
    #[error("a secret begins with `{PREFIX}`")]
    Prefix,
    #[error("a secret is base64 after `{PREFIX}`")]
    Base64,
    #[error(
        "a secret has {SHORTEST} to {LONGEST} bytes, not {0}; make one with `openssl rand -base64 32`"
    )]
    Length(usize),
}

impl WebhookSecret {
    /// Reads a secret: `whsec_` and the base64 of 24 to 64 bytes.
    pub fn parse(text: &str) -> Result<Self, InvalidSecret> {
        let encoded = text.strip_prefix(PREFIX).ok_or(InvalidSecret::Prefix)?;
        let bytes = Base64::decode_vec(encoded).map_err(|_| InvalidSecret::Base64)?;
        let bytes = Zeroizing::new(bytes);
        if !(SHORTEST..=LONGEST).contains(&bytes.len()) {
            return Err(InvalidSecret::Length(bytes.len()));
        }
        Ok(Self(bytes))
    }

    /// Returns the signature of one attempt: `v1,` and the base64 of the HMAC-SHA256 of id, Unix time
    /// in seconds, and body.
    pub fn sign(&self, id: &str, timestamp: i64, body: &[u8]) -> String {
        // An HMAC takes a key of any length.
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&self.0) else { return String::new() };
        mac.update(format!("{id}.{timestamp}.").as_bytes());
        mac.update(body);
        format!("v1,{}", Base64::encode_string(&mac.finalize().into_bytes()))
    }
}

impl fmt::Debug for WebhookSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WebhookSecret")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_are_those_of_the_specification() {
        // The vector of the reference libraries of Standard Webhooks.
        let secret = WebhookSecret::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let sign = |id, time, body: &str| secret.sign(id, time, body.as_bytes());
        let id = "msg_p5jXN8AQM9LWM0D4loKWxJek";
        let body = r#"{"test": 2432232314}"#;
        let right = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
        assert_eq!(sign(id, 1_614_265_330, body), right);
        assert_ne!(sign(id, 1_614_265_331, body), right);
        assert_ne!(sign("msg_p5jXN8AQM9LWM0D4loKWxJeK", 1_614_265_330, body), right);
        assert_ne!(sign(id, 1_614_265_330, r#"{"test": 2432232315}"#), right);
    }

    #[test]
    fn a_secret_has_24_to_64_bytes() {
        let of = |length| format!("whsec_{}", Base64::encode_string(&vec![7; length]));
        assert!(WebhookSecret::parse(&of(24)).is_ok());
        assert!(WebhookSecret::parse(&of(64)).is_ok());
        for length in [0, 23, 65] {
            assert_eq!(WebhookSecret::parse(&of(length)), Err(InvalidSecret::Length(length)));
        }
        let bare = of(32).replace("whsec_", "");
        assert_eq!(WebhookSecret::parse(&bare), Err(InvalidSecret::Prefix));
        assert_eq!(WebhookSecret::parse("whsec_not base64!"), Err(InvalidSecret::Base64));
        assert_eq!(format!("{:?}", WebhookSecret::parse(&of(32)).unwrap()), "WebhookSecret");
    }
}
