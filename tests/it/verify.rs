//! Verification: each verdict, in the order of the reasons, correct at the moment of the answer.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Request, TestServer, forged};

const DAY: Duration = Duration::from_hours(24);
const VERIFY: &str = "/api/v1/api-keys/verify";

fn last_use(server: &TestServer, id: &str) -> Value {
    let key = server.get(&server.root.text, &format!("/api/v1/api-keys/{id}")).expect(200);
    key.json()["lastUsedAt"].clone()
}

fn now(server: &TestServer) -> Value {
    json!(server.app.env().time.now().to_string())
}

#[test]
fn the_first_reason_that_applies_is_given() {
    let server = TestServer::start();
    let root = &server.root.text;
    let (account, owner) = server.account(&json!({ "name": "Acme" }));
    let body = json!({
        "name": "shop", "scopes": ["products:read"], "expiresAt": "2026-01-02T00:00:00Z",
    });
    let old = server.create(&owner.text, &body);
    let new = server.rotate(&owner.text, &old.id, &json!({ "gracePeriodSeconds": 604_800 }));
    let stand = |suspended: bool| {
        let code = |text: &str, scopes: &[&str]| {
            let found = server.verify(text, scopes);
            assert_eq!(found["missingScopes"], json!(scopes), "with every code");
            found["code"].as_str().unwrap().to_owned()
        };
        assert_eq!(server.code(&owner.text), if suspended { "ACCOUNT_SUSPENDED" } else { "VALID" });
        code(&new.text, &["orders:read"])
    };
    // Each weaker reason stays while the stronger ones are added.
    assert_eq!(stand(false), "INSUFFICIENT_SCOPES");
    server.advance(DAY);
    assert_eq!(stand(false), "EXPIRED");
    assert_eq!(server.code(&old.text), "ROTATED", "no grace outlives the key");
    server.put(root, &new.path(), &json!({ "enabled": false })).expect(200);
    assert_eq!(stand(false), "DISABLED");
    let path = format!("/api/v1/accounts/{account}");
    server.put(root, &path, &json!({ "status": "suspended" })).expect(200);
    assert_eq!(stand(true), "ACCOUNT_SUSPENDED");
    assert_eq!(server.code(&old.text), "ROTATED", "still, beside every other fault");
    server.delete(root, &new.path()).expect(204);
    assert_eq!([&old, &new].map(|it| server.code(&it.text)), ["REVOKED", "REVOKED"]);
}

#[test]
fn a_weaker_reason_is_given_when_the_stronger_one_is_gone() {
    let server = TestServer::start();
    let root = &server.root.text;
    let (account, owner) = server.account(&json!({ "name": "Acme" }));
    let path = format!("/api/v1/accounts/{account}");
    let key = server.create(&owner.text, &json!({ "name": "k", "scopes": ["orders:read"] }));
    server.put(root, &key.path(), &json!({ "enabled": false })).expect(200);
    server.put(root, &path, &json!({ "status": "suspended" })).expect(200);
    assert_eq!(server.code(&key.text), "ACCOUNT_SUSPENDED");
    server.put(root, &path, &json!({ "status": "active" })).expect(200);
    assert_eq!(server.code(&key.text), "DISABLED");
    server.put(root, &key.path(), &json!({ "enabled": true })).expect(200);
    let code = |scopes: &[&str]| server.verify(&key.text, scopes)["code"].clone();
    assert_eq!(code(&["orders:write"]), "INSUFFICIENT_SCOPES");
    assert_eq!(code(&["orders:read"]), "VALID");
}

