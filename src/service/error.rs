//! Every way a use case can refuse.

use std::time::Duration;

use crate::{
    domain::{request_path::Ambiguity, verdict::Verdict},
    env::Timestamp,
    service::BackupError,
    store::StoreError,
};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{0}")]
    Unauthenticated(Denial),
    /// The caller holds none of these scopes, of which one is needed.
    #[error("this needs the scope {}", .0.join(" or "))]
    MissingScope(&'static [&'static str]),
    /// The key grants none or not all of what is needed.
    #[error("the API key does not grant {}", .0.join(", "))]
    LacksScopes(Vec<String>),
    #[error("{0}")]
    AmbiguousPath(Ambiguity),
    #[error("no route of the policy matches this request")]
    NoRoute,
    /// The proxy asks what cannot be answered; nothing that its client can mend.
    #[error("{0}")]
    ProxyMistake(String),
    /// Not there, never was, or not the caller's to know: all the same outside.
    #[error("there is no resource at this address")]
    NotFound,
    /// As [`Error::NotFound`], for an identifier: also of a key that is another account's.
    #[error("no {0} with this id")]
    UnknownId(&'static str),
    #[error("no checkpoint yet")]
    NoCheckpoint,
    #[error("it has changed since it was read")]
    PreconditionFailed,
    #[error("the request is not acceptable")]
    Invalid(Vec<Fault>),
    /// The scopes that were asked for and may not be given.
    #[error("a key cannot be given more than its maker holds and its account allows: {}", .0.join(", "))]
    ScopeEscalation(Vec<String>),
    #[error("{0}")]
    Conflict(Conflict),
    #[error("the keys of this account made too many changes; try again later")]
    TooManyChanges { retry_after: Duration },
    /// Only told to somebody at the machine.
    #[error("no backup was made: {0}")]
    Backup(#[from] BackupError),
    #[error("{}", why_unavailable(.0))]
    Unavailable(#[source] StoreError),
    #[error("something went wrong on our side")]
    Internal(#[source] StoreError),
}

/// Why nobody was recognised. Only who presents a whole secret learns more than `InvalidKey`.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Denial {
    #[error("an API key is needed, in the header X-API-Key")]
    MissingKey,
    #[error("the API key is not valid")]
    InvalidKey,
    #[error("the API key has been revoked")]
    Revoked,
    #[error("the API key has been replaced by rotation and its grace period is over")]
    Rotated,
    #[error("the account is suspended")]
    AccountSuspended,
    #[error("the API key is disabled")]
    Disabled,
    #[error("the API key has expired")]
    Expired,
}

/// A request that is right in itself but does not fit what is.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Conflict {
    #[error("an expired key cannot be revived or rotated; create a new one")]
    KeyNotActive,
    #[error(
        "three values of this key are alive already; wait for a grace period to end, or end it"
    )]
    TooManyLiveKeys { retry_after: Duration },
    #[error("a newer value of the key is in use; only the current one can rotate it")]
    Superseded,
    #[error("the key's current value was never used; ending this one could lock its holder out")]
    SuccessorUnused,
    #[error("the account has as many keys as it may have ({limit})")]
    TooManyKeys { limit: u32 },
    #[error(
        "the account has {limit} revoked and expired keys, as many as may be stored; the first of \
         them is purged after {room_at}"
    )]
    TooManyEndedKeys { limit: u32, room_at: Timestamp, retry_after: Duration },
    #[error("the operator account must keep an enabled, never-expiring key with the scope *")]
    LastRootKey,
    #[error("the operator account cannot be suspended or deleted")]
    OperatorAccount,
    #[error("another account has this externalId")]
    ExternalIdTaken,
    #[error("no checkpoint covers this event yet; ask again in a minute, or name a size")]
    NotCheckpointed,
}

/// One thing that is wrong with a request, and where.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Fault {
    /// A JSON pointer into the body, or `/` and the name of a query parameter.
    pub pointer: String,
    /// Stable, for programs.
    pub code: &'static str,
    /// For people.
    pub detail: String,
}

impl Fault {
    pub fn new(pointer: impl Into<String>, code: &'static str, detail: impl Into<String>) -> Self {
        Self { pointer: pointer.into(), code, detail: detail.into() }
    }
}

fn why_unavailable(err: &StoreError) -> String {
    let fault = err.storage_fault().map(|it| it.to_string());
    fault.unwrap_or_else(|| "the service is busy".to_owned())
}

impl Error {
    pub const NO_KEY: Self = Self::UnknownId("API key");
    pub const NO_ACCOUNT: Self = Self::UnknownId("account");
    pub const NO_EVENT: Self = Self::UnknownId("event");

    pub fn invalid(pointer: &str, code: &'static str, detail: impl Into<String>) -> Self {
        Self::Invalid(vec![Fault::new(pointer, code, detail)])
    }
}

impl From<Conflict> for Error {
    fn from(conflict: Conflict) -> Self {
        Self::Conflict(conflict)
    }
}

impl From<StoreError> for Error {
    fn from(err: StoreError) -> Self {
        // `Taken` is two identical random numbers: the next attempt draws others.
        if err.is_temporary() || matches!(err, StoreError::Taken(_) | StoreError::Unreadable(_)) {
            return Self::Unavailable(err);
        }
        Self::Internal(err)
    }
}

impl From<Verdict> for Denial {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Revoked => Self::Revoked,
            Verdict::Rotated => Self::Rotated,
            Verdict::AccountSuspended => Self::AccountSuspended,
            Verdict::Disabled => Self::Disabled,
            Verdict::Expired => Self::Expired,
            Verdict::Malformed
            | Verdict::NotFound
            | Verdict::InsufficientScopes
            | Verdict::Valid => Self::InvalidKey,
        }
    }
}
