//! The audit log records refused calls, and a flood of them does not fill it.

use std::{net::IpAddr, time::Duration};

use keyward::{domain::plaintext_key::KeyPrefix, service::DeniedCall};
use serde_json::{Value, json};

use crate::support::{Request, TestServer, forged};

const KEYS: &str = "/api/v1/api-keys";
/// The most rows in an hour, with those that are written at its end.
const MOST_ROWS_AN_HOUR: usize = 128;

fn denied(server: &TestServer) -> Vec<Value> {
    server.events().into_iter().filter(|it| it["type"] == "auth.denied").collect()
}

fn total(events: &[Value]) -> u64 {
    events.iter().map(|it| it["data"]["count"].as_u64().unwrap()).sum()
}

/// Makes a call with a key that was never issued, past HTTP.
fn guess(server: &TestServer, number: u32) {
    let address = std::net::Ipv4Addr::from_bits(0x0A00_0000 | number);
    server.app.count_denial(DeniedCall {
        reason: "invalid_key",
        prefix: KeyPrefix::from_stored(&format!("rg_{number:09}")),
        key: None,
        address: Some(IpAddr::from(address)),
    });
}

#[test]
fn each_kind_of_refusal_has_an_event_with_caller_and_reason() {
    let server = TestServer::start();
    let (account, owner) = server.account(&json!({ "name": "Acme" }));
    let reader = server.create(&owner.text, &json!({ "name": "r", "scopes": ["api-keys:read"] }));
    let revoked = server.create(&owner.text, &json!({ "name": "x", "scopes": ["orders:read"] }));
    server.get(&revoked.text, "/api/v1/api-keys/self").expect(200);
    server.delete(&owner.text, &revoked.path()).expect(204);
    let stranger = forged("rg_nobody000");
    let wide = json!({ "name": "w", "scopes": ["webhooks:write"] });
    let narrow = server
        .create(&owner.text, &json!({ "name": "n", "scopes": ["api-keys:write", "orders:read"] }));

    assert_eq!(server.send(&Request::new("GET", KEYS)).status, 401);
    assert_eq!(server.get("rubbish", KEYS).status, 401);
    assert_eq!(server.get(&stranger, KEYS).status, 401);
    assert_eq!(server.get(&revoked.text, KEYS).status, 401);
    assert_eq!(server.post(&reader.text, KEYS, &wide).status, 403);
    assert_eq!(server.post(&narrow.text, KEYS, &wide).status, 403);
    let question = json!({ "key": "x" });
    assert_eq!(server.post(&reader.text, "/api/v1/api-keys/verify", &question).status, 403);
    assert_eq!(server.run_job("record_denials"), 6, "two of them are equal");

    let events = denied(&server);
    let found = |reason: &str, prefix: Value| {
        let mut those = events
            .iter()
            .filter(|it| it["data"]["reason"] == reason && it["data"]["keyPrefix"] == prefix);
        let event = those.next().unwrap_or_else(|| panic!("{reason} {prefix}: {events:#?}"));
        assert!(those.next().is_none(), "{reason} twice");
        assert_eq!(event["clientIp"], "127.0.0.1");
        event
    };
    for event in [
        found("missing_key", Value::Null),
        found("invalid_key", Value::Null),
        found("invalid_key", json!(stranger[..12])),
    ] {
        assert_eq!((&event["subject"], &event["accountId"]), (&json!("keyward"), &Value::Null));
        assert_eq!(event["actor"]["type"], "scheduler");
    }
    for (reason, key, count) in [
        ("key_revoked", &revoked, 1),
        ("missing_scope", &reader, 2),
        ("scope_escalation", &narrow, 1),
    ] {
        let event = found(reason, json!(key.text[..12]));
        assert_eq!((&event["subject"], &event["accountId"]), (&json!(key.id), &json!(account)));
        assert_eq!(event["actor"]["keyId"], key.id);
        assert_eq!(event["data"]["count"], count, "{reason}");
    }
    let text = Value::Array(events.clone()).to_string();
    assert!(!text.contains(&stranger[12..]) && !text.contains("rubbish"), "{text}");
}

#[test]
fn an_account_sees_what_was_refused_to_its_keys_and_nothing_else() {
    let server = TestServer::start();
    let (_, owner) = server.account(&json!({ "name": "Acme" }));
    let (_, other) = server.account(&json!({ "name": "Other" }));
    for key in [&owner, &other] {
        assert_eq!(server.get(&key.text, "/api/v1/accounts").status, 403);
    }
    assert_eq!(server.get("rubbish", KEYS).status, 401);
    server.run_job("record_denials");
    let target = "/api/v1/events?type=auth.denied";
    let seen = server.get(&owner.text, target).expect(200).json()["data"].clone();
    let subjects: Vec<_> = seen.as_array().unwrap().iter().map(|it| &it["subject"]).collect();
    assert_eq!(subjects, [&json!(owner.id)]);
    assert_eq!(denied(&server).len(), 3);
}

