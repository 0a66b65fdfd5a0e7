//! Links to the console: a key of an account that ends soon, but makes keys that live on.

mod told;

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Request, Response, TestServer};

const MINUTE: Duration = Duration::from_mins(1);
const KEYS: &str = "/api/v1/api-keys";
const SELF: &str = "/api/v1/api-keys/self";
const ROTATE: &str = "/api/v1/api-keys/self/rotate";

/// A link as its holder has it.
struct Link {
    body: Value,
    id: String,
    key: String,
}

impl Link {
    #[track_caller]
    fn of(body: Value) -> Self {
        let url = body["url"].as_str().expect("a URL");
        let (address, key) = url.split_once("#key=").expect("a key in the fragment");
        assert!(address.ends_with("/console/"), "{url}");
        let (id, key) = (body["apiKey"]["id"].as_str().unwrap().to_owned(), key.to_owned());
        Self { body, id, key }
    }
}

fn path(account: &str) -> String {
    format!("/api/v1/accounts/{account}/console-links")
}

fn ask(server: &TestServer, caller: &str, account: &str, body: &Value) -> Response {
    server.post(caller, &path(account), body)
}

#[track_caller]
fn link(server: &TestServer, account: &str, body: &Value) -> Link {
    Link::of(ask(server, &server.root.text, account, body).expect(201).json())
}

#[track_caller]
fn assert_refused(answer: &Response, status: u16, code: &str) {
    assert_eq!((answer.status, &*answer.problem()), (status, code), "{}", answer.text());
}

#[track_caller]
fn assert_fault(answer: &Response, pointer: &str, code: &str) {
    assert_eq!(answer.status, 422, "{}", answer.text());
    assert_eq!(answer.faults(), [(pointer.to_owned(), code.to_owned())]);
}

/// Rotates the presented key as the page does, and returns the new text.
#[track_caller]
fn rotated(server: &TestServer, key: &str) -> String {
    let answer = server.post(key, ROTATE, &json!({ "gracePeriodSeconds": 0 })).expect(200);
    answer.json()["key"].as_str().unwrap().to_owned()
}

fn instant(millis: i64) -> String {
    keyward::env::Timestamp::from_millis(millis).to_string()
}

fn epoch_plus(by: Duration) -> String {
    instant(TestServer::EPOCH.as_millis() + i64::try_from(by.as_millis()).unwrap())
}

#[test]
fn a_link_holds_a_key_of_the_account_that_expires_to_the_millisecond() {
    let server = TestServer::start();
    let (account, _) = server.account(&json!({ "name": "Acme" }));
    let answer = server
        .send(
            &Request::new("POST", &path(&account))
                .key(&server.root.text)
                .header("Host", "k.example"),
        )
        .expect(201);
    let made = Link::of(answer.json());
    assert!(made.body["url"].as_str().unwrap().starts_with("http://k.example/console/#key=rg_"));
    assert_eq!(answer.header("location"), Some(&*format!("{KEYS}/{}", made.id)));
    let end = epoch_plus(15 * MINUTE);
    assert_eq!(made.body["expiresAt"], end);
    let key = &made.body["apiKey"];
    assert!(key.get("key").is_none(), "the full key is in the URL only");
    assert_eq!((&key["name"], &key["accountId"]), (&json!("Console link"), &json!(account)));
    assert_eq!((&key["consoleLink"], &key["expiresAt"]), (&json!(true), &json!(end)));
    // What the first key of the account has, and the right to rotate itself.
    for scope in
        ["api-keys:read", "api-keys:write", "api-keys:rotate", "events:read", "orders:read"]
    {
        assert!(key["scopes"].as_array().unwrap().contains(&json!(scope)), "{key}");
    }
    assert_eq!(server.get(&made.key, SELF).expect(200).json()["id"], made.id);
    // The limits of what the operator may choose.
    for (seconds, lifetime) in [(60, MINUTE), (86_400, 24 * 60 * MINUTE)] {
        let made = link(&server, &account, &json!({ "expiresIn": seconds, "name": "Ticket 7" }));
        assert_eq!(made.body["expiresAt"], epoch_plus(lifetime));
        assert_eq!(made.body["apiKey"]["name"], "Ticket 7");
    }
    for seconds in [0, 59, 86_401] {
        let answer = ask(&server, &server.root.text, &account, &json!({ "expiresIn": seconds }));
        assert_fault(&answer, "/expiresIn", "out_of_range");
    }
    server.advance(15 * MINUTE - Duration::from_millis(1));
    server.get(&made.key, SELF).expect(200);
    server.advance(Duration::from_millis(1));
    assert_refused(&server.get(&made.key, SELF), 401, "key_expired");
}

