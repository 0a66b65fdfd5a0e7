//! `/livez`, `/readyz`, `/healthz`.

use actix_web::{HttpRequest, HttpResponse, get, http::header, web};

use crate::{
    http::{
        blocking::run,
        problem::Problem,
        request::client_address::{TrustedProxies, is_local},
    },
    service::Keyward,
};

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

/// Does the same as `livez`, under a name that some probes expect.
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

fn plain(text: &'static str) -> HttpResponse {
    HttpResponse::Ok()
        .content_type("text/plain; charset=utf-8")
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .body(text)
}
