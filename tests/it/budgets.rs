//! Limits of one account: how often it may make changes, and how much is stored about it.

use std::time::Duration;

use keyward::service::Identity;
use rusqlite::Connection;
use serde_json::{Value, json};

use crate::support::{Key, Request, TestServer, without_triggers};

const DAY: Duration = Duration::from_hours(24);
const KEYS: &str = "/api/v1/api-keys";

fn brief() -> Value {
    json!({ "name": "test", "scopes": ["orders:read"] })
}

/// Makes one change with the key and returns the status.
fn change(server: &TestServer, key: &Key) -> u16 {
    server.put(&key.text, &key.path(), &json!({ "metadata": { "at": "x" } })).status
}

fn small() -> TestServer {
    TestServer::with(|it| {
        it.keys.max_changes_at_once = 5;
        it.keys.max_changes_per_second = 2;
    })
}

#[test]
fn an_account_may_make_a_burst_of_changes_and_then_one_in_each_interval() {
    let server = small();
    let (_, key) = server.account(&json!({ "name": "Acme" }));
    let (_, other) = server.account(&json!({ "name": "Other" }));
    let mut events = server.events().len();
    for _ in 0..5 {
        assert_eq!(change(&server, &key), 200, "a change of nothing counts as well");
    }
    events += 1;
    let refused = server.post(&key.text, KEYS, &brief()).expect(429);
    assert_eq!(refused.json()["code"], "too_many_changes");
    assert_eq!(refused.header("retry-after"), Some("1"));
    assert_eq!(server.events().len(), events, "the changes before it and none of its own");
    assert_eq!(change(&server, &other), 200, "another account has a budget of its own");
    server.get(&key.text, KEYS).expect(200);
    assert_eq!(server.code(&key.text), "VALID");

    server.advance(Duration::from_millis(499));
    assert_eq!(change(&server, &key), 429);
    server.advance(Duration::from_millis(1));
    assert_eq!(change(&server, &key), 200);
    assert_eq!(change(&server, &key), 429);
    server.advance(DAY);
    let passed = (0..7).filter(|_| change(&server, &key) == 200).count();
    assert_eq!(passed, 5, "the budget never exceeds its maximum");
}

#[test]
fn every_change_except_a_revocation_uses_the_budget() {
    let server = small();
    let (_, key) = server.account(&json!({ "name": "Acme" }));
    let stolen = server.create(&key.text, &brief());
    assert_eq!((0..5).filter(|_| change(&server, &key) == 429).count(), 1);
    let path = key.path();
    for (method, target, body) in [
        ("POST", KEYS.to_owned(), brief()),
        ("PUT", path.clone(), json!({ "name": "x" })),
        ("PATCH", path.clone(), json!({ "name": "x" })),
        ("POST", format!("{path}/rotate"), json!({})),
        ("POST", format!("{path}/rotate/complete"), json!({})),
        ("POST", format!("{KEYS}/self/rotate"), json!({})),
    ] {
        let request = Request::new(method, &target).key(&key.text).json(&body);
        assert_eq!(server.send(&request).status, 429, "{method} {target}");
    }
    // A fault in the body is reported first and uses no budget.
    server.post(&key.text, KEYS, &json!({ "name": "" })).expect(422);
    server.delete(&key.text, &stolen.path()).expect(204);
    assert_eq!(server.code(&stolen.text), "REVOKED");
}

#[test]
fn a_refused_change_uses_as_much_of_the_budget_as_another() {
    let server = small();
    let (_, key) = server.account(&json!({ "name": "Acme", "allowedScopes": ["orders:read"] }));
    let escalation = json!({ "name": "x", "scopes": ["orders:write"] });
    for _ in 0..5 {
        server.post(&key.text, KEYS, &escalation).expect(403);
    }
    server.post(&key.text, KEYS, &escalation).expect(429);
    assert_eq!(change(&server, &key), 429);
    // A request that is refused without the writer thread uses no budget.
    let unknown = format!("{KEYS}/key_0000000000000000000042");
    server.put(&key.text, &unknown, &json!({ "name": "x" })).expect(404);
}

#[test]
fn the_operator_has_no_budget() {
    let server = small();
    let (account, _) = server.account(&json!({ "name": "Acme" }));
    for _ in 0..10 {
        server.key(&["orders:read"]);
        let path = format!("/api/v1/accounts/{account}/api-keys");
        server.post(&server.root.text, &path, &brief()).expect(201);
    }
}

