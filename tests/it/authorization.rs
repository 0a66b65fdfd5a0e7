//! Authorization: each operation of the API document, called without and with the required scopes.

use std::collections::BTreeSet;

use rusqlite::Connection;
use serde_json::json;

use crate::support::{
    Key, Response, TestServer, issuing,
    operations::{BODIES, Operation, operations, protected},
};

/// Operations that need no key. For `metrics` this holds only for callers on the machine itself.
const PUBLIC: [&str; 9] = [
    "livez",
    "metrics",
    "openapiJson",
    "openapiYaml",
    "readyz",
    "reportLeakedKeys",
    "tokenKeys",
    "tokenMetadata",
    "tokenStatus",
];

/// Operations that any accepted key may call.
const ANY_KEY: [&str; 4] = ["getOwnAccount", "getOwnApiKey", "listScopes", "revokeOwnApiKey"];

const BROKEN: &str = "{\"name\": ";

/// A good body, and one that is not JSON.
fn bodies(of: &Operation) -> [String; 2] {
    [of.body("orders:read"), BROKEN.to_owned()]
}

fn event_count(server: &TestServer) -> i64 {
    let conn = Connection::open(server.database()).unwrap();
    conn.query_row("SELECT count(*) FROM events", [], |row| row.get(0)).unwrap()
}

/// Returns every scope except `*` and these.
fn all_but(server: &TestServer, without: &[String]) -> Vec<String> {
    let list = server.get(&server.root.text, "/api/v1/scopes").expect(200).json();
    let names = list["data"].as_array().unwrap().iter().map(|it| it["name"].as_str().unwrap());
    let names = names.filter(|it| *it != "*" && !without.iter().any(|out| out == it));
    names.map(str::to_owned).collect()
}

fn with_scopes(server: &TestServer, scopes: &[String]) -> Key {
    server.create(&server.root.text, &json!({ "name": "caller", "scopes": scopes }))
}

fn told(answer: &Response) -> (u16, String) {
    (answer.status, answer.problem())
}

#[test]
fn only_what_is_listed_here_needs_no_key() {
    let operations = operations();
    let public: BTreeSet<_> =
        operations.iter().filter(|it| it.public).map(|it| it.id.as_str()).collect();
    assert_eq!(public, BTreeSet::from(PUBLIC));
    let without: BTreeSet<_> =
        protected().into_iter().filter(|it| it.any_of.is_empty()).map(|it| it.id).collect();
    assert_eq!(without, BTreeSet::from(ANY_KEY.map(str::to_owned)));
    for id in BODIES.map(|(id, _)| id) {
        assert!(operations.iter().any(|it| it.id == id), "{id} is not an operation any more");
    }
    let (server, _) = issuing(|_| ());
    for operation in operations.iter().filter(|it| it.public) {
        let body = operation.body("orders:read");
        server.send(&operation.request("", "", "", &body)).expect(200);
    }
}

#[test]
fn a_caller_without_a_valid_key_learns_nothing_from_any_request() {
    let server = TestServer::start();
    let key = server.key(&["orders:read"]);
    let (account, _) = server.account(&json!({ "name": "x" }));
    let (never_issued, before) = (format!("{}0", &key.text[..49]), event_count(&server));
    for operation in protected() {
        for body in bodies(&operation) {
            let request = operation.request(&key.id, &account, "1", &body);
            let missing = (401, "missing_key".to_owned());
            assert_eq!(told(&server.send(&request)), missing, "{}", operation.id);
            for wrong in [&*never_issued, "", "x"] {
                let answer = server.send(&request.clone().key(wrong));
                assert_eq!(told(&answer), (401, "invalid_key".to_owned()), "{}", operation.id);
                assert!(answer.header("www-authenticate").is_some(), "{}", operation.id);
            }
        }
    }
    assert_eq!(event_count(&server), before);
}

