//! Tests of checkpoints and their signatures, against the specification.

use super::*;
use crate::env::SeededEntropy;

fn signer() -> CheckpointSigner {
    CheckpointSigner::generate("keyward-test", &SeededEntropy::new(1))
}

fn checkpoint() -> Checkpoint {
    Checkpoint {
        origin: "keyward-test".to_owned(),
        size: 42,
        root: TreeHash([1; 32]),
        head: ChainHash([2; 32]),
        time: Timestamp::from_millis(1_767_225_600_000),
    }
}

#[test]
fn a_key_of_the_specification_has_the_identifier_that_it_gives() {
    // The example of https://c2sp.org/signed-note.
    let text = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
    let key = CheckpointKey::parse(text).unwrap();
    assert_eq!((key.name(), key.to_string().as_str()), ("PeterNeumann", text));
}

#[test]
fn a_signature_of_another_implementation_is_accepted_and_no_other() {
    // The note of the same page: not a checkpoint, so its text is refused only after its signature.
    let key = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
    let key = CheckpointKey::parse(key).unwrap();
    let note = "If you think cryptography is the answer to your problem,\n\
        then you don't know what your problem is.\n\n\
        \u{2014} PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";
    assert_eq!(key.open(note), Err(CheckpointError::Form));
    assert_eq!(key.open(&note.replace("answer", "anwser")), Err(CheckpointError::Forged));
}

#[test]
fn keys_survive_their_text() {
    let signer = signer();
    let again = CheckpointSigner::parse(&signer.expose()).unwrap();
    assert_eq!(again.public(), signer.public());
    assert_eq!(CheckpointKey::parse(&signer.public().to_string()).unwrap(), *signer.public());
    assert!(!format!("{signer:?}").contains(signer.expose().rsplit('+').next().unwrap()));
    for wrong in ["", "a", "a+b", "a+00000000+", &signer.public().to_string()] {
        assert!(CheckpointSigner::parse(wrong).is_err(), "{wrong}");
    }
    for wrong in ["", "a+00000000+AQ==", &signer.expose()] {
        assert!(CheckpointKey::parse(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn a_checkpoint_comes_back_as_it_was_signed() {
    let note = signer().sign(&checkpoint());
    assert_eq!(signer().public().open(&note), Ok(checkpoint()));
    assert_eq!(Checkpoint::unverified(&note), Ok(checkpoint()));
}

#[test]
fn whatever_is_changed_in_a_note_is_noticed() {
    let (signer, note) = (signer(), signer().sign(&checkpoint()));
    for (i, old) in note.char_indices() {
        let new = if old == 'A' { 'B' } else { 'A' };
        let mut changed = note.clone();
        changed.replace_range(i..i + old.len_utf8(), new.encode_utf8(&mut [0; 4]));
        assert!(signer.public().open(&changed).is_err(), "{changed}");
    }
    let other = CheckpointSigner::generate("keyward-test", &SeededEntropy::new(2));
    assert_eq!(other.public().open(&note), Err(CheckpointError::Unsigned));
    // What another wrote under it does no harm.
    let line = other.sign(&checkpoint());
    let line = line.lines().last().unwrap();
    assert_eq!(signer.public().open(&format!("{note}{line}\n")), Ok(checkpoint()));
    assert_eq!(other.public().open(&format!("{note}{line}\n")), Ok(checkpoint()));
}

#[test]
fn a_name_is_neither_empty_nor_holds_a_blank() {
    for name in ["", "a b", "a\tb", "a\u{a0}b", "a\0b"] {
        let signer = CheckpointSigner::generate(name, &SeededEntropy::new(1));
        assert!(CheckpointSigner::parse(&signer.expose()).is_err(), "{name:?}");
        assert!(CheckpointKey::parse(&signer.public().to_string()).is_err(), "{name:?}");
    }
}
