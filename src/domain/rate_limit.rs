//! Rate limits: how much a key or an account may use in a window of time.

use crate::env::Timestamp;

/// At most `limit` in each window of `window_secs` seconds.
///
/// Windows are counted from 1970-01-01 UTC: a window of 3600 seconds starts on the hour, one of 86400
/// at midnight.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct RateLimit {
    limit: u32,
    window_secs: u32,
}

/// What is left of a rate limit at one instant.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct RateState {
    pub rate: RateLimit,
    pub remaining: u32,
    /// When the window ends. Half open: at this instant the next one starts.
    pub resets_at: Timestamp,
}

impl RateLimit {
    /// The highest limit, and the highest cost of one verification.
    pub const MAX_LIMIT: u32 = 1_000_000_000;
    /// The longest window, in seconds: 30 days.
    pub const MAX_WINDOW_SECS: u32 = 30 * 24 * 60 * 60;
    /// The shortest window whose use is announced by events, in seconds: a day.
    const ANNOUNCED_SECS: u32 = 24 * 60 * 60;
    /// The shortest window that a restart does not reset, in seconds: use is stored every 5 seconds.
    const STORED_SECS: u32 = 5;

    /// Returns `None` if a number is 0 or too large.
    pub fn new(limit: u32, window_secs: u32) -> Option<Self> {
        let good = (1..=Self::MAX_LIMIT).contains(&limit)
            && (1..=Self::MAX_WINDOW_SECS).contains(&window_secs);
        good.then_some(Self { limit, window_secs })
    }

    /// Splits `100/60s` into a limit and a window in seconds, without a check of their bounds. The window has
    /// the unit s, m, h or d; a window without a number is one unit.
    pub fn parts(text: &str) -> Option<(u32, u32)> {
        let (limit, window) = text.split_once('/')?;
        let unit = window.chars().next_back()?;
        let number = window.strip_suffix(unit)?;
        let secs: u32 = match unit {
            's' => 1,
            'm' => 60,
            'h' => 60 * 60,
            'd' => 24 * 60 * 60,
            _ => return None,
        };
        let number: u32 = if number.is_empty() { 1 } else { number.parse().ok()? };
        Some((limit.parse().ok()?, number.checked_mul(secs)?))
    }

    pub fn limit(&self) -> &u32 {
        &self.limit
    }

    pub fn window_secs(&self) -> &u32 {
        &self.window_secs
    }

    /// Returns the start of the window at `now`, in seconds since 1970.
    pub fn window_start(self, now: Timestamp) -> u64 {
        let secs = u64::try_from(now.as_millis()).unwrap_or_default() / 1_000;
        secs - secs % u64::from(self.window_secs)
    }

    /// Returns whether the use of a window survives a restart.
    pub fn is_stored(self) -> bool {
        Self::STORED_SECS <= self.window_secs
    }

    /// Returns how much of the limit is used, as far as events announce it: 0, 80 or 100 per cent.
    pub fn announced(self, used: u32) -> u8 {
        if self.window_secs < Self::ANNOUNCED_SECS {
            return 0;
        }
        let (used, limit) = (u64::from(used) * 100, u64::from(self.limit));
        if limit * 100 <= used {
            100
        } else if limit * 80 <= used {
            80
        } else {
            0
        }
    }
}

impl RateState {
    /// Returns the seconds until the window ends, rounded up.
    pub fn secs_left(&self, now: Timestamp) -> u64 {
        u64::try_from(self.resets_at.since(now).as_millis().div_ceil(1_000)).unwrap_or(u64::MAX)
    }
}

/// The rate limits of a verified key, as the verification left them.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Rates {
    pub key: Option<RateState>,
    pub account: Option<RateState>,
    /// The limit that refused the request.
    pub exceeded: Option<Exceeded>,
}

/// Whose limit refused a request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Exceeded {
    Key,
    Account,
}

impl Rates {
    /// Returns the limit that refused the request.
    pub fn exceeded(&self) -> Option<RateState> {
        match self.exceeded? {
            Exceeded::Key => self.key,
            Exceeded::Account => self.account,
        }
    }

