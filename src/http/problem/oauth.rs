//! Refusals of a request for a token, in the form of OAuth (RFC 6749, 5.2; RFC 8693, 2.2.2).

use actix_web::{HttpResponse, http::StatusCode};
use serde::Serialize;
use utoipa::ToSchema;

use super::Problem;
use crate::service::TokenRefusal;

/// A refused request for a token (RFC 6749, 5.2).
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = TokenError)]
pub struct TokenErrorBody<'a> {
    /// The kind of refusal, as OAuth names it.
    #[schema(example = "invalid_scope")]
    error: &'static str,
    /// An explanation of this occurrence, for people.
    #[serde(rename = "error_description")]
    #[schema(example = "the API key does not grant orders:write")]
    error_description: String,
    /// The kind of refusal, as the problems of the other operations name it.
    #[schema(example = "missing_scope")]
    code: &'static str,
    /// The identifier of the request, as in the header `X-Request-Id` and in the log.
    #[schema(example = "req_4fLq0N2vT8xYb7Jm00000001")]
    request_id: &'a str,
}

impl Problem {
    pub(super) fn token(refusal: &TokenRefusal) -> Self {
        let bad_request = |code| Self::bad_request(code, refusal);
        let forbidden = |code| Self::new(StatusCode::FORBIDDEN, code, refusal);
        match refusal {
            TokenRefusal::NoIssuer => Self::new(StatusCode::NOT_FOUND, "no_public_url", refusal),
            TokenRefusal::ExchangeOff => forbidden("token_exchange_off"),
            TokenRefusal::UnknownScope(_) | TokenRefusal::BlankScope => {
                bad_request("unknown_scope")
            }
            TokenRefusal::NoScope => forbidden("no_token_scope"),
            TokenRefusal::UnknownAudience(_) => bad_request("unknown_audience"),
            TokenRefusal::NoKeys(source) => {
                tracing::error!(error = source as &dyn std::error::Error, "{refusal}");
                Self::unavailable_because(refusal)
            }
        }
    }

    /// Returns the response to a request for a token.
    ///
    /// The key is what the client exchanges, not how it authenticates. So a refused key is a fault of
    /// the request: 400, not 401 (RFC 8693, 2.2.2).
    pub fn respond_to_exchange(self, request_id: &str) -> HttpResponse {
        let status = match self.status {
            401 | 403 | 404 | 422 => StatusCode::BAD_REQUEST,
            other => StatusCode::from_u16(other).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
        };
        let body = TokenErrorBody {
            error: oauth_error(status, self.code),
            error_description: described(&self.detail),
            code: self.code,
            request_id,
        };
        Self { status: status.as_u16(), ..self.clone() }.head().json(body)
    }
}

fn oauth_error(status: StatusCode, code: &str) -> &'static str {
    match (status.as_u16(), code) {
        (429 | 503, _) => "temporarily_unavailable",
        (500.., _) => "server_error",
        (_, "unsupported_grant_type" | "no_public_url") => "unsupported_grant_type",
        (_, "token_exchange_off") => "unauthorized_client",
        (_, "unknown_scope" | "missing_scope" | "no_token_scope") => "invalid_scope",
        (_, "unknown_audience") => "invalid_target",
        (_, _) => "invalid_request",
    }
}

/// Returns the text in the characters that RFC 6749 allows here: visible ASCII without quotation marks
/// and backslashes, and blanks.
fn described(detail: &str) -> String {
    let shown = |it: char| match it {
        '"' | '\\' => '\'',
        ' '..='~' => it,
        _ => '?',
    };
    detail.chars().map(shown).collect()
}
