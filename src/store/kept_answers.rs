//! Sealed answers that are kept for requests with an `Idempotency-Key`.
//!
//! An answer repeats what an event tells, so these writes need no event. Each stands in the
//! transaction of its change.

use rusqlite::params;

use crate::{
    domain::{id::KeyId, plaintext_key::KeyPrefix, sealed_answer::IdempotentRequest},
    env::Timestamp,
    store::{
        ReadTx, StoreError, WriteTx,
        rows::{Fields, Table},
    },
};

const KEPT_ANSWERS: Table = Table { name: "idempotent_answers", key: "caller" };

/// A sealed answer to a request.
#[derive(Clone, Debug)]
pub struct KeptAnswer {
    pub request: IdempotentRequest,
    /// The key that was created or rotated.
    pub subject: KeyId,
    /// The prefix of the credential that the answer holds.
    pub prefix: KeyPrefix,
    /// Empty if that credential has ended.
    pub sealed: Vec<u8>,
}

impl ReadTx<'_> {
    /// Returns the answer that is kept for this caller and `Idempotency-Key`, if it was made after
    /// `cutoff`. The request may be another.
    pub fn kept_answer(
        &self,
        wanted: &IdempotentRequest,
        cutoff: Timestamp,
    ) -> Result<Option<KeptAnswer>, StoreError> {
        let mut statement = self.sql.prepare_cached(
            "SELECT caller, token, request, subject, prefix, sealed FROM idempotent_answers
             WHERE caller = ?1 AND token = ?2 AND created_at_ms > ?3",
        )?;
        let given = params![wanted.caller, wanted.token, cutoff];
        KEPT_ANSWERS.first(&mut statement, given, kept_answer)
    }
}

impl WriteTx<'_> {
    /// Keeps an answer. Returns `false` if another is kept for this caller and `Idempotency-Key`,
    /// made after `cutoff`.
    pub fn keep_answer(&self, answer: &KeptAnswer, cutoff: Timestamp) -> Result<bool, StoreError> {
        let IdempotentRequest { caller, token, digest } = &answer.request;
        let kept = self
            .sql
            .prepare_cached(
                "INSERT INTO idempotent_answers
                     (caller, token, request, subject, prefix, sealed, created_at_ms)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
                 ON CONFLICT (caller, token) DO UPDATE
                 SET request = excluded.request, subject = excluded.subject,
                     prefix = excluded.prefix, sealed = excluded.sealed,
                     created_at_ms = excluded.created_at_ms
                 WHERE created_at_ms <= ?8",
            )?
            .execute(params![
                caller,
                token,
                digest,
                answer.subject,
                answer.prefix,
                answer.sealed,
                self.now(),
                cutoff,
            ])?;
        Ok(kept == 1)
    }

    /// Empties the answers that show a credential of this key which is no longer accepted: they are not
    /// given again. So the rotations of a key store the text of a few answers, not of all.
    pub fn empty_ended_answers(&self, key: KeyId) -> Result<(), StoreError> {
        self.sql
            .prepare_cached(
                "UPDATE idempotent_answers SET sealed = x''
                 WHERE subject = ?1 AND sealed <> x'' AND prefix NOT IN (
                     SELECT c.prefix FROM credentials AS c JOIN api_keys AS k ON k.id = c.key_id
                     WHERE c.key_id = ?1 AND k.revoked_at_ms IS NULL AND c.ended_at_ms IS NULL
                         AND (c.valid_until_ms IS NULL OR ?2 < c.valid_until_ms))",
            )?
            .execute(params![key, self.now()])?;
        Ok(())
    }

    /// Deletes at most `limit` answers that were not made after `cutoff`. Returns how many it deleted.
    pub fn delete_kept_answers(&self, cutoff: Timestamp, limit: u32) -> Result<usize, StoreError> {
        let mut statement = self.sql.prepare_cached(
            "DELETE FROM idempotent_answers WHERE (caller, token) IN (
                 SELECT caller, token FROM idempotent_answers
                     INDEXED BY idempotent_answers_by_age
                 WHERE created_at_ms <= ?1 LIMIT ?2)",
        )?;
        Ok(statement.execute(params![cutoff, limit])?)
    }
}

fn kept_answer(row: Fields<'_>) -> Result<KeptAnswer, StoreError> {
    Ok(KeptAnswer {
        request: IdempotentRequest {
            caller: row.get("caller")?,
            token: row.get("token")?,
            digest: row.get("request")?,
        },
        subject: row.get("subject")?,
        prefix: row.get("prefix")?,
        sealed: row.get("sealed")?,
    })
}