#[test]
fn all_other_scopes_together_do_not_replace_the_required_one() {
    let server = TestServer::start();
    let key = server.key(&["orders:read"]);
    let (account, _) = server.account(&json!({ "name": "x" }));
    for operation in protected().iter().filter(|it| !it.any_of.is_empty()) {
        let caller = with_scopes(&server, &all_but(&server, &operation.any_of));
        let before = event_count(&server);
        for body in bodies(operation) {
            let request = operation.request(&key.id, &account, "1", &body).key(&caller.text);
            let missing = (403, "missing_scope".to_owned());
            assert_eq!(told(&server.send(&request)), missing, "{}", operation.id);
        }
        assert_eq!(event_count(&server), before, "{}", operation.id);
    }
}

#[test]
fn each_scope_that_an_operation_names_is_enough_by_itself() {
    let server = TestServer::start();
    for operation in protected() {
        let any = ["orders:read".to_owned()];
        let enough = if operation.any_of.is_empty() { &any } else { &*operation.any_of };
        for scope in enough {
            let caller = with_scopes(&server, std::slice::from_ref(scope));
            let target = with_scopes(&server, std::slice::from_ref(scope));
            let (account, _) = server.account(&json!({ "name": "x" }));
            let request = operation.request(&target.id, &account, "1", &operation.body(scope));
            let answer = server.send(&request.key(&caller.text));
            // The operator's account cannot be deleted. No scope changes that.
            let fine = (200..300).contains(&answer.status) || operation.id == "deleteOwnAccount";
            assert!(
                fine && answer.status != 403,
                "{} by {scope}: {} {}",
                operation.id,
                answer.status,
                answer.text()
            );
        }
    }
}

#[test]
fn an_object_of_another_account_is_answered_with_404() {
    let server = TestServer::start();
    let (_, caller) = server.account(&json!({ "name": "mine" }));
    let (_, foreign) = server.account(&json!({ "name": "theirs" }));
    let operators = server.key(&["orders:read"]);
    let never = format!("key_{}", "0".repeat(22));
    let events = server.events();
    let foreign_event = events.iter().find(|it| it["subject"] == *foreign.id).unwrap();
    let foreign_seq = foreign_event["seq"].to_string();
    let before = event_count(&server);
    let about = |answer: &Response| {
        let mut body = answer.json();
        body.as_object_mut().expect("a problem").remove("requestId");
        (answer.status, body.to_string())
    };
    let mut tried = 0;
    for operation in protected().iter().filter(|it| it.path.contains('{')) {
        if operation.path.contains("/accounts/") {
            continue;
        }
        tried += 1;
        for body in bodies(operation) {
            let ask = |id: &str, seq: &str| {
                let answer = server
                    .send(&operation.request(id, "", seq, &body).key(&caller.text))
                    .expect(404);
                assert!(!answer.text().contains(id), "{}", answer.text());
                about(&answer)
            };
            let nothing = ask(&never, "99999");
            for id in [&*foreign.id, &*operators.id, &*server.root.id, "key_x", "nonsense"] {
                assert_eq!(ask(id, &foreign_seq), nothing, "{} {id}", operation.id);
            }
        }
    }
    assert!(6 < tried);
    assert_eq!(event_count(&server), before);
}

#[test]
fn an_unknown_account_is_answered_with_404_for_the_operator_too() {
    let server = TestServer::start();
    let (gone, _) = server.account(&json!({ "name": "x" }));
    server.delete(&server.root.text, &format!("/api/v1/accounts/{gone}")).expect(204);
    let before = event_count(&server);
    for operation in protected().iter().filter(|it| it.path.contains("/accounts/{id}")) {
        for id in [&*gone, &format!("acct_{}", "0".repeat(22)), "acct_x", "nonsense"] {
            for body in bodies(operation) {
                let request = operation.request("", id, "", &body).key(&server.root.text);
                assert_eq!(told(&server.send(&request)), (404, "not_found".to_owned()));
            }
        }
    }
    assert_eq!(event_count(&server), before);
}