    /// Returns the limit that refused the request, or else the one with the least left.
    pub fn tightest(&self) -> Option<RateState> {
        let least = || self.key.into_iter().chain(self.account).min_by_key(|it| it.remaining);
        self.exceeded().or_else(least)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_and_a_window_have_bounds() {
        let (limit, window) = (RateLimit::MAX_LIMIT, RateLimit::MAX_WINDOW_SECS);
        assert!(RateLimit::new(1, 1).is_some() && RateLimit::new(limit, window).is_some());
        for (limit, window) in [(0, 1), (1, 0), (limit + 1, 1), (1, window + 1)] {
            assert_eq!(RateLimit::new(limit, window), None);
        }
    }

    #[test]
    fn a_window_starts_on_the_hour_and_at_midnight() {
        let start = |window, millis| {
            RateLimit::new(1, window).unwrap().window_start(Timestamp::from_millis(millis))
        };
        assert_eq!(start(3_600, 7_199_999), 3_600);
        assert_eq!(start(3_600, 7_200_000), 7_200);
        assert_eq!(start(86_400, 86_399_999), 0);
        assert_eq!(start(86_400, 86_400_000), 86_400);
    }

    #[test]
    fn use_is_announced_at_80_and_at_100_per_cent_of_a_day() {
        let day = RateLimit::new(5, 86_400).unwrap();
        assert_eq!([3, 4, 5, 6].map(|it| day.announced(it)), [0, 80, 100, 100]);
        let huge = RateLimit::new(RateLimit::MAX_LIMIT, 86_400).unwrap();
        assert_eq!(huge.announced(799_999_999), 0);
        assert_eq!(huge.announced(800_000_000), 80);
        assert_eq!(RateLimit::new(5, 86_399).unwrap().announced(5), 0);
    }

    #[test]
    fn a_text_has_a_limit_and_a_window_with_a_unit() {
        for (text, expected) in [
            ("100/60s", Some((100, 60))),
            ("100/s", Some((100, 1))),
            ("5/m", Some((5, 60))),
            ("5/3m", Some((5, 180))),
            ("5/2h", Some((5, 7_200))),
            ("1/d", Some((1, 86_400))),
            ("1/30d", Some((1, RateLimit::MAX_WINDOW_SECS))),
            ("1/4294967295s", Some((1, u32::MAX))),
            ("1/71582789m", None),
            ("", None),
            ("5", None),
            ("5/", None),
            ("5/60", None),
            ("5/x", None),
            ("/s", None),
            ("x/s", None),
            ("5/-1s", None),
        ] {
            assert_eq!(RateLimit::parts(text), expected, "{text:?}");
        }
    }

    #[test]
    fn the_seconds_until_the_next_window_are_rounded_up() {
        let rate = RateLimit::new(1, 60).unwrap();
        let state = RateState { rate, remaining: 0, resets_at: Timestamp::from_millis(60_000) };
        let left = |millis| state.secs_left(Timestamp::from_millis(millis));
        assert_eq!([0, 1, 1_000, 1_001, 59_999, 60_000].map(left), [60, 60, 59, 59, 1, 0]);
    }

    #[test]
    fn a_window_of_five_seconds_survives_a_restart() {
        let is_stored = |secs| RateLimit::new(1, secs).unwrap().is_stored();
        assert_eq!([4, 5, 6].map(is_stored), [false, true, true]);
    }

    #[test]
    fn the_limit_that_refused_comes_before_the_one_with_the_least_left() {
        let state = |remaining| RateState {
            rate: RateLimit::new(10, 60).unwrap(),
            remaining,
            resets_at: Timestamp::from_millis(0),
        };
        let mut rates = Rates { key: Some(state(3)), account: Some(state(2)), exceeded: None };
        assert_eq!((rates.exceeded(), rates.tightest()), (None, Some(state(2))));
        rates.exceeded = Some(Exceeded::Key);
        assert_eq!((rates.exceeded(), rates.tightest()), (Some(state(3)), Some(state(3))));
        rates.exceeded = Some(Exceeded::Account);
        assert_eq!((rates.exceeded(), rates.tightest()), (Some(state(2)), Some(state(2))));
        assert_eq!(Rates::default().tightest(), None);
    }

    #[test]
    fn a_rate_limit_has_its_limit_and_its_window() {
        let rate = RateLimit::new(100, 60).unwrap();
        assert_eq!((rate.limit(), rate.window_secs()), (&100, &60));
    }
}
