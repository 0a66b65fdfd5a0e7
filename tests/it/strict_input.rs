//! Strict input: every operation of the API document is called with a parameter or a body that it
//! does not have.

use rusqlite::Connection;
use serde_json::json;

use crate::support::{
    Key, Request, Response, TestServer, issuing,
    operations::{Operation, operations},
};

/// A server, and the objects that its operations need. A refused request uses none of them up.
struct Stage {
    server: TestServer,
    key: Key,
    account: String,
    caller: Key,
}

impl Stage {
    fn new() -> Self {
        let (server, _) = issuing(|_| ());
        server.run_job("checkpoint");
        Self::on(server)
    }

    fn on(server: TestServer) -> Self {
        let (account, _) = server.account(&json!({ "name": "x" }));
        // A second root key, so that it may revoke itself.
        Self { key: server.key(&["orders:read"]), caller: server.key(&["*"]), account, server }
    }

    /// Returns a valid request to this operation, with this text added to its query.
    fn request(&self, operation: &Operation, query: &str) -> Request {
        Self::about(operation, query, &self.key.id, &self.account, &self.caller)
    }

    fn about(
        operation: &Operation,
        query: &str,
        key: &str,
        account: &str,
        caller: &Key,
    ) -> Request {
        let body = operation.body("orders:read");
        let mark = if operation.query.is_empty() { "?" } else { "&" };
        let added = if query.is_empty() { String::new() } else { format!("{mark}{query}") };
        let asked = format!("{}{added}", operation.query);
        let changed = Operation { query: asked, ..operation.clone() };
        changed.request(key, account, "1", &body).key(&caller.text)
    }

    fn events(&self) -> i64 {
        let conn = Connection::open(self.server.database()).unwrap();
        conn.query_row("SELECT max(seq) FROM events", [], |row| row.get(0)).unwrap()
    }
}

fn fault(answer: &Response, pointer: &str, code: &str) -> bool {
    answer.status == 422 && answer.faults().contains(&(pointer.to_owned(), code.to_owned()))
}

#[test]
fn an_unknown_parameter_is_refused_and_nothing_is_done() {
    let stage = Stage::new();
    let mut seen = 0;
    for operation in operations() {
        for (query, pointer) in
            [("zzz=1", "/zzz"), ("gracePeriodSeconds=0", "/gracePeriodSeconds"), ("x", "/x")]
        {
            let request = stage.request(&operation, query);
            let before = stage.events();
            let answer = stage.server.send(&request);
            assert!(fault(&answer, pointer, "unknown_parameter"), "{}: {answer:?}", operation.id);
            assert_eq!(stage.events(), before, "{}", operation.id);
        }
        let twice = stage.server.send(&stage.request(&operation, "zzz=1&zzz=1"));
        assert!(fault(&twice, "/zzz", "duplicate"), "{}: {twice:?}", operation.id);
        seen += 1;
    }
    assert!(25 < seen);
}

#[test]
fn a_known_parameter_is_accepted_once() {
    let mut stage = Stage::new();
    for operation in operations() {
        for name in &operation.parameters {
            let value = if name == "scope" { "orders:read" } else { "1" };
            let asked = format!("{name}={value}");
            let known = stage.server.send(&stage.request(&operation, &asked));
            let pointer = format!("/{name}");
            assert!(!fault(&known, &pointer, "unknown_parameter"), "{}: {known:?}", operation.id);
            if name == "reason" {
                stage = Stage::on(stage.server); // What was asked is revoked or deleted.
            }
            let twice = stage.server.send(&stage.request(&operation, &format!("{asked}&{asked}")));
            assert!(fault(&twice, &pointer, "duplicate"), "{} {name}: {twice:?}", operation.id);
        }
    }
}

/// Returns a value that this parameter cannot have, if there is one.
fn unsound(name: &str) -> Option<&'static str> {
    Some(match name {
        "verbose" => return None,
        "q" | "externalId" => "",
        "order" => "down",
        "status" => "gone",
        "reason" => "%07",
        "total" | "unusedScopes" => "yes",
        "scope" | "type" => "no%20name",
        "account" | "actor" | "after" | "createdBy" | "cursor" | "days" | "expiringBefore"
        | "from" | "limit" | "since" | "size" | "subject" | "to" | "until" | "unusedSince" => "*",
        other => panic!("there is no unsound value of {other}"),
    })
}

