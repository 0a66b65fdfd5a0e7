//! Who is calling, and may they?
//!
//! Two steps, on purpose. actix-web runs a handler's extractors side by side, so an extractor that
//! awaits loses the race to the one that parses the body: a stranger would be told what is wrong
//! with their JSON. [`authenticate`] therefore runs as middleware, before any extractor, and
//! [`Caller`] only looks at what it left.

use std::{
    borrow::Cow,
    future::{Ready, ready},
    marker::PhantomData,
};

use actix_web::{
    FromRequest, HttpMessage, HttpRequest,
    body::{EitherBody, MessageBody},
    dev::{Payload, ServiceRequest, ServiceResponse},
    http::header::{self, HeaderMap, HeaderName},
    middleware::Next,
    web,
};
use tokio::sync::oneshot;

use crate::{
    domain::{
        event::{Actor, EventSource},
        id::{AccountId, KeyId},
        mask,
        plaintext_key::{KeyPrefix, PlaintextKey},
        policy::RequiredScopes,
        scope,
    },
    http::{TrustedProxies, envelope, problem::Problem, run},
    service::{Denial, Error, Identity, Keyward, Principal, Upgrade, Verification},
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

/// A caller who holds one of the scopes that `P` asks for. A handler that takes one cannot run
/// without it.
pub struct Caller<P> {
    pub principal: Principal,
    permission: PhantomData<P>,
}

/// A permission, as a type.
pub trait Permission: 'static {
    /// Scopes of which one is enough. None at all: any accepted key.
    const ANY_OF: &'static [&'static str];
}

macro_rules! permissions {
    ($($name:ident: [$($scope:expr),*],)+) => {
        $(
            pub struct $name;

            impl Permission for $name {
                const ANY_OF: &'static [&'static str] = &[$($scope),*];
            }
        )+
    };
}

permissions! {
    AnyKey: [],
    ReadKeys: [scope::KEYS_READ, scope::ACCOUNTS_READ],
    ReadOwnKeys: [scope::KEYS_READ],
    WriteKeys: [scope::KEYS_WRITE, scope::ACCOUNTS_WRITE],
    WriteOwnKeys: [scope::KEYS_WRITE],
    RotateItself: [scope::KEYS_ROTATE, scope::KEYS_WRITE],
    VerifyKeys: [scope::KEYS_VERIFY],
    ReadAccounts: [scope::ACCOUNTS_READ],
    WriteAccounts: [scope::ACCOUNTS_WRITE],
    ReadEvents: [scope::EVENTS_READ],
}

/// Lets through only requests that carry an accepted key, and none that is ambiguous.
pub async fn authenticate<B: MessageBody + 'static>(
    app: web::Data<Keyward>,
    proxies: web::Data<TrustedProxies>,
    req: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<EitherBody<B>>, actix_web::Error> {
    let source = EventSource {
        actor: Actor::Cli, // Replaced by the key itself once it is known.
        request_id: Some(envelope::request_id(req.request()).into()),
        client_ip: proxies.client_address(req.request()),
    };
    let presented = presented_key(&app, req.headers());
    let outcome = match presented {
        Some(text) => recognise(&app, text, source).await,
        None => Err(without_key(req.query_string())),
    };
    let admitted = outcome.and_then(|it| unambiguous(&app, req.request()).map(|()| it));
    match admitted {
        Ok(principal) => {
            req.extensions_mut().insert(principal);
            Ok(next.call(req).await?.map_into_left_body())
        }
        Err(problem) => {
            let suspect =
                presented_key(&app, req.headers()).map(|text| DeniedCaller::of(&app, text));
            req.extensions_mut().insert(suspect.unwrap_or_default());
            Ok(req.error_response(problem).map_into_right_body())
        }
    }
}

/// Lets everybody through, as the operator: for the control socket, where being able to connect is
/// the permission.
pub async fn admit_operator<B: MessageBody + 'static>(
    app: web::Data<Keyward>,
    req: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<EitherBody<B>>, actix_web::Error> {
    let request_id = Some(envelope::request_id(req.request()).into());
    let source = EventSource { actor: Actor::Cli, request_id, client_ip: None };
    match run(&app, move |app| app.local_operator(source)).await {
        Ok(principal) => {
            req.extensions_mut().insert(principal);
            Ok(next.call(req).await?.map_into_left_body())
        }
        Err(problem) => Ok(req.error_response(problem).map_into_right_body()),
    }
}