#[test]
fn the_page_rotates_the_link_at_once_so_that_it_works_for_one_browser() {
    let mut server = TestServer::start();
    let (account, first) = server.account(&json!({ "name": "Acme" }));
    let made = link(&server, &account, &json!({}));
    // No grace period: a second browser would have it, too.
    for grace in [1, 60, 300] {
        let answer = server.post(&made.key, ROTATE, &json!({ "gracePeriodSeconds": grace }));
        assert_fault(&answer, "/gracePeriodSeconds", "out_of_range");
    }
    let browser = rotated(&server, &made.key);
    assert_refused(&server.get(&made.key, SELF), 401, "key_rotated");
    assert_refused(&server.post(&made.key, ROTATE, &json!({})), 401, "key_rotated");
    let shown = server.get(&browser, SELF).expect(200).json();
    assert_eq!((&shown["id"], &shown["previousKeys"]), (&json!(made.id), &json!([])));
    assert_eq!(shown["expiresAt"], epoch_plus(15 * MINUTE), "a rotation does not move the end");
    server.restart(|_| ());
    let third = server.post(&browser, ROTATE, &json!({})).expect(200).json();
    assert_refused(&server.get(&browser, SELF), 401, "key_rotated");
    assert_refused(&server.get(&made.key, SELF), 401, "key_rotated");
    let browser = third["key"].as_str().unwrap();
    server.get(browser, SELF).expect(200);
    // Other keys still need a grace period to rotate themselves.
    let answer = server.post(&first.text, ROTATE, &json!({ "gracePeriodSeconds": 0 }));
    assert_fault(&answer, "/gracePeriodSeconds", "grace_required");
    // The customer ends the session.
    server.delete(browser, SELF).expect(204);
    assert_refused(&server.get(browser, SELF), 401, "key_revoked");
}

#[test]
fn the_holder_manages_keys_that_live_longer_than_the_link() {
    let server = TestServer::start();
    let body = json!({ "name": "Acme", "maxKeyLifetimeSeconds": 86_400 });
    let (account, first) = server.account(&body);
    let made = link(&server, &account, &json!({}));
    let browser = rotated(&server, &made.key);
    let day = epoch_plus(24 * 60 * MINUTE);
    let new = |end: Value| json!({ "name": "shop", "scopes": ["orders:read"], "expiresAt": end });
    let key = server.create(&browser, &new(json!(day)));
    assert_eq!((&key.body["expiresAt"], &key.body["consoleLink"]), (&json!(day), &json!(false)));
    assert_eq!(key.body["createdBy"], made.id);
    // The account's own maximum holds.
    for end in [json!(epoch_plus(24 * 60 * MINUTE + MINUTE)), Value::Null] {
        assert_fault(&server.post(&browser, KEYS, &new(end)), "/expiresAt", "expires_too_late");
    }
    let inherited = server.create(&browser, &json!({ "name": "x", "scopes": ["orders:read"] }));
    assert_eq!(inherited.body["expiresAt"], day, "the default of the account, not the link's end");
    // It extends, enables, rotates and revokes keys that outlive it.
    server.put(&browser, &key.path(), &json!({ "enabled": false })).expect(200);
    server.put(&browser, &key.path(), &json!({ "enabled": true })).expect(200);
    server.put(&browser, &key.path(), &json!({ "expiresAt": epoch_plus(MINUTE) })).expect(200);
    server.put(&browser, &key.path(), &json!({ "expiresAt": day })).expect(200);
    server.rotate(&browser, &key.id, &json!({}));
    server.rotate(&browser, &first.id, &json!({}));
    server.delete(&browser, &key.path()).expect(204);
    // The keys work after the link has ended.
    server.advance(16 * MINUTE);
    assert_refused(&server.get(&browser, SELF), 401, "key_expired");
    assert_eq!(server.code(&inherited.text), "VALID");
    // In an account without a maximum, a key need not expire.
    let (other, _) = server.account(&json!({ "name": "Other" }));
    let made = link(&server, &other, &json!({}));
    let key = server.create(&made.key, &new(Value::Null));
    assert_eq!(key.body["expiresAt"], Value::Null);
}

