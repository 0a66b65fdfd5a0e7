//! The API document: up to date, complete, and in agreement with the server.

use std::collections::BTreeSet;

use keyward::http::openapi::document_json;
use serde_json::{Value, json};

use crate::support::{
    Request, TestServer, form, issuing,
    schema::{document, not_null, operations as all_operations, properties, resolved},
};

/// Returns the operations without the one that takes a form: `tokens.rs` has its tests.
fn operations(document: &Value) -> Vec<(String, String, Value)> {
    let mut found = all_operations(document);
    found.retain(|(path, _, _)| path != "/api/v1/token");
    found
}

#[test]
fn the_committed_document_is_the_generated_one() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/openapi/openapi.json");
    let committed = std::fs::read_to_string(path).unwrap();
    assert!(committed == document_json(), "refresh it: keyward openapi > openapi/openapi.json");
}

#[test]
fn the_served_documents_are_the_generated_one() {
    let server = TestServer::start();
    let json = server.send(&Request::new("GET", "/openapi.json")).expect(200);
    assert_eq!(json.text(), document_json());
    let yaml = server.send(&Request::new("GET", "/openapi.yaml")).expect(200);
    assert_eq!(yaml.text(), keyward::http::openapi::document_yaml());
}

#[test]
fn an_address_has_the_methods_that_the_document_lists() {
    let server = TestServer::start();
    let document = document();
    for (path, item) in document["paths"].as_object().unwrap() {
        let mut listed: BTreeSet<_> =
            item.as_object().unwrap().keys().map(|it| it.to_uppercase()).collect();
        if listed.contains("GET") {
            listed.insert("HEAD".to_owned());
        }
        let path = path.replace("{id}", "self").replace("{seq}", "1");
        let request = Request::new("BREW", &path);
        // A key would not help a caller whose every operation here needs none.
        let public = item.as_object().unwrap().values().all(|it| it["security"] == json!([]));
        let without_key = public.then(|| request.clone());
        for request in without_key.into_iter().chain([request.key(&server.root.text)]) {
            let answer = server.send(&request).expect(405);
            let allowed = answer.header("allow").expect("Allow");
            let allowed: BTreeSet<_> = allowed.split(", ").map(str::to_owned).collect();
            assert_eq!(allowed, listed, "{path}");
        }
    }
}

#[test]
fn every_example_works_unchanged() {
    let server = TestServer::start();
    let document = document();
    for (path, method, operation) in operations(&document) {
        let Some(body) = operation.get("requestBody") else { continue };
        let example = &body["content"]["application/json"]["example"];
        let (account, _) = server.account(&json!({ "name": "x" }));
        let target = server.key(&["orders:read"]);
        let id = if path.contains("/accounts/") { account } else { target.id };
        let request = Request::new(&method, &path.replace("{id}", &id)).json(example);
        let answer = server.send(&request.key(&server.root.text));
        assert!(answer.status < 300, "{method} {path}: {}", answer.text());
    }
}

/// Swagger UI fills the form with the examples of its members, or "string", and sends the key of its dialog.
#[test]
fn the_form_of_the_exchange_works_unchanged_with_the_key_in_the_header() {
    let (server, key) = issuing(|_| ());
    let document = document();
    let operation = &document["paths"]["/api/v1/token"]["post"];
    let security = operation["security"].as_array().unwrap();
    assert!(security.contains(&json!({ "ApiKeyAuth": [] })), "{security:?}");
    let content = &operation["requestBody"]["content"]["application/x-www-form-urlencoded"];
    let schema = &document["components"]["schemas"]["TokenExchangeRequest"];
    let members = schema["properties"].as_object().unwrap().iter();
    let of_members: Vec<_> =
        members.map(|(name, it)| (&**name, it["example"].as_str().unwrap_or("string"))).collect();
    let whole = content["example"].as_object().unwrap().iter();
    let whole: Vec<_> = whole.map(|(name, it)| (&**name, it.as_str().unwrap())).collect();
    for filled in [of_members, whole] {
        assert!(filled.iter().any(|(name, _)| *name == "grant_type"), "{filled:?}");
        let answer = server.send(&form(&filled).key(&key.text));
        assert_eq!(answer.status, 200, "{filled:?} {}", answer.text());
    }
}

