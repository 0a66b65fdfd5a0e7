//! The positions of webhooks in the audit log.
//!
//! A position follows from deliveries and is no audited row: an event for each delivery would itself
//! have to be delivered.

use rusqlite::params;

use crate::{
    domain::webhook::WebhookCursor,
    store::{
        ReadTx, StoreError, WriteTx,
        rows::{Fields, Table},
    },
};

const CURSORS: Table = Table { name: "webhook_cursors", key: "name" };
const COLUMNS: &str = "name, seq, attempts, next_attempt_ms, disabled_at_ms";

impl WriteTx<'_> {
    /// Stores the position of a webhook. `target` identifies its receiver.
    pub fn keep_webhook_cursor(
        &self,
        name: &str,
        target: &str,
        cursor: WebhookCursor,
    ) -> Result<(), StoreError> {
        self.sql
            .prepare_cached(
                "INSERT INTO webhook_cursors
                     (name, target, seq, attempts, next_attempt_ms, disabled_at_ms)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6)
                 ON CONFLICT (name) DO UPDATE SET
                     target = excluded.target, seq = excluded.seq, attempts = excluded.attempts,
                     next_attempt_ms = excluded.next_attempt_ms,
                     disabled_at_ms = excluded.disabled_at_ms",
            )?
            .execute(params![
                name,
                target,
                cursor.seq,
                cursor.attempts,
                cursor.next_attempt,
                cursor.disabled_at,
            ])?;
        Ok(())
    }

    /// Makes the next attempt of a webhook due at once. Returns `false` if there is no such webhook.
    pub fn reset_webhook(&self, name: &str) -> Result<bool, StoreError> {
        let mut statement = self.sql.prepare_cached(
            "UPDATE webhook_cursors SET attempts = 0, next_attempt_ms = NULL, disabled_at_ms = NULL
             WHERE name = ?1",
        )?;
        Ok(statement.execute([name])? != 0)
    }

    /// Removes the position of a webhook.
    pub fn delete_webhook_cursor(&self, name: &str) -> Result<(), StoreError> {
        self.sql.prepare_cached("DELETE FROM webhook_cursors WHERE name = ?1")?.execute([name])?;
        Ok(())
    }
}

impl ReadTx<'_> {
    /// Returns the position of a webhook, if this webhook with this target has one.
    pub fn webhook_cursor(
        &self,
        name: &str,
        target: &str,
    ) -> Result<Option<WebhookCursor>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM webhook_cursors WHERE name = ?1 AND target = ?2");
        let mut statement = self.sql.prepare_cached(&sql)?;
        CURSORS.first(&mut statement, [name, target], cursor)
    }

    /// Returns the positions of all webhooks with their names, in the order of the names.
    pub fn webhook_cursors(&self) -> Result<Vec<(String, WebhookCursor)>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM webhook_cursors ORDER BY name");
        let read = |row: Fields<'_>| Ok((row.get("name")?, cursor(row)?));
        let mut statement = self.sql.prepare_cached(&sql)?;
        CURSORS.all(&mut statement, [], read)
    }
}

fn cursor(row: Fields<'_>) -> Result<WebhookCursor, StoreError> {
    Ok(WebhookCursor {
        seq: row.get("seq")?,
        attempts: row.get("attempts")?,
        next_attempt: row.get("next_attempt_ms")?,
        disabled_at: row.get("disabled_at_ms")?,
    })
}
