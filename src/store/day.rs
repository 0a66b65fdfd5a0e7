//! A day, by which uses are counted.

use crate::env::Timestamp;

/// A day in UTC, counted from 1970-01-01.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Day(pub(super) i64);

impl Day {
    const MILLIS: i64 = 24 * 60 * 60 * 1000;

    pub fn of(at: Timestamp) -> Self {
        Self(at.as_millis().div_euclid(Self::MILLIS))
    }

    /// Returns the day that is `days` earlier.
    #[must_use]
    pub fn before(self, days: u32) -> Self {
        Self(self.0 - i64::from(days))
    }

    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// Returns the first instant of the day.
    pub fn start(self) -> Timestamp {
        Timestamp::from_millis(self.0.saturating_mul(Self::MILLIS))
    }

    /// Returns the last 16 bits of its number.
    pub(super) fn low_bits(self) -> u16 {
        u16::try_from(self.0.rem_euclid(1 << 16)).unwrap_or_default()
    }

    /// Returns the day with these last bits that is nearest to this one.
    pub(super) fn near_low_bits(self, bits: u16) -> Self {
        Self(self.0 + i64::from(bits.wrapping_sub(self.low_bits()).cast_signed()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_begins_at_midnight_utc() {
        let day = Day::of(Timestamp::from_millis(86_400_000));
        assert_eq!(day, Day(1));
        assert_eq!(Day::of(Timestamp::from_millis(86_399_999)), Day(0));
        assert_eq!(Day::of(Timestamp::from_millis(-1)), Day(-1));
        assert_eq!(day.next().start().to_string(), "1970-01-03T00:00:00.000Z");
        assert_eq!(day.before(1), Day(0));
    }

    #[test]
    fn a_day_is_found_again_by_its_last_bits() {
        for n in [0, 1, 20_000, 32_768, 65_535, 65_536, 2_900_000] {
            for away in [-32_768, -1, 0, 1, 32_767] {
                assert_eq!(Day(n).near_low_bits(Day(n + away).low_bits()), Day(n + away));
            }
        }
    }
}
