//! Keys that rotate themselves, and what happens to the replaced credentials.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{Key, Request, Response, TestServer};

const DAY: Duration = Duration::from_hours(24);

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn grace(seconds: u64) -> Value {
    json!({ "gracePeriodSeconds": seconds })
}

fn rotate_self(server: &TestServer, caller: &str, body: &Value) -> Response {
    server.post(caller, "/api/v1/api-keys/self/rotate", body)
}

fn at(seconds: u64) -> String {
    TestServer::EPOCH.after(secs(seconds)).to_string()
}

fn text(response: &Response) -> String {
    response.json()["key"].as_str().expect("a key").to_owned()
}

fn count(server: &TestServer, key: &Key, event_type: &str) -> usize {
    server.story_of(&key.id).iter().filter(|it| *it == event_type).count()
}

#[test]
fn a_key_that_rotates_itself_needs_a_grace_period_of_a_minute() {
    let server = TestServer::start();
    let rotator = server.key(&["api-keys:rotate"]);
    let writer = server.key(&["api-keys:write"]);
    let wanted = [("/gracePeriodSeconds".to_owned(), "grace_required".to_owned())];
    for (caller, path) in [
        (&rotator, "/api/v1/api-keys/self/rotate".to_owned()),
        (&writer, "/api/v1/api-keys/self/rotate".to_owned()),
        (&writer, format!("{}/rotate", writer.path())),
    ] {
        for too_short in [0, 1, 59] {
            let refused = server.post(&caller.text, &path, &grace(too_short));
            assert_eq!(refused.faults(), wanted, "{path} {too_short}");
        }
        assert_eq!(server.story_of(&caller.id), ["api_key.created"]);
    }
    let fresh = text(&rotate_self(&server, &rotator.text, &grace(60)).expect(200));
    assert_eq!(server.code(&fresh), "VALID");
    server.advance(secs(60));
    assert_eq!(server.code(&rotator.text), "ROTATED");
}

#[test]
fn a_short_default_grace_period_does_not_lock_out_a_key_that_rotates_itself() {
    let server = TestServer::with(|it| it.keys.rotation_grace = secs(10));
    let key = server.key(&["api-keys:rotate"]);
    let other = server.key(&["api-keys:rotate"]);
    rotate_self(&server, &key.text, &json!({})).expect(200);
    server.rotate(&server.root.text, &other.id, &json!({}));
    server.advance(secs(10));
    assert_eq!(server.code(&other.text), "ROTATED");
    server.advance(secs(50) - Duration::from_millis(1));
    assert_eq!(server.code(&key.text), "VALID", "the grace period is at least a minute");
    server.advance(Duration::from_millis(1));
    assert_eq!(server.code(&key.text), "ROTATED");
}

#[test]
fn a_rotation_whose_answer_was_lost_can_be_repeated_without_limit() {
    let server = TestServer::start();
    let key = server.key(&["api-keys:rotate"]);
    let mut lost = text(&rotate_self(&server, &key.text, &grace(300)).expect(200));
    for _ in 0..5 {
        server.advance(secs(10));
        let again = rotate_self(&server, &key.text, &grace(300)).expect(200);
        assert_eq!(server.code(&lost), "ROTATED", "its answer was lost, so the retry replaces it");
        let previous = again.json()["previousKeys"].clone();
        assert_eq!(previous.as_array().map(Vec::len), Some(1));
        assert_eq!(previous[0]["keyPrefix"], key.body["keyPrefix"]);
        assert_eq!(previous[0]["validUntil"], at(300), "the old credential keeps its promised end");
        lost = text(&again);
    }
    assert_eq!((server.code(&key.text), server.code(&lost)), ("VALID".into(), "VALID".into()));
    server.advance(secs(250));
    assert_eq!((server.code(&key.text), server.code(&lost)), ("ROTATED".into(), "VALID".into()));
}

