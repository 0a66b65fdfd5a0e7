//! The key that a request presents, and what makes it ambiguous.

use std::borrow::Cow;

use actix_web::{
    HttpRequest,
    http::header::{self, HeaderMap, HeaderName},
};

use crate::{
    domain::{mask, plaintext_key::PlaintextKey},
    http::problem::Problem,
    service::{Denial, Error, Keyward},
};

/// Names made once: looking one up by text would parse it each time.
static API_KEY: HeaderName = HeaderName::from_static("x-api-key");
/// Headers that must not come twice: two readers could take one each.
pub static ONCE: [HeaderName; 6] = [
    HeaderName::from_static("x-api-key"),
    header::AUTHORIZATION,
    header::HOST,
    header::CONTENT_TYPE,
    HeaderName::from_static("idempotency-key"),
    header::IF_MATCH,
];
/// The same for a question about another request. The other headers are that request's own, and
/// its API may take several of them.
pub static KEY_ONCE: [HeaderName; 3] =
    [HeaderName::from_static("x-api-key"), header::AUTHORIZATION, header::HOST];

/// The key of this request: from its own header, or a bearer token of our shape or that was imported.
/// Other bearer tokens are left alone: they may be the API's own.
pub fn presented_key<'h>(app: &Keyward, headers: &'h HeaderMap) -> Option<&'h [u8]> {
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

/// The bearer token (RFC 6750, 2.1) as it is presented, and what is visible of it.
///
/// They are the same where only blanks stand before it (RFC 9110, 11.4). A key with other space
/// around it is presented with that space, so that it is refused: a proxy that knows blanks only
/// would not take it away, and the API behind might accept it.
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

/// Refuses what two readers could understand differently.
pub fn unambiguous(app: &Keyward, req: &HttpRequest) -> Result<(), Problem> {
    match ambiguity(app, &ONCE, req.headers(), req.query_string()) {
        Some((code, detail)) => Err(Problem::bad_request(code, detail)),
        None => Ok(()),
    }
}

/// What two readers could understand differently: the code of the problem, and what it is. `once`
/// are the headers that must not come twice; `query` is that of the request that carries the key.
pub fn ambiguity(
    app: &Keyward,
    once: &[HeaderName],
    headers: &HeaderMap,
    query: &str,
) -> Option<(&'static str, Cow<'static, str>)> {
    // Nearly always no header at all stands twice.
    let twice = headers.len() != headers.len_keys();
    for name in once.iter().filter(|_| twice) {
        if 1 < headers.get_all(name).count() {
            let detail = format!("the header {name} must not be given twice");
            return Some(("duplicate_header", detail.into()));
        }
    }
    // Looked at only if there are both, which hardly anybody sends.
    let bearer = || bearer_key(headers).or_else(|| imported_bearer_key(app, headers));
    if let Some(own) = headers.get(&API_KEY)
        && bearer().is_some_and(|it| it != own.as_bytes())
    {
        let detail = "X-API-Key and Authorization carry two different keys";
        return Some(("conflicting_keys", detail.into()));
    }
    key_in_query(query)
}

/// Refuses a request without a key. If one stands in its query, the answer says what to do about it.
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

/// The same of a key that stands in the query.
pub fn key_in_query(query: &str) -> Option<(&'static str, Cow<'static, str>)> {
    let detail = "a key must never be in a URL, where it ends up in logs; revoke it";
    holds_key(query).then_some(("key_in_query", detail.into()))
}

/// As it stands, and as it is meant: `%5F` is an underscore.
fn holds_key(query: &str) -> bool {
    let decoded = || {
        let mut parts = form_urlencoded::parse(query.as_bytes());
        parts.any(|(name, value)| mask::holds_key(&name) || mask::holds_key(&value))
    };
    mask::holds_key(query) || query.contains('%') && decoded()
}