#[test]
fn a_caller_without_the_whole_secret_learns_nothing() {
    let server = TestServer::start();
    let key = server.key(&["orders:read"]);
    let mut typo = key.text.clone();
    typo.replace_range(20..21, if &typo[20..21] == "a" { "b" } else { "a" });
    for (text, code) in [
        ("", "MALFORMED"),
        ("rg_", "MALFORMED"),
        (&key.text[..12], "MALFORMED"),
        (&key.text[..49], "MALFORMED"),
        (&*format!("{}0", key.text), "MALFORMED"),
        (&*format!(" {}", key.text), "MALFORMED"),
        (&*key.text.to_uppercase(), "MALFORMED"),
        (&typo, "MALFORMED"),
        ("Bearer eyJhbGciOiJub25lIn0.e30.", "MALFORMED"),
        ("ключ", "MALFORMED"),
        (&*"x".repeat(1024), "MALFORMED"),
        (&*forged("rg_"), "NOT_FOUND"),
        (&*forged(&key.text[..12]), "NOT_FOUND"),
        (&*forged(&key.text[..43]), "NOT_FOUND"),
    ] {
        let found = server.verify(text, &["orders:read"]);
        assert_eq!(found["code"], code, "{text}");
        for member in ["keyId", "keyPrefix", "name", "accountId", "externalId", "expiresAt"] {
            assert_eq!(found[member], Value::Null, "{text}: {member}");
        }
        assert_eq!((&found["scopes"], &found["metadata"]), (&json!([]), &json!({})), "{text}");
        assert_eq!(found["accountMetadata"], json!({}), "{text}");
    }
    assert_eq!(last_use(&server, &key.id), Value::Null);
}

#[test]
fn a_valid_answer_holds_the_owner_and_the_stored_data_of_the_key() {
    let server = TestServer::start();
    let account = json!({ "name": "Acme", "externalId": "cust_42", "metadata": { "plan": "x" } });
    let (account, owner) = server.account(&account);
    let body = json!({
        "name": "Production Integration", "scopes": ["orders:write", "orders:read"],
        "expiresAt": "2027-01-20T02:00:00+02:00", "metadata": { "b": [1, 2.5, null], "a": "ü" },
    });
    let key = server.create(&owner.text, &body);
    let question = json!({ "key": key.text, "scopes": ["orders:read"], "clientIp": "::1" });
    let answer = server.post(&server.root.text, VERIFY, &question).expect(200);
    let expected = json!({
        "valid": true, "code": "VALID", "keyId": key.id, "keyPrefix": key.text[..12],
        "name": "Production Integration", "accountId": account, "externalId": "cust_42",
        "scopes": ["orders:read", "orders:write"], "missingScopes": [],
        "expiresAt": "2027-01-20T00:00:00.000Z", "rateLimit": null,
        "metadata": { "b": [1, 2.5, null], "a": "ü" },
        "accountMetadata": { "plan": "x" },
    });
    assert_eq!(answer.text(), format!("{expected}\n"), "these members, in this order");
    assert_eq!(server.code(&forged("rg_")), "NOT_FOUND");
}

#[test]
fn the_missing_scopes_are_named_in_the_order_of_the_catalogue() {
    let server = TestServer::start();
    let key = server.key(&["products:read", "orders:read"]);
    let wanted = ["webhooks:read", "orders:read", "orders:write", "webhooks:read"];
    let found = server.verify(&key.text, &wanted);
    assert_eq!(found["code"], "INSUFFICIENT_SCOPES");
    assert_eq!(found["missingScopes"], json!(["orders:write", "webhooks:read"]));
    assert_eq!(found["scopes"], json!(["orders:read", "products:read"]));
    assert_eq!(found["keyId"], key.id);
    let star = server.verify(&key.text, &["*"]);
    assert_eq!(star["missingScopes"], json!(["*"]));
    let all = server.verify(&server.root.text, &["*", "orders:read", "metrics:read"]);
    assert_eq!(all["code"], "VALID");
}

#[test]
fn an_unknown_scope_is_a_fault_of_the_request_for_every_key() {
    let server = TestServer::start();
    for text in [&*server.root.text, &forged("rg_"), "nonsense"] {
        let question = json!({ "key": text, "scopes": ["orders:read", "order:read", "*:*"] });
        let answer = server.post(&server.root.text, VERIFY, &question);
        let unknown = |i: usize| (format!("/scopes/{i}"), "unknown_scope".to_owned());
        assert_eq!(answer.faults(), [unknown(1), unknown(2)]);
        assert!(answer.text().contains("orders:read"), "the nearest name: {}", answer.text());
    }
}

