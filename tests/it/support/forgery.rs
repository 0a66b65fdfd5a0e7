//! Well-formed keys that were never issued. This repeats the rules of the program independently.

const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Returns the six characters that end a key: the CRC-32 (IEEE 802.3) of all characters before
/// them, in base62.
pub fn checksum(body: &str) -> String {
    let mut crc = u32::MAX;
    for byte in body.bytes() {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0xEDB8_8320 } else { crc >> 1 };
        }
    }
    let mut rest = !crc;
    let mut digits = ['0'; 6];
    for digit in digits.iter_mut().rev() {
        *digit = char::from(DIGITS[(rest % 62) as usize]);
        rest /= 62;
    }
    digits.iter().collect()
}

/// Returns a well-formed key with this beginning that was never issued. Its checksum is correct.
pub fn forged(beginning: &str) -> String {
    let body = format!("{beginning:0<44}");
    let checksum = checksum(&body);
    body + &checksum
}
