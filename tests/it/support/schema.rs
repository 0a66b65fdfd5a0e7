//! The API document, and a validator for the part of JSON Schema that it uses. CI's linters check
//! patterns and formats.

use keyward::http::openapi::document_json;
use serde_json::{Map, Value, json};

pub fn document() -> Value {
    serde_json::from_str(&document_json()).expect("JSON")
}

/// Returns path, method and content of every operation.
pub fn operations(document: &Value) -> Vec<(String, String, Value)> {
    let mut found = Vec::new();
    for (path, item) in document["paths"].as_object().expect("paths") {
        for (method, operation) in item.as_object().expect("an item") {
            if operation["operationId"].is_string() {
                found.push((path.clone(), method.to_uppercase(), operation.clone()));
            }
        }
    }
    found
}

pub fn properties(schema: &Value) -> &Map<String, Value> {
    schema["properties"].as_object().expect("properties")
}

/// Returns the faults of `value`, each with its place; empty if it fits the schema.
pub fn faults(document: &Value, schema: &Value, value: &Value) -> Vec<String> {
    let mut found = Vec::new();
    look(document, schema, value, "", &mut found);
    found
}

/// Returns the target of a reference, and any other part unchanged.
pub fn resolved<'a>(document: &'a Value, part: &'a Value) -> &'a Value {
    match part["$ref"].as_str().and_then(|it| it.strip_prefix('#')) {
        Some(pointer) => document.pointer(pointer).unwrap_or_else(|| panic!("no {pointer}")),
        None => part,
    }
}

/// Returns the schema of the values other than null, or the first of several.
pub fn not_null<'a>(document: &'a Value, schema: &'a Value) -> &'a Value {
    let schema = resolved(document, schema);
    let mut either = schema["oneOf"].as_array().into_iter().flatten();
    resolved(document, either.find(|it| it["type"] != "null").unwrap_or(schema))
}

/// Returns the keywords without a place or a size that the value breaks.
fn broken_rules(document: &Value, schema: &Value, value: &Value) -> Vec<&'static str> {
    let fits = |it: &Value| faults(document, it, value).is_empty();
    let has = |it: &Value| value.get(it.as_str().expect("a name")).is_some();
    let mut broken = Vec::new();
    if schema["enum"].as_array().is_some_and(|it| !it.contains(value)) {
        broken.push("enum");
    }
    if schema["not"].is_object() && fits(&schema["not"]) {
        broken.push("not");
    }
    for (name, others) in schema["dependentRequired"].as_object().into_iter().flatten() {
        if value.get(name).is_some() && !others.as_array().expect("names").iter().all(has) {
            broken.push("dependentRequired");
        }
    }
    broken
}

fn look(document: &Value, schema: &Value, value: &Value, at: &str, found: &mut Vec<String>) {
    if value.is_null()
        && schema["oneOf"].as_array().is_some_and(|it| it.contains(&json!({"type": "null"})))
    {
        return;
    }
    let schema = not_null(document, schema);
    let mut fault = |what: &str| found.push(format!("{at}: {what}: {value}"));
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(it) if it.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let fits = match &schema["type"] {
        Value::Null => true,
        Value::Array(types) => types.contains(&json!(kind)),
        one => one == kind,
    };
    if !fits {
        return fault("type");
    }
    broken_rules(document, schema, value).into_iter().for_each(&mut fault);
    let count = |it: usize| i64::try_from(it).ok();
    let size = match value {
        Value::String(it) => (count(it.chars().count()), "minLength", "maxLength"),
        Value::Array(it) => (count(it.len()), "minItems", "maxItems"),
        Value::Object(it) => (count(it.len()), "minProperties", "maxProperties"),
        Value::Number(it) => (it.as_i64(), "minimum", "maximum"),
        Value::Null | Value::Bool(_) => (None, "", ""),
    };
    if let (Some(size), least, most) = size {
        if schema[least].as_i64().is_some_and(|it| size < it) {
            fault(least);
        }
        if schema[most].as_i64().is_some_and(|it| it < size) {
            fault(most);
        }
    }
    for name in schema["required"].as_array().into_iter().flatten() {
        if value.get(name.as_str().expect("a name")).is_none() {
            fault(&format!("lacks {name}"));
        }
    }
    for (name, member) in value.as_object().into_iter().flatten() {
        match schema["properties"].get(name) {
            Some(schema) => look(document, schema, member, &format!("{at}/{name}"), found),
            None if schema["additionalProperties"] == false => {
                found.push(format!("{at}/{name}: additionalProperties"));
            }
            None => (),
        }
    }
    for (i, item) in value.as_array().into_iter().flatten().enumerate() {
        look(document, &schema["items"], item, &format!("{at}/{i}"), found);
    }
}
