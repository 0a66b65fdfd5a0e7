//! The use of keys: the last use of each credential, and counts of verdicts by day.

use rusqlite::params;

use crate::{
    domain::{
        id::{AccountId, KeyId},
        plaintext_key::KeyPrefix,
        verdict::Verdict,
    },
    store::{
        Day, ReadTx, StoreError, Uses, WriteTx,
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

/// The uses of one credential.
#[derive(Clone, Debug)]
pub struct CredentialUses {
    pub key: KeyId,
    pub prefix: KeyPrefix,
    pub uses: Uses,
}

/// The counts of one day.
#[derive(Clone, Copy, Debug)]
pub struct DayOfUse {
    pub day: Day,
    /// In the order of [`Verdict::COUNTED`].
    pub counts: [u64; Verdict::COUNTED.len()],
}

impl WriteTx<'_> {
    /// Adds uses to what is stored. A use of a credential that was deleted meanwhile still counts for
    /// its key. A last use that is older than the stored one changes nothing.
    pub fn add_usage(&self, uses: &[CredentialUses]) -> Result<(), StoreError> {
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
        for CredentialUses { key, prefix, uses: it } in uses {
            if let Some(at) = it.last_used {
                last.execute(params![key, prefix, at])?;
            }
            let [valid, revoked, rotated, suspended, disabled, expired, address, scopes, rate] =
                it.counts;
            daily.execute(params![
                key, today, valid, revoked, rotated, suspended, disabled, expired, address, scopes,
                rate
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

    /// Returns the same as sums over all stored keys of an account, revoked ones included.
    pub fn usage_of_account(
        &self,
        account: AccountId,
        first: Day,
    ) -> Result<Vec<DayOfUse>, StoreError> {
        let columns = COUNTS.map(|it| format!("sum(u.{it}) AS {it}")).join(", ");
        let mut statement = self.sql.prepare_cached(&format!(
            "SELECT u.day, {columns}
             FROM api_keys AS k INDEXED BY api_keys_by_end
             CROSS JOIN key_usage AS u ON u.key_id = k.id
             WHERE k.account_id = ?1 AND u.day >= ?2 GROUP BY u.day ORDER BY u.day"
        ))?;
        KEY_USAGE.all(&mut statement, params![account, first.0], day_of_use)
    }
}

fn day_of_use(row: Fields<'_>) -> Result<DayOfUse, StoreError> {
    let mut counts = [0; Verdict::COUNTED.len()];
    for (count, column) in counts.iter_mut().zip(COUNTS) {
        *count = u64::try_from(row.get::<i64>(column)?).unwrap_or_default();
    }
    Ok(DayOfUse { day: Day(row.get("day")?), counts })
}
