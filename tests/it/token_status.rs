//! The token status list: which tokens it refuses, when, and for how long a place is theirs.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

use serde_json::{Value, json};

use crate::support::{ISSUER, Key, Request, StatusList, TestServer, Token, exchange, issuing};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_mins(1);

fn key(server: &TestServer, manager: &Key) -> Key {
    let scopes = ["orders:read", "orders:write"];
    server.create(&manager.text, &json!({ "name": "x", "scopes": scopes }))
}

fn account_of(key: &Key) -> String {
    format!("/api/v1/accounts/{}", key.body["accountId"].as_str().unwrap())
}

/// Does this to a fresh key, a second after its exchange. Returns whether its token is refused a second
/// later, and whether another token of the account is.
fn after(act: impl FnOnce(&TestServer, &Key, &Key)) -> (bool, bool) {
    let (server, manager) = issuing(|_| ());
    let key = key(&server, &manager);
    let (token, other) = (Token::of(&server, &key.text), Token::of(&server, &manager.text));
    let before = StatusList::fetch(&server);
    assert!(!before.refuses(&token) && !before.refuses(&other));
    server.advance(SECOND);
    act(&server, &manager, &key);
    server.advance(SECOND);
    let list = StatusList::fetch(&server);
    assert!(!list.refuses(&other) || list.refuses(&token));
    (list.refuses(&token), list.refuses(&other))
}

#[test]
fn a_key_that_ends_takes_its_tokens_along() {
    let put = |server: &TestServer, key: &Key, body: Value| {
        server.put(&server.root.text, &key.path(), &body).expect(200);
    };
    assert_eq!(
        after(|server, _, key| _ = server.delete(&server.root.text, &key.path())),
        (true, false)
    );
    assert_eq!(
        after(|server, _, key| put(server, key, json!({ "enabled": false }))),
        (true, false)
    );
    let leaked = after(|server, _, key| {
        let report = json!({ "keys": [key.text] });
        server.send(&Request::new("POST", "/api/v1/leaked-keys").json(&report)).expect(200);
    });
    assert_eq!(leaked, (true, false));
    let at = TestServer::EPOCH.after(2 * SECOND).to_string();
    assert_eq!(after(|server, _, key| put(server, key, json!({ "expiresAt": at }))), (true, false));
    // Nothing of this takes anything from a token.
    let harmless = json!({
        "name": "y", "metadata": { "a": 1 }, "rateLimit": { "limit": 1, "windowSeconds": 60 },
        "scopes": ["orders:read", "orders:write", "products:read"],
    });
    assert_eq!(after(|server, _, key| put(server, key, harmless)), (false, false));
}

#[test]
fn a_rotation_refuses_the_tokens_of_the_old_credential_when_it_ends() {
    let at_once = |server: &TestServer, _: &Key, key: &Key| {
        server.rotate(&server.root.text, &key.id, &json!({ "gracePeriodSeconds": 0 }));
    };
    assert_eq!(after(at_once), (true, false));
    let completed = |server: &TestServer, _: &Key, key: &Key| {
        let new = server.rotate(&server.root.text, &key.id, &json!({ "gracePeriodSeconds": 300 }));
        exchange(server, &new.text, &[]).expect(200);
        let path = format!("{}/rotate/complete", key.path());
        server.send(&Request::new("POST", &path).key(&server.root.text)).expect(200);
    };
    assert_eq!(after(completed), (true, false));

    let (server, manager) = issuing(|_| ());
    let old = key(&server, &manager);
    let first = Token::of(&server, &old.text);
    let new = server.rotate(&manager.text, &old.id, &json!({ "gracePeriodSeconds": 60 }));
    let second = Token::of(&server, &new.text);
    assert_ne!(first.place(), second.place());
    server.advance(59 * SECOND);
    assert!(!first.is_refused(&server), "the old credential is accepted, too");
    server.advance(SECOND);
    let list = StatusList::fetch(&server);
    assert!(list.refuses(&first), "no job has run, and nothing was written");
    assert!(!list.refuses(&second));
}

#[test]
fn an_account_that_is_stopped_stops_its_tokens_and_resumes_them() {
    let set = |body: Value| {
        move |server: &TestServer, manager: &Key, _: &Key| {
            server.put(&server.root.text, &account_of(manager), &body).expect(200);
        }
    };
    assert_eq!(after(set(json!({ "status": "suspended" }))), (true, true));
    assert_eq!(after(set(json!({ "tokenExchange": false }))), (true, true));
    // As for verification, a narrower ceiling takes no scope from a key.
    assert_eq!(after(set(json!({ "allowedScopes": ["products:read"] }))), (false, false));
    let deleted = after(|server, manager, _| {
        server.delete(&server.root.text, &account_of(manager)).expect(204);
    });
    assert_eq!(deleted, (true, true));

    let (server, manager) = issuing(|_| ());
    let key = key(&server, &manager);
    let token = Token::of(&server, &key.text);
    let change = |path: &str, body: Value| {
        server.put(&server.root.text, path, &body).expect(200);
        server.advance(SECOND);
        token.is_refused(&server)
    };
    let account = account_of(&manager);
    assert!(change(&account, json!({ "status": "suspended" })));
    assert!(!change(&account, json!({ "status": "active" })));
    assert!(change(&account, json!({ "tokenExchange": false })));
    assert!(!change(&account, json!({ "tokenExchange": true })));
    assert!(change(&key.path(), json!({ "enabled": false })));
    assert!(!change(&key.path(), json!({ "enabled": true })));
}

