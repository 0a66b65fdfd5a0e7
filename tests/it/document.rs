//! The API document is complete and consistent.

use std::collections::BTreeSet;

use crate::support::schema::{document, faults, operations, properties, resolved};

#[test]
fn every_operation_is_described_completely() {
    let document = document();
    let known: BTreeSet<_> = document["tags"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["name"].as_str().unwrap())
        .collect();
    let mut ids = BTreeSet::new();
    for (path, method, operation) in operations(&document) {
        let name = format!("{method} {path}");
        for member in ["summary", "description", "operationId"] {
            let text = operation[member].as_str().unwrap_or_default();
            assert!(!text.trim().is_empty(), "{name}: {member}");
        }
        assert!(
            ids.insert(operation["operationId"].to_string()),
            "{name}: the operation id is used twice"
        );
        let tags: Vec<_> = operation["tags"].as_array().unwrap().iter().collect();
        assert_eq!(tags.len(), 1, "{name}");
        assert!(known.contains(tags[0].as_str().unwrap()), "{name}");
        assert!(operation["security"].is_array(), "{name}: security");
        let responses = operation["responses"].as_object().unwrap();
        assert!(responses.keys().any(|it| it.starts_with('2')), "{name}: success");
        for (status, response) in responses {
            let response = resolved(&document, response);
            assert!(response["description"].is_string(), "{name}: {status}");
        }
        for parameter in operation["parameters"].as_array().into_iter().flatten() {
            let text = parameter["description"].as_str().unwrap_or_default();
            assert!(!text.is_empty(), "{name}: {}", parameter["name"]);
        }
        if let Some(body) = operation.get("requestBody") {
            let content = body["content"].as_object().unwrap().values().next().unwrap();
            assert!(content["example"].is_object(), "{name}: an example of the body");
            let schema = resolved(&document, &content["schema"]);
            for member in content["example"].as_object().unwrap().keys() {
                assert!(properties(schema).contains_key(member), "{name}: {member}");
            }
        }
    }
}

#[test]
fn every_operation_lists_its_errors_and_its_response_headers() {
    let document = document();
    for (path, method, operation) in operations(&document) {
        let header = |status: &str, name: &str| {
            let response = resolved(&document, &operation["responses"][status]);
            let header = resolved(&document, &response["headers"][name]);
            assert!(header["schema"]["type"].is_string(), "{method} {path}: {status} {name}");
            assert!(header["description"].is_string(), "{method} {path}: {status} {name}");
        };
        let responses = operation["responses"].as_object().unwrap();
        for (status, response) in responses {
            header(status, "X-Request-Id");
            if status.starts_with(['4', '5']) {
                let content = &resolved(&document, response)["content"]["application/problem+json"];
                let schema = &content["schema"]["$ref"];
                assert_eq!(schema, "#/components/schemas/Problem", "{method} {path}: {status}");
            }
        }
        for (status, name) in [
            ("4XX", "Retry-After"),
            ("4XX", "WWW-Authenticate"),
            ("4XX", "Allow"),
            ("5XX", "Retry-After"),
        ] {
            header(status, name);
        }
        let parameters = operation["parameters"].as_array();
        if parameters.into_iter().flatten().any(|it| it["name"] == "cursor") {
            header("200", "Link");
        }
    }
}

#[test]
fn every_success_has_an_example_that_fits_its_schema() {
    let document = document();
    let mut seen = 0;
    for (path, method, operation) in operations(&document) {
        let name = format!("{method} {path}");
        let request = &operation["requestBody"]["content"]["application/json"];
        if !request.is_null() {
            let found = faults(&document, &request["schema"], &request["example"]);
            assert!(found.is_empty(), "{name}: {found:?}");
        }
        let responses = operation["responses"].as_object().unwrap();
        for (_, response) in responses.iter().filter(|it| it.0.starts_with('2')) {
            let Some(content) = response["content"].get("application/json") else { continue };
            let example = content.get("example").unwrap_or_else(|| panic!("{name}: no example"));
            let found = faults(&document, &content["schema"], example);
            assert!(found.is_empty(), "{name}: {found:?}");
            let in_link = example["url"].as_str().is_some_and(|it| it.contains("/#key=rg_"));
            let holds_key = example["key"].is_string() || example["apiKey"]["key"].is_string();
            let holds_key = holds_key != in_link;
            let issues = responses.contains_key("201") || path.ends_with("/rotate");
            assert_eq!(holds_key, issues, "{name}: the full key");
            seen += 1;
        }
    }
    assert!(30 < seen, "{seen}");
}

#[test]
fn request_schemas_are_closed_and_response_schemas_are_open() {
    let document = document();
    let mut requests = BTreeSet::new();
    for (path, method, operation) in operations(&document) {
        let Some(body) = operation.get("requestBody") else { continue };
        let schema = &body["content"]["application/json"]["schema"];
        if schema.is_null() {
            continue; // A form of OAuth, whose unknown members are ignored.
        }
        let closed = &resolved(&document, schema)["additionalProperties"];
        assert_eq!(*closed, false, "{method} {path}");
        requests.insert(schema["$ref"].as_str().expect("a name").to_owned());
    }
    for (name, schema) in document["components"]["schemas"].as_object().unwrap() {
        let answer = !requests.contains(&format!("#/components/schemas/{name}"));
        assert!(!answer || schema["additionalProperties"] != false, "{name}");
        for (member, schema) in schema["properties"].as_object().into_iter().flatten() {
            if ["scopes", "allowedScopes", "missingScopes"].contains(&&**member) {
                assert!(schema["items"]["pattern"].is_string(), "{name}: {member}");
            }
        }
    }
}