#[test]
fn a_key_that_rotates_itself_keeps_the_unused_credential_that_another_key_made() {
    let server = TestServer::start();
    let key = server.key(&["api-keys:rotate"]);
    server.advance(secs(1));
    let handed = server.rotate(&server.root.text, &key.id, &grace(600));
    server.advance(secs(10));
    let body = rotate_self(&server, &key.text, &grace(300)).expect(200).json();
    let shown = |at: usize| body["previousKeys"][at]["keyPrefix"].clone();
    assert_eq!([shown(0), shown(1)], [&key, &handed].map(|it| it.body["keyPrefix"].clone()));
    // A retry replaces the credential that the key made itself, because its answer may be lost.
    server.advance(secs(10));
    let again = rotate_self(&server, &key.text, &grace(300)).expect(200);
    assert_eq!(again.json()["previousKeys"].as_array().map(Vec::len), Some(2));
    assert_eq!(server.code(body["key"].as_str().unwrap()), "ROTATED");
    server.advance(secs(289));
    for value in [&key.text, &handed.text, &text(&again)] {
        assert_eq!(server.code(value), "VALID");
    }
    server.advance(secs(1));
    assert_eq!(server.code(&handed.text), "ROTATED", "300 seconds after the first rotation");
}

#[test]
fn completing_a_rotation_does_not_end_the_only_credential_in_use() {
    let server = TestServer::start();
    let key = server.key(&["api-keys:write"]);
    let other = server.key(&["api-keys:write"]);
    let complete =
        |caller: &str| server.post(caller, &format!("{}/rotate/complete", key.path()), &json!({}));
    let current = text(&rotate_self(&server, &key.text, &grace(300)).expect(200));
    let refused = complete(&key.text);
    assert_eq!((refused.status, &*refused.problem()), (409, "successor_unused"));
    assert_eq!(server.code(&key.text), "VALID");
    // This verification was a use. Now the old credential may end, even at its own request.
    assert_eq!(server.code(&current), "VALID");
    complete(&key.text).expect(200);
    assert_eq!(server.code(&key.text), "ROTATED");
    let again = text(&rotate_self(&server, &current, &grace(300)).expect(200));
    complete(&other.text).expect(200);
    assert_eq!((server.code(&current), server.code(&again)), ("ROTATED".into(), "VALID".into()));
}

#[test]
fn the_shown_end_of_a_credential_is_never_too_late() {
    let server = TestServer::start();
    let key = server.key(&["orders:read"]);
    server.rotate(&server.root.text, &key.id, &grace(600));
    let shorter = json!({ "expiresAt": at(30) });
    let shown = server.put(&server.root.text, &key.path(), &shorter).expect(200).json();
    assert_eq!(shown["previousKeys"][0]["validUntil"], at(30));
    let asked = Request::new("GET", "/authz?scope=orders:read").key(&key.text);
    let passed = server.send(&asked).expect(200);
    assert_eq!(passed.header("sunset"), Some("Thu, 01 Jan 2026 00:00:30 GMT"));
}

#[test]
fn a_leaked_old_credential_cannot_take_the_key_over() {
    let mut server = TestServer::start();
    for scopes in [["api-keys:rotate"], ["api-keys:write"]] {
        let key = server.key(&scopes);
        let current = text(&rotate_self(&server, &key.text, &grace(604_800)).expect(200));
        // A refused verification is no use, so the old credential may still retry.
        assert_eq!(server.verify(&current, &["orders:read"])["code"], "INSUFFICIENT_SCOPES");
        assert_eq!(server.code(&current), "VALID");
        server.restart(|_| ());
        for body in [json!({}), grace(60), grace(604_800)] {
            let refused = rotate_self(&server, &key.text, &body);
            assert_eq!((refused.status, &*refused.problem()), (409, "superseded"));
        }
        if scopes == ["api-keys:write"] {
            let refused = server.post(&key.text, &format!("{}/rotate", key.path()), &json!({}));
            assert_eq!((refused.status, &*refused.problem()), (409, "superseded"));
        }
        assert_eq!(server.code(&current), "VALID");
        rotate_self(&server, &current, &grace(60)).expect(200);
    }
}

/// Returns whether the use of this credential is in the file.
fn is_use_stored(server: &TestServer, text: &str) -> bool {
    let conn = rusqlite::Connection::open(server.database()).expect("the database");
    let sql = "SELECT EXISTS (SELECT 1 FROM credential_usage WHERE prefix = ?1)";
    conn.query_row(sql, [&text[..12]], |row| row.get(0)).expect("a row")
}

