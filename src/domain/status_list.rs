//! A status list: a bit for each place, which says whether the tokens with this place are refused
//! (Token Status List, draft-ietf-oauth-status-list, section 4).

use base64ct::{Base64UrlUnpadded, Encoding};

/// The places of the shortest list. It is longer than the places that are given, so that a gateway
/// with a list of before accepts the first token of a credential. Compressed, zeros cost nearly nothing.
const LEAST_PLACES: usize = 131_072;
/// The highest level of compression that the format has; the draft recommends it.
const LEVEL: u8 = 9;

/// A status list of one bit for each place.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct StatusBits(Vec<u8>);

impl StatusBits {
    /// Builds a list in which no token is refused, with at least twice as many places as `given`. Its
    /// length is a power of two, so that it says little about their number.
    pub fn for_places(given: usize) -> Self {
        let places = given.saturating_mul(2).next_power_of_two().max(LEAST_PLACES);
        Self(vec![0; places / 8])
    }

    /// Refuses the tokens with this place. Beyond the end of the list, they are refused anyway.
    pub fn refuse(&mut self, place: u32) {
        // Bits count from the least significant one of each byte.
        if let Some(byte) = self.0.get_mut(place as usize / 8) {
            *byte |= 1 << (place % 8);
        }
    }

    /// Returns the list as `lst`: compressed with zlib, in base64url.
    pub fn encode(&self) -> String {
        Base64UrlUnpadded::encode_string(&miniz_oxide::deflate::compress_to_vec_zlib(
            &self.0, LEVEL,
        ))
    }
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng, rngs::StdRng};

    use super::*;

    fn decoded(text: &str) -> Vec<u8> {
        let zlib = Base64UrlUnpadded::decode_vec(text).unwrap();
        miniz_oxide::inflate::decompress_to_vec_zlib(&zlib).unwrap()
    }

    #[test]
    fn bits_are_where_the_draft_has_them() {
        // The example of section 4.1 of the draft, and its encoding in section 4.2.
        let mut list = StatusBits(vec![0; 2]);
        for place in [0, 3, 4, 5, 7, 8, 9, 13, 15] {
            list.refuse(place);
        }
        assert_eq!(list.0, [0xB9, 0xA3]);
        assert_eq!(decoded("eNrbuRgAAhcBXQ"), list.0);
        assert_eq!(decoded(&list.encode()), list.0);
    }

    #[test]
    fn a_list_is_longer_than_its_places_and_zeros_cost_nothing() {
        let list = StatusBits::for_places(0);
        assert_eq!(list.0.len(), 16 * 1024);
        assert!(list.encode().len() < 100, "{}", list.encode());
        assert_eq!(StatusBits::for_places(65_536).0.len(), 16 * 1024);
        assert_eq!(StatusBits::for_places(65_537).0.len(), 32 * 1024);
        let mut million = StatusBits::for_places(1_000_000);
        assert_eq!(million.0.len(), 256 * 1024);
        assert!(million.encode().len() < 500);
        // The worst case, half of them refused at random, cannot be compressed.
        let mut random = StdRng::seed_from_u64(1);
        for (share, most) in [(1_000, 5_000), (2, 180_000)] {
            (0..1_000_000)
                .filter(|_| random.random_ratio(1, share))
                .for_each(|it| million.refuse(it));
            let len = million.encode().len();
            assert!((most / 2..most).contains(&len), "{len} bytes");
        }
        let mut list = StatusBits::for_places(1);
        list.refuse(131_071);
        list.refuse(131_072);
        assert_eq!(list.0.last(), Some(&0x80));
    }
}
