//! Accounts: the operator manages them, and each account's keys are separate from those of the
//! others.

use std::time::Duration;

use rusqlite::Connection;
use serde_json::{Value, json};

use crate::support::{Key, Request, Response, TestServer};

const ACCOUNTS: &str = "/api/v1/accounts";
const KEYS: &str = "/api/v1/api-keys";
const DAY: Duration = Duration::from_hours(24);

fn path(id: &str) -> String {
    format!("{ACCOUNTS}/{id}")
}

#[track_caller]
fn assert_refused(answer: &Response, status: u16, code: &str) {
    assert_eq!((answer.status, &*answer.problem()), (status, code), "{}", answer.text());
}

fn each(list: &Response, member: &str) -> Vec<Value> {
    let list = list.json();
    list["data"].as_array().expect("a list").iter().map(|it| it[member].clone()).collect()
}

fn child(server: &TestServer, caller: &str, scopes: &[&str]) -> Response {
    server.post(caller, KEYS, &json!({ "name": "child", "scopes": scopes }))
}

#[test]
fn an_account_needs_only_a_name_and_comes_with_its_first_key() {
    let server = TestServer::start();
    let root = &server.root.text;
    let answer = server.post(root, ACCOUNTS, &json!({ "name": "Acme" })).expect(201);
    let mut made = answer.json();
    let key = made.as_object_mut().unwrap().shift_remove("apiKey").unwrap();
    let id = made["id"].as_str().unwrap();
    assert!(id.strip_prefix("acct_").is_some_and(|it| it.len() == 22), "{id}");
    let expected = json!({
        "id": id, "name": "Acme", "externalId": null, "status": "active", "allowedScopes": null,
        "maxKeys": null, "maxKeyLifetimeSeconds": null, "defaultKeyLifetimeSeconds": null,
        "rateLimit": null, "keyRateLimit": null, "tokenExchange": false, "metadata": {},
        "createdAt": "2026-01-01T00:00:00.000Z",
    });
    assert_eq!(made.to_string(), expected.to_string(), "these members, in this order");
    assert_eq!(answer.header("location"), Some(&*path(id)));
    let shown = server.get(root, &path(id)).expect(200);
    assert_eq!((shown.json(), shown.header("etag")), (expected, answer.header("etag")));
    let catalogue = server.get(root, "/api/v1/scopes").expect(200);
    let own = catalogue.json()["data"].as_array().unwrap().clone();
    let own = own.into_iter().filter(|it| it["reserved"] == false).map(|it| it["name"].clone());
    let managing = ["api-keys:read", "api-keys:write", "events:read"].map(Value::from);
    assert_eq!(key["scopes"], own.chain(managing).collect::<Value>());
    assert_eq!((&key["accountId"], &key["expiresAt"]), (&json!(id), &Value::Null));
    assert_eq!(server.code(key["key"].as_str().unwrap()), "VALID");
    assert_eq!(server.story_of(id), ["account.created"]);
}

#[test]
fn an_account_is_created_with_the_members_that_were_given() {
    let server = TestServer::start();
    let body = json!({
        "name": "Acme", "externalId": "cust_42", "allowedScopes": ["orders:write", "orders:read"],
        "maxKeys": 5, "metadata": { "plan": "pro" },
    });
    let (id, first) = server.account(&body);
    let shown = server.get(&server.root.text, &path(&id)).expect(200).json();
    for (member, value) in [
        ("externalId", json!("cust_42")),
        ("allowedScopes", json!(["orders:read", "orders:write"])),
        ("maxKeys", json!(5)),
        ("metadata", json!({ "plan": "pro" })),
    ] {
        assert_eq!(shown[member], value);
    }
    let scopes = ["orders:read", "orders:write", "api-keys:read", "api-keys:write", "events:read"];
    assert_eq!(first.body["scopes"], json!(scopes));
    let found = server.get(&server.root.text, &format!("{ACCOUNTS}?externalId=cust_42"));
    assert_eq!(each(&found.expect(200), "id"), [json!(id)]);
}

#[test]
fn the_first_key_ends_no_later_than_the_key_that_made_the_account() {
    let server = TestServer::start();
    let end = "2026-02-01T00:00:00.000Z";
    let body = json!({ "name": "m", "scopes": ["accounts:write"], "expiresAt": end });
    let mortal = server.create(&server.root.text, &body);
    let made = server.post(&mortal.text, ACCOUNTS, &json!({ "name": "Acme" })).expect(201).json();
    assert_eq!(made["apiKey"]["expiresAt"], end);
}

