//! What is not the API: health, metrics, the API document and Swagger UI.

use std::{borrow::Cow, net::IpAddr};

use actix_web::{
    HttpRequest, HttpResponse, Resource,
    body::{EitherBody, MessageBody},
    dev::{ServiceRequest, ServiceResponse},
    get, guard,
    http::{
        StatusCode,
        header::{self, HeaderMap, HeaderValue},
        uri::Authority,
    },
    middleware::Next,
    web,
};
use utoipa_swagger_ui::Config;

use crate::{
    domain::{
        event::{Actor, EventSource},
        policy::RequiredScopes,
        scope,
    },
    http::{
        TrustedProxies,
        answers::InPieces,
        authn::{identified, presented_key},
        openapi,
        problem::Problem,
        run,
        stream::Streams,
    },
    service::{Denial, Error, Keyward},
    telemetry::Metrics,
};

/// The API document, printed once.
#[derive(Debug)]
pub struct Documents {
    json: web::Bytes,
    yaml: web::Bytes,
}

impl Documents {
    pub fn of(document: &utoipa::openapi::OpenApi) -> Self {
        Self { json: openapi::json_of(document).into(), yaml: openapi::yaml_of(document).into() }
    }
}

/// Check liveness
///
/// Answers as long as the process runs.
#[utoipa::path(
    operation_id = "livez",
    tag = "Server",
    security(()),
    responses(
        (status = 200, description = "The process runs", body = String, content_type = "text/plain", example = json!("ok")),
    ),
)]
#[get("/livez")]
pub async fn livez() -> HttpResponse {
    plain("ok")
}

/// The same by another name.
pub async fn healthz() -> HttpResponse {
    plain("ok")
}

/// Check readiness
///
/// Tests a write to the database and a read from it, at most once a second. With `?verbose`, requests
/// from the server's own machine get a line for each check.
#[utoipa::path(
    operation_id = "readyz",
    tag = "Server",
    security(()),
    params(("verbose" = Option<String>, Query, description = "Return a line for each check.")),
    responses(
        (status = 200, description = "The server is ready", body = String, content_type = "text/plain", example = json!("ok")),
        (status = 503, description = "The server is not ready; `detail` says why", content(
            (Problem = "application/problem+json"),
            (String = "text/plain"),
        )),
    ),
)]
#[get("/readyz")]
pub async fn readyz(
    app: web::Data<Keyward>,
    proxies: web::Data<TrustedProxies>,
    req: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let checks = run(&app, |app| Ok(app.readiness())).await?;
    let fault = checks.iter().find_map(|(_, check)| check.as_ref().err());
    let verbose = form_urlencoded::parse(req.query_string().as_bytes()).any(|it| it.0 == "verbose");
    if !(verbose && is_local(&proxies, &req)) {
        return fault.map_or(Ok(plain("ok")), |why| Err(Problem::unavailable_because(why)));
    }
    let line = |(name, check): &(&str, Result<(), String>)| match check {
        Ok(()) => format!("[+]{name} ok\n"),
        Err(why) => format!("[-]{name} failed: {why}\n"),
    };
    let lines: String = checks.iter().map(line).collect();
    let ready = fault.is_none();
    let mut response = if ready { HttpResponse::Ok() } else { HttpResponse::ServiceUnavailable() };
    Ok(response.content_type("text/plain; charset=utf-8").body(lines))
}

/// Get metrics for Prometheus
///
/// Requests from the server's own machine, by an IP address or `localhost`, need no key. Other
/// requests need the scope `metrics:read`.
#[utoipa::path(
    operation_id = "metrics",
    tag = "Server",
    security((), ("ApiKeyAuth" = ["metrics:read"])),
    responses(
        (status = 200, description = "The metrics in the text format of Prometheus", body = String, content_type = "text/plain", example = json!("keyward_build_info{version=\"0.1.0\"} 1\n")),
    ),
)]
#[get("/metrics")]
pub async fn metrics(
    app: web::Data<Keyward>,
    metrics: web::Data<Metrics>,
    proxies: web::Data<TrustedProxies>,
    streams: web::Data<Streams>,
    req: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let mut caller = None;
    if !is_local(&proxies, &req) {
        let text = presented_key(&app, req.headers());
        let text = text.ok_or(Error::Unauthenticated(Denial::MissingKey))?;
        let identity = identified(&app, text).await?;
        let source = EventSource { actor: Actor::Cli, request_id: None, client_ip: None };
        let found = app.judge(&identity, RequiredScopes::default());
        let found = app.principal(&found, source)?;
        if !app.permits(found.powers, &[scope::METRICS_READ]) {
            return Err(Error::MissingScope(&[scope::METRICS_READ]).into());
        }
        caller = Some(found);
    }
    InPieces::expect_place(&streams, caller.as_ref())?;
    let statistics = run(&app, |app| Ok(app.statistics())).await?;
    let text = metrics.render(&app, &statistics);
    Ok(HttpResponse::Ok()
        .content_type("text/plain; version=0.0.4; charset=utf-8")
        .body(InPieces::in_place(text.into(), &streams, caller.as_ref())?))
}

