//! What a declarative client, such as a Terraform provider, writes is what it reads.

use serde_json::{Value, json};

use crate::support::{Request, TestServer};

/// Creates a key from `settings`, and returns these settings as an answer to GET shows them.
fn read_back(server: &TestServer, settings: &Value) -> Value {
    let root = &server.root.text;
    let create = Request::new("POST", "/api/v1/api-keys").key(root).json(settings);
    let id = server.send(&create).expect(201).json()["id"].as_str().unwrap().to_owned();
    let key = server.get(root, &format!("/api/v1/api-keys/{id}")).expect(200).json();
    let names = settings.as_object().unwrap().keys();
    Value::Object(names.map(|it| (it.clone(), key[it].clone())).collect())
}

/// The canonical form of each setting, as docs/api.md describes it.
fn canonical() -> Value {
    json!({
        "name": "Production Integration",
        "scopes": ["orders:read", "products:read"],
        "expiresAt": "2099-01-20T00:00:00.000Z",
        "enabled": false,
        "allowedIps": ["2001:db8::/32", "203.0.113.7/32", "2001:db8::1/128"],
        "rateLimit": { "limit": 100, "windowSeconds": 60 },
        "metadata": { "z": 1, "a": { "y": 1.5, "b": [3, 2] }, "n": null },
    })
}

#[test]
fn settings_in_their_canonical_form_read_back_the_same() {
    let server = TestServer::start();
    let read = read_back(&server, &canonical());
    // As text, because the order of members also matters.
    assert_eq!(read.to_string(), canonical().to_string());
    let cleared = json!({ "name": "x", "scopes": ["orders:read"], "allowedIps": null, "rateLimit": null,
        "expiresAt": null, "metadata": {} });
    assert_eq!(read_back(&server, &cleared), cleared);
}

#[test]
fn other_forms_read_back_in_the_canonical_form() {
    let server = TestServer::start();
    let mut written = canonical();
    written["name"] = json!("  Production Integration ");
    written["scopes"] = json!(["products:read", "orders:read", "orders:read"]);
    written["expiresAt"] = json!("2099-01-20T01:00:00.0009+01:00");
    written["allowedIps"] =
        json!(["2001:DB8:0::/32", "::ffff:203.0.113.7", "203.0.113.7", "2001:db8::1"]);
    assert_eq!(read_back(&server, &written).to_string(), canonical().to_string());
}

#[test]
fn writing_what_was_read_changes_nothing() {
    let server = TestServer::start();
    let root = &server.root.text;
    let create = Request::new("POST", "/api/v1/api-keys").key(root).json(&canonical());
    let created = server.send(&create).expect(201);
    let path = format!("/api/v1/api-keys/{}", created.json()["id"].as_str().unwrap());
    let again = server.send(&Request::new("PUT", &path).key(root).json(&canonical())).expect(200);
    assert_eq!(again.header("etag"), created.header("etag"));
    server.send(&Request::new("DELETE", &path).key(root)).expect(204);
    server.get(root, &path).expect(404);
    server.send(&Request::new("DELETE", &path).key(root)).expect(404);
}