#[test]
fn a_link_is_limited_to_its_scopes_and_its_account() {
    let server = TestServer::start();
    let (account, _) = server.account(&json!({ "name": "A", "allowedScopes": ["orders:read"] }));
    let (_, stranger) = server.account(&json!({ "name": "B" }));
    // The account's own limit holds for the default and for chosen scopes.
    let made = link(&server, &account, &json!({}));
    let scopes = made.body["apiKey"]["scopes"].as_array().unwrap();
    assert!(scopes.contains(&json!("orders:read")) && !scopes.contains(&json!("orders:write")));
    for scope in ["orders:write", "accounts:read", "api-keys:verify"] {
        let body = json!({ "scopes": ["api-keys:read", scope] });
        let answer = ask(&server, &server.root.text, &account, &body);
        assert_refused(&answer, 403, "scope_escalation");
    }
    let answer = ask(&server, &server.root.text, &account, &json!({ "scopes": ["orders:raed"] }));
    assert_fault(&answer, "/scopes/0", "unknown_scope");
    // A link to read only.
    let reader = link(&server, &account, &json!({ "scopes": ["api-keys:read"] }));
    assert_eq!(reader.body["apiKey"]["scopes"], json!(["api-keys:read", "api-keys:rotate"]));
    let reader = rotated(&server, &reader.key);
    server.get(&reader, KEYS).expect(200);
    let new = |scope: &str| json!({ "name": "x", "scopes": [scope] });
    assert_refused(&server.post(&reader, KEYS, &new("orders:read")), 403, "missing_scope");
    let browser = rotated(&server, &made.key);
    assert_refused(&server.post(&browser, KEYS, &new("products:read")), 403, "scope_escalation");
    // Another account's keys do not exist for it, and it makes no other link.
    assert_refused(&server.get(&browser, &stranger.path()), 404, "not_found");
    assert_refused(&server.delete(&browser, &stranger.path()), 404, "not_found");
    for account in [&*account, "self"] {
        assert_refused(&ask(&server, &browser, account, &json!({})), 403, "missing_scope");
    }
    assert_refused(&server.get(&browser, "/api/v1/accounts"), 403, "missing_scope");
}

/// Otherwise a key of the account that expires could take over a link, and so make keys that outlive it.
#[test]
fn no_other_key_changes_or_rotates_a_link() {
    let server = TestServer::start();
    let (account, first) = server.account(&json!({ "name": "Acme" }));
    let made = link(&server, &account, &json!({}));
    let key = format!("{KEYS}/{}", made.id);
    let browser = rotated(&server, &made.key);
    for caller in [&first.text, &server.root.text, &browser] {
        for body in
            [json!({ "expiresAt": null }), json!({ "name": "x" }), json!({ "enabled": false })]
        {
            assert_refused(&server.put(caller, &key, &body), 409, "console_link");
        }
    }
    for caller in [&first.text, &server.root.text] {
        for grace in [0, 300] {
            let body = json!({ "gracePeriodSeconds": grace });
            let answer = server.post(caller, &format!("{key}/rotate"), &body);
            assert_refused(&answer, 409, "console_link");
        }
    }
    // By its identifier, it rotates itself.
    let answer = server.post(&browser, &format!("{key}/rotate"), &json!({})).expect(200).json();
    let browser = answer["key"].as_str().unwrap();
    server.get(browser, SELF).expect(200);
    // Others may end it.
    server.delete(&first.text, &key).expect(204);
    assert_refused(&server.get(browser, SELF), 401, "key_revoked");
}

#[test]
fn a_link_gives_no_later_end_than_the_key_that_made_it() {
    let server = TestServer::start();
    let (account, _) = server.account(&json!({ "name": "Acme" }));
    let body = json!({ "name": "alice", "scopes": ["accounts:write"], "expiresIn": 600 });
    let alice = server.create(&server.root.text, &body);
    let end = epoch_plus(10 * MINUTE);
    let made = Link::of(ask(&server, &alice.text, &account, &json!({})).expect(201).json());
    assert_eq!(made.body["expiresAt"], end);
    let mut browser = rotated(&server, &made.key);
    let new = |end: &Value| json!({ "name": "x", "scopes": ["orders:read"], "expiresAt": end });
    for wanted in [json!(epoch_plus(11 * MINUTE)), Value::Null] {
        let answer = server.post(&browser, KEYS, &new(&wanted));
        assert_fault(&answer, "/expiresAt", "expires_after_caller");
        browser = rotated(&server, &browser);
    }
    let key = server.create(&browser, &json!({ "name": "x", "scopes": ["orders:read"] }));
    assert_eq!(key.body["expiresAt"], end);
    // A link of a shorter life, by the same key, still gives the end of that key.
    let body = json!({ "expiresIn": 60 });
    let made = Link::of(ask(&server, &alice.text, &account, &body).expect(201).json());
    server.create(&made.key, &new(&json!(end)));
}

