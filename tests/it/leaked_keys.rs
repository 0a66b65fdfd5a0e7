//! Reports of leaked keys: a full key is proof enough, and the answer says nothing about the keys.

use std::{collections::BTreeSet, net::Ipv4Addr, time::Duration};

use rusqlite::Connection;
use serde_json::{Value, json};

use crate::support::{
    Binary, Key, Request, Response, TestServer, authz, forged,
    import::{OLD, code, import, place, rows, sha256},
};

const LEAKED: &str = "/api/v1/leaked-keys";

fn report(keys: &[&str]) -> Request {
    Request::new("POST", LEAKED).json(&json!({ "keys": keys }))
}

#[track_caller]
fn reported(server: &TestServer, keys: &[&str]) {
    let answer = server.send(&report(keys)).expect(200);
    assert_eq!(answer.json(), json!({ "received": keys.len() }));
}

/// The last event about this key.
fn last_event(server: &TestServer, id: &str) -> Value {
    server.events().into_iter().rfind(|it| it["subject"] == id).expect("an event")
}

#[test]
fn a_reported_key_is_refused_at_once_and_its_event_says_why_and_where() {
    let server = authz::guarded();
    let key = server.create(
        &server.root.text,
        &json!({ "name": "shop", "scopes": ["orders:read", "api-keys:read"] }),
    );
    let other = server.key(&["orders:read"]);
    assert_eq!(authz::decided(&server, "GET", "/orders/7", Some(&key)).0, 200);
    let body =
        json!({ "keys": [key.text], "location": format!("https://x.example/?k={}", key.text) });
    let request = Request::new("POST", LEAKED)
        .header("X-Forwarded-For", "203.0.113.9")
        .header("X-Request-Id", "report-1")
        .json(&body);
    server.send(&request).expect(200);
    assert_eq!(server.code(&key.text), "REVOKED");
    assert_eq!(authz::decided(&server, "GET", "/orders/7", Some(&key)).0, 401);
    assert_eq!(server.get(&key.text, "/api/v1/api-keys").expect(401).problem(), "key_revoked");
    assert_eq!(server.code(&other.text), "VALID");
    let event = last_event(&server, &key.id);
    assert_eq!(event["type"], "api_key.revoked");
    let prefix = &key.text[..12];
    let data = json!({
        "reason": "leaked",
        "location": format!("https://x.example/?k={prefix}…"),
        "before": { "name": "shop", "keyPrefixes": [prefix] },
    });
    assert_eq!(event["data"], data);
    let source = [&event["actor"]["keyId"], &event["requestId"], &event["clientIp"]];
    assert_eq!(source, [&json!(key.id), &json!("report-1"), &json!("203.0.113.9")], "{event}");
    let count = server.events().len();
    reported(&server, &[&key.text]);
    assert_eq!(server.events().len(), count, "once");
    let metrics = server.send(&Request::new("GET", "/metrics")).text();
    assert!(metrics.contains("keyward_leaked_keys_total{outcome=\"revoked\"} 1\n"), "{metrics}");
}

#[test]
fn the_first_use_of_a_key_since_the_start_may_be_a_report() {
    let mut server = TestServer::start();
    let key = server.key(&["orders:read"]);
    let guess = forged(&key.text[..12]);
    server.restart(|_| ());
    reported(&server, &[&guess]);
    assert_eq!(server.code(&key.text), "VALID", "the prefix alone is no proof");
    server.restart(|_| ());
    reported(&server, &[&key.text]);
    assert_eq!(server.code(&key.text), "REVOKED");
}

