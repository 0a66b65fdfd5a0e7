//! Bounds of members and parameters, by name, in all schemas: the input that the server accepts, as
//! far as a schema can express it.

use serde_json::json;
use utoipa::openapi::{
    Components, KnownFormat, Ref, RefOr, Schema, SchemaFormat, Type,
    path::Operation,
    schema::{AdditionalProperties, Object, OneOf},
};

use crate::{
    domain::{
        scope::Scope,
        text::{ExternalId, Location, Name, ReasonText},
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
const IP_ADDRESS: &str = "IpAddress";
const NETWORK: &str = "Network";
/// Networks with a prefix length, in all forms of their addresses.
const IPV4_NETWORK: &str = r"^((25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])\.){3}(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])/([12]?[0-9]|3[0-2])$";
const IPV6_NETWORK: &str = r"^([0-9A-Fa-f:.]*::[0-9A-Fa-f:.]*|([0-9A-Fa-f]{1,4}:){6,7}[0-9A-Fa-f.]+)/([1-9]?[0-9]|1[01][0-9]|12[0-8])$";
/// The form that `query::cursor` writes, until the year 2527.
const ROW_CURSOR: &str = r"^v1\.(0|[1-9a-f][0-9a-f]{0,10})\.[0-9a-f]{32}$";
/// As `query::descending_cursor` writes them, or as above.
const ORDERED_CURSOR: &str = r"^v1d?\.(0|[1-9a-f][0-9a-f]{0,10})\.[0-9a-f]{32}$";
/// The form that `events::event_cursor` writes.
const EVENT_CURSOR: &str = r"^v1\.(0|[1-9a-f][0-9a-f]{0,14})$";
/// As `events::descending_cursor` writes them, or as above.
const ORDERED_EVENT_CURSOR: &str = r"^v1d?\.(0|[1-9a-f][0-9a-f]{0,14})$";
// An identifier starts with its time, so its first digit is at most 6 for thousands of years. From 7 on, some have
// more than 128 bits.
const SUBJECT: &str = "^(keyward|(key|acct)_[0-6][0-9A-Za-z]{21})$";
const ACCOUNT: &str = "^(all|acct_[0-6][0-9A-Za-z]{21})$";
const CREATOR: &str = "^(operator|key_[0-6][0-9A-Za-z]{21})$";
const ACTOR: &str = "^(cli|scheduler|operator|key_[0-6][0-9A-Za-z]{21})$";

/// Bounds the members of a schema. A body with a member that its schema does not name is refused;
/// an answer may gain members.
pub(super) fn bound_members(schema: &mut Object, is_request: bool) {
    if is_request {
        schema.additional_properties = Some(Box::new(AdditionalProperties::FreeForm(false)));
    }
    relate_members(schema);
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
            ("location", RefOr::T(Schema::Object(it))) if is_request => {
                bound_text(it, NAME, Location::MAX_CHARS);
            }
            ("allowedIps", RefOr::T(Schema::Array(array))) if is_request => {
                array.items = Ref::from_schema_name(NETWORK).into();
            }
            ("clientIp", member) if is_request => refer_to(member, IP_ADDRESS),
            _ => (),
        }
    }
}

/// Adds the rules between members: `expiresIn` stands in place of `expiresAt`, and a token has a type.
fn relate_members(schema: &mut Object) {
    let rules = [
        (
            ["expiresAt", "expiresIn"],
            "not",
            json!({
                "properties": { "expiresAt": {}, "expiresIn": {} },
                "required": ["expiresAt", "expiresIn"],
            }),
        ),
        (
            ["subject_token", "subject_token_type"],
            "dependentRequired",
            json!({ "subject_token": ["subject_token_type"] }),
        ),
    ];
    for (members, keyword, rule) in rules {
        if members.iter().all(|it| schema.properties.contains_key(*it)) {
            // utoipa does not know these keywords, but it writes extensions as they are.
            schema.extensions.get_or_insert_default().extend([(keyword.to_owned(), rule)]);
        }
    }
}

/// Replaces the schema of a member with a named one, and keeps the description.
fn refer_to(member: &mut RefOr<Schema>, name: &str) {
    let mut reference = Ref::from_schema_name(name);
    if let RefOr::T(Schema::Object(it)) = member {
        reference.description = it.description.take().unwrap_or_default();
    }
    *member = reference.into();
}

/// Adds the schemas of scopes and addresses, to which members and parameters refer.
pub(super) fn add_components(components: &mut Components) {
    components.schemas.insert(IP_ADDRESS.to_owned(), Schema::from(ip_address()).into());
    components.schemas.insert(NETWORK.to_owned(), Schema::from(network()).into());
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
        // Swagger UI would enter an example of `ScopeName` as a filter of a list.
        schema.example = (name == ALLOWED_SCOPE).then(|| "orders:read".into());
        components.schemas.insert(name.to_owned(), schema.into());
    }
}

// Not `anyOf`: progenitor makes a type of it that cannot be written as a text.
fn ip_address() -> OneOf {
    // Without the patterns, a validator that does not check formats finds both forms in each address.
    let form = |(format, pattern): (_, &str)| {
        let mut schema = Object::with_type(Type::String);
        schema.format = Some(SchemaFormat::KnownFormat(format));
        schema.pattern = Some(pattern.to_owned());
        schema.into()
    };
    let mut either = OneOf::new();
    let forms =
        [(KnownFormat::Ipv4, "^[0-9.]+$"), (KnownFormat::Ipv6, "^[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*$")];
    either.items = forms.map(form).into();
    either.description = Some("An IPv4 or IPv6 address.".to_owned());
    either.example = Some("203.0.113.7".into());
    either
}

fn network() -> OneOf {
    let form = |pattern: &str| {
        let mut schema = Object::with_type(Type::String);
        schema.pattern = Some(pattern.to_owned());
        schema.into()
    };
    let mut either = ip_address();
    either.items.extend([IPV4_NETWORK, IPV6_NETWORK].map(form));
    either.description = Some("An IPv4 or IPv6 network, or one address.".to_owned());
    either.example = Some("203.0.113.0/24".into());
    either
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
            "cursor" => bound_text(schema, cursor, 48),
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