#[test]
fn no_example_changes_the_key_in_use_unless_the_operation_is_about_it() {
    let server = TestServer::start();
    let document = document();
    let root = &server.root.text;
    let self_now = || {
        let mut key = server.get(root, "/api/v1/api-keys/self").expect(200).json();
        for of_its_use in ["lastUsedAt", "unusedScopes"] {
            key[of_its_use].take();
        }
        (key, server.get(root, "/api/v1/accounts/self").expect(200).json())
    };
    let before = self_now();
    let mut changing = 0;
    for (path, method, operation) in operations(&document) {
        if method == "GET" || path.contains("/self/") || path.ends_with("/self") {
            continue;
        }
        changing += 1;
        let parameters = operation["parameters"].as_array().into_iter().flatten();
        let path = parameters.filter(|it| it["in"] == "path").fold(path, |path, it| {
            let name = format!("{{{}}}", it["name"].as_str().unwrap());
            path.replace(&name, it["example"].as_str().expect("an example"))
        });
        let body = &operation["requestBody"]["content"]["application/json"]["example"];
        let mut request = Request::new(&method, &path).key(root);
        if !body.is_null() {
            request = request.json(body);
        }
        let answer = server.send(&request);
        assert!(answer.status < 300 || answer.status == 404, "{method} {path}: {}", answer.text());
        assert_eq!(self_now(), before, "{method} {path}");
    }
    assert!(8 < changing);
}

/// Returns values at the bounds of this schema, and whether each one is within them.
fn at_the_edges(document: &Value, schema: &Value) -> Vec<(Value, bool)> {
    let schema = not_null(document, schema);
    let letters = |n: u64| json!("x".repeat(usize::try_from(n).unwrap()));
    let mut edges = Vec::new();
    let mut add = |bound: &str, step: i64, make: &dyn Fn(u64) -> Value| {
        if let Some(it) = schema[bound].as_u64() {
            edges.push((make(it), true));
            edges.extend(it.checked_add_signed(step).map(|beyond| (make(beyond), false)));
        }
    };
    add("minimum", -1, &|n| json!(n));
    add("maximum", 1, &|n| json!(n));
    // This length is that of an IP address, and letters are none.
    if schema["maxLength"] != 45 {
        add("minLength", -1, &letters);
        add("maxLength", 1, &letters);
    }
    add("minItems", -1, &|n| json!(vec!["orders:read"; usize::try_from(n).unwrap()]));
    let members = |n: u64| Value::Object((0..n).map(|i| (i.to_string(), json!(i))).collect());
    add("maxProperties", 1, &members);
    edges.reverse();
    edges
}

#[test]
fn the_server_enforces_the_bounds_in_the_document() {
    let document = document();
    let bounds = std::cell::Cell::new(0);
    for_each_request(
        |schema| {
            let members = properties(schema).iter();
            let edges = members.flat_map(|(name, it)| {
                at_the_edges(&document, it)
                    .into_iter()
                    .map(|(value, _)| json!({ name.clone(): value }))
            });
            edges.collect()
        },
        |schema, body, faults| {
            let (name, value) = body.as_object().unwrap().iter().next().unwrap();
            let edges = at_the_edges(&document, &properties(schema)[name]);
            let (_, within) = edges.iter().find(|it| it.0 == *value).unwrap();
            let beyond = ["out_of_range", "invalid_format"];
            let fault = |(pointer, code): &(String, String)| {
                *pointer == format!("/{name}") && beyond.contains(&&**code)
            };
            assert_eq!(faults.iter().any(fault), !within, "{body}: {faults:?}");
            bounds.set(bounds.get() + 1);
        },
    );
    assert!(40 < bounds.get(), "{bounds:?}");
}

/// Returns a value that no member of this schema may have.
fn misfit(schema: &Value) -> Value {
    let is = |name: &str| match &schema["type"] {
        Value::Array(types) => types.iter().any(|it| it == name),
        other => other == name,
    };
    if is("integer") || is("number") { json!("x") } else { json!(12.5) }
}

/// Sends these bodies to every operation that takes one; `check` gets the schema and the faults.
fn for_each_request(
    body: impl Fn(&Value) -> Vec<Value>,
    check: impl Fn(&Value, &Value, &[(String, String)]),
) {
    let server = TestServer::start();
    let (account, _) = server.account(&json!({ "name": "x" }));
    let target = server.key(&["orders:read"]);
    let document = document();
    let mut seen = 0;
    for (path, method, operation) in operations(&document) {
        let Some(request) = operation.get("requestBody") else { continue };
        seen += 1;
        let schema = resolved(&document, &request["content"]["application/json"]["schema"]);
        let mut caller = server.key(&["*"]);
        let id = if path.contains("/accounts/") { &account } else { &target.id };
        for body in body(schema) {
            let request = Request::new(&method, &path.replace("{id}", id)).json(&body);
            let mut answer = server.send(&request.clone().key(&caller.text));
            if matches!(answer.status, 401 | 403) {
                // The request changed the caller itself.
                caller = server.key(&["*"]);
                answer = server.send(&request.key(&caller.text));
            }
            let looked_at = answer.status < 300 || [409, 422].contains(&answer.status);
            assert!(looked_at, "{method} {path} {body}: {}", answer.text());
            let faults = if answer.status == 422 { answer.faults() } else { vec![] };
            check(schema, &body, &faults);
        }
    }
    assert!(6 < seen);
}

