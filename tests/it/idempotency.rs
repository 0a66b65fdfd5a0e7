//! `Idempotency-Key`: a create or rotate whose answer was lost is asked for again, and gets that answer.

mod limits;

use std::{io::Read, thread, time::Duration};

use rusqlite::Connection;
use serde_json::{Value, json};

use crate::support::{Binary, Request, Response, TestServer};

const KEYS: &str = "/api/v1/api-keys";

fn with(caller: &str, token: &str, target: &str, body: &Value) -> Request {
    Request::new("POST", target).key(caller).header("Idempotency-Key", token).json(body)
}

fn ask(server: &TestServer, caller: &str, token: &str, target: &str, body: &Value) -> Response {
    server.send(&with(caller, token, target, body))
}

fn new_key(name: &str) -> Value {
    json!({ "name": name, "scopes": ["orders:read"] })
}

/// All but the headers that belong to the one exchange.
fn lasting(answer: &Response) -> (u16, &[u8], [Option<&str>; 3]) {
    let headers = ["etag", "location", "content-type"].map(|it| answer.header(it));
    (answer.status, &answer.body, headers)
}

#[track_caller]
fn assert_replayed(again: &Response, first: &Response) {
    assert_eq!(lasting(again), lasting(first), "{}", again.text());
    assert_eq!(first.header("idempotency-replayed"), None);
    assert_eq!(again.header("idempotency-replayed"), Some("true"));
}

#[track_caller]
fn assert_refused(answer: &Response, status: u16, code: &str) {
    assert_eq!((answer.status, &*answer.problem()), (status, code), "{}", answer.text());
    assert_eq!(answer.header("idempotency-replayed"), None);
}

fn text(answer: &Response) -> String {
    answer.json()["key"].as_str().expect("a key").to_owned()
}

fn events_of_type(server: &TestServer, event_type: &str) -> usize {
    server.events().iter().filter(|it| it["type"] == event_type).count()
}

fn kept(server: &TestServer) -> i64 {
    let database = Connection::open(server.database()).unwrap();
    database.query_row("SELECT count(*) FROM idempotent_answers", [], |it| it.get(0)).unwrap()
}

#[test]
fn each_operation_that_returns_a_full_key_repeats_its_answer_and_changes_nothing_more() {
    let mut server = TestServer::start();
    let root = server.root.text.clone();
    let (account, _) = server.account(&json!({ "name": "Acme" }));
    let target = server.key(&["orders:read"]);
    let own = server.key(&["api-keys:rotate"]);
    let cases = [
        (&root, KEYS.to_owned(), new_key("a"), "api_key.created", 201),
        (
            &root,
            format!("/api/v1/accounts/{account}/api-keys"),
            new_key("b"),
            "api_key.created",
            201,
        ),
        (&root, "/api/v1/accounts".into(), json!({ "name": "Other" }), "account.created", 201),
        (&root, format!("{}/rotate", target.path()), json!({}), "api_key.rotated", 200),
        (
            &own.text,
            format!("{KEYS}/self/rotate"),
            json!({ "gracePeriodSeconds": 172_800 }),
            "api_key.rotated",
            200,
        ),
    ];
    let mut answers = Vec::new();
    for (caller, path, body, event, status) in &cases {
        let token = format!("token of {path}").replace(' ', "-");
        let before = events_of_type(&server, event);
        let first = ask(&server, caller, &token, path, body).expect(*status);
        assert_eq!(events_of_type(&server, event), before + 1);
        server.advance(Duration::from_mins(1));
        assert_replayed(&ask(&server, caller, &token, path, body), &first);
        // The two forms of the header are one value.
        assert_replayed(&ask(&server, caller, &format!("\"{token}\""), path, body), &first);
        assert_eq!(events_of_type(&server, event), before + 1, "{path}");
        answers.push((token, first));
    }
    // What has changed since does not change the answer, and a restart does not lose it.
    let id = answers[0].1.json()["id"].as_str().unwrap().to_owned();
    server.put(&root, &format!("{KEYS}/{id}"), &json!({ "name": "renamed" })).expect(200);
    server.restart(|_| ());
    for ((caller, path, body, ..), (token, first)) in cases.iter().zip(&answers) {
        assert_replayed(&ask(&server, caller, token, path, body), first);
        let full = first.json();
        let full = full["key"].as_str().or(full["apiKey"]["key"].as_str()).unwrap();
        assert_eq!(server.code(full), "VALID");
    }
}

