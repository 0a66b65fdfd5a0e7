//! Adds the parts of the document that all operations share or that the derives cannot express.

use std::collections::{BTreeMap, BTreeSet};

use utoipa::openapi::{
    Components, Content, OpenApi, RefOr, Schema,
    path::{Operation, Parameter, ParameterIn},
    security::{ApiKey, ApiKeyValue, Http, HttpAuthScheme, SecurityRequirement, SecurityScheme},
};

use super::{
    answers, bounds, examples, links,
    operations::{operations, with_methods},
    parameters,
};

const KEY_SOURCE: &str = "An API key of this server. The first one is the root key. The \
    first start prints it on a terminal, or writes it to the file `initial-root-key` in the data \
    directory. The command `keyward root-key reset`, on the server's machine, creates a new one.";
const BEARER: &str =
    "The same API key in the header `Authorization`. Send only one of the two headers.";

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
        id: ["ApiKey", "OwnApiKey"],
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
    for (path, item) in &mut document.paths.paths {
        if let (Some(_), Some(patch)) = (&item.put, &mut item.patch) {
            tell_from_put(patch);
        }
        for (method, operation) in with_methods(item) {
            name_scopes(operation);
            refuse_null_body(operation);
            accept_bearer(operation);
            parameters::add(path, &method, operation);
            answers::add(path, operation);
            bounds::bound_parameters(operation);
        }
    }
    add_own_addresses(document);
    let requests = request_schemas(document);
    let components = document.components.get_or_insert_default();
    add_security(components);
    answers::add_components(components);
    bounds::add_components(components);
    for (name, schema) in &mut components.schemas {
        if let RefOr::T(Schema::Object(object)) = schema {
            bounds::bound_members(object, requests.contains(name));
        }
    }
    examples::add(document);
    links::add(document);
    let schemes = ["ApiKeyAuth", "BearerAuth"];
    let either = schemes.map(|it| SecurityRequirement::new(it, Vec::<String>::new()));
    document.security = Some(either.into());
}

/// Adds the scopes, of which one is enough, to the description and as an extension.
///
/// In `security`, they would mean that all of them are required. Not every tool accepts scopes
/// there for a scheme other than OAuth.
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

/// An optional body is still not `null`.
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

/// PATCH is the same operation as PUT, under another identifier.
fn tell_from_put(patch: &mut Operation) {
    patch.operation_id = patch.operation_id.take().map(|it| it.replace("update", "patch"));
    patch.summary = patch.summary.take().map(|it| format!("{it}, by PATCH"));
    patch.description = Some("Does the same as PUT.".to_owned());
}

/// The header `Authorization` wherever `X-API-Key` is accepted.
fn accept_bearer(operation: &mut Operation) {
    let Some(security) = &mut operation.security else { return };
    let key = SecurityRequirement::new("ApiKeyAuth", Vec::<String>::new());
    if security.contains(&key) {
        security.push(SecurityRequirement::new("BearerAuth", Vec::<String>::new()));
    }
}

fn add_security(components: &mut Components) {
    let key = ApiKeyValue::with_description("X-API-Key", KEY_SOURCE);
    let mut bearer = Http::new(HttpAuthScheme::Bearer);
    bearer.description = Some(BEARER.to_owned());
    components.add_security_scheme("ApiKeyAuth", SecurityScheme::ApiKey(ApiKey::Header(key)));
    components.add_security_scheme("BearerAuth", SecurityScheme::Http(bearer));
}

/// Adds the addresses of the caller's own objects. A fixed path hides the path with a placeholder
/// from a reader of the document (OpenAPI 3.1, Path Templating Matching), but the server answers at
/// both.
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
        // A form is open: OAuth demands that its unknown members are ignored.
        let content = body.content.get("application/json");
        if let Some(RefOr::T(Content { schema: Some(RefOr::Ref(it)), .. })) = content {
            names.extend(it.ref_location.rsplit('/').next().map(str::to_owned));
        }
    }
    names
}
