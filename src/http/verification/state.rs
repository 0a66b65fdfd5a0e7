//! The state that verification and forward auth share.
//!
//! These routes stand outside the middleware of the others, and each worker has a state of its own. A
//! reference count that all workers share would cost more than the look-up in the index.

use actix_web::{
    HttpRequest, HttpResponse,
    http::header::{self, HeaderValue},
    web,
};

use crate::{
    http::{
        connection::{self, Unread},
        once_per_minute::OncePerMinute,
        request::{
            client_address::TrustedProxies,
            id::{REQUEST_ID, RequestId, RequestIds},
        },
    },
    service::Keyward,
    telemetry::Metrics,
};

/// The parts of the server that an answer needs, looked up once instead of for each request.
pub struct VerificationState {
    pub(super) app: web::Data<Keyward>,
    pub(super) metrics: web::Data<Metrics>,
    pub(super) ids: web::Data<RequestIds>,
    pub(super) proxies: web::Data<TrustedProxies>,
    /// Shared by all workers.
    pub(super) complaints: web::Data<OncePerMinute>,
}

impl VerificationState {
    /// Makes the state of one worker, with request identifiers of its own.
    pub fn new(
        app: web::Data<Keyward>,
        metrics: web::Data<Metrics>,
        ids: web::Data<RequestIds>,
        proxies: web::Data<TrustedProxies>,
        complaints: web::Data<OncePerMinute>,
    ) -> Self {
        Self { app, metrics, ids, proxies, complaints }
    }

    /// Adds the headers of every answer. `unread` is the unread rest of the body of the request.
    pub(super) fn finish(
        req: &HttpRequest,
        unread: Option<Unread>,
        response: HttpResponse,
        id: &RequestId,
    ) -> HttpResponse {
        let mut response = connection::settle(req, unread, response);
        let headers = response.headers_mut();
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(REQUEST_ID, id.to_header());
        response
    }
}
