//! Counts of keys and events, for metrics.

use rusqlite::{OptionalExtension, Row};

use crate::{
    domain::{api_key::ApiKey, event::EventType},
    env::Timestamp,
    store::{ReadTx, StoreError},
};

/// The numbers of keys by status. Each key is counted in one of the first five.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct KeyStates {
    pub active: i64,
    pub expiring: i64,
    pub expired: i64,
    pub disabled: i64,
    pub revoked: i64,
    /// Keys with a credential in grace; they are counted above as well.
    pub rotating: i64,
    /// The next expiry of a valid key.
    pub next_expiry: Option<Timestamp>,
}

impl ReadTx<'_> {
    /// Counts the keys at `now`. Reads every key, so it is not for each request.
    pub fn key_states(&self, now: Timestamp) -> Result<KeyStates, StoreError> {
        let soon = now.after(ApiKey::EXPIRING);
        let sql = "
            SELECT count(*) FILTER (WHERE state = 'active') AS active,
                   count(*) FILTER (WHERE state = 'expiring') AS expiring,
                   count(*) FILTER (WHERE state = 'expired') AS expired,
                   count(*) FILTER (WHERE state = 'disabled') AS disabled,
                   count(*) FILTER (WHERE state = 'revoked') AS revoked,
                   (SELECT count(DISTINCT key_id) FROM credentials
                    WHERE ?1 < valid_until_ms AND ended_at_ms IS NULL) AS rotating,
                   min(expires_at_ms) FILTER (WHERE state IN ('active', 'expiring'))
                       AS next_expiry_ms
            FROM (SELECT expires_at_ms,
                         CASE WHEN revoked_at_ms IS NOT NULL THEN 'revoked'
                              WHEN enabled = 0 THEN 'disabled'
                              WHEN expires_at_ms <= ?1 THEN 'expired'
                              WHEN expires_at_ms < ?2 THEN 'expiring'
                              ELSE 'active' END AS state
                  FROM api_keys)";
        let states = |row: &Row<'_>| {
            Ok(KeyStates {
                active: row.get("active")?,
                expiring: row.get("expiring")?,
                expired: row.get("expired")?,
                disabled: row.get("disabled")?,
                revoked: row.get("revoked")?,
                rotating: row.get("rotating")?,
                next_expiry: row.get("next_expiry_ms")?,
            })
        };
        Ok(self.sql.query_row(sql, [now, soon], states)?)
    }

    /// Returns when the last recorded backup was made.
    pub fn last_backup(&self) -> Result<Option<Timestamp>, StoreError> {
        let mut statement = self.sql.prepare_cached(
            "SELECT time_ms FROM events INDEXED BY events_by_type WHERE type = ?1
             ORDER BY seq DESC LIMIT 1",
        )?;
        let backup = EventType::BackupCreated.as_str();
        Ok(statement.query_row([backup], |row| row.get(0)).optional()?)
    }

    /// Returns how many events of each type follow the event `after`, and the number of the newest.
    pub fn event_counts(&self, after: i64) -> Result<(Vec<(String, u64)>, i64), StoreError> {
        let sql = "SELECT type, count(*) AS count, max(seq) AS newest FROM events
                   WHERE ?1 < seq GROUP BY type";
        let (mut counts, mut newest) = (Vec::new(), after);
        let mut statement = self.sql.prepare(sql)?;
        let mut rows = statement.query([after])?;
        while let Some(row) = rows.next()? {
            counts.push((row.get("type")?, row.get::<_, i64>("count")?.unsigned_abs()));
            newest = newest.max(row.get("newest")?);
        }
        Ok((counts, newest))
    }
}
