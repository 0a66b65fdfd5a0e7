//! The routes: which handler answers which address.

use actix_web::{Route, dev::HttpServiceFactory, middleware::from_fn, web};
use utoipa_actix_web::{OpenApiFactory, service_config::ServiceConfig};

use crate::http::{
    api::{
        accounts, checkpoints, console_links, events, keys, leaked_keys, rotation, scopes, stream,
        tokens, usage,
    },
    authn,
    route_table::no_such_operation,
    system::{discovery, documents, health, metrics},
    verification::verify,
};

/// A list of routes: the configuration of a server, or one that also collects the API document. The
/// second takes megabytes, which every worker thread would keep.
pub trait Routes {
    fn add(&mut self, operation: impl HttpServiceFactory + OpenApiFactory + 'static) -> &mut Self;

    /// Adds a route that the document does not show.
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

/// The one operation outside of [`wrap`](crate::http::wrap), before all others.
pub fn hot_routes(cfg: &mut impl Routes) {
    cfg.add(verify::verify_key);
}

/// All other routes of the public address.
pub fn routes(cfg: &mut web::ServiceConfig) {
    // First: the scope after them takes every address below `/api/v1`.
    cfg.configure(open_routes).service(
        web::scope("/api/v1")
            .wrap(from_fn(authn::authenticate)) // Before any extractor, so that 401 beats 400.
            .configure(api)
            .default_service(web::to(no_such_operation)),
    );
}

/// The routes that need no key, or decide themselves whether they do.
pub(super) fn open_routes(cfg: &mut impl Routes) {
    // Their other methods must not reach the scope after them: it would ask for a key.
    let other = || web::route().to(no_such_operation);
    cfg.add(leaked_keys::report_leaked_keys)
        .add_hidden("/api/v1/leaked-keys", other())
        .add(tokens::exchange_token)
        .add_hidden("/api/v1/token", other())
        .add(discovery::token_keys)
        .add(discovery::token_metadata)
        .add(discovery::token_status)
        .add(health::livez)
        .add_hidden("/healthz", web::get().to(health::healthz)) // As some probes call it.
        .add(health::readyz)
        .add(metrics::metrics)
        .add(documents::openapi_json)
        .add(documents::openapi_yaml);
}

/// The routes under `/api/v1` of both the public address and the control socket.
///
/// Routing and documentation are one list: an endpoint that is missing here is missing in both.
pub(super) fn api(cfg: &mut impl Routes) {
    let other = || web::route().to(no_such_operation);
    cfg.add(keys::list_keys)
        .add(keys::create_key)
        .add_hidden("/api-keys/verify", other()) // Not the key with the identifier "verify".
        .add(keys::show_self)
        .add(keys::revoke_self)
        .add(rotation::rotate_self)
        .add(keys::show_key)
        .add(keys::update_key)
        .add(keys::revoke_key)
        .add(rotation::rotate_key)
        .add(rotation::complete_rotation)
        .add(usage::show_usage)
        .add(usage::show_addresses)
        .add(scopes::list_scopes)
        .add(accounts::list_accounts)
        .add(accounts::create_account)
        .add(accounts::show_own_account)
        .add(accounts::show_account)
        .add(accounts::update_account)
        .add(accounts::delete_account)
        .add(accounts::list_account_keys)
        .add(accounts::create_account_key)
        .add(console_links::create_console_link)
        .add(usage::show_own_account_usage)
        .add(usage::show_account_usage)
        .add(events::list_events)
        .add(stream::stream_events) // Not the event with the number "stream".
        .add(events::show_event)
        .add(checkpoints::prove_event)
        .add(checkpoints::list_checkpoints)
        .add(checkpoints::show_last_checkpoint)
        .add(checkpoints::show_checkpoint_key)
        .add(checkpoints::prove_consistency);
}
