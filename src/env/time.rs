//! Instants, and the two clocks of a machine.
//!
//! `timekeeper` decides which clock to believe when they disagree.

use std::{
    fmt::{self, Write as _},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use chrono::{DateTime, Datelike, SecondsFormat, Timelike};

/// An instant in UTC, to the millisecond. keyward stores, compares and prints only these.
///
/// It is always within the years 0000 to 9999, so it always has an RFC 3339 form. All forms have the
/// same length and sort as the instants do.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Timestamp(i64);

/// Milliseconds on a clock that never steps, counted from an origin that each process chooses.
///
/// It means nothing in another process, so it is never stored.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Monotonic(i64);

/// Why a text is not a [`Timestamp`].
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum InvalidTimestamp {
    #[error("a timestamp looks like `2030-01-31T12:00:00Z`, with an offset and with seconds")]
    Syntax,
    #[error("the calendar has no such date")]
    NoSuchDate,
    #[error("a timestamp must lie within the years 0000 to 9999 in UTC")]
    OutOfRange,
}

/// The two clocks of a machine.
pub trait Clock: Send + Sync {
    /// Returns the time of the wall clock. It may be wrong, and may step either way.
    fn wall(&self) -> Timestamp;

    /// Returns the time of the monotonic clock. It says nothing about the date, and never steps.
    fn monotonic(&self) -> Monotonic;
}

/// The clocks of this machine.
#[derive(Debug)]
pub struct SystemClock {
    origin: Instant,
}

/// Clocks for tests. They move only on demand, together or apart.
pub struct ManualClock(Mutex<Hands>);

impl Timestamp {
    /// 0000-01-01T00:00:00.000Z.
    pub const MIN: Self = Self(-62_167_219_200_000);
    /// 9999-12-31T23:59:59.999Z.
    pub const MAX: Self = Self(253_402_300_799_999);

    /// Returns the instant `millis` after the beginning of 1970, or the nearest that is in range.
    pub const fn from_millis(millis: i64) -> Self {
        if millis < Self::MIN.0 {
            Self::MIN
        } else if Self::MAX.0 < millis {
            Self::MAX
        } else {
            Self(millis)
        }
    }

    /// Returns the milliseconds since the beginning of 1970.
    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// Returns the instant that is `by` later, at most [`Timestamp::MAX`].
    #[must_use]
    pub fn after(self, by: Duration) -> Self {
        Self::from_millis(self.0.saturating_add(whole_millis(by)))
    }

    /// Returns the instant that is `by` earlier, at least [`Timestamp::MIN`].
    #[must_use]
    pub fn before(self, by: Duration) -> Self {
        Self::from_millis(self.0.saturating_sub(whole_millis(by)))
    }

    /// Returns the time from `earlier` to this instant; zero if this is not later.
    pub fn since(self, earlier: Self) -> Duration {
        span(earlier.0, self.0)
    }

    /// Appends the RFC 3339 form. Unlike `Display`, this allocates no text of its own.
    pub fn push_to(self, text: &mut String) {
        let Some(it) = DateTime::from_timestamp_millis(self.0) else { return };
        let (year, month, day) = (it.year(), it.month(), it.day());
        let (hour, minute, second) = (it.hour(), it.minute(), it.second());
        let millis = it.timestamp_subsec_millis();
        // Writing to a text cannot fail.
        let _ = write!(
            text,
            "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z"
        );
    }

    /// Parses an RFC 3339 timestamp strictly, and cuts it to milliseconds.
    ///
    /// Refuses a leap second, because no [`Timestamp`] is that second. Also refuses a space in place
    /// of the `T`, which the standard leaves to applications.
    pub fn parse(text: &str) -> Result<Self, InvalidTimestamp> {
        // Checked first, because chrono is more lenient than the standard, in ways that may change
        // with its version.
        if !has_rfc3339_form(text.as_bytes()) {
            return Err(InvalidTimestamp::Syntax);
        }
        // Every field but the date is in range here.
        let instant =
            DateTime::parse_from_rfc3339(text).map_err(|_| InvalidTimestamp::NoSuchDate)?;
        let millis = instant.timestamp_millis();
        if (Self::MIN.0..=Self::MAX.0).contains(&millis) {
            Ok(Self(millis))
        } else {
            Err(InvalidTimestamp::OutOfRange)
        }
    }
}

/// RFC 3339 in UTC, always with milliseconds: `2030-01-31T12:00:00.000Z`.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match DateTime::from_timestamp_millis(self.0) {
            Some(it) => f.pad(&it.to_rfc3339_opts(SecondsFormat::Millis, true)),
            // Unreachable: the calendar of chrono covers more than a `Timestamp`.
            None => write!(f, "{}ms", self.0),
        }
    }
}