/// A link that gives more than its caller must not reach it in a roundabout way.
#[test]
fn a_caller_that_expires_gets_no_link_that_gives_more_than_itself() {
    let server = TestServer::start();
    let (account, _) = server.account(&json!({ "name": "Acme" }));
    let all = json!({ "name": "On call", "scopes": ["*"] });
    let caller = server.create(&server.root.text, &all);
    let repeated = || {
        let request = Request::new("POST", &path(&account)).key(&caller.text);
        server.send(&request.header("Idempotency-Key", "first"))
    };
    repeated().expect(201);
    let caller_path = format!("{KEYS}/{}", caller.id);
    server.put(&server.root.text, &caller_path, &json!({ "expiresIn": 3600 })).expect(200);
    assert_fault(&repeated(), "", "expires_after_caller");
    // A suspended account that has such a link, and no other key.
    let address = format!("/api/v1/accounts/{account}");
    let keys = server.get(&server.root.text, &format!("{address}/api-keys")).expect(200).json();
    for key in keys["data"].as_array().unwrap() {
        if key["consoleLink"] != true {
            let id = key["id"].as_str().unwrap();
            server.delete(&server.root.text, &format!("{KEYS}/{id}")).expect(204);
        }
    }
    server.put(&server.root.text, &address, &json!({ "status": "suspended" })).expect(200);
    let woken = server.put(&caller.text, &address, &json!({ "status": "active" }));
    assert_fault(&woken, "/status", "expires_after_caller");
    // The link has ended; the caller has not.
    server.advance(30 * MINUTE);
    server.put(&caller.text, &address, &json!({ "status": "active" })).expect(200);
}

#[test]
fn some_accounts_get_no_link() {
    let server = TestServer::start();
    let (account, _) = server.account(&json!({ "name": "Acme" }));
    let operator = server.get(&server.root.text, "/api/v1/accounts/self").expect(200).json();
    for id in ["self", operator["id"].as_str().unwrap()] {
        assert_refused(&ask(&server, &server.root.text, id, &json!({})), 409, "operator_account");
    }
    for id in ["acct_01KYq8Zt3mV5xW7aBcDeFg", "x"] {
        assert_refused(&ask(&server, &server.root.text, id, &json!({})), 404, "not_found");
    }
    let reader = server.key(&["accounts:read", "api-keys:write"]);
    assert_refused(&ask(&server, &reader.text, &account, &json!({})), 403, "missing_scope");
    // The keys of a suspended account are refused, and so are its links.
    let address = format!("/api/v1/accounts/{account}");
    let made = link(&server, &account, &json!({}));
    server.put(&server.root.text, &address, &json!({ "status": "suspended" })).expect(200);
    let later = link(&server, &account, &json!({}));
    for key in [&made.key, &later.key] {
        assert_refused(&server.get(key, SELF), 401, "account_suspended");
    }
    server.put(&server.root.text, &address, &json!({ "status": "active" })).expect(200);
    for key in [&made.key, &later.key] {
        server.get(key, SELF).expect(200);
    }
    server.delete(&server.root.text, &address).expect(204);
    assert_refused(&server.get(&made.key, SELF), 401, "key_revoked");
    assert_refused(&ask(&server, &server.root.text, &account, &json!({})), 404, "not_found");
    let server = TestServer::with(|config| config.console = false);
    let (account, _) = server.account(&json!({ "name": "Acme" }));
    assert_refused(&ask(&server, &server.root.text, &account, &json!({})), 409, "no_console");
}

#[test]
fn links_use_up_no_keys_of_the_account_and_are_purged_after_a_day() {
    let server = TestServer::start();
    let (account, first) = server.account(&json!({ "name": "Acme", "maxKeys": 2 }));
    for _ in 0..25 {
        link(&server, &account, &json!({}));
    }
    let new = json!({ "name": "x", "scopes": ["orders:read"] });
    let key = server.create(&first.text, &new);
    assert_refused(&server.post(&first.text, KEYS, &new), 409, "too_many_keys");
    // The holder of a full account needs a link to make room.
    let made = link(&server, &account, &json!({}));
    server.advance(16 * MINUTE);
    let listed = || {
        let list = server.get(&first.text, KEYS).expect(200).json();
        list["data"].as_array().unwrap().clone()
    };
    let links = listed().iter().filter(|it| it["consoleLink"] == true).count();
    assert_eq!(links, 26);
    // The account may store 20 ended keys. Ended links do not count.
    server.delete(&first.text, &key.path()).expect(204);
    server.create(&first.text, &new);
    server.advance(23 * 60 * MINUTE);
    assert_eq!(server.run_job("purge"), 0);
    assert_refused(&server.get(&made.key, SELF), 401, "key_expired");
    server.advance(60 * MINUTE);
    server.run_job("purge");
    assert_refused(&server.get(&made.key, SELF), 401, "invalid_key");
    assert_eq!(listed().len(), 2);
    assert_eq!(server.code(&first.text), "VALID");
}
