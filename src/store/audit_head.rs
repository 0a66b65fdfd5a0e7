//! The end of the audit log.

use crate::domain::event::{ChainHash, Event};

/// Where the chain ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct AuditHead {
    pub seq: i64,
    pub hash: ChainHash,
}

impl AuditHead {
    /// Before the first event.
    pub const NONE: Self = Self { seq: 0, hash: ChainHash::GENESIS };

    /// Whether `event` is the next one, and says of itself what its hash says.
    pub fn is_followed_by(&self, event: &Event) -> bool {
        event.seq == self.seq + 1
            && event.prev_hash == self.hash
            && event.hash == event.expected_hash()
    }
}