#[test]
fn an_external_id_belongs_to_one_account_until_that_account_is_deleted() {
    let server = TestServer::start();
    let root = &server.root.text;
    let body = json!({ "name": "Acme", "externalId": "cust_42" });
    let (id, _) = server.account(&body);
    let (other, _) = server.account(&json!({ "name": "Other", "externalId": "cust_43" }));
    let events = server.events().len();
    assert_refused(&server.post(root, ACCOUNTS, &body), 409, "external_id_taken");
    let same = json!({ "externalId": "cust_42" });
    assert_refused(&server.put(root, &path(&other), &same), 409, "external_id_taken");
    server.put(root, &path(&id), &same).expect(200); // The account's own external id.
    assert_eq!(server.events().len(), events);
    server.delete(root, &path(&id)).expect(204);
    server.put(root, &path(&other), &same).expect(200);
    server.post(root, ACCOUNTS, &json!({ "name": "B", "externalId": "cust_43" })).expect(201);
}

#[test]
fn identifiers_from_other_services_are_valid_external_ids() {
    let server = TestServer::start();
    for id in [
        "cus_NffrFeUfNV2Hib",
        "user_29w83sxmDNGwOuEthce5gg56FcC",
        "org_01EHZNVPK3SFK441A1RGBFSHRT",
        "6ba7b810-9dad-11d1-80b4-00c04fd430c8",
    ] {
        let body = json!({ "name": "Acme", "externalId": id });
        server.post(&server.root.text, ACCOUNTS, &body).expect(201);
        let found = server.get(&server.root.text, &format!("{ACCOUNTS}?externalId={id}"));
        assert_eq!(each(&found.expect(200), "externalId"), [json!(id)]);
    }
}

#[test]
fn an_account_that_is_suspended_stops_at_once_and_resumes() {
    let server = TestServer::start();
    let (id, owner) = server.account(&json!({ "name": "Acme" }));
    let key = child(&server, &owner.text, &["api-keys:read"]).expect(201).json();
    let key = key["key"].as_str().unwrap();
    let (_, bystander) = server.account(&json!({ "name": "Other" }));
    let set = |status: &str| {
        server.put(&server.root.text, &path(&id), &json!({ "status": status })).expect(200).json()
    };
    for _ in 0..2 {
        assert_eq!(set("suspended")["status"], "suspended");
        for text in [&owner.text, key] {
            assert_eq!(server.code(text), "ACCOUNT_SUSPENDED");
            assert_refused(&server.get(text, KEYS), 401, "account_suspended");
        }
        assert_eq!(server.code(&bystander.text), "VALID");
        assert_eq!(set("active")["status"], "active");
        for text in [&owner.text, key] {
            assert_eq!(server.code(text), "VALID");
            server.get(text, KEYS).expect(200);
        }
    }
    assert_eq!(
        server.story_of(&id),
        [
            "account.created",
            "account.updated",
            "account.updated",
            "account.updated",
            "account.updated",
        ]
    );
}

#[test]
fn deleting_an_account_deletes_its_keys_and_purges_them_later() {
    let server = TestServer::start();
    let root = &server.root.text;
    let (id, owner) = server.account(&json!({ "name": "Acme", "externalId": "cust_42" }));
    let key = child(&server, &owner.text, &["orders:read"]).expect(201).json();
    let key = Key {
        id: key["id"].as_str().unwrap().into(),
        text: key["key"].as_str().unwrap().into(),
        body: key,
    };
    let expired =
        json!({ "name": "e", "scopes": ["orders:read"], "expiresAt": "2026-01-02T00:00:00Z" });
    let expired = server.create(&owner.text, &expired);
    server.advance(DAY);
    let answer = server.delete(root, &path(&id)).expect(204);
    let request = answer.header("x-request-id").unwrap().to_owned();
    let events = server.events().into_iter().filter(|it| it["requestId"] == json!(request));
    let mut types: Vec<_> = events.map(|it| it["type"].as_str().unwrap().to_owned()).collect();
    types.sort();
    let revoked = "api_key.revoked";
    assert_eq!(types, ["account.deleted", revoked, revoked, revoked]);
    for text in [&owner.text, &key.text, &expired.text] {
        assert_eq!(server.code(text), "REVOKED");
        assert_refused(&server.get(text, KEYS), 401, "key_revoked");
    }
    for target in [path(&id), format!("{}/api-keys", path(&id)), key.path()] {
        assert_refused(&server.get(root, &target), 404, "not_found");
    }
    assert_refused(&server.delete(root, &path(&id)), 404, "not_found");
    assert_refused(&server.put(root, &path(&id), &json!({ "name": "n" })), 404, "not_found");
    assert!(!server.get(root, ACCOUNTS).expect(200).text().contains(&id));
    server.advance(30 * DAY);
    server.run_job("purge");
    assert_eq!(server.code(&key.text), "REVOKED");
    server.advance(DAY);
    server.run_job("purge");
    assert_eq!(server.code(&key.text), "NOT_FOUND");
    let story = server.story_of(&id);
    assert_eq!(story, ["account.created", "account.deleted", "account.purged"]);
}

