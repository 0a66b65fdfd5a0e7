//! The two middlewares that find the caller of a request, before any extractor runs.

use actix_web::{
    HttpMessage,
    body::{EitherBody, MessageBody},
    dev::{ServiceRequest, ServiceResponse},
    http::header::HeaderMap,
    middleware::Next,
    web,
};

use super::{
    denied::DeniedCaller,
    examine::caller,
    presented::{IDEMPOTENCY_KEY, PresentedKey},
};
use crate::{
    domain::{
        event::{Actor, RequestContext},
        sealed_answer::SealingSecret,
    },
    http::{
        blocking::run,
        request::{client_address::TrustedProxies, id::request_id},
    },
    service::Keyward,
};

/// Lets through only requests that carry an accepted key, and none that is ambiguous.
pub async fn authenticate<B: MessageBody + 'static>(
    app: web::Data<Keyward>,
    proxies: web::Data<TrustedProxies>,
    req: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<EitherBody<B>>, actix_web::Error> {
    let context = RequestContext {
        request_id: Some(request_id(req.request()).into()),
        client_ip: proxies.client_address(req.request()),
    };
    // The operation's own scopes are the business of `Caller`.
    match caller(&app, req.request(), &[], context).await {
        Ok(principal) => {
            req.extensions_mut().insert(principal);
            if let Some(secret) = sealing_secret(&app, req.headers()) {
                req.extensions_mut().insert(secret);
            }
            Ok(next.call(req).await?.map_into_left_body())
        }
        Err(problem) => {
            req.extensions_mut().insert(DeniedCaller::in_request(&app, req.headers()));
            Ok(req.error_response(problem).map_into_right_body())
        }
    }
}

/// Returns the secret under which the answer is kept, if the request has an `Idempotency-Key`. No
/// handler sees the text of the presented key.
fn sealing_secret(app: &Keyward, headers: &HeaderMap) -> Option<SealingSecret> {
    headers.get(&IDEMPOTENCY_KEY)?;
    PresentedKey::in_request(app, headers).text.map(SealingSecret::of_presented)
}

/// Lets every request through, as the operator's: on the control socket, being able to connect is the
/// permission.
pub async fn admit_operator<B: MessageBody + 'static>(
    app: web::Data<Keyward>,
    req: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<EitherBody<B>>, actix_web::Error> {
    let request_id = Some(request_id(req.request()).into());
    let source = RequestContext { request_id, client_ip: None }.caused_by(Actor::Cli);
    match run(&app, move |app| app.local_operator(source)).await {
        Ok(principal) => {
            req.extensions_mut().insert(principal);
            Ok(next.call(req).await?.map_into_left_body())
        }
        Err(problem) => Ok(req.error_response(problem).map_into_right_body()),
    }
}
