//! `Idempotency-Key` (draft-ietf-httpapi-idempotency-key-header-07): the answer to a create or rotate
//! is kept for a retry.

use std::sync::Arc;

use actix_web::{
    HttpMessage, HttpRequest, HttpResponse,
    http::{
        StatusCode,
        header::{self, HeaderName},
    },
    web,
};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::{
    domain::{
        account::Account,
        plaintext_key::PlaintextKey,
        sealed_answer::{IdempotentRequest, SealingSecret},
    },
    http::{
        api::revision::entity_tag,
        authn::IDEMPOTENCY_KEY,
        blocking::run,
        problem::Problem,
        request::body::RequestBody,
        wire::{AccountBody, ApiKeyBody, ConsoleLinkBody},
    },
    service::{
        Answer, AnswerKeeper, Attempt, FirstAttempt, IdempotentCall, KeyAccess, KeyView, Keyward,
        Principal,
    },
};

static REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");
const MAX_LEN: usize = 255;

/// An answer that holds a full key, as it is sent and as it is kept.
#[derive(Deserialize, Serialize)]
pub(super) struct IssuedAnswer {
    status: u16,
    revision: i64,
    location: Option<String>,
    body: String,
}

/// What to do with a request.
pub(super) enum Begun {
    /// Send the answer to the request that this one repeats.
    Answered(HttpResponse),
    /// Make the change. The answer is kept if the request has an `Idempotency-Key`.
    First(Option<FirstAttempt>),
}

impl IssuedAnswer {
    pub fn created_key(
        app: &Keyward,
        view: &KeyView,
        plaintext: &PlaintextKey,
        _: Option<&Account>,
    ) -> Self {
        let body = text_of(&ApiKeyBody::new(app, view, Some(plaintext)));
        let location = Some(format!("/api/v1/api-keys/{}", view.key.id));
        Self { status: StatusCode::CREATED.as_u16(), revision: view.key.revision, location, body }
    }

    pub fn rotated_key(
        app: &Keyward,
        view: &KeyView,
        plaintext: &PlaintextKey,
        account: Option<&Account>,
    ) -> Self {
        let created = Self::created_key(app, view, plaintext, account);
        Self { status: StatusCode::OK.as_u16(), location: None, ..created }
    }

    pub fn created_link(view: &KeyView, link: &ConsoleLinkBody) -> Self {
        Self {
            status: StatusCode::CREATED.as_u16(),
            revision: view.key.revision,
            location: Some(format!("/api/v1/api-keys/{}", view.key.id)),
            body: text_of(link),
        }
    }

    /// Shows the account with its first key; the key alone if there is no account.
    pub fn created_account(
        app: &Keyward,
        view: &KeyView,
        plaintext: &PlaintextKey,
        account: Option<&Account>,
    ) -> Self {
        let created = Self::created_key(app, view, plaintext, account);
        let Some(account) = account else { return created };
        let first_key = ApiKeyBody::new(app, view, Some(plaintext));
        let body = text_of(&AccountBody::new(app, account, Some(first_key)));
        let location = Some(format!("/api/v1/accounts/{}", account.id));
        Self { revision: account.revision, location, body, ..created }
    }

    /// Returns the response, byte for byte the same each time.
    pub fn into_response(self) -> HttpResponse {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::OK);
        let mut response = HttpResponse::build(status);
        if let Some(location) = self.location {
            response.insert_header((header::LOCATION, location));
        }
        response.insert_header(entity_tag(self.revision));
        response.content_type("application/json").body(self.body)
    }
}

