//! Forward auth: a proxy asks whether it may pass a request on.
//!
//! One handler stands behind four mounts. Each mount reads the original request from one family of
//! headers and ignores the others: a proxy passes headers of another family through from the client, who
//! could otherwise choose what is read.
//!
//! The mounts are not operations of the API: they take every method and answer a proxy. They stand
//! outside the middleware of the others, because a proxy calls them with each request to the protected
//! API.

use std::borrow::Cow;

use actix_web::{
    HttpRequest, HttpResponse,
    http::{
        Method,
        header::{self, HeaderMap, HeaderName, HeaderValue},
    },
    web,
};

use crate::{
    domain::{
        event::RequestContext,
        policy::Access,
        scope::{Scope, ScopeBits},
        text::quotable,
        verdict::Verdict,
    },
    http::{
        authn::{Ambiguity, PresentedKey, Refusal, examine, key_in_query},
        problem::Problem,
        rate_fields::RateFields,
        request::{body, id::REQUEST_ID},
        verification::{authz_response::Allowed, state::VerificationState},
    },
    service::{Error, OriginalRequest, Question, Verification},
    telemetry::{EntryPoint, Outcome},
};

static ORIGINAL_METHOD: HeaderName = HeaderName::from_static("x-original-method");
static ORIGINAL_URI: HeaderName = HeaderName::from_static("x-original-uri");
static FORWARDED_METHOD: HeaderName = HeaderName::from_static("x-forwarded-method");
static FORWARDED_URI: HeaderName = HeaderName::from_static("x-forwarded-uri");
static FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
static REASON: HeaderName = HeaderName::from_static("x-keyward-reason");

/// The prefix of the path in an authorization request from Envoy.
const ENVOY: &str = "/authz/envoy";

/// The protocol of a kind of proxy.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Mount {
    /// nginx, `auth_request`: `X-Original-Method`, `X-Original-URI` and the unchanged `Host`.
    Nginx,
    /// Caddy, Traefik, or `HAProxy` with our script: `X-Forwarded-Method`, `-Uri`, `-Host`.
    Forward,
    /// Envoy, `ext_authz`: the method, host and path of the authorization request itself.
    Envoy,
    /// Reads nothing of the original request: only the scopes in the query count.
    Bare,
}

impl VerificationState {
    /// Registers the mounts, for every method.
    pub fn mount(state: &web::Data<Self>, cfg: &mut web::ServiceConfig) {
        for (path, mount) in [
            ("/authz/nginx", Mount::Nginx),
            ("/authz/forward", Mount::Forward),
            ("/authz/envoy{path:(/.*)?}", Mount::Envoy),
            ("/authz", Mount::Bare),
        ] {
            let state = state.clone();
            cfg.service(web::resource(path).to(move |req: HttpRequest, payload: web::Payload| {
                let state = state.clone();
                async move { state.answer(mount, &req, payload).await }
            }));
        }
    }

    async fn answer(&self, mount: Mount, req: &HttpRequest, payload: web::Payload) -> HttpResponse {
        // Proxies send no body. An unread body would end the connection.
        let (_, unread) = body::collect(req.headers(), payload.into_inner()).await;
        let id = self.ids.identify(req.headers().get(&REQUEST_ID));
        let started = self.app.env().time.monotonic();
        let mut outcome = Outcome::Refused;
        let response = match self.decide(mount, req, &mut outcome).await {
            Ok(allowed) => allowed.respond(),
            Err(problem) => self.refusal(mount, &problem.for_a_proxy(), &id.to_string()),
        };
        let took = self.app.env().time.monotonic().since(started);
        self.metrics.count_verification(mount.entry(), outcome, took);
        Self::finish(req, unread, response, &id)
    }

