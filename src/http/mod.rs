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

pub mod system;

pub mod openapi;

pub mod problem;

pub mod wire;

pub mod control;

pub mod import;

pub mod authz;

mod answers;
mod authz_response;
mod body;
mod client_address;
mod connection;
mod envelope;
mod gate;
pub mod json;
pub mod numbers;
mod query;
mod strict;

use std::sync::Arc;

use actix_web::{
    HttpRequest, Route,
    dev::HttpServiceFactory,
    http::header::{self, HeaderValue},
    middleware::from_fn,
    web,
};
use tokio::sync::oneshot;
use utoipa_actix_web::{OpenApiFactory, service_config::ServiceConfig};

pub use self::{
    body::read_body,
    client_address::TrustedProxies,
    connection::MalformedRequests,
    envelope::{RequestIds, wrap},
    gate::{Seldom, VerificationState},
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

/// Where routes are listed: in what a server serves, or in what also collects the API document. That
/// takes megabytes, which the threads that serve would keep.
pub trait Routes {
    fn add(&mut self, operation: impl HttpServiceFactory + OpenApiFactory + 'static) -> &mut Self;

    /// Adds what the document does not show.
    fn add_hidden(&mut self, path: &str, route: Route) -> &mut Self;
}

impl Routes for web::ServiceConfig {
    fn add(&mut self, operation: impl HttpServiceFactory + OpenApiFactory + 'static) -> &mut Self {
        self.service(operation)
    }

    fn add_hidden(&mut self, path: &str, route: Route) -> &mut Self {
        self.route(path, route)
    }
}

impl Routes for ServiceConfig<'_> {
    fn add(&mut self, operation: impl HttpServiceFactory + OpenApiFactory + 'static) -> &mut Self {
        self.service(operation)
    }

    fn add_hidden(&mut self, path: &str, route: Route) -> &mut Self {
        self.route(path, route)
    }
}

/// The one operation that stands outside of [`wrap`], before all others.
pub fn hot_routes(cfg: &mut impl Routes) {
    cfg.add(verify::verify_key);
}

/// All others of the public address.
pub fn routes(cfg: &mut web::ServiceConfig) {
    cfg.service(
        web::scope("/api/v1")
            .wrap(from_fn(authn::authenticate)) // Before any extractor, so that 401 beats 400.
            .configure(api)
            .default_service(web::to(openapi::no_such_operation)),
    )
    .configure(open_routes);
}

/// What needs no key, or decides for itself.
fn open_routes(cfg: &mut impl Routes) {
    cfg.add(system::livez)
        .add_hidden("/healthz", web::get().to(system::healthz)) // As some probes call it.
        .add(system::readyz)
        .add(system::metrics)
        .add(system::openapi_json)
        .add(system::openapi_yaml);
}

/// What the public address and the control socket have in common, under `/api/v1`.
///
/// Routing and documentation are one list: an endpoint missing here is missing from both.
fn api(cfg: &mut impl Routes) {
    let other = || web::route().to(openapi::no_such_operation);
    cfg.add(keys::list_keys)
        .add(keys::create_key)
        .add_hidden("/api-keys/verify", other()) // Not the key with the identifier "verify".
        .add(keys::show_self)
        .add(keys::revoke_self)
        .add(rotation::rotate_self)
        .add(keys::show_key)
        .add(keys::update_key)
        .add(keys::patch_key)
        .add(keys::revoke_key)
        .add(rotation::rotate_key)
        .add(rotation::complete_rotation)
        .add(usage::show_usage)
        .add(verify::list_scopes)
        .add(accounts::list_accounts)
        .add(accounts::create_account)
        .add(accounts::show_own_account)
        .add(accounts::show_account)
        .add(accounts::update_account)
        .add(accounts::patch_account)
        .add(accounts::delete_account)
        .add(accounts::list_account_keys)
        .add(accounts::create_account_key)
        .add(events::list_events)
        .add(stream::stream_events) // Not the event with the number "stream".
        .add(events::show_event)
        .add(checkpoints::prove_event)
        .add(checkpoints::list_checkpoints)
        .add(checkpoints::show_last_checkpoint)
        .add(checkpoints::show_checkpoint_key)
        .add(checkpoints::prove_consistency);
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
