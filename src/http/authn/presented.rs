//! The key that a request presents, and what makes it ambiguous.

use std::borrow::Cow;

use actix_web::http::header::{self, HeaderMap, HeaderName};

use crate::{
    domain::{mask, plaintext_key::PlaintextKey},
    http::problem::Problem,
    service::{Denial, Error, Keyward},
};

/// Header names are made once: a look-up by text would parse the name each time.
static API_KEY: HeaderName = HeaderName::from_static("x-api-key");
/// The header of a request whose answer is to be kept for a retry.
pub static IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// Headers that must not come twice: two readers could take one each.
static ONCE: [HeaderName; 6] = [
    HeaderName::from_static("x-api-key"),
    header::AUTHORIZATION,
    header::HOST,
    header::CONTENT_TYPE,
    HeaderName::from_static("idempotency-key"),
    header::IF_MATCH,
];
/// Headers of an authorization request that must not come twice. Its other headers belong to the
/// original request, whose API may take several of them.
static KEY_ONCE: [HeaderName; 3] =
    [HeaderName::from_static("x-api-key"), header::AUTHORIZATION, header::HOST];

/// The key in the headers of a request, and how to judge whether it is the only one.
#[derive(Clone, Copy)]
pub struct PresentedKey<'h> {
    /// `None` if the request presents no key.
    pub text: Option<&'h [u8]>,
    headers: &'h HeaderMap,
    once: &'static [HeaderName],
}

/// Input that two readers could understand differently: the code of the problem, and a sentence about it.
pub type Ambiguity = (&'static str, Cow<'static, str>);

impl<'h> PresentedKey<'h> {
    /// Reads the headers of a request to this server.
    pub fn in_request(app: &Keyward, headers: &'h HeaderMap) -> Self {
        Self { text: key_in(app, headers), headers, once: &ONCE }
    }

    /// Returns this request with the key in its body. The key in its headers, if there is one, must be the
    /// same.
    pub fn with_key(self, text: &'h [u8]) -> Result<Self, Ambiguity> {
        if self.text.is_some_and(|it| it != text) {
            let detail = "the body and the headers carry different keys; send only one of them";
            return Err(("conflicting_keys", detail.into()));
        }
        Ok(Self { text: Some(text), ..self })
    }

    /// Reads the headers of an authorization request from a proxy.
    pub fn in_question(app: &Keyward, headers: &'h HeaderMap) -> Self {
        Self { text: key_in(app, headers), headers, once: &KEY_ONCE }
    }

    /// Returns what two readers could understand differently. `query` is the query of the request that
    /// carries the key.
    pub fn ambiguity(&self, app: &Keyward, query: &str) -> Option<Ambiguity> {
        let headers = self.headers;
        // Nearly always, no header at all stands twice.
        let twice = headers.len() != headers.len_keys();
        for name in self.once.iter().filter(|_| twice) {
            if 1 < headers.get_all(name).count() {
                let detail = format!("the header {name} must not be given twice");
                return Some(("duplicate_header", detail.into()));
            }
        }
        // Read only if both headers are there, which is rare.
        let bearer = || bearer_key(headers).or_else(|| imported_bearer_key(app, headers));
        if let Some(own) = headers.get(&API_KEY)
            && bearer().is_some_and(|it| it != own.as_bytes())
        {
            let detail = "X-API-Key and Authorization carry different keys; send only one of them";
            return Some(("conflicting_keys", detail.into()));
        }
        key_in_query(query)
    }
}

/// Returns the key in `X-API-Key`; else the bearer token, if it has the shape of our keys or may be an
/// imported key. Other bearer tokens are left alone: they may belong to the API behind.
fn key_in<'h>(app: &Keyward, headers: &'h HeaderMap) -> Option<&'h [u8]> {
    let own = headers.get(&API_KEY).map(header::HeaderValue::as_bytes);
    own.or_else(|| bearer_key(headers)).or_else(|| imported_bearer_key(app, headers))
}

fn bearer_key(headers: &HeaderMap) -> Option<&[u8]> {
    let (given, token) = bearer_token(headers)?;
    PlaintextKey::parse(token).is_ok().then_some(given)
}

fn imported_bearer_key<'h>(app: &Keyward, headers: &'h HeaderMap) -> Option<&'h [u8]> {
    let (given, token) = bearer_token(headers)?;
    app.may_be_imported(token).then_some(given)
}

/// Returns the bearer token (RFC 6750, 2.1) as it is presented, and its visible part.
///
/// The two are the same where only blanks stand before the token (RFC 9110, 11.4). A key with other
/// space around it is presented with that space, so that it is refused: a proxy that knows only blanks
/// would pass the space on, and the API behind might accept the key.
fn bearer_token(headers: &HeaderMap) -> Option<(&[u8], &[u8])> {
    let value = headers.get(header::AUTHORIZATION)?.as_bytes();
    let (scheme, rest) = value.split_at_checked(b"bearer".len())?;
    let visible = |it: &u8| it.is_ascii_graphic();
    let end = rest.iter().rposition(visible)? + 1;
    let token = rest.get(rest.iter().position(visible)?..end)?;
    if !scheme.eq_ignore_ascii_case(b"bearer") || token.len() == rest.len() {
        return None;
    }
    let blanks = rest.iter().take_while(|it| **it == b' ').count();
    let given = rest.get(blanks..)?;
    Some(if 0 < blanks { (given, token) } else { (rest, token) })
}

/// Returns the refusal of a request without a key. A key in its query is named as the likely mistake.
pub fn without_key(query: &str) -> Problem {
    let problem = Problem::from(Error::Unauthenticated(Denial::MissingKey));
    match key_in_query(query) {
        Some((_, why)) => {
            let detail = format!("{}; {why}", problem.detail());
            problem.with_detail(detail)
        }
        None => problem,
    }
}

/// Returns the ambiguity of a query that holds a key.
pub fn key_in_query(query: &str) -> Option<Ambiguity> {
    let detail = "the URL contains an API key, and URLs end up in logs; revoke it";
    holds_key(query).then_some(("key_in_query", detail.into()))
}

/// Looks at the query as it is written and as it is decoded: `%5F` is an underscore.
fn holds_key(query: &str) -> bool {
    let decoded = || {
        let mut parts = form_urlencoded::parse(query.as_bytes());
        parts.any(|(name, value)| mask::holds_key(&name) || mask::holds_key(&value))
    };
    mask::holds_key(query) || query.contains('%') && decoded()
}
