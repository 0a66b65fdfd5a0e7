//! What the hot routes share: verify and forward auth, asked with each request to somebody's API.
//!
//! They stand outside the middleware of the rest, and each worker has a gate of its own: a count of
//! users that all workers share would cost them more than the look-up in the index.

use actix_web::{
    HttpRequest, HttpResponse,
    http::header::{self, HeaderValue},
    web,
};

use crate::{
    http::{
        connection::{self, Unread},
        request::{
            client_address::TrustedProxies,
            id::{REQUEST_ID, RequestId, RequestIds},
        },
        seldom::Seldom,
    },
    service::Keyward,
    telemetry::Metrics,
};

/// What an answer needs, found once instead of for each request.
pub struct VerificationState {
    pub(super) app: web::Data<Keyward>,
    pub(super) metrics: web::Data<Metrics>,
    pub(super) ids: web::Data<RequestIds>,
    pub(super) proxies: web::Data<TrustedProxies>,
    /// Of all workers together.
    pub(super) complaints: web::Data<Seldom>,
}

impl VerificationState {
    /// One for each worker, with identifiers of its own.
    pub fn new(
        app: web::Data<Keyward>,
        metrics: web::Data<Metrics>,
        ids: web::Data<RequestIds>,
        proxies: web::Data<TrustedProxies>,
        complaints: web::Data<Seldom>,
    ) -> Self {
        Self { app, metrics, ids, proxies, complaints }
    }

    /// What every answer carries. `unread` is what is left of the body of the request.
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
