//! Plaintext keys, identifiers, imported keys and their digests.

use keyward::domain::{
    id::{AccountId, KeyId},
    imported_key::{ImportForm, ImportedKey, PrefixMaker, decoded},
    plaintext_key::{KeyPrefix, PlaintextKey, PrefixLabel},
};

use super::KEY;

pub const TOKENS: &[&str] =
    &[KEY, "rg_", "k2x_", "key_", "acct_", "key_01KYq8Zt3mV5xW7aBcDeFg", "zz", "=", "+/"];

const DIGITS: &[u8] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

pub fn run(input: &[u8]) {
    plaintext(input);
    // Chance finds no checksum, so the target appends it.
    let body = &input[..input.len().min(44)];
    let whole = [body, &checksum(body)].concat();
    assert_eq!(PlaintextKey::parse(&whole).is_ok(), has_shape(body), "{body:?}");
    plaintext(&whole);
    imported(input);
    if let Ok(text) = std::str::from_utf8(input) {
        identifiers(text);
        digest::<32>(text);
        digest::<64>(text);
    }
}

fn plaintext(text: &[u8]) {
    let Ok(key) = PlaintextKey::parse(text) else { return };
    assert_eq!(key.expose().as_bytes(), text, "what is parsed is printed");
    let prefix = key.prefix();
    assert!(text.starts_with(prefix.as_str().as_bytes()));
    assert_eq!(KeyPrefix::from_stored(prefix.as_str()), Some(prefix));
    assert!(prefix.label().is_some() && ImportForm::of(prefix).is_none());
    assert!(!format!("{key:?}").contains(&key.expose()[12..]), "debug output hides the secret");
    for at in 0..text.len() {
        let mut changed = text.to_vec();
        changed[at] ^= 1;
        assert!(PlaintextKey::parse(&changed).is_err(), "a changed character is noticed");
    }
}

fn imported(text: &[u8]) {
    let key = ImportedKey::parse(text);
    let fits = (1..=512).contains(&text.len()) && text.iter().all(|it| (0x21..=0x7e).contains(it));
    assert_eq!(key.is_ok(), fits);
    let Ok(key) = key else { return };
    assert_eq!(key.expose(), text);
    for form in ImportForm::ALL {
        let prefix = PrefixMaker::new([7; 32].into()).prefix_for(form, &key);
        assert_eq!(ImportForm::of(prefix), Some(form));
        assert!(prefix.label().is_none(), "no label of our own keys");
        assert_eq!(KeyPrefix::from_stored(prefix.as_str()), Some(prefix));
    }
}

fn identifiers(text: &str) {
    let (key, account) = (KeyId::parse(text), AccountId::parse(text));
    assert!(key.is_err() || account.is_err());
    if let Ok(id) = key {
        assert_eq!(id.to_string(), text);
    }
    if let Ok(id) = account {
        assert_eq!(id.to_string(), text);
    }
    if let Ok(label) = PrefixLabel::parse(text) {
        assert_eq!(label.as_str(), text);
    }
}

fn digest<const N: usize>(text: &str) {
    let Some(bytes) = decoded::<N>(text) else { return };
    let hex: String = bytes.iter().map(|it| format!("{it:02x}")).collect();
    assert_eq!(decoded(&hex), Some(bytes));
    assert_eq!(decoded(&hex.to_uppercase()), Some(bytes));
    let text = text.trim();
    assert!(text.eq_ignore_ascii_case(&hex) || text.len() == N.div_ceil(3) * 4, "{text}");
}

/// Whether a text has the form of a key before its checksum, told without the code of keyward.
fn has_shape(body: &[u8]) -> bool {
    let mut parts = body.splitn(2, |it| *it == b'_');
    let (label, digits) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    body.len() == 44
        && (1..=4).contains(&label.len())
        && label[0].is_ascii_lowercase()
        && label.iter().all(|it| it.is_ascii_lowercase() || it.is_ascii_digit())
        && digits.iter().all(u8::is_ascii_alphanumeric)
}

/// Returns the CRC-32 in base 62, bit by bit.
fn checksum(body: &[u8]) -> [u8; 6] {
    let mut sum = u32::MAX;
    for byte in body {
        sum ^= u32::from(*byte);
        for _ in 0..8 {
            sum = (sum >> 1) ^ if sum & 1 == 1 { 0xedb8_8320 } else { 0 };
        }
    }
    let (mut sum, mut digits) = (!sum, [0; 6]);
    for digit in digits.iter_mut().rev() {
        *digit = DIGITS[(sum % 62) as usize];
        sum /= 62;
    }
    digits
}
