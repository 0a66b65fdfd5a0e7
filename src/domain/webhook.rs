//! Webhooks: which events they subscribe to, and when the next attempt is due.

use std::{fmt, time::Duration};

use chrono::DateTime;

use crate::{
    domain::event::EventType,
    env::{Entropy, Timestamp},
};

/// The delay after each failed attempt at one event, from the Standard Webhooks specification,
/// "Deliverability and reliability". The last delay repeats, so no event is given up.
const RETRY_DELAYS: [Duration; 9] = [
    Duration::from_secs(5),
    Duration::from_mins(5),
    Duration::from_mins(30),
    Duration::from_hours(2),
    Duration::from_hours(5),
    Duration::from_hours(10),
    Duration::from_hours(14),
    Duration::from_hours(20),
    LONGEST_DELAY,
];
const SHORTEST_DELAY: Duration = Duration::from_secs(5);
const LONGEST_DELAY: Duration = Duration::from_hours(24);

/// A set of event types: one type, all types that begin with some words, or every type.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct EventPattern(String);

/// The position of a webhook in the audit log, and what the last attempt left.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct WebhookCursor {
    /// The newest event that was delivered or that the webhook does not subscribe to.
    pub seq: i64,
    /// Failed attempts at the event after it.
    pub attempts: u32,
    /// When the next attempt is due. `None` means at once.
    pub next_attempt: Option<Timestamp>,
    /// When the receiver answered 410.
    pub disabled_at: Option<Timestamp>,
}

impl EventPattern {
    /// Reads a pattern: `account.created`, `api_key.*` or `*`. Returns `None` if no type matches it.
    pub fn parse(text: &str) -> Option<Self> {
        let pattern = Self(text.to_owned());
        let some = EventType::ALL.iter().any(|it| pattern.matches(it.as_str()));
        some.then_some(pattern)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns whether the pattern selects this event type.
    pub fn matches(&self, event_type: &str) -> bool {
        match self.0.strip_suffix('*') {
            Some("") => true,
            Some(start) => start.ends_with('.') && event_type.starts_with(start),
            None => self.0 == event_type,
        }
    }
}

impl fmt::Display for EventPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl WebhookCursor {
    /// Returns the cursor of a webhook that has delivered everything up to `seq`.
    #[must_use]
    pub fn at(seq: i64) -> Self {
        Self { seq, ..Self::default() }
    }

    /// Returns the cursor after a failed attempt. The delay of the schedule is shortened by up to a
    /// tenth, at random. `asked` is the delay that the receiver asked for with `Retry-After`; it
    /// replaces that of the schedule, between 5 seconds and a day.
    #[must_use]
    pub fn failed(self, now: Timestamp, asked: Option<Duration>, entropy: &dyn Entropy) -> Self {
        let attempts = self.attempts.saturating_add(1);
        let place = usize::try_from(self.attempts).unwrap_or(usize::MAX);
        let planned = RETRY_DELAYS.get(place).copied().unwrap_or(LONGEST_DELAY);
        let delay = match asked {
            Some(it) => it.clamp(SHORTEST_DELAY, LONGEST_DELAY),
            None => planned.saturating_sub(jitter(planned, entropy)),
        };
        Self { attempts, next_attempt: Some(now.after(delay)), ..self }
    }

    /// Returns the cursor after the receiver answered that it wants no further events.
    #[must_use]
    pub fn disabled(self, now: Timestamp) -> Self {
        Self { next_attempt: None, disabled_at: Some(now), ..self }
    }

    /// Returns how long the next attempt must still wait; zero if it is due.
    ///
    /// A wait of more than a day is zero: the clock was set back since the attempt.
    pub fn wait(&self, now: Timestamp) -> Duration {
        let wait = self.next_attempt.map_or(Duration::ZERO, |it| it.since(now));
        if wait <= LONGEST_DELAY { wait } else { Duration::ZERO }
    }
}

/// Returns a random part of a tenth of this delay, in whole milliseconds. Webhooks that failed together,
/// because their receiver was away, do not all come back at the same instant.
fn jitter(delay: Duration, entropy: &dyn Entropy) -> Duration {
    let mut random = [0; 2];
    entropy.fill(&mut random);
    let most = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX) / 10;
    Duration::from_millis(most.saturating_mul(u16::from_le_bytes(random).into()) >> u16::BITS)
}

