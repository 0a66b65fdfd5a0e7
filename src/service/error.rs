//! The errors of the use cases.

use std::{io, time::Duration};

use crate::{
    domain::{
        rate_limit::Rates, request_path::Ambiguity, scope::Scope, text::quotable, verdict::Verdict,
    },
    env::Timestamp,
    service::{BackupError, Fault, Faults},
    store::StoreError,
};

/// The most characters that an error quotes of a text without a limit of its own.
const MAX_QUOTED: usize = 200;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{0}")]
    Unauthenticated(Denial),
    /// The caller has none of these scopes, and needs one.
    #[error("the API key needs the scope {}", .0.join(" or "))]
    MissingScope(&'static [&'static str]),
    /// The key does not grant these scopes.
    #[error("the API key does not grant {}", .0.join(", "))]
    LacksScopes(Vec<String>),
    /// The key has an address list, and the client address is unknown or not on it.
    #[error("the API key is not accepted from this address")]
    AddressNotAllowed,
    /// A rate limit has too little left. Holds the limits, and the instant of the refusal.
    #[error("the rate limit of the API key or of its account is reached")]
    RateLimited(Box<Rates>, Timestamp),
    #[error("{0}")]
    Ambiguous(Ambiguity),
    #[error("no route of the policy matches this request")]
    NoRoute,
    /// The request of the proxy cannot be answered. Its client cannot correct that.
    #[error("{0}")]
    ProxyMistake(String),
    /// The resource does not exist, or the caller may not know it. Both look the same.
    #[error("there is no resource at this address")]
    NotFound,
    /// As [`Error::NotFound`], for an id: also for a key of another account.
    #[error("no {0} with this id")]
    UnknownId(&'static str),
    #[error("there is no checkpoint yet; the server makes one on a schedule")]
    NoCheckpoint,
    #[error(
        "the resource has changed since it was read, so `If-Match` does not match; read it again"
    )]
    PreconditionFailed,
    #[error("the request is not valid; `errors` lists its faults")]
    Invalid(Faults),
    /// The scopes that the caller may not grant, or that make a key stronger than the caller.
    #[error("the calling key does not have, or the account does not allow: {}", .0.join(", "))]
    ScopeEscalation(Vec<String>),
    #[error(
        "this Idempotency-Key was used for another request, or with another value of the calling key; \
         choose a new one"
    )]
    IdempotencyKeyReused,
    #[error("{0}")]
    Conflict(Conflict),
    #[error("{0}")]
    Token(TokenRefusal),
    #[error("the keys of this account made too many changes; try again later")]
    TooManyChanges { retry_after: Duration },
    #[error("too many keys were reported as leaked; try again later")]
    TooManyReports { retry_after: Duration },
    /// Only shown on the machine itself.
    #[error("no backup was made: {0}")]
    Backup(#[from] BackupError),
    #[error("{}", why_unavailable(.0))]
    Unavailable(#[source] StoreError),
    #[error("the server failed; its log says why")]
    Internal(#[source] StoreError),
}

/// The reason why a caller is not accepted. Only a caller with the whole secret learns more than
/// `InvalidKey`.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Denial {
    #[error("the request has no API key; send one in the header X-API-Key")]
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

/// The reason why a valid request does not fit the current state.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Conflict {
    #[error("an expired key cannot be extended or rotated; create a new one")]
    KeyNotActive,
    #[error(
        "three credentials of this key are valid already; wait for a grace period to end, or end it"
    )]
    TooManyLiveKeys { retry_after: Duration },
    #[error("a newer credential of the key was used; only the current one can rotate it")]
    Superseded,
    #[error(
        "the current credential of the key was never used; ending the presented one could lock its holder out"
    )]
    SuccessorUnused,
    #[error("the account has its maximum of {limit} keys; revoke one first")]
    TooManyKeys { limit: u32 },
    #[error(
        "the account has {limit} or more revoked and expired keys, as many as may be stored; the purge \
         makes room after {room_at}"
    )]
    TooManyEndedKeys { limit: u32, room_at: Timestamp, retry_after: Duration },
    #[error("the operator account must keep an enabled, never-expiring key with the scope *")]
    LastRootKey,
    #[error("the operator account cannot be suspended or deleted")]
    OperatorAccount,
    #[error(
        "a link would put the power of the operator account into an address; create a key with \
         `keyward keys create` instead"
    )]
    OperatorLink,
    #[error(
        "a console link cannot be changed, or rotated by another key; revoke it and make a new one"
    )]
    IsConsoleLink,
    #[error("this server serves no console (`console = false`), so a link would lead nowhere")]
    NoConsole,
    #[error("another account has this `externalId`; it must be unique")]
    ExternalIdTaken,
    #[error("a request with this Idempotency-Key is running; repeat yours to get its answer")]
    IdempotencyInProgress,
    #[error(
        "the request was answered before, and the value of the key that it returned is not accepted \
         any more; to make another one, choose a new Idempotency-Key"
    )]
    IdempotentResultRevoked,
    #[error("no checkpoint covers this event yet; ask again in a minute, or name a size")]
    NotCheckpointed,
}