#[test]
fn a_value_that_a_parameter_cannot_have_is_a_fault_of_its_form_for_every_caller() {
    let stage = Stage::new();
    let (account, customer) = stage.server.account(&json!({ "name": "customer" }));
    let held: Vec<String> = serde_json::from_value(customer.body["scopes"].clone()).unwrap();
    let mut seen = 0;
    for operation in operations() {
        for name in &operation.parameters {
            let Some(value) = unsound(name) else { continue };
            let asked = format!("{name}={value}");
            // A required parameter is in the request already.
            let mut parts: Vec<_> = operation.query.trim_start_matches('?').split('&').collect();
            parts.retain(|it| !it.is_empty() && !it.starts_with(&format!("{name}=")));
            let rest =
                if parts.is_empty() { String::new() } else { format!("?{}", parts.join("&")) };
            let operation = Operation { query: rest, ..operation.clone() };
            let by_customer = operation.any_of.iter().any(|it| held.contains(it));
            let mut requests = vec![stage.request(&operation, &asked)];
            if operation.any_of.is_empty() || by_customer {
                requests.push(Stage::about(&operation, &asked, &customer.id, &account, &customer));
            }
            for request in requests {
                let answer = stage.server.send(&request);
                let pointer = format!("/{name}");
                assert!(fault(&answer, &pointer, "invalid_format"), "{request:?}: {answer:?}");
                assert_eq!(answer.faults().len(), 1, "{request:?}: {answer:?}");
                seen += 1;
            }
        }
    }
    assert!(60 < seen, "{seen}");
}

#[test]
fn an_operation_without_a_body_accepts_only_an_empty_object_or_no_body() {
    let mut stage = Stage::new();
    let mut seen = 0;
    for operation in operations().iter().filter(|it| !it.has_body) {
        stage = Stage::on(stage.server);
        for body in [r#"{"gracePeriodSeconds":0}"#, "[]", "null", "x", "{}{}", "{\"a\""] {
            for media_type in ["application/json", "text/plain"] {
                let request = stage.request(operation, "");
                let before = stage.events();
                let request = request.header("Content-Type", media_type).body(body);
                let answer = stage.server.send(&request);
                let told = (answer.status, answer.problem());
                assert_eq!(told, (400, "unexpected_body".to_owned()), "{} {body}", operation.id);
                assert_eq!(stage.events(), before, "{}", operation.id);
            }
        }
        for body in ["", " {\n} "] {
            stage = Stage::on(stage.server);
            let answer = stage.server.send(&stage.request(operation, "").body(body));
            // The operator's account cannot be deleted.
            let fits = answer.status < 300 || operation.id == "deleteOwnAccount";
            assert!(fits, "{} {body:?}: {}", operation.id, answer.text());
        }
        seen += 1;
    }
    assert!(10 < seen);
}

#[test]
fn other_faults_of_such_a_request_are_reported_in_order() {
    let stage = Stage::new();
    let server = &stage.server;
    let poor = server.key(&["orders:read"]);
    let stranger = Key { text: "absent".to_owned(), ..poor.clone() };
    for operation in operations().iter().filter(|it| !it.public) {
        let never = format!("key_{}", "0".repeat(22));
        let no_account = format!("acct_{}", "0".repeat(22));
        let ask = |caller: &Key| {
            server.send(&Stage::about(operation, "zzz=1", &never, &no_account, caller))
        };
        assert_eq!(ask(&stranger).problem(), "invalid_key", "{}", operation.id);
        if !operation.any_of.is_empty() {
            assert_eq!(ask(&poor).problem(), "missing_scope", "{}", operation.id);
        }
        if operation.path.contains("{id}") {
            assert_eq!(ask(&server.root).problem(), "not_found", "{}", operation.id);
        }
        let key = "rg_8fK2mQ9zTabcdefghijklmnopqrstuvwxyz0123453bAXzK";
        let misplaced = server.send(&stage.request(operation, &format!("zzz={key}")));
        assert_eq!(misplaced.problem(), "key_in_query", "{}", operation.id);
        if operation.takes_if_match {
            let outdated = stage.request(operation, "zzz=1").header("If-Match", "\"99\"");
            assert_eq!(server.send(&outdated).problem(), "precondition_failed", "{}", operation.id);
        }
        if operation.has_body {
            let broken = stage.request(operation, "zzz=1").header("Content-Encoding", "gzip");
            assert_eq!(server.send(&broken).status, 415, "{}", operation.id);
        }
    }
}

#[test]
fn faults_of_the_query_and_the_body_are_reported_together() {
    let server = TestServer::start();
    let answer = server.post(&server.root.text, "/api/v1/api-keys?zzz=1", &json!({ "name": "" }));
    let expected =
        [("/zzz", "unknown_parameter"), ("/name", "out_of_range"), ("/scopes", "required")];
    assert_eq!(answer.faults(), expected.map(|(at, code)| (at.to_owned(), code.to_owned())));
}

#[test]
fn a_head_and_a_preflight_are_as_strict_as_a_get() {
    let stage = Stage::new();
    let root = &stage.server.root.text;
    let ask = |method: &str, target: &str| {
        stage.server.send(&Request::new(method, target).key(root)).status
    };
    assert_eq!(ask("HEAD", "/api/v1/scopes?zzz=1"), 422);
    assert_eq!(ask("HEAD", "/api/v1/scopes"), 200);
    assert_eq!(ask("HEAD", "/readyz?verbose"), 200);
    assert_eq!(ask("GET", "/readyz?verbose&zzz"), 422);
    assert_eq!(ask("OPTIONS", "/api/v1/scopes?zzz=1"), 405);
}
