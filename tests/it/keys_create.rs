//! Creating a key: shown once, with what was asked for and nothing more.

use serde_json::json;

use crate::support::TestServer;

#[test]
fn a_created_key_is_shown_whole_once_and_works_at_once() {
    let server = TestServer::start();
    let body = json!({
        "name": "Production Integration",
        "scopes": ["products:read", "orders:read", "orders:read"],
        "expiresAt": "2027-01-20T02:00:00.1239+02:00",
    });
    let answer = server.post(&server.root.text, "/api/v1/api-keys", &body).expect(201);
    let key = answer.json();
    let text = key["key"].as_str().unwrap();
    assert_eq!(
        answer.header("location"),
        Some(&*format!("/api/v1/api-keys/{}", key["id"].as_str().unwrap()))
    );
    assert_eq!(key["scopes"], json!(["orders:read", "products:read"]));
    assert_eq!(key["expiresAt"], "2027-01-20T00:00:00.123Z");
    assert_eq!(key["keyPrefix"], text[..12]);
    assert_eq!(server.code(text), "VALID");
    let shown = server.get(&server.root.text, answer.header("location").unwrap()).expect(200);
    assert!(!shown.text().contains(text));
}