#[test]
fn the_operators_account_cannot_be_limited_suspended_or_deleted() {
    let server = TestServer::start();
    let root = &server.root.text;
    for limit in [
        json!({ "status": "suspended" }),
        json!({ "allowedScopes": ["orders:read"] }),
        json!({ "maxKeys": 1 }),
        json!({ "maxKeyLifetimeSeconds": 1 }),
        json!({ "defaultKeyLifetimeSeconds": 1 }),
    ] {
        assert_refused(&server.put(root, &path("self"), &limit), 409, "operator_account");
    }
    assert_refused(&server.delete(root, &path("self")), 409, "operator_account");
    let same = json!({ "name": "We", "status": "active", "allowedScopes": null, "maxKeys": null });
    assert_eq!(server.put(root, &path("self"), &same).expect(200).json()["name"], "We");
    assert_eq!(server.code(root), "VALID");
}

#[test]
fn allowed_scopes_limit_every_key_of_the_account() {
    let server = TestServer::start();
    let root = &server.root.text;
    let (id, owner) = server.account(&json!({ "name": "Acme", "allowedScopes": ["orders:read"] }));
    let across = |scopes: &[&str]| {
        let body = json!({ "name": "child", "scopes": scopes });
        server.post(root, &format!("{}/api-keys", path(&id)), &body)
    };
    across(&["orders:read", "api-keys:read", "api-keys:write", "events:read"]).expect(201);
    across(&["api-keys:rotate"]).expect(201);
    assert_refused(&across(&["orders:read", "orders:write"]), 403, "scope_escalation");
    let wider = json!({ "scopes": ["orders:read", "products:read"] });
    assert_refused(&server.put(root, &owner.path(), &wider), 403, "scope_escalation");
    child(&server, &owner.text, &["orders:read"]).expect(201);
    server.put(root, &path(&id), &json!({ "allowedScopes": ["products:read"] })).expect(200);
    assert_refused(&child(&server, &owner.text, &["orders:read"]), 403, "scope_escalation");
    assert_refused(&child(&server, &owner.text, &["products:read"]), 403, "scope_escalation");
    across(&["products:read"]).expect(201);
    server.put(root, &path(&id), &json!({ "allowedScopes": null })).expect(200);
    child(&server, &owner.text, &["orders:read"]).expect(201);
    for bad in [json!([]), json!(["order:read"]), json!("orders:read")] {
        server.put(root, &path(&id), &json!({ "allowedScopes": bad })).expect(422);
    }
}

#[test]
fn an_account_with_a_removed_scope_can_be_written_back_as_it_was_read() {
    let mut server = TestServer::start();
    let (id, _) = server.account(&json!({ "name": "A", "allowedScopes": ["orders:read"] }));
    server.restart(|config| config.scopes.retain(|it| it.name != "orders:read"));
    let shown = server.get(&server.root.text, &path(&id)).expect(200).json();
    assert_eq!(shown["allowedScopes"], json!(["orders:read"]));
    let echo = json!({ "name": "B", "allowedScopes": shown["allowedScopes"] });
    assert_eq!(server.put(&server.root.text, &path(&id), &echo).expect(200).json()["name"], "B");
}

#[test]
fn the_key_limit_can_be_raised_and_lowered() {
    let server = TestServer::start();
    let (id, owner) = server.account(&json!({ "name": "Acme", "maxKeys": 1 }));
    let set = |most: Value| {
        server.put(&server.root.text, &path(&id), &json!({ "maxKeys": most })).expect(200);
    };
    assert_refused(&child(&server, &owner.text, &["orders:read"]), 409, "too_many_keys");
    set(json!(2));
    child(&server, &owner.text, &["orders:read"]).expect(201);
    set(json!(1));
    assert_refused(&child(&server, &owner.text, &["orders:read"]), 409, "too_many_keys");
    set(json!(null));
    child(&server, &owner.text, &["orders:read"]).expect(201);
    for bad in [json!(0), json!(-1), json!(1_000_001), json!(1.5), json!("3")] {
        server.put(&server.root.text, &path(&id), &json!({ "maxKeys": bad })).expect(422);
    }
}

