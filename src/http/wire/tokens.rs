//! The exchange of a key for a token on the wire, in the form of RFC 8693.

use std::borrow::Cow;

use serde::Serialize;
use utoipa::ToSchema;
use zeroize::Zeroizing;

use crate::{
    http::problem::Problem,
    service::{IssuedToken, Keyward},
};

/// The type of an API key as the subject of an exchange.
const API_KEY: &str = "urn:keyward:params:oauth:token-type:api-key";
/// To clients of OAuth, an API key is an access token that the server issued and only it can read.
const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";
const JWT: &str = "urn:ietf:params:oauth:token-type:jwt";
/// Each is compared with all before it.
const MOST_AUDIENCES: usize = 16;

/// A request for a token (RFC 8693, 2.1). Other parameters are ignored, as OAuth demands.
// Swagger UI fills its form with the examples, and with "string" where there is none. An empty one counts as absent.
#[derive(ToSchema)]
pub struct TokenExchangeRequest {
    /// The exchange of RFC 8693.
    #[schema(
        pattern = "^urn:ietf:params:oauth:grant-type:token-exchange$",
        example = "urn:ietf:params:oauth:grant-type:token-exchange"
    )]
    pub grant_type: String,
    /// The API key. It can be in the header `X-API-Key` or `Authorization` instead.
    #[schema(nullable = false, example = "")]
    pub subject_token: Option<String>,
    /// The type of `subject_token`, which is required with it:
    /// `urn:keyward:params:oauth:token-type:api-key`, or `urn:ietf:params:oauth:token-type:access_token`
    /// for clients that know only the types of the standard.
    #[schema(
        nullable = false,
        pattern = "^(urn:(keyward:params:oauth:token-type:api-key|ietf:params:oauth:token-type:access_token))?$",
        example = ""
    )]
    pub subject_token_type: Option<String>,
    /// Scopes of the protected API, with blanks between them. Without this, the token gets all that the key
    /// grants.
    #[schema(nullable = false, example = "")]
    pub scope: Option<String>,
    /// The audience of the token: one of the setting `tokens.audiences`. Can be given several times.
    #[schema(nullable = false, example = "")]
    pub audience: Option<String>,
    /// The same, as a URL.
    #[schema(nullable = false, example = "")]
    pub resource: Option<String>,
    /// `urn:ietf:params:oauth:token-type:access_token` or `urn:ietf:params:oauth:token-type:jwt`. The
    /// token is the same.
    #[schema(
        nullable = false,
        pattern = "^(urn:ietf:params:oauth:token-type:(access_token|jwt))?$",
        example = "urn:ietf:params:oauth:token-type:access_token"
    )]
    pub requested_token_type: Option<String>,
}

/// A token (RFC 8693, 2.2.1).
#[derive(Serialize, ToSchema)]
#[schema(as = Token)]
pub struct TokenBody {
    /// The token: a JSON Web Token of the profile RFC 9068, with a place in a status list.
    #[schema(
        example = "eyJhbGciOiJFZERTQSIsInR5cCI6ImF0K2p3dCIsImtpZCI6Ii4uLiJ9.eyJpc3MiOiIuLi4ifQ.c2lnbmF0dXJl"
    )]
    access_token: String,
    /// The type that was requested.
    #[schema(example = "urn:ietf:params:oauth:token-type:access_token")]
    issued_token_type: &'static str,
    /// How the token is used: in the header `Authorization`.
    #[schema(example = "Bearer")]
    token_type: &'static str,
    /// How many seconds the token is valid.
    #[schema(example = 300)]
    expires_in: i64,
    /// The scopes of the token, with blanks between them.
    #[schema(example = "orders:read")]
    scope: String,
}

/// What [`TokenExchangeRequest`] says.
pub struct TokenRequest {
    pub key: Option<Zeroizing<String>>,
    pub scope: Option<String>,
    pub audiences: Vec<String>,
    issued_type: &'static str,
}

impl TokenBody {
    pub fn new(request: &TokenRequest, issued: IssuedToken) -> Self {
        let IssuedToken { token, scope, expires_in_secs } = issued;
        Self {
            access_token: token,
            issued_token_type: request.issued_type,
            token_type: "Bearer",
            expires_in: expires_in_secs,
            scope,
        }
    }
}

/// The parameters of a form that have a value. One without a value counts as absent (RFC 6749, 3.2).
struct Form<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

impl<'a> Form<'a> {
    fn parse(form: &'a [u8]) -> Self {
        Self(form_urlencoded::parse(form).filter(|(_, value)| !value.is_empty()).collect())
    }

    fn all<'f>(&'f self, name: &'f str) -> impl Iterator<Item = &'f str> {
        self.0.iter().filter(move |it| it.0 == name).map(|(_, value)| &**value)
    }

    /// Returns the value of a parameter that must not come twice.
    fn one(&self, name: &'static str) -> Result<Option<&str>, Problem> {
        let mut values = self.all(name);
        let first = values.next();
        if values.next().is_some() {
            let detail = format!("`{name}` must not be given twice");
            return Err(Problem::bad_request("duplicate", detail));
        }
        Ok(first)
    }
}

/// Reads a [`TokenExchangeRequest`].
pub fn read_token_request(form: &[u8]) -> Result<TokenRequest, Problem> {
    let form = Form::parse(form);
    let invalid = |detail: String| Problem::bad_request("invalid_request", detail);
    match form.one("grant_type")? {
        Some(Keyward::TOKEN_EXCHANGE) => (),
        Some(_) => {
            let detail = format!("`grant_type` must be {}", Keyward::TOKEN_EXCHANGE);
            return Err(Problem::bad_request("unsupported_grant_type", detail));
        }
        None => return Err(invalid("`grant_type` is required".to_owned())),
    }
    let key = form.one("subject_token")?.map(|it| Zeroizing::new(it.to_owned()));
    match form.one("subject_token_type")? {
        Some(API_KEY | ACCESS_TOKEN) => (),
        None if key.is_none() => (),
        Some(_) | None => return Err(invalid(format!("`subject_token_type` must be {API_KEY}"))),
    }
    let issued_type = match form.one("requested_token_type")? {
        None | Some(ACCESS_TOKEN) => ACCESS_TOKEN,
        Some(JWT) => JWT,
        Some(_) => {
            let detail = format!("`requested_token_type` must be {ACCESS_TOKEN} or {JWT}");
            return Err(invalid(detail));
        }
    };
    if form.all("actor_token").chain(form.all("actor_token_type")).next().is_some() {
        let detail = "a token acts for its key and for no other party: send no `actor_token`";
        return Err(invalid(detail.to_owned()));
    }
    let mut audiences: Vec<String> = Vec::new();
    for audience in form.all("audience").chain(form.all("resource")) {
        if audiences.iter().any(|it| it == audience) {
            continue;
        }
        if audiences.len() == MOST_AUDIENCES {
            return Err(invalid(format!("a token has at most {MOST_AUDIENCES} audiences")));
        }
        audiences.push(audience.to_owned());
    }
    let scope = form.one("scope")?.map(str::to_owned);
    Ok(TokenRequest { key, scope, audiences, issued_type })
}