impl Monotonic {
    /// Returns the moment `millis` after the origin.
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// Returns the milliseconds since the origin.
    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// Returns the moment that is `by` later; saturates at the last one.
    #[must_use]
    pub fn after(self, by: Duration) -> Self {
        Self(self.0.saturating_add(whole_millis(by)))
    }

    /// Returns the time from `earlier` to this instant; zero if this is not later.
    pub fn since(self, earlier: Self) -> Duration {
        span(earlier.0, self.0)
    }
}

impl SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the clocks")]
    #[expect(clippy::new_without_default, reason = "each clock has its own origin")]
    pub fn new() -> Self {
        Self { origin: Instant::now() }
    }
}

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the clocks")]
    fn wall(&self) -> Timestamp {
        Timestamp::from_millis(chrono::Utc::now().timestamp_millis())
    }

    fn monotonic(&self) -> Monotonic {
        Monotonic(whole_millis(self.origin.elapsed()))
    }
}

impl ManualClock {
    /// Returns clocks that stand still, the wall clock at `wall` and the monotonic clock at its origin.
    pub fn at(wall: Timestamp) -> Self {
        Self(Mutex::new(Hands { wall, monotonic: Monotonic(0) }))
    }

    /// Lets time pass: both clocks move, and no reader sees only one of them moved.
    pub fn advance(&self, by: Duration) {
        let mut hands = self.hands();
        hands.wall = hands.wall.after(by);
        hands.monotonic = hands.monotonic.after(by);
    }

    /// Moves only the wall clock; back if `millis` is negative.
    pub fn step_wall(&self, millis: i64) {
        let mut hands = self.hands();
        hands.wall = Timestamp::from_millis(hands.wall.0.saturating_add(millis));
    }

    /// Sets only the wall clock.
    pub fn set_wall(&self, wall: Timestamp) {
        self.hands().wall = wall;
    }

    fn hands(&self) -> MutexGuard<'_, Hands> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clock for ManualClock {
    fn wall(&self) -> Timestamp {
        self.hands().wall
    }

    fn monotonic(&self) -> Monotonic {
        self.hands().monotonic
    }
}

struct Hands {
    wall: Timestamp,
    monotonic: Monotonic,
}

fn whole_millis(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}

fn span(from: i64, to: i64) -> Duration {
    Duration::from_millis(u64::try_from(to.saturating_sub(from)).unwrap_or(0))
}

/// Returns whether `text` has the form of RFC 3339, with each field of the time and offset in range.
fn has_rfc3339_form(text: &[u8]) -> bool {
    let Some((date_time, rest)) = text.split_at_checked("YYYY-MM-DDTHH:MM:SS".len()) else {
        return false;
    };
    let &[_, _, _, _, b'-', _, _, b'-', _, _, b'T' | b't', h1, h2, b':', m1, m2, b':', s1, s2] =
        date_time
    else {
        return false;
    };
    let digits_where_due = date_time
        .iter()
        .enumerate()
        .all(|(at, byte)| matches!(at, 4 | 7 | 10 | 13 | 16) || byte.is_ascii_digit());
    digits_where_due
        && [h1, h2] <= *b"23"
        && [m1, m2] <= *b"59"
        && [s1, s2] <= *b"59"
        && without_fraction(rest).is_some_and(is_offset)
}

/// Returns what follows the fraction, if any; `None` if there is a point without a digit.
fn without_fraction(text: &[u8]) -> Option<&[u8]> {
    let Some(fraction) = text.strip_prefix(b".") else {
        return Some(text);
    };
    let digits = fraction.iter().take_while(|it| it.is_ascii_digit()).count();
    if digits == 0 { None } else { fraction.get(digits..) }
}

