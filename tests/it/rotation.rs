//! Rotating a key: the new credential works at once, the old one until its grace period ends.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Key, Request, Response, TestServer};

const MS: Duration = Duration::from_millis(1);

fn grace(seconds: u64) -> Value {
    json!({ "gracePeriodSeconds": seconds })
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Returns the answer to a rotation, also if it is a refusal.
fn ask(server: &TestServer, caller: &str, key: &Key, body: &Value) -> Response {
    server.post(caller, &format!("{}/rotate", key.path()), body)
}

fn complete(server: &TestServer, caller: &str, key: &Key) -> Response {
    server.send(&Request::new("POST", &format!("{}/rotate/complete", key.path())).key(caller))
}

fn codes(server: &TestServer, keys: &[&Key]) -> Vec<String> {
    keys.iter().map(|key| server.code(&key.text)).collect()
}

#[test]
fn a_rotated_key_keeps_everything_but_its_credential() {
    let server = TestServer::start();
    let old = server.create(
        &server.root.text,
        &json!({
            "name": "shop",
            "scopes": ["orders:read", "products:read"],
            "expiresAt": "2026-06-01T00:00:00Z",
            "metadata": { "team": "billing" },
        }),
    );
    server.advance(secs(1));
    let new = server.rotate(&server.root.text, &old.id, &json!({}));
    for member in [
        "id",
        "name",
        "scopes",
        "createdAt",
        "expiresAt",
        "lastUsedAt",
        "accountId",
        "status",
        "enabled",
        "createdBy",
        "metadata",
    ] {
        assert_eq!(new.body[member], old.body[member], "{member}");
    }
    assert_ne!(new.text, old.text);
    assert_eq!(new.body["keyPrefix"], new.text[..12]);
    assert_ne!(new.body["keyPrefix"], old.body["keyPrefix"]);
    assert_eq!(new.body["rotatedAt"], "2026-01-01T00:00:01.000Z");
    let previous = json!([{
        "keyPrefix": old.text[..12],
        "validUntil": "2026-01-01T00:05:01.000Z",
        "lastUsedAt": null,
    }]);
    assert_eq!(new.body["previousKeys"], previous);
    let shown = server.get(&server.root.text, &new.path()).expect(200);
    assert!(!shown.text().contains(&new.text) && !shown.text().contains(&old.text));
    assert_eq!(shown.json()["previousKeys"], previous);
    for value in [&old, &new] {
        assert_eq!(server.verify(&value.text, &["orders:read"])["keyId"], *old.id);
        assert_eq!(server.code(&value.text), "VALID");
    }
}

#[test]
fn the_old_credential_works_until_its_grace_period_ends_and_not_a_millisecond_longer() {
    let server = TestServer::start();
    let key = server.key(&["orders:read"]);
    let path = format!("{}/rotate", key.path());
    let mut current = key.clone();
    for (body, ends_after) in [
        (None, 300),
        (Some(json!({})), 300),
        (Some(grace(1)), 1),
        (Some(grace(60)), 60),
        (Some(grace(604_800)), 604_800),
    ] {
        let request = Request::new("POST", &path).key(&server.root.text);
        let request = body.iter().fold(request, Request::json);
        let answer = server.send(&request).expect(200).json();
        let fresh = answer["key"].as_str().unwrap().to_owned();
        server.advance(secs(ends_after) - MS);
        assert_eq!(server.code(&current.text), "VALID", "{body:?}");
        server.advance(MS);
        assert_eq!(server.code(&current.text), "ROTATED", "{body:?}");
        assert_eq!(server.code(&fresh), "VALID", "{body:?}");
        current.text = fresh;
    }
}

#[test]
fn a_grace_period_never_outlives_the_key() {
    let server = TestServer::start();
    let body = json!({
        "name": "brief", "scopes": ["orders:read"], "expiresAt": "2026-01-01T00:01:40Z",
    });
    let old = server.create(&server.root.text, &body);
    let new = server.rotate(&server.root.text, &old.id, &grace(300));
    assert_eq!(new.body["previousKeys"][0]["validUntil"], new.body["expiresAt"]);
    server.advance(secs(100) - MS);
    assert_eq!(codes(&server, &[&old, &new]), ["VALID", "VALID"]);
    server.advance(MS);
    assert_eq!(codes(&server, &[&old, &new]), ["ROTATED", "EXPIRED"]);
}

#[test]
fn an_expired_key_shows_no_old_credential_though_its_grace_period_would_last_longer() {
    let server = TestServer::start();
    let root = &server.root.text;
    let old = server.key(&["orders:read"]);
    server.rotate(root, &old.id, &grace(300));
    let sooner = Request::new("PATCH", &old.path()).key(root).json(&json!({ "expiresIn": 60 }));
    let shown = server.send(&sooner).expect(200).json();
    assert_eq!(shown["previousKeys"][0]["validUntil"], shown["expiresAt"]);
    server.advance(secs(60) - MS);
    let shown = || server.get(root, &old.path()).expect(200).json();
    assert_eq!(shown()["previousKeys"].as_array().map(Vec::len), Some(1));
    server.advance(MS);
    assert_eq!(shown()["previousKeys"], json!([]));
}

#[test]
fn the_operator_sets_the_default_grace_period() {
    let server = TestServer::with(|it| it.keys.rotation_grace = secs(10));
    let old = server.key(&["orders:read"]);
    server.rotate(&server.root.text, &old.id, &json!({}));
    server.advance(secs(10) - MS);
    assert_eq!(server.code(&old.text), "VALID");
    server.advance(MS);
    assert_eq!(server.code(&old.text), "ROTATED");
}

#[test]
fn a_grace_period_is_a_whole_number_of_seconds_up_to_a_week() {
    let server = TestServer::start();
    let key = server.key(&["orders:read"]);
    for (bad, code) in [
        (json!(-1), "out_of_range"),
        (json!(604_801), "out_of_range"),
        (json!(i64::MAX), "out_of_range"),
        (json!(i64::MIN), "out_of_range"),
        (json!(1.5), "invalid_type"),
        (json!("300"), "invalid_type"),
        (json!(true), "invalid_type"),
        (json!(null), "not_nullable"),
    ] {
        let refused =
            ask(&server, &server.root.text, &key, &json!({ "gracePeriodSeconds": bad.clone() }));
        let wanted = ("/gracePeriodSeconds".to_owned(), code.to_owned());
        assert_eq!(refused.faults(), [wanted], "{bad}");
    }
    let refused = ask(&server, &server.root.text, &key, &json!({ "grace": 1 }));
    assert_eq!(refused.faults(), [("/grace".to_owned(), "unknown_field".to_owned())]);
    assert_eq!(server.story_of(&key.id), ["api_key.created"]);
    for good in [0, 604_800] {
        ask(&server, &server.root.text, &key, &grace(good)).expect(200);
    }
}

#[test]
fn each_old_credential_keeps_its_promised_end() {
    let server = TestServer::start();
    let first = server.key(&["orders:read"]);
    let second = server.rotate(&server.root.text, &first.id, &grace(300));
    server.advance(secs(10));
    let third = server.rotate(&server.root.text, &first.id, &grace(60));
    let ends: Vec<_> = third.body["previousKeys"].as_array().unwrap().iter().collect();
    assert_eq!(ends.len(), 2);
    assert!(ends.iter().any(|it| it["validUntil"] == "2026-01-01T00:05:00.000Z"));
    assert!(ends.iter().any(|it| it["validUntil"] == "2026-01-01T00:01:10.000Z"));
    server.advance(secs(60));
    assert_eq!(codes(&server, &[&first, &second, &third]), ["VALID", "ROTATED", "VALID"]);
    server.advance(secs(230));
    assert_eq!(codes(&server, &[&first, &second, &third]), ["ROTATED", "ROTATED", "VALID"]);
}

#[test]
fn three_credentials_may_be_valid_and_a_fourth_must_wait_for_the_earliest_end() {
    let server = TestServer::start();
    let key = server.key(&["orders:read"]);
    server.rotate(&server.root.text, &key.id, &grace(300));
    server.advance(secs(10));
    server.rotate(&server.root.text, &key.id, &grace(60));
    server.advance(Duration::from_millis(500));
    let before = server.events().len();
    let refused = ask(&server, &server.root.text, &key, &grace(1)).expect(409);
    assert_eq!(refused.problem(), "too_many_live_keys");
    assert_eq!(refused.header("retry-after"), Some("60"), "59.5 seconds are left");
    assert_eq!(server.events().len(), before, "a refused rotation leaves no trace");
    server.advance(Duration::from_millis(59_499));
    let refused = ask(&server, &server.root.text, &key, &grace(1)).expect(409);
    assert_eq!(refused.header("retry-after"), Some("1"));
    server.advance(MS);
    ask(&server, &server.root.text, &key, &grace(1)).expect(200);
}

#[test]
fn a_grace_period_of_zero_ends_every_older_credential_at_once_even_at_the_limit() {
    let server = TestServer::start();
    let first = server.key(&["orders:read"]);
    let second = server.rotate(&server.root.text, &first.id, &grace(300));
    let third = server.rotate(&server.root.text, &first.id, &grace(300));
    ask(&server, &server.root.text, &first, &grace(300)).expect(409);
    let last = server.rotate(&server.root.text, &first.id, &grace(0));
    let wanted = ["ROTATED", "ROTATED", "ROTATED", "VALID"];
    assert_eq!(codes(&server, &[&first, &second, &third, &last]), wanted);
    assert_eq!(last.body["previousKeys"], json!([]));
}

#[test]
fn completing_ends_the_grace_periods_at_once_and_a_second_time_changes_nothing() {
    let server = TestServer::start();
    let first = server.key(&["orders:read"]);
    let second = server.rotate(&server.root.text, &first.id, &grace(300));
    let third = server.rotate(&server.root.text, &first.id, &grace(300));
    let done = complete(&server, &server.root.text, &first).expect(200);
    assert_eq!(done.json()["previousKeys"], json!([]));
    assert_eq!(done.json()["key"], Value::Null);
    assert_eq!(codes(&server, &[&first, &second, &third]), ["ROTATED", "ROTATED", "VALID"]);
    let again = complete(&server, &server.root.text, &first).expect(200);
    assert_eq!(again.json()["updatedAt"], done.json()["updatedAt"]);
    assert_eq!(again.header("etag"), done.header("etag"));
    server.advance(secs(300));
    complete(&server, &server.root.text, &first).expect(200);
    assert_eq!(server.run_job("end_graces"), 0, "their ends were recorded before");
    let story = server.story_of(&first.id);
    assert_eq!(story.iter().filter(|it| *it == "api_key.grace_ended").count(), 1, "{story:?}");
    assert_eq!(complete(&server, &server.root.text, &server.key(&["orders:read"])).status, 200);
}

#[test]
fn the_old_credentials_are_shown_with_their_last_use_until_they_end() {
    let server = TestServer::start();
    let first = server.key(&["orders:read"]);
    server.rotate(&server.root.text, &first.id, &grace(300));
    server.advance(secs(7));
    assert_eq!(server.code(&first.text), "VALID");
    let shown = || server.get(&server.root.text, &first.path()).expect(200).json();
    assert_eq!(shown()["previousKeys"][0]["lastUsedAt"], "2026-01-01T00:00:07.000Z");
    assert_eq!(shown()["lastUsedAt"], "2026-01-01T00:00:07.000Z");
    server.advance(secs(293) - MS);
    assert_eq!(shown()["previousKeys"].as_array().map(Vec::len), Some(1));
    server.advance(MS);
    assert_eq!(shown()["previousKeys"], json!([]));
}

#[test]
fn a_rotation_is_refused_if_the_key_has_another_revision_than_expected() {
    let server = TestServer::start();
    let key = server.key(&["orders:read"]);
    let seen = server.get(&server.root.text, &key.path()).expect(200);
    let tag = seen.header("etag").unwrap().to_owned();
    assert_eq!(server.code(&key.text), "VALID");
    let with = |action: &str, tag: &str| {
        let path = format!("{}/{action}", key.path());
        let request = Request::new("POST", &path).key(&server.root.text);
        server.send(&request.header("If-Match", tag))
    };
    assert_eq!(with("rotate", "\"77\"").expect(412).problem(), "precondition_failed");
    assert_eq!(with("rotate/complete", "\"77\"").expect(412).problem(), "precondition_failed");
    let rotated = with("rotate", &tag).expect(200);
    assert_ne!(rotated.header("etag"), Some(&*tag));
    with("rotate", &tag).expect(412);
    with("rotate/complete", &tag).expect(412);
    with("rotate/complete", rotated.header("etag").unwrap()).expect(200);
    with("rotate", "*").expect(200);
}

#[test]
fn an_expired_key_is_not_rotated_and_a_disabled_one_stays_disabled() {
    let server = TestServer::start();
    let body = json!({
        "name": "brief", "scopes": ["orders:read"], "expiresAt": "2026-01-01T00:01:00Z",
    });
    let brief = server.create(&server.root.text, &body);
    let idle = server.key(&["orders:read"]);
    server.put(&server.root.text, &idle.path(), &json!({ "enabled": false })).expect(200);
    let fresh = server.rotate(&server.root.text, &idle.id, &json!({}));
    assert_eq!(codes(&server, &[&idle, &fresh]), ["DISABLED", "DISABLED"]);
    server.put(&server.root.text, &idle.path(), &json!({ "enabled": true })).expect(200);
    assert_eq!(codes(&server, &[&idle, &fresh]), ["VALID", "VALID"]);

    server.advance(secs(60));
    for body in [json!({}), grace(0)] {
        let refused = ask(&server, &server.root.text, &brief, &body).expect(409);
        assert_eq!(refused.problem(), "key_not_active");
    }
    server.delete(&server.root.text, &idle.path()).expect(204);
    ask(&server, &server.root.text, &idle, &json!({})).expect(404);
    complete(&server, &server.root.text, &idle).expect(404);
}

#[test]
fn a_caller_cannot_rotate_a_key_that_is_stronger_than_its_own() {
    let server = TestServer::start();
    let strong = server.key(&["orders:read", "products:read"]);
    let weak = server.key(&["api-keys:write", "orders:read"]);
    let even = server.key(&["orders:read"]);
    for refused in [
        ask(&server, &weak.text, &strong, &json!({})),
        ask(&server, &weak.text, &strong, &grace(0)),
        complete(&server, &weak.text, &strong),
    ] {
        assert_eq!((refused.status, &*refused.problem()), (403, "scope_escalation"));
    }
    ask(&server, &weak.text, &even, &json!({})).expect(200);
    assert_eq!(server.story_of(&strong.id), ["api_key.created"]);
}
