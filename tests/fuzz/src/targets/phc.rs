//! Stored hashes as PHC strings.

use keyward::domain::key_hash::KeyHash;

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
    assert!(KeyHash::decode(&hash.encode()) == Some(hash));
}