#[test]
fn the_answer_is_the_same_for_every_text() {
    let server = TestServer::start();
    let [valid, revoked, disabled] = [(); 3].map(|()| server.key(&["orders:read"]));
    server.delete(&server.root.text, &revoked.path()).expect(204);
    server.put(&server.root.text, &disabled.path(), &json!({ "enabled": false })).expect(200);
    let texts = [
        &valid.text,
        &revoked.text,
        &disabled.text,
        &server.root.text,
        &forged(&valid.text[..12]),
        &forged("rg_never0000"),
        &forged("zz_other0000"),
        "malformed",
        "",
        "\u{e4}\n",
    ];
    let answers: BTreeSet<_> = texts
        .iter()
        .map(|text| {
            let Response { status, mut headers, body } = server.send(&report(&[text]));
            headers.retain(|(name, _)| !["x-request-id", "date"].contains(&&*name.to_lowercase()));
            (status, headers, body)
        })
        .collect();
    assert_eq!(answers.len(), 1, "{answers:?}");
    assert_eq!(server.code(&valid.text), "REVOKED");
    assert_eq!(server.code(&disabled.text), "REVOKED");
}

#[test]
fn a_credential_in_its_grace_period_ends_alone_and_an_ended_one_does_nothing() {
    let server = TestServer::start();
    let root = &server.root.text;
    let first = server.key(&["orders:read"]);
    let grace = |seconds: u64| json!({ "gracePeriodSeconds": seconds });
    let second = server.rotate(root, &first.id, &grace(60));
    server.advance(Duration::from_mins(1));
    let third = server.rotate(root, &first.id, &grace(3600));
    let current = server.rotate(root, &first.id, &grace(3600));
    let codes = || [&first, &second, &third, &current].map(|it| server.code(&it.text));
    assert_eq!(codes(), ["ROTATED", "VALID", "VALID", "VALID"]);
    // Verification of an ended credential has an event of its own, some time after its answer.
    let story = || {
        let all = server.story_of(&first.id).into_iter();
        all.filter(|it| it != "api_key.retired_key_used").collect::<Vec<_>>()
    };
    let before = story();
    reported(&server, &[&first.text]);
    assert_eq!((codes()[3].as_str(), story()), ("VALID", before));

    reported(&server, &[&third.text]);
    assert_eq!(codes(), ["ROTATED", "VALID", "ROTATED", "VALID"], "and no other");
    let ended = |it: &Value| it["type"] == "api_key.grace_ended";
    let event = server.events().into_iter().rfind(ended).expect("an event");
    let data = json!({ "keyPrefixes": [&third.text[..12]], "reason": "leaked" });
    assert_eq!((&event["data"], &event["actor"]["keyId"]), (&data, &json!(first.id)));
    let key = server.get(root, &first.path()).expect(200).json();
    assert_eq!(key["enabled"], true, "{key}");

    reported(&server, &[&current.text, &current.text]);
    assert_eq!(codes(), [(); 4].map(|()| "REVOKED"));
}

#[test]
fn a_credential_is_in_its_grace_period_to_the_last_millisecond() {
    let server = TestServer::start();
    let [early, late] = [(); 2].map(|()| {
        let key = server.key(&["orders:read"]);
        server.rotate(&server.root.text, &key.id, &json!({ "gracePeriodSeconds": 60 }));
        key
    });
    server.advance(Duration::from_millis(59_999));
    reported(&server, &[&early.text]);
    assert_eq!(last_event(&server, &early.id)["type"], "api_key.grace_ended");
    server.advance(Duration::from_millis(1));
    reported(&server, &[&late.text]);
    assert_eq!(last_event(&server, &late.id)["type"], "api_key.retired_key_used");
}

