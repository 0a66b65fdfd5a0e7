//! The clocks of development mode.

use std::{
    ops::RangeInclusive,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::time::{Clock, Monotonic, SystemClock, Timestamp};

/// Clocks that run as time passes, and that can also be moved ahead. They never go back.
///
/// Wall clock and monotonic clock move together: the [`Timekeeper`](super::Timekeeper) sees time pass,
/// and no step of the wall clock. Both pause while the machine sleeps.
#[derive(Debug)]
pub struct SettableClock {
    start: Timestamp,
    machine: SystemClock,
    /// By how much the clocks were moved ahead since the start.
    ahead: Mutex<Duration>,
}

impl SettableClock {
    /// The years 2000 to 2499. Rate windows are counted up to the year 2500.
    pub const RANGE: RangeInclusive<Timestamp> =
        Timestamp::from_millis(946_684_800_000)..=Timestamp::from_millis(16_725_225_599_999);

    /// Returns clocks whose wall clock shows `start` now.
    pub fn at(start: Timestamp) -> Self {
        Self { start, machine: SystemClock::new(), ahead: Mutex::default() }
    }

    /// Moves both clocks ahead.
    pub fn advance(&self, by: Duration) {
        let mut ahead = self.ahead();
        *ahead = ahead.saturating_add(by);
    }

    /// Moves both clocks ahead until the wall clock shows `wall`.
    ///
    /// # Errors
    ///
    /// The wall clock, if it is later than that. Nothing has moved then.
    pub fn advance_to(&self, wall: Timestamp) -> Result<(), Timestamp> {
        let mut ahead = self.ahead();
        let now = self.wall_with(*ahead);
        if wall < now {
            return Err(now);
        }
        *ahead = ahead.saturating_add(wall.since(now));
        Ok(())
    }

    fn ahead(&self) -> MutexGuard<'_, Duration> {
        self.ahead.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wall_with(&self, ahead: Duration) -> Timestamp {
        let passed = self.machine.monotonic().since(Monotonic::from_millis(0));
        self.start.after(passed.saturating_add(ahead))
    }
}

impl Clock for SettableClock {
    fn wall(&self) -> Timestamp {
        self.wall_with(*self.ahead())
    }

    fn monotonic(&self) -> Monotonic {
        self.machine.monotonic().after(*self.ahead())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::env::Timekeeper;

    const START: Timestamp = Timestamp::from_millis(1_767_225_600_000);
    const YEAR: Duration = Duration::from_hours(365 * 24);

    #[test]
    fn the_clocks_go_ahead_together_and_never_back() {
        let clock = SettableClock::at(START);
        let (wall, monotonic) = (clock.wall(), clock.monotonic());
        assert!(START <= wall && wall < START.after(Duration::from_mins(1)));
        clock.advance(YEAR);
        assert!(wall.after(YEAR) <= clock.wall());
        assert!(monotonic.after(YEAR) <= clock.monotonic());
        let goal = START.after(2 * YEAR);
        assert_eq!(clock.advance_to(goal), Ok(()));
        assert!(goal <= clock.wall());
        assert!(clock.advance_to(START).is_err_and(|now| goal <= now));
        assert!(goal <= clock.wall(), "a refusal moves nothing");
    }

    #[test]
    fn the_timekeeper_sees_time_pass_and_no_step() {
        let clock = Arc::new(SettableClock::at(START));
        let time = Timekeeper::start(Arc::<SettableClock>::clone(&clock), None);
        clock.advance(YEAR);
        assert!(START.after(YEAR) <= time.now());
        assert!(time.is_settled_since_start(), "jobs do their work at once");
        assert!(time.take_steps().is_empty());
    }
}
