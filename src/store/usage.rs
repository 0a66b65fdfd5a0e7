//! The use of keys: the last use of each credential, and counts of verdicts by day.

use rusqlite::params;

use crate::{
    domain::{id::KeyId, plaintext_key::KeyPrefix, verdict::Verdict},
    env::Timestamp,
    store::{
        Counts, ReadTx, StoreError, WriteTx,
        rows::{Fields, Table},
    },
};

const KEY_USAGE: Table = Table { name: "key_usage", key: "key_id" };
/// The columns of the counts, in the order of [`Verdict::COUNTED`].
const COUNTS: [&str; Verdict::COUNTED.len()] = [
    "valid",
    "revoked",
    "rotated",
    "account_suspended",
    "disabled",
    "expired",
    "ip_not_allowed",
    "insufficient_scopes",
    "rate_limited",
];

/// A day in UTC, counted from 1970-01-01.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Day(i64);

/// The uses of one credential since they were last stored.
#[derive(Clone, Copy, Debug)]
pub struct Use {
    pub key: KeyId,
    pub prefix: KeyPrefix,
    pub last_used: Option<Timestamp>,
    pub counts: Counts,
}

/// The counts of one day.
#[derive(Clone, Copy, Debug)]
pub struct DayOfUse {
    pub day: Day,
    /// In the order of [`Verdict::COUNTED`].
    pub counts: [u64; Verdict::COUNTED.len()],
}

impl Day {
    const MILLIS: i64 = 24 * 60 * 60 * 1000;

    pub fn of(at: Timestamp) -> Self {
        Self(at.as_millis().div_euclid(Self::MILLIS))
    }

    /// Returns the day that is `days` earlier.
    #[must_use]
    pub fn before(self, days: u32) -> Self {
        Self(self.0 - i64::from(days))
    }

    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// Returns the first instant of the day.
    pub fn start(self) -> Timestamp {
        Timestamp::from_millis(self.0.saturating_mul(Self::MILLIS))
    }
}

impl WriteTx<'_> {
    /// Adds uses to what is stored. A use of a credential that was deleted meanwhile still counts for
    /// its key. A last use that is older than the stored one changes nothing.
    pub fn add_usage(&self, uses: &[Use]) -> Result<(), StoreError> {
        let mut last = self.sql.prepare_cached(
            "INSERT INTO credential_usage (key_id, prefix, last_used_at_ms)
             SELECT id, coalesce((SELECT prefix FROM credentials
                                  WHERE key_id = id AND prefix = ?2), ''), ?3
             FROM api_keys WHERE id = ?1
             ON CONFLICT (key_id, prefix) DO UPDATE
             SET last_used_at_ms = max(last_used_at_ms, excluded.last_used_at_ms)",
        )?;
        let mut daily = self.sql.prepare_cached(
            "INSERT INTO key_usage (key_id, day, valid, revoked, rotated, account_suspended,
                                    disabled, expired, ip_not_allowed, insufficient_scopes,
                                    rate_limited)
             SELECT id, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11 FROM api_keys WHERE id = ?1
             ON CONFLICT (key_id, day) DO UPDATE
             SET valid = valid + excluded.valid,
                 revoked = revoked + excluded.revoked,
                 rotated = rotated + excluded.rotated,
                 account_suspended = account_suspended + excluded.account_suspended,
                 disabled = disabled + excluded.disabled,
                 expired = expired + excluded.expired,
                 ip_not_allowed = ip_not_allowed + excluded.ip_not_allowed,
                 insufficient_scopes = insufficient_scopes + excluded.insufficient_scopes,
                 rate_limited = rate_limited + excluded.rate_limited",
        )?;
        let today = Day::of(self.now()).0;
        for it in uses {
            if let Some(at) = it.last_used {
                last.execute(params![it.key, it.prefix, at])?;
            }
            let [valid, revoked, rotated, suspended, disabled, expired, address, scopes, rate] =
                it.counts;
            daily.execute(params![
                it.key, today, valid, revoked, rotated, suspended, disabled, expired, address,
                scopes, rate
            ])?;
        }
        Ok(())
    }

    /// Deletes at most `limit` rows of counts of earlier days. Returns how many it deleted.
    pub fn delete_usage_before(&self, day: Day, limit: u32) -> Result<usize, StoreError> {
        let mut statement = self.sql.prepare_cached(
            "DELETE FROM key_usage WHERE (key_id, day) IN (
                 SELECT key_id, day FROM key_usage INDEXED BY key_usage_by_day
                 WHERE day < ?1 LIMIT ?2)",
        )?;
        Ok(statement.execute(params![day.0, limit])?)
    }
}

impl ReadTx<'_> {
    /// Returns the days from `first` on that have counts, the oldest first.
    pub fn usage_of(&self, key: KeyId, first: Day) -> Result<Vec<DayOfUse>, StoreError> {
        let mut statement = self.sql.prepare_cached(
            "SELECT day, valid, revoked, rotated, account_suspended, disabled, expired,
                    ip_not_allowed, insufficient_scopes, rate_limited
             FROM key_usage WHERE key_id = ?1 AND day >= ?2 ORDER BY day",
        )?;
        KEY_USAGE.all(&mut statement, params![key, first.0], day_of_use)
    }
}

fn day_of_use(row: Fields<'_>) -> Result<DayOfUse, StoreError> {
    let mut counts = [0; Verdict::COUNTED.len()];
    for (count, column) in counts.iter_mut().zip(COUNTS) {
        *count = u64::try_from(row.get::<i64>(column)?).unwrap_or_default();
    }
    Ok(DayOfUse { day: Day(row.get("day")?), counts })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_begins_at_midnight_utc() {
        let day = Day::of(Timestamp::from_millis(86_400_000));
        assert_eq!(day, Day(1));
        assert_eq!(Day::of(Timestamp::from_millis(86_399_999)), Day(0));
        assert_eq!(Day::of(Timestamp::from_millis(-1)), Day(-1));
        assert_eq!(day.next().start().to_string(), "1970-01-03T00:00:00.000Z");
        assert_eq!(day.before(1), Day(0));
    }
}
