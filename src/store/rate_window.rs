//! What a key or an account used of its rate limit, counted without a lock.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use crate::{
    domain::rate_limit::{RateLimit, RateState},
    env::Timestamp,
};

/// The use of the newest window. All credentials of a key share one, and it survives every change of
/// the key.
///
/// Start and use are one number, so no thread can see the one of an old window and the other of a new
/// one: that would grant too much.
#[derive(Debug, Default)]
pub struct RateWindow(AtomicU64);

/// A window and its use.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct WindowUse {
    /// In seconds since 1970.
    pub start: u64,
    pub used: u32,
}

/// The low bits hold the use, which is at most [`RateLimit::MAX_LIMIT`]. The others hold the start, and
/// are enough until the year 2500.
const USED_BITS: u32 = 30;
const USED: u64 = (1 << USED_BITS) - 1;
const _: () = assert!(RateLimit::MAX_LIMIT as u64 <= USED);

/// A window that starts later than the window of now by more than this, in seconds, is left from a
/// clock that went ahead and came back. A smaller difference is a thread that read the clock before
/// the others.
const LATE_SECS: u64 = 60 * 60;

impl WindowUse {
    fn unpack(packed: u64) -> Self {
        Self { start: packed >> USED_BITS, used: u32::try_from(packed & USED).unwrap_or(u32::MAX) }
    }

    fn pack(self) -> u64 {
        self.start << USED_BITS | u64::from(self.used) & USED
    }

    pub fn started_at(self) -> Timestamp {
        Timestamp::from_millis(i64::try_from(self.start * 1_000).unwrap_or(i64::MAX))
    }

    pub fn ends_at(self, rate: RateLimit) -> Timestamp {
        self.started_at().after(Duration::from_secs(u64::from(*rate.window_secs())))
    }

    /// Returns the window at `now`, with what is known of its use.
    fn at(self, rate: RateLimit, now: Timestamp) -> Self {
        let (start, length) = (rate.window_start(now), u64::from(*rate.window_secs()));
        if self.start < start || start + length.max(LATE_SECS) < self.start {
            return Self { start, used: 0 };
        }
        // If the length of the window was changed, what was used in it counts on.
        if self.start.is_multiple_of(length) { self } else { Self { start, ..self } }
    }

    fn state(self, rate: RateLimit) -> RateState {
        RateState {
            rate,
            remaining: rate.limit().saturating_sub(self.used),
            resets_at: self.ends_at(rate),
        }
    }
}

impl RateWindow {
    pub fn new(known: WindowUse) -> Self {
        Self(AtomicU64::new(known.pack()))
    }

    /// Uses `cost` of the limit. The error is the state that has not that much left. A cost of 0 uses
    /// nothing and is never refused.
    pub fn consume(
        &self,
        rate: RateLimit,
        cost: u32,
        now: Timestamp,
    ) -> Result<RateState, RateState> {
        let mut packed = self.0.load(Ordering::Acquire);
        loop {
            let known = WindowUse::unpack(packed).at(rate, now);
            if cost == 0 {
                return Ok(known.state(rate));
            }
            let used = known.used.checked_add(cost).filter(|it| it <= rate.limit());
            let next = WindowUse { used: used.ok_or(known.state(rate))?, ..known };
            match self.0.compare_exchange_weak(
                packed,
                next.pack(),
                Ordering::AcqRel,
                Ordering::Acquire,
            ) {
                Ok(_) => return Ok(next.state(rate)),
                Err(current) => packed = current,
            }
        }
    }

