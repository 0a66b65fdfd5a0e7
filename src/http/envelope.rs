//! The middleware around every operation but the hot routes. It gives each answer an identifier, safe
//! headers and, for a failure, the body of a problem; and it writes one line to the log.

use std::time::Duration;

use actix_web::{
    HttpMessage, HttpRequest,
    body::{self, BodySize, BoxBody, EitherBody, MessageBody},
    dev::{ServiceRequest, ServiceResponse},
    http::{
        Method,
        header::{self, HeaderMap, HeaderValue},
    },
    middleware::Next,
    web,
};

use crate::{
    http::{
        authn::{DeniedCaller, key_in_query},
        connection::{self, Unread},
        problem::Problem,
        request::{
            client_address::TrustedProxies,
            id::{REQUEST_ID, RequestId, RequestIds},
            strict,
        },
        route_table::RouteTable,
        system::pages::Page,
    },
    service::{Keyward, Principal},
    telemetry::Metrics,
};

/// The parts of the server that [`wrap`] uses. The control socket has no metrics.
type Shared = (
    web::Data<RequestIds>,
    web::Data<Keyward>,
    web::Data<TrustedProxies>,
    Option<web::Data<Metrics>>,
    web::Data<RouteTable>,
);

/// The middleware around all handlers.
pub async fn wrap<B: MessageBody + 'static>(
    (ids, app, proxies, metrics, table): Shared,
    mut req: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<EitherBody<EitherBody<B>>>, actix_web::Error> {
    let id = ids.identify(req.headers().get(REQUEST_ID));
    req.extensions_mut().insert(id.clone());
    let method = req.method().clone();
    if method == Method::HEAD {
        // Routed as GET. The connection knows that it must not send the body.
        req.head_mut().method = Method::GET;
    }
    let started = app.env().time.monotonic();
    strict::examine(&req, &table);
    // Under `/api`, this is checked after the key: see `authn::examine`.
    let misplaced = (!req.path().starts_with("/api/")).then(|| key_in_query(req.query_string()));
    let response = match misplaced.flatten() {
        Some((code, detail)) => {
            req.error_response(Problem::bad_request(code, detail)).map_into_right_body()
        }
        None => next.call(req).await?.map_into_left_body(),
    };
    let mut response = rendered(response, &id, &app, &proxies);
    if method == Method::HEAD && response.response().body().size() == BodySize::Stream {
        // The connection would wait for the end of the stream. The answer gets no length, because the
        // length of the answer to GET is not known either.
        response = response.map_body(|_, _| EitherBody::right(BoxBody::new(body::None::new())));
    }
    decorate(&mut response, &id);
    let response = settled(ended_with_newline(response));
    if !is_hot(response.request().path()) {
        let elapsed = app.env().time.monotonic().since(started);
        if let Some(metrics) = metrics {
            count(&response, &method, &table, elapsed, &metrics);
        }
        log(&response, &id, &method, elapsed);
    }
    Ok(response)
}

/// Announces the end of the connection where it ends, and holds the unread body until then.
fn settled<B: MessageBody + 'static>(
    mut response: ServiceResponse<EitherBody<B>>,
) -> ServiceResponse<EitherBody<B>> {
    let request = response.request().clone();
    let unread = request.extensions_mut().remove::<Unread>();
    connection::announce_end(request.head(), unread.is_some(), response.response_mut().head_mut());
    match unread {
        Some(unread) => response.map_body(|_, body| EitherBody::right(unread.held_by(body))),
        None => response,
    }
}

/// Counts a request. Labels never contain text that a client chose, and only operations that exist
/// have labels of their own, so the number of series is bounded. HEAD counts as GET.
fn count<B>(
    response: &ServiceResponse<B>,
    method: &Method,
    table: &RouteTable,
    took: Duration,
    metrics: &Metrics,
) {
    const METHODS: [(Method, &str); 5] = [
        (Method::GET, "GET"),
        (Method::POST, "POST"),
        (Method::PUT, "PUT"),
        (Method::PATCH, "PATCH"),
        (Method::DELETE, "DELETE"),
    ];
    let (request, status) = (response.request(), response.status().as_u16());
    let path = request.path();
    let method = if *method == Method::HEAD { &Method::GET } else { method };
    // The pages are not in the API document.
    let is_page = *method == Method::GET && !path.starts_with("/api/");
    let page = || request.match_pattern().filter(|_| is_page);
    let route = table.template(method, path).map(str::to_owned).or_else(page);
    let name = METHODS.iter().find(|it| it.0 == *method).map(|it| it.1);
    let (name, route) = name.zip(route).unwrap_or(("_OTHER", String::new()));
    metrics.count_request(name, route, status, took);
}

