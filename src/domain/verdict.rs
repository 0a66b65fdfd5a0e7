//! The outcome of a verification.

use crate::domain::named_enum;

named_enum! {
    /// The outcome: the first that applies, in this order. Clients see the names.
    pub enum Verdict {
        /// The text has not the shape of a key, or its checksum is wrong.
        Malformed => "MALFORMED",
        /// No key has this prefix, or the secret is wrong.
        NotFound => "NOT_FOUND",
        Revoked => "REVOKED",
        /// An old credential whose grace period is over.
        Rotated => "ROTATED",
        AccountSuspended => "ACCOUNT_SUSPENDED",
        Disabled => "DISABLED",
        Expired => "EXPIRED",
        InsufficientScopes => "INSUFFICIENT_SCOPES",
        Valid => "VALID",
    }
}

impl Verdict {
    /// The verdicts that are counted for each key: the whole secret was presented.
    pub const COUNTED: [Self; 7] = [
        Self::Valid,
        Self::Revoked,
        Self::Rotated,
        Self::AccountSuspended,
        Self::Disabled,
        Self::Expired,
        Self::InsufficientScopes,
    ];
}
