//! The API document is complete and consistent.

use std::collections::BTreeSet;

use keyward::http::openapi::document_json_3_0;
use serde_json::{Value, json};

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
fn an_operation_with_if_match_lists_its_412() {
    let document = document();
    let mut seen = 0;
    for (path, method, operation) in operations(&document) {
        let mut parameters = operation["parameters"].as_array().into_iter().flatten();
        let conditional = parameters.any(|it| it["name"] == "If-Match");
        assert_eq!(operation["responses"]["412"].is_object(), conditional, "{method} {path}");
        seen += usize::from(conditional);
    }
    assert!(12 < seen, "{seen}");
}

#[test]
fn the_schema_of_a_body_tells_which_members_go_together() {
    let document = document();
    let schemas = &document["components"]["schemas"];
    let look = |name: &str, body: Value| faults(&document, &schemas[name], &body).len();
    for name in ["CreateKeyRequest", "UpdateKeyRequest"] {
        let with = |members: Value| {
            let mut body = json!({ "name": "n", "scopes": ["*"] });
            body.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
            look(name, body)
        };
        assert_eq!(with(json!({ "expiresAt": null })), 0, "{name}");
        assert_eq!(with(json!({ "expiresIn": 60 })), 0, "{name}");
        assert_eq!(with(json!({ "expiresAt": null, "expiresIn": 60 })), 1, "{name}");
    }
    let form = |members: Value| look("TokenExchangeRequest", members);
    assert_eq!(form(json!({ "grant_type": "g" })), 0);
    assert_eq!(form(json!({ "grant_type": "g", "subject_token": "t" })), 1);
    let typed = json!({ "grant_type": "g", "subject_token": "t", "subject_token_type": "k" });
    assert_eq!(form(typed), 0);
    let address = |it: Value| look("VerifyKeyRequest", json!({ "key": "k", "clientIp": it }));
    assert_eq!((address(json!("::1")), address(json!(1))), (0, 1));
}

#[test]
fn the_stream_of_events_has_an_example_and_no_schema() {
    let document = document();
    let stream = &document["paths"]["/api/v1/events/stream"]["get"]["responses"]["200"];
    let content = &stream["content"]["text/event-stream"];
    assert!(content["example"].is_string(), "{content}");
    // A tool would take it as that of one event.
    assert!(content["schema"].is_null(), "{content}");
}

/// Each link leads from the `id` of an answer to an operation on this object.
#[test]
fn new_objects_link_to_the_operations_on_them() {
    let document = document();
    let all = operations(&document);
    let mut linked = BTreeSet::new();
    for (path, method, operation) in &all {
        for (status, response) in operation["responses"].as_object().unwrap() {
            for (name, link) in response["links"].as_object().into_iter().flatten() {
                let link = resolved(&document, link);
                assert!(status.starts_with('2'), "{method} {path}");
                assert_eq!(link["operationId"], **name, "{method} {path}");
                assert_eq!(link["parameters"], json!({"id": "$response.body#/id"}), "{name}");
                linked.insert((operation["operationId"].to_string(), name.clone()));
            }
        }
    }
    for (source, address) in [
        ("createApiKey", "/api/v1/api-keys/{id}"),
        ("createAccountApiKey", "/api/v1/api-keys/{id}"),
        ("rotateApiKey", "/api/v1/api-keys/{id}"),
        ("createAccount", "/api/v1/accounts/{id}"),
    ] {
        let targets = all.iter().filter(|(path, _, _)| path.starts_with(address));
        for (path, method, target) in targets {
            let id = target["operationId"].as_str().unwrap().to_owned();
            assert!(linked.remove(&(format!("\"{source}\""), id)), "{source}: {method} {path}");
        }
    }
    assert!(linked.is_empty(), "{linked:?}");
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
                let item = resolved(&document, &schema["items"]);
                assert!(item["pattern"].is_string(), "{name}: {member}");
            }
        }
    }
}

/// Calls `look` with each object of this part, and the name of the member that holds it.
fn each_object(name: &str, part: &Value, look: &mut impl FnMut(&str, &Value)) {
    if part.is_object() {
        look(name, part);
    }
    for (name, it) in part.as_object().into_iter().flatten() {
        each_object(name, it, look);
    }
    for it in part.as_array().into_iter().flatten() {
        each_object(name, it, look);
    }
}

/// Generators name such a type after its place, or make several types of one.
#[test]
fn enums_and_nullable_objects_have_names() {
    let document = document();
    each_object("", &document["paths"], &mut |name, part| {
        assert!(part["enum"].is_null(), "{name}: {part}");
    });
    for (name, schema) in document["components"]["schemas"].as_object().unwrap() {
        each_object("", &schema["properties"], &mut |member, part| {
            assert!(part["enum"].is_null(), "{name}: {member}");
            let object = part["type"].as_array().is_some_and(|it| it.contains(&json!("object")));
            assert!(!object && part["anyOf"].is_null(), "{name}: {member}");
            let either = part["oneOf"].as_array().into_iter().flatten();
            let named = |it: &Value| it["$ref"].is_string() || it["type"] == "null";
            assert!(either.into_iter().all(named), "{name}: {member}");
        });
    }
}

#[test]
fn no_maximum_is_beyond_its_format_and_no_member_has_a_default() {
    each_object("", &document(), &mut |name, part| {
        let beyond = part["maximum"].as_i64().is_some_and(|it| i64::from(i32::MAX) < it);
        assert!(part["format"] != "int32" || !beyond, "{name}: {part}");
        // Generators for TypeScript would make such a member of a request required.
        assert!(part["type"].is_null() || part["default"].is_null(), "{name}: {part}");
    });
}

#[test]
fn the_document_in_version_3_0_has_the_same_content_in_its_own_words() {
    let older: Value = serde_json::from_str(&document_json_3_0()).unwrap();
    let newer = document();
    assert_eq!(older["openapi"], "3.0.3");
    let described = |it: &Value| {
        let key = &it["components"]["schemas"]["ApiKey"]["properties"];
        key.as_object().unwrap().values().map(|it| it["description"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(operations(&older).len(), operations(&newer).len());
    assert_eq!(described(&older)[..4], described(&newer)[..4]);
    let key = &older["components"]["schemas"]["CreateKeyRequest"]["properties"];
    assert_eq!(key["expiresAt"]["type"], "string");
    assert_eq!(key["expiresAt"]["nullable"], true);
    assert_eq!(key["rateLimit"]["nullable"], true);
    assert_eq!(key["rateLimit"]["allOf"], json!([{"$ref": "#/components/schemas/RateLimit"}]));
    each_object("", &older, &mut |name, part| {
        for keyword in [
            "propertyNames",
            "dependentRequired",
            "not",
            "const",
            "examples",
            "prefixItems",
            "contentEncoding",
        ] {
            assert!(part.get(keyword).is_none(), "{name}: {keyword}");
        }
        assert!(!part["type"].is_array() && part["type"] != "null", "{name}: {part}");
        assert!(part["exclusiveMinimum"].is_null() && part["exclusiveMaximum"].is_null(), "{name}");
        if part["$ref"].is_string() {
            assert_eq!(part.as_object().unwrap().len(), 1, "{name}: {part}");
            assert!(resolved(&older, part).is_object());
        }
    });
}
