//! Signed checkpoints and their keys.

use std::sync::LazyLock;

use keyward::{
    domain::checkpoint::{Checkpoint, CheckpointKey, CheckpointSigner},
    env::SeededEntropy,
};

pub const TOKENS: &[&str] = &[
    "\n\n",
    "\u{2014} keys.example.com ",
    "head ",
    "time 2026-01-20T10:00:00.000Z\n",
    "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n",
    "PRIVATE+KEY+",
    "keys.example.com\n",
    "+",
    "\r\n",
];

static SIGNER: LazyLock<CheckpointSigner> =
    LazyLock::new(|| CheckpointSigner::generate("keys.example.com", &SeededEntropy::new(7)));

pub fn run(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    if let Ok(key) = CheckpointKey::parse(text) {
        assert_eq!(key.to_string(), text.trim_end());
    }
    if let Ok(signer) = CheckpointSigner::parse(text) {
        assert_eq!(*signer.expose(), text.trim_end());
        assert_eq!(
            CheckpointKey::parse(&signer.public().to_string()).as_ref(),
            Ok(signer.public())
        );
    }
    let key = SIGNER.public();
    if let Ok(checkpoint) = key.open(text) {
        let signed = SIGNER.sign(&checkpoint);
        let line = signed.lines().last().expect("a signature");
        assert!(
            text.starts_with(&checkpoint.to_string()) && text.contains(line),
            "not signed: {text}"
        );
        assert_eq!(Checkpoint::unverified(text).as_ref(), Ok(&checkpoint));
    }
    let Ok(mut checkpoint) = Checkpoint::unverified(text) else { return };
    assert!(text.starts_with(&checkpoint.to_string()), "what is read is printed");
    checkpoint.origin = key.name().to_owned();
    let signed = SIGNER.sign(&checkpoint);
    assert_eq!(key.open(&signed).as_ref(), Ok(&checkpoint));
    let forged = signed.replacen(
        &format!("\n{}\n", checkpoint.size),
        &format!("\n{}\n", checkpoint.size ^ 1),
        1,
    );
    assert!(key.open(&forged).is_err(), "a forged size is noticed");
}
