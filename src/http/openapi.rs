//! The API document: collected from the routes, completed here, never written by hand.

use std::{collections::BTreeMap, panic::resume_unwind, sync::Arc, thread};

use actix_web::{App, HttpRequest, HttpResponse, http::Method, web};
use utoipa::{
    OpenApi,
    openapi::{
        RefOr, Schema, Server,
        path::{Operation, ParameterIn, PathItem},
        security::{ApiKey, ApiKeyValue, SecurityRequirement, SecurityScheme},
    },
};
use utoipa_actix_web::AppExt;

use crate::{
    http::{api, hot_routes, open_routes, problem::Problem},
    service::Error,
};

const BASE: &str = "/api/v1";
/// Fits where a key's identifier would be, but is none.
const NOT_AN_ID: &str = "/api/v1/api-keys/verify";

const WHERE_KEYS_COME_FROM: &str = "An API key of this server. The first one is the root key. The \
    first start shows it on a terminal; without a terminal, it writes the key to the file \
    `initial-root-key` in the data directory. `keyward root-key reset`, on the server's machine, \
    makes another one.";

/// What the routes do not say themselves.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "keyward",
        description = "API keys with the fewest scopes that do the job: create, list, update, \
                       rotate without an outage, revoke at once; and the one question a gateway \
                       asks on every request.",
        contact(name = "The operator of this server"),
        license(name = "MIT", identifier = "MIT"),
    ),
    tags(
        (name = "API keys", description = "Keys of the caller's own account."),
        (name = "Verification", description = "Is this key good for that, now?"),
        (name = "Accounts", description = "Whose keys they are. For the operator."),
        (name = "Audit log", description = "Who did what: append-only and hash-chained."),
        (name = "Server", description = "How the server is, and this document."),
    ),
)]
struct Frame;

/// The whole document, in OpenAPI 3.1.
pub fn document() -> utoipa::openapi::OpenApi {
    // The frame first: handing it over later would replace what was collected.
    let app = App::new().into_utoipa_app().openapi(Frame::openapi());
    let scope = utoipa_actix_web::scope(BASE).configure(|cfg| api(cfg));
    let app = app.configure(|cfg| hot_routes(cfg)).service(scope).configure(|cfg| open_routes(cfg));
    let (_, mut document) = app.split_for_parts();
    document.servers = Some(vec![Server::new(BASE)]);
    let paths = std::mem::take(&mut document.paths.paths);
    for (path, mut item) in paths {
        for operation in operations(&mut item) {
            name_scopes(operation);
            refuse_null_body(operation);
        }
        let relative = path.strip_prefix(BASE);
        if relative.is_none() {
            item.servers = Some(vec![Server::new("/")]);
        }
        document.paths.paths.insert(relative.unwrap_or(&path).to_owned(), item);
    }
    let header = ApiKeyValue::with_description("X-API-Key", WHERE_KEYS_COME_FROM);
    let scheme = SecurityScheme::ApiKey(ApiKey::Header(header));
    let components = document.components.get_or_insert_default();
    components.add_security_scheme("ApiKeyAuth", scheme);
    document.security = Some(vec![SecurityRequirement::new("ApiKeyAuth", Vec::<String>::new())]);
    document
}