/// Reads the value of `Retry-After` (RFC 9110, 10.2.3): seconds, or a date.
pub fn retry_after(text: &str, now: Timestamp) -> Option<Duration> {
    let text = text.trim();
    if !text.is_empty() && text.bytes().all(|it| it.is_ascii_digit()) {
        return Some(text.parse().map_or(LONGEST_DELAY, Duration::from_secs));
    }
    let date = DateTime::parse_from_rfc2822(text).ok()?;
    Some(Timestamp::from_millis(date.timestamp_millis()).since(now))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(784_111_777_000); // Sun, 06 Nov 1994 08:49:37 GMT

    /// The same byte again and again.
    struct Constant(u8);

    impl Entropy for Constant {
        fn fill(&self, buf: &mut [u8]) {
            buf.fill(self.0);
        }
    }

    #[test]
    fn a_pattern_selects_a_type_or_a_family_of_types() {
        let pattern = |text| EventPattern::parse(text).unwrap();
        assert!(pattern("account.created").matches("account.created"));
        assert!(!pattern("account.created").matches("account.created.twice"));
        assert!(pattern("api_key.*").matches("api_key.revoked"));
        assert!(!pattern("api_key.*").matches("api_keys.imported"));
        assert!(pattern("*").matches("server.started"));
        for wrong in
            ["", "api_key", "api_key*", "api_*", "*.created", "account.create", "x.*", "**"]
        {
            assert_eq!(EventPattern::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn failures_follow_the_schedule_of_the_specification_and_its_last_delay_repeats() {
        let hour = 60 * 60;
        let delays = [5, 300, 1800, 2, 5, 10, 14, 20, 24, 24, 24];
        let mut cursor = WebhookCursor::at(7);
        assert_eq!(cursor.wait(NOW), Duration::ZERO);
        for (place, delay) in delays.into_iter().enumerate() {
            cursor = cursor.failed(NOW, None, &Constant(0));
            let delay = Duration::from_secs(if place < 3 { delay } else { delay * hour });
            assert_eq!(cursor.wait(NOW), delay, "{place}");
            let moment = Duration::from_millis(1);
            assert_eq!(cursor.wait(NOW.after(delay).before(moment)), moment);
            assert_eq!(cursor.wait(NOW.after(delay)), Duration::ZERO);
        }
        assert_eq!((cursor.seq, cursor.attempts), (7, 11));
    }

    #[test]
    fn a_delay_of_the_schedule_is_up_to_a_tenth_shorter() {
        let wait = |attempts, byte| {
            let cursor = WebhookCursor { attempts, ..WebhookCursor::at(7) };
            cursor.failed(NOW, None, &Constant(byte)).wait(NOW).as_millis()
        };
        assert_eq!([wait(0, 0), wait(0, 0x80), wait(0, 0xFF)], [5_000, 4_750, 4_501]);
        let day = 24 * 60 * 60 * 1_000;
        assert_eq!([wait(8, 0), wait(8, 0xFF)], [day, day - 8_639_868]);
    }

    #[test]
    fn a_receiver_may_ask_for_another_delay_within_bounds() {
        let wait = |seconds| {
            let asked = Some(Duration::from_secs(seconds));
            WebhookCursor::at(1).failed(NOW, asked, &Constant(0xFF)).wait(NOW).as_secs()
        };
        let day = 24 * 60 * 60;
        assert_eq!([wait(0), wait(4), wait(5), wait(6)], [5, 5, 5, 6]);
        assert_eq!([wait(day - 1), wait(day), wait(day + 1)], [day - 1, day, day]);
    }

    #[test]
    fn a_clock_that_was_set_back_does_not_make_a_webhook_wait_for_long() {
        let cursor = WebhookCursor::at(1).failed(NOW, Some(LONGEST_DELAY), &Constant(0));
        let moment = Duration::from_millis(1);
        assert_eq!(cursor.wait(NOW), LONGEST_DELAY);
        assert_eq!(cursor.wait(NOW.before(moment)), Duration::ZERO);
    }

    #[test]
    fn retry_after_is_a_number_of_seconds_or_a_date() {
        let seconds = |text| retry_after(text, NOW).map(|it| it.as_secs());
        assert_eq!(seconds("120"), Some(120));
        assert_eq!(seconds(" 0 "), Some(0));
        assert_eq!(seconds("99999999999999999999"), Some(86_400));
        assert_eq!(seconds("Sun, 06 Nov 1994 08:50:37 GMT"), Some(60));
        assert_eq!(seconds("Sun, 06 Nov 1994 08:48:37 GMT"), Some(0));
        for wrong in ["", "-1", "1.5", "soon", "Sun, 06 Nov 1994"] {
            assert_eq!(seconds(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_receiver_that_wants_no_more_events_ends_the_attempts() {
        let failed = WebhookCursor::at(7).failed(NOW, None, &Constant(0));
        assert!(failed.next_attempt.is_some());
        let disabled = WebhookCursor { next_attempt: None, disabled_at: Some(NOW), ..failed };
        assert_eq!(failed.disabled(NOW), disabled);
        assert_eq!((disabled.seq, disabled.attempts), (7, 1));
    }

    #[test]
    fn a_pattern_is_shown_as_it_was_read() {
        for text in ["account.created", "api_key.*", "*"] {
            let pattern = EventPattern::parse(text).unwrap();
            assert_eq!((pattern.as_str(), &*pattern.to_string()), (text, text));
        }
    }
}
