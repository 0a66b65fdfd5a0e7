//! The Merkle tree over the events: one hash for the whole log, and short proofs.
//!
//! The tree of RFC 6962, section 2.1 (and of C2SP tlog-checkpoint): a leaf is hashed with a zero
//! byte before it, a pair with a one, and a tree of `n` leaves is cut at the largest power of two
//! below `n`. A leaf is the 32-byte hash of an event.

use std::{fmt, ops::Range};

use pbkdf2::sha2::{Digest, Sha256};

use crate::domain::event::ChainHash;

/// The hash of a leaf or of a subtree.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct TreeHash(pub [u8; 32]);

impl TreeHash {
    /// Returns the hash of the leaf for the event with this hash.
    #[must_use]
    pub fn leaf(event: ChainHash) -> Self {
        let mut hasher = Sha256::new();
        hasher.update([0]);
        hasher.update(event.0);
        Self(hasher.finalize().into())
    }

    /// Returns the hash of a tree of two halves.
    #[must_use]
    pub fn pair(left: Self, right: Self) -> Self {
        let mut hasher = Sha256::new();
        hasher.update([1]);
        hasher.update(left.0);
        hasher.update(right.0);
        Self(hasher.finalize().into())
    }

    /// Returns the hash of the empty tree.
    #[must_use]
    pub fn empty() -> Self {
        Self(Sha256::digest([]).into())
    }
}

impl fmt::Display for TreeHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|it| write!(f, "{it:02x}"))
    }
}

/// Returns the hash of the tree of `leaves`. Calls `subtree` for complete subtrees, the largest
/// first: the length of each is a power of two, and its first leaf a multiple of its length.
pub fn root<E>(
    leaves: Range<u64>,
    subtree: &mut impl FnMut(Range<u64>) -> Result<TreeHash, E>,
) -> Result<TreeHash, E> {
    let len = leaves.end.saturating_sub(leaves.start);
    if len == 0 {
        return Ok(TreeHash::empty());
    }
    if len.is_power_of_two() && leaves.start.is_multiple_of(len) {
        return subtree(leaves);
    }
    let cut = leaves.start + left_len(len);
    let left = root(leaves.start..cut, subtree)?;
    Ok(TreeHash::pair(left, root(cut..leaves.end, subtree)?))
}

/// Returns the inclusion proof of the leaf at `index` in the tree of the first `size` leaves, from
/// the leaf upwards (RFC 6962, section 2.1.1). `None` if the tree has no such leaf.
pub fn inclusion<E>(
    index: u64,
    size: u64,
    subtree: &mut impl FnMut(Range<u64>) -> Result<TreeHash, E>,
) -> Result<Option<Vec<TreeHash>>, E> {
    if size <= index {
        return Ok(None);
    }
    let (mut tree, mut path) = (0..size, Vec::new());
    while 1 < tree.end - tree.start {
        let cut = tree.start + left_len(tree.end - tree.start);
        let (inside, beside) = if index < cut {
            (tree.start..cut, cut..tree.end)
        } else {
            (cut..tree.end, tree.start..cut)
        };
        path.push(root(beside, subtree)?);
        tree = inside;
    }
    path.reverse();
    Ok(Some(path))
}

/// Returns the consistency proof of the tree of the first `old` leaves and that of the first `new`
/// (RFC 6962, section 2.1.2). `None` unless 0 < `old` <= `new`; empty if they are equal.
pub fn consistency<E>(
    old: u64,
    new: u64,
    subtree: &mut impl FnMut(Range<u64>) -> Result<TreeHash, E>,
) -> Result<Option<Vec<TreeHash>>, E> {
    if old == 0 || new < old {
        return Ok(None);
    }
    let (mut tree, mut path) = (0..new, Vec::new());
    // Whether `tree` began as the old tree, whose hash the reader has.
    let mut whole = true;
    while tree.end != old {
        let cut = tree.start + left_len(tree.end - tree.start);
        if old <= cut {
            path.push(root(cut..tree.end, subtree)?);
            tree.end = cut;
        } else {
            path.push(root(tree.start..cut, subtree)?);
            tree.start = cut;
            whole = false;
        }
    }
    if !whole {
        path.push(root(tree, subtree)?);
    }
    path.reverse();
    Ok(Some(path))
}

/// Returns the largest power of two below `len`, which is at least 2.
fn left_len(len: u64) -> u64 {
    1 << (len - 1).ilog2()
}

/// A tree that only grows. Keeps one hash for each one in the binary form of its size.
#[derive(Clone, Debug, Default)]
pub struct Frontier {
    size: u64,
    /// The hashes of complete subtrees, the largest first.
    peaks: Vec<TreeHash>,
}

impl Frontier {
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Appends a leaf. Calls back with the length and the hash of each subtree that it completes.
    pub fn push(&mut self, leaf: TreeHash, mut completed: impl FnMut(u64, TreeHash)) {
        self.peaks.push(leaf);
        self.size += 1;
        for height in 1..=self.size.trailing_zeros() {
            let (right, left) = (self.peaks.pop(), self.peaks.pop());
            let Some((left, right)) = left.zip(right) else { return };
            let hash = TreeHash::pair(left, right);
            self.peaks.push(hash);
            completed(1 << height, hash);
        }
    }

    pub fn root(&self) -> TreeHash {
        let peaks = self.peaks.iter().rev().copied();
        peaks.reduce(|right, left| TreeHash::pair(left, right)).unwrap_or_else(TreeHash::empty)
    }
}

#[cfg(test)]
mod tests;