#[test]
fn a_successful_or_malformed_request_is_no_denial() {
    let server = TestServer::start();
    server.verify(&forged("rg_nobody000"), &[]);
    server.get(&server.root.text, KEYS).expect(200);
    server.get(&server.root.text, "/api/v1/api-keys/nothing").expect(404);
    server.post(&server.root.text, KEYS, &json!({ "name": 1 })).expect(422);
    assert_eq!(server.run_job("record_denials"), 0);
}

#[test]
fn equal_calls_share_a_row_for_an_hour() {
    let server = TestServer::start();
    let refuse = |times: usize| {
        for _ in 0..times {
            assert_eq!(server.get("rubbish", KEYS).status, 401);
        }
    };
    refuse(3);
    assert_eq!(server.run_job("record_denials"), 1);
    server.advance(Duration::from_mins(10));
    refuse(4);
    assert_eq!(server.run_job("record_denials"), 0, "not yet");
    server.advance(Duration::from_mins(49));
    assert_eq!(server.run_job("record_denials"), 0, "a millisecond too early");
    server.advance(Duration::from_mins(1));
    assert_eq!(server.run_job("record_denials"), 1);
    let counts: Vec<_> = denied(&server).iter().map(|it| it["data"]["count"].clone()).collect();
    assert_eq!(counts, [3, 4]);
    let second = &denied(&server)[1]["data"];
    assert_eq!(second["firstAt"], "2026-01-01T00:10:00.000Z");
    assert_eq!(second["lastAt"], "2026-01-01T00:10:00.000Z");
}

#[test]
fn a_flood_makes_a_bounded_number_of_rows_and_every_call_is_counted() {
    let server = TestServer::start();
    // Most calls bypass HTTP, because this test is not about its speed.
    for number in 0..100_000 {
        guess(&server, number);
        if number % 10_000 == 0 {
            assert_eq!(server.get(&forged("rg_flood0000"), KEYS).status, 401);
            server.run_job("record_denials");
        }
    }
    server.run_job("record_denials");
    assert!(denied(&server).len() <= MOST_ROWS_AN_HOUR / 2, "{}", denied(&server).len());
    server.advance(Duration::from_hours(1));
    server.run_job("record_denials");
    let events = denied(&server);
    assert!(events.len() <= MOST_ROWS_AN_HOUR, "{}", events.len());
    assert_eq!(total(&events), 100_010);
    assert!(events.iter().any(|it| it["data"]["reason"] == "several"));
    assert_eq!(server.run_job("record_denials"), 0);
}

#[test]
fn denials_still_in_memory_are_written_at_the_stop() {
    let mut server = TestServer::start();
    for number in 0..500 {
        guess(&server, number);
    }
    server.restart(|_| ());
    let events = denied(&server);
    assert_eq!(total(&events), 500);
    assert!(events.len() <= MOST_ROWS_AN_HOUR / 2, "{}", events.len());
}

#[test]
fn a_flood_of_other_calls_does_not_hide_that_the_last_root_key_leaked() {
    let server = TestServer::start();
    let leaked = |from: &str| {
        let report = Request::new("POST", "/api/v1/leaked-keys").header("X-Forwarded-For", from);
        let report = report.json(&json!({ "keys": [server.root.text] }));
        server.send(&report).expect(200);
    };
    let counts = || {
        let events = denied(&server);
        let those = events.iter().filter(|it| it["data"]["reason"] == "last_root_key");
        those.map(|it| (it["clientIp"].clone(), it["data"]["count"].clone())).collect::<Vec<_>>()
    };
    // As many groups as an hour has events, and then more than the memory holds.
    for number in 0..2_000 {
        guess(&server, number);
        if number == 100 {
            server.run_job("record_denials");
        }
    }
    leaked("203.0.113.7");
    leaked("203.0.113.8");
    server.run_job("record_denials");
    let first = (json!("203.0.113.7"), json!(2));
    assert_eq!(counts(), std::slice::from_ref(&first), "the address of the first report");
    for address in 0..200 {
        leaked(&format!("198.51.100.{address}"));
    }
    server.run_job("record_denials");
    assert_eq!(
        counts(),
        std::slice::from_ref(&first),
        "further reports wait for the end of the hour"
    );
    for number in 2_000..4_000 {
        (0..300).for_each(|_| guess(&server, number));
    }
    server.advance(Duration::from_hours(1));
    server.run_job("record_denials");
    assert_eq!(counts(), [first, (json!("198.51.100.0"), json!(200))]);
}
