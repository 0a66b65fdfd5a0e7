//! Which scopes of a key are used: exact to the request and to the millisecond.

use std::time::Duration;

use keyward::service::Job;
use serde_json::{Value, json};

use crate::support::{Key, Request, TestServer};

const MS: Duration = Duration::from_millis(1);
const DAY: Duration = Duration::from_hours(24);
const KEYS: &str = "/api/v1/api-keys";
const ALL: [&str; 3] = ["orders:read", "orders:write", "products:read"];

/// Returns the unused scopes, as the answer about the key and the list agree on them.
fn unused(server: &TestServer, key: &Key) -> Vec<String> {
    let shown = server.get(&server.root.text, &key.path()).expect(200).json();
    let path = format!("{KEYS}?account=all&q={}", key.id);
    let listed = server.get(&server.root.text, &path).expect(200).json();
    assert_eq!(listed["data"][0]["unusedScopes"], shown["unusedScopes"]);
    serde_json::from_value(shown["unusedScopes"].clone()).expect("names")
}

fn any_of(server: &TestServer, key: &Key, scopes: &[&str]) -> Value {
    let question = json!({ "key": key.text, "anyScopes": scopes });
    let path = "/api/v1/api-keys/verify";
    server.post(&server.root.text, path, &question).expect(200).json()["code"].clone()
}

#[test]
fn a_scope_is_used_from_the_first_accepted_request_that_requires_it() {
    let server = TestServer::start();
    let key = server.key(&ALL);
    assert_eq!(key.body["unusedScopes"], json!(ALL), "in the order of the catalogue");
    server.verify(&key.text, &[]);
    assert_eq!(unused(&server, &key), ALL, "it required none");
    assert_eq!(server.verify(&key.text, &["orders:read", "inventory:read"])["valid"], false);
    server.put(&server.root.text, &key.path(), &json!({ "enabled": false })).expect(200);
    assert_eq!(server.verify(&key.text, &["orders:read"])["code"], "DISABLED");
    assert_eq!(unused(&server, &key), ALL, "only accepted requests count");
    server.put(&server.root.text, &key.path(), &json!({ "enabled": true })).expect(200);
    server.verify(&key.text, &["orders:read"]);
    assert_eq!(unused(&server, &key), ALL[1..]);
    server.send(&Request::new("GET", "/authz?scope=orders:write").key(&key.text)).expect(200);
    assert_eq!(unused(&server, &key), ["products:read"]);
    server.verify(&key.text, &["products:read"]);
    assert_eq!(unused(&server, &key), [""; 0]);
}

#[test]
fn of_several_scopes_of_which_one_is_enough_those_that_the_key_holds_are_used() {
    let server = TestServer::start();
    let key = server.key(&ALL);
    assert_eq!(any_of(&server, &key, &["inventory:read", "orders:read", "orders:write"]), "VALID");
    assert_eq!(unused(&server, &key), ["products:read"]);
}

#[test]
fn a_use_counts_on_its_day_and_on_29_days_after_it() {
    for stored in [false, true] {
        let mut server = TestServer::start();
        let key = server.key(&ALL);
        server.advance(DAY - MS);
        server.verify(&key.text, &["orders:read"]);
        server.advance(MS);
        server.verify(&key.text, &["orders:write"]);
        if stored {
            server.restart(|_| ());
        }
        server.advance(29 * DAY - MS);
        assert_eq!(unused(&server, &key), ["products:read"], "2026-01-30, {stored}");
        server.advance(MS);
        assert_eq!(unused(&server, &key), ["orders:read", "products:read"], "{stored}");
        server.advance(DAY - MS);
        assert_eq!(unused(&server, &key), ["orders:read", "products:read"], "{stored}");
        server.advance(MS);
        assert_eq!(unused(&server, &key), ALL, "2026-02-01, {stored}");
        server.run_job("flush_usage");
        assert_eq!(unused(&server, &key), ALL, "uses are stored with their own days, {stored}");
        server.verify(&key.text, &["orders:read"]);
        server.run_job("flush_usage");
        assert_eq!(unused(&server, &key), ALL[1..], "used again, {stored}");
    }
}

#[test]
fn an_operation_of_this_api_uses_the_scope_that_permits_it() {
    let server = TestServer::start();
    let scopes = ["api-keys:read", "api-keys:write", "api-keys:verify", "events:read"];
    let key = server.key(&scopes);
    server.get(&key.text, "/api/v1/api-keys/self").expect(200);
    assert_eq!(unused(&server, &key).len(), 4, "it needs no scope");
    server.get(&key.text, KEYS).expect(200);
    assert_eq!(unused(&server, &key), ["api-keys:write", "events:read", "api-keys:verify"]);
    let path = "/api/v1/api-keys/verify";
    server.post(&key.text, path, &json!({ "key": "x" })).expect(200);
    assert_eq!(unused(&server, &key), ["api-keys:write", "events:read"]);
    server.get(&key.text, "/api/v1/accounts").expect(403);
    server.get(&key.text, "/api/v1/events").expect(200);
    server.put(&key.text, "/api/v1/api-keys/self", &json!({ "name": "y" })).expect(200);
    assert_eq!(unused(&server, &key), [""; 0]);
    // The first call of a key since the start takes another way than the later ones.
    let gateway = server.key(&["api-keys:verify"]);
    server.post(&gateway.text, path, &json!({ "key": "x" })).expect(200);
    assert_eq!(unused(&server, &gateway), [""; 0]);
}

