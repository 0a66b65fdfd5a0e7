//! The outcome of a verification.

/// In the order in which reasons are looked for: the first that applies.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// Not of the shape of a key, or a typo in one.
    Malformed,
    /// No such key, or not its secret.
    NotFound,
    Revoked,
    /// An old value whose grace period is over.
    Rotated,
    AccountSuspended,
    Disabled,
    Expired,
    InsufficientScopes,
    Valid,
}

impl Verdict {
    pub const ALL: [Self; 9] = [
        Self::Malformed,
        Self::NotFound,
        Self::Revoked,
        Self::Rotated,
        Self::AccountSuspended,
        Self::Disabled,
        Self::Expired,
        Self::InsufficientScopes,
        Self::Valid,
    ];

    /// Those that are counted for each key: a whole secret was presented.
    pub const COUNTED: [Self; 7] = [
        Self::Valid,
        Self::Revoked,
        Self::Rotated,
        Self::AccountSuspended,
        Self::Disabled,
        Self::Expired,
        Self::InsufficientScopes,
    ];

    /// The code that clients see.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "MALFORMED",
            Self::NotFound => "NOT_FOUND",
            Self::Revoked => "REVOKED",
            Self::Rotated => "ROTATED",
            Self::AccountSuspended => "ACCOUNT_SUSPENDED",
            Self::Disabled => "DISABLED",
            Self::Expired => "EXPIRED",
            Self::InsufficientScopes => "INSUFFICIENT_SCOPES",
            Self::Valid => "VALID",
        }
    }
}