    /// Takes back what [`RateWindow::consume`] used when it returned `charged`, unless another window
    /// has begun since. Returns the state.
    pub fn give_back(&self, charged: RateState, cost: u32, now: Timestamp) -> RateState {
        let rate = charged.rate;
        let less = |packed| {
            let known = WindowUse::unpack(packed);
            let same = known.ends_at(rate) == charged.resets_at;
            same.then(|| WindowUse { used: known.used.saturating_sub(cost), ..known }.pack())
        };
        let _ = self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, less);
        WindowUse::unpack(self.0.load(Ordering::Acquire)).at(rate, now).state(rate)
    }

    /// Returns the newest window in which anything was used.
    pub fn newest(&self) -> WindowUse {
        WindowUse::unpack(self.0.load(Ordering::Acquire))
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::atomic::AtomicU32, thread};

    use super::*;

    fn rate(limit: u32, window: u32) -> RateLimit {
        RateLimit::new(limit, window).unwrap()
    }

    const fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    #[test]
    fn a_window_grants_its_limit_and_ends_at_the_millisecond() {
        let (window, two) = (RateWindow::default(), rate(2, 60));
        let left = |millis| window.consume(two, 1, at(millis)).map(|it| it.remaining);
        assert_eq!(left(60_000), Ok(1));
        assert_eq!(left(119_998), Ok(0));
        assert!(left(119_999).is_err());
        let state = window.consume(two, 1, at(119_999)).unwrap_err();
        assert_eq!((state.remaining, state.resets_at), (0, at(120_000)));
        assert_eq!((state.secs_left(at(119_999)), state.secs_left(at(60_000))), (1, 60));
        assert_eq!(left(120_000), Ok(1));
    }

    #[test]
    fn a_cost_is_used_whole_or_not_at_all() {
        let (window, ten) = (RateWindow::default(), rate(10, 60));
        assert_eq!(window.consume(ten, 7, at(0)).unwrap().remaining, 3);
        assert_eq!(window.consume(ten, 4, at(0)).unwrap_err().remaining, 3);
        assert_eq!(window.consume(ten, 0, at(0)).unwrap().remaining, 3);
        assert_eq!(window.consume(ten, 3, at(0)).unwrap().remaining, 0);
        assert!(window.consume(ten, 0, at(0)).is_ok());
        assert!(window.consume(ten, u32::MAX, at(0)).is_err());
    }

    #[test]
    fn what_is_given_back_is_there_once_more_and_never_below_zero() {
        let (window, ten) = (RateWindow::default(), rate(10, 60));
        let charged = window.consume(ten, 7, at(0)).unwrap();
        assert_eq!(window.give_back(charged, 7, at(0)).remaining, 10);
        assert_eq!(window.give_back(charged, 7, at(0)).remaining, 10);
        let newer = window.consume(ten, 7, at(60_000)).unwrap();
        // A thread that read the time before the border takes its use back after it.
        assert_eq!(window.give_back(charged, 7, at(59_999)).remaining, 3);
        assert_eq!(window.give_back(charged, 7, at(60_000)).remaining, 3);
        assert_eq!(window.newest().used, 7, "the newer window keeps its own use");
        assert_eq!(window.give_back(newer, 7, at(120_000)).remaining, 10, "another window");
    }

    #[test]
    fn a_lower_limit_leaves_nothing_and_a_higher_one_leaves_the_difference() {
        let window = RateWindow::default();
        window.consume(rate(10, 60), 8, at(0)).unwrap();
        assert_eq!(window.consume(rate(5, 60), 1, at(0)).unwrap_err().remaining, 0);
        assert_eq!(window.consume(rate(20, 60), 1, at(0)).unwrap().remaining, 11);
    }

    #[test]
    fn a_longer_window_keeps_what_was_used_in_it() {
        let window = RateWindow::default();
        window.consume(rate(10, 60), 8, at(180_000)).unwrap();
        let state = window.consume(rate(10, 3_600), 1, at(190_000)).unwrap();
        assert_eq!((state.remaining, state.resets_at), (1, at(3_600_000)));
        let shorter = window.consume(rate(10, 60), 1, at(190_000)).unwrap();
        assert_eq!(shorter.remaining, 9);
    }

    #[test]
    fn a_thread_that_read_the_clock_early_opens_no_old_window() {
        let (window, one) = (RateWindow::default(), rate(1, 60));
        window.consume(one, 1, at(60_000)).unwrap();
        assert!(window.consume(one, 1, at(59_999)).is_err());
        assert!(window.consume(one, 1, at(60_000)).is_err());
    }

    #[test]
    fn a_clock_that_came_back_does_not_block_a_key_for_long() {
        let (window, one) = (RateWindow::default(), rate(1, 60));
        window.consume(one, 1, at(3_661_000 + 60_000)).unwrap();
        assert!(window.consume(one, 1, at(60_000)).is_ok());
    }

    #[test]
    fn many_threads_get_exactly_the_limit() {
        let (window, rate) = (RateWindow::default(), rate(10_000, 60));
        let granted = AtomicU32::new(0);
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..5_000 {
                        if window.consume(rate, 1, at(1)).is_ok() {
                            granted.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                });
            }
        });
        assert_eq!(granted.into_inner(), 10_000);
    }

    #[test]
    fn the_last_window_of_the_last_year_can_be_packed() {
        let known = WindowUse { start: 16_725_225_600, used: RateLimit::MAX_LIMIT };
        assert_eq!(WindowUse::unpack(known.pack()), known, "the year 2500");
    }
}