#[test]
fn another_request_with_the_value_is_refused_and_another_value_is_another_request() {
    let server = TestServer::start();
    let root = server.root.text.clone();
    let first = ask(&server, &root, "t", KEYS, &new_key("a")).expect(201);
    let target = server.key(&["orders:read"]);
    let path = format!("{}/rotate", target.path());
    for (path, body) in [
        (KEYS, new_key("b")),
        (KEYS, json!({ "scopes": ["orders:read"], "name": "a" })),
        (&*path, json!({})),
        ("/api/v1/accounts", new_key("a")),
    ] {
        let answer = ask(&server, &root, "t", path, &body);
        assert_refused(&answer, 422, "idempotency_key_reused");
    }
    let matching = with(&root, "t", KEYS, &new_key("a")).header("If-Match", "*");
    assert_refused(&server.send(&matching), 422, "idempotency_key_reused");
    assert_eq!(events_of_type(&server, "api_key.rotated"), 0);
    let other = ask(&server, &root, "u", KEYS, &new_key("a")).expect(201);
    assert_ne!(other.json()["id"], first.json()["id"]);
    // Without the header, each request is a new one.
    let plain = server.post(&root, KEYS, &new_key("a")).expect(201);
    assert_ne!(plain.json()["id"], first.json()["id"]);
    assert_replayed(&ask(&server, &root, "t", KEYS, &new_key("a")), &first);
}

#[test]
fn a_refused_request_keeps_nothing_and_can_be_mended() {
    let server = TestServer::start();
    let root = server.root.text.clone();
    let wrong = ask(&server, &root, "t", KEYS, &json!({ "name": "a" }));
    assert_refused(&wrong, 422, "invalid_request");
    assert_eq!(kept(&server), 0);
    ask(&server, &root, "t", KEYS, &new_key("a")).expect(201);
    assert_eq!(kept(&server), 1);
}

#[test]
fn another_key_does_not_get_the_answer() {
    let server = TestServer::start();
    let mine = server.key(&["api-keys:write", "orders:read"]);
    let theirs = server.key(&["api-keys:write", "orders:read"]);
    let first = ask(&server, &mine.text, "t", KEYS, &new_key("a")).expect(201);
    let other = ask(&server, &theirs.text, "t", KEYS, &new_key("a")).expect(201);
    assert_eq!(other.header("idempotency-replayed"), None);
    assert_ne!(text(&other), text(&first));
    assert_replayed(&ask(&server, &mine.text, "t", KEYS, &new_key("a")), &first);
    assert_replayed(&ask(&server, &theirs.text, "t", KEYS, &new_key("a")), &other);
}

#[test]
fn a_row_that_is_given_to_another_key_does_not_open() {
    let server = TestServer::start();
    let mine = server.key(&["api-keys:write", "orders:read"]);
    let theirs = server.key(&["api-keys:write", "orders:read"]);
    let first = ask(&server, &mine.text, "t", KEYS, &new_key("a")).expect(201);
    ask(&server, &theirs.text, "t", KEYS, &new_key("a")).expect(201);
    let database = Connection::open(server.database()).unwrap();
    // As a person with the database would: the sealed answer under the row of the thief's own key.
    let moved = database.execute(
        "UPDATE idempotent_answers
         SET sealed = (SELECT sealed FROM idempotent_answers WHERE caller = ?1)
         WHERE caller = ?2",
        [&mine.id, &theirs.id],
    );
    assert_eq!(moved, Ok(1));
    drop(database);
    let stolen = ask(&server, &theirs.text, "t", KEYS, &new_key("a"));
    assert_eq!(stolen.status, 500, "{}", stolen.text());
    assert!(!stolen.text().contains(&text(&first)));
    assert_replayed(&ask(&server, &mine.text, "t", KEYS, &new_key("a")), &first);
}

