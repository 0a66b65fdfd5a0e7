//! A credential: one secret of a key, as it is stored.

use crate::{
    domain::{key_hash::KeyHash, plaintext_key::KeyPrefix},
    env::Timestamp,
};

/// One secret that a key has or had. The current one has no deadline; a rotated one has.
#[derive(Clone, Debug)]
pub struct Credential {
    pub prefix: KeyPrefix,
    pub hash: KeyHash,
    /// Orders the credentials of a key: each has a later instant than those before it.
    pub issued_at: Timestamp,
    /// `None` for the current credential. Half open: at this very instant it is no longer valid.
    pub valid_until: Option<Timestamp>,
}

impl Credential {
    /// Builds a current credential.
    pub fn new(prefix: KeyPrefix, hash: KeyHash, issued_at: Timestamp) -> Self {
        Self { prefix, hash, issued_at, valid_until: None }
    }

    pub fn is_valid_at(&self, now: Timestamp) -> bool {
        self.valid_until.is_none_or(|deadline| now < deadline)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        domain::plaintext_key::{PlaintextKey, PrefixLabel},
        env::SeededEntropy,
    };

    #[test]
    fn a_rotated_credential_ends_at_its_deadline_exactly() {
        let entropy = SeededEntropy::new(7);
        let key = PlaintextKey::generate(PrefixLabel::parse("rg").unwrap(), &entropy);
        let hash = KeyHash::of(&key, 1_000, &entropy);
        let mut credential = Credential::new(key.prefix(), hash, Timestamp::from_millis(0));
        assert!(credential.is_valid_at(Timestamp::from_millis(i64::MAX)));
        credential.valid_until = Some(Timestamp::from_millis(300_000));
        assert!(credential.is_valid_at(Timestamp::from_millis(299_999)));
        assert!(!credential.is_valid_at(Timestamp::from_millis(300_000)));
    }
}