#[test]
fn the_server_reads_every_request_member_in_the_document() {
    for_each_request(
        |schema| {
            let members = properties(schema).iter();
            members.map(|(name, it)| json!({ name.clone(): misfit(it) })).collect()
        },
        |_, body, faults| {
            let name = body.as_object().unwrap().keys().next().unwrap();
            let fault = faults.iter().find(|(pointer, _)| *pointer == format!("/{name}"));
            let (_, code) = fault.unwrap_or_else(|| panic!("{body}: {faults:?}"));
            assert_ne!(code, "unknown_field", "{body}");
        },
    );
}

#[test]
fn a_member_that_is_not_in_the_document_is_refused() {
    let document = document();
    let schemas = document["components"]["schemas"].as_object().unwrap();
    let every_name: BTreeSet<String> = schemas
        .values()
        .filter_map(|it| it["properties"].as_object())
        .flat_map(|it| it.keys().cloned())
        .chain(["zzz", "owner", "account_id", "Name", "name "].map(str::to_owned))
        .collect();
    for_each_request(
        |schema| {
            let others = every_name.iter().filter(|it| !properties(schema).contains_key(*it));
            others.map(|it| json!({ it.clone(): null })).collect()
        },
        |_, body, faults| {
            let name = body.as_object().unwrap().keys().next().unwrap();
            let fault = (format!("/{name}"), "unknown_field".to_owned());
            assert!(faults.contains(&fault), "{body}: {faults:?}");
        },
    );
}

#[test]
fn exactly_the_members_that_the_document_calls_required_are_required() {
    for_each_request(
        |_| vec![json!({})],
        |schema, _, faults| {
            let required = schema["required"].as_array().into_iter().flatten();
            let wanted: BTreeSet<_> =
                required.map(|it| format!("/{}", it.as_str().unwrap())).collect();
            let missing = faults.iter().filter(|(_, code)| code == "required");
            let missing: BTreeSet<_> = missing.map(|(pointer, _)| pointer.clone()).collect();
            assert_eq!(missing, wanted);
        },
    );
}

#[test]
fn null_is_accepted_exactly_where_the_document_allows_it() {
    for_each_request(
        |schema| properties(schema).keys().map(|it| json!({ it.clone(): null })).collect(),
        |schema, body, faults| {
            let name = body.as_object().unwrap().keys().next().unwrap();
            let member = &schema["properties"][name];
            let types = member["type"].as_array();
            let of_null = |it: &Value| it["type"] == "null";
            let nullable = types.is_some_and(|it| it.contains(&json!("null")))
                || member["oneOf"].as_array().is_some_and(|it| it.iter().any(of_null));
            let pointer = format!("/{name}");
            let refused = faults.iter().any(|(at, _)| *at == pointer);
            assert_eq!(refused, !nullable, "{body}: {faults:?}");
        },
    );
}

#[test]
fn answers_have_the_members_in_the_document() {
    let server = TestServer::start();
    let (account, first) = server.account(&json!({ "name": "x", "externalId": "cust_42" }));
    let fresh = server.rotate(&server.root.text, &first.id, &json!({}));
    let get = |path: &str| server.get(&server.root.text, path).expect(200).json();
    let list = get(&format!("/api/v1/accounts/{account}/api-keys"));
    let document = document();
    for (name, value) in [
        ("ApiKey", &fresh.body),
        ("ApiKey", &first.body),
        ("ApiKey", &list["data"][0]),
        ("ApiKeyList", &list),
        ("PreviousKey", &fresh.body["previousKeys"][0]),
        ("Account", &get(&format!("/api/v1/accounts/{account}"))),
        ("AccountList", &get("/api/v1/accounts")),
        ("Event", &get("/api/v1/events/1")),
        ("EventList", &get("/api/v1/events")),
        ("ScopeList", &get("/api/v1/scopes")),
        ("Scope", &get("/api/v1/scopes")["data"][0]),
        ("Verification", &server.verify(&fresh.text, &["orders:read"])),
        ("Verification", &server.verify("nonsense", &[])),
        ("Problem", &server.get("absent", "/api/v1/scopes").json()),
    ] {
        let schema = &document["components"]["schemas"][name];
        let members = value.as_object().unwrap_or_else(|| panic!("{name}: {value}"));
        for member in members.keys() {
            assert!(properties(schema).contains_key(member), "{name} does not describe {member}");
        }
        for member in schema["required"].as_array().into_iter().flatten() {
            assert!(members.contains_key(member.as_str().unwrap()), "{name} lacks {member}");
        }
    }
}