/// A crash loses the uses that are only in memory. The use that decides about the old credential is not
/// among them: no job runs in this test.
#[test]
fn a_crash_does_not_let_an_old_credential_end_a_used_one() {
    let mut server = TestServer::start();
    let old = server.key(&["api-keys:rotate"]).text;
    let unseen = text(&rotate_self(&server, &old, &grace(3600)).expect(200));
    server.crash();
    // The answer was lost, and no client has its credential.
    let fresh = text(&rotate_self(&server, &old, &grace(3600)).expect(200));
    assert_eq!(server.code(&unseen), "ROTATED");
    assert_eq!(server.code(&fresh), "VALID");
    let deadline = Instant::now() + secs(30);
    while !is_use_stored(&server, &fresh) {
        assert!(Instant::now() < deadline, "the use waits for the schedule");
        std::thread::sleep(Duration::from_millis(1));
    }
    server.crash();
    assert_eq!(rotate_self(&server, &old, &grace(3600)).expect(409).problem(), "superseded");
    assert_eq!(server.code(&fresh), "VALID");
}

#[test]
fn an_old_credential_whose_successor_was_used_cannot_retry_the_rotation_of_another() {
    let server = TestServer::start();
    let key = server.key(&["api-keys:rotate"]);
    server.advance(secs(1));
    let second = text(&rotate_self(&server, &key.text, &grace(604_800)).expect(200));
    server.advance(secs(1));
    let third = text(&rotate_self(&server, &second, &grace(60)).expect(200));
    // The third is not used yet, but the first one did not make it, so it has nothing to retry.
    let refused = rotate_self(&server, &key.text, &grace(60));
    assert_eq!((refused.status, &*refused.problem()), (409, "superseded"));
    // The same holds once the second has ended, and so also after a restart.
    server.advance(secs(60));
    server.run_job("end_graces");
    let refused = rotate_self(&server, &key.text, &grace(60));
    assert_eq!((refused.status, &*refused.problem()), (409, "superseded"));
    assert_eq!(server.code(&third), "VALID");
}

#[test]
fn a_current_credential_that_was_only_refused_does_not_count_as_used() {
    let server = TestServer::start();
    let key = server.key(&["api-keys:rotate"]);
    let lost = text(&rotate_self(&server, &key.text, &grace(300)).expect(200));
    assert_eq!(server.verify(&lost, &["orders:read"])["code"], "INSUFFICIENT_SCOPES");
    rotate_self(&server, &key.text, &grace(300)).expect(200);
}

#[test]
fn the_rotate_scope_is_only_for_the_key_itself() {
    let server = TestServer::start();
    let rotator = server.key(&["api-keys:rotate"]);
    let other = server.key(&["api-keys:rotate"]);
    let path = |key: &Key, end: &str| format!("{}{end}", key.path());
    let request = |method: &str, path: &str| {
        server.send(&Request::new(method, path).key(&rotator.text).json(&json!({})))
    };
    for (method, path) in [
        ("POST", path(&rotator, "/rotate")),
        ("POST", path(&other, "/rotate")),
        ("POST", path(&rotator, "/rotate/complete")),
        ("POST", "/api/v1/api-keys/self/rotate/complete".to_owned()),
        ("GET", path(&rotator, "")),
        ("PUT", path(&rotator, "")),
        ("DELETE", path(&rotator, "")),
        ("GET", "/api/v1/api-keys".to_owned()),
        ("POST", "/api/v1/api-keys".to_owned()),
    ] {
        let refused = request(method, &path);
        assert_eq!((refused.status, &*refused.problem()), (403, "missing_scope"), "{path}");
    }
    request("POST", "/api/v1/api-keys/self/rotate").expect(200);
    let reader = server.key(&["api-keys:read"]);
    let refused = rotate_self(&server, &reader.text, &json!({}));
    assert_eq!((refused.status, &*refused.problem()), (403, "missing_scope"));
}

#[test]
fn the_end_of_a_grace_period_is_recorded_once() {
    let mut server = TestServer::start();
    let key = server.key(&["orders:read"]);
    server.rotate(&server.root.text, &key.id, &grace(60));
    server.advance(secs(60) - Duration::from_millis(1));
    assert_eq!(server.run_job("end_graces"), 0);
    server.advance(Duration::from_millis(1));
    assert_eq!(server.run_job("end_graces"), 1);
    assert_eq!(server.run_job("end_graces"), 0);
    server.restart(|_| ());
    assert_eq!(server.run_job("end_graces"), 0);
    let events = server.events();
    let ended: Vec<_> = events.iter().filter(|it| it["type"] == "api_key.grace_ended").collect();
    assert_eq!(ended.len(), 1);
    assert_eq!(ended[0]["subject"], *key.id);
    assert_eq!(ended[0]["actor"]["type"], "scheduler");
    assert_eq!(ended[0]["data"]["keyPrefixes"], json!([&key.text[..12]]));
    assert_eq!(server.code(&key.text), "ROTATED");
}