#[test]
fn a_key_uses_the_scopes_that_it_hands_on_but_not_by_changing_itself() {
    let server = TestServer::start();
    let root = &server.root.text;
    let scopes = ["orders:read", "orders:write", "products:read", "api-keys:write"];
    let key = server.key(&scopes);
    let child = json!({ "name": "child", "scopes": ["orders:read", "api-keys:rotate"] });
    let child = server.create(&key.text, &child);
    assert_eq!(unused(&server, &key), ["orders:write", "products:read"]);
    let more = json!({ "scopes": ["orders:read", "orders:write"] });
    server.put(&key.text, &child.path(), &more).expect(200);
    assert_eq!(unused(&server, &key), ["products:read"]);
    server.put(&key.text, &key.path(), &json!({ "name": "itself" })).expect(200);
    let fresh = server.rotate(&key.text, &key.id, &json!({}));
    assert_eq!(unused(&server, &key), ["products:read"]);
    let refused = json!({ "name": "x", "scopes": ["products:read", "inventory:read"] });
    server.post(&fresh.text, KEYS, &refused).expect(403);
    assert_eq!(unused(&server, &key), ["products:read"]);
    let other = server.key(&["products:read"]);
    server.delete(&fresh.text, &other.path()).expect(204);
    assert_eq!(unused(&server, &key), [""; 0], "only a holder of the scope could revoke it");
    // The operator needs none of a customer's scopes.
    let (account, _) = server.account(&json!({ "name": "Acme" }));
    let path = format!("/api/v1/accounts/{account}/api-keys");
    let operator = server.key(&["accounts:write", "inventory:read"]);
    let body = json!({ "name": "x", "scopes": ["inventory:read"] });
    server.post(&operator.text, &path, &body).expect(201);
    assert_eq!(unused(&server, &operator), ["inventory:read"]);
    server.get(root, "/api/v1/api-keys/self").expect(200);
}

#[test]
fn a_star_is_used_where_no_other_scope_of_the_key_is_enough() {
    let server = TestServer::start();
    let key = server.key(&["*", "orders:read", "orders:write"]);
    let all = ["orders:read", "orders:write", "*"];
    server.verify(&key.text, &[]);
    assert_eq!(unused(&server, &key), all);
    server.verify(&key.text, &["orders:read"]);
    assert_eq!(any_of(&server, &key, &["orders:read", "products:read"]), "VALID");
    assert_eq!(unused(&server, &key), ["orders:write", "*"]);
    server.verify(&key.text, &["orders:write", "products:read"]);
    assert_eq!(unused(&server, &key), [""; 0]);
    let by_any = server.key(&["*"]);
    assert_eq!(any_of(&server, &by_any, &["products:read"]), "VALID");
    assert_eq!(unused(&server, &by_any), [""; 0]);
    let by_call = server.key(&["*"]);
    server.get(&by_call.text, KEYS).expect(200);
    assert_eq!(unused(&server, &by_call), [""; 0]);
}

#[test]
fn rotations_updates_and_restarts_keep_what_was_used() {
    let mut server = TestServer::start();
    let root = server.root.text.clone();
    let key = server.key(&ALL);
    server.verify(&key.text, &["orders:read"]);
    let fresh = server.rotate(&root, &key.id, &json!({}));
    assert_eq!(fresh.body["unusedScopes"], json!(ALL[1..]));
    server.verify(&fresh.text, &["orders:write"]);
    assert_eq!(unused(&server, &key), ["products:read"]);
    server.put(&root, &key.path(), &json!({ "name": "other" })).expect(200);
    assert_eq!(unused(&server, &key), ["products:read"]);
    server.restart(|_| ());
    assert_eq!(unused(&server, &key), ["products:read"]);
    let fewer = json!({ "scopes": ["orders:read", "products:read"] });
    let answer = server.put(&root, &key.path(), &fewer).expect(200).json();
    assert_eq!(answer["unusedScopes"], json!(["products:read"]), "only granted scopes are shown");
    server.put(&root, &key.path(), &json!({ "scopes": ALL })).expect(200);
    assert_eq!(unused(&server, &key), ["products:read"]);
    // A scope that is removed from the catalogue grants nothing, so nothing uses it any more.
    server.restart(|it| it.scopes.retain(|it| !it.name.starts_with("orders:w")));
    assert_eq!(unused(&server, &key), ["products:read"]);
    server.advance(30 * DAY);
    assert_eq!(unused(&server, &key), ["orders:read", "products:read", "orders:write"]);
    server.delete(&root, &key.path()).expect(204);
    server.advance(31 * DAY);
    server.run_job("keep_time");
    server.advance(Duration::from_mins(11));
    server.run_job("keep_time");
    assert!(0 < server.run_job("purge"));
    assert_eq!(rows(&server, "scope_usage", &key), 0);
    assert_eq!(rows(&server, "key_addresses", &key), 0);
}

