//! Parameters that follow from the path, the method and the answer of an operation. Handlers do not
//! declare them.

use utoipa::{
    PartialSchema,
    openapi::{
        HttpMethod, RefOr, Schema,
        path::{Operation, Parameter, ParameterBuilder, ParameterIn},
    },
};

use super::answers::{creates, gives_key, returns_page};
use crate::http::request::query;

const KEY_ID: &str = "The identifier of the key, its `keyPrefix`, or `self`.";
const ACCOUNT_ID: &str = "The identifier of the account, or `self`.";
const LIMIT: &str = "The maximum number of items. Defaults to 1000.";
const CURSOR: &str = "The `nextCursor` of the previous page.";
const IF_MATCH: &str = "Make the change only if this is the current `ETag`. Otherwise, the answer \
    is 412 and nothing changes. `*` matches every `ETag`.";

const IDEMPOTENCY_KEY: &str = "A value of your choice that no other request has, such as a UUID. The \
    same request with the same value within 24 hours changes nothing more and gets the same answer, \
    with the full key and with `Idempotency-Replayed: true`. Another request with this value is 422. \
    While the first one runs, the answer is 409.";

pub(super) fn add(path: &str, method: &HttpMethod, operation: &mut Operation) {
    let names_one = path.contains("/{id}") || path.contains("/self");
    let changes_one = names_one && *method != HttpMethod::Get && !creates(operation);
    let is_page = returns_page(operation);
    let gives_key = gives_key(path, operation);
    let all = operation.parameters.get_or_insert_default();
    for parameter in &mut *all {
        if let RefOr::T(parameter) = parameter
            && parameter.name == "id"
        {
            *parameter = described_id(parameter.clone(), path, method);
        }
    }
    if is_page {
        let limit = optional("limit", ParameterIn::Query, LIMIT, limit_schema(), None);
        let cursor = optional("cursor", ParameterIn::Query, CURSOR, String::schema(), None);
        let first = usize::from(path.contains("/{id}"));
        all.splice(first..first, [limit, cursor]);
    }
    if changes_one {
        let (place, schema) = (ParameterIn::Header, String::schema());
        all.push(optional("If-Match", place, IF_MATCH, schema, Some("*")));
    }
    if gives_key {
        let (place, schema) = (ParameterIn::Header, idempotency_key_schema());
        all.push(optional("Idempotency-Key", place, IDEMPOTENCY_KEY, schema, None));
    }
    if all.is_empty() {
        operation.parameters = None;
    }
}

fn optional(
    name: &str,
    place: ParameterIn,
    description: &str,
    schema: RefOr<Schema>,
    example: Option<&str>,
) -> RefOr<Parameter> {
    let parameter = ParameterBuilder::new()
        .name(name)
        .parameter_in(place)
        .description(Some(description))
        .schema(Some(schema))
        .example(example.map(Into::into));
    RefOr::T(parameter.build())
}

/// Without quotes, or as a String of Structured Fields (RFC 8941).
fn idempotency_key_schema() -> RefOr<Schema> {
    let mut schema = String::schema();
    if let RefOr::T(Schema::Object(it)) = &mut schema {
        it.min_length = Some(1);
        it.max_length = Some(255);
        it.pattern = Some("^[!#-~][!-~]*$".to_owned());
    }
    schema
}

fn limit_schema() -> RefOr<Schema> {
    let mut schema = u32::schema();
    if let RefOr::T(Schema::Object(it)) = &mut schema {
        it.minimum = Some(1.into());
        it.maximum = Some(query::MAX_LIMIT.into());
    }
    schema
}

/// Returns the parameter `id` with a description, and with an example that changes nothing: an
/// operation on it reads the caller's own key or account, or finds none.
fn described_id(parameter: Parameter, path: &str, method: &HttpMethod) -> Parameter {
    let is_account = path.contains("/accounts/");
    let is_harmless = *method == HttpMethod::Get || path.ends_with("/api-keys");
    let example = match (is_harmless, is_account) {
        (true, _) => "self",
        (false, true) => "acct_01KYq8Zt3mV5xW7aBcDeFg",
        (false, false) => "key_01KYq8Zt3mV5xW7aBcDeFg",
    };
    ParameterBuilder::from(parameter)
        .description(Some(if is_account { ACCOUNT_ID } else { KEY_ID }))
        .example(Some(example.into()))
        .build()
}
