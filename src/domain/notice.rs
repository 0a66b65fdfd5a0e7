//! Notices: the events that announce the expiry of a key.

use std::time::Duration;

use crate::env::Timestamp;

/// How many days before its expiry a key is announced, the first notice first.
pub const NOTICE_DAYS: [u32; 3] = [30, 7, LAST_NOTICE];

/// The notice after which no other comes.
pub const LAST_NOTICE: u32 = 1;

/// Returns how many days before its expiry a notice of this number of days is due.
pub fn time_left(days: u32) -> Duration {
    Duration::from_hours(u64::from(days) * 24)
}

/// Returns the notice that a key with this expiry is due: the smallest of [`NOTICE_DAYS`] that covers
/// the time that is left. `None` if more than 30 days are left, and for an expired key.
pub fn due(expires_at: Timestamp, now: Timestamp) -> Option<u32> {
    if expires_at <= now {
        return None;
    }
    let left = expires_at.since(now);
    NOTICE_DAYS.into_iter().rev().find(|days| left <= time_left(*days))
}

/// Returns the newest notice of a key after its expiry moved. `announced` is the newest notice before.
///
/// Notices that the new expiry has still ahead are given again. A notice that was given already, or that
/// a smaller one has replaced, is not repeated. `None` means that the notice that is due, if one is, has
/// not been given.
pub fn after_move(announced: Option<u32>, due: Option<u32>) -> Option<u32> {
    due.filter(|due| announced.is_some_and(|it| it <= *due)).or(announced.filter(|_| due.is_some()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notice_is_due_at_the_millisecond() {
        const DAY: i64 = 86_400_000;
        let due_with =
            |left| due(Timestamp::from_millis(1_000_000 + left), Timestamp::from_millis(1_000_000));
        for (left, expected) in [
            (30 * DAY + 1, None),
            (30 * DAY, Some(30)),
            (7 * DAY + 1, Some(30)),
            (7 * DAY, Some(7)),
            (DAY + 1, Some(7)),
            (DAY, Some(1)),
            (1, Some(1)),
            (0, None),
            (-1, None),
        ] {
            assert_eq!(due_with(left), expected, "{left} ms left");
        }
    }

    #[test]
    fn a_moved_expiry_repeats_no_notice_and_skips_none_that_is_ahead() {
        for (announced, due, expected) in [
            (None, None, None),
            (Some(7), None, None),
            (None, Some(30), None),
            (Some(30), Some(30), Some(30)),
            (Some(7), Some(30), Some(30)),
            (Some(1), Some(30), Some(30)),
            (Some(30), Some(7), Some(30)),
            (Some(7), Some(7), Some(7)),
        ] {
            assert_eq!(after_move(announced, due), expected, "{announced:?}, {due:?}");
        }
    }
}