/// Whether the request comes from this machine, and was meant for it. A proxy on the machine passes on
/// what comes from others. What is not known is not local.
fn is_local(proxies: &TrustedProxies, req: &HttpRequest) -> bool {
    proxies.client_address(req).is_some_and(|it| it.is_loopback()) && names_no_domain(req.headers())
}

/// Whether `Host` is an IP address or `localhost`, or is not there (HTTP/1.0). A page of another site
/// that has its own name resolve to this machine (DNS rebinding) sends that name, and a browser lets
/// no page choose it.
fn names_no_domain(headers: &HeaderMap) -> bool {
    let Some(host) = headers.get(header::HOST) else { return true };
    let Some(authority) = host.to_str().ok().and_then(|it| it.parse::<Authority>().ok()) else {
        return false;
    };
    let host = authority.host();
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost") || address.parse::<IpAddr>().is_ok()
}

/// Get this document as JSON
///
/// Returns the API document in OpenAPI 3.1, generated from the code of this server.
#[utoipa::path(
    operation_id = "openapiJson",
    tag = "Server",
    security(()),
    responses(
        (status = 200, description = "The API document", body = HashMap<String, serde_json::Value>, content_type = "application/json", example = json!({"openapi": "3.1.0", "info": {"title": "keyward"}})),
    ),
)]
#[get("/openapi.json")]
pub async fn openapi_json(documents: web::Data<Documents>) -> HttpResponse {
    HttpResponse::Ok().content_type("application/json").body(InPieces::of(documents.json.clone()))
}

/// Get this document as YAML
///
/// Returns the same document as `/openapi.json`.
#[utoipa::path(
    operation_id = "openapiYaml",
    tag = "Server",
    security(()),
    responses(
        (status = 200, description = "The API document", body = HashMap<String, serde_json::Value>, content_type = "application/yaml"),
    ),
)]
#[get("/openapi.yaml")]
pub async fn openapi_yaml(documents: web::Data<Documents>) -> HttpResponse {
    HttpResponse::Ok().content_type("application/yaml").body(InPieces::of(documents.yaml.clone()))
}

/// Swagger UI under `/docs/`, from assets inside the binary.
pub fn docs(cfg: &mut web::ServiceConfig) {
    let config = Config::from("/openapi.json")
        .try_it_out_enabled(true)
        // A key would stay in the browser's storage, for every program that reads it.
        .persist_authorization(false)
        .display_request_duration(true)
        .doc_expansion("list")
        .filter(true)
        // It would ask a validator on the internet.
        .validator_url("none");
    let to_docs = || web::get().to(|| async { redirect("/docs/") });
    cfg.service(page("/").route(to_docs())).service(page("/docs").route(to_docs())).service(
        web::scope("/docs")
            .wrap(actix_web::middleware::from_fn(page_headers))
            .app_data(web::Data::new(config))
            .service(web::resource("/{path:.*}").guard(guard::Get()).to(asset)),
    );
}

/// The first address that a person tries, where there are no pages.
pub fn without_docs(cfg: &mut web::ServiceConfig) {
    async fn advise() -> Result<HttpResponse, Problem> {
        let detail = "this server shows no pages (`docs = false`); the API is under /api/v1, and its \
                      document is /openapi.json";
        Err(Problem::new(StatusCode::NOT_FOUND, "not_found", "Not found", detail))
    }
    cfg.service(page("/").route(web::get().to(advise)));
}

/// An address that can only be read, and is not in the API document.
fn page(path: &str) -> Resource {
    let other =
        || async { Err::<HttpResponse, _>(Problem::method_not_allowed("GET, HEAD".into())) };
    web::resource(path).default_service(web::to(other))
}

/// A file of Swagger UI. Nearly all of them lie in the binary and are not copied.
async fn asset(
    config: web::Data<Config<'static>>,
    path: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let file = utoipa_swagger_ui::serve(&path, config.into_inner());
    let file = file.map_err(|_| Problem::internal())?.ok_or(Error::NotFound)?;
    let bytes = match file.bytes {
        Cow::Borrowed(bytes) => web::Bytes::from_static(bytes),
        Cow::Owned(bytes) => bytes.into(),
    };
    let mut response = HttpResponse::Ok();
    if file.gzpipped {
        response.insert_header(header::ContentEncoding::Gzip);
    }
    Ok(response.content_type(file.content_type).body(InPieces::of(bytes)))
}

/// Temporary, because browsers remember a permanent one even after `docs` is turned off.
fn redirect(to: &'static str) -> HttpResponse {
    HttpResponse::TemporaryRedirect().insert_header((header::LOCATION, to)).finish()
}

async fn page_headers<B: MessageBody + 'static>(
    req: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<EitherBody<B>>, actix_web::Error> {
    // Swagger UI sets styles inline; nothing else is let in, and nothing from elsewhere.
    const POLICY: &str = "default-src 'none'; script-src 'self'; \
                          style-src 'self' 'unsafe-inline'; img-src 'self' data:; \
                          connect-src 'self'; base-uri 'none'; form-action 'none'; \
                          frame-ancestors 'none'";
    let mut response = next.call(req).await?.map_into_left_body();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    Ok(response)
}

fn plain(text: &'static str) -> HttpResponse {
    HttpResponse::Ok()
        .content_type("text/plain; charset=utf-8")
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .body(text)
}
