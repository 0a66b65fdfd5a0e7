//! Accounts are separate: a request about another account's object is answered as if it did not
//! exist.

use serde_json::{Value, json};

use crate::support::{Request, Response, TestServer};

const ACCOUNTS: &str = "/api/v1/accounts";
const KEYS: &str = "/api/v1/api-keys";

fn path(id: &str) -> String {
    format!("{ACCOUNTS}/{id}")
}

#[track_caller]
fn assert_refused(answer: &Response, status: u16, code: &str) {
    assert_eq!((answer.status, &*answer.problem()), (status, code), "{}", answer.text());
}

/// Returns the answer without the parts that differ between any two requests.
fn anonymous(answer: &Response) -> (u16, Vec<(String, String)>, String) {
    let id = answer.header("x-request-id").expect("an identifier");
    let told = |(name, _): &&(String, String)| !matches!(&**name, "x-request-id" | "date");
    let mut headers: Vec<_> = answer.headers.iter().filter(told).cloned().collect();
    headers.sort(); // Their order carries no meaning.
    (answer.status, headers, answer.text().replace(id, "ID"))
}

fn each(list: &Response, member: &str) -> Vec<Value> {
    let list = list.json();
    list["data"].as_array().expect("a list").iter().map(|it| it[member].clone()).collect()
}

fn child(server: &TestServer, caller: &str, scopes: &[&str]) -> Response {
    server.post(caller, KEYS, &json!({ "name": "child", "scopes": scopes }))
}

#[test]
fn the_key_of_another_account_is_answered_like_an_unknown_key() {
    let server = TestServer::start();
    let (acme, owner) = server.account(&json!({ "name": "Acme" }));
    let (_, foreign) = server.account(&json!({ "name": "Other" }));
    let gone = child(&server, &owner.text, &["orders:read"]).expect(201).json();
    let gone = gone["id"].as_str().unwrap();
    server.delete(&owner.text, &format!("{KEYS}/{gone}")).expect(204);
    let events = server.events().len();
    let calls: [(&str, &str, Option<&str>); 9] = [
        ("GET", "", None),
        ("HEAD", "", None),
        ("PUT", "", Some("{\"name\": \"mine\"}")),
        ("PATCH", "", Some("{\"name\": 1}")),
        ("PUT", "", Some("not JSON")),
        ("DELETE", "", None),
        ("POST", "/rotate", Some("{}")),
        ("POST", "/rotate", Some("{\"gracePeriodSeconds\": -1}")),
        ("POST", "/rotate/complete", None),
    ];
    for (method, suffix, body) in calls {
        let ask = |id: &str| {
            let request = Request::new(method, &format!("{KEYS}/{id}{suffix}")).key(&owner.text);
            let request = request.header("If-Match", "\"7\"");
            anonymous(&server.send(&match body {
                Some(body) => request.header("Content-Type", "application/json").body(body),
                None => request,
            }))
        };
        let never = ask("key_0000000000000000000042");
        assert_eq!(never.0, 404, "{method} {suffix}");
        assert!(!never.2.contains("key_"), "the identifier is not repeated: {}", never.2);
        for id in [&foreign.id, &server.root.id, &acme, gone, "nope", "key_", "key_%2F", "%00", "0"]
        {
            assert_eq!(ask(id), never, "{method} {id}{suffix}");
        }
    }
    assert_eq!(server.events().len(), events);
    assert_eq!(server.code(&foreign.text), "VALID");
}

#[test]
fn an_account_sees_its_own_keys_and_events_only() {
    let server = TestServer::start();
    let (acme, one) = server.account(&json!({ "name": "Acme" }));
    let (other, two) = server.account(&json!({ "name": "Other" }));
    child(&server, &one.text, &["orders:read"]).expect(201);
    for (account, owner, count) in [(&acme, &one, 2), (&other, &two, 1)] {
        let keys = each(&server.get(&owner.text, KEYS).expect(200), "accountId");
        assert_eq!(keys, vec![json!(account); count]);
        let events = each(&server.get(&owner.text, "/api/v1/events").expect(200), "accountId");
        assert_eq!(events, vec![json!(account); count + 1]);
    }
    for (method, target) in [
        ("GET", ACCOUNTS.to_owned()),
        ("GET", path(&acme)),
        ("PUT", path("self")),
        ("PUT", path(&acme)),
        ("DELETE", path(&acme)),
        ("GET", format!("{}/api-keys", path(&acme))),
        ("POST", format!("{}/api-keys", path(&other))),
    ] {
        let answer = server.send(&Request::new(method, &target).key(&one.text));
        assert_refused(&answer, 403, "missing_scope");
    }
}

#[test]
fn only_the_account_scopes_give_access_to_keys_of_other_accounts() {
    let server = TestServer::start();
    let (id, owner) = server.account(&json!({ "name": "Acme" }));
    let key = child(&server, &owner.text, &["orders:read"]).expect(201).json();
    let key = format!("{KEYS}/{}", key["id"].as_str().unwrap());
    let (keys, rename) = (format!("{}/api-keys", path(&id)), json!({ "name": "n" }));
    let plain = server.key(&["api-keys:read", "api-keys:write"]).text;
    for answer in [
        server.get(&plain, &key),
        server.put(&plain, &key, &rename),
        server.delete(&plain, &key),
        server.post(&plain, &format!("{key}/rotate"), &json!({})),
    ] {
        assert_refused(&answer, 404, "not_found");
    }
    for answer in [server.get(&plain, &keys), server.get(&plain, &path(&id))] {
        assert_refused(&answer, 403, "missing_scope");
    }
    let reader = server.key(&["accounts:read"]).text;
    server.get(&reader, &key).expect(200);
    assert_eq!(each(&server.get(&reader, &keys).expect(200), "accountId"), [json!(id), json!(id)]);
    assert_refused(&server.put(&reader, &key, &rename), 403, "missing_scope");
    assert_refused(&server.get(&reader, KEYS), 403, "missing_scope");
    let writer = server.key(&["accounts:write"]).text;
    assert_refused(&server.get(&writer, &key), 403, "missing_scope");
    server.put(&writer, &key, &json!({ "scopes": ["orders:write"] })).expect(200);
    let made = json!({ "name": "theirs", "scopes": ["products:read", "api-keys:rotate"] });
    let made = server.post(&writer, &keys, &made).expect(201).json();
    assert_eq!(made["accountId"], id);
    server.post(&writer, &format!("{key}/rotate"), &json!({})).expect(200);
    server.delete(&writer, &key).expect(204);
    assert_refused(&server.put(&writer, &server.root.path(), &rename), 403, "scope_escalation");
}

