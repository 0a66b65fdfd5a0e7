//! What the console and Swagger UI have in common: addresses that take only GET, and the headers of a
//! page.

use actix_web::{
    HttpMessage, HttpResponse, Resource,
    dev::ServiceRequest,
    http::{
        StatusCode,
        header::{self, HeaderMap, HeaderName, HeaderValue},
    },
    web,
};

use crate::http::problem::Problem;

/// The content security policy of a page. It is attached to each request below the address of the page,
/// and the outermost middleware sets the headers. So a refusal has them too.
#[derive(Clone, Copy, Debug)]
pub(in crate::http) struct Page(&'static str);

impl Page {
    /// The console contains no inline code and no inline style, and asks no other server.
    pub const CONSOLE: Self = Self(
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
         connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'",
    );
    /// Swagger UI sets styles inline. No other inline code is allowed, and no other source.
    pub const SWAGGER_UI: Self = Self(
        "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; \
         img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; \
         frame-ancestors 'none'",
    );

    /// Attaches the page to a request.
    pub fn attach(self, req: &ServiceRequest) {
        req.extensions_mut().insert(self);
    }

    /// Sets the headers of every answer below the address of this page.
    pub fn decorate(self, headers: &mut HeaderMap) {
        const FIXED: [(HeaderName, &str); 6] = [
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (header::REFERRER_POLICY, "no-referrer"),
            (header::CACHE_CONTROL, "no-cache"),
            (header::CROSS_ORIGIN_OPENER_POLICY, "same-origin"),
            (header::CROSS_ORIGIN_RESOURCE_POLICY, "same-origin"),
            (
                header::PERMISSIONS_POLICY,
                "camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()",
            ),
        ];
        headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(self.0));
        for (name, value) in FIXED {
            headers.insert(name, HeaderValue::from_static(value));
        }
    }
}

/// Returns an address that takes only GET and is not in the API document.
pub(in crate::http) fn resource(path: &str) -> Resource {
    let other =
        || async { Err::<HttpResponse, _>(Problem::method_not_allowed("GET, HEAD".into())) };
    web::resource(path).default_service(web::to(other))
}

/// Redirects temporarily: browsers remember a permanent redirect even after a page is turned off.
pub(in crate::http) fn redirect(to: &'static str) -> HttpResponse {
    HttpResponse::TemporaryRedirect().insert_header((header::LOCATION, to)).finish()
}

/// Answers `/`, the first address that a person tries, with the way to the first of these pages.
pub fn first_page(cfg: &mut web::ServiceConfig, pages: [(bool, &'static str); 2]) {
    let shown = pages.into_iter().find_map(|(shown, address)| shown.then_some(address));
    let answer = move || async move { shown.map(redirect).ok_or_else(no_pages) };
    cfg.service(resource("/").route(web::get().to(answer)));
}

fn no_pages() -> Problem {
    let detail = "this server shows no pages (`console = false`, `docs = false`); the API is under \
                  /api/v1, and its document is /openapi.json";
    Problem::new(StatusCode::NOT_FOUND, "not_found", detail)
}
