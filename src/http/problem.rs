//! The one mapping of a failure to an HTTP response (RFC 9457).

mod oauth;

use std::{fmt, time::Duration};

use actix_web::{
    HttpResponse, HttpResponseBuilder, ResponseError,
    http::{StatusCode, header},
};
use serde::Serialize;
use utoipa::ToSchema;

pub use self::oauth::TokenErrorBody;

use crate::{
    domain::text::masked,
    http::rate_fields::RateFields,
    service::{BackupError, Conflict, Denial, Error, Fault, Faults, with_causes},
};

/// A problem document (RFC 9457).
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Problem {
    /// The kind of problem as a URI: `urn:keyward:problem:` and the code.
    #[schema(example = "urn:keyward:problem:not-found")]
    r#type: String,
    /// The kind of problem, for people.
    #[schema(example = "Not found")]
    title: &'static str,
    /// The HTTP status code.
    #[schema(example = 404, minimum = 400, maximum = 599)]
    status: u16,
    /// An explanation of this occurrence, for people.
    #[schema(example = "no API key with this id")]
    detail: String,
    /// The kind of problem, for programs. Never renamed.
    #[schema(example = "not_found")]
    code: &'static str,
    /// The identifier of the request, as in the header `X-Request-Id` and in the log.
    #[schema(example = "req_4fLq0N2vT8xYb7Jm00000001")]
    request_id: String,
    /// The first 100 faults of the request, and whether there are more; only with status 422.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Option<Vec<ProblemFault>>, nullable = false)]
    errors: Vec<ProblemFault>,
    #[serde(skip)]
    retry_after_secs: Option<u64>,
    #[serde(skip)]
    allow: Option<String>,
    #[serde(skip)]
    rate_fields: Option<Box<RateFields>>,
}

/// One fault of a request.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ProblemFault {
    /// A JSON pointer (RFC 6901) into the body, or `/` and the name of a query parameter or header.
    #[schema(example = "/scopes/0")]
    pointer: String,
    /// The kind of fault, for programs.
    #[schema(example = "unknown_scope")]
    code: &'static str,
    /// An explanation of the fault, for people.
    #[schema(example = "there is no scope `order:read`; did you mean orders:read?")]
    detail: String,
}

const TOO_MANY_STREAMS: &str = "too_many_streams";
const TOO_MANY_ANSWERS: &str = "too_many_answers";

impl Problem {
    pub fn new(status: StatusCode, code: &'static str, detail: impl fmt::Display) -> Self {
        Self {
            r#type: format!("urn:keyward:problem:{}", code.replace('_', "-")),
            title: title(status),
            status: status.as_u16(),
            detail: masked(&detail.to_string()).into_owned(),
            code,
            request_id: String::new(),
            errors: Vec::new(),
            retry_after_secs: None,
            allow: None,
            rate_fields: None,
        }
    }

    pub fn bad_request(code: &'static str, detail: impl fmt::Display) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, detail)
    }