fn log<B>(response: &ServiceResponse<B>, id: &RequestId, method: &Method, elapsed: Duration) {
    let (req, status) = (response.request(), response.status());
    // The pattern, not the path, which may hold identifiers and misplaced keys.
    let route = req.match_pattern().unwrap_or_else(|| "(none)".to_owned());
    tracing::info!(
        request.id = %id,
        http.method = %method,
        http.route = route,
        http.status = status.as_u16(),
        elapsed_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX),
        "answered"
    );
}

/// Whether the path is requested too often to be counted and logged each time.
fn is_hot(path: &str) -> bool {
    matches!(path, "/livez" | "/readyz" | "/metrics")
}

/// Gives a problem its body, now that the identifier of the request is known. Every other error of the
/// framework becomes a problem too.
fn rendered<B: MessageBody + 'static>(
    response: ServiceResponse<B>,
    id: &RequestId,
    app: &Keyward,
    proxies: &TrustedProxies,
) -> ServiceResponse<EitherBody<B>> {
    let leftover = strict::leftover(response.request(), response.status());
    let err = response.response().error();
    let problem = match (leftover, err.map(|it| (it, it.as_error::<Problem>()))) {
        (Some(problem), _) => problem,
        (None, None) => return response.map_into_left_body(),
        (None, Some((_, Some(problem)))) => problem.clone(),
        (None, Some((_, None))) if response.status().is_client_error() => {
            Problem::bad_request("bad_request", "the server cannot parse the request")
        }
        (None, Some((err, None))) => {
            tracing::error!(error = %err, "a request failed inside the framework");
            Problem::internal()
        }
    };
    record_denial(response.request(), &problem, app, proxies);
    let answer = problem.respond(id.as_str());
    let (request, _) = response.into_parts();
    ServiceResponse::new(request, answer).map_into_right_body()
}

/// Refused calls of the API become events.
fn record_denial(req: &HttpRequest, problem: &Problem, app: &Keyward, proxies: &TrustedProxies) {
    if !(problem.is_denial() && req.path().starts_with("/api/")) {
        return;
    }
    let extensions = req.extensions();
    let accepted = extensions.get::<Principal>().map(DeniedCaller::of_principal);
    let caller: DeniedCaller = accepted.or_else(|| extensions.get().copied()).unwrap_or_default();
    caller.record(app, problem, proxies.client_address(req));
}

/// Ends every text with a newline, so that the prompt of a shell stands on a line of its own.
fn ended_with_newline<B: MessageBody + 'static>(
    response: ServiceResponse<EitherBody<B>>,
) -> ServiceResponse<EitherBody<B>> {
    if !is_text(response.headers()) {
        return response;
    }
    response.map_body(|_, body| match body.try_into_bytes() {
        Ok(text) if text.is_empty() || text.ends_with(b"\n") => {
            EitherBody::right(BoxBody::new(text))
        }
        Ok(text) => EitherBody::right(BoxBody::new([&text[..], b"\n"].concat())),
        Err(stream) => stream,
    })
}

/// Returns whether a body is an answer of the API, rather than a file of a page.
fn is_text(headers: &HeaderMap) -> bool {
    const TEXTS: [&str; 4] =
        ["application/json", "application/problem+json", "application/yaml", "text/plain"];
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|it| it.to_str().ok());
    let essence = content_type.and_then(|it| it.split(';').next());
    essence.is_some_and(|it| TEXTS.contains(&it))
}

fn decorate<B>(response: &mut ServiceResponse<B>, id: &RequestId) {
    // The routing knows the page under every spelling of its address.
    let page = response.request().extensions().get::<Page>().copied();
    let headers = response.headers_mut();
    headers.insert(REQUEST_ID, id.to_header());
    if let Some(page) = page {
        page.decorate(headers);
    } else {
        if !headers.contains_key(header::CACHE_CONTROL) {
            headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        }
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    }
}
