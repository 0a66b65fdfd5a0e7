//! How long keys live: the policy of the server and of an account.

use std::time::Duration;

use crate::env::Timestamp;

/// The longest lifetime that a setting or a request can name, in seconds: 100 years of 365 days.
pub const LONGEST_SECONDS: u32 = 36_500 * 86_400;

/// The lifetimes of keys, in seconds. `None` means no rule.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Lifetimes {
    /// The longest time from the creation of a key, or its last rotation, to its expiry.
    pub max: Option<u32>,
    /// The lifetime of a new key whose request names no expiry. Never longer than `max`.
    pub default: Option<u32>,
}

impl Lifetimes {
    /// Returns these lifetimes; where one is absent, that of `server`.
    #[must_use]
    pub fn or(self, server: Self) -> Self {
        Self { max: self.max.or(server.max), default: self.default.or(server.default) }
    }

    /// Returns the latest expiry of a key whose secret was made at `from`; `None` means never.
    pub fn limit(self, from: Timestamp) -> Option<Timestamp> {
        self.max.map(|it| from.after(seconds(it)))
    }

    /// Returns the expiry of a new key whose request names none; `None` means never.
    pub fn default_end(self, now: Timestamp) -> Option<Timestamp> {
        let shortest = self.default.into_iter().chain(self.max).min();
        shortest.map(|it| now.after(seconds(it)))
    }
}

/// Returns a lifetime as a duration.
pub fn seconds(lifetime: u32) -> Duration {
    Duration::from_secs(lifetime.into())
}

/// Returns a duration as a lifetime.
pub fn whole_seconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_secs()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_replaces_each_rule_and_a_default_ends_by_the_maximum() {
        let rules = |max, default| Lifetimes { max, default };
        let server = rules(Some(100), Some(10));
        assert_eq!(rules(None, None).or(server), server);
        assert_eq!(rules(Some(200), None).or(server), rules(Some(200), Some(10)));
        assert_eq!(rules(None, Some(5)).or(server), rules(Some(100), Some(5)));
        let (now, at) = (Timestamp::from_millis(0), Timestamp::from_millis);
        assert_eq!(server.default_end(now), Some(at(10_000)));
        assert_eq!(rules(Some(3), Some(10)).default_end(now), Some(at(3_000)));
        assert_eq!(rules(Some(3), None).default_end(now), Some(at(3_000)));
        assert_eq!(rules(None, None).default_end(now), None);
        assert_eq!(server.limit(at(5)), Some(at(100_005)));
    }

    #[test]
    fn a_duration_becomes_the_whole_seconds_that_fit() {
        assert_eq!(whole_seconds(Duration::from_millis(7_999)), 7);
        assert_eq!(whole_seconds(seconds(LONGEST_SECONDS)), LONGEST_SECONDS);
        assert_eq!(LONGEST_SECONDS, 3_153_600_000);
        assert_eq!(whole_seconds(Duration::MAX), u32::MAX);
    }
}