    pub fn internal() -> Self {
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal_error",
            "the server failed; its log says why",
        )
    }

    /// 405: the address takes only the methods in `allow`.
    pub fn method_not_allowed(allow: String) -> Self {
        let detail = format!("this address accepts only {allow}");
        let status = StatusCode::METHOD_NOT_ALLOWED;
        Self { allow: Some(allow), ..Self::new(status, "method_not_allowed", detail) }
    }

    /// 401 for a proxy: the request presents its key ambiguously.
    pub fn ambiguous_key(code: &'static str, detail: impl fmt::Display) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, code, detail)
    }

    /// Maps every failure of the server to 503, the one that a proxy handles.
    #[must_use]
    pub fn for_a_proxy(self) -> Self {
        if self.status < 500 {
            return self;
        }
        Self::unavailable()
    }

    /// 503: the server is busy.
    pub fn unavailable() -> Self {
        Self::unavailable_because("the service is busy")
    }

    /// 503, for a reason that ends by itself or that the operator can remove.
    pub fn unavailable_because(why: impl fmt::Display) -> Self {
        let status = StatusCode::SERVICE_UNAVAILABLE;
        Self::new(status, "unavailable", why).with_retry(1)
    }

    /// 503: no further stream can be opened now. A client may retry after some seconds.
    pub fn too_many_streams() -> Self {
        let detail = "too many event streams are open; close one, or try again later";
        let status = StatusCode::SERVICE_UNAVAILABLE;
        Self::new(status, TOO_MANY_STREAMS, detail).with_retry(5)
    }

    pub fn too_many_answers() -> Self {
        let detail = "too many long answers wait for their clients; read them, or try again later";
        let status = StatusCode::SERVICE_UNAVAILABLE;
        Self::new(status, TOO_MANY_ANSWERS, detail).with_retry(5)
    }

    pub fn invalid(faults: impl Into<Faults>) -> Self {
        Self::from(Error::Invalid(faults.into()))
    }

    /// Returns whether the caller was refused, rather than its input.
    pub fn is_denial(&self) -> bool {
        matches!(self.status, 401 | 403)
    }

    pub fn detail(&self) -> &str {
        &self.detail
    }

    pub fn code(&self) -> &'static str {
        self.code
    }

    /// Returns the response, now that the identifier of the request is known.
    ///
    /// # Panics
    ///
    /// Never: a struct of strings and numbers is always JSON.
    #[expect(clippy::expect_used, reason = "a struct of strings and a number is always JSON")]
    pub fn respond(&self, request_id: &str) -> HttpResponse {
        let complete = Self { request_id: request_id.to_owned(), ..self.clone() };
        let mut body = serde_json::to_vec(&complete).expect("strings and a number are JSON");
        body.push(b'\n');
        let mut response = self.head();
        if matches!(self.code, TOO_MANY_STREAMS | TOO_MANY_ANSWERS) {
            response.force_close(); // Pipelined requests would be refused too.
        }
        response.content_type("application/problem+json").body(body)
    }

    fn head(&self) -> HttpResponseBuilder {
        let mut response = HttpResponse::build(self.status_code());
        if let Some(seconds) = self.retry_after_secs {
            response.insert_header((header::RETRY_AFTER, seconds));
        }
        if let Some(fields) = &self.rate_fields {
            fields.append_to(&mut response);
        }
        if let Some(allow) = &self.allow {
            response.insert_header((header::ALLOW, allow.as_str()));
        }
        if self.status == StatusCode::UNAUTHORIZED.as_u16() {
            // No scheme for API keys is registered; this one names the header to send.
            let challenge = "ApiKey realm=\"keyward\", header=\"X-API-Key\"";
            response.insert_header((header::WWW_AUTHENTICATE, challenge));
        }
        response
    }

    /// 500, with the error in the log.
    fn failed(error: &(dyn std::error::Error + 'static)) -> Self {
        tracing::error!(error, cause = error.source(), "a request failed");
        Self::internal()
    }

    #[must_use]
    pub fn with_detail(self, detail: String) -> Self {
        Self { detail, ..self }
    }

    fn with_retry(self, seconds: u64) -> Self {
        Self { retry_after_secs: Some(seconds), ..self }
    }
}

impl From<Error> for Problem {
    // No `_` arm: the crate compiles only when every failure has a response here.
    fn from(err: Error) -> Self {
        let new = |status, code| Self::new(status, code, &err);
        let forbidden = |code| new(StatusCode::FORBIDDEN, code);
        match &err {
            Error::Unauthenticated(denial) => new(StatusCode::UNAUTHORIZED, denial_code(*denial)),
            Error::MissingScope(_) | Error::LacksScopes(_) => forbidden("missing_scope"),
            Error::AddressNotAllowed => forbidden("ip_not_allowed"),
            Error::RateLimited(rates, now) => {
                let wait = rates.exceeded().map_or(1, |it| it.secs_left(*now).max(1));
                Self {
                    title: "Rate limit reached",
                    rate_fields: RateFields::new(rates, || *now),
                    ..new(StatusCode::TOO_MANY_REQUESTS, "rate_limited")
                }
                .with_retry(wait)
            }
            Error::Ambiguous(why) => forbidden(why.code()),
            Error::NoRoute => forbidden("no_route"),
            Error::ProxyMistake(_) => forbidden("authz_misconfigured"),
            Error::ScopeEscalation(_) => forbidden("scope_escalation"),
            Error::NotFound | Error::UnknownId(_) | Error::NoCheckpoint => {
                new(StatusCode::NOT_FOUND, "not_found")
            }
            Error::PreconditionFailed => {
                new(StatusCode::PRECONDITION_FAILED, "precondition_failed")
            }
            Error::Invalid(faults) => Self {
                errors: faults.iter().map(ProblemFault::from).collect(),
                ..new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_request")
            },
            Error::IdempotencyKeyReused => {
                new(StatusCode::UNPROCESSABLE_ENTITY, "idempotency_key_reused")
            }
            Error::Conflict(conflict) => Self::conflict(*conflict),
            Error::Token(refusal) => Self::token(refusal),
            Error::TooManyChanges { retry_after } => {
                new(StatusCode::TOO_MANY_REQUESTS, "too_many_changes")
                    .with_retry(whole_seconds(*retry_after))
            }
            Error::TooManyReports { retry_after } => {
                new(StatusCode::TOO_MANY_REQUESTS, "too_many_reports")
                    .with_retry(whole_seconds(*retry_after))
            }
            Error::Backup(source) => Self::backup(source, with_causes(&err)),
            Error::Unavailable(source) => {
                tracing::warn!(
                    error = source as &dyn std::error::Error,
                    cause = std::error::Error::source(source),
                    "a request was refused for now"
                );
                Self::unavailable_because(&err)
            }
            Error::Internal(source) => Self::failed(source),
        }
    }
}

