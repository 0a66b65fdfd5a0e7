//! Base62, with the digits `0-9A-Za-z`: random text for secrets, and numbers.

use crate::env::Entropy;

pub(super) const DIGITS: &[u8; 62] =
    b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Fills `out` with digits, each of the 62 equally likely.
pub(super) fn fill_random(entropy: &dyn Entropy, out: &mut [u8]) {
    // 248 is the largest multiple of 62 that a byte can hold; the rest would favour low digits.
    const FAIR: u8 = 248;
    let mut pool = zeroize::Zeroizing::new([0; 64]);
    let mut filled = 0;
    while filled < out.len() {
        entropy.fill(&mut *pool);
        for byte in pool.iter().filter(|it| **it < FAIR) {
            if let Some(slot) = out.get_mut(filled) {
                *slot = DIGITS[usize::from(byte % 62)];
                filled += 1;
            }
        }
    }
}

/// Writes `value` into all of `out`, most significant digit first, padded with `0`.
///
/// `out` must be long enough for the value; digits beyond it would be lost.
pub(super) fn write_number(mut value: u128, out: &mut [u8]) {
    // Ten digits at a time fit into 64 bits, where dividing is cheap.
    const CHUNK: usize = 10;
    const CHUNK_SIZE: u128 = 62_u128.pow(10);
    for chunk in out.rchunks_mut(CHUNK) {
        let mut part = u64::try_from(value % CHUNK_SIZE).unwrap_or_default();
        value /= CHUNK_SIZE;
        for slot in chunk.iter_mut().rev() {
            *slot = DIGITS[usize::try_from(part % 62).unwrap_or_default()];
            part /= 62;
        }
        debug_assert_eq!(part, 0, "the number does not fit");
    }
    debug_assert_eq!(value, 0, "the number does not fit");
}

/// Reads the output of [`write_number`]. Returns `None` for other characters and beyond 128 bits.
pub(super) fn read_number(digits: &[u8]) -> Option<u128> {
    digits.iter().try_fold(0_u128, |sum, byte| {
        sum.checked_mul(62)?.checked_add(u128::from(digit_value(*byte)?))
    })
}

pub(super) const fn is_digit(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
}

fn digit_value(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'A'..=b'Z' => Some(byte - b'A' + 10),
        b'a'..=b'z' => Some(byte - b'a' + 36),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::SeededEntropy;

    #[test]
    fn numbers_survive_the_round_trip_and_too_large_ones_are_refused() {
        for value in [0, 1, 61, 62, 3_843, u128::from(u32::MAX), u128::MAX] {
            let mut text = [0; 22];
            write_number(value, &mut text);
            assert_eq!(read_number(&text), Some(value));
        }
        assert_eq!(read_number(b"zzzzzzzzzzzzzzzzzzzzzz"), None);
        assert_eq!(read_number(b"a_b"), None);
    }

    #[test]
    fn all_digits_are_about_equally_likely() {
        let entropy = SeededEntropy::new(3);
        let mut text = vec![0; 62_000];
        fill_random(&entropy, &mut text);
        for digit in DIGITS {
            let seen: usize = text.iter().map(|it| usize::from(it == digit)).sum();
            assert!((800..1_200).contains(&seen), "{}: {seen}", char::from(*digit));
        }
    }
}