#[test]
fn a_report_of_an_ended_credential_is_recorded_once_an_hour_and_changes_nothing() {
    let server = TestServer::start();
    let key = server.key(&["orders:read"]);
    let at_once = json!({ "gracePeriodSeconds": 0 });
    let fresh = server.rotate(&server.root.text, &key.id, &at_once);
    let body = json!({ "keys": [key.text], "location": "https://git.example/1" });
    for _ in 0..3 {
        server.send(&Request::new("POST", LEAKED).json(&body)).expect(200);
    }
    let told = || {
        let events = server.events().into_iter();
        events.filter(|it| it["type"] == "api_key.retired_key_used").collect::<Vec<_>>()
    };
    let data = json!({
        "keyPrefix": key.text[..12], "reason": "leaked", "location": "https://git.example/1",
    });
    assert_eq!(told().iter().map(|it| &it["data"]).collect::<Vec<_>>(), [&data]);
    assert_eq!(
        (&told()[0]["actor"]["keyId"], &told()[0]["subject"]),
        (&json!(key.id), &json!(key.id))
    );
    assert_eq!([&key, &fresh].map(|it| server.code(&it.text)), ["ROTATED", "VALID"]);
    server.advance(Duration::from_hours(1));
    server.send(&Request::new("POST", LEAKED).json(&body)).expect(200);
    assert_eq!(told().len(), 2);
    // A revoked key has its event already.
    server.delete(&server.root.text, &key.path()).expect(204);
    server.advance(Duration::from_hours(1));
    let before = server.events().len();
    server.send(&Request::new("POST", LEAKED).json(&body)).expect(200);
    assert_eq!(server.events().len(), before);
}

#[test]
fn the_last_root_key_stays_and_the_audit_log_says_that_it_leaked() {
    let server = TestServer::start();
    let second = server.key(&["*"]);
    let both: [&str; 2] = [&second.text, &server.root.text];
    reported(&server, &both);
    assert_eq!(both.map(|it| server.code(it)), ["REVOKED", "VALID"]);
    for _ in 0..3 {
        reported(&server, &[&server.root.text]);
    }
    assert_eq!(server.code(&server.root.text), "VALID");
    assert_eq!(server.run_job("record_denials"), 1);
    let denied = last_event(&server, &server.root.id);
    assert_eq!(
        (&denied["type"], &denied["data"]["reason"]),
        (&json!("auth.denied"), &json!("last_root_key"))
    );
    assert_eq!(denied["data"]["count"], 4);
    // A root key that ends is not the last one, and neither is one of a customer.
    let ending = server.create(
        &server.root.text,
        &json!({ "name": "x", "scopes": ["*"], "expiresAt": "2099-01-01T00:00:00Z" }),
    );
    reported(&server, &[&ending.text]);
    assert_eq!(server.code(&ending.text), "REVOKED");
}

#[test]
fn an_imported_key_is_reported_as_any_other() {
    let (_dir, data) = place();
    let server = Binary::serve(&data);
    let root = server.root_key();
    let row = json!({ "name": "old", "scopes": ["orders:read"], "sha256": sha256(OLD) });
    assert_eq!(import(&data, "keys.jsonl", &rows(&[row]), &[]).0, 0);
    report(&[OLD]).send(server.address).expect(200);
    assert_eq!(code(&server, &root, OLD), "REVOKED");
}