/// Returns the answer of the request that this one repeats, or lets this one run.
///
/// # Errors
/// If the header is malformed, if the caller presents no key, and those of [`Keyward::attempt`].
pub(super) async fn begin(
    app: &web::Data<Keyward>,
    caller: &Principal,
    access: KeyAccess,
    req: &HttpRequest,
    body: &RequestBody,
) -> Result<Begun, Problem> {
    let Some(value) = req.headers().get(&IDEMPOTENCY_KEY) else { return Ok(Begun::First(None)) };
    let token = read_token(value.as_bytes()).ok_or_else(|| {
        let detail = "Idempotency-Key must have 1 to 255 visible ASCII characters, or be a quoted \
                      string of them (RFC 8941)";
        Problem::bad_request("invalid_idempotency_key", detail)
    })?;
    let secret = req.extensions_mut().remove::<SealingSecret>();
    let Some((presented, secret)) = caller.presented.zip(secret) else {
        let detail = "Idempotency-Key needs a caller that presents an API key: the answer is kept \
                      under that key; leave the header out";
        return Err(Problem::bad_request("idempotency_needs_a_key", detail));
    };
    let target = req.uri().path_and_query().map_or("", |it| it.as_str());
    let if_match = req.headers().get(header::IF_MATCH).map(header::HeaderValue::as_bytes);
    let parts = [
        req.method().as_str().as_bytes(),
        target.as_bytes(),
        if_match.unwrap_or_default(),
        body.bytes()?,
    ];
    let request = IdempotentRequest::new(presented.key, presented.prefix, &token, &parts);
    let (caller, call) = (caller.clone(), IdempotentCall { request, secret, access });
    match run(app, move |app| app.attempt(&caller, call)).await? {
        Attempt::First(first) => Ok(Begun::First(Some(first))),
        Attempt::Repeated(answer) => {
            let answer = serde_json::from_slice::<IssuedAnswer>(&answer);
            let mut response = answer.map_err(|_| Problem::internal())?.into_response();
            let headers = response.headers_mut();
            headers.insert(REPLAYED.clone(), header::HeaderValue::from_static("true"));
            Ok(Begun::Answered(response))
        }
    }
}

/// Returns what keeps the answer of a first attempt. `write` writes the answer that shows a new value of
/// a key, and the account that was made with it.
pub(super) fn keeper(
    app: &web::Data<Keyward>,
    first: Option<FirstAttempt>,
    write: impl Fn(&Keyward, &KeyView, &PlaintextKey, Option<&Account>) -> IssuedAnswer + Send + 'static,
) -> Option<AnswerKeeper> {
    let app = Arc::clone(app);
    first.map(|it| {
        it.keeper(move |view, plaintext, account| -> Answer {
            let answer = write(&app, view, plaintext, account);
            Zeroizing::new(text_of(&answer).into_bytes())
        })
    })
}

/// Reads a token: a String of Structured Fields (RFC 8941, 3.3.3), or the same characters without
/// quotes. Both forms of a token are the same token.
fn read_token(value: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(value).ok()?.trim_matches([' ', '\t']);
    let token = match text.strip_prefix('"') {
        Some(rest) => unquoted(rest)?,
        None => text.bytes().all(|it| it.is_ascii_graphic()).then(|| text.to_owned())?,
    };
    (1..=MAX_LEN).contains(&token.len()).then_some(token)
}

/// Reads the rest of a String after its first quote.
fn unquoted(rest: &str) -> Option<String> {
    let mut token = String::new();
    let mut chars = rest.chars();
    loop {
        match chars.next()? {
            '"' => return chars.as_str().is_empty().then_some(token),
            '\\' => token.push(chars.next().filter(|it| matches!(it, '"' | '\\'))?),
            it if matches!(it, ' '..='~') => token.push(it),
            _ => return None,
        }
    }
}

fn text_of(answer: &impl Serialize) -> String {
    // Every type of an answer has a JSON form.
    serde_json::to_string(answer).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_read_with_and_without_quotes() {
        let long = "x".repeat(MAX_LEN);
        for (value, token) in [
            ("a", Some("a")),
            ("\"a\"", Some("a")),
            ("\t a ", Some("a")),
            ("8e03978e-40d5-43dd-bc93-6894a57f9324", Some("8e03978e-40d5-43dd-bc93-6894a57f9324")),
            ("\"a b\"", Some("a b")),
            (r#""a\"b\\c""#, Some("a\"b\\c")),
            ("a\"b", Some("a\"b")),
            (&long, Some(&*long)),
            (&format!("\"{long}\""), Some(&*long)),
            (&format!("{long}x"), None),
            (&format!("\"{long}x\""), None),
            ("", None),
            ("\"\"", None),
            ("\"", None),
            ("\"a", None),
            ("\"a\"b", None),
            ("\"a\";b=1", None),
            (r#""a\b""#, None),
            ("a b", None),
            ("é", None),
            ("\"é\"", None),
            ("\"a\u{7f}\"", None),
        ] {
            assert_eq!(read_token(value.as_bytes()).as_deref(), token, "{value}");
        }
        assert_eq!(read_token(b"\xff"), None);
    }
}