#[test]
fn a_key_keeps_its_twenty_newest_ended_credentials() {
    let server = TestServer::start();
    let (_, manager) = server.account(&json!({ "name": "Acme" }));
    let first = server.create(&manager.text, &brief());
    assert_eq!(server.code(&first.text), "VALID");
    let mut values = vec![first.clone()];
    for _ in 0..21 {
        server.advance(Duration::from_secs(1));
        values.push(server.rotate(&manager.text, &first.id, &json!({ "gracePeriodSeconds": 0 })));
    }
    let codes: Vec<_> = values.iter().map(|it| server.code(&it.text)).collect();
    assert_eq!(codes[..2], ["NOT_FOUND", "ROTATED"]);
    assert!(codes[1..21].iter().all(|it| it == "ROTATED"), "{codes:?}");
    assert_eq!(codes[21], "VALID");
    let story = server.story_of(&first.id);
    assert_eq!(story.iter().filter(|it| *it == "api_key.purged").count(), 1);
    let purged = server.events();
    let purged = purged.iter().find(|it| it["type"] == "api_key.purged").unwrap();
    assert_eq!(purged["data"]["keyPrefixes"], json!([&first.text[..12]]));
    assert_eq!(purged["data"]["reason"], "too_many_rotated");
    assert_eq!(purged["actor"]["keyId"], manager.id, "{purged}");

    // With a grace period, the job that ends it enforces the limit.
    server.rotate(&manager.text, &first.id, &json!({ "gracePeriodSeconds": 10 }));
    assert_eq!(server.code(&values[1].text), "ROTATED");
    server.advance(Duration::from_secs(10));
    assert_eq!(server.run_job("end_graces"), 1);
    assert_eq!(server.code(&values[1].text), "NOT_FOUND");
    assert_eq!(server.code(&values[2].text), "ROTATED");
    // The key still shows the last use of the deleted credentials.
    let shown = server.get(&manager.text, &first.path()).expect(200).json();
    assert!(shown["lastUsedAt"].is_string(), "{shown}");
}

#[test]
fn the_use_of_a_deleted_credential_stays_with_its_key() {
    let mut server = TestServer::start();
    let (_, manager) = server.account(&json!({ "name": "Acme" }));
    let key = server.create(&manager.text, &brief());
    assert_eq!(server.code(&key.text), "VALID");
    let used = || server.get(&manager.text, &key.path()).expect(200).json()["lastUsedAt"].clone();
    let before = used();
    assert!(before.is_string());
    for i in 0..25 {
        server.advance(Duration::from_secs(1));
        server.rotate(&manager.text, &key.id, &json!({ "gracePeriodSeconds": 0 }));
        if i == 22 {
            server.run_job("flush_usage"); // The first credential is gone by now.
        }
    }
    assert_eq!(server.code(&key.text), "NOT_FOUND");
    server.restart(|_| ());
    let shown = server.get(&manager.text, &key.path()).expect(200).json();
    assert_eq!(shown["lastUsedAt"], before);
    let conn = Connection::open(server.database()).unwrap();
    let sql = "SELECT count(*) FROM credential_usage WHERE key_id = ?1";
    let rows: i64 = conn.query_row(sql, [&key.id], |row| row.get(0)).unwrap();
    assert_eq!(rows, 1, "one row for all deleted credentials");
}

