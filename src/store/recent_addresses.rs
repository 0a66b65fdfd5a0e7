//! The addresses from which a credential was last used, in memory. No use takes a lock.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use crate::{domain::client_address::ClientAddress, env::Timestamp};

/// The last addresses of a credential. They stay after they were stored, so that the next use from the
/// same place writes one number.
#[derive(Debug)]
pub(super) struct RecentAddresses([Slot; RecentAddresses::MOST]);

/// An address, and when it was used.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SeenAddress {
    pub address: ClientAddress,
    pub first_used_at: Timestamp,
    pub last_used_at: Timestamp,
}

#[derive(Debug)]
struct Slot {
    address: AtomicU64,
    first_ms: AtomicI64,
    last_ms: AtomicI64,
}

/// No address yet.
const EMPTY: u64 = u64::MAX;
/// A thread is replacing the address.
const CLAIMED: u64 = u64::MAX - 1;

impl RecentAddresses {
    /// How many addresses of a key keyward knows.
    pub const MOST: usize = 5;
    /// How often a thread tries to replace an address while others do the same.
    const ATTEMPTS: usize = 16;

    pub fn new() -> Self {
        Self(std::array::from_fn(|_| Slot {
            address: AtomicU64::new(EMPTY),
            first_ms: AtomicI64::new(i64::MIN),
            last_ms: AtomicI64::new(i64::MIN),
        }))
    }

    /// Records a use. Returns the slot that has to be stored; `None` if nothing changed.
    pub fn record(&self, address: ClientAddress, now: Timestamp) -> Option<usize> {
        let (bits, now) = (address.to_bits(), now.as_millis());
        for attempt in 1..=Self::ATTEMPTS {
            for (at, slot) in self.0.iter().enumerate() {
                if slot.holds(bits) {
                    let is_later = slot.touch(now);
                    if slot.holds(bits) {
                        return is_later.then_some(at);
                    }
                }
            }
            if let Some(at) = self.replace_oldest(bits, now, attempt == Self::ATTEMPTS) {
                return Some(at);
            }
            std::hint::spin_loop();
        }
        None
    }

    /// Returns the slot of the new address; `None` if another thread was faster. Unless this is the
    /// last attempt, waits for a thread that may be recording the same address: two slots of one
    /// address would push out another one.
    fn replace_oldest(&self, bits: u64, now: i64, is_last: bool) -> Option<usize> {
        let mut oldest: Option<(i64, usize, &Slot, u64)> = None;
        for (at, slot) in self.0.iter().enumerate() {
            let address = slot.address.load(Ordering::Acquire);
            if address == bits || address == CLAIMED {
                if is_last {
                    continue;
                }
                return None;
            }
            let last =
                if address == EMPTY { i64::MIN } else { slot.last_ms.load(Ordering::Relaxed) };
            if oldest.is_none_or(|it| last < it.0) {
                oldest = Some((last, at, slot, address));
            }
        }
        let (_, at, slot, old) = oldest?;
        let claimed =
            slot.address.compare_exchange(old, CLAIMED, Ordering::AcqRel, Ordering::Relaxed);
        claimed.ok()?;
        // A reader that sees one of these times also sees that the old address is gone.
        slot.first_ms.store(now, Ordering::Release);
        slot.last_ms.store(now, Ordering::Release);
        slot.address.store(bits, Ordering::Release);
        Some(at)
    }

    /// Returns what is in a slot; `None` if it is empty or being replaced.
    pub fn in_slot(&self, at: usize) -> Option<SeenAddress> {
        let slot = self.0.get(at)?;
        let address = slot.address.load(Ordering::Acquire);
        let first_used_at = Timestamp::from_millis(slot.first_ms.load(Ordering::Acquire));
        let last_used_at = Timestamp::from_millis(slot.last_ms.load(Ordering::Acquire));
        // Otherwise these may be the times of another address, whose use is stored next time.
        let is_same = slot.address.load(Ordering::Acquire) == address;
        let address = ClientAddress::from_bits(address).filter(|_| is_same)?;
        Some(SeenAddress { address, first_used_at, last_used_at })
    }

    pub fn all(&self) -> impl Iterator<Item = SeenAddress> {
        (0..Self::MOST).filter_map(|at| self.in_slot(at))
    }
}

impl Slot {
    fn holds(&self, bits: u64) -> bool {
        self.address.load(Ordering::Acquire) == bits
    }

