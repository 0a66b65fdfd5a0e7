//! The API document: collected from the routes, completed here, never written by hand.

mod bounds;
mod complete;
mod examples;
mod operations;

use std::{collections::BTreeMap, panic::resume_unwind, thread};

use actix_web::App;
use utoipa::{
    OpenApi,
    openapi::{RefOr, Schema, Server, path::Operation, security::SecurityRequirement},
};
use utoipa_actix_web::AppExt;

use self::operations::operations;
use crate::http::{
    problem::Problem,
    routes::{api, hot_routes, open_routes},
    system::documents::{json_of, yaml_of},
};

/// What the routes do not say themselves.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "keyward",
        description = "API keys with the fewest scopes that do the job: create, list, update, \
                       rotate without an outage, revoke at once; and verification for a gateway \
                       on every request. The health check `/healthz` and the addresses for \
                       proxies under `/authz` also exist on a server but are not in this document.",
        contact(name = "The operator of this server"),
        license(name = "MIT", identifier = "MIT"),
    ),
    tags(
        (name = "API keys", description = "Keys of the caller's own account."),
        (name = "Verification", description = "Whether a key may do something now, and which scopes there are."),
        (name = "Accounts", description = "The customers to whom keys belong. For the operator."),
        (name = "Audit log", description = "All changes and refused calls, append-only and hash-chained."),
        (name = "Server", description = "Health, metrics and this document."),
    ),
    components(schemas(Problem)),
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
    for operation in document.paths.paths.values_mut().flat_map(operations) {
        name_scopes(operation);
        refuse_null_body(operation);
    }
    complete::complete(&mut document);
    document
}

/// What a server needs of the document. It is made on a thread that ends, so that a thread which is
/// started later takes over the memory that this needs for a moment.
pub fn of_document<T: Send>(make: fn(&utoipa::openapi::OpenApi) -> T) -> T {
    let outcome = thread::scope(|scope| scope.spawn(|| make(&document())).join());
    outcome.unwrap_or_else(|panic| resume_unwind(panic))
}

/// Tells the scopes, of which one is enough, in the description and in an extension.
///
/// In `security` they would read as needed all together, and not every tool takes them there for a
/// scheme other than OAuth.
fn name_scopes(operation: &mut Operation) {
    let Some(security) = &mut operation.security else { return };
    let required: Vec<BTreeMap<String, Vec<String>>> = security
        .iter()
        .filter_map(|it| serde_json::from_value(serde_json::to_value(it).ok()?).ok())
        .collect();
    let scopes: Vec<_> = required.iter().flat_map(|it| it.values().flatten()).collect();
    let optional = required.iter().any(BTreeMap::is_empty);
    if !optional && !scopes.is_empty() {
        let quoted: Vec<_> = scopes.iter().map(|it| format!("`{it}`")).collect();
        let sentence = format!("\n\nNeeds the scope {}.", quoted.join(" or "));
        operation.description.get_or_insert_default().push_str(&sentence);
        let extension = ("x-any-of-scopes".to_owned(), serde_json::json!(scopes));
        operation.extensions.get_or_insert_default().extend([extension]);
    }
    let scheme_only = |it: &BTreeMap<String, Vec<String>>| {
        let name = it.keys().next();
        name.map(|it| SecurityRequirement::new(it, Vec::<String>::new())).unwrap_or_default()
    };
    *security = match &required[..] {
        [only] if only.is_empty() => Vec::new(),
        several => several.iter().map(scheme_only).collect(),
    };
}

/// A body that may be left out is not one that may be `null`.
fn refuse_null_body(operation: &mut Operation) {
    let Some(RefOr::T(body)) = &mut operation.request_body else { return };
    for content in body.content.values_mut() {
        if let RefOr::T(content) = content
            && let Some(RefOr::T(Schema::OneOf(either))) = &content.schema
        {
            let named = either.items.iter().find(|it| matches!(it, RefOr::Ref(_)));
            content.schema = named.cloned();
        }
    }
}

/// As it is committed and served.
pub fn document_json() -> String {
    json_of(&document())
}

pub fn document_yaml() -> String {
    yaml_of(&document())
}
