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
        /// The key has an address list, and the client address is unknown or not on it.
        IpNotAllowed => "IP_NOT_ALLOWED",
        InsufficientScopes => "INSUFFICIENT_SCOPES",
        /// The rate limit of the key or of its account leaves too little.
        RateLimited => "RATE_LIMITED",
        Valid => "VALID",
    }
}

impl Verdict {
    /// The verdicts that are counted for each key: the whole secret was presented.
    pub const COUNTED: [Self; 9] = [
        Self::Valid,
        Self::Revoked,
        Self::Rotated,
        Self::AccountSuspended,
        Self::Disabled,
        Self::Expired,
        Self::IpNotAllowed,
        Self::InsufficientScopes,
        Self::RateLimited,
    ];
}