#[test]
fn the_use_of_a_retired_credential_is_recorded_once_an_hour_for_each_key() {
    const TYPE: &str = "api_key.retired_key_used";
    let mut server = TestServer::start();
    let first = server.key(&["api-keys:read"]);
    let other = server.key(&["orders:read"]);
    let second = server.rotate(&server.root.text, &first.id, &grace(1));
    server.rotate(&server.root.text, &first.id, &grace(1));
    server.rotate(&server.root.text, &other.id, &grace(1));
    server.advance(secs(1));
    let recorded = |server: &TestServer, key: &Key, wanted: usize| {
        // The use is recorded after the answer.
        let deadline = Instant::now() + secs(20);
        while count(server, key, TYPE) < wanted {
            assert!(Instant::now() < deadline, "the use of a retired credential was not recorded");
            std::thread::yield_now();
        }
    };
    for _ in 0..3 {
        assert_eq!(server.code(&first.text), "ROTATED");
        assert_eq!(server.code(&second.text), "ROTATED");
        let refused = server.get(&first.text, "/api/v1/api-keys").expect(401);
        assert_eq!(refused.problem(), "key_rotated");
    }
    recorded(&server, &first, 1);
    assert_eq!(server.code(&other.text), "ROTATED");
    recorded(&server, &other, 1);

    // Memory holds nothing of it any more, and still it is not recorded again.
    server.restart(|_| ());
    server.advance(secs(600));
    assert_eq!(server.code(&second.text), "ROTATED");
    server.advance(secs(3_600));
    assert_eq!(server.code(&first.text), "ROTATED");
    recorded(&server, &first, 2);
    // Without a restart, too.
    server.advance(secs(3_601));
    assert_eq!(server.code(&first.text), "ROTATED");
    recorded(&server, &first, 3);
    server.stop();
    server.restart(|_| ());
    let events = server.events();
    let uses: Vec<_> =
        events.iter().filter(|it| it["type"] == TYPE && it["subject"] == *first.id).collect();
    assert_eq!(uses.len(), 3);
    assert_eq!(uses[0]["time"], "2026-01-01T00:00:01.000Z");
    assert_eq!(uses[1]["time"], "2026-01-01T01:10:01.000Z");
    assert_eq!(uses[2]["time"], "2026-01-01T02:10:02.000Z");
}

#[test]
fn a_retired_credential_is_purged_after_retention_and_the_key_stays() {
    let server = TestServer::start();
    let key = server.key(&["orders:read"]);
    let new = server.rotate(&server.root.text, &key.id, &grace(60));
    server.advance(secs(60));
    server.run_job("end_graces");
    server.advance(30 * DAY);
    assert_eq!(server.run_job("purge"), 0);
    assert_eq!(server.code(&key.text), "ROTATED");
    server.advance(Duration::from_millis(1));
    assert_eq!(server.run_job("purge"), 1);
    assert_eq!(server.run_job("purge"), 0);
    assert_eq!(server.code(&key.text), "NOT_FOUND");
    assert_eq!(server.code(&new.text), "VALID");
    assert_eq!(count(&server, &key, "api_key.purged"), 1);
}

#[test]
fn an_earlier_credential_takes_nothing_over_also_within_a_millisecond_and_after_the_clock_went_back()
 {
    for ahead in [0, 3_599_000] {
        let server = TestServer::start();
        server.clock.step_wall(ahead);
        let oldest = server.key(&["api-keys:rotate"]);
        server.clock.step_wall(-ahead);
        server.app.accept_clock().unwrap();
        let middle = server.rotate(&server.root.text, &oldest.id, &grace(300));
        assert_eq!(server.code(&middle.text), "VALID");
        let current = server.rotate(&server.root.text, &oldest.id, &grace(200));
        let refused = rotate_self(&server, &oldest.text, &grace(60));
        assert_eq!(refused.problem(), "superseded", "{ahead} ms ahead");
        let previous = current.body["previousKeys"].as_array().unwrap().iter();
        let previous: Vec<_> = previous.map(|it| it["keyPrefix"].as_str().unwrap()).collect();
        assert_eq!(previous, [&oldest.text[..12], &middle.text[..12]]);
    }
}
