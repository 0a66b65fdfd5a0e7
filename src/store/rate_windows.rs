//! Statements about what was used of rate limits. They change without an event, like counts of use.

use rusqlite::params;

use crate::{
    domain::{
        event::Subject,
        id::{AccountId, KeyId},
        rate_limit::RateLimit,
    },
    env::Timestamp,
    store::{ReadTx, StoreError, WriteTx, rate_window::WindowUse, rows::Table},
};

const RATE_WINDOWS: Table = Table { name: "rate_windows", key: "subject" };

impl ReadTx<'_> {
    /// Gives the stored windows that start after `since` to `take`.
    pub(super) fn for_each_rate_window(
        &self,
        since: Timestamp,
        mut take: impl FnMut(Subject, WindowUse),
    ) -> Result<(), StoreError> {
        let mut statement = self.sql.prepare(
            "SELECT subject, started_at_ms, used FROM rate_windows WHERE ?1 < started_at_ms",
        )?;
        RATE_WINDOWS.each(&mut statement, [since], |row| {
            let started_at: Timestamp = row.get("started_at_ms")?;
            let known = WindowUse {
                start: u64::try_from(started_at.as_millis()).unwrap_or_default() / 1_000,
                used: row.get("used")?,
            };
            let text = row.text("subject")?;
            match (KeyId::parse(text), AccountId::parse(text)) {
                (Ok(id), _) => take(Subject::Key(id), known),
                (_, Ok(id)) => take(Subject::Account(id), known),
                (Err(_), Err(_)) => return Err(row.unreadable("subject")),
            }
            Ok(true)
        })
    }

    /// Returns the highest use, in per cent, that events have told of this window and this limit. A
    /// changed limit is another one, which has its own events.
    pub fn told_of_window(
        &self,
        subject: Subject,
        window: WindowUse,
        rate: RateLimit,
    ) -> Result<u8, StoreError> {
        let mut statement = self.sql.prepare_cached(
            "SELECT subject, told FROM rate_windows
             WHERE subject = ?1 AND started_at_ms = ?2 AND told_limit = ?3 AND told_window_s = ?4",
        )?;
        let (limit, window_secs) = (rate.limit(), rate.window_secs());
        let params = params![subject.to_string(), window.started_at(), limit, window_secs];
        let told = RATE_WINDOWS.first(&mut statement, params, |row| row.get("told"))?;
        Ok(told.unwrap_or_default())
    }
}

impl WriteTx<'_> {
    /// Stores the use of a window, in place of the window before it, and what events have told of
    /// this limit. Returns `false` if the key or account is deleted; then nothing is stored.
    pub fn store_rate_window(
        &self,
        subject: Subject,
        window: WindowUse,
        rate: RateLimit,
        told: u8,
    ) -> Result<bool, StoreError> {
        let mut statement = self.sql.prepare_cached(
            "INSERT INTO rate_windows
                 (subject, started_at_ms, used, told, told_limit, told_window_s)
             SELECT ?1, ?2, ?3, ?4, ?5, ?6
             WHERE EXISTS (SELECT 1 FROM api_keys WHERE id = ?1)
                OR EXISTS (SELECT 1 FROM accounts WHERE id = ?1)
             ON CONFLICT (subject) DO UPDATE
             SET started_at_ms = excluded.started_at_ms, used = excluded.used,
                 told = excluded.told, told_limit = excluded.told_limit,
                 told_window_s = excluded.told_window_s",
        )?;
        let (limit, window_secs) = (rate.limit(), rate.window_secs());
        let subject = subject.to_string();
        let params = params![subject, window.started_at(), window.used, told, limit, window_secs];
        Ok(statement.execute(params)? != 0)
    }

    /// Forgets the window of a key or account that is deleted.
    pub(super) fn delete_rate_window(&self, subject: Subject) -> Result<(), StoreError> {
        self.sql
            .prepare_cached("DELETE FROM rate_windows WHERE subject = ?1")?
            .execute([subject.to_string()])?;
        Ok(())
    }
}
