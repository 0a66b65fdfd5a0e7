//! How many keys may be reported as leaked.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use crate::env::Monotonic;

/// A token bucket of keys.
#[derive(Clone, Copy, Debug)]
struct Rate {
    /// The number of keys at once after a pause.
    at_once: u32,
    /// The time after which one more key may be reported.
    interval: Duration,
}

/// The limit of one client: three full reports at once, and then one key in each second.
const OF_A_CLIENT: Rate = Rate { at_once: 300, interval: Duration::from_secs(1) };
/// The limit of all clients together: a key costs one derivation at most. It refills 20 times as fast as
/// that of a client, so that a few clients which report without end leave most of it to the others.
const OF_ALL: Rate = Rate { at_once: 1_000, interval: Duration::from_millis(50) };

/// The limit, in memory only.
#[derive(Debug, Default)]
pub(in crate::service) struct ReportLimit(Mutex<Buckets>);

#[derive(Debug, Default)]
struct Buckets {
    /// The instant at which the bucket of all clients is full again; `None` if it was never used.
    all: Option<Monotonic>,
    /// The same for each client. `all` bounds how many are not full: each took a key from it, and got
    /// that key back after a second.
    clients: HashMap<Option<IpAddr>, Monotonic>,
}

impl ReportLimit {
    /// Takes this many keys, or nothing. Returns the time until there are enough.
    pub fn take(
        &self,
        client: Option<IpAddr>,
        keys: usize,
        now: Monotonic,
    ) -> Result<(), Duration> {
        let keys = u32::try_from(keys).unwrap_or(u32::MAX).max(1);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take(network(client), keys, now)
    }
}

impl Buckets {
    /// The number of clients at which full buckets are dropped.
    const SWEEP_AT: usize = 2_048;

    fn take(&mut self, client: Option<IpAddr>, keys: u32, now: Monotonic) -> Result<(), Duration> {
        // A client beyond its limit takes nothing from the others.
        let own = OF_A_CLIENT.full_at_after(self.clients.get(&client).copied(), keys, now)?;
        let all = OF_ALL.full_at_after(self.all, keys, now)?;
        self.all = Some(all);
        self.clients.insert(client, own);
        if Self::SWEEP_AT <= self.clients.len() {
            self.clients.retain(|_, full_at| now < *full_at);
        }
        Ok(())
    }
}

impl Rate {
    /// Returns when the bucket is full again after this many keys were taken from it, or the time
    /// until it has them.
    fn full_at_after(
        self,
        full_at: Option<Monotonic>,
        keys: u32,
        now: Monotonic,
    ) -> Result<Monotonic, Duration> {
        let full_at =
            full_at.map_or(now, |it| it.max(now)).after(self.interval.saturating_mul(keys));
        let wait = full_at.since(now).saturating_sub(self.interval.saturating_mul(self.at_once));
        if wait.is_zero() { Ok(full_at) } else { Err(wait) }
    }
}

/// Returns the network that one client holds: a host of IPv6 has all addresses of a /64.
fn network(client: Option<IpAddr>) -> Option<IpAddr> {
    client.map(|it| match it {
        IpAddr::V4(_) => it,
        IpAddr::V6(it) => Ipv6Addr::from_bits(it.to_bits() >> 64 << 64).into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: i64) -> Monotonic {
        Monotonic::from_millis(millis)
    }

    fn client(number: u32) -> IpAddr {
        IpAddr::V4(number.into())
    }

    #[test]
    fn a_client_may_report_three_hundred_keys_at_once_and_then_one_in_each_second() {
        let limit = ReportLimit::default();
        let take =
            |keys, now| limit.take(Some(client(1)), keys, at(now)).map_err(|it| it.as_millis());
        assert_eq!([take(100, 0), take(100, 0), take(99, 0)], [Ok(()); 3]);
        assert_eq!(take(2, 0), Err(1_000));
        assert_eq!(take(1, 0), Ok(()), "a refusal takes nothing");
        assert_eq!(take(1, 0), Err(1_000));
        assert_eq!(take(1, 999), Err(1));
        assert_eq!(take(1, 1_000), Ok(()));
        assert_eq!(take(100, 1_000), Err(100_000));
        assert_eq!(take(300, 1_000_000), Ok(()));
        assert_eq!(take(1, 1_000_000), Err(1_000), "never more than a full bucket");
    }

    #[test]
    fn all_clients_together_have_a_limit_and_one_client_cannot_use_it_up() {
        let limit = ReportLimit::default();
        let take = |number, keys| {
            limit.take(Some(client(number)), keys, at(0)).map_err(|it| it.as_millis())
        };
        for _ in 0..100 {
            let _ = take(1, 100);
        }
        assert_eq!([take(2, 300), take(3, 300), take(4, 100)], [Ok(()); 3]);
        assert_eq!(take(5, 1), Err(50));
    }

    #[test]
    fn a_few_clients_that_report_without_end_leave_most_of_the_limit_to_others() {
        let limit = ReportLimit::default();
        let mut others = 0;
        for now in (0..600_000).step_by(50) {
            for number in 0..8 {
                while limit.take(Some(client(number)), 1, at(now)).is_ok() {}
            }
            others += i32::from(limit.take(Some(client(100)), 1, at(now)).is_ok());
        }
        // Its own limit is 300 and then one in each of 600 seconds. At first, the eight take it all.
        assert!((750..=900).contains(&others), "{others}");
    }

    #[test]
    fn the_addresses_of_one_network_of_ipv6_share_a_limit() {
        let limit = ReportLimit::default();
        let take = |text: &str| limit.take(Some(text.parse().unwrap()), 300, at(0)).is_ok();
        assert!(take("2001:db8:0:1::1"));
        assert!(!take("2001:db8:0:1:ffff::2"));
        assert!(take("2001:db8:0:2::1"));
    }

    #[test]
    fn strangers_do_not_fill_the_memory() {
        let limit = ReportLimit::default();
        for number in 0..100_000 {
            let now = at(i64::from(number));
            let _ = limit.take(Some(client(number)), 1, now);
        }
        assert!(limit.0.lock().unwrap().clients.len() <= Buckets::SWEEP_AT);
    }
}
