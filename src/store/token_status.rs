//! Statements about the places of credentials in the token status list. They change without an event,
//! as an exchange is a use of a key.

use rusqlite::{OptionalExtension, params};

use crate::{
    domain::plaintext_key::KeyPrefix,
    env::Timestamp,
    store::{
        ReadTx, StatusPlace, StoreError, WriteTx,
        rows::{Fields, Table},
        tx::Touched,
    },
};

const PLACES: Table = Table { name: "token_status", key: "idx" };

impl ReadTx<'_> {
    /// Gives every place with its state to `take`.
    pub(super) fn for_each_status_place(
        &self,
        mut take: impl FnMut(u32, StatusPlace),
    ) -> Result<(), StoreError> {
        let mut statement = self.sql.prepare("SELECT idx, prefix, retired_ms FROM token_status")?;
        PLACES.each(&mut statement, [], |row| {
            take(row.get("idx")?, state(row)?);
            Ok(true)
        })
    }

    pub(super) fn status_place(&self, place: u32) -> Result<StatusPlace, StoreError> {
        let mut statement = self
            .sql
            .prepare_cached("SELECT idx, prefix, retired_ms FROM token_status WHERE idx = ?1")?;
        Ok(PLACES.first(&mut statement, [place], state)?.unwrap_or(StatusPlace::Free))
    }

    /// Retires the place of a credential, which is the last act of a transaction. Returns the place; `None`
    /// if the credential has none.
    pub(super) fn retire_status_place(
        &self,
        prefix: KeyPrefix,
        now: Timestamp,
    ) -> Result<Option<u32>, StoreError> {
        let mut statement = self.sql.prepare_cached(
            "UPDATE token_status SET prefix = NULL, retired_ms = ?2 WHERE prefix = ?1
             RETURNING idx",
        )?;
        Ok(statement.query_row(params![prefix, now], |row| row.get(0)).optional()?)
    }

    /// Moves the retirement of this place to `now`, if it is retired.
    pub(super) fn retire_place_again(&self, place: u32, now: Timestamp) -> Result<(), StoreError> {
        self.sql
            .prepare_cached(
                "UPDATE token_status SET retired_ms = ?2 WHERE idx = ?1 AND retired_ms IS NOT NULL",
            )?
            .execute(params![place, now])?;
        Ok(())
    }
}

impl WriteTx<'_> {
    /// Returns the place of a credential. If it has none, gives it the lowest free one.
    pub fn give_status_place(&self, prefix: KeyPrefix) -> Result<u32, StoreError> {
        let known = "SELECT idx FROM token_status WHERE prefix = ?1";
        let known = self.sql.prepare_cached(known)?.query_row([prefix], |row| row.get(0));
        if let Some(place) = known.optional()? {
            return Ok(place);
        }
        let place = self
            .sql
            .prepare_cached(
                "SELECT coalesce(
                    (SELECT min(idx) FROM token_status INDEXED BY token_status_free
                     WHERE prefix IS NULL AND retired_ms IS NULL),
                    (SELECT max(idx) + 1 FROM token_status), 0)",
            )?
            .query_row([], |row| row.get(0))?;
        self.sql
            .prepare_cached(
                "INSERT INTO token_status (idx, prefix) VALUES (?1, ?2)
                 ON CONFLICT (idx) DO UPDATE SET prefix = excluded.prefix",
            )?
            .execute(params![place, prefix])?;
        self.touch(Touched::StatusPlace(place));
        Ok(place)
    }

    /// Retires the places of these credentials.
    pub fn retire_status_places(&self, prefixes: &[KeyPrefix]) -> Result<u64, StoreError> {
        let mut retired = 0;
        for prefix in prefixes {
            if let Some(place) = self.retire_status_place(*prefix, self.now())? {
                self.touch(Touched::StatusPlace(place));
                retired += 1;
            }
        }
        Ok(retired)
    }

    /// Retires places at this instant that were retired at a later one, at most `batch` of them. Returns how
    /// many.
    pub fn retire_future_places(&self, batch: u32) -> Result<u64, StoreError> {
        let mut statement = self.sql.prepare_cached(
            "UPDATE token_status SET retired_ms = ?1
             WHERE idx IN (SELECT idx FROM token_status INDEXED BY token_status_retired
                           WHERE ?1 < retired_ms LIMIT ?2)
             RETURNING idx",
        )?;
        let mut moved = 0;
        PLACES.each(&mut statement, params![self.now(), batch], |row| {
            self.touch(Touched::StatusPlace(row.get("idx")?));
            moved += 1;
            Ok(true)
        })?;
        Ok(moved)
    }

    /// Frees places that were retired before `cutoff`, at most `batch` of them. Returns how many.
    pub fn free_status_places(&self, cutoff: Timestamp, batch: u32) -> Result<u64, StoreError> {
        let mut statement = self.sql.prepare_cached(
            "UPDATE token_status SET retired_ms = NULL
             WHERE idx IN (SELECT idx FROM token_status INDEXED BY token_status_retired
                           WHERE retired_ms < ?1 LIMIT ?2)
             RETURNING idx",
        )?;
        let mut freed = 0;
        PLACES.each(&mut statement, params![cutoff, batch], |row| {
            self.touch(Touched::StatusPlace(row.get("idx")?));
            freed += 1;
            Ok(true)
        })?;
        Ok(freed)
    }
}

fn state(row: Fields<'_>) -> Result<StatusPlace, StoreError> {
    Ok(match (row.get("prefix")?, row.get("retired_ms")?) {
        (Some(prefix), _) => StatusPlace::Given(prefix),
        (None, Some(at)) => StatusPlace::Retired(at),
        (None, None) => StatusPlace::Free,
    })
}