#[test]
fn a_key_that_loses_a_scope_or_an_address_loses_its_tokens_for_good() {
    let (server, manager) = issuing(|_| ());
    let key = key(&server, &manager);
    let change = |body: Value| {
        server.put(&server.root.text, &key.path(), &body).expect(200);
        server.advance(SECOND);
    };
    let steps = [
        (
            json!({ "scopes": ["orders:read"] }),
            json!({ "scopes": ["orders:read", "orders:write"] }),
        ),
        (json!({ "allowedIps": ["127.0.0.0/8"] }), json!({ "allowedIps": null })),
    ];
    for (i, (narrower, wider)) in steps.into_iter().enumerate() {
        let before = Token::of(&server, &key.text);
        change(narrower);
        let between = Token::of(&server, &key.text);
        change(wider);
        let after = Token::of(&server, &key.text);
        let list = StatusList::fetch(&server);
        assert!(list.refuses(&before), "step {i}");
        assert!(!list.refuses(&between) && !list.refuses(&after), "step {i}");
        assert_eq!(between.place(), after.place());
    }
    change(json!({ "allowedIps": ["127.0.0.0/8", "10.0.0.0/8"] }));
    let token = Token::of(&server, &key.text);
    change(json!({ "allowedIps": ["127.0.0.1", "10.0.0.0/8"] }));
    assert!(token.is_refused(&server));
    // A scope of keyward's own is in no token.
    server
        .put(&server.root.text, &key.path(), &json!({ "scopes": ["orders:read", "api-keys:read"] }))
        .expect(200);
    let token = Token::of(&server, &key.text);
    change(json!({ "scopes": ["orders:read"] }));
    assert!(!token.is_refused(&server));
}

#[test]
fn a_list_is_made_when_something_changed_and_at_most_once_a_second() {
    let (server, manager) = issuing(|it| it.tokens.status_ttl = 20 * SECOND);
    let token = Token::of(&server, &manager.text);
    let get = || server.send(&Request::new("GET", "/token-status/1")).expect(200);
    let now = TestServer::EPOCH.as_millis() / 1_000;
    let first = get();
    let claims = StatusList::in_answer(&server, &first).claims;
    let lst = claims["status_list"]["lst"].clone();
    let expected = json!({
        "iss": ISSUER, "sub": format!("{ISSUER}/token-status/1"), "iat": now, "exp": now + 320,
        "ttl": 20, "status_list": { "bits": 1, "lst": lst },
    });
    assert_eq!(claims, expected);
    assert_eq!(first.header("cache-control"), Some("public, max-age=20"));
    assert!(first.body.len() < 600, "{}", first.body.len());
    let known = |etag: &str| {
        server.send(&Request::new("GET", "/token-status/1").header("If-None-Match", etag))
    };
    let etag = first.header("etag").unwrap().to_owned();
    let unchanged = known(&etag).expect(304);
    assert_eq!((unchanged.header("etag"), unchanged.body.len()), (Some(&*etag), 0));

    // Nothing changes for half of its life; a cache may keep it for the rest.
    server.advance(9 * SECOND);
    assert_eq!(
        (get().body, get().header("cache-control")),
        (first.body.clone(), Some("public, max-age=11"))
    );
    server.advance(SECOND);
    let second = get();
    assert_ne!(second.body, first.body);
    assert_eq!(second.header("cache-control"), Some("public, max-age=20"));
    known(&etag).expect(200);

    // A change shows a second after the list was made, not earlier.
    server.delete(&server.root.text, &manager.path()).expect(204);
    server.advance(SECOND - Duration::from_millis(1));
    assert_eq!(get().body, second.body);
    server.advance(Duration::from_millis(1));
    assert!(token.is_refused(&server));
    assert_eq!(server.send(&Request::new("HEAD", "/token-status/1")).expect(200).body.len(), 0);
}

