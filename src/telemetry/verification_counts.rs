//! Counts of verifications, without contention between threads.

use std::{
    fmt::Write,
    sync::atomic::{AtomicU64, AtomicUsize, Ordering},
    time::Duration,
};

use crate::domain::verdict::Verdict;

/// How a verification reaches keyward.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum EntryPoint {
    Api,
    Plain,
    Nginx,
    Forward,
    Envoy,
}

/// The result of a verification.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Outcome {
    Judged(Verdict),
    /// The route policy allows the request without a key.
    Public,
    MissingKey,
    NoRoute,
    /// Refused for another reason: the request is ambiguous, or the proxy is misconfigured.
    Refused,
}

const ENTRIES: [(EntryPoint, &str); 5] = [
    (EntryPoint::Api, "api"),
    (EntryPoint::Plain, "plain"),
    (EntryPoint::Nginx, "nginx"),
    (EntryPoint::Forward, "forward"),
    (EntryPoint::Envoy, "envoy"),
];
const OTHERS: [(Outcome, &str); 4] = [
    (Outcome::Public, "PUBLIC"),
    (Outcome::MissingKey, "MISSING_KEY"),
    (Outcome::NoRoute, "NO_ROUTE"),
    (Outcome::Refused, "REFUSED"),
];
const OUTCOMES: usize = Verdict::ALL.len() + OTHERS.len();
/// Upper bounds of the buckets, in microseconds. The last bucket has none.
const BOUNDS: [u64; 11] =
    [50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 100_000, 1_000_000];
const SHARDS: usize = 16;

const COUNTER: &str = "keyward_verifications_total";
const LIMITED: &str = "keyward_rate_limited_total";
const HISTOGRAM: &str = "keyward_verification_duration_seconds";

/// The number of verifications by entry point and outcome, and their durations.
#[derive(Default)]
pub(super) struct Tallies([Shard; SHARDS]);

/// The counts of some threads. Each shard has its own cache lines, because a counter that all threads
/// share costs more than all other work here.
#[derive(Default)]
#[repr(align(128))]
struct Shard([OfEntry; ENTRIES.len()]);

#[derive(Default)]
struct OfEntry {
    outcomes: [AtomicU64; OUTCOMES],
    buckets: [AtomicU64; BOUNDS.len() + 1],
    micros: AtomicU64,
}

thread_local! {
    /// The shard of this thread.
    static SHARD: usize = {
        static THREADS: AtomicUsize = AtomicUsize::new(0);
        THREADS.fetch_add(1, Ordering::Relaxed) % SHARDS
    };
}

impl Tallies {
    pub fn count(&self, entry: EntryPoint, outcome: Outcome, took: Duration) {
        let shard = SHARD.with(|it| self.0.get(*it));
        let Some(tally) = shard.and_then(|it| it.0.get(entry as usize)) else { return };
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bucket = BOUNDS.partition_point(|it| *it < micros);
        for count in
            [tally.outcomes.get(place(outcome)), tally.buckets.get(bucket)].into_iter().flatten()
        {
            count.fetch_add(1, Ordering::Relaxed);
        }
        tally.micros.fetch_add(micros, Ordering::Relaxed);
    }

    /// Appends the counts in the text format of Prometheus, version 0.0.4.
    pub fn render(&self, text: &mut String) {
        // Writing to a `String` does not fail.
        let _ = self.write(text);
    }

