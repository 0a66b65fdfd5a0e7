//! How long an answer is kept, who gets it, and what is refused.

use std::{
    io::{Read, Write},
    os::unix::net::UnixStream,
    time::Duration,
};

use serde_json::{Value, json};

use super::{KEYS, ask, assert_refused, assert_replayed, kept, new_key, text, with};
use crate::support::{Request, Response, TestServer};

const DAY: Duration = Duration::from_hours(24);
const MILLI: Duration = Duration::from_millis(1);

#[test]
fn a_value_that_is_no_longer_accepted_is_not_shown_again() {
    let server = TestServer::start();
    let root = server.root.text.clone();
    let create = |token| ask(&server, &root, token, KEYS, &new_key("a")).expect(201);
    let path = |answer: &Response| format!("{KEYS}/{}", answer.json()["id"].as_str().unwrap());

    let revoked = create("revoked");
    server.delete(&root, &path(&revoked)).expect(204);
    let again = ask(&server, &root, "revoked", KEYS, &new_key("a"));
    assert_refused(&again, 409, "idempotent_result_revoked");
    assert!(!again.text().contains(&text(&revoked)));

    let rotated = create("rotated");
    let grace = json!({ "gracePeriodSeconds": 60 });
    server.post(&root, &format!("{}/rotate", path(&rotated)), &grace).expect(200);
    server.advance(Duration::from_mins(1) - MILLI);
    assert_replayed(&ask(&server, &root, "rotated", KEYS, &new_key("a")), &rotated);
    server.advance(MILLI);
    let again = ask(&server, &root, "rotated", KEYS, &new_key("a"));
    assert_refused(&again, 409, "idempotent_result_revoked");

    let body = json!({ "name": "Acme" });
    let account = ask(&server, &root, "account", "/api/v1/accounts", &body).expect(201);
    let id = account.json()["id"].as_str().unwrap().to_owned();
    server.delete(&root, &format!("/api/v1/accounts/{id}")).expect(204);
    let again = ask(&server, &root, "account", "/api/v1/accounts", &body);
    assert_refused(&again, 409, "idempotent_result_revoked");

    // A purged key has left nothing.
    server.advance(DAY - MILLI * 2);
    let gone = create("purged");
    server.delete(&root, &path(&gone)).expect(204);
    assert_refused(
        &ask(&server, &root, "purged", KEYS, &new_key("a")),
        409,
        "idempotent_result_revoked",
    );
}

#[test]
fn the_text_of_an_answer_is_stored_only_while_its_key_is_accepted() {
    let server = TestServer::start();
    let root = server.root.text.clone();
    let sizes = || {
        let conn = rusqlite::Connection::open(server.database()).unwrap();
        let sql = "SELECT length(sealed) FROM idempotent_answers ORDER BY created_at_ms";
        let mut statement = conn.prepare(sql).unwrap();
        let sizes = statement.query_map([], |row| row.get::<_, u32>(0)).unwrap();
        sizes.map(|it| 0 < it.unwrap()).collect::<Vec<_>>()
    };
    let made = ask(&server, &root, "create", KEYS, &new_key("a")).expect(201).json();
    let path = format!("{KEYS}/{}", made["id"].as_str().unwrap());
    let rotate = |token, seconds| {
        server.advance(MILLI);
        let grace = json!({ "gracePeriodSeconds": seconds });
        ask(&server, &root, token, &format!("{path}/rotate"), &grace)
    };
    let in_grace = rotate("one", 60).expect(200);
    assert_eq!(sizes(), [true, true], "both values are accepted");
    let current = rotate("two", 60).expect(200);
    assert_eq!(sizes(), [true; 3]);
    assert_replayed(&rotate("one", 60), &in_grace);
    server.advance(Duration::from_mins(1));
    rotate("three", 60).expect(200);
    assert_eq!(sizes(), [false, false, true, true], "ended by time");
    assert_replayed(&rotate("two", 60), &current);
    rotate("four", 0).expect(200);
    assert_eq!(sizes(), [false, false, false, false, true], "ended at once");
    for token in ["one", "two", "three"] {
        let seconds = 60;
        assert_refused(&rotate(token, seconds), 409, "idempotent_result_revoked");
    }
    server.delete(&root, &path).expect(204);
    assert_eq!(sizes(), [false; 5], "revoked");
}

#[test]
fn a_rotation_is_repeated_with_the_old_value_while_that_is_accepted() {
    let server = TestServer::start();
    let key = server.key(&["api-keys:rotate"]);
    let path = format!("{KEYS}/self/rotate");
    let grace = json!({ "gracePeriodSeconds": 300 });
    let first = ask(&server, &key.text, "t", &path, &grace).expect(200);
    let fresh = text(&first);
    assert_replayed(&ask(&server, &key.text, "t", &path, &grace), &first);
    // The new value opens nothing that the old one sealed, and has its answer anyway.
    assert_refused(&ask(&server, &fresh, "t", &path, &grace), 422, "idempotency_key_reused");
    server.advance(Duration::from_mins(5) - MILLI);
    assert_replayed(&ask(&server, &key.text, "t", &path, &grace), &first);
    assert_eq!(server.story_of(&key.id), ["api_key.created", "api_key.rotated"]);
    server.advance(MILLI);
    assert_refused(&ask(&server, &key.text, "t", &path, &grace), 401, "key_rotated");
}