    /// Returns whether the use is later than the last one.
    fn touch(&self, now: i64) -> bool {
        let is_later = self.last_ms.load(Ordering::Relaxed) < now;
        if is_later {
            // Two threads at once may leave the earlier of their two times, which are as good as equal.
            // The same holds if a third one replaces the address now.
            self.last_ms.store(now, Ordering::Release);
        }
        is_later
    }
}

impl SeenAddress {
    /// Joins what is known of the same addresses. Returns the newest ones, at most as many as keyward
    /// knows of a key, the newest first.
    pub fn newest(known: impl IntoIterator<Item = Self>) -> Vec<Self> {
        let mut all: Vec<Self> = Vec::new();
        for it in known {
            match all.iter_mut().find(|other| other.address == it.address) {
                Some(other) => {
                    other.first_used_at = other.first_used_at.min(it.first_used_at);
                    other.last_used_at = other.last_used_at.max(it.last_used_at);
                }
                None => all.push(it),
            }
        }
        all.sort_by_key(|it| std::cmp::Reverse((it.last_used_at, it.first_used_at, it.address)));
        all.truncate(RecentAddresses::MOST);
        all
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    fn address(n: u8) -> ClientAddress {
        ClientAddress::of([203, 0, 113, n].into()).unwrap()
    }

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    fn numbers(recent: &RecentAddresses) -> Vec<String> {
        SeenAddress::newest(recent.all()).iter().map(|it| it.address.to_string()).collect()
    }

    #[test]
    fn the_sixth_address_replaces_the_one_that_was_used_longest_ago() {
        let recent = RecentAddresses::new();
        for n in 1..=5 {
            assert_eq!(recent.record(address(n), at(n.into())), Some(usize::from(n) - 1));
        }
        assert_eq!(recent.record(address(1), at(6)), Some(0));
        assert_eq!(recent.record(address(1), at(6)), None, "the same millisecond");
        assert_eq!(recent.record(address(1), at(5)), None, "an earlier one");
        assert_eq!(recent.record(address(6), at(7)), Some(1));
        let expected = [6, 1, 5, 4, 3].map(|n| format!("203.0.113.{n}"));
        assert_eq!(numbers(&recent), expected);
        let first = recent.in_slot(0).unwrap();
        assert_eq!((first.first_used_at, first.last_used_at), (at(1), at(6)));
        let sixth = recent.in_slot(1).unwrap();
        assert_eq!((sixth.first_used_at, sixth.last_used_at), (at(7), at(7)));
        assert_eq!(RecentAddresses::new().all().count(), 0);
    }

    #[test]
    fn threads_that_meet_lose_no_address() {
        for _ in 0..100 {
            let recent = RecentAddresses::new();
            thread::scope(|threads| {
                for n in 1..=5 {
                    let recent = &recent;
                    threads.spawn(move || recent.record(address(n), at(n.into())));
                }
            });
            let expected = [5, 4, 3, 2, 1].map(|n| format!("203.0.113.{n}"));
            assert_eq!(numbers(&recent), expected);
        }
    }

    /// A thread does not wait for ever for another one that the system suspends between two steps, so a few
    /// rounds may end with an address less.
    #[test]
    fn threads_with_the_same_new_address_push_out_no_other() {
        const ROUNDS: usize = 2_000;
        let expected = [9, 4, 3, 2, 1].map(|n| format!("203.0.113.{n}"));
        let is_lost = |_: &usize| {
            let recent = RecentAddresses::new();
            for n in 1..=4 {
                recent.record(address(n), at(n.into()));
            }
            let ready = AtomicU64::new(0);
            thread::scope(|threads| {
                for _ in 0..2 {
                    threads.spawn(|| {
                        ready.fetch_add(1, Ordering::AcqRel);
                        while ready.load(Ordering::Acquire) < 2 {
                            std::hint::spin_loop();
                        }
                        recent.record(address(9), at(9));
                    });
                }
            });
            numbers(&recent) != expected
        };
        let lost = (0..ROUNDS).filter(is_lost).count();
        assert!(lost < ROUNDS / 100, "in {lost} of {ROUNDS} rounds");
    }

    #[test]
    fn what_two_credentials_know_is_joined() {
        let seen = |n, first, last| SeenAddress {
            address: address(n),
            first_used_at: at(first),
            last_used_at: at(last),
        };
        let joined = SeenAddress::newest([seen(1, 5, 6), seen(2, 1, 1), seen(1, 2, 9)]);
        assert_eq!(joined, [seen(1, 2, 9), seen(2, 1, 1)]);
    }
}
