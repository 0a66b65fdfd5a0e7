//! A root key that the operator provides, and which of them are refused.
//!
//! A text shows whether it is a key that keyward could have made. A digest shows nothing of the strength of
//! its text, so only the digests of texts that anyone can look up are refused.

use pbkdf2::sha2::{Digest, Sha256};

use crate::domain::{
    development_key::{is_development_digest, is_development_key},
    imported_key::{ImportForm, ImportedDigest, decoded},
    plaintext_key::PlaintextKey,
};

/// Texts that anyone can look up, such as the key of the API document. None of them is a root key, and
/// no key of development mode is.
const PUBLIC_TEXTS: [&str; 10] = [
    "",
    "admin",
    "changeme",
    "keyward",
    "password",
    "root",
    "root-key",
    "secret",
    "test",
    "rg_8fK2mQ9zTabcdefghijklmnopqrstuvwxyz0123453bAXzK",
];

/// A key that keyward makes has about 30 distinct characters.
const FEWEST_CHARACTERS: usize = 12;
/// Chance makes such a run in one of 10¹⁰ keys.
const LONGEST_RUN: usize = 7;
/// 32 random bytes have about 30 distinct values.
const FEWEST_BYTES: usize = 12;

/// A root key that the operator provides.
#[derive(Debug)]
pub enum ProvidedRootKey {
    Text(PlaintextKey),
    Digest(ImportedDigest),
}

/// Why a text provides no root key. Never repeats the text.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum InvalidRootKey {
    #[error("it is empty")]
    Empty,
    #[error(
        "it holds neither a key that `keyward root-key generate` makes nor `sha256:` and a digest"
    )]
    Form,
    #[error("`sha256:` needs 64 hexadecimal digits after it, and nothing else")]
    Digest,
    #[error("it holds a text that is publicly known; make a key with `keyward root-key generate`")]
    Public,
    #[error("it is not random; make a key with `keyward root-key generate`")]
    Pattern,
}

impl ProvidedRootKey {
    /// What stands before the digest of a key. No key begins so, because a label ends with `_`.
    pub const DIGEST_PREFIX: &str = "sha256:";

    /// Reads a key, or `sha256:` and the digest of a key in hexadecimal. White space at the end is ignored.
    ///
    /// # Errors
    /// The text has another form, or is weak.
    pub fn parse(text: &[u8]) -> Result<Self, InvalidRootKey> {
        let text = text.trim_ascii_end();
        if text.is_empty() {
            return Err(InvalidRootKey::Empty);
        }
        if let Some(digest) = text.strip_prefix(Self::DIGEST_PREFIX.as_bytes()) {
            let digest = std::str::from_utf8(digest).ok().filter(|it| it.len() == 64);
            let bytes = digest.and_then(decoded::<32>).ok_or(InvalidRootKey::Digest)?;
            let digest = ImportedDigest::Sha256(bytes);
            if is_public(&digest) {
                return Err(InvalidRootKey::Public);
            }
            if distinct(&bytes) < FEWEST_BYTES {
                return Err(InvalidRootKey::Pattern);
            }
            return Ok(Self::Digest(digest));
        }
        let key = PlaintextKey::parse(text).map_err(|_| InvalidRootKey::Form)?;
        if is_development_key(&key) || is_public(&ImportedDigest::of_text(text, ImportForm::Sha256))
        {
            return Err(InvalidRootKey::Public);
        }
        let body = text.get(..PlaintextKey::LEN - PlaintextKey::CHECKSUM_LEN).unwrap_or_default();
        if distinct(body) < FEWEST_CHARACTERS || LONGEST_RUN < longest_run(body) {
            return Err(InvalidRootKey::Pattern);
        }
        Ok(Self::Text(key))
    }

    /// Returns the line that provides a key by its digest.
    pub fn digest_line(key: &PlaintextKey) -> String {
        let digest = Sha256::digest(key.expose());
        digest.iter().fold(Self::DIGEST_PREFIX.to_owned(), |line, it| line + &format!("{it:02x}"))
    }
}

/// Returns whether this is the digest of a text that anyone can look up, with or without the end of a
/// line: `echo` adds one.
pub fn is_public(digest: &ImportedDigest) -> bool {
    let is = |text: &str| {
        ImportedDigest::of_text(text.as_bytes(), digest.form()).bytes() == digest.bytes()
    };
    is_development_digest(digest)
        || PUBLIC_TEXTS
            .iter()
            .any(|it| ["", "\n", "\r\n"].iter().any(|end| is(&format!("{it}{end}"))))
}

fn distinct(bytes: &[u8]) -> usize {
    let mut sorted = bytes.to_vec();
    sorted.sort_unstable();
    sorted.dedup();
    sorted.len()
}

