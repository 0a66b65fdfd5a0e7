//! Stored hashes as PHC strings.

use std::sync::LazyLock;

use keyward::{
    domain::{imported_key::ImportedKey, key_hash::KeyHash},
    env::SeededEntropy,
};

static IMPORTED: LazyLock<ImportedKey> = LazyLock::new(|| {
    ImportedKey::parse(b"old_key_of_another_system").unwrap_or_else(|_| panic!("no key"))
});

/// A hash of [`IMPORTED`].
static HASH: LazyLock<KeyHash> =
    LazyLock::new(|| KeyHash::of_imported(&IMPORTED, 1_000, &SeededEntropy::new(7)));

pub const TOKENS: &[&str] = &[
    "$pbkdf2-sha256$i=1000,l=32$AAECAwQFBgcICQoLDA0ODw$bR6wcjU7WaWMljOSmfEBa3+YLPEd8ciRf+3JCVxsX14",
    "$v=1",
    "i=1000",
    "l=32",
    ",in=sha256",
    ",in=sha512",
    ",x=1",
    "$",
    "i=2000001",
];

pub fn run(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let Some(hash) = KeyHash::decode(text) else { return };
    assert_eq!(hash.encode(), text, "what is read is printed");
    assert!((1_000..=2_000_000).contains(&hash.iterations()));
    // A thousand iterations and no more, because each of them takes time.
    if hash.iterations() == HASH.iterations() {
        assert!(!hash.matches_imported(&IMPORTED), "the hash of another text or with another salt");
    }
    one_byte_decides(input.first().copied().unwrap_or(0).into());
    assert!(KeyHash::decode(&hash.encode()) == Some(hash));
}

/// A stored hash verifies its key, and verifies it no more after a change of one byte.
fn one_byte_decides(at: usize) {
    let text = HASH.encode();
    let hash = KeyHash::decode(&text).expect("what is printed is read");
    assert!(hash.matches_imported(&IMPORTED), "a stored hash verifies its key");
    let start = text.find("l=32$").expect("the salt") + 5;
    let at = start + at % (text.len() - start);
    let mut bytes = text.clone().into_bytes();
    bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
    let changed = String::from_utf8(bytes).expect("ASCII");
    let read = KeyHash::decode(&changed);
    assert!(!read.is_some_and(|it| it.matches_imported(&IMPORTED)), "{changed}");
}
