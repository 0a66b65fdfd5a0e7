//! The document in OpenAPI 3.0, for tools that cannot read 3.1.

use serde_json::{Map, Value, json};
use utoipa::openapi::OpenApi;

/// Returns the same operations and schemas in OpenAPI 3.0. A change of the document that needs another
/// construct of 3.1 also needs its translation here.
pub(super) fn of(document: &OpenApi) -> Value {
    let mut all = serde_json::to_value(document).unwrap_or_default();
    all["openapi"] = "3.0.3".into();
    if let Some(license) = all["info"]["license"].as_object_mut() {
        license.remove("identifier");
    }
    translate(&mut all);
    all
}

fn translate(part: &mut Value) {
    match part {
        Value::Array(items) => items.iter_mut().for_each(translate),
        Value::Object(members) => {
            members.remove("propertyNames");
            // Rules between members. Generators that know `not` make types of it that lack the members.
            members.remove("dependentRequired");
            members.remove("not");
            translate_nullable_type(members);
            translate_nullable_reference(members);
            translate_described_reference(members);
            let of_schemas = members.iter_mut().filter(|(name, _)| *name != "example");
            of_schemas.for_each(|(_, it)| translate(it));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => (),
    }
}

/// Translates `"type": ["string", "null"]`.
fn translate_nullable_type(members: &mut Map<String, Value>) {
    let Some(Value::Array(types)) = members.get_mut("type") else { return };
    types.retain(|it| it != "null");
    if let Some(only) = types.pop() {
        members.insert("type".to_owned(), only);
        members.insert("nullable".to_owned(), true.into());
    }
}

/// Translates `"oneOf": [{"$ref": …}, {"type": "null"}]`.
fn translate_nullable_reference(members: &mut Map<String, Value>) {
    let Some(Value::Array(either)) = members.get("oneOf") else { return };
    let (null, others): (Vec<_>, Vec<_>) =
        either.iter().cloned().partition(|it| it["type"] == "null");
    if let ([_], [Value::Object(reference)]) = (&null[..], &others[..]) {
        members.remove("oneOf");
        members.extend(reference.clone());
        members.insert("nullable".to_owned(), true.into());
    }
}

/// In 3.0, a reference stands alone: tools ignore the members beside it.
fn translate_described_reference(members: &mut Map<String, Value>) {
    if members.len() > 1
        && let Some(target) = members.remove("$ref")
    {
        members.insert("allOf".to_owned(), json!([{ "$ref": target }]));
    }
}