#[test]
fn a_gateway_with_an_older_list_accepts_the_first_token_of_a_credential() {
    let (server, manager) = issuing(|_| ());
    let before = StatusList::fetch(&server);
    let tokens: Vec<_> =
        (0..20).map(|_| Token::of(&server, &key(&server, &manager).text)).collect();
    assert!(tokens.iter().all(|it| !before.refuses(it)));
    let places: Vec<_> = tokens.iter().map(Token::place).collect();
    assert_eq!(places, (0..20).collect::<Vec<_>>());
}

#[test]
fn places_survive_a_restart() {
    let (mut server, manager) = issuing(|_| ());
    let (narrowed, kept) = (key(&server, &manager), key(&server, &manager));
    let [narrowed_token, kept_token] = [&narrowed, &kept].map(|it| Token::of(&server, &it.text));
    server
        .put(&server.root.text, &narrowed.path(), &json!({ "scopes": ["orders:read"] }))
        .expect(200);
    server.restart(|_| ());
    let list = StatusList::fetch(&server);
    assert!(list.refuses(&narrowed_token) && !list.refuses(&kept_token));
    assert_eq!(Token::of(&server, &kept.text).place(), kept_token.place());
    assert_eq!(Token::of(&server, &narrowed.text).place(), 2);
    server.delete(&server.root.text, &kept.path()).expect(204);
    server.restart(|_| ());
    assert!(kept_token.is_refused(&server));
}

#[test]
fn a_place_is_given_again_only_when_no_token_and_no_list_remembers_it() {
    let (server, manager) = issuing(|it| it.tokens.lifetime = 15 * MINUTE);
    let old = key(&server, &manager);
    let token = Token::of(&server, &old.text);
    assert_eq!((token.place(), token.ends_at()), (0, TestServer::EPOCH.as_millis() / 1_000 + 900));
    server.delete(&server.root.text, &old.path()).expect(204);
    let next = || {
        server.run_job("tokens");
        let token = Token::of(&server, &key(&server, &manager).text);
        (token.place(), StatusList::fetch(&server))
    };
    let (place, list) = next();
    assert_eq!((place, list.refuses(&token)), (1, true));
    // All tokens with the place have ended, even for a gateway whose clock is 5 minutes late, and if the
    // clock went back by up to 10 minutes.
    server.advance(30 * MINUTE - SECOND);
    assert!(next().1.refuses(&token));
    server.advance(2 * SECOND);
    let (place, list) = next();
    assert_eq!((place, list.refuses(&token)), (3, false), "it rests");
    server.advance(30 * MINUTE - 2 * SECOND);
    assert_eq!(next().0, 4);
    server.advance(2 * SECOND);
    assert_eq!(next().0, 0, "the lowest free place");
    assert_eq!(next().0, 5);
}

#[test]
fn while_the_clock_is_in_doubt_no_refused_token_becomes_good() {
    let (server, manager) = issuing(|_| ());
    let key = key(&server, &manager);
    let token = Token::of(&server, &key.text);
    server.put(&server.root.text, &key.path(), &json!({ "scopes": ["orders:read"] })).expect(200);
    server.advance(SECOND);
    assert!(token.is_refused(&server));
    server.clock.step_wall(2 * 3_600_000);
    server.advance(MINUTE);
    assert!(token.is_refused(&server), "the wall clock leapt ahead; gateways may know better");
    server.run_job("tokens");
    assert_eq!(Token::of(&server, &self::key(&server, &manager).text).place(), 1);
}

#[test]
fn a_key_is_in_no_token_and_a_token_in_no_log() {
    let (server, manager) = issuing(|_| ());
    let key = key(&server, &manager);
    let answer = exchange(&server, &key.text, &[]).expect(200);
    let token = answer.json()["access_token"].as_str().unwrap().to_owned();
    assert!(!answer.text().contains(&key.text[..12]));
    server.run_job("upkeep");
    let file = fs::read(server.database()).unwrap();
    let signature = token.rsplit('.').next().unwrap().as_bytes();
    assert!(!file.windows(signature.len()).any(|it| it == signature));
}

#[test]
fn requests_that_wait_for_a_list_hold_no_thread() {
    // More than the threads of the server that may block.
    const WAITING: usize = 80;
    let (server, manager) = issuing(|_| ());
    let turn = server.app.take_list_turn().expect("no list is made");
    let ask = |_| {
        let mut stream = TcpStream::connect(server.address).unwrap();
        let request = "GET /token-status/1 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        stream.write_all(request.as_bytes()).unwrap();
        stream
    };
    let waiting: Vec<_> = (0..WAITING).map(ask).collect();
    for _ in 0..3 {
        // A change needs such a thread.
        server.put(&manager.text, &manager.path(), &json!({ "name": "y" })).expect(200);
    }
    assert!(server.app.take_list_turn().is_none());
    drop(turn);
    for mut stream in waiting {
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }
    assert!(server.app.take_list_turn().is_some());
    assert_eq!(server.app.status_lists().0, 1, "one of them made the list for all");
}