    /// Decides whether the original request may pass. Sets `outcome` to what the metrics count.
    async fn decide(
        &self,
        mount: Mount,
        req: &HttpRequest,
        outcome: &mut Outcome,
    ) -> Result<Allowed<'_>, Problem> {
        let asked = self.asked_scopes(mount, req)?;
        let presented = PresentedKey::in_question(&self.app, req.headers());
        let keyless = presented.text.is_none();
        let original = mount.original(req, keyless)?;
        let query = query_of(original.as_ref(), req);
        let required = match self.app.access(original.as_ref(), asked) {
            Ok(Access::Public) => return without_caller(key_in_query(&query), outcome),
            Ok(Access::Optional(_)) if keyless => {
                return without_caller(presented.ambiguity(&self.app, &query), outcome);
            }
            Ok(Access::Optional(required) | Access::Key(required)) => required,
            Err(err) => {
                if let Error::NoRoute = err {
                    *outcome = Outcome::NoRoute;
                }
                return Err(err.into());
            }
        };
        let client_ip = &|| self.proxies.client_address(req);
        let question = Question { required, client_ip, cost: 1, is_ambiguous: false };
        let context = || RequestContext { request_id: None, client_ip: client_ip() };
        match examine(&self.app, presented, &query, question, context).await {
            Ok(found) => {
                *outcome = Outcome::Judged(found.verdict);
                self.allowed(found)
            }
            Err(Refusal::MissingKey) => {
                *outcome = Outcome::MissingKey;
                Err(Refusal::MissingKey.into_problem(&query))
            }
            Err(Refusal::Key(verdict)) => {
                *outcome = Outcome::Judged(verdict);
                Err(Refusal::Key(verdict).into_problem(&query))
            }
            // 401, as proxies do not handle 400.
            Err(Refusal::Ambiguous((code, detail))) => Err(Problem::ambiguous_key(code, detail)),
            Err(Refusal::Failed(problem)) => Err(problem),
        }
    }

    /// Lets the caller pass if its key grants what is needed, and no rate limit refuses it.
    fn allowed(&self, found: Verification) -> Result<Allowed<'_>, Problem> {
        let catalogue = self.app.catalogue();
        let now = || self.app.env().time.now();
        if found.verdict == Verdict::Valid {
            let fields = RateFields::new(&found.rates, now);
            return Ok(Allowed::Key(catalogue, found, fields));
        }
        if found.verdict == Verdict::RateLimited {
            return Err(Error::RateLimited(Box::new(found.rates), now()).into());
        }
        let names = catalogue.names(found.missing).map(str::to_owned).collect();
        Err(Error::LacksScopes(names).into())
    }

    /// Returns the scopes in the query, which the operator wrote into the configuration of the proxy. The
    /// query of Envoy is the query of the client, and is not read.
    fn asked_scopes(&self, mount: Mount, req: &HttpRequest) -> Result<ScopeBits, Problem> {
        let mut asked = ScopeBits::default();
        let query = if mount == Mount::Envoy { "" } else { req.query_string() };
        // The usual form, in which nothing needs decoding.
        if let Some(name) = query.strip_prefix("scope=")
            && let Some(bit) = self.app.catalogue().find(name)
        {
            return Ok(bit);
        }
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            let mistake = |what| Error::ProxyMistake(what);
            if name != "scope" {
                let what = "the proxy's question has a parameter other than `scope`";
                return Err(mistake(what.to_owned()).into());
            }
            let bit = self.app.catalogue().find(&value);
            let unknown = || {
                let name = quotable(&value, Scope::MAX_LEN);
                mistake(format!("the proxy asks for a scope that does not exist: `{name}`"))
            };
            asked = asked.or(bit.ok_or_else(unknown)?);
        }
        Ok(asked)
    }

    fn refusal(&self, mount: Mount, problem: &Problem, id: &str) -> HttpResponse {
        if problem.code() == "authz_misconfigured"
            && self.complaints.is_due(self.app.env().time.monotonic())
        {
            tracing::warn!(reason = %problem.detail(), "a proxy is misconfigured");
        }
        let code = HeaderValue::from_static(problem.code());
        let mut response = problem.respond(id);
        if mount == Mount::Nginx {
            // nginx cannot pass a body on, and would close the connection because of it.
            response.headers_mut().remove(header::CONTENT_TYPE);
            response = response.set_body(()).map_into_boxed_body();
        }
        response.headers_mut().insert(REASON.clone(), code);
        response
    }
}

impl Mount {
    fn entry(self) -> EntryPoint {
        match self {
            Self::Nginx => EntryPoint::Nginx,
            Self::Forward => EntryPoint::Forward,
            Self::Envoy => EntryPoint::Envoy,
            Self::Bare => EntryPoint::Plain,
        }
    }

    /// Returns the original request; `None` if the mount reads none.
    fn original(
        self,
        req: &HttpRequest,
        keyless: bool,
    ) -> Result<Option<OriginalRequest<'_>>, Problem> {
        let headers = req.headers();
        let text = |name| Ok::<_, Problem>(only(headers, name)?.and_then(|it| it.to_str().ok()));
        let own_host = || text(&header::HOST);
        let (method, host, target) = match self {
            Self::Nginx => (text(&ORIGINAL_METHOD)?, own_host()?, only(headers, &ORIGINAL_URI)?),
            Self::Forward => {
                (text(&FORWARDED_METHOD)?, text(&FORWARDED_HOST)?, only(headers, &FORWARDED_URI)?)
            }
            Self::Envoy => (Some(req.method().as_str()), own_host()?, None),
            Self::Bare => return Ok(None),
        };
        let target = match self {
            // Only the path: the query is in the authorization request itself.
            Self::Envoy => req.uri().path().strip_prefix(ENVOY).map(str::as_bytes),
            Self::Nginx | Self::Forward | Self::Bare => target.map(HeaderValue::as_bytes),
        };
        let preflight = keyless
            && method == Some(Method::OPTIONS.as_str())
            && headers.contains_key(header::ORIGIN)
            && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
        Ok(Some(OriginalRequest { method, host, target, preflight }))
    }
}

/// Returns the header; an error if it stands twice, as one could come from the client.
fn only<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Result<Option<&'h HeaderValue>, Problem> {
    let mut values = headers.get_all(name);
    let first = values.next();
    if values.next().is_some() {
        let what = format!("the proxy sends {name} twice");
        return Err(Error::ProxyMistake(what).into());
    }
    Ok(first)
}

/// Lets pass without a caller, unless the request is ambiguous. On a public route, only a key in the URL
/// is, because it ends up in logs. On an optional one, a header that stands twice may hide a bad key.
fn without_caller<'p>(
    ambiguity: Option<Ambiguity>,
    outcome: &mut Outcome,
) -> Result<Allowed<'p>, Problem> {
    if let Some((code, detail)) = ambiguity {
        return Err(Problem::ambiguous_key(code, detail));
    }
    *outcome = Outcome::Public;
    Ok(Allowed::Public)
}

/// Returns the query of the original request; without one, that of the authorization request.
fn query_of<'r>(original: Option<&OriginalRequest<'r>>, req: &'r HttpRequest) -> Cow<'r, str> {
    let target_query = original.and_then(|it| it.target).and_then(|it| {
        let at = it.iter().position(|it| *it == b'?')?;
        it.get(at + 1..)
    });
    target_query.map_or(Cow::Borrowed(req.query_string()), String::from_utf8_lossy)
}