#[test]
fn a_report_has_one_to_a_hundred_texts_and_nothing_else() {
    let server = TestServer::start();
    let key = server.key(&["orders:read"]);
    let many = |count: usize| {
        let mut keys = vec![json!("x"); count];
        *keys.last_mut().unwrap() = json!(key.text);
        json!({ "keys": keys })
    };
    for (body, pointer, code) in [
        (json!({}), "/keys", "required"),
        (json!({ "keys": [] }), "/keys", "out_of_range"),
        (many(101), "/keys", "out_of_range"),
        (json!({ "keys": key.text }), "/keys", "invalid_type"),
        (json!({ "keys": null }), "/keys", "not_nullable"),
        (json!({ "keys": [key.text, 7] }), "/keys/1", "invalid_type"),
        (json!({ "keys": [key.text], "location": "" }), "/location", "out_of_range"),
        (json!({ "keys": [key.text], "location": "x".repeat(201) }), "/location", "out_of_range"),
        (json!({ "keys": [key.text], "location": "a\u{202e}b" }), "/location", "invalid_format"),
        (json!({ "keys": [key.text], "key": "x" }), "/key", "unknown_field"),
    ] {
        let refused = server.send(&Request::new("POST", LEAKED).json(&body)).expect(422);
        assert_eq!(refused.faults(), [(pointer.to_owned(), code.to_owned())], "{body}");
        assert!(!refused.text().contains(&key.text));
    }
    let both = json!({ "keys": [1], "location": 1, "x": 1 });
    let faults = server.send(&Request::new("POST", LEAKED).json(&both)).expect(422).faults();
    assert_eq!(faults.len(), 3, "all at once: {faults:?}");
    let bare = Request::new("POST", LEAKED).body("{}");
    assert_eq!(server.send(&bare).expect(415).problem(), "unsupported_media_type");
    // The address needs no key, and neither does the answer about its methods.
    let keyless = server.send(&Request::new("GET", LEAKED));
    for listed in [keyless, server.get(&server.root.text, LEAKED)] {
        assert_eq!(listed.expect(405).header("allow"), Some("POST"));
    }
    assert_eq!(server.code(&key.text), "VALID", "a refused report does nothing");
    let longest = json!({ "keys": ["x"], "location": "x".repeat(200) });
    server.send(&Request::new("POST", LEAKED).json(&longest)).expect(200);
    server.send(&Request::new("POST", LEAKED).json(&many(100))).expect(200);
    assert_eq!(server.code(&key.text), "REVOKED");
}

#[test]
fn a_client_has_a_limit_and_others_have_theirs() {
    let server = TestServer::start();
    let from = |client: u32, keys: &[&str]| {
        let address = Ipv4Addr::from_bits(0xCB00_7100 | client).to_string();
        server.send(&report(keys).header("X-Forwarded-For", &address))
    };
    let key = server.key(&["orders:read"]);
    let full = [""; 100];
    for _ in 0..3 {
        from(1, &full).expect(200);
    }
    let refused = from(1, &[&key.text]).expect(429);
    assert_eq!(
        (&*refused.problem(), refused.header("retry-after")),
        ("too_many_reports", Some("1"))
    );
    assert_eq!(from(1, &full).expect(429).header("retry-after"), Some("100"));
    assert_eq!(server.code(&key.text), "VALID");
    server.advance(Duration::from_millis(999));
    from(1, &[&key.text]).expect(429);
    from(2, &[""]).expect(200);
    server.advance(Duration::from_millis(1));
    from(1, &[&key.text]).expect(200);
    assert_eq!(server.code(&key.text), "REVOKED");
}

#[test]
fn a_report_is_free_for_the_account_of_the_key() {
    let server = TestServer::with(|it| {
        it.keys.max_changes_at_once = 1;
        it.keys.max_changes_per_second = 1;
    });
    let (_, owner) = server.account(&json!({ "name": "Acme" }));
    let keys: Vec<Key> = (0..3)
        .map(|_| {
            server.advance(Duration::from_secs(1));
            server.create(&owner.text, &json!({ "name": "x", "scopes": ["orders:read"] }))
        })
        .collect();
    let texts: Vec<_> = keys.iter().map(|it| it.text.as_str()).collect();
    reported(&server, &texts);
    assert!(texts.iter().all(|it| server.code(it) == "REVOKED"));
    server.advance(Duration::from_secs(1));
    server.put(&owner.text, &owner.path(), &json!({ "name": "y" })).expect(200);
}

#[test]
fn while_no_change_can_be_stored_every_report_fails_alike() {
    let server = TestServer::start();
    let key = server.key(&["orders:read"]);
    let other = Connection::open(server.database()).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    for text in [&key.text, "unknown"] {
        let refused = server.send(&report(&[text])).expect(503);
        assert_eq!(refused.problem(), "unavailable", "{text}");
    }
    assert_eq!(server.code(&key.text), "VALID");
    drop(other);
    server.advance(Duration::from_secs(10));
    reported(&server, &[&key.text]);
    assert_eq!(server.code(&key.text), "REVOKED");
}
