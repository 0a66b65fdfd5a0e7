//! Signed checkpoints, and the comparison of the log with them.

use rusqlite::params;

use crate::{
    domain::{
        checkpoint::{Checkpoint, CheckpointSigner},
        event::ChainHash,
    },
    env::Timestamp,
    store::{
        ReadTx, StoreError, WriteTx,
        rows::{Fields, Table},
    },
};

const CHECKPOINTS: Table = Table { name: "checkpoints", key: "size" };

/// How many of the newest events each start verifies, even if a checkpoint covers them.
const VERIFIED_AT_START: i64 = 10_000;

/// A checkpoint as the file holds it.
#[derive(Clone, Debug)]
pub struct StoredCheckpoint {
    /// How many events the log had.
    pub size: i64,
    pub time: Timestamp,
    /// The hash of the newest of these events.
    pub head: ChainHash,
    /// The signed note.
    pub note: String,
}

impl StoredCheckpoint {
    /// Returns the name of the log, which is the first line of the signed note.
    pub fn origin(&self) -> String {
        self.note.lines().next().unwrap_or_default().to_owned()
    }
}

impl WriteTx<'_> {
    /// Signs the present log. Returns `None` if no event was added since the last checkpoint.
    ///
    /// Takes no receipt, because a checkpoint follows from the log and needs no event.
    pub fn checkpoint(
        &self,
        signer: &CheckpointSigner,
    ) -> Result<Option<StoredCheckpoint>, StoreError> {
        let head = self.marks.get().head;
        if self.last_checkpoint()?.map_or(0, |it| it.size) >= head.seq {
            return Ok(None);
        }
        let size = head.seq.unsigned_abs();
        let note = signer.sign(&Checkpoint {
            origin: signer.public().name().to_owned(),
            size,
            root: self.tree_root(size)?,
            head: head.hash,
            time: self.now(),
        });
        self.sql
            .prepare_cached(
                "INSERT INTO checkpoints (size, time_ms, head, note) VALUES (?1, ?2, ?3, ?4)",
            )?
            .execute(params![head.seq, self.now(), head.hash, note])?;
        Ok(Some(StoredCheckpoint { size: head.seq, time: self.now(), head: head.hash, note }))
    }
}

impl ReadTx<'_> {
    /// Returns the newest checkpoint.
    pub fn last_checkpoint(&self) -> Result<Option<StoredCheckpoint>, StoreError> {
        let mut statement = self.sql.prepare_cached(
            "SELECT size, time_ms, head, note FROM checkpoints ORDER BY size DESC LIMIT 1",
        )?;
        CHECKPOINTS.first(&mut statement, [], checkpoint)
    }

    /// Returns the checkpoint of exactly `size` events.
    pub fn checkpoint_of(&self, size: i64) -> Result<Option<StoredCheckpoint>, StoreError> {
        let mut statement = self
            .sql
            .prepare_cached("SELECT size, time_ms, head, note FROM checkpoints WHERE size = ?1")?;
        CHECKPOINTS.first(&mut statement, [size], checkpoint)
    }

    /// Returns checkpoints of more than `after` events, the smallest first.
    pub fn checkpoints(&self, after: i64, limit: u32) -> Result<Vec<StoredCheckpoint>, StoreError> {
        let mut statement = self.sql.prepare_cached(
            "SELECT size, time_ms, head, note FROM checkpoints WHERE size > ?1
             ORDER BY size LIMIT ?2",
        )?;
        CHECKPOINTS.all(&mut statement, params![after, limit], checkpoint)
    }

    /// Returns whether the log is still what it was at this checkpoint. Reads one event only, whose
    /// hash covers all events before it.
    pub fn is_as_checkpointed(&self, size: i64, head: ChainHash) -> Result<bool, StoreError> {
        Ok(size == 0 || self.event(size)?.is_some_and(|it| it.hash == head))
    }

    /// Compares the log with the last checkpoint, and verifies the events after it, and in any case
    /// the newest [`VERIFIED_AT_START`].
    pub(super) fn check_log(&self) -> Result<(), StoreError> {
        let last = self.last_checkpoint()?;
        let trusted = last.as_ref().map_or(0, |it| it.size);
        if let Some(StoredCheckpoint { size, time, head, .. }) = last
            && !self.is_as_checkpointed(size, head)?
        {
            return Err(StoreError::NotAsCheckpointed { size, time });
        }
        let recent = (self.audit_head()?.seq - VERIFIED_AT_START).max(0);
        match self.first_broken_event(trusted.min(recent))? {
            Some(seq) => Err(StoreError::BrokenChain { seq }),
            None => Ok(()),
        }
    }
}

fn checkpoint(row: Fields<'_>) -> Result<StoredCheckpoint, StoreError> {
    Ok(StoredCheckpoint {
        size: row.get("size")?,
        time: row.get("time_ms")?,
        head: row.get("head")?,
        note: row.get("note")?,
    })
}
