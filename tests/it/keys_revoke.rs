//! Revoking a key: at once, for good, and remembered for the promised time.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Key, Request, Response, TestServer, forged};

const DAY: Duration = Duration::from_hours(24);
const KEYS: &str = "/api/v1/api-keys";

/// Makes every call that names a key.
fn calls(server: &TestServer, caller: &str, key: &Key) -> Vec<Response> {
    let path = key.path();
    let (rotate, complete) = (format!("{path}/rotate"), format!("{path}/rotate/complete"));
    let name = json!({ "name": "anew" });
    vec![
        server.get(caller, &path),
        server.put(caller, &path, &name),
        server.send(&Request::new("PATCH", &path).key(caller).json(&name)),
        server.delete(caller, &path),
        server.post(caller, &rotate, &json!({})),
        server.post(caller, &complete, &json!({})),
    ]
}

#[track_caller]
fn assert_denied(answer: &Response, code: &str) {
    assert_eq!((answer.status, &*answer.problem()), (401, code), "{}", answer.text());
}

#[test]
fn a_revoked_key_is_hidden_from_its_account_and_refused_everywhere() {
    let server = TestServer::start();
    let (_, owner) = server.account(&json!({ "name": "Acme" }));
    let body = json!({ "name": "shop", "scopes": ["api-keys:read", "orders:read"] });
    let key = server.create(&owner.text, &body);
    server.get(&key.text, KEYS).expect(200);
    let answer = server.delete(&owner.text, &key.path()).expect(204);
    assert!(answer.body.is_empty());
    assert_eq!(server.code(&key.text), "REVOKED");
    assert_denied(&server.get(&key.text, KEYS), "key_revoked");
    for caller in [&owner.text, &server.root.text] {
        for answer in calls(&server, caller, &key) {
            assert_eq!((answer.status, &*answer.problem()), (404, "not_found"));
        }
    }
    assert!(!server.get(&owner.text, KEYS).expect(200).text().contains(&key.id));
    assert_eq!(server.story_of(&key.id), ["api_key.created", "api_key.revoked"]);
}

#[test]
fn every_credential_that_the_key_ever_had_is_answered_revoked() {
    let server = TestServer::start();
    let root = &server.root.text;
    let first = server.key(&["orders:read"]);
    let second = server.rotate(root, &first.id, &json!({ "gracePeriodSeconds": 60 }));
    server.advance(Duration::from_mins(1));
    let third = server.rotate(root, &first.id, &json!({ "gracePeriodSeconds": 3600 }));
    assert_eq!(
        [&first, &second, &third].map(|it| server.code(&it.text)),
        ["ROTATED", "VALID", "VALID"]
    );
    server.delete(root, &first.path()).expect(204);
    for value in [&first, &second, &third] {
        let found = server.verify(&value.text, &[]);
        assert_eq!((&found["code"], &found["keyId"]), (&json!("REVOKED"), &json!(first.id)));
        assert_eq!(found["keyPrefix"], value.text[..12]);
        assert_denied(&server.get(&value.text, KEYS), "key_revoked");
    }
}

#[test]
fn only_a_caller_with_the_whole_secret_learns_that_it_was_revoked() {
    let server = TestServer::start();
    let key = server.key(&["orders:read"]);
    let guess = forged(&key.text[..12]);
    let assert_nothing_told = || {
        let found = server.verify(&guess, &[]);
        assert_eq!(found["code"], "NOT_FOUND");
        for member in ["keyId", "keyPrefix", "name", "accountId", "externalId", "expiresAt"] {
            assert_eq!(found[member], Value::Null, "{member}");
        }
        assert_denied(&server.get(&guess, KEYS), "invalid_key");
    };
    assert_nothing_told();
    assert_eq!(server.code(&key.text), "VALID");
    assert_nothing_told();
    server.delete(&server.root.text, &key.path()).expect(204);
    assert_nothing_told();
    assert_eq!(server.code(&key.text), "REVOKED");
    assert_nothing_told();
}

#[test]
fn a_key_may_revoke_itself_and_is_refused_afterwards() {
    let server = TestServer::start();
    for path in [None, Some(format!("{KEYS}/self"))] {
        let key = server.key(&["api-keys:read", "api-keys:write"]);
        server.delete(&key.text, &path.unwrap_or_else(|| key.path())).expect(204);
        assert_denied(&server.delete(&key.text, &key.path()), "key_revoked");
        assert_denied(&server.get(&key.text, KEYS), "key_revoked");
        let event = server.events().pop().unwrap();
        assert_eq!((&event["subject"], &event["actor"]["keyId"]), (&json!(key.id), &json!(key.id)));
    }
}