#[test]
fn the_data_directory_holds_neither_the_new_key_nor_what_opens_it() {
    let mut server = TestServer::start();
    let caller = server.key(&["api-keys:write", "orders:read"]);
    let first = ask(&server, &caller.text, "t0k3n-of-mine", KEYS, &new_key("a")).expect(201);
    let made = text(&first);
    server.stop();
    let mut read = 0;
    for entry in std::fs::read_dir(server.data_dir()).unwrap() {
        let path = entry.unwrap().path();
        let Ok(bytes) = std::fs::read(&path) else { continue };
        read += bytes.len();
        // The prefix of a key is public; the rest is not.
        for secret in [&made[12..], &caller.text[12..], "t0k3n-of-mine"] {
            let found = bytes.windows(secret.len()).any(|it| it == secret.as_bytes());
            assert!(!found, "{secret} in {}", path.display());
        }
    }
    assert!(10_000 < read);
    server.restart(|_| ());
    assert_replayed(&ask(&server, &caller.text, "t0k3n-of-mine", KEYS, &new_key("a")), &first);
}

#[test]
fn two_at_once_make_one_key() {
    let server = TestServer::start();
    let root = server.root.text.clone();
    for round in 0..5 {
        let token = format!("t{round}");
        let before = events_of_type(&server, "api_key.created");
        let answers: Vec<Response> = thread::scope(|scope| {
            let send = || ask(&server, &root, &token, KEYS, &new_key("a"));
            let both: Vec<_> = (0..4).map(|_| scope.spawn(send)).collect();
            both.into_iter().map(|it| it.join().unwrap()).collect()
        });
        assert_eq!(events_of_type(&server, "api_key.created"), before + 1);
        let good: Vec<_> = answers.iter().filter(|it| it.status == 201).collect();
        assert!(!good.is_empty());
        assert!(good.iter().all(|it| it.body == good[0].body));
        for refused in answers.iter().filter(|it| it.status != 201) {
            assert_refused(refused, 409, "idempotency_in_progress");
            assert_eq!(refused.header("retry-after"), Some("1"));
        }
        let again = ask(&server, &root, &token, KEYS, &new_key("a")).expect(201);
        assert_eq!(again.body, good[0].body);
    }
}

#[test]
fn a_connection_that_is_cut_after_the_commit_is_recovered_by_the_retry() {
    let server = TestServer::start();
    let root = server.root.text.clone();
    let request = with(&root, "t", KEYS, &new_key("a"));
    let mut stream = request.open(server.address);
    // The first byte of the answer comes after the commit; the rest is never read.
    assert_eq!(stream.read(&mut [0]).unwrap(), 1);
    drop(stream);
    assert_eq!(kept(&server), 1);
    let again = server.send(&request).expect(201);
    assert_eq!(again.header("idempotency-replayed"), Some("true"));
    assert_eq!(server.code(&text(&again)), "VALID");
    assert_eq!(events_of_type(&server, "api_key.created"), 2, "the root key and this one");
}

#[test]
fn a_client_that_hangs_up_at_once_gets_one_key_by_repeating_the_request() {
    let server = TestServer::start();
    let root = server.root.text.clone();
    let request = with(&root, "t", KEYS, &new_key("a"));
    drop(request.open(server.address));
    // The lost request may still run (409), or may never have begun.
    let mut answer = server.send(&request);
    while answer.status == 409 {
        assert_refused(&answer, 409, "idempotency_in_progress");
        answer = server.send(&request);
    }
    assert_eq!(server.code(&text(&answer.expect(201))), "VALID");
    assert_eq!(events_of_type(&server, "api_key.created"), 2);
}

#[test]
fn a_server_that_was_killed_after_the_commit_repeats_the_answer_when_it_runs_again() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let mut server = Binary::serve_quietly(&data);
    let request = with(&server.root_key(), "t", KEYS, &new_key("a"));
    let mut stream = request.open(server.address);
    assert_eq!(stream.read(&mut [0]).unwrap(), 1);
    server.child.kill().unwrap();
    drop(stream);
    drop(server);
    let server = Binary::serve_quietly(&data);
    let again = request.send(server.address).expect(201);
    assert_eq!(again.header("idempotency-replayed"), Some("true"));
    assert_eq!(request.send(server.address).body, again.body);
}
