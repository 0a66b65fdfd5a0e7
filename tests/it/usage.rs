//! How much keys are used: counted in memory, stored by a job, shown by day.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Request, TestServer};

fn days(server: &TestServer, id: &str, query: &str) -> Vec<Value> {
    let path = format!("/api/v1/api-keys/{id}/usage{query}");
    let answer = server.get(&server.root.text, &path).expect(200).json();
    answer["data"].as_array().cloned().expect("a list")
}

#[test]
fn outcomes_are_counted_by_key_day_and_reason() {
    let server = TestServer::start();
    let key = server.key(&["orders:read"]);
    for _ in 0..3 {
        server.verify(&key.text, &["orders:read"]);
    }
    server.verify(&key.text, &["orders:write"]);
    server.put(&server.root.text, &key.path(), &json!({ "enabled": false })).expect(200);
    server.verify(&key.text, &[]);
    let denied = json!({
        "revoked": 0, "rotated": 0, "accountSuspended": 0, "disabled": 1, "expired": 0,
        "ipNotAllowed": 0, "insufficientScopes": 1, "rateLimited": 0,
    });
    let today = json!({ "date": "2026-01-01", "allowed": 3, "denied": denied });
    assert_eq!(days(&server, &key.id, "?days=1"), [today]);
}

#[test]
fn all_credentials_of_a_key_count_together_and_wrong_secrets_do_not_count() {
    let server = TestServer::start();
    let key = server.key(&["orders:read"]);
    let fresh = server.rotate(&server.root.text, &key.id, &json!({}));
    server.verify(&key.text, &[]);
    server.verify(&fresh.text, &[]);
    server.verify("rg_nonsense", &[]);
    server.advance(Duration::from_mins(5));
    assert_eq!(server.code(&key.text), "ROTATED");
    let today = &days(&server, &key.id, "?days=1")[0];
    assert_eq!((&today["allowed"], &today["denied"]["rotated"]), (&json!(2), &json!(1)));
}

#[test]
fn days_without_use_are_shown_and_a_day_begins_at_midnight_utc() {
    let server = TestServer::start();
    let key = server.key(&["orders:read"]);
    server.verify(&key.text, &[]);
    server.run_job("flush_usage");
    server.advance(Duration::from_hours(2 * 24) - Duration::from_millis(1));
    server.verify(&key.text, &[]);
    server.run_job("flush_usage");
    server.advance(Duration::from_millis(1));
    server.verify(&key.text, &[]);
    let counted: Vec<_> = days(&server, &key.id, "?days=4")
        .iter()
        .map(|it| (it["date"].as_str().unwrap().to_owned(), it["allowed"].as_u64().unwrap()))
        .collect();
    let expected = [("2025-12-31", 0), ("2026-01-01", 1), ("2026-01-02", 1), ("2026-01-03", 1)];
    assert_eq!(counted, expected.map(|(date, n)| (date.to_owned(), n)));
    assert_eq!(days(&server, &key.id, "").len(), 30);
}

#[test]
fn counts_survive_a_restart_and_never_go_backwards() {
    let mut server = TestServer::start();
    let key = server.key(&["orders:read"]);
    server.verify(&key.text, &[]);
    server.verify(&key.text, &[]);
    server.restart(|_| ());
    assert_eq!(days(&server, &key.id, "?days=1")[0]["allowed"], 2);
    server.verify(&key.text, &[]);
    assert_eq!(days(&server, &key.id, "?days=1")[0]["allowed"], 3);
    assert_eq!(days(&server, &key.id, "?days=1")[0]["allowed"], 3);
}

#[test]
fn the_query_is_checked_and_keys_of_other_accounts_are_answered_with_404() {
    let server = TestServer::start();
    let key = server.key(&["orders:read"]);
    for bad in ["?days=0", "?days=367", "?days=+1", "?days=x", "?days=1&days=2", "?weeks=1"] {
        let answer = server.get(&server.root.text, &format!("{}/usage{bad}", key.path()));
        assert_eq!(answer.faults().len(), 1, "{bad}");
    }
    let (_, stranger) = server.account(&json!({ "name": "Acme" }));
    let answer = server.get(&stranger.text, &format!("{}/usage", key.path()));
    assert_eq!(answer.expect(404).problem(), "not_found");
    let reader = Request::new("GET", &format!("{}/usage", key.path())).key(&key.text);
    assert_eq!(server.send(&reader).expect(403).problem(), "missing_scope");
}