#[test]
fn the_request_must_be_an_object() {
    let server = TestServer::start();
    for question in [json!([server.root.text]), json!([server.root.text, ["orders:read"]])] {
        let answer = server.post(&server.root.text, VERIFY, &question);
        let fault = |pointer: &str, code: &str| (pointer.to_owned(), code.to_owned());
        assert_eq!(answer.faults(), [fault("", "invalid_type"), fault("/key", "required")]);
    }
}

#[test]
fn only_a_valid_answer_updates_the_last_use() {
    let server = TestServer::start();
    let root = &server.root.text;
    let body = json!({
        "name": "k", "scopes": ["orders:read"], "expiresAt": "2026-01-02T00:00:00Z",
    });
    let key = server.create(root, &body);
    assert_eq!(server.verify(&key.text, &["orders:write"])["code"], "INSUFFICIENT_SCOPES");
    assert_eq!(server.code(&forged(&key.text[..12])), "NOT_FOUND");
    assert_eq!(last_use(&server, &key.id), Value::Null);
    server.advance(Duration::from_millis(7));
    assert_eq!(server.code(&key.text), "VALID");
    let used = now(&server);
    assert_eq!(used, "2026-01-01T00:00:00.007Z");
    assert_eq!(last_use(&server, &key.id), used, "at once");
    server.advance(Duration::from_secs(1));
    server.put(root, &key.path(), &json!({ "enabled": false })).expect(200);
    assert_eq!(server.code(&key.text), "DISABLED");
    server.put(root, &key.path(), &json!({ "enabled": true })).expect(200);
    server.advance(DAY);
    assert_eq!(server.code(&key.text), "EXPIRED");
    assert_eq!(last_use(&server, &key.id), used);
}

#[test]
fn the_last_use_survives_a_flush_and_a_restart() {
    let mut server = TestServer::start();
    let [flushed, stopped] = [(); 2].map(|()| server.key(&["orders:read"]));
    server.advance(DAY);
    server.code(&flushed.text);
    server.run_job("flush_usage");
    server.advance(DAY);
    server.code(&stopped.text);
    let uses = [&flushed, &stopped].map(|it| last_use(&server, &it.id));
    assert_eq!(uses, ["2026-01-02T00:00:00.000Z", "2026-01-03T00:00:00.000Z"]);
    server.restart(|_| ());
    assert_eq!([&flushed, &stopped].map(|it| last_use(&server, &it.id)), uses);
    server.advance(DAY);
    server.code(&flushed.text);
    assert_eq!(last_use(&server, &flushed.id), "2026-01-04T00:00:00.000Z");
}

#[test]
fn the_last_use_outlives_the_credential_that_was_used() {
    let server = TestServer::start();
    let key = server.key(&["orders:read"]);
    server.advance(DAY);
    server.code(&key.text);
    let used = now(&server);
    server.rotate(&server.root.text, &key.id, &json!({ "gracePeriodSeconds": 0 }));
    server.run_job("flush_usage");
    assert_eq!(last_use(&server, &key.id), used);
    server.advance(31 * DAY);
    assert_eq!(server.run_job("purge"), 1, "the old credential");
    assert_eq!(server.code(&key.text), "NOT_FOUND");
    assert_eq!(last_use(&server, &key.id), used, "the last use is not lost");
}

#[test]
fn a_key_expires_exactly_at_its_millisecond() {
    let server = TestServer::start();
    let at = TestServer::EPOCH.after(Duration::from_secs(1)).to_string();
    let body = json!({ "name": "k", "scopes": ["api-keys:read"], "expiresAt": at });
    let key = server.create(&server.root.text, &body);
    server.advance(Duration::from_millis(999));
    assert_eq!(server.code(&key.text), "VALID");
    server.get(&key.text, "/api/v1/api-keys").expect(200);
    server.advance(Duration::from_millis(1));
    assert_eq!(server.code(&key.text), "EXPIRED");
    assert_eq!(server.get(&key.text, "/api/v1/api-keys").expect(401).problem(), "key_expired");
    assert_eq!(server.run_job("expire_keys"), 1);
    assert_eq!(server.code(&key.text), "EXPIRED");
}

