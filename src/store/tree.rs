//! The stored part of the Merkle tree over the events (RFC 6962).
//!
//! Event `seq` is leaf `seq - 1`. Subtrees of 256 leaves, of 256 × 256 leaves and so on are stored. The
//! rest is computed from them and from at most 255 events at each end.

use std::ops::Range;

use rusqlite::{OptionalExtension, params};

use crate::{
    domain::{
        event::ChainHash,
        merkle::{self, Frontier, TreeHash},
    },
    store::{ReadTx, StoreError, WriteTx},
};

/// The number of leaves of a stored subtree is a power of this.
const WIDTH: u64 = 256;

impl WriteTx<'_> {
    /// Stores the subtrees that event `seq` completes.
    pub(super) fn grow_tree(&self, seq: i64) -> Result<(), StoreError> {
        let size = seq.unsigned_abs();
        let mut len = WIDTH;
        while size.is_multiple_of(len) {
            let leaves = size - len..size;
            let hash = self.combine(leaves.clone())?;
            self.sql
                .prepare_cached(
                    "INSERT INTO event_tree (level, position, hash) VALUES (?1, ?2, ?3)",
                )?
                .execute(params![len.ilog2(), (leaves.start / len).cast_signed(), hash])?;
            len *= WIDTH;
        }
        Ok(())
    }
}

impl ReadTx<'_> {
    /// Returns the root of the tree of the first `size` events.
    pub fn tree_root(&self, size: u64) -> Result<TreeHash, StoreError> {
        merkle::root(0..size, &mut |leaves| self.subtree(leaves))
    }

    /// Returns the inclusion proof of event `seq` in the tree of the first `size` events; `None` if the
    /// tree does not hold it.
    pub fn inclusion_proof(
        &self,
        seq: u64,
        size: u64,
    ) -> Result<Option<Vec<TreeHash>>, StoreError> {
        let Some(index) = seq.checked_sub(1) else { return Ok(None) };
        merkle::inclusion(index, size, &mut |leaves| self.subtree(leaves))
    }

    /// Returns the consistency proof between the trees of the first `old` and the first `new` events;
    /// `None` unless 0 < `old` <= `new`.
    pub fn consistency_proof(
        &self,
        old: u64,
        new: u64,
    ) -> Result<Option<Vec<TreeHash>>, StoreError> {
        merkle::consistency(old, new, &mut |leaves| self.subtree(leaves))
    }

    /// Returns the hash of a complete subtree, whose number of leaves is a power of two.
    fn subtree(&self, leaves: Range<u64>) -> Result<TreeHash, StoreError> {
        let len = leaves.end - leaves.start;
        if !len.ilog2().is_multiple_of(WIDTH.ilog2()) || len == 1 {
            return self.combine(leaves);
        }
        let kept = self
            .sql
            .prepare_cached("SELECT hash FROM event_tree WHERE level = ?1 AND position = ?2")?
            .query_row(params![len.ilog2(), (leaves.start / len).cast_signed()], |row| row.get(0))
            .optional()?;
        kept.ok_or_else(|| missing(&leaves))
    }

    /// Computes the same hash from stored subtrees, or from the events.
    fn combine(&self, leaves: Range<u64>) -> Result<TreeHash, StoreError> {
        if leaves.end - leaves.start <= WIDTH {
            return self.of_events(leaves);
        }
        let middle = u64::midpoint(leaves.start, leaves.end);
        let halves = [leaves.start..middle, middle..leaves.end];
        let [left, right] = halves.map(|it| self.subtree(it));
        Ok(TreeHash::pair(left?, right?))
    }

    fn of_events(&self, leaves: Range<u64>) -> Result<TreeHash, StoreError> {
        let mut statement = self
            .sql
            .prepare_cached("SELECT hash FROM events WHERE seq BETWEEN ?1 AND ?2 ORDER BY seq")?;
        let hashes = statement.query_map(
            params![leaves.start.cast_signed() + 1, leaves.end.cast_signed()],
            |row| row.get::<_, ChainHash>(0),
        )?;
        let mut tree = Frontier::default();
        for hash in hashes {
            tree.push(TreeHash::leaf(hash?), |_, _| ());
        }
        let whole = tree.size() == leaves.end - leaves.start;
        whole.then(|| tree.root()).ok_or_else(|| missing(&leaves))
    }

    /// Returns every stored subtree: its number of leaves, its first leaf, its hash.
    pub fn kept_subtrees(&self) -> Result<Vec<(u64, u64, TreeHash)>, StoreError> {
        let mut statement = self.sql.prepare("SELECT level, position, hash FROM event_tree")?;
        let rows = statement.query_map([], |row| {
            let (level, position): (u32, i64) = (row.get("level")?, row.get("position")?);
            let len = 1_u64.checked_shl(level).unwrap_or_default();
            Ok((len, position.unsigned_abs().saturating_mul(len), row.get("hash")?))
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}

fn missing(leaves: &Range<u64>) -> StoreError {
    let row = format!("of the events {} to {}", leaves.start + 1, leaves.end);
    StoreError::Corrupt { table: "event_tree", column: "hash", row }
}
