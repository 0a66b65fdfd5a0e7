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

#[test]
fn the_usage_of_an_account_is_the_sum_over_its_keys_and_revoked_keys_count() {
    let server = TestServer::start();
    let root = &server.root.text;
    let (account, owner) = server.account(&json!({ "name": "Acme" }));
    let (_, stranger) = server.account(&json!({ "name": "Other" }));
    let body = json!({ "name": "second", "scopes": ["orders:read"] });
    let second = server.create(&owner.text, &body);
    server.verify(&second.text, &["orders:read"]);
    server.verify(&second.text, &["orders:write"]);
    server.verify(&stranger.text, &[]);
    server.run_job("flush_usage");
    server.advance(Duration::from_hours(24));
    server.verify(&second.text, &["orders:read"]);
    server.delete(root, &second.path()).expect(204);
    server.verify(&second.text, &[]);
    server.verify(&owner.text, &[]);
    let sums = |caller: &str, path: &str| {
        let answer = server.get(caller, path).expect(200).json();
        let data = answer["data"].as_array().cloned().expect("a list");
        data.iter()
            .map(|it| {
                let denied = &it["denied"];
                let numbers = [&it["allowed"], &denied["revoked"], &denied["insufficientScopes"]];
                numbers.map(|it| it.as_u64().unwrap())
            })
            .collect::<Vec<_>>()
    };
    let path = format!("/api/v1/accounts/{account}/usage");
    // The account's own key created the second one, which is a use of its own.
    let expected = [[0, 0, 0], [2, 0, 1], [2, 1, 0]];
    assert_eq!(sums(root, &format!("{path}?days=3")), expected);
    assert_eq!(sums(root, &format!("{path}?days=1")), expected[2..]);
    assert_eq!(sums(root, &path).len(), 30);
    let own = sums(&owner.text, "/api/v1/accounts/self/usage?days=2");
    assert_eq!(own, [expected[1], [3, 1, 0]], "this question is a use too");
    let foreign = server.get(&stranger.text, &path).expect(403).problem();
    assert_eq!(foreign, "missing_scope");
    let absent = "/api/v1/accounts/acct_0000000000000000000042/usage";
    server.get(root, absent).expect(404);
    for bad in ["?days=0", "?days=367", "?weeks=1"] {
        assert_eq!(server.get(root, &format!("{path}{bad}")).faults().len(), 1, "{bad}");
    }
    let key = server.create(root, &body);
    assert_eq!(server.get(&key.text, &path).expect(403).problem(), "missing_scope");
}

#[test]
fn a_request_that_is_refused_as_ambiguous_is_no_use_of_its_key() {
    let server = TestServer::start();
    let key = server.key(&["orders:read", "api-keys:verify"]);
    assert_eq!(server.code(&key.text), "VALID");
    let state = || {
        let shown = server.get(&server.root.text, &key.path()).expect(200).json();
        (shown["lastUsedAt"].clone(), days(&server, &key.id, "?days=1")[0]["allowed"].clone())
    };
    let before = state();
    assert_eq!(before, (json!("2026-01-01T00:00:00.000Z"), json!(1)));
    server.advance(Duration::from_mins(1));
    let question = json!({ "key": "x" });
    for (path, status) in [
        ("/authz", 401),
        ("/authz/nginx", 401),
        ("/api/v1/api-keys/self", 400),
        ("/api/v1/api-keys/verify", 400),
    ] {
        let method = if path.ends_with("verify") { "POST" } else { "GET" };
        let twice = Request::new(method, path).key(&key.text).key(&key.text).json(&question);
        server.send(&twice).expect(status);
        assert_eq!(state(), before, "{path}");
    }
    // A refusal for another reason is counted, as it is without ambiguity.
    server.put(&server.root.text, &key.path(), &json!({ "enabled": false })).expect(200);
    server.send(&Request::new("GET", "/authz").key(&key.text).key(&key.text)).expect(401);
    assert_eq!(days(&server, &key.id, "?days=1")[0]["denied"]["disabled"], 1);
}