#[test]
fn a_weaker_caller_cannot_revoke_a_stronger_key() {
    let server = TestServer::start();
    let weak = server.key(&["api-keys:write", "orders:read"]);
    let strong = server.key(&["orders:read", "orders:write"]);
    for target in [&strong, &server.root] {
        let answer = server.delete(&weak.text, &target.path());
        assert_eq!((answer.status, &*answer.problem()), (403, "scope_escalation"));
        assert_eq!(server.code(&target.text), "VALID");
    }
    let reader = server.key(&["api-keys:read"]);
    let answer = server.delete(&reader.text, &weak.path());
    assert_eq!((answer.status, &*answer.problem()), (403, "missing_scope"));
    assert_eq!(server.story_of(&strong.id), ["api_key.created"]);
    let equal = server.key(&["orders:read"]);
    server.delete(&weak.text, &equal.path()).expect(204);
}

#[test]
fn a_revoked_caller_can_change_nothing() {
    let server = TestServer::start();
    let caller = server.key(&["api-keys:read", "api-keys:write", "orders:read"]);
    let key = server.create(&caller.text, &json!({ "name": "n", "scopes": ["orders:read"] }));
    server.delete(&server.root.text, &caller.path()).expect(204);
    let events = server.events().len();
    for answer in calls(&server, &caller.text, &key) {
        assert_denied(&answer, "key_revoked");
    }
    let body = json!({ "name": "n", "scopes": ["orders:read"] });
    assert_denied(&server.post(&caller.text, KEYS, &body), "key_revoked");
    assert_eq!(server.events().len(), events);
    assert_eq!(server.code(&key.text), "VALID", "the created objects stay");
}

#[test]
fn a_tombstone_stays_until_its_retention_is_over() {
    let mut server = TestServer::start();
    let key = server.key(&["orders:read"]);
    let old = key.text;
    let new = server.rotate(&server.root.text, &key.id, &json!({}));
    let path = new.path();
    server.delete(&server.root.text, &path).expect(204);
    server.advance(30 * DAY);
    assert_eq!(server.run_job("purge"), 0);
    server.restart(|_| ());
    assert_eq!([&old, &new.text].map(|it| server.code(it)), ["REVOKED", "REVOKED"]);
    server.advance(DAY);
    assert_eq!(server.code(&new.text), "REVOKED", "late, but never early");
    assert_eq!(server.run_job("purge"), 1);
    assert_eq!([&old, &new.text].map(|it| server.code(it)), ["NOT_FOUND", "NOT_FOUND"]);
    assert_denied(&server.get(&new.text, KEYS), "invalid_key");
    assert_eq!(server.get(&server.root.text, &path).expect(404).problem(), "not_found");
    assert_eq!(server.story_of(&new.id).pop().unwrap(), "api_key.purged");
    server.restart(|_| ());
    assert_eq!(server.code(&new.text), "NOT_FOUND");
}

#[test]
fn the_event_names_the_credentials_that_were_still_valid() {
    let server = TestServer::start();
    let root = &server.root.text;
    let first = server.key(&["orders:read"]);
    let second = server.rotate(root, &first.id, &json!({ "gracePeriodSeconds": 0 }));
    let third = server.rotate(root, &first.id, &json!({ "gracePeriodSeconds": 60 }));
    server.delete(root, &first.path()).expect(204);
    let event = server.events().pop().unwrap();
    assert_eq!(event["type"], "api_key.revoked");
    let alive = json!([second.text[..12], third.text[..12]]);
    assert_eq!(event["data"]["before"], json!({ "name": "test", "keyPrefixes": alive }));
}

#[test]
fn a_grace_period_that_a_revocation_ended_is_not_recorded_as_run_out() {
    let server = TestServer::start();
    let key = server.key(&["orders:read"]);
    server.rotate(&server.root.text, &key.id, &json!({}));
    server.delete(&server.root.text, &key.path()).expect(204);
    server.advance(DAY);
    server.run_job("end_graces");
    assert_eq!(server.story_of(&key.id), ["api_key.created", "api_key.rotated", "api_key.revoked"]);
    assert_eq!(server.code(&key.text), "REVOKED");
}

#[test]
fn any_key_may_revoke_itself_except_the_last_root_key() {
    let server = TestServer::start();
    let (_, first) = server.account(&json!({ "name": "x" }));
    let scopes = json!({ "name": "n", "scopes": ["orders:read"] });
    for caller in [server.key(&["orders:read"]), server.create(&first.text, &scopes)] {
        let stale = Request::new("DELETE", "/api/v1/api-keys/self").header("If-Match", "\"9\"");
        assert_eq!(server.send(&stale.key(&caller.text)).status, 412);
        server.delete(&caller.text, &caller.path()).expect(403);
        server.delete(&caller.text, "/api/v1/api-keys/self").expect(204);
        assert_eq!(server.code(&caller.text), "REVOKED");
        assert_eq!(server.story_of(&caller.id), ["api_key.created", "api_key.revoked"]);
    }
    let refused = server.delete(&server.root.text, "/api/v1/api-keys/self");
    assert_eq!((refused.status, &*refused.problem()), (409, "last_root_key"));
}
