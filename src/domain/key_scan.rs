//! Finds full keys in any bytes, by their shape and checksum.

use crate::domain::{
    development_key::is_development_key,
    plaintext_key::{KeyPrefix, PlaintextKey, PrefixLabel},
};

/// Returns the keys in `bytes` that begin with one of the labels, each with its position.
///
/// The keys of development mode are public and so are not found. Text may stand directly before and after a key: chance makes a wrong checksum right only once in
/// four thousand million times.
pub fn keys_in<'a>(
    bytes: &'a [u8],
    labels: &'a [PrefixLabel],
) -> impl Iterator<Item = (usize, KeyPrefix)> + 'a {
    let underscores = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'_');
    underscores.flat_map(move |(underscore, _)| {
        labels.iter().filter_map(move |label| key_at(bytes, underscore, *label))
    })
}

fn key_at(bytes: &[u8], underscore: usize, label: PrefixLabel) -> Option<(usize, KeyPrefix)> {
    let start = underscore.checked_sub(label.as_str().len())?;
    let text = bytes.get(start..start + PlaintextKey::LEN)?;
    if !text.starts_with(label.as_str().as_bytes()) {
        return None;
    }
    let key = PlaintextKey::parse(text).ok().filter(|it| !is_development_key(it))?;
    Some((start, key.prefix()))
}

#[cfg(test)]
#[expect(clippy::string_slice, reason = "keys are ASCII")]
mod tests {
    use super::*;
    use crate::{domain::development_key::DevelopmentKey, env::SeededEntropy};

    fn label(text: &str) -> PrefixLabel {
        PrefixLabel::parse(text).unwrap()
    }

    fn found(text: &[u8], labels: &[PrefixLabel]) -> Vec<(usize, String)> {
        keys_in(text, labels).map(|(at, it)| (at, it.as_str().to_owned())).collect()
    }

    #[test]
    fn keys_of_the_labels_are_found_wherever_they_stand() {
        let entropy = SeededEntropy::new(7);
        let [own, other] =
            ["rg", "k2x"].map(|it| PlaintextKey::generate(label(it), &entropy).expose().to_owned());
        let both = [label("rg"), label("k2x")];
        let text = format!("\u{e4}\0{own}{other}_{own}9");
        let (first, second) = (own[..12].to_owned(), other[..12].to_owned());
        let expected = [(3, first.clone()), (53, second.clone()), (104, first.clone())];
        assert_eq!(found(text.as_bytes(), &both), expected);
        assert_eq!(found(text.as_bytes(), &both[1..]), [(53, second)]);
        assert_eq!(found(text.as_bytes(), &[label("g")]), []);
        assert_eq!(found(format!("a{own}").as_bytes(), &both), [(1, first)]);
    }

    #[test]
    fn a_public_key_and_a_text_with_a_wrong_checksum_or_a_missing_character_are_not_found() {
        let key = PlaintextKey::generate(label("rg"), &SeededEntropy::new(7)).expose().to_owned();
        let labels = [label("rg")];
        assert_eq!(found(&key.as_bytes()[..49], &labels), []);
        let mut wrong = key.into_bytes();
        let last = wrong.last_mut().unwrap();
        *last = if *last == b'0' { b'1' } else { b'0' };
        assert_eq!(found(&wrong, &labels), []);
        let public = DevelopmentKey::Root.text();
        assert_eq!(found(public.as_bytes(), &labels), []);
        for short in ["_", "g_", "rg_"] {
            assert_eq!(found(short.as_bytes(), &labels), []);
        }
    }
}
