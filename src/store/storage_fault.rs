//! The reasons why the storage takes no changes.

use std::fmt;

/// Why the storage takes no changes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum StorageFault {
    Full,
    ReadOnly,
    /// An I/O error.
    Failed,
    /// Another program holds a lock, or this process could not release a lock of its own.
    Locked,
    /// The files are not where they were opened: they, or their directory, were moved or removed.
    Moved,
}

impl fmt::Display for StorageFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "the storage is full",
            Self::ReadOnly => "the storage is read-only",
            Self::Failed => "the storage failed",
            Self::Locked => "the storage is locked",
            Self::Moved => "the database is not in its place",
        })
    }
}
