//! How much there is of everything, for whoever watches over the service.

use rusqlite::{OptionalExtension, Row};

use crate::{
    domain::{api_key::ApiKey, event::EventType},
    env::Timestamp,
    store::{ReadTx, StoreError},
};

/// Keys by how they stand; each in one of the first five.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct KeyStates {
    pub active: i64,
    pub expiring: i64,
    pub expired: i64,
    pub disabled: i64,
    pub revoked: i64,
    /// Of those, the ones that have an old value in grace.
    pub rotating: i64,
    /// The next end of a key that works now.
    pub next_expiry: Option<Timestamp>,
}

impl ReadTx<'_> {
    /// Looks at every key: for now and then, not for each request.
    pub fn key_states(&self, now: Timestamp) -> Result<KeyStates, StoreError> {
        let soon = now.after(ApiKey::EXPIRING);
        let sql = "
            SELECT count(*) FILTER (WHERE state = 'active'),
                   count(*) FILTER (WHERE state = 'expiring'),
                   count(*) FILTER (WHERE state = 'expired'),
                   count(*) FILTER (WHERE state = 'disabled'),
                   count(*) FILTER (WHERE state = 'revoked'),
                   (SELECT count(DISTINCT key_id) FROM credentials
                    WHERE ?1 < valid_until_ms AND ended_at_ms IS NULL),
                   min(expires_at_ms) FILTER (WHERE state IN ('active', 'expiring'))
            FROM (SELECT expires_at_ms,
                         CASE WHEN revoked_at_ms IS NOT NULL THEN 'revoked'
                              WHEN enabled = 0 THEN 'disabled'
                              WHEN expires_at_ms <= ?1 THEN 'expired'
                              WHEN expires_at_ms < ?2 THEN 'expiring'
                              ELSE 'active' END AS state
                  FROM api_keys)";
        let states = |row: &Row<'_>| {
            Ok(KeyStates {
                active: row.get(0)?,
                expiring: row.get(1)?,
                expired: row.get(2)?,
                disabled: row.get(3)?,
                revoked: row.get(4)?,
                rotating: row.get(5)?,
                next_expiry: row.get::<_, Option<i64>>(6)?.map(Timestamp::from_millis),
            })
        };
        Ok(self.sql.query_row(sql, [now.as_millis(), soon.as_millis()], states)?)
    }

    /// When the last backup was made that the log knows of.
    pub fn last_backup(&self) -> Result<Option<Timestamp>, StoreError> {
        let mut statement = self.sql.prepare_cached(
            "SELECT time_ms FROM events INDEXED BY events_by_type WHERE type = ?1
             ORDER BY seq DESC LIMIT 1",
        )?;
        let time = statement
            .query_row([EventType::BackupCreated.as_str()], |row| row.get::<_, i64>(0))
            .optional()?;
        Ok(time.map(Timestamp::from_millis))
    }

    /// How many events there are of each type after the one with this number, and the newest.
    pub fn event_counts(&self, after: i64) -> Result<(Vec<(String, u64)>, i64), StoreError> {
        let sql = "SELECT type, count(*), max(seq) FROM events WHERE ?1 < seq GROUP BY type";
        let (mut counts, mut newest) = (Vec::new(), after);
        let mut statement = self.sql.prepare(sql)?;
        let mut rows = statement.query([after])?;
        while let Some(row) = rows.next()? {
            counts.push((row.get(0)?, row.get::<_, i64>(1)?.unsigned_abs()));
            newest = newest.max(row.get(2)?);
        }
        Ok((counts, newest))
    }
}
