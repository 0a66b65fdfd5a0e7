//! What all operations have in common, and what the derives cannot express. Each is said once, here.

use std::collections::BTreeSet;

use utoipa::openapi::{
    Components, Content, Header, OpenApi, Ref, RefOr, Response, Schema, Type,
    path::{Operation, Parameter, ParameterIn},
    schema::{Object, SchemaType},
    security::{ApiKey, ApiKeyValue, Http, HttpAuthScheme, SecurityRequirement, SecurityScheme},
};

use super::{bounds, examples, operations::operations};

const KEY_SOURCE: &str = "An API key of this server. The first one is the root key. The \
    first start shows it on a terminal; without a terminal, it writes the key to the file \
    `initial-root-key` in the data directory. `keyward root-key reset`, on the server's machine, \
    makes another one.";
const BEARER: &str =
    "The same API key in the header `Authorization`. Send one of the two headers, not both.";

/// Every header that an answer can have besides those that its operation names.
const HEADERS: [(&str, Type, &str); 5] = [
    (
        "X-Request-Id",
        Type::String,
        "The identifier of the request, as in the log and in `requestId`.",
    ),
    (
        "Retry-After",
        Type::Integer,
        "How many seconds to wait before the next attempt. With the statuses 429 and 503, and with \
         each 409 that waiting ends.",
    ),
    ("WWW-Authenticate", Type::String, "The header that carries the key. With the status 401."),
    ("Allow", Type::String, "The methods of this address. With the status 405."),
    (
        "Link",
        Type::String,
        "The address of the next page (`rel=\"next\"`). Absent on the last page.",
    ),
];
const REQUEST_ID: &str = "X-Request-Id";
const RETRY_AFTER: &str = "Retry-After";