    fn write(&self, text: &mut String) -> std::fmt::Result {
        writeln!(text, "# HELP {COUNTER} Key verifications by entry point and outcome.")?;
        writeln!(text, "# TYPE {COUNTER} counter")?;
        let verdicts = Verdict::ALL.map(Verdict::as_str).into_iter();
        let names: Vec<_> = verdicts.chain(OTHERS.map(|(_, name)| name)).collect();
        for (entry, entry_name) in ENTRIES {
            for (place, name) in names.iter().enumerate() {
                let count = self.sum(entry, |it| it.outcomes.get(place));
                writeln!(text, "{COUNTER}{{entry=\"{entry_name}\",outcome=\"{name}\"}} {count}")?;
            }
        }
        let limited = ENTRIES.map(|(entry, _)| {
            self.sum(entry, |it| it.outcomes.get(place(Outcome::Judged(Verdict::RateLimited))))
        });
        writeln!(text, "\n# HELP {LIMITED} Verifications that a rate limit refused.")?;
        writeln!(text, "# TYPE {LIMITED} counter")?;
        writeln!(text, "{LIMITED} {}", limited.iter().sum::<u64>())?;
        writeln!(text, "\n# HELP {HISTOGRAM} Duration of key verifications.")?;
        writeln!(text, "# TYPE {HISTOGRAM} histogram")?;
        for (entry, name) in ENTRIES {
            let mut below = 0;
            for (place, bound) in BOUNDS.into_iter().map(Some).chain([None]).enumerate() {
                below += self.sum(entry, |it| it.buckets.get(place));
                let bound = bound.map_or("+Inf".to_owned(), seconds);
                writeln!(text, "{HISTOGRAM}_bucket{{entry=\"{name}\",le=\"{bound}\"}} {below}")?;
            }
            let micros = seconds(self.sum(entry, |it| Some(&it.micros)));
            writeln!(text, "{HISTOGRAM}_sum{{entry=\"{name}\"}} {micros}")?;
            writeln!(text, "{HISTOGRAM}_count{{entry=\"{name}\"}} {below}")?;
        }
        writeln!(text)
    }

    fn sum(&self, entry: EntryPoint, part: impl Fn(&OfEntry) -> Option<&AtomicU64>) -> u64 {
        let of_entry = self.0.iter().filter_map(|it| it.0.get(entry as usize));
        of_entry.filter_map(part).map(|it| it.load(Ordering::Relaxed)).sum()
    }
}

fn place(outcome: Outcome) -> usize {
    if let Outcome::Judged(verdict) = outcome {
        return verdict as usize;
    }
    let place = OTHERS.iter().position(|(it, _)| *it == outcome);
    Verdict::ALL.len() + place.unwrap_or_default()
}

fn seconds(micros: u64) -> String {
    let text = format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_count_is_in_its_series() {
        let tallies = Tallies::default();
        let count = |entry, outcome, micros| {
            tallies.count(entry, outcome, Duration::from_micros(micros));
        };
        count(EntryPoint::Api, Outcome::Judged(Verdict::Valid), 50);
        count(EntryPoint::Api, Outcome::Judged(Verdict::Valid), 51);
        count(EntryPoint::Envoy, Outcome::NoRoute, 2_000_000);
        let mut text = String::new();
        tallies.render(&mut text);
        for line in [
            "keyward_verifications_total{entry=\"api\",outcome=\"VALID\"} 2",
            "keyward_verifications_total{entry=\"api\",outcome=\"MALFORMED\"} 0",
            "keyward_verifications_total{entry=\"envoy\",outcome=\"NO_ROUTE\"} 1",
            "keyward_verification_duration_seconds_bucket{entry=\"api\",le=\"0.00005\"} 1",
            "keyward_verification_duration_seconds_bucket{entry=\"api\",le=\"0.0001\"} 2",
            "keyward_verification_duration_seconds_sum{entry=\"api\"} 0.000101",
            "keyward_verification_duration_seconds_bucket{entry=\"envoy\",le=\"1\"} 0",
            "keyward_verification_duration_seconds_bucket{entry=\"envoy\",le=\"+Inf\"} 1",
            "keyward_verification_duration_seconds_count{entry=\"envoy\"} 1",
        ] {
            assert!(text.lines().any(|it| it == line), "{line}\n{text}");
        }
    }

    #[test]
    fn every_entry_and_verdict_has_its_position() {
        for (place, (entry, _)) in ENTRIES.into_iter().enumerate() {
            assert_eq!(entry as usize, place);
        }
        for (place, verdict) in Verdict::ALL.into_iter().enumerate() {
            assert_eq!(verdict as usize, place);
        }
    }
}