#[test]
fn a_caller_that_may_no_longer_do_it_gets_no_answer() {
    let server = TestServer::start();
    let root = server.root.text.clone();
    let caller = server.key(&["api-keys:write", "orders:read", "products:read"]);
    let body = json!({ "name": "a", "scopes": ["products:read"] });
    let first = ask(&server, &caller.text, "t", KEYS, &body).expect(201);
    let set = |scopes: Value| {
        server.put(&root, &caller.path(), &json!({ "scopes": scopes })).expect(200);
    };
    set(json!(["api-keys:write", "orders:read"]));
    let weaker = ask(&server, &caller.text, "t", KEYS, &body);
    assert_refused(&weaker, 403, "scope_escalation");
    set(json!(["orders:read", "products:read"]));
    assert_refused(&ask(&server, &caller.text, "t", KEYS, &body), 403, "missing_scope");
    set(json!(["api-keys:write", "orders:read", "products:read"]));
    assert_replayed(&ask(&server, &caller.text, "t", KEYS, &body), &first);
    server.delete(&root, &caller.path()).expect(204);
    assert_refused(&ask(&server, &caller.text, "t", KEYS, &body), 401, "key_revoked");
}

#[test]
fn an_answer_is_kept_for_a_day_and_then_wiped() {
    let server = TestServer::start();
    let root = server.root.text.clone();
    let first = ask(&server, &root, "t", KEYS, &new_key("a")).expect(201);
    server.advance(DAY - MILLI);
    server.run_job("purge");
    assert_eq!(kept(&server), 1);
    assert_replayed(&ask(&server, &root, "t", KEYS, &new_key("a")), &first);
    server.advance(MILLI);
    let second = ask(&server, &root, "t", KEYS, &new_key("a")).expect(201);
    assert_ne!(second.json()["id"], first.json()["id"], "the job may be late");
    assert_eq!(second.header("idempotency-replayed"), None);
    assert_replayed(&ask(&server, &root, "t", KEYS, &new_key("a")), &second);
    server.run_job("purge");
    assert_eq!(kept(&server), 1);
    server.advance(DAY);
    server.run_job("purge");
    assert_eq!(kept(&server), 0);
}

#[test]
fn a_repeated_request_costs_no_change_of_the_budget() {
    let server = TestServer::with(|it| it.keys.max_changes_at_once = 2);
    let (_, key) = server.account(&json!({ "name": "Acme" }));
    let first = ask(&server, &key.text, "t", KEYS, &new_key("a")).expect(201);
    for _ in 0..5 {
        assert_replayed(&ask(&server, &key.text, "t", KEYS, &new_key("a")), &first);
    }
    ask(&server, &key.text, "u", KEYS, &new_key("a")).expect(201);
    let refused = ask(&server, &key.text, "v", KEYS, &new_key("a"));
    assert_refused(&refused, 429, "too_many_changes");
    assert_replayed(&ask(&server, &key.text, "t", KEYS, &new_key("a")), &first);
}

#[test]
fn a_malformed_value_is_refused_where_it_counts_and_ignored_elsewhere() {
    let server = TestServer::start();
    let root = server.root.text.clone();
    let longest = "x".repeat(255);
    ask(&server, &root, &longest, KEYS, &new_key("a")).expect(201);
    for token in ["", "\"", "\"\"", "a b", "\"a\";b", "é", &format!("{longest}x")] {
        let answer = ask(&server, &root, token, KEYS, &new_key("a"));
        assert_refused(&answer, 400, "invalid_idempotency_key");
        let other = Request::new("GET", KEYS).key(&root).header("Idempotency-Key", token);
        server.send(&other).expect(200);
    }
    assert_eq!(kept(&server), 1);
    let twice = with(&root, "a", KEYS, &new_key("a")).header("Idempotency-Key", "a");
    assert_refused(&server.send(&twice), 400, "duplicate_header");
}

#[test]
fn a_bearer_token_seals_like_the_header_of_its_own() {
    let server = TestServer::start();
    let root = server.root.text.clone();
    let first = ask(&server, &root, "t", KEYS, &new_key("a")).expect(201);
    let bearer = Request::new("POST", KEYS)
        .header("Authorization", &format!("Bearer {root}"))
        .header("Idempotency-Key", "t")
        .json(&new_key("a"));
    assert_replayed(&server.send(&bearer), &first);
}

#[test]
fn the_control_socket_has_no_key_to_keep_an_answer_under() {
    let server = TestServer::start();
    let body = new_key("a").to_string();
    let mut stream = UnixStream::connect(server.data_dir().join("control.sock")).unwrap();
    write!(
        stream,
        "POST {KEYS} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nIdempotency-Key: t\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert!(answer.contains("idempotency_needs_a_key"), "{answer}");
    assert_eq!(kept(&server), 0);
}
