//! An example of every successful answer, made of the examples of its members.

use serde_json::{Map, Value};
use utoipa::openapi::{OpenApi, RefOr};

use super::operations::operations;

const JSON: &str = "application/json";

/// Adds an example to each JSON body of a successful answer that has none.
pub(super) fn add(document: &mut OpenApi) {
    let components = document.components.as_ref();
    let schemas = components.map(|it| serde_json::to_value(&it.schemas));
    let schemas = schemas.and_then(Result::ok).unwrap_or_default();
    for (path, item) in &mut document.paths.paths {
        for operation in operations(item) {
            for (status, response) in &mut operation.responses.responses {
                let RefOr::T(response) = response else { continue };
                let Some(RefOr::T(content)) = response.content.get_mut(JSON) else { continue };
                // Only these answers hold a full key. That of a link has it in its URL.
                let gives_key = status == "201" || path.ends_with("/rotate");
                let optional = gives_key && !path.ends_with("/console-links");
                let schema = serde_json::to_value(&content.schema).unwrap_or_default();
                let example = || Example { schemas: &schemas, optional }.of(&schema);
                content.example.get_or_insert_with(example);
            }
        }
    }
}

struct Example<'a> {
    /// The targets of references.
    schemas: &'a Value,
    /// Whether to include members that an answer may lack.
    optional: bool,
}

impl Example<'_> {
    fn of(&self, schema: &Value) -> Value {
        let referenced = schema["$ref"].as_str().and_then(|it| it.rsplit('/').next());
        if let Some(name) = referenced {
            return self.of(&self.schemas[name]);
        }
        if let Some(example) = schema.get("example").or_else(|| schema["enum"].get(0)) {
            return example.clone();
        }
        match schema["type"].as_str() {
            Some("object") => self.of_members(schema),
            Some("array") => Value::Array(vec![self.of(&schema["items"])]),
            Some("integer") => schema.get("minimum").cloned().unwrap_or_else(|| 0.into()),
            Some("boolean") => true.into(),
            _ => Value::Null,
        }
    }

    fn of_members(&self, schema: &Value) -> Value {
        let required = schema["required"].as_array().map_or(&[][..], Vec::as_slice);
        let members = schema["properties"].as_object().into_iter().flatten();
        let told = members.filter(|(name, _)| {
            self.optional || required.iter().any(|it| it.as_str() == Some(name))
        });
        Value::Object(told.map(|(name, it)| (name.clone(), self.of(it))).collect::<Map<_, _>>())
    }
}
