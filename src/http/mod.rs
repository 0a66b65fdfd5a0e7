//! The HTTP face: wire types in, use case, wire types out.

pub mod authn;

pub mod keys;

pub mod rotation;

pub mod usage;

pub mod accounts;

pub mod verify;

pub mod events;

pub mod checkpoints;

pub mod stream;

pub mod pages;

pub mod openapi;

pub mod problem;

pub mod wire;

pub mod control;

pub mod import;

pub mod authz;

mod answers;
mod body;
mod client_address;
mod connection;
mod envelope;
mod gate;
mod identity;
pub mod json;
pub mod numbers;
mod query;
mod strict;

use std::sync::Arc;

use actix_web::{
    HttpRequest,
    http::header::{self, HeaderValue},
    middleware::from_fn,
    web,
};
use tokio::sync::oneshot;

pub use self::{
    body::read_body,
    client_address::TrustedProxies,
    connection::MalformedRequests,
    envelope::{RequestIds, wrap},
    gate::{Gate, Seldom},
};
use crate::{
    domain::id::KeyId,
    http::problem::Problem,
    service::{Error, Keyward, Minted, Principal},
};

/// Runs a use case where blocking is allowed.
///
/// What has begun is finished even if the client goes away: a change may have been made by a
/// request whose answer nobody read.
pub(crate) async fn run<T: Send + 'static>(
    app: &web::Data<Keyward>,
    use_case: impl FnOnce(&Keyward) -> Result<T, Error> + Send + 'static,
) -> Result<T, Problem> {
    let app: Arc<Keyward> = Arc::clone(app);
    let outcome = web::block(move || use_case(&app)).await;
    Ok(outcome.map_err(|_| Problem::internal())??)
}

/// A new key, minted on a thread that gives way to all others. 503 if too many wait for theirs.
pub(crate) async fn minted(app: &web::Data<Keyward>) -> Result<Minted, Problem> {
    let (tell, told) = oneshot::channel();
    // The client may have gone meanwhile.
    let accepted = app.mint_apart(|minted| drop(tell.send(minted)));
    accepted.map_err(|_| Problem::unavailable())?;
    told.await.map_err(|_| Problem::internal())
}

/// The one operation that stands outside of [`wrap`], before all others.
pub fn hot_routes(cfg: &mut utoipa_actix_web::service_config::ServiceConfig<'_>) {
    cfg.service(verify::verify_key);
}

/// Routing and documentation are one list: an endpoint missing here is missing from both.
pub fn routes(cfg: &mut utoipa_actix_web::service_config::ServiceConfig<'_>) {
    cfg.service(
        utoipa_actix_web::scope("/api/v1")
            .wrap(from_fn(authn::authenticate)) // Before any extractor, so that 401 beats 400.
            .configure(api)
            .default_service(web::to(openapi::no_such_operation)),
    )
    .service(pages::livez)
    .route("/healthz", web::get().to(pages::healthz)) // As some probes call it.
    .service(pages::readyz)
    .service(pages::metrics)
    .service(pages::openapi_json)
    .service(pages::openapi_yaml);
}

/// What the public address and the control socket have in common.
fn api(cfg: &mut utoipa_actix_web::service_config::ServiceConfig<'_>) {
    let other = || web::route().to(openapi::no_such_operation);
    cfg.service(keys::list_keys)
        .service(keys::create_key)
        .route("/api-keys/verify", other()) // Not the key with the identifier "verify".
        .service(keys::show_self)
        .service(keys::revoke_self)
        .service(rotation::rotate_self)
        .service(keys::show_key)
        .service(keys::update_key)
        .service(keys::patch_key)
        .service(keys::revoke_key)
        .service(rotation::rotate_key)
        .service(rotation::complete_rotation)
        .service(usage::show_usage)
        .service(verify::list_scopes)
        .service(accounts::list_accounts)
        .service(accounts::create_account)
        .service(accounts::show_own_account)
        .service(accounts::show_account)
        .service(accounts::update_account)
        .service(accounts::patch_account)
        .service(accounts::delete_account)
        .service(accounts::list_account_keys)
        .service(accounts::create_account_key)
        .service(events::list_events)
        .service(stream::stream_events) // Not the event with the number "stream".
        .service(events::show_event)
        .service(checkpoints::prove_event)
        .service(checkpoints::list_checkpoints)
        .service(checkpoints::show_last_checkpoint)
        .service(checkpoints::show_checkpoint_key)
        .service(checkpoints::prove_consistency);
}

/// The key that the path names: an identifier, the prefix of one of its values, or `self` for the
/// caller's own.
fn key_in_path(app: &Keyward, caller: &Principal, text: &str) -> Result<KeyId, Error> {
    if text == "self" {
        return caller.key().ok_or(Error::NO_KEY);
    }
    KeyId::parse(text).ok().or_else(|| app.key_with_prefix(text)).ok_or(Error::NO_KEY)
}

fn entity_tag(revision: i64) -> (header::HeaderName, String) {
    (header::ETAG, format!("\"{revision}\""))
}

/// The revision that a change is meant for, if the client names any; refused if it is another.
///
/// Strong comparison (RFC 9110, 8.8.3.2): a weak tag never matches.
fn expected_revision(req: &HttpRequest, revision: i64) -> Result<Option<i64>, Error> {
    let Some(wanted) = req.headers().get(header::IF_MATCH) else { return Ok(None) };
    let (_, tag) = entity_tag(revision);
    let names = |it: &HeaderValue| {
        it.to_str().is_ok_and(|it| it.split(',').map(str::trim).any(|it| it == tag || it == "*"))
    };
    if names(wanted) { Ok(Some(revision)) } else { Err(Error::PreconditionFailed) }
}
