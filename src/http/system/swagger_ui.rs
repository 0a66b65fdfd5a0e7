//! Swagger UI, from assets inside the binary.

use std::borrow::Cow;

use actix_web::{
    HttpResponse, Resource,
    body::{EitherBody, MessageBody},
    dev::{ServiceRequest, ServiceResponse},
    guard,
    http::{
        StatusCode,
        header::{self, HeaderValue},
    },
    middleware::Next,
    web,
};
use utoipa_swagger_ui::Config;

use crate::{
    http::{problem::Problem, respond::InPieces},
    service::Error,
};

/// Serves Swagger UI under `/docs/`.
pub fn docs(cfg: &mut web::ServiceConfig) {
    let config = Config::from("/openapi.json")
        .try_it_out_enabled(true)
        // A key would stay in the storage of the browser, where other programs can read it.
        .persist_authorization(false)
        .display_request_duration(true)
        .doc_expansion("list")
        .filter(true)
        // Swagger UI would call a validator on the internet.
        .validator_url("none");
    let to_docs = || web::get().to(|| async { redirect("/docs/") });
    cfg.service(page("/").route(to_docs())).service(page("/docs").route(to_docs())).service(
        web::scope("/docs")
            .wrap(actix_web::middleware::from_fn(page_headers))
            .app_data(web::Data::new(config))
            .service(web::resource("/{path:.*}").guard(guard::Get()).to(asset)),
    );
}

/// Answers `/`, the first address that a person tries, on a server without Swagger UI.
pub fn without_docs(cfg: &mut web::ServiceConfig) {
    async fn advise() -> Result<HttpResponse, Problem> {
        let detail = "this server shows no pages (`docs = false`); the API is under /api/v1, and its \
                      document is /openapi.json";
        Err(Problem::new(StatusCode::NOT_FOUND, "not_found", detail))
    }
    cfg.service(page("/").route(web::get().to(advise)));
}

/// Returns an address that takes only GET and is not in the API document.
fn page(path: &str) -> Resource {
    let other =
        || async { Err::<HttpResponse, _>(Problem::method_not_allowed("GET, HEAD".into())) };
    web::resource(path).default_service(web::to(other))
}

/// Answers with a file of Swagger UI. Nearly all files lie in the binary and are not copied.
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

/// Redirects temporarily: browsers remember a permanent redirect even after `docs` is turned off.
fn redirect(to: &'static str) -> HttpResponse {
    HttpResponse::TemporaryRedirect().insert_header((header::LOCATION, to)).finish()
}

async fn page_headers<B: MessageBody + 'static>(
    req: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<EitherBody<B>>, actix_web::Error> {
    // Swagger UI sets styles inline. No other inline code is allowed, and no other source.
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
