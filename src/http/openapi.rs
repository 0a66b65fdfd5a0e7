//! The API document: collected from the routes, completed here, never written by hand.

mod answers;
mod bounds;
mod complete;
mod examples;
mod links;
mod operations;
mod parameters;
mod version_3_0;

use std::{panic::resume_unwind, thread};

use actix_web::App;
use utoipa::{OpenApi, openapi::Server};
use utoipa_actix_web::AppExt;

use crate::http::{
    problem::Problem,
    routes::{api, hot_routes, open_routes},
    system::documents::{json_of, yaml_of},
    wire::{EventTypeBody, ListOrderBody},
};

/// The parts of the document that no route defines.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "keyward",
        description = "Manages API keys: create, list, update, rotate without an outage, and revoke at once. Verifies a \
                       key for a gateway on every request. The server also answers the health check \
                       `/healthz` and the requests of proxies under `/authz`, which are not in this document.",
        contact(name = "The operator of this server"),
        license(name = "MIT", identifier = "MIT"),
    ),
    tags(
        (name = "API keys", description = "Keys of the caller's own account."),
        (name = "Verification", description = "Verification of keys, and the list of scopes."),
        (name = "Tokens", description = "Tokens that gateways verify on their own, without a request to this server."),
        (name = "Accounts", description = "The customers that keys belong to. Only the operator can manage them."),
        (name = "Audit log", description = "The record of all changes and refused calls. It is append-only and hash-chained."),
        (name = "Server", description = "Health, metrics and this document."),
    ),
    components(schemas(Problem, EventTypeBody, ListOrderBody)),
)]
struct Frame;

/// The whole document, in OpenAPI 3.1.
pub fn document() -> utoipa::openapi::OpenApi {
    // The frame first: handing it over later would replace what was collected.
    let app = App::new().into_utoipa_app().openapi(Frame::openapi());
    let scope = utoipa_actix_web::scope("/api/v1").configure(|cfg| api(cfg));
    let app = app.configure(|cfg| hot_routes(cfg)).service(scope).configure(|cfg| open_routes(cfg));
    let (_, mut document) = app.split_for_parts();
    // Generated clients lose servers that belong to a single path, so all paths share this one.
    document.servers = Some(vec![Server::new("/")]);
    complete::complete(&mut document);
    document
}

/// Returns the result of `make` on the document. Runs on a thread that ends, so that a later thread
/// can reuse the memory that this needs for a moment.
pub fn of_document<T: Send>(make: fn(&utoipa::openapi::OpenApi) -> T) -> T {
    let outcome = thread::scope(|scope| scope.spawn(|| make(&document())).join());
    outcome.unwrap_or_else(|panic| resume_unwind(panic))
}

/// Returns the document as JSON, as it is committed and served.
pub fn document_json() -> String {
    json_of(&document())
}

pub fn document_yaml() -> String {
    yaml_of(&document())
}

/// Returns the document in OpenAPI 3.0 as JSON.
pub fn document_json_3_0() -> String {
    json_of(&version_3_0::of(&document()))
}