impl Problem {
    /// 503 if another attempt may succeed, and 500 otherwise. Only the control socket answers so.
    fn backup(err: &BackupError, detail: String) -> Self {
        let cause = std::error::Error::source(err);
        tracing::error!(error = err as &dyn std::error::Error, cause, "a backup failed");
        let status = if err.may_pass() {
            StatusCode::SERVICE_UNAVAILABLE
        } else {
            StatusCode::INTERNAL_SERVER_ERROR
        };
        Self::new(status, "backup_failed", detail)
    }

    fn conflict(conflict: Conflict) -> Self {
        let new = |code| Self::new(StatusCode::CONFLICT, code, conflict);
        match conflict {
            Conflict::KeyNotActive => new("key_not_active"),
            Conflict::TooManyLiveKeys { retry_after } => {
                new("too_many_live_keys").with_retry(whole_seconds(retry_after))
            }
            Conflict::Superseded => new("superseded"),
            Conflict::SuccessorUnused => new("successor_unused"),
            Conflict::TooManyKeys { .. } => new("too_many_keys"),
            Conflict::TooManyEndedKeys { retry_after, .. } => {
                new("too_many_ended_keys").with_retry(whole_seconds(retry_after))
            }
            Conflict::LastRootKey => new("last_root_key"),
            Conflict::OperatorAccount | Conflict::OperatorLink => new("operator_account"),
            Conflict::IsConsoleLink => new("console_link"),
            Conflict::NoConsole => new("no_console"),
            Conflict::ExternalIdTaken => new("external_id_taken"),
            Conflict::IdempotencyInProgress => new("idempotency_in_progress").with_retry(1),
            Conflict::IdempotentResultRevoked => new("idempotent_result_revoked"),
            Conflict::NotCheckpointed => new("not_checkpointed").with_retry(60),
        }
    }
}

/// Returns the kind of problem, for people.
fn title(status: StatusCode) -> &'static str {
    match status.as_u16() {
        400 => "Bad request",
        401 => "Authentication required",
        403 => "Not allowed",
        404 => "Not found",
        405 => "Method not allowed",
        408 => "Body too slow",
        409 => "Conflict",
        412 => "Precondition failed",
        413 => "Body too large",
        415 => "Unsupported media type",
        422 => "Invalid request",
        429 => "Too many changes",
        503 => "Try again later",
        _ => "Internal error",
    }
}

/// Rounds up to whole seconds, at least one, for `Retry-After`.
fn whole_seconds(wait: Duration) -> u64 {
    u64::try_from(wait.as_millis().div_ceil(1_000)).unwrap_or(u64::MAX).max(1)
}

fn denial_code(denial: Denial) -> &'static str {
    match denial {
        Denial::MissingKey => "missing_key",
        Denial::InvalidKey => "invalid_key",
        Denial::Revoked => "key_revoked",
        Denial::Rotated => "key_rotated",
        Denial::AccountSuspended => "account_suspended",
        Denial::Disabled => "key_disabled",
        Denial::Expired => "key_expired",
    }
}

impl From<&Fault> for ProblemFault {
    fn from(fault: &Fault) -> Self {
        Self {
            pointer: masked(&fault.pointer).into_owned(),
            code: fault.code,
            detail: masked(&fault.detail).into_owned(),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.title)
    }
}

impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// Returns a placeholder: the middleware that knows the identifier calls [`Problem::respond`].
    fn error_response(&self) -> HttpResponse {
        self.head().finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::StoreError;

    #[test]
    fn an_internal_error_tells_the_client_nothing() {
        let secret = StoreError::Damaged("hunter2".to_owned());
        let problem = Problem::from(Error::Internal(secret));
        let body = serde_json::to_string(&problem).unwrap();
        assert!(!body.contains("hunter2"), "{body}");
    }

    #[test]
    fn a_key_that_is_repeated_is_masked() {
        let key = "rg_8fK2mQ9zTabcdefghijklmnopqrstuvwxyz012345678901";
        let fault = Fault::new(format!("/{key}"), "unknown_field", format!("what is {key}?"));
        let body = serde_json::to_string(&Problem::invalid(fault)).unwrap();
        assert!(!body.contains(key), "{body}");
        assert!(body.contains("rg_8fK2mQ9zT…"), "{body}");
    }
}
