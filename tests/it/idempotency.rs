//! `Idempotency-Key`: a create or rotate whose answer was lost is asked for again, and gets that answer.

use std::{io::Read, thread, time::Duration};

use rusqlite::Connection;
use serde_json::{Value, json};

use crate::support::{Request, Response, TestServer};

const KEYS: &str = "/api/v1/api-keys";
const DAY: Duration = Duration::from_hours(24);
const MILLI: Duration = Duration::from_millis(1);

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
    server.advance(Duration::from_secs(300) - MILLI);
    assert_replayed(&ask(&server, &key.text, "t", &path, &grace), &first);
    server.advance(MILLI);
    assert_refused(&ask(&server, &key.text, "t", &path, &grace), 401, "key_rotated");
    assert_eq!(server.story_of(&key.id), ["api_key.created", "api_key.rotated"]);
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
    use std::{io::Write, os::unix::net::UnixStream};

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
