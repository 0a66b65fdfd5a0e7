//! Bounds of members and parameters, by name, in all schemas: the input that the server accepts, as
//! far as a schema can express it.

use utoipa::openapi::{
    Components, Ref, RefOr, Schema, Type,
    path::Operation,
    schema::{AdditionalProperties, Object},
};

use crate::{
    domain::{
        scope::Scope,
        text::{ExternalId, Name, ReasonText},
    },
    http::request::query,
};

const SCOPE_NAME: &str = "ScopeName";
const ALLOWED_SCOPE: &str = "AllowedScopeName";
const SCOPE_OR_ALL: &str = r"^(\*|[a-z0-9-]+:[a-z0-9-]+)$";
/// A scope that an account may allow. `*` is only for the operator.
const SCOPE: &str = "^[a-z0-9-]+:[a-z0-9-]+$";
const VISIBLE_ASCII: &str = "^[!-~]+$";
/// At least one visible character, and no control characters.
const NAME: &str = r"^[^\x00-\x1F\x7F-\x9F]*[^\s\x00-\x1F\x7F-\x9F][^\x00-\x1F\x7F-\x9F]*$";
const IP_ADDRESS: &str = r"^([0-9]{1,3}(\.[0-9]{1,3}){3}|[0-9A-Fa-f.]*:[0-9A-Fa-f:.]*)$";
/// The form that `query::cursor` and `events::event_cursor` write.
const ROW_CURSOR: &str = r"^v1\.(0|[1-9a-f][0-9a-f]{0,14})\.[0-9a-f]{32}$";
/// As `query::descending_cursor` writes them, or as above.
const ORDERED_CURSOR: &str = r"^v1d?\.(0|[1-9a-f][0-9a-f]{0,14})\.[0-9a-f]{32}$";
const EVENT_CURSOR: &str = r"^v1\.(0|[1-9a-f][0-9a-f]{0,14})$";
/// As `events::descending_cursor` writes them, or as above.
const ORDERED_EVENT_CURSOR: &str = r"^v1d?\.(0|[1-9a-f][0-9a-f]{0,14})$";
const SUBJECT: &str = "^(keyward|(key|acct)_[0-9A-Za-z]{22})$";
const ACCOUNT: &str = "^(all|acct_[0-9A-Za-z]{22})$";
const CREATOR: &str = "^(operator|key_[0-9A-Za-z]{22})$";
const ACTOR: &str = "^(cli|scheduler|operator|key_[0-9A-Za-z]{22})$";

/// Bounds the members of a schema. A body with a member that its schema does not name is refused;
/// an answer may gain members.
pub(super) fn bound_members(schema: &mut Object, is_request: bool) {
    if is_request {
        schema.additional_properties = Some(Box::new(AdditionalProperties::FreeForm(false)));
    }
    for (name, member) in &mut schema.properties {
        match (name.as_str(), member) {
            ("allowedScopes", RefOr::T(Schema::Array(array))) => {
                array.items = Ref::from_schema_name(ALLOWED_SCOPE).into();
            }
            (
                "scopes" | "anyScopes" | "missingScopes" | "unusedScopes",
                RefOr::T(Schema::Array(array)),
            ) => array.items = Ref::from_schema_name(SCOPE_NAME).into(),
            ("externalId", RefOr::T(Schema::Object(it))) => {
                bound_text(it, VISIBLE_ASCII, ExternalId::MAX_LEN);
            }
            ("name", RefOr::T(Schema::Object(it))) if is_request => {
                bound_text(it, NAME, Name::MAX_CHARS);
            }
            ("clientIp", RefOr::T(Schema::Object(it))) if is_request => {
                bound_text(it, IP_ADDRESS, 45);
            }
            _ => (),
        }
    }
}

/// Adds the schemas of scopes, to which members and parameters refer.
pub(super) fn add_components(components: &mut Components) {
    for (name, pattern, description) in [
        (
            SCOPE_NAME,
            SCOPE_OR_ALL,
            "The name of a scope, such as `orders:read`, or `*` for every scope.",
        ),
        (ALLOWED_SCOPE, SCOPE, "The name of a scope that an account can allow: any but `*`."),
    ] {
        let mut schema = Object::with_type(Type::String);
        schema.description = Some(description.to_owned());
        bound_text(&mut schema, pattern, Scope::MAX_LEN);
        components.schemas.insert(name.to_owned(), schema.into());
    }
}

/// Bounds the parameters of an operation.
pub(super) fn bound_parameters(operation: &mut Operation) {
    let of_events = operation.tags.iter().flatten().any(|it| it == "Audit log");
    let mut parameters = operation.parameters.iter().flatten();
    let ordered = parameters.any(|it| matches!(it, RefOr::T(it) if it.name == "order"));
    let cursor = match (of_events, ordered) {
        (true, false) => EVENT_CURSOR,
        (true, true) => ORDERED_EVENT_CURSOR,
        (false, true) => ORDERED_CURSOR,
        (false, false) => ROW_CURSOR,
    };
    for parameter in operation.parameters.iter_mut().flatten() {
        let RefOr::T(parameter) = parameter else { continue };
        let Some(RefOr::T(Schema::Object(schema))) = &mut parameter.schema else { continue };
        match parameter.name.as_str() {
            "cursor" => bound_text(schema, cursor, 52),
            "account" => bound_text(schema, ACCOUNT, 27),
            "createdBy" => bound_text(schema, CREATOR, 26),
            "reason" => bound_text(schema, NAME, ReasonText::MAX_CHARS),
            "scope" => parameter.schema = Some(Ref::from_schema_name(SCOPE_NAME).into()),
            "externalId" => bound_text(schema, VISIBLE_ASCII, ExternalId::MAX_LEN),
            "subject" => bound_text(schema, SUBJECT, 27),
            "actor" => bound_text(schema, ACTOR, 26),
            "q" => {
                schema.min_length = Some(1);
                schema.max_length = Some(query::MAX_SEARCH_CHARS);
            }
            _ => (),
        }
    }
}

fn bound_text(schema: &mut Object, pattern: &str, longest: usize) {
    schema.pattern = Some(pattern.to_owned());
    schema.min_length = Some(1);
    schema.max_length = Some(longest);
}