/// What is known of a caller who was refused.
#[derive(Clone, Copy, Default)]
pub struct DeniedCaller {
    pub prefix: Option<KeyPrefix>,
    /// Only if the whole secret was presented.
    pub key: Option<(KeyId, AccountId)>,
}

impl DeniedCaller {
    pub(super) fn of(app: &Keyward, text: &[u8]) -> Self {
        let prefix = PlaintextKey::parse(text).ok().map(|it| it.prefix());
        let key = match app.identify(text) {
            Identity::Known(entry) => Some((entry.key.id, entry.key.account)),
            Identity::Malformed | Identity::Unknown | Identity::Unverified(_) => None,
        };
        Self { prefix, key }
    }

    /// Of a caller who was let in, and then refused what it asked for.
    pub fn of_principal(it: &Principal) -> Self {
        let presented = it.presented;
        Self {
            prefix: presented.map(|it| it.prefix),
            key: presented.map(|presented| (presented.key, it.account)),
        }
    }
}

pub(super) async fn recognise(
    app: &web::Data<Keyward>,
    text: &[u8],
    source: EventSource,
) -> Result<Principal, Problem> {
    let identity = identified(app, text).await?;
    let found = app.judge(&identity, RequiredScopes::default());
    record_retired_use(app, &found, &source);
    Ok(app.principal(&found, source)?)
}

/// Whose key this is; only the first use of a secret leaves this thread.
pub async fn identified(app: &web::Data<Keyward>, text: &[u8]) -> Result<Identity, Problem> {
    let unverified = match app.identify(text) {
        Identity::Unverified(it) => it,
        known @ (Identity::Malformed | Identity::Unknown | Identity::Known(_)) => return Ok(known),
    };
    let (tell, told) = oneshot::channel();
    // Whoever asked may have gone meanwhile; the proof is for the next one, then.
    let proved = app.verify_secret_apart(unverified, |outcome| drop(tell.send(outcome)));
    proved.map_err(|_| Problem::unavailable())?;
    let (identity, upgrade) = told.await.map_err(|_| Problem::internal())??;
    if let Some(upgrade) = upgrade {
        let app = app.clone();
        // Off the answer's path; a failure is logged and the next first use tries again.
        actix_web::rt::spawn(async move { rehash(&app, upgrade).await });
    }
    Ok(identity)
}

async fn rehash(app: &web::Data<Keyward>, upgrade: Upgrade) -> Result<(), Problem> {
    let (tell, told) = oneshot::channel();
    let accepted = app.rehash_apart(upgrade, |rehashed| drop(tell.send(rehashed)));
    accepted.map_err(|_| Problem::unavailable())?;
    let rehashed = told.await.map_err(|_| Problem::internal())?;
    run(app, move |app| app.store_rehashed(rehashed)).await
}

/// Records, at most once an hour for each key, that a retired value is still in use somewhere.
pub fn record_retired_use(app: &web::Data<Keyward>, found: &Verification, source: &EventSource) {
    if app.should_note_retired_use(found) {
        let (app, found, source) = (app.clone(), found.clone(), source.clone());
        actix_web::rt::spawn(async move {
            run(&app, move |app| app.record_retired_use(&found, source)).await
        });
    }
}

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

impl<P: Permission> FromRequest for Caller<P> {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(req: &HttpRequest, _: &mut Payload) -> Self::Future {
        let Some(principal) = req.extensions().get::<Principal>().cloned() else {
            return ready(Err(Error::Unauthenticated(Denial::MissingKey).into()));
        };
        let Some(app) = req.app_data::<web::Data<Keyward>>() else {
            return ready(Err(Problem::internal()));
        };
        if !P::ANY_OF.is_empty() && !app.permits(principal.powers, P::ANY_OF) {
            return ready(Err(Error::MissingScope(P::ANY_OF).into()));
        }
        ready(Ok(Self { principal, permission: PhantomData }))
    }
}
