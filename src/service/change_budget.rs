//! The change budget: how many changes the keys of an account may make.
//!
//! [`Keyward::change`] takes a [`ChangePermit`], so no use case can forget the budget.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use crate::{
    domain::id::AccountId,
    env::Monotonic,
    service::{AnswerKeeper, Error, Keyward, Principal},
};

/// The change budget of each account.
#[derive(Clone, Copy, Debug)]
pub struct ChangeRate {
    /// The number of changes at once after a pause. At least 1.
    pub at_once: u32,
    /// The number of changes in each second after that: 1 to 1000.
    pub per_second: u32,
}

/// The token bucket (in memory only) of each account that has used its budget.
#[derive(Debug, Default)]
pub(super) struct ChangeBudget {
    state: Mutex<Buckets>,
}

#[derive(Debug, Default)]
struct Buckets {
    /// The instant at which the bucket of an account is full again: the whole state of a bucket.
    full_at: HashMap<AccountId, Monotonic>,
    /// The number of buckets at which full ones are dropped.
    sweep_at: usize,
}

/// The permission for one change. Creating, rotating and updating spend it.
pub struct ChangePermit {
    caller: Principal,
    keeper: Option<AnswerKeeper>,
}

impl ChangePermit {
    /// The caller that asked for the change.
    pub fn caller(&self) -> &Principal {
        &self.caller
    }

    /// Lets the change keep its answer for a retry, if the request has an `Idempotency-Key`.
    #[must_use]
    pub fn keeping(self, keeper: Option<AnswerKeeper>) -> Self {
        Self { keeper, ..self }
    }

    pub(super) fn into_parts(self) -> (Principal, Option<AnswerKeeper>) {
        (self.caller, self.keeper)
    }
}

impl Buckets {
    /// The least number of buckets for which dropping is worth its time.
    const LEAST_SWEEP: usize = 1_024;

    /// Takes one change, or returns the time until there is one.
    fn take(
        &mut self,
        account: AccountId,
        rate: ChangeRate,
        now: Monotonic,
    ) -> Result<(), Duration> {
        let interval =
            Duration::from_millis(u64::from(1_000_u32.div_ceil(rate.per_second.clamp(1, 1_000))));
        let most = interval.saturating_mul(rate.at_once.max(1) - 1);
        let full_at = self.full_at.get(&account).map_or(now, |it| (*it).max(now));
        let wait = full_at.since(now).saturating_sub(most);
        if !wait.is_zero() {
            return Err(wait);
        }
        self.full_at.insert(account, full_at.after(interval));
        if self.sweep_at.max(Self::LEAST_SWEEP) <= self.full_at.len() {
            self.full_at.retain(|_, full_at| now < *full_at);
            self.sweep_at = self.full_at.len().saturating_mul(2);
        }
        Ok(())
    }
}

impl Keyward {
    /// Takes a change from the budget of the caller's account, before anything slow. A change that
    /// is refused later, or that changes nothing, is taken as well, because it uses the one writer,
    /// too. The operator has no limit.
    pub(super) fn permit_change(&self, caller: &Principal) -> Result<ChangePermit, Error> {
        if !caller.operator {
            let now = self.env.time.monotonic();
            let mut buckets =
                self.change_budget.state.lock().unwrap_or_else(PoisonError::into_inner);
            buckets
                .take(caller.account, self.settings.change_rate, now)
                .map_err(|retry_after| Error::TooManyChanges { retry_after })?;
        }
        Ok(ChangePermit { caller: caller.clone(), keeper: None })
    }

    /// Permits a revocation. No budget may stop it: a thief could spend the budget, and the stolen
    /// key could not be revoked. Each key is revoked once, so nothing grows.
    pub(super) fn permit_revocation(caller: &Principal) -> ChangePermit {
        ChangePermit { caller: caller.clone(), keeper: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: ChangeRate = ChangeRate { at_once: 3, per_second: 2 };

    fn at(millis: i64) -> Monotonic {
        Monotonic::from_millis(millis)
    }

    #[test]
    fn so_many_changes_pass_at_once_and_then_one_in_each_interval() {
        let (mut buckets, account) = (Buckets::default(), AccountId::from_raw(1));
        let mut take = |now| buckets.take(account, RATE, at(now)).map_err(|it| it.as_millis());
        assert_eq!([take(0), take(0), take(0)], [Ok(()); 3]);
        assert_eq!(take(0), Err(500));
        assert_eq!(take(499), Err(1), "a refusal takes nothing");
        assert_eq!(take(500), Ok(()));
        assert_eq!(take(500), Err(500));
        assert_eq!([take(10_000), take(10_000), take(10_000)], [Ok(()); 3]);
        assert_eq!(take(10_000), Err(500), "never more than a full bucket");
    }

    #[test]
    fn accounts_do_not_share_and_full_buckets_are_dropped() {
        let mut buckets = Buckets::default();
        for round in 0..10 {
            for account in 0..1_000 {
                let account = AccountId::from_raw(round * 1_000 + account);
                let now = i64::try_from(round).unwrap() * 60_000;
                assert_eq!(buckets.take(account, RATE, at(now)), Ok(()));
            }
        }
        assert!(buckets.full_at.len() <= 2 * Buckets::LEAST_SWEEP, "{}", buckets.full_at.len());
    }
}