/// Returns the length of the longest run of equal, rising or falling neighbours, as in `aaa`, `abc`, `321`.
fn longest_run(text: &[u8]) -> usize {
    let (mut longest, mut length, mut before) = (0, 0, None);
    for pair in text.windows(2) {
        let step = pair.iter().fold(0, |sum, it| i16::from(*it) - sum);
        let is_run = step.abs() <= 1;
        length = if !is_run {
            1
        } else if before == Some(step) {
            length + 1
        } else {
            2
        };
        before = is_run.then_some(step);
        longest = longest.max(length);
    }
    longest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        domain::{base62, development_key::DevelopmentKey, plaintext_key::PrefixLabel},
        env::SeededEntropy,
    };

    /// Returns the error about a text, or an empty one.
    fn refusal(text: &str) -> Option<InvalidRootKey> {
        ProvidedRootKey::parse(text.as_bytes()).err()
    }

    /// Returns a text with the shape of a key and the right checksum.
    fn shaped(body: &str) -> String {
        let mut checksum = [0; PlaintextKey::CHECKSUM_LEN];
        base62::write_number(u128::from(crc32fast::hash(body.as_bytes())), &mut checksum);
        format!("{body}{}", String::from_utf8_lossy(&checksum))
    }

    fn hex(text: &str) -> String {
        Sha256::digest(text).iter().fold(String::new(), |hex, it| hex + &format!("{it:02x}"))
    }

    #[test]
    fn every_key_that_keyward_makes_is_accepted_as_text_and_as_digest() {
        let entropy = SeededEntropy::new(7);
        for _ in 0..2_000 {
            let key = PlaintextKey::generate(PrefixLabel::DEFAULT, &entropy);
            for end in ["", "\n", "\r\n"] {
                let text = format!("{}{end}", key.expose());
                assert!(matches!(
                    ProvidedRootKey::parse(text.as_bytes()),
                    Ok(ProvidedRootKey::Text(_))
                ));
            }
            let line = ProvidedRootKey::digest_line(&key);
            assert_eq!(line, format!("sha256:{}", hex(key.expose())));
            assert!(refusal(&line).is_none(), "{line}");
        }
    }

    #[test]
    fn other_texts_are_refused() {
        for text in ["", "\n", "  \r\n"] {
            assert_eq!(refusal(text), Some(InvalidRootKey::Empty), "{text:?}");
        }
        let good = PlaintextKey::generate(PrefixLabel::DEFAULT, &SeededEntropy::new(7));
        let good = good.expose();
        let digest = hex(good);
        for text in [
            "password".to_owned(),
            format!(" {good}"),
            format!("{good} {good}"),
            format!("{good}\n{good}\n"),
            good.replace("rg_", "rh_"),
            digest.clone(),
            format!("SHA256:{digest}"),
        ] {
            assert_eq!(refusal(&text), Some(InvalidRootKey::Form), "{text}");
        }
        for text in
            ["sha256:", "sha256: ", &format!("sha256:{digest}  -"), &format!("sha256: {digest}")]
        {
            assert_eq!(refusal(text), Some(InvalidRootKey::Digest), "{text}");
        }
        assert_eq!(refusal(&format!("sha256:{}z", "0".repeat(63))), Some(InvalidRootKey::Digest));
    }

    #[test]
    fn weak_keys_are_refused() {
        assert_eq!(refusal(PUBLIC_TEXTS[9]), Some(InvalidRootKey::Public));
        for text in PUBLIC_TEXTS {
            for end in ["", "\n", "\r\n"] {
                let line = format!("sha256:{}", hex(&format!("{text}{end}")));
                assert_eq!(refusal(&line), Some(InvalidRootKey::Public), "{text}");
            }
        }
        let development = DevelopmentKey::Root.text();
        assert_eq!(refusal(&development), Some(InvalidRootKey::Public));
        let digest = format!("sha256:{}", hex(&development));
        assert_eq!(refusal(&digest), Some(InvalidRootKey::Public));
        for body in [
            format!("rg_{}", "0".repeat(41)),
            format!("rg_{}a", "Ab3x".repeat(10)),
            "rg_8fK2mQ9zTqW7eRabcdefghX5vB1nM4kJ6hG3pL0sy".to_owned(),
            "rg_8fK2mQ9zTqW7eR87654321X5vB1nM4kJ6hG3pL0sy".to_owned(),
        ] {
            assert_eq!(refusal(&shaped(&body)), Some(InvalidRootKey::Pattern), "{body}");
        }
        let random = shaped("rg_8fK2mQ9zTqW7eRdcYaZuwtX5vB1nM4kJ6hG3pL0sy");
        assert_eq!(refusal(&random), None);
        assert_eq!(refusal(&format!("sha256:{}", "0".repeat(64))), Some(InvalidRootKey::Pattern));
    }

    #[test]
    fn a_key_of_twelve_distinct_characters_or_bytes_is_accepted() {
        let digest = |distinct: usize| {
            let bytes = (0..32).map(|it| it % distinct * 7);
            bytes.fold("sha256:".to_owned(), |line, it| line + &format!("{it:02x}"))
        };
        assert_eq!(refusal(&digest(12)), None);
        assert_eq!(refusal(&digest(11)), Some(InvalidRootKey::Pattern));
        // With the three of `rg_`.
        let text = |others: &str| {
            shaped(&format!("rg_{}", others.chars().cycle().take(41).collect::<String>()))
        };
        assert_eq!(refusal(&text("0z2x4v6t8")), None);
        assert_eq!(refusal(&text("0z2x4v6t")), Some(InvalidRootKey::Pattern));
    }

    #[test]
    fn a_run_of_seven_neighbours_is_accepted() {
        let text = |run: &str| {
            let filler = "0z2x4v6t8".repeat(3);
            let body = format!("rg_{filler}{run}{filler}");
            shaped(&body.chars().take(44).collect::<String>())
        };
        assert_eq!(refusal(&text("abcdefg")), None);
        assert_eq!(refusal(&text("abcdefgh")), Some(InvalidRootKey::Pattern));
    }
}