/// The reason why a key is not exchanged for a token, other than a verdict on the key.
#[derive(Debug, thiserror::Error)]
pub enum TokenRefusal {
    #[error("this server issues no tokens: set `public_url`, the address that is their issuer")]
    NoIssuer,
    #[error(
        "keys of this account cannot be exchanged for tokens; its operator can allow it: \
         `keyward accounts update ACCOUNT --token-exchange on`"
    )]
    ExchangeOff,
    #[error(
        "there is no scope `{}` for tokens; a token holds only scopes of the protected API",
        quotable(.0, Scope::MAX_LEN)
    )]
    UnknownScope(String),
    #[error("`scope` is blank; leave it out for a token with all scopes that the API key grants")]
    BlankScope,
    #[error("the API key has no scope of the protected API, so a token would allow nothing")]
    NoScope,
    #[error(
        "`{}` is not an audience of this server; the setting `tokens.audiences` lists them",
        quotable(.0, MAX_QUOTED)
    )]
    UnknownAudience(String),
    /// The file with the keys that sign tokens cannot be written.
    #[error("the keys that sign tokens cannot be stored now")]
    NoKeys(#[source] io::Error),
}

/// Returns the error and its causes. A cause that the text ends with already is not repeated.
pub fn with_causes(err: &dyn std::error::Error) -> String {
    let mut text = err.to_string();
    let mut cause = err.source();
    while let Some(it) = cause {
        let it_says = it.to_string();
        if !text.ends_with(&it_says) {
            text = format!("{text}: {it_says}");
        }
        cause = it.source();
    }
    text
}

fn why_unavailable(err: &StoreError) -> String {
    let fault = err.storage_fault().map(|it| it.to_string());
    fault.unwrap_or_else(|| "the service is busy".to_owned())
}

impl Error {
    /// Returns the error for a caller of this API whose key has this verdict.
    pub fn of_caller(verdict: Verdict) -> Self {
        if verdict == Verdict::IpNotAllowed {
            return Self::AddressNotAllowed;
        }
        Self::Unauthenticated(Denial::from(verdict))
    }

    pub const NO_KEY: Self = Self::UnknownId("API key");
    pub const NO_ACCOUNT: Self = Self::UnknownId("account");
    pub const NO_EVENT: Self = Self::UnknownId("event");

    pub fn invalid(pointer: &str, code: &'static str, detail: impl Into<String>) -> Self {
        Self::Invalid(Fault::new(pointer, code, detail).into())
    }
}

impl From<TokenRefusal> for Error {
    fn from(refusal: TokenRefusal) -> Self {
        Self::Token(refusal)
    }
}

impl From<Conflict> for Error {
    fn from(conflict: Conflict) -> Self {
        Self::Conflict(conflict)
    }
}

impl From<StoreError> for Error {
    fn from(err: StoreError) -> Self {
        // `Taken` means two identical random numbers. The next attempt draws others.
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
            | Verdict::IpNotAllowed
            | Verdict::InsufficientScopes
            | Verdict::RateLimited
            | Verdict::Valid => Self::InvalidKey,
        }
    }
}