#[test]
fn a_file_with_more_ended_credentials_is_reduced_at_the_start() {
    let mut server = TestServer::start();
    let key = server.key(&["orders:read"]);
    let newer = server.rotate(&server.root.text, &key.id, &json!({ "gracePeriodSeconds": 0 }));
    server.stop();
    let conn = Connection::open(server.database()).unwrap();
    let insert = format!(
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000)
         INSERT INTO credentials (key_id, prefix, phc, issued_at_ms, valid_until_ms, ended_at_ms,
                                  audit_seq)
         SELECT key_id, printf('rg_%09d', i), phc, issued_at_ms - i, ended_at_ms - i,
                ended_at_ms - i, audit_seq
         FROM credentials, n WHERE key_id = '{}' AND ended_at_ms IS NOT NULL",
        key.id
    );
    without_triggers(&conn, || conn.execute_batch(&insert).unwrap());
    server.restart(|_| ());
    let left = || {
        let sql = "SELECT count(*) FROM credentials WHERE key_id = ?1";
        conn.query_row(sql, [&key.id], |row| row.get::<_, i64>(0)).unwrap()
    };
    assert_eq!(left(), 21, "the twenty newest, and the current one");
    assert_eq!([server.code(&key.text), server.code(&newer.text)], ["ROTATED", "VALID"]);
    let events = server.events();
    let purged = events.iter().filter(|it| it["type"] == "api_key.purged");
    let prefixes: usize =
        purged.map(|it| it["data"]["keyPrefixes"].as_array().unwrap().len()).sum();
    assert_eq!(prefixes, 3001 - 20, "each of them is in the log");
}

#[test]
fn an_account_may_have_ten_ended_keys_for_each_live_one() {
    let mut server = TestServer::with(|it| it.keys.retention = DAY);
    let (account, key) = server.account(&json!({ "name": "Acme", "maxKeys": 2 }));
    let expiring = json!({
        "name": "brief", "scopes": ["orders:read"], "expiresAt": "2026-01-01T00:00:10Z",
    });
    server.create(&key.text, &expiring);
    server.advance(Duration::from_secs(10));
    for _ in 0..19 {
        server.advance(Duration::from_secs(1));
        let made = server.create(&key.text, &brief());
        server.delete(&key.text, &made.path()).expect(204);
    }
    let refused = server.post(&key.text, KEYS, &brief()).expect(409);
    assert_eq!(refused.json()["code"], "too_many_ended_keys");
    let detail = refused.json()["detail"].clone();
    assert!(detail.as_str().unwrap().contains("2026-01-02T00:00:10.000Z"), "{detail}");
    assert_eq!(refused.header("retry-after"), Some("86381"), "a day after the first end");
    let path = format!("/api/v1/accounts/{account}/api-keys");
    server.post(&server.root.text, &path, &brief()).expect(409);
    for _ in 0..25 {
        let made = server.key(&["orders:read"]);
        server.delete(&server.root.text, &made.path()).expect(204);
    }
    // The purge makes room. A restart loses no part of this count.
    server.restart(|_| ());
    server.advance(Duration::from_secs(86_381) - Duration::from_millis(1));
    server.run_job("purge");
    server.post(&key.text, KEYS, &brief()).expect(409);
    server.advance(Duration::from_millis(2));
    assert_eq!(server.run_job("purge"), 1);
    server.create(&key.text, &brief());
}

/// Waits a second, then makes and revokes a key; repeats this `count` times.
fn end_keys(server: &TestServer, key: &Key, count: u32) {
    for _ in 0..count {
        server.advance(Duration::from_secs(1));
        let made = server.create(&key.text, &brief());
        server.delete(&key.text, &made.path()).expect(204);
    }
}

/// Asserts that a refused creation names this instant as the time when there is room again.
fn assert_room_at(server: &TestServer, key: &Key, instant: &str) {
    let refused = server.post(&key.text, KEYS, &brief()).expect(409).json();
    assert_eq!(refused["code"], "too_many_ended_keys");
    assert!(refused["detail"].as_str().unwrap().contains(instant), "{refused}");
}

#[test]
fn an_expired_key_that_was_revoked_later_counts_until_its_expiry_is_long_ago() {
    let server = TestServer::with(|it| it.keys.retention = DAY);
    let (_, key) = server.account(&json!({ "name": "Acme", "maxKeys": 2 }));
    let expiring = json!({
        "name": "brief", "scopes": ["orders:read"], "expiresAt": "2026-01-01T00:00:10Z",
    });
    let expiring = server.create(&key.text, &expiring);
    server.advance(Duration::from_secs(10));
    end_keys(&server, &key, 19);
    server.delete(&key.text, &expiring.path()).expect(204);
    assert_room_at(&server, &key, "2026-01-02T00:00:10.000Z");
    server.advance(DAY - Duration::from_secs(19) + Duration::from_millis(1));
    server.advance(Duration::from_mins(10)); // The purge waits until the two clocks agree.
    assert!(0 < server.run_job("purge"));
    server.create(&key.text, &brief());
}