#[test]
fn an_account_never_sees_the_identifier_of_an_operators_key() {
    let server = TestServer::start();
    let (account, first) = server.account(&json!({ "name": "x" }));
    let address = format!("/api/v1/accounts/{account}/api-keys");
    let body = json!({ "name": "n", "scopes": ["orders:read", "api-keys:read", "api-keys:write"] });
    let given = server.post(&server.root.text, &address, &body).expect(201).json();
    let given_id = given["id"].as_str().unwrap().to_owned();
    let own = server.create(&first.text, &body);
    let next = server.create(&own.text, &body);
    let gone = server.create(&own.text, &body);
    // The account still sees a creator that was its own key, even after that key was purged.
    server.delete(&first.text, &own.path()).expect(204);
    server.advance(std::time::Duration::from_hours(24 * 40));
    server.run_job("purge");
    let creators = |caller: &str, path: &str| -> Vec<(String, String)> {
        let list = server.get(caller, path).expect(200).json();
        let text = |it: &Value| it.as_str().unwrap().to_owned();
        let rows = list["data"].as_array().unwrap().iter();
        rows.map(|it| (text(&it["id"]), text(&it["createdBy"]))).collect()
    };
    let expect = |operator: &str| {
        [(&first.id, operator), (&given_id, operator), (&next.id, &own.id), (&gone.id, &own.id)]
            .map(|(id, by)| (id.clone(), by.to_owned()))
    };
    assert_eq!(creators(&first.text, "/api/v1/api-keys"), expect("operator"));
    assert_eq!(creators(&server.root.text, &address), expect(&server.root.id));
    let shown = [
        server.get(&first.text, &first.path()),
        server.get(&first.text, "/api/v1/api-keys/self"),
        server.put(&first.text, &first.path(), &json!({ "name": "renamed" })),
        server.post(&first.text, &format!("{}/rotate", first.path()), &json!({})),
        server.post(&first.text, &format!("/api/v1/api-keys/{given_id}/rotate"), &json!({})),
    ];
    for answer in shown {
        assert!(!answer.text().contains(&server.root.id), "{}", answer.text());
        assert_eq!(answer.expect(200).json()["createdBy"], "operator");
    }
}

#[test]
fn an_account_filters_for_what_the_operator_did() {
    let server = TestServer::start();
    let (_, first) = server.account(&json!({ "name": "x" }));
    server.create(&first.text, &json!({ "name": "n", "scopes": ["orders:read"] }));
    let types = |caller: &str, query: &str| -> Vec<Value> {
        let list = server.get(caller, &format!("/api/v1/events?{query}")).expect(200).json();
        list["data"].as_array().unwrap().iter().map(|it| it["type"].clone()).collect()
    };
    assert_eq!(types(&first.text, "actor=operator"), ["account.created", "api_key.created"]);
    assert_eq!(types(&first.text, "actor=operator&type=account.created"), ["account.created"]);
    assert_eq!(types(&first.text, &format!("actor={}", first.id)), ["api_key.created"]);
    assert_eq!(types(&first.text, &format!("actor={}", server.root.id)).len(), 0);
    assert_eq!(types(&server.root.text, "actor=operator"), ["account.created", "api_key.created"]);
}

#[test]
fn any_key_may_look_at_its_own_account() {
    let server = TestServer::start();
    let draft = json!({ "name": "x", "maxKeys": 7.0, "allowedScopes": ["orders:read"] });
    let (account, first) = server.account(&draft);
    let poor = server.create(&first.text, &json!({ "name": "n", "scopes": ["orders:read"] }));
    let shown = server.get(&poor.text, "/api/v1/accounts/self").expect(200).json();
    assert_eq!((&shown["id"], &shown["maxKeys"]), (&json!(account), &json!(7)));
    assert_eq!(shown["allowedScopes"], json!(["orders:read"]));
    server.get(&poor.text, &format!("/api/v1/accounts/{account}")).expect(403);
}

#[test]
fn a_key_with_the_write_scope_can_create_and_manage_a_key_that_rotates_itself() {
    let server = TestServer::start();
    let (_, first) = server.account(&json!({ "name": "x" }));
    let body = json!({ "name": "n", "scopes": ["api-keys:rotate", "orders:read"] });
    let own = server.create(&first.text, &body);
    server.put(&first.text, &own.path(), &json!({ "name": "m" })).expect(200);
    server.rotate(&first.text, &own.id, &json!({}));
    server.delete(&first.text, &own.path()).expect(204);
    let reader = server.create(&first.text, &json!({ "name": "r", "scopes": ["api-keys:read"] }));
    server.post(&reader.text, "/api/v1/api-keys", &body).expect(403);
}
