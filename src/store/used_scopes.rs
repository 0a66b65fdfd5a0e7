//! The scopes that a credential used, by day, in memory. No use takes a lock, and none is lost.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::{domain::scope::ScopeBits, store::Day};

/// The scopes that were used on the newest two days of use.
///
/// Days take turns: the words of an even day lie apart from those of an odd one, so that the uses of
/// yesterday are still there to be stored after midnight. A word holds a group of scopes and, above
/// them, the last bits of its day. So one atomic operation begins a new day and sets a scope.
#[derive(Debug, Default)]
pub(super) struct UsedScopes([[AtomicU64; ScopeBits::GROUPS]; 2]);

/// The bits of a word that hold scopes.
const SCOPES: u64 = (1 << ScopeBits::GROUP) - 1;

impl UsedScopes {
    /// Returns the place of a day: 0 or 1.
    pub fn place(day: Day) -> usize {
        usize::from(day.low_bits() & 1)
    }

    /// Records a use. Returns whether it has to be stored: the scope was not used before on this day.
    /// `unstored` says whether an earlier day in the same place still has to be stored. This takes an
    /// outage of two days; its uses then count for this day.
    pub fn record(&self, day: Day, used: ScopeBits, unstored: bool) -> bool {
        let [even, odd] = &self.0;
        let words = if Self::place(day) == 0 { even } else { odd };
        let tag = u64::from(day.low_bits());
        let mut is_new = false;
        for (word, bits) in words.iter().zip(used.groups()).filter(|(_, bits)| *bits != 0) {
            let known = word.load(Ordering::Relaxed);
            if known >> ScopeBits::GROUP == tag && known & bits == bits {
                continue;
            }
            let next = |old: u64| {
                let scopes = old & SCOPES;
                let old_day = day.near_low_bits(tag_of(old));
                // After a step of the clock the word may be of a later day, which stands.
                if scopes != 0 && day < old_day {
                    return Some(old | bits);
                }
                let kept = if old_day == day || unstored { scopes } else { 0 };
                Some(tag << ScopeBits::GROUP | kept | bits)
            };
            is_new |= word.fetch_update(Ordering::AcqRel, Ordering::Relaxed, next).is_ok();
        }
        is_new
    }

    /// Returns the scopes in one place, by their day.
    pub fn in_place(&self, place: usize, today: Day) -> Vec<(Day, ScopeBits)> {
        let words = self.0.get(place).into_iter().flatten().enumerate();
        let read = |(group, word): (usize, &AtomicU64)| {
            let word = word.load(Ordering::Acquire);
            let scopes = ScopeBits::of_group(group, word & SCOPES);
            (!scopes.is_empty()).then(|| (today.near_low_bits(tag_of(word)), scopes))
        };
        words.filter_map(read).collect()
    }

    /// Returns the scopes that were used on `first` or later.
    pub fn since(&self, first: Day, today: Day) -> ScopeBits {
        let known = [0, 1].into_iter().flat_map(|place| self.in_place(place, today));
        let recent = known.filter(|(day, _)| first <= *day);
        recent.fold(ScopeBits::default(), |all, (_, scopes)| all.or(scopes))
    }
}

fn tag_of(word: u64) -> u16 {
    u16::try_from(word >> ScopeBits::GROUP).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;
    use crate::env::Timestamp;

    fn day(n: i64) -> Day {
        Day::of(Timestamp::from_millis(n * 86_400_000))
    }

    fn scope(position: usize) -> ScopeBits {
        let (group, bit) = (position / ScopeBits::GROUP, position % ScopeBits::GROUP);
        ScopeBits::of_group(group, 1 << bit)
    }

    #[test]
    fn a_scope_has_to_be_stored_once_a_day() {
        let used = UsedScopes::default();
        for today in [20_000, 20_001, 20_002, 40_000, 65_535, 65_536, 65_537].map(day) {
            assert!(used.record(today, scope(0).or(scope(208)), false));
            assert!(!used.record(today, scope(0), false));
            assert!(!used.record(today, scope(208), false));
            assert!(used.record(today, scope(0).or(scope(1)), false));
            let known = used.in_place(UsedScopes::place(today), today);
            let all = scope(0).or(scope(1)).or(scope(208));
            assert!(known.iter().all(|(it, _)| *it == today), "{known:?}");
            assert_eq!(known.iter().fold(ScopeBits::default(), |sum, it| sum.or(it.1)), all);
        }
        assert!(!used.record(day(65_537), ScopeBits::default(), false), "no scope was required");
    }

    #[test]
    fn yesterday_stays_and_the_day_before_it_ends() {
        let used = UsedScopes::default();
        for n in 1..=3 {
            used.record(day(n), scope(usize::try_from(n).unwrap()), false);
        }
        assert_eq!(used.since(day(2), day(3)), scope(2).or(scope(3)));
        assert_eq!(used.since(day(3), day(3)), scope(3));
        assert_eq!(used.since(day(1), day(3)), scope(2).or(scope(3)), "stored long ago");
        used.record(day(5), scope(5), true);
        assert_eq!(used.since(day(5), day(5)), scope(3).or(scope(5)), "but not if it was unstored");
    }

    #[test]
    fn a_clock_that_is_set_back_forgets_nothing() {
        let used = UsedScopes::default();
        used.record(day(12), scope(1), false);
        assert!(used.record(day(10), scope(2), false));
        assert_eq!(used.since(day(12), day(12)), scope(1).or(scope(2)));
    }

    #[test]
    fn no_use_is_lost_at_midnight() {
        let used = UsedScopes::default();
        for round in 0..200 {
            used.record(day(round), scope(40), false);
            thread::scope(|threads| {
                for i in 0..4 {
                    let used = &used;
                    threads.spawn(move || used.record(day(round + 2), scope(i), false));
                }
            });
            let all = (0..4).map(scope).fold(ScopeBits::default(), ScopeBits::or);
            assert_eq!(used.since(day(round + 2), day(round + 2)), all, "{round}");
        }
    }
}