#[test]
fn after_the_limit_is_lowered_there_is_room_once_enough_ended_keys_are_purged() {
    let server = TestServer::with(|it| it.keys.retention = DAY);
    let (account, key) = server.account(&json!({ "name": "Acme", "maxKeys": 3 }));
    end_keys(&server, &key, 25);
    let path = format!("/api/v1/accounts/{account}");
    server.put(&server.root.text, &path, &json!({ "maxKeys": 2 })).expect(200);
    // There are 25 ended keys and the limit is 20, so the sixth must be purged too.
    assert_room_at(&server, &key, "2026-01-02T00:00:06.000Z");
    server.advance(DAY - Duration::from_secs(19));
    assert_eq!(server.run_job("purge"), 5);
    assert_room_at(&server, &key, "2026-01-02T00:00:06.000Z");
    server.advance(Duration::from_millis(1));
    assert_eq!(server.run_job("purge"), 1);
    server.create(&key.text, &brief());
}

#[test]
fn memory_holds_neither_the_name_nor_the_metadata_of_a_revoked_key() {
    let mut server = TestServer::start();
    let body = json!({
        "name": "Production", "scopes": ["orders:read"], "metadata": { "team": "billing" },
    });
    let key = server.create(&server.root.text, &body);
    let shown = |server: &TestServer| {
        server.code(&key.text);
        let Identity::Known(entry) = server.app.identify(key.text.as_bytes()) else {
            panic!("the key was used")
        };
        (entry.key.name().to_owned(), entry.key.metadata().map(str::to_owned))
    };
    assert_eq!(
        shown(&server),
        ("Production".to_owned(), Some("{\"team\":\"billing\"}".to_owned()))
    );
    server.delete(&server.root.text, &key.path()).expect(204);
    assert_eq!(shown(&server), (String::new(), None));
    server.restart(|_| ());
    assert_eq!(shown(&server), (String::new(), None));
    let answer = server.verify(&key.text, &[]);
    assert_eq!(answer["code"], "REVOKED");
    assert_eq!([&answer["keyId"], &answer["name"]], [&json!(key.id), &Value::Null]);
    assert_eq!(answer["metadata"], json!({}));
    let conn = Connection::open(server.database()).unwrap();
    let sql = "SELECT name, metadata FROM api_keys WHERE id = ?1";
    let stored: (String, String) =
        conn.query_row(sql, [&key.id], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    assert_eq!(stored, ("Production".to_owned(), "{\"team\":\"billing\"}".to_owned()));
}

#[test]
fn an_event_holds_what_changed_and_a_digest_of_long_metadata() {
    let server = TestServer::start();
    let key = server.create(&server.root.text, &brief());
    let set = |metadata: &Value| {
        server.put(&server.root.text, &key.path(), &json!({ "metadata": metadata })).expect(200);
        server.events().last().unwrap()["data"].clone()
    };
    // {"x":""} is 8 bytes.
    let (longest, long) = (json!({ "x": "a".repeat(248) }), json!({ "x": "b".repeat(249) }));
    assert_eq!(
        set(&longest),
        json!({ "before": { "metadata": {} }, "after": { "metadata": longest } })
    );
    let digest = json!({
        // printf '{"x":"%s"}' "$(printf 'b%.0s' $(seq 249))" | sha256sum
        "sha256": "d003054fb8b8e3120b50cd01014206bf0889d459c09d95d40892126833b850ec",
        "length": 257,
    });
    let expected =
        json!({ "before": { "metadata": longest }, "after": { "metadataDigest": digest } });
    assert_eq!(set(&long), expected);
    let kept = json!({ "before": { "metadataDigest": digest }, "after": { "metadata": {} } });
    assert_eq!(set(&json!({})), kept);

    let body = json!({ "name": "x", "scopes": ["orders:read"], "metadata": long });
    server.create(&server.root.text, &body);
    let created = server.events().last().unwrap()["data"]["after"].clone();
    assert_eq!([&created["metadata"], &created["metadataDigest"]], [&Value::Null, &digest]);
    let (account, _) = server.account(&json!({ "name": "Acme", "metadata": long }));
    let events = server.events();
    let made = events.iter().find(|it| it["subject"] == account.as_str()).unwrap();
    assert_eq!(made["data"]["after"]["metadataDigest"], digest);
}
