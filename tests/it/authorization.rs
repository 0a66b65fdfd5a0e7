//! Who may do what: every operation of the API document, tried by those who may not and who may.

use std::collections::BTreeSet;

use rusqlite::Connection;
use serde_json::{Value, json};

use crate::support::{Key, Request, Response, TestServer};

/// Needs no key; of `metrics` that is true on the machine itself.
const PUBLIC: [&str; 5] = ["livez", "metrics", "openapiJson", "openapiYaml", "readyz"];

/// What any accepted key may ask.
const ANY_KEY: [&str; 2] = ["getSelf", "listScopes"];

/// A good body for each operation that takes one; `$SCOPE` is a scope of the caller's.
const BODIES: [(&str, &str); 11] = [
    ("createApiKey", r#"{"name": "x", "scopes": ["$SCOPE"]}"#),
    ("createAccountApiKey", r#"{"name": "x", "scopes": ["orders:read"]}"#),
    ("createAccount", r#"{"name": "x"}"#),
    ("updateAccount", r#"{"name": "y"}"#),
    ("patchAccount", r#"{"name": "y"}"#),
    ("updateApiKey", r#"{"name": "y"}"#),
    ("patchApiKey", r#"{"name": "y"}"#),
    ("rotateApiKey", r#"{"gracePeriodSeconds": 60}"#),
    ("rotateSelf", r#"{"gracePeriodSeconds": 60}"#),
    ("verifyApiKey", r#"{"key": "x"}"#),
    ("completeRotation", ""),
];
const BROKEN: &str = "{\"name\": ";

struct Operation {
    id: String,
    method: String,
    path: String,
    /// What must be asked, as the document's examples ask it; with its question mark.
    query: String,
    has_body: bool,
    public: bool,
    /// One of these is enough; none at all means any accepted key.
    any_of: Vec<String>,
}

/// What the document says, completely or not at all.
fn operations() -> Vec<Operation> {
    let document: Value =
        serde_json::from_str(&keyward::http::openapi::document_json()).expect("JSON");
    let mut found = Vec::new();
    for (path, item) in document["paths"].as_object().expect("paths") {
        let base = if item["servers"].is_null() { "/api/v1" } else { "" };
        for method in ["get", "put", "post", "patch", "delete", "head", "options", "trace"] {
            let Some(operation) = item.get(method) else { continue };
            let id = operation["operationId"].as_str().expect("an id").to_owned();
            let security = operation["security"].as_array();
            let security = security.unwrap_or_else(|| panic!("{id} says nothing about security"));
            // OpenAPI has no word for scopes of which one is enough.
            let scopes = operation["x-any-of-scopes"].as_array().into_iter().flatten();
            let parameters = operation["parameters"].as_array().into_iter().flatten();
            let needed = parameters.filter(|it| it["in"] == "query" && it["required"] == true);
            let needed: Vec<_> = needed
                .map(|it| format!("{}={}", it["name"].as_str().unwrap(), it["example"]))
                .collect();
            let mark = if needed.is_empty() { "" } else { "?" };
            found.push(Operation {
                query: format!("{mark}{}", needed.join("&")),
                method: method.to_uppercase(),
                path: format!("{base}{path}"),
                has_body: !operation["requestBody"].is_null(),
                public: security.is_empty() || security.contains(&json!({})),
                any_of: scopes.map(|it| it.as_str().expect("a name").to_owned()).collect(),
                id,
            });
        }
    }
    found
}

fn protected() -> Vec<Operation> {
    operations().into_iter().filter(|it| !it.public).collect()
}

impl Operation {
    /// The request to this operation about these, without a key.
    fn request(&self, key: &str, account: &str, seq: &str, body: &str) -> Request {
        let id = if self.path.contains("/accounts/") { account } else { key };
        let path = self.path.replace("{id}", id).replace("{seq}", seq);
        assert!(!path.contains('{'), "{}: what to put into {path}?", self.id);
        let request = Request::new(&self.method, &format!("{path}{}", self.query));
        if body.is_empty() {
            return request;
        }
        request.header("Content-Type", "application/json").body(body)
    }

    fn body(&self, scope: &str) -> String {
        if !self.has_body {
            return String::new();
        }
        let row = BODIES.iter().find(|(id, _)| *id == self.id);
        let (_, body) = row.unwrap_or_else(|| panic!("{} needs a row in BODIES", self.id));
        body.replace("$SCOPE", scope)
    }

    /// A good body, and one that nobody could read.
    fn bodies(&self) -> [String; 2] {
        [self.body("orders:read"), BROKEN.to_owned()]
    }
}

fn event_count(server: &TestServer) -> i64 {
    let conn = Connection::open(server.database()).unwrap();
    conn.query_row("SELECT count(*) FROM events", [], |row| row.get(0)).unwrap()
}

/// Every scope there is but `*` and these.
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
    let server = TestServer::start();
    for operation in operations.iter().filter(|it| it.public) {
        server.send(&operation.request("", "", "", "")).expect(200);
    }
}

#[test]
fn a_stranger_is_told_nothing_whatever_they_send() {
    let server = TestServer::start();
    let key = server.key(&["orders:read"]);
    let (account, _) = server.account(&json!({ "name": "x" }));
    let (nobody, before) = (format!("{}0", &key.text[..49]), event_count(&server));
    for operation in protected() {
        for body in operation.bodies() {
            let request = operation.request(&key.id, &account, "1", &body);
            let missing = (401, "missing_key".to_owned());
            assert_eq!(told(&server.send(&request)), missing, "{}", operation.id);
            for wrong in [&*nobody, "", "x"] {
                let answer = server.send(&request.clone().key(wrong));
                assert_eq!(told(&answer), (401, "invalid_key".to_owned()), "{}", operation.id);
                assert!(answer.header("www-authenticate").is_some(), "{}", operation.id);
            }
        }
    }
    assert_eq!(event_count(&server), before);
}

#[test]
fn every_scope_but_the_right_one_is_not_enough() {
    let server = TestServer::start();
    let key = server.key(&["orders:read"]);
    let (account, _) = server.account(&json!({ "name": "x" }));
    for operation in protected().iter().filter(|it| !it.any_of.is_empty()) {
        let caller = with_scopes(&server, &all_but(&server, &operation.any_of));
        let before = event_count(&server);
        for body in operation.bodies() {
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
            let fine = (200..300).contains(&answer.status);
            assert!(fine, "{} by {scope}: {} {}", operation.id, answer.status, answer.text());
        }
    }
}

#[test]
fn what_belongs_to_another_account_is_not_there() {
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
        for body in operation.bodies() {
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
fn an_account_that_never_was_is_not_there_for_the_operator_either() {
    let server = TestServer::start();
    let (gone, _) = server.account(&json!({ "name": "x" }));
    server.delete(&server.root.text, &format!("/api/v1/accounts/{gone}")).expect(204);
    let before = event_count(&server);
    for operation in protected().iter().filter(|it| it.path.contains("/accounts/{id}")) {
        for id in [&*gone, &format!("acct_{}", "0".repeat(22)), "acct_x", "nonsense"] {
            for body in operation.bodies() {
                let request = operation.request("", id, "", &body).key(&server.root.text);
                assert_eq!(told(&server.send(&request)), (404, "not_found".to_owned()));
            }
        }
    }
    assert_eq!(event_count(&server), before);
}
