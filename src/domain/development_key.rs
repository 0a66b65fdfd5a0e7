//! The keys of development mode. They are public, so no real server accepts them.
//!
//! Their secret part, which is random in every other key, is the same text in all of them. Thus a
//! person recognises such a key, and so does [`is_development_key`].

use crate::domain::{
    base62,
    imported_key::ImportedDigest,
    named_enum,
    plaintext_key::{KeyPrefix, PlaintextKey, PrefixLabel},
};

/// The characters between the key prefix and the checksum.
const SECRET_PART: &[u8; PlaintextKey::LEN - KeyPrefix::LEN - PlaintextKey::CHECKSUM_LEN] =
    b"ThisIsADevelopmentKeyAndNoSecret";

named_enum! {
    /// A key of development mode, with the end of its key prefix.
    pub enum DevelopmentKey {
        Root => "RootOfDev",
        Gateway => "Gateway00",
        Admin => "AcmeAdmin",
        Valid => "Valid0000",
        ReadOnly => "ReadOnly0",
        Expiring => "Expiring0",
        Expired => "Expired00",
        Disabled => "Disabled0",
        Revoked => "Revoked00",
        InGrace => "InGrace00",
        Renewed => "Renewed00",
        Rotated => "Rotated00",
        Successor => "Successor",
        Limited => "Limited00",
        UsedUp => "UsedUp000",
        Network => "Network00",
        OtherAccount => "GlobexKey",
        Suspended => "Suspended",
        /// No server has this key.
        Unknown => "Unknown00",
    }
}

impl DevelopmentKey {
    /// Returns the full key.
    pub fn text(self) -> String {
        let mut text = format!("{}_{}", PrefixLabel::DEFAULT.as_str(), self.as_str());
        text.extend(SECRET_PART.iter().map(|it| char::from(*it)));
        let mut checksum = [0; PlaintextKey::CHECKSUM_LEN];
        base62::write_number(u128::from(crc32fast::hash(text.as_bytes())), &mut checksum);
        text.extend(checksum.map(char::from));
        text
    }
}

/// Returns whether this is a key of development mode, under any prefix. A random key is one by chance
/// only once in 2^190.
pub fn is_development_key(key: &PlaintextKey) -> bool {
    key.expose().as_bytes().get(KeyPrefix::LEN..).is_some_and(|it| it.starts_with(SECRET_PART))
}

/// Returns whether this is the digest of one of the [`DevelopmentKey`]s.
pub fn is_development_digest(digest: &ImportedDigest) -> bool {
    let of = |it: DevelopmentKey| ImportedDigest::of_text(it.text().as_bytes(), digest.form());
    DevelopmentKey::ALL.into_iter().any(|it| of(it).bytes() == digest.bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{domain::imported_key::ImportForm, env::SeededEntropy};

    fn parsed(text: &str) -> PlaintextKey {
        PlaintextKey::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn the_root_key_never_changes() {
        let root = DevelopmentKey::Root.text();
        assert_eq!(root, "rg_RootOfDevThisIsADevelopmentKeyAndNoSecret1cwDIH");
    }

    #[test]
    fn every_key_has_the_shape_of_a_key_and_is_recognised() {
        for key in DevelopmentKey::ALL {
            let text = key.text();
            assert!(is_development_key(&parsed(&text)), "{text}");
            for form in ImportForm::ALL {
                let digest = ImportedDigest::of_text(text.as_bytes(), form);
                assert!(is_development_digest(&digest), "{text}");
            }
        }
        let mut prefixes = DevelopmentKey::ALL.map(|it| parsed(&it.text()).prefix());
        prefixes.sort();
        assert!(prefixes.windows(2).all(|it| it[0] != it[1]));
    }

    #[test]
    fn another_label_hides_no_development_key_and_random_keys_are_none() {
        let body = "shop_RootOfDThisIsADevelopmentKeyAndNoSecret";
        let mut checksum = [0; 6];
        base62::write_number(u128::from(crc32fast::hash(body.as_bytes())), &mut checksum);
        let text = format!("{body}{}", std::str::from_utf8(&checksum).unwrap());
        assert!(is_development_key(&parsed(&text)));
        let random = PlaintextKey::generate(PrefixLabel::DEFAULT, &SeededEntropy::new(7));
        assert!(!is_development_key(&random));
        let digest = ImportedDigest::of_text(random.expose().as_bytes(), ImportForm::Sha256);
        assert!(!is_development_digest(&digest));
    }
}