fn is_offset(text: &[u8]) -> bool {
    match *text {
        [b'Z' | b'z'] => true,
        [b'+' | b'-', h1, h2, b':', m1, m2] => {
            [h1, h2, m1, m2].iter().all(u8::is_ascii_digit)
                && [h1, h2] <= *b"23"
                && [m1, m2] <= *b"59"
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timestamp_is_read_to_the_millisecond_and_printed_in_one_form() {
        let cases = [
            ("2025-02-28T12:34:56Z", "2025-02-28T12:34:56.000Z"),
            ("2025-02-28t12:34:56z", "2025-02-28T12:34:56.000Z"),
            ("2024-02-29T00:00:00Z", "2024-02-29T00:00:00.000Z"),
            ("2025-02-28T12:34:56+02:00", "2025-02-28T10:34:56.000Z"),
            ("2025-02-28T23:34:56-01:30", "2025-03-01T01:04:56.000Z"),
            ("2025-02-28T12:34:56+23:59", "2025-02-27T12:35:56.000Z"),
            ("2025-02-28T12:34:56+00:00", "2025-02-28T12:34:56.000Z"),
            ("2025-02-28T12:34:56-00:00", "2025-02-28T12:34:56.000Z"),
            ("2025-02-28T12:34:56.7Z", "2025-02-28T12:34:56.700Z"),
            ("2025-02-28T12:34:56.7894Z", "2025-02-28T12:34:56.789Z"),
            ("2025-02-28T12:34:56.7899999999Z", "2025-02-28T12:34:56.789Z"),
            ("2025-02-28T12:34:56.99999999999999999999Z", "2025-02-28T12:34:56.999Z"),
            ("2025-02-28T12:34:56.00000000000000000001+01:00", "2025-02-28T11:34:56.000Z"),
            ("1969-12-31T23:59:59.9999Z", "1969-12-31T23:59:59.999Z"),
            ("0000-01-01T00:00:00Z", "0000-01-01T00:00:00.000Z"),
            ("9999-12-31T23:59:59Z", "9999-12-31T23:59:59.000Z"),
            ("9999-12-31T23:59:59.9999Z", "9999-12-31T23:59:59.999Z"),
        ];
        for (text, printed) in cases {
            let read = Timestamp::parse(text).unwrap_or_else(|err| panic!("{text}: {err}"));
            assert_eq!(read.to_string(), printed, "{text}");
            let mut pushed = "=".to_owned();
            read.push_to(&mut pushed);
            assert_eq!(pushed, format!("={printed}"));
            assert_eq!(Timestamp::parse(printed), Ok(read), "{printed}");
        }
    }

    #[test]
    fn what_is_not_a_timestamp_is_refused_for_its_reason() {
        use InvalidTimestamp::{NoSuchDate, OutOfRange, Syntax};
        let cases = [
            ("", Syntax),
            ("Z", Syntax),
            ("2025-02-28", Syntax),
            ("12:34:56Z", Syntax),
            ("2025-02-28T12:34Z", Syntax),
            ("2025-02-28T12:34:56", Syntax),
            ("2025-02-28 12:34:56Z", Syntax),
            ("2025-02-28_12:34:56Z", Syntax),
            (" 2025-02-28T12:34:56Z", Syntax),
            ("2025-02-28T12:34:56Z ", Syntax),
            ("2025-02-28T12:34:56Z\n", Syntax),
            ("2025-02-28T12:34:56 Z", Syntax),
            ("2025-02-28T12:34:56UTC", Syntax),
            ("2025-02-28T12:34:56ZZ", Syntax),
            ("2025-02-28T12:34:56.Z", Syntax),
            ("2025-02-28T12:34:56.", Syntax),
            ("2025-02-28T12:34:56,5Z", Syntax),
            ("2025-02-28T12:34:56.5", Syntax),
            ("2025-02-28T12:34:56+24:00", Syntax),
            ("2025-02-28T12:34:56+02:60", Syntax),
            ("2025-02-28T12:34:56+0200", Syntax),
            ("2025-02-28T12:34:56+02", Syntax),
            ("2025-02-28T12:34:56+2:00", Syntax),
            ("2025-02-28T12:34:56+02:0x", Syntax),
            ("2025-02-28T12:34:56\u{2212}02:00", Syntax),
            ("2025-02-28T12:34:60Z", Syntax),
            ("2016-12-31T23:59:60Z", Syntax),
            ("2025-02-28T12:60:00Z", Syntax),
            ("2025-02-28T24:00:00Z", Syntax),
            ("2025-02-28T1a:00:00Z", Syntax),
            ("2025-2-28T12:34:56Z", Syntax),
            ("25-02-28T12:34:56Z", Syntax),
            ("10000-01-01T00:00:00Z", Syntax),
            ("+2025-02-28T12:34:56Z", Syntax),
            ("-2025-02-28T12:34:56Z", Syntax),
            ("+025-02-28T12:34:56Z", Syntax),
            ("-025-02-28T12:34:56Z", Syntax),
            ("\u{0662}025-02-28T12:34:56Z", Syntax),
            ("\u{ff12}\u{ff10}\u{ff12}\u{ff15}-02-28T12:34:56Z", Syntax),
            ("2025-02-28T12:34:5\u{0666}Z", Syntax),
            ("2025-02-28T12:34:56.\u{0665}Z", Syntax),
            ("2025-02-30T12:34:56Z", NoSuchDate),
            ("2025-02-29T12:34:56Z", NoSuchDate),
            ("1900-02-29T12:34:56Z", NoSuchDate),
            ("2025-04-31T12:34:56Z", NoSuchDate),
            ("2025-13-01T12:34:56Z", NoSuchDate),
            ("2025-00-01T12:34:56Z", NoSuchDate),
            ("2025-01-00T12:34:56Z", NoSuchDate),
            ("9999-12-31T23:59:59-00:01", OutOfRange),
            ("0000-01-01T00:00:00+00:01", OutOfRange),
        ];
        for (text, reason) in cases {
            assert_eq!(Timestamp::parse(text), Err(reason), "{text}");
        }
    }

    #[test]
    fn arithmetic_stops_at_the_ends_of_time() {
        let noon = Timestamp::from_millis(1_000);
        let second = Duration::from_secs(1);
        assert_eq!(noon.after(second).as_millis(), 2_000);
        assert_eq!(noon.before(second).as_millis(), 0);
        assert_eq!(noon.after(second).since(noon), second);
        assert_eq!(noon.since(noon.after(second)), Duration::ZERO);
        assert_eq!(noon.after(Duration::MAX), Timestamp::MAX);
        assert_eq!(noon.before(Duration::MAX), Timestamp::MIN);
        assert_eq!(Timestamp::from_millis(i64::MAX), Timestamp::MAX);
        assert_eq!(Timestamp::from_millis(i64::MIN), Timestamp::MIN);
        assert_eq!(Timestamp::MAX.to_string(), "9999-12-31T23:59:59.999Z");
        assert_eq!(Timestamp::MIN.to_string(), "0000-01-01T00:00:00.000Z");
        assert_eq!(Monotonic::from_millis(1).after(Duration::MAX).as_millis(), i64::MAX);
        assert_eq!(Monotonic::from_millis(1).since(Monotonic::from_millis(2)), Duration::ZERO);
    }

    #[test]
    fn a_manual_clock_moves_its_hands_together_or_the_wall_alone() {
        let clock = ManualClock::at(Timestamp::from_millis(10_000));
        let read = || (clock.wall().as_millis(), clock.monotonic().as_millis());
        clock.advance(Duration::from_millis(5));
        assert_eq!(read(), (10_005, 5));
        clock.step_wall(-1_005);
        assert_eq!(read(), (9_000, 5));
        clock.step_wall(1);
        assert_eq!(read(), (9_001, 5));
        clock.set_wall(Timestamp::from_millis(3));
        assert_eq!(read(), (3, 5));
    }

    #[test]
    fn the_machine_has_a_date_and_its_monotonic_clock_does_not_go_back() {
        let clock = SystemClock::new();
        let (year_2020, first) = (Timestamp::parse("2020-01-01T00:00:00Z"), clock.monotonic());
        assert!(year_2020.unwrap() < clock.wall());
        assert!(first <= clock.monotonic());
    }
}