#[test]
fn a_change_meant_for_another_revision_of_the_account_is_refused() {
    let server = TestServer::start();
    let root = &server.root.text;
    let made = server.post(root, ACCOUNTS, &json!({ "name": "Acme" })).expect(201);
    let (first, id) =
        (made.header("etag").unwrap(), made.json()["id"].as_str().unwrap().to_owned());
    let send = |method: &str, tag: &str, body: Value| {
        let request = Request::new(method, &path(&id)).key(root).header("If-Match", tag);
        server.send(&request.json(&body))
    };
    let same = send("PUT", first, json!({ "name": "Acme" })).expect(200);
    assert_eq!(same.header("etag"), Some(first), "a change of nothing");
    assert_eq!(server.story_of(&id), ["account.created"]);
    let changed = send("PATCH", first, json!({ "name": "B", "metadata": { "a": 1 } })).expect(200);
    let second = changed.header("etag").unwrap();
    assert_ne!(second, first);
    let weak = format!("W/{second}");
    for stale in [first, &weak] {
        for method in ["PUT", "PATCH", "DELETE"] {
            let body = if method == "DELETE" { json!({}) } else { json!({ "name": "C" }) };
            let answer = send(method, stale, body);
            assert_refused(&answer, 412, "precondition_failed");
        }
    }
    let event = server.events().pop().unwrap();
    let before = json!({ "name": "Acme", "metadata": {} });
    let after = json!({ "name": "B", "metadata": { "a": 1 } });
    assert_eq!(event["data"], json!({ "before": before, "after": after }));
    send("DELETE", second, json!({})).expect(204);
}

#[test]
fn accounts_are_listed_by_age_page_by_page() {
    let server = TestServer::start();
    for name in ["a", "b", "c"] {
        server.account(&json!({ "name": name }));
    }
    let mut names = Vec::new();
    let mut target = format!("{ACCOUNTS}?limit=3");
    loop {
        let page = server.get(&server.root.text, &target).expect(200);
        names.extend(each(&page, "name"));
        let Some(link) = page.header("link") else { break };
        link.trim_start_matches('<').split('>').next().unwrap().clone_into(&mut target);
    }
    assert_eq!(names, ["Operator", "a", "b", "c"]);
}

#[test]
fn accounts_are_found_by_a_part_of_their_name_or_external_identifier() {
    let server = TestServer::start();
    for (name, external_id) in
        [("Jo\u{308}rg & Sons", "cust_41"), ("Acme", "cust_42"), ("ACME 2", "x")]
    {
        server.account(&json!({ "name": name, "externalId": external_id }));
    }
    let find = |query: &str| {
        let list = server.get(&server.root.text, &format!("/api/v1/accounts?{query}")).expect(200);
        each(&list, "externalId")
    };
    for (query, found) in [
        ("q=acme", &["cust_42", "x"][..]),
        ("q=j%C3%B6rg", &["cust_41"]),
        ("q=t_4", &["cust_41", "cust_42"]),
        ("q=T_4", &[]),
        ("q=%25", &[]),
        ("q=acme&externalId=x", &["x"]),
        ("q=acme&externalId=cust_41", &[]),
    ] {
        assert_eq!(find(query), found, "{query}");
    }
    let first = server.get(&server.root.text, "/api/v1/accounts?q=acme&limit=1").expect(200).json();
    assert_eq!(first["data"][0]["externalId"], "cust_42");
    let cursor = first["nextCursor"].as_str().unwrap();
    assert_eq!(find(&format!("q=acme&limit=1&cursor={cursor}")), ["x"]);
    for bad in ["", &"a".repeat(101)] {
        let refused = server.get(&server.root.text, &format!("/api/v1/accounts?q={bad}"));
        assert_eq!(refused.faults(), [("/q".to_owned(), "invalid_format".to_owned())]);
    }
}

#[test]
fn an_external_id_that_looks_like_an_account_id_is_refused() {
    let server = TestServer::start();
    let root = &server.root.text;
    let (first, _) = server.account(&json!({ "name": "A", "externalId": "cust_42" }));
    let (second, _) = server.account(&json!({ "name": "B" }));
    for id in [&*first, "acct_", "acct_7", "self", "all"] {
        let body = json!({ "name": "C", "externalId": id });
        let answers = [
            server.post(root, ACCOUNTS, &body),
            server.send(&Request::new("PATCH", &path(&second)).key(root).json(&body)),
        ];
        for answer in answers {
            let fault = &answer.expect(422).json()["errors"][0];
            assert_eq!(
                (&fault["pointer"], &fault["code"]),
                (&"/externalId".into(), &"like_account_id".into())
            );
        }
    }
    // An account of an earlier version that has one keeps it, and can still be changed.
    let database = Connection::open(server.database()).unwrap();
    let earlier = format!(
        "DROP TRIGGER accounts_change_is_audited;
         UPDATE accounts SET external_id = 'acct_7' WHERE id = '{first}'"
    );
    database.execute_batch(&earlier).unwrap();
    let body = json!({ "name": "D", "externalId": "acct_7" });
    let changed = server.send(&Request::new("PUT", &path(&first)).key(root).json(&body));
    assert_eq!(changed.expect(200).json()["externalId"], "acct_7");
}