pub fn rows(server: &TestServer, table: &str, key: &Key) -> i64 {
    let conn = rusqlite::Connection::open(server.database()).unwrap();
    let sql = format!("SELECT count(*) FROM {table} WHERE key_id = ?1");
    conn.query_row(&sql, [&key.id], |row| row.get(0)).unwrap()
}

#[test]
fn uses_that_cannot_be_stored_are_stored_later() {
    let mut server = TestServer::start();
    let root = server.root.text.clone();
    let key = server.key(&ALL);
    let ask = |server: &TestServer, scope: &str, client: &str| {
        let question = json!({ "key": key.text, "scopes": [scope], "clientIp": client });
        server.post(&root, "/api/v1/api-keys/verify", &question).expect(200);
    };
    ask(&server, "orders:read", "203.0.113.7");
    let execute = |server: &TestServer, sql: &str| {
        rusqlite::Connection::open(server.database()).unwrap().execute_batch(sql).unwrap();
    };
    for table in ["scope_usage", "key_addresses"] {
        let failing = format!(
            "CREATE TRIGGER failing BEFORE INSERT ON {table} BEGIN SELECT RAISE(ABORT, 'no'); END"
        );
        execute(&server, &failing);
        assert!(server.app.run_job(Job::FlushUsage, &|| false).is_err());
        assert_eq!(unused(&server, &key), ALL[1..], "memory still knows it");
        execute(&server, "DROP TRIGGER failing");
        assert_eq!(rows(&server, "scope_usage", &key), 0);
    }
    ask(&server, "orders:write", "203.0.113.8");
    server.run_job("flush_usage");
    assert_eq!(rows(&server, "scope_usage", &key), 2);
    assert_eq!(rows(&server, "key_addresses", &key), 2);
    server.restart(|_| ());
    assert_eq!(unused(&server, &key), ["products:read"]);
    let days = server.get(&root, &format!("{}/usage?days=1", key.path())).expect(200).json();
    assert_eq!(days["data"][0]["allowed"], 2, "each use is counted once");
}

#[test]
fn lists_are_filtered_by_unused_scopes() {
    let server = TestServer::start();
    let root = &server.root.text;
    let (account, owner) = server.account(&json!({ "name": "Acme" }));
    let make = |name: &str, scopes: &[&str]| {
        server.create(&owner.text, &json!({ "name": name, "scopes": scopes }))
    };
    let (one, two) = (make("one", &["orders:read"]), make("two", &["orders:read", "orders:write"]));
    let names = |caller: &str, path: &str| {
        let list = server.get(caller, path).expect(200).json();
        let rows = list["data"].as_array().unwrap();
        let wanted = ["one", "two"];
        let names = rows.iter().map(|it| it["name"].as_str().unwrap().to_owned());
        names.filter(|it| wanted.contains(&&**it)).collect::<Vec<_>>()
    };
    let found = |value: &str| {
        let paths = [
            (&owner.text, format!("{KEYS}?unusedScopes={value}")),
            (root, format!("{KEYS}?account=all&unusedScopes={value}&q=o")),
            (root, format!("/api/v1/accounts/{account}/api-keys?unusedScopes={value}&order=desc")),
        ];
        let [own, all, mut of_account] = paths.map(|(caller, path)| names(caller, &path));
        of_account.reverse();
        assert_eq!((&own, &own), (&all, &of_account));
        own
    };
    assert_eq!((found("true"), found("false").len()), (vec!["one".into(), "two".into()], 0));
    server.verify(&one.text, &["orders:read"]);
    server.verify(&two.text, &["orders:write"]);
    assert_eq!((found("true"), found("false")), (vec!["two".into()], vec!["one".into()]));
    server.verify(&two.text, &["orders:read"]);
    assert_eq!((found("true").len(), found("false")), (0, vec!["one".into(), "two".into()]));
    // A use of a scope that the key no longer has does not stand for another.
    let other = json!({ "scopes": ["orders:read", "products:read"] });
    server.put(&owner.text, &two.path(), &other).expect(200);
    assert_eq!(found("true"), ["two"]);
    server.advance(30 * DAY - MS);
    assert_eq!(found("false"), ["one"]);
    server.advance(MS);
    assert_eq!((found("true"), found("false").len()), (vec!["one".into(), "two".into()], 0));
    let total = format!("{KEYS}?unusedScopes=true&total=true&limit=1");
    assert!(2 <= server.get(&owner.text, &total).expect(200).json()["total"].as_u64().unwrap());
    for bad in ["", "yes", "1", "TRUE"] {
        let faults = server.get(root, &format!("{KEYS}?unusedScopes={bad}")).expect(422).faults();
        assert_eq!(faults, [("/unusedScopes".to_owned(), "invalid_format".to_owned())], "{bad}");
    }
}