/// An address of the caller's own.
struct OwnAddress {
    path: &'static str,
    /// The address with an identifier that also answers there.
    template: &'static str,
    /// A part of the template's operation identifiers, and its replacement.
    id: [&'static str; 2],
    /// A part of the template's summaries, and its replacement.
    summary: [&'static str; 2],
}

const OWN_ADDRESSES: [OwnAddress; 2] = [
    OwnAddress {
        path: "/api/v1/api-keys/self",
        template: "/api/v1/api-keys/{id}",
        id: ["ApiKey", "Self"],
        summary: ["an API key", "the presented key"],
    },
    OwnAddress {
        path: "/api/v1/accounts/self",
        template: "/api/v1/accounts/{id}",
        id: ["Account", "OwnAccount"],
        summary: ["an account", "the account of the presented key"],
    },
];

/// Completes the document that was collected from the routes.
pub(super) fn complete(document: &mut OpenApi) {
    for item in document.paths.paths.values_mut() {
        for operation in operations(item) {
            accept_bearer(operation);
            add_responses(operation);
            bounds::bound_parameters(operation);
        }
    }
    add_own_addresses(document);
    let requests = request_schemas(document);
    let components = document.components.get_or_insert_default();
    add_security(components);
    add_headers(components);
    components.responses.extend([
        response(
            "Refused",
            "The request is refused. `code` says why.",
            &[REQUEST_ID, RETRY_AFTER, "WWW-Authenticate", "Allow"],
        ),
        response(
            "Failed",
            "The server cannot answer now: 503 while its storage or one of its limits does not \
             allow it, 500 for a fault of its own.",
            &[REQUEST_ID, RETRY_AFTER],
        ),
    ]);
    for (name, schema) in &mut components.schemas {
        if let RefOr::T(Schema::Object(object)) = schema {
            bounds::bound_members(object, requests.contains(name));
        }
    }
    examples::add(document);
    let schemes = ["ApiKeyAuth", "BearerAuth"];
    let either = schemes.map(|it| SecurityRequirement::new(it, Vec::<String>::new()));
    document.security = Some(either.into());
}

/// The header `Authorization` wherever `X-API-Key` is accepted.
fn accept_bearer(operation: &mut Operation) {
    let Some(security) = &mut operation.security else { return };
    let key = SecurityRequirement::new("ApiKeyAuth", Vec::<String>::new());
    if security.contains(&key) {
        security.push(SecurityRequirement::new("BearerAuth", Vec::<String>::new()));
    }
}

fn add_responses(operation: &mut Operation) {
    let paged = has_parameter(operation, "cursor");
    let responses = &mut operation.responses.responses;
    for (status, response) in &mut *responses {
        let RefOr::T(response) = response else { continue };
        let mut add = |name: &str| response.headers.insert(name.to_owned(), header(name));
        add(REQUEST_ID);
        if status == "503" {
            add(RETRY_AFTER);
        }
        if paged && status == "200" {
            add("Link");
        }
    }
    for (status, name) in [("4XX", "Refused"), ("5XX", "Failed")] {
        responses.insert(status.to_owned(), Ref::from_response_name(name).into());
    }
}

fn has_parameter(operation: &Operation, name: &str) -> bool {
    let named = |it: &RefOr<Parameter>| matches!(it, RefOr::T(it) if it.name == name);
    operation.parameters.iter().flatten().any(named)
}

fn header(name: &str) -> RefOr<Header> {
    RefOr::Ref(Ref::new(format!("#/components/headers/{name}")))
}

fn add_headers(components: &mut Components) {
    for (name, kind, description) in HEADERS {
        let mut header = Header::new(Object::with_type(SchemaType::new(kind)));
        header.description = Some(description.to_owned());
        components.headers.insert(name.to_owned(), header.into());
    }
}

fn response(name: &str, description: &str, headers: &[&str]) -> (String, RefOr<Response>) {
    let content = Content::new(Some(Ref::from_schema_name("Problem")));
    let mut response = Response::new(description);
    response.content.insert("application/problem+json".to_owned(), content.into());
    response.headers = headers.iter().map(|it| ((*it).to_owned(), header(it))).collect();
    (name.to_owned(), response.into())
}

fn add_security(components: &mut Components) {
    let key = ApiKeyValue::with_description("X-API-Key", KEY_SOURCE);
    let mut bearer = Http::new(HttpAuthScheme::Bearer);
    bearer.description = Some(BEARER.to_owned());
    components.add_security_scheme("ApiKeyAuth", SecurityScheme::ApiKey(ApiKey::Header(key)));
    components.add_security_scheme("BearerAuth", SecurityScheme::Http(bearer));
}

/// A fixed path hides the path with a placeholder from a reader of the document (OpenAPI 3.1, Path
/// Templating Matching), while the server answers by either.
fn add_own_addresses(document: &mut OpenApi) {
    let paths = &mut document.paths.paths;
    for own in &OWN_ADDRESSES {
        let Some(template) = paths.get(own.template).cloned() else { continue };
        let Some(item) = paths.get_mut(own.path) else { continue };
        let missing = [
            (&mut item.put, template.put),
            (&mut item.patch, template.patch),
            (&mut item.delete, template.delete),
        ];
        for (operation, template) in missing {
            if operation.is_none() {
                *operation = template.map(|it| own_operation(it, own));
            }
        }
    }
}

fn own_operation(mut operation: Operation, own: &OwnAddress) -> Operation {
    let replaced = |text: String, [part, other]: [&str; 2]| text.replace(part, other);
    let in_path =
        |it: &RefOr<Parameter>| matches!(it, RefOr::T(it) if it.parameter_in == ParameterIn::Path);
    if let Some(parameters) = &mut operation.parameters {
        parameters.retain(|it| !in_path(it));
    }
    operation.operation_id = operation.operation_id.map(|it| replaced(it, own.id));
    operation.summary = operation.summary.map(|it| replaced(it, own.summary));
    operation
}

/// The names of the schemas that describe bodies of requests.
fn request_schemas(document: &mut OpenApi) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for operation in document.paths.paths.values_mut().flat_map(operations) {
        let Some(RefOr::T(body)) = &operation.request_body else { continue };
        for content in body.content.values() {
            if let RefOr::T(Content { schema: Some(RefOr::Ref(it)), .. }) = content {
                names.extend(it.ref_location.rsplit('/').next().map(str::to_owned));
            }
        }
    }
    names
}