/// What a server needs of the document. It is made on a thread that ends, so that a thread which is
/// started later takes over the memory that this needs for a moment.
pub fn of_document<T: Send>(make: fn(&utoipa::openapi::OpenApi) -> T) -> T {
    let made = thread::scope(|scope| scope.spawn(|| make(&document())).join());
    made.unwrap_or_else(|panic| resume_unwind(panic))
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    [&mut item.get, &mut item.post, &mut item.put, &mut item.patch, &mut item.delete]
        .into_iter()
        .flatten()
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

pub(super) fn json_of(document: &utoipa::openapi::OpenApi) -> String {
    let mut text = document.to_pretty_json().unwrap_or_default();
    text.push('\n');
    text
}

pub(super) fn yaml_of(document: &utoipa::openapi::OpenApi) -> String {
    document.to_yaml().unwrap_or_default()
}

/// Which methods there are at which path, with the query parameters that they know: what tells a wrong
/// method from a wrong address, and an unknown parameter from one of the operation's.
#[derive(Clone, Debug)]
pub struct RouteTable(Arc<[(Vec<Segment>, Vec<Route>)]>);

type Route = (Method, Arc<[String]>);

#[derive(Clone, Debug, Eq, PartialEq)]
enum Segment {
    Fixed(String),
    Any,
}

impl RouteTable {
    pub fn of(document: &utoipa::openapi::OpenApi) -> Self {
        let mut rows: Vec<_> = document
            .paths
            .paths
            .iter()
            .map(|(path, item)| {
                let base = if item.servers.is_some() { "" } else { BASE };
                (segments(&format!("{base}{path}")), operations_at(item))
            })
            .collect();
        // Fixed words before placeholders, so that the first match is the best.
        rows.sort_by_key(|(path, _)| path.iter().filter(|it| **it == Segment::Any).count());
        Self(rows.into())
    }

    /// The routes of every row that fits: `self` is an address of its own and an identifier.
    fn routes_at(&self, path: &str) -> impl Iterator<Item = &Route> {
        let parts: Vec<String> = path.split('/').map(str::to_owned).collect();
        let fits = move |row: &[Segment]| {
            row.len() == parts.len()
                && row.iter().zip(&parts).all(|(segment, part)| match segment {
                    Segment::Fixed(word) => word == part,
                    Segment::Any => !part.is_empty(),
                })
        };
        let last = if path == NOT_AN_ID { 1 } else { usize::MAX };
        self.0.iter().filter(move |(row, _)| fits(row)).take(last).flat_map(|(_, routes)| routes)
    }

    fn methods_at(&self, path: &str) -> Option<Vec<Method>> {
        let mut all: Vec<Method> = Vec::new();
        for (method, _) in self.routes_at(path) {
            if !all.contains(method) {
                all.push(method.clone());
            }
        }
        (!all.is_empty()).then_some(all)
    }

    /// The query parameters that this operation knows; `None` if there is no such operation.
    pub fn parameters(&self, method: &Method, path: &str) -> Option<&[String]> {
        let found = self.routes_at(path).find(|(it, _)| it == method);
        found.map(|(_, parameters)| &**parameters)
    }
}

fn segments(path: &str) -> Vec<Segment> {
    let any = |it: &str| it.starts_with('{');
    path.split('/')
        .map(|it| if any(it) { Segment::Any } else { Segment::Fixed(it.to_owned()) })
        .collect()
}

fn operations_at(item: &PathItem) -> Vec<Route> {
    [
        (&item.get, Method::GET),
        (&item.get, Method::HEAD), // Answered wherever GET is.
        (&item.post, Method::POST),
        (&item.put, Method::PUT),
        (&item.patch, Method::PATCH),
        (&item.delete, Method::DELETE),
    ]
    .into_iter()
    .filter_map(|(operation, method)| Some((method, query_parameters(operation.as_ref()?))))
    .collect()
}

fn query_parameters(operation: &Operation) -> Arc<[String]> {
    let all = operation.parameters.iter().flatten();
    let named = all.filter_map(|it| match it {
        RefOr::T(it) => (it.parameter_in == ParameterIn::Query).then(|| it.name.clone()),
        RefOr::Ref(_) => None,
    });
    named.collect()
}

/// Whatever no route took: another method of something that is there, or nothing at all.
pub async fn no_such_operation(
    req: HttpRequest,
    table: web::Data<RouteTable>,
) -> Result<HttpResponse, Problem> {
    let Some(methods) = table.methods_at(req.path()) else { return Err(Error::NotFound.into()) };
    let names: Vec<_> = methods.iter().map(Method::as_str).collect();
    Err(Problem::method_not_allowed(names.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_known_by_its_best_match() {
        let table = RouteTable::of(&document());
        let names = |it: &str| Some(it.split(' ').map(str::to_owned).collect::<Vec<_>>());
        let at = |path| {
            let methods = table.methods_at(path)?;
            Some(methods.iter().map(ToString::to_string).collect::<Vec<_>>())
        };
        assert_eq!(at("/api/v1/api-keys/verify"), names("POST"));
        assert_eq!(at("/api/v1/api-keys/self"), names("GET HEAD PUT PATCH DELETE"));
        assert_eq!(at("/api/v1/api-keys/key_1"), names("GET HEAD PUT PATCH DELETE"));
        assert_eq!(at("/livez"), names("GET HEAD"));
        assert_eq!(at("/api/v1/api-keys/"), None);
        assert_eq!(at("/api/v1/nothing"), None);
    }
}
