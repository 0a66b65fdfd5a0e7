//! How much keys are used: the last time of each value, and outcomes counted by day.

use rusqlite::{Row, params};

use crate::{
    domain::{id::KeyId, plaintext_key::KeyPrefix, verdict::Verdict},
    env::Timestamp,
    store::{Counts, ReadTx, StoreError, WriteTx},
};

/// A day in UTC, counted from 1970-01-01.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Day(i64);

/// What is to be stored of the uses of one value since the last time.
#[derive(Clone, Copy, Debug)]
pub struct Use {
    pub key: KeyId,
    pub prefix: KeyPrefix,
    pub last_used: Option<Timestamp>,
    pub counts: Counts,
}

/// The outcomes of one day.
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

    /// So many days earlier.
    #[must_use]
    pub fn before(self, days: u32) -> Self {
        Self(self.0 - i64::from(days))
    }

    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// Its first instant.
    pub fn start(self) -> Timestamp {
        Timestamp::from_millis(self.0.saturating_mul(Self::MILLIS))
    }
}

impl WriteTx<'_> {
    /// Adds what was gathered since the last time. The use of a value that is deleted meanwhile still
    /// counts for its key; a last use that is older than the stored one changes nothing.
    pub fn note_usage(&self, uses: &[Use]) -> Result<(), StoreError> {
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
                                    disabled, expired, insufficient_scopes)
             SELECT id, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9 FROM api_keys WHERE id = ?1
             ON CONFLICT (key_id, day) DO UPDATE
             SET valid = valid + excluded.valid,
                 revoked = revoked + excluded.revoked,
                 rotated = rotated + excluded.rotated,
                 account_suspended = account_suspended + excluded.account_suspended,
                 disabled = disabled + excluded.disabled,
                 expired = expired + excluded.expired,
                 insufficient_scopes = insufficient_scopes + excluded.insufficient_scopes",
        )?;
        let today = Day::of(self.now()).0;
        for it in uses {
            if let Some(at) = it.last_used {
                last.execute(params![it.key.to_string(), it.prefix.as_str(), at.as_millis()])?;
            }
            let [valid, revoked, rotated, suspended, disabled, expired, scopes] = it.counts;
            daily.execute(params![
                it.key.to_string(),
                today,
                valid,
                revoked,
                rotated,
                suspended,
                disabled,
                expired,
                scopes
            ])?;
        }
        Ok(())
    }

    /// Drops at most `limit` rows of counts of earlier days. Returns how many they were.
    pub fn forget_usage_before(&self, day: Day, limit: u32) -> Result<usize, StoreError> {
        let mut statement = self.sql.prepare_cached(
            "DELETE FROM key_usage WHERE (key_id, day) IN (
                 SELECT key_id, day FROM key_usage INDEXED BY key_usage_by_day
                 WHERE day < ?1 LIMIT ?2)",
        )?;
        Ok(statement.execute(params![day.0, limit])?)
    }
}

impl ReadTx<'_> {
    /// The days from `first` on that have any counts, the oldest first.
    pub fn usage_of(&self, key: KeyId, first: Day) -> Result<Vec<DayOfUse>, StoreError> {
        let mut statement = self.sql.prepare_cached(
            "SELECT day, valid, revoked, rotated, account_suspended, disabled, expired,
                    insufficient_scopes
             FROM key_usage WHERE key_id = ?1 AND day >= ?2 ORDER BY day",
        )?;
        let rows = statement.query_map(params![key.to_string(), first.0], day_of_use)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}

fn day_of_use(row: &Row<'_>) -> Result<DayOfUse, rusqlite::Error> {
    let mut counts = [0; Verdict::COUNTED.len()];
    for (i, count) in counts.iter_mut().enumerate() {
        *count = u64::try_from(row.get::<_, i64>(i + 1)?).unwrap_or_default();
    }
    Ok(DayOfUse { day: Day(row.get(0)?), counts })
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