#[test]
fn the_client_address_must_be_an_ip_address() {
    let server = TestServer::start();
    let ask = |address: Value| {
        let question = json!({ "key": server.root.text, "clientIp": address });
        server.post(&server.root.text, VERIFY, &question)
    };
    for good in ["203.0.113.7", "::1", "2001:db8::8a2e:370:7334", "::ffff:203.0.113.7"] {
        assert_eq!(ask(json!(good)).expect(200).json()["code"], "VALID", "{good}");
    }
    for bad in ["", "localhost", "203.0.113.256", "203.0.113.7:80", "[::1]", "10.0.0.0/8", "1.2.3"]
    {
        let faults = ask(json!(bad)).faults();
        assert_eq!(faults, [("/clientIp".to_owned(), "invalid_format".to_owned())], "{bad}");
    }
    for (bad, code) in [(json!(5), "invalid_type"), (json!(null), "not_nullable")] {
        assert_eq!(ask(bad).faults(), [("/clientIp".to_owned(), code.to_owned())]);
    }
}

#[test]
fn a_change_has_effect_on_the_very_next_request() {
    let server = TestServer::start();
    let root = &server.root.text;
    let (account, owner) = server.account(&json!({ "name": "Acme", "externalId": "a" }));
    let key = server.create(&owner.text, &json!({ "name": "k", "scopes": ["orders:read"] }));
    let path = format!("/api/v1/accounts/{account}");
    for (target, member, value) in [
        (&key.path(), "name", json!("renamed")),
        (&key.path(), "scopes", json!(["products:read"])),
        (&key.path(), "expiresAt", json!("2027-01-01T00:00:00.000Z")),
        (&key.path(), "expiresAt", json!(null)),
        (&key.path(), "metadata", json!({ "a": 1 })),
        (&key.path(), "metadata", json!({})),
        (&path, "externalId", json!("b")),
        (&path, "externalId", json!(null)),
        (&path, "metadata", json!({ "plan": "y" })),
        (&path, "metadata", json!({})),
    ] {
        let of_account = *target == path && member == "metadata";
        let told = if of_account { "accountMetadata" } else { member };
        assert_ne!(server.verify(&key.text, &[])[told], value, "{told}");
        server.put(root, target, &json!({ member: value })).expect(200);
        assert_eq!(server.verify(&key.text, &[])[told], value, "{told}");
    }
}

#[test]
fn verify_is_called_with_post_and_is_not_a_key_id() {
    let server = TestServer::start();
    for method in ["GET", "HEAD", "PUT", "PATCH", "DELETE"] {
        let answer = server.send(&Request::new(method, VERIFY).key(&server.root.text));
        assert_eq!((answer.status, answer.header("allow")), (405, Some("POST")), "{method}");
    }
}

#[test]
fn only_a_key_with_the_verify_scope_may_ask() {
    let server = TestServer::start();
    let (_, owner) = server.account(&json!({ "name": "Acme" }));
    let question = json!({ "key": owner.text });
    let gateway = server.key(&["api-keys:verify"]);
    assert_eq!(server.post(&gateway.text, VERIFY, &question).expect(200).json()["valid"], true);
    server.get(&gateway.text, "/api/v1/api-keys").expect(403);
    let clerk = server.key(&["api-keys:read", "api-keys:write", "accounts:read", "accounts:write"]);
    for other in [&owner, &clerk] {
        let answer = server.post(&other.text, VERIFY, &question);
        assert_eq!((answer.status, &*answer.problem()), (403, "missing_scope"));
    }
}

#[test]
fn nothing_is_written_when_a_key_is_verified() {
    let server = TestServer::start();
    let key = server.key(&["orders:read"]);
    let events = server.events().len();
    for text in [&*key.text, &forged("rg_"), "nonsense"] {
        server.code(text);
    }
    assert_eq!(server.events().len(), events);
}
