//! The end of the audit log.

use crate::domain::event::{ChainHash, Event};

/// The newest event of the hash chain.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct AuditHead {
    pub seq: i64,
    pub hash: ChainHash,
}

impl AuditHead {
    /// The end of an empty log.
    pub const NONE: Self = Self { seq: 0, hash: ChainHash::GENESIS };

    /// Returns whether `event` is the next one, and its hash is right.
    pub fn is_followed_by(&self, event: &Event) -> bool {
        event.seq == self.seq + 1
            && event.prev_hash == self.hash
            && event.hash == event.expected_hash()
    }
}
