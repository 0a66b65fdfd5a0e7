//! The exchange of keys for tokens: RFC 8693 and RFC 9068, and every refusal.

use std::{net::IpAddr, time::Duration};

use keyward::{domain::policy::RequiredScopes, service::Error};
use serde_json::{Value, json};

use crate::support::{ISSUER, Key, Request, Response, TestServer, Token, exchange, form, issuing};

const GRANT: (&str, &str) = ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange");
const OWN_TYPE: (&str, &str) =
    ("subject_token_type", "urn:keyward:params:oauth:token-type:api-key");
const NOW: i64 = TestServer::EPOCH.as_millis() / 1_000;

/// Returns the status, `error` and `code` of a refusal, after a check of its form.
#[track_caller]
fn refusal(answer: &Response) -> (u16, String, String) {
    let body = answer.json();
    let members: Vec<_> = body.as_object().unwrap().keys().collect();
    assert_eq!(members, ["error", "error_description", "code", "requestId"], "{body}");
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    assert_eq!(answer.header("x-request-id"), body["requestId"].as_str());
    let described = body["error_description"].as_str().unwrap();
    let is_allowed = |it: u8| (0x20..0x7F).contains(&it) && it != b'"' && it != b'\\';
    assert!(!described.is_empty() && described.bytes().all(is_allowed), "{described}");
    let text = |name: &str| body[name].as_str().unwrap().to_owned();
    (answer.status, text("error"), text("code"))
}

#[track_caller]
fn assert_refused(answer: &Response, error: &str, code: &str) {
    assert_eq!(refusal(answer), (400, error.to_owned(), code.to_owned()));
}

/// Makes a key of the account with these scopes.
fn key(server: &TestServer, manager: &Key, body: &Value) -> Key {
    let mut all = json!({ "name": "x", "scopes": ["orders:read"] });
    all.as_object_mut().unwrap().extend(body.as_object().unwrap().clone());
    server.create(&manager.text, &all)
}

#[test]
fn a_key_becomes_a_token_that_says_what_the_key_may() {
    let (server, manager) = issuing(|_| ());
    let key = key(&server, &manager, &json!({ "scopes": ["orders:read", "orders:write"] }));
    let answer = exchange(&server, &key.text, &[]).expect(200);
    let body = answer.json();
    let members: Vec<_> = body.as_object().unwrap().keys().collect();
    assert_eq!(members, ["access_token", "issued_token_type", "token_type", "expires_in", "scope"]);
    assert_eq!(body["issued_token_type"], "urn:ietf:params:oauth:token-type:access_token");
    assert_eq!(body["token_type"], "Bearer");
    assert_eq!(body["expires_in"], 300);
    assert_eq!(body["scope"], "orders:read orders:write");
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));

    let Token { header, claims } = Token::in_answer(&server, &answer);
    let kid = &header["kid"];
    assert_eq!(header, json!({ "alg": "EdDSA", "typ": "at+jwt", "kid": kid }));
    let jti = claims["jti"].as_str().unwrap();
    assert_eq!(jti.len(), 22);
    let expected = json!({
        "iss": ISSUER,
        "sub": key.body["accountId"],
        "aud": ISSUER,
        "client_id": key.id,
        "scope": "orders:read orders:write",
        "iat": NOW,
        "exp": NOW + 300,
        "jti": jti,
        "status": { "status_list": { "idx": 0, "uri": format!("{ISSUER}/token-status/1") } },
    });
    assert_eq!(claims, expected);
    let again = Token::of(&server, &key.text);
    assert_ne!(again.claims["jti"], jti);
    assert_eq!(again.place(), 0, "the tokens of a credential share a place");
    // The exchange is a use of the key.
    server.run_job("flush_usage");
    let shown = server.get(&manager.text, &key.path()).expect(200).json();
    assert_eq!(shown["lastUsedAt"], TestServer::EPOCH.to_string());
}

#[test]
fn the_key_may_be_in_a_header_and_in_one_place_only() {
    let (server, manager) = issuing(|_| ());
    let bearer = format!("Bearer {}", manager.text);
    for (name, value) in [("X-API-Key", &manager.text), ("Authorization", &bearer)] {
        server.send(&form(&[GRANT]).header(name, value)).expect(200);
        let both = [GRANT, OWN_TYPE, ("subject_token", &manager.text)];
        server.send(&form(&both).header(name, value)).expect(200);
    }
    let other = key(&server, &manager, &json!({}));
    let both = [GRANT, OWN_TYPE, ("subject_token", &other.text)];
    let answer = server.send(&form(&both).key(&manager.text));
    assert_refused(&answer, "invalid_request", "conflicting_keys");
    let answer = server.send(
        &form(&[GRANT])
            .key(&manager.text)
            .header("Authorization", &format!("Bearer {}", other.text)),
    );
    assert_refused(&answer, "invalid_request", "conflicting_keys");
    assert_refused(&server.send(&form(&[GRANT])), "invalid_request", "missing_key");
    let foreign = server.send(&form(&[GRANT]).header("Authorization", "Basic eDp5"));
    assert_refused(&foreign, "invalid_request", "missing_key");
}

#[test]
fn the_form_is_read_as_oauth_says() {
    let (server, manager) = issuing(|_| ());
    let ask = |more: &[(&str, &str)]| exchange(&server, &manager.text, more);
    let names: Vec<_> = (0..17).map(|it| format!("audience-{it}")).collect();
    let many: Vec<_> = names.iter().map(|it| ("audience", &**it)).collect();
    assert_refused(&ask(&many), "invalid_request", "invalid_request");
    assert_refused(&ask(&many[..16]), "invalid_target", "unknown_audience");
    for (more, error, code) in [
        (("grant_type", "x"), "invalid_request", "duplicate"),
        (("scope", "x"), "invalid_scope", "unknown_scope"),
        (("scope", " "), "invalid_scope", "unknown_scope"),
        (("scope", "api-keys:write"), "invalid_scope", "unknown_scope"),
        (("scope", "*"), "invalid_scope", "unknown_scope"),
        (("audience", "https://other.example"), "invalid_target", "unknown_audience"),
        (("resource", "https://other.example"), "invalid_target", "unknown_audience"),
        (("requested_token_type", "x"), "invalid_request", "invalid_request"),
        (("actor_token", "x"), "invalid_request", "invalid_request"),
    ] {
        assert_refused(&ask(&[more]), error, code);
    }
    let says = ask(&[("scope", "  ")]).json()["error_description"].to_string();
    assert!(says.contains("scope` is blank; leave it out"), "{says}");
    // Unknown parameters and those without a value are ignored (RFC 6749, 3.2).
    ask(&[("client_id", "x"), ("zzz", "1"), ("scope", ""), ("scope", "")]).expect(200);
    let jwt = "urn:ietf:params:oauth:token-type:jwt";
    let answer = ask(&[("requested_token_type", jwt)]).expect(200).json();
    assert_eq!(
        (&answer["issued_token_type"], &answer["token_type"]),
        (&json!(jwt), &json!("Bearer"))
    );
    let subject = ("subject_token", &*manager.text);
    for (members, error, code) in [
        (vec![subject, OWN_TYPE], "invalid_request", "invalid_request"),
        (
            vec![("grant_type", "password"), subject, OWN_TYPE],
            "unsupported_grant_type",
            "unsupported_grant_type",
        ),
        (vec![GRANT, subject], "invalid_request", "invalid_request"),
        (vec![GRANT, subject, ("subject_token_type", jwt)], "invalid_request", "invalid_request"),
        (vec![GRANT, subject, subject, OWN_TYPE], "invalid_request", "duplicate"),
    ] {
        assert_refused(&server.send(&form(&members)), error, code);
    }
    let standard = "urn:ietf:params:oauth:token-type:access_token";
    server.send(&form(&[GRANT, subject, ("subject_token_type", standard)])).expect(200);
    let json = Request::new("POST", "/api/v1/token").json(&json!({ "grant_type": GRANT.1 }));
    let expected = (415, "invalid_request".to_owned(), "unsupported_media_type".to_owned());
    assert_eq!(refusal(&server.send(&json)), expected);
    let query = Request::new("POST", "/api/v1/token?zzz=1")
        .header("Content-Type", "application/x-www-form-urlencoded")
        .body("grant_type=x");
    assert_refused(&server.send(&query), "invalid_request", "unknown_parameter");
    server.get(&manager.text, "/api/v1/token").expect(405);
}

#[test]
fn a_token_has_the_audience_that_was_asked_for() {
    let audiences = ["https://api.example.com", "billing"];
    let (server, manager) =
        issuing(|it| it.tokens.audiences = audiences.map(str::to_owned).to_vec());
    let aud = |more: &[(&str, &str)]| {
        let answer = exchange(&server, &manager.text, more).expect(200);
        Token::in_answer(&server, &answer).claims["aud"].clone()
    };
    assert_eq!(aud(&[]), audiences[0]);
    assert_eq!(aud(&[("audience", "billing")]), "billing");
    assert_eq!(aud(&[("resource", audiences[0]), ("audience", audiences[0])]), audiences[0]);
    let both = json!(["billing", audiences[0]]);
    assert_eq!(aud(&[("resource", audiences[0]), ("audience", "billing")]), both);
    let answer = exchange(&server, &manager.text, &[("audience", ISSUER)]);
    assert_refused(&answer, "invalid_target", "unknown_audience");
}

#[test]
fn a_token_holds_a_subset_of_the_scopes_of_the_api_and_no_other() {
    let (server, manager) = issuing(|_| ());
    let scope = |key: &str, wanted: &str| {
        let more = if wanted.is_empty() { vec![] } else { vec![("scope", wanted)] };
        exchange(&server, key, &more)
    };
    let key = key(
        &server,
        &manager,
        &json!({ "scopes": ["orders:read", "orders:write", "api-keys:read"] }),
    );
    let got = |answer: Response| answer.expect(200).json()["scope"].clone();
    assert_eq!(got(scope(&key.text, "")), "orders:read orders:write");
    assert_eq!(got(scope(&key.text, "orders:write")), "orders:write");
    assert_eq!(got(scope(&key.text, "orders:write orders:read")), "orders:read orders:write");
    assert_refused(&scope(&key.text, "products:read"), "invalid_scope", "missing_scope");
    let bare = server.create(&manager.text, &json!({ "name": "x", "scopes": ["api-keys:read"] }));
    assert_refused(&scope(&bare.text, ""), "invalid_scope", "no_token_scope");
    // The root key holds everything; its token holds only what the protected API knows.
    let own = server.get(&server.root.text, "/api/v1/accounts/self").expect(200).json();
    let path = format!("/api/v1/accounts/{}", own["id"].as_str().unwrap());
    server.put(&server.root.text, &path, &json!({ "tokenExchange": true })).expect(200);
    let all = got(scope(&server.root.text, ""));
    assert_eq!(all.as_str().unwrap().split(' ').count(), 9, "{all}");
    assert_eq!(got(scope(&server.root.text, "webhooks:write")), "webhooks:write");
}

#[test]
fn a_token_never_outlives_its_key_or_the_grace_of_its_credential() {
    let (server, manager) = issuing(|_| ());
    let in_secs = |secs: u64| TestServer::EPOCH.after(Duration::from_secs(secs)).to_string();
    let brief = key(&server, &manager, &json!({ "expiresAt": in_secs(90) }));
    assert_eq!(Token::of(&server, &brief.text).ends_at(), NOW + 90);
    let long = key(&server, &manager, &json!({ "expiresAt": in_secs(3600) }));
    assert_eq!(Token::of(&server, &long.text).ends_at(), NOW + 300);
    let ending = TestServer::EPOCH.after(Duration::from_millis(100_999)).to_string();
    let ending = key(&server, &manager, &json!({ "expiresAt": ending }));
    let new = server.rotate(&manager.text, &long.id, &json!({ "gracePeriodSeconds": 100 }));
    assert_eq!(Token::of(&server, &long.text).ends_at(), NOW + 100);
    assert_eq!(Token::of(&server, &new.text).ends_at(), NOW + 300);
    // Half seconds are cut on the side of the earlier end.
    server.advance(Duration::from_millis(89_500));
    let answer = exchange(&server, &brief.text, &[]).expect(200).json();
    assert_eq!(answer["expires_in"], 1);
    server.advance(Duration::from_millis(500));
    assert_refused(&exchange(&server, &brief.text, &[]), "invalid_request", "key_expired");
    server.advance(Duration::from_secs(10));
    assert_refused(&exchange(&server, &long.text, &[]), "invalid_request", "key_rotated");
    // Its token would have no second.
    assert_refused(&exchange(&server, &ending.text, &[]), "invalid_request", "key_expired");
    assert_eq!(server.verify(&ending.text, &[])["valid"], true);
}

#[test]
fn every_verdict_of_verification_refuses_the_exchange() {
    let (server, manager) = issuing(|_| ());
    let made = |body: Value| key(&server, &manager, &body);
    let ask = |it: &Key| exchange(&server, &it.text, &[]);
    for text in ["absent", "rg_8fK2mQ9zTabcdefghijklmnopqrstuvwxyz0123453bAXzK"] {
        assert_refused(&exchange(&server, text, &[]), "invalid_request", "invalid_key");
    }
    let revoked = made(json!({}));
    server.delete(&manager.text, &revoked.path()).expect(204);
    assert_refused(&ask(&revoked), "invalid_request", "key_revoked");
    let disabled = made(json!({ "enabled": false }));
    assert_refused(&ask(&disabled), "invalid_request", "key_disabled");
    let elsewhere = made(json!({ "allowedIps": ["203.0.113.0/24"] }));
    assert_refused(&ask(&elsewhere), "invalid_request", "ip_not_allowed");
    let limited = made(json!({ "rateLimit": { "limit": 1, "windowSeconds": 60 } }));
    let first = ask(&limited).expect(200);
    assert_eq!(first.header("ratelimit"), Some("\"key\";r=0;t=60"));
    let second = ask(&limited);
    let expected = (429, "temporarily_unavailable".to_owned(), "rate_limited".to_owned());
    assert_eq!(refusal(&second), expected);
    assert_eq!(second.header("retry-after"), Some("60"));
    assert_eq!(second.header("ratelimit"), Some("\"key\";r=0;t=60"));
    let account = format!("/api/v1/accounts/{}", limited.body["accountId"].as_str().unwrap());
    server.put(&server.root.text, &account, &json!({ "status": "suspended" })).expect(200);
    assert_refused(&ask(&manager), "invalid_request", "account_suspended");
}

#[test]
fn only_the_operator_allows_the_exchange_and_a_refused_one_is_no_use() {
    let server = TestServer::with(|it| it.public_url = Some(ISSUER.to_owned()));
    let (id, manager) = server.account(&json!({ "name": "shop" }));
    let limited =
        key(&server, &manager, &json!({ "rateLimit": { "limit": 1, "windowSeconds": 60 } }));
    for _ in 0..2 {
        let answer = exchange(&server, &limited.text, &[]);
        assert_refused(&answer, "unauthorized_client", "token_exchange_off");
    }
    let path = format!("/api/v1/accounts/{id}");
    let own = server.get(&manager.text, "/api/v1/accounts/self").expect(200).json();
    assert_eq!(own["tokenExchange"], false);
    server
        .put(&manager.text, "/api/v1/accounts/self", &json!({ "tokenExchange": true }))
        .expect(403);
    for (bad, code) in [(json!(null), "not_nullable"), (json!("on"), "invalid_type")] {
        let answer =
            server.put(&server.root.text, &path, &json!({ "tokenExchange": bad })).expect(422);
        assert_eq!(answer.faults(), [("/tokenExchange".to_owned(), code.to_owned())]);
    }
    let on = server.put(&server.root.text, &path, &json!({ "tokenExchange": true })).expect(200);
    assert_eq!(on.json()["tokenExchange"], true);
    let events = server.events();
    let changed = &events.iter().rfind(|it| it["type"] == "account.updated").unwrap()["data"];
    assert_eq!(changed["before"], json!({ "tokenExchange": false }));
    assert_eq!(changed["after"], json!({ "tokenExchange": true }));
    // The refused exchanges used nothing of the rate limit.
    exchange(&server, &limited.text, &[]).expect(200);
}

#[test]
fn an_exchange_for_no_scope_is_no_use_of_the_key() {
    let (server, manager) = issuing(|_| ());
    let limit = json!({ "limit": 1, "windowSeconds": 60 });
    let bare = key(&server, &manager, &json!({ "scopes": ["api-keys:read"], "rateLimit": limit }));
    for _ in 0..3 {
        assert_refused(&exchange(&server, &bare.text, &[]), "invalid_scope", "no_token_scope");
    }
    server.run_job("flush_usage");
    let shown = server.get(&manager.text, &bare.path()).expect(200).json();
    assert_eq!(shown["lastUsedAt"], Value::Null);
    assert_eq!(server.verify(&bare.text, &[])["code"], "VALID", "its rate limit is unused");
}

#[test]
fn an_exchange_uses_the_scopes_of_its_token() {
    let (server, manager) = issuing(|_| ());
    let scopes = ["orders:read", "orders:write", "api-keys:read"];
    let key = key(&server, &manager, &json!({ "scopes": scopes }));
    let unused = || {
        let shown = server.get(&manager.text, &key.path()).expect(200).json();
        shown["unusedScopes"].clone()
    };
    exchange(&server, &key.text, &[("scope", "orders:write")]).expect(200);
    assert_eq!(unused(), json!(["orders:read", "api-keys:read"]));
    exchange(&server, &key.text, &[]).expect(200);
    assert_eq!(unused(), json!(["api-keys:read"]));
    server.run_job("flush_usage");
    let path = "/api/v1/api-keys?unusedScopes=true";
    let listed = server.get(&manager.text, path).expect(200).json()["data"].clone();
    let found = listed.as_array().unwrap().iter().find(|it| it["id"] == key.id).unwrap();
    assert_eq!(found["unusedScopes"], json!(["api-keys:read"]));
}

#[test]
fn an_address_list_that_becomes_narrower_during_an_exchange_refuses_it() {
    let (server, manager) = issuing(|_| ());
    let (app, here) = (&server.app, Some(IpAddr::from([127, 0, 0, 1])));
    exchange(&server, &manager.text, &[]).expect(200);
    let identity = app.identify(manager.text.as_bytes());
    let found = app.judge(&identity, RequiredScopes::default());
    let terms = app.token_terms(None, Vec::new()).unwrap();
    app.issue_token(&found, &terms, here).unwrap();
    let change = |list: Value| {
        server.put(&server.root.text, &manager.path(), &json!({ "allowedIps": list })).expect(200);
    };
    change(json!(["203.0.113.0/24"]));
    let refused = app.issue_token(&found, &terms, here).unwrap_err();
    assert!(matches!(refused, Error::AddressNotAllowed), "{refused:?}");
    assert!(app.issue_token(&found, &terms, None).is_err(), "an unknown address is on no list");
    change(json!(["127.0.0.1"]));
    app.issue_token(&found, &terms, here).unwrap();
}

#[test]
fn refused_exchanges_are_denied_calls_in_the_log() {
    let (server, manager) = issuing(|_| ());
    let (_, other) = server.account(&json!({ "name": "Other" }));
    let revoked = key(&server, &manager, &json!({}));
    server.delete(&manager.text, &revoked.path()).expect(204);
    let stranger = "rg_8fK2mQ9zTabcdefghijklmnopqrstuvwxyz0123453bAXzK";
    for _ in 0..3 {
        exchange(&server, stranger, &[]).expect(400);
        exchange(&server, &other.text, &[]).expect(400);
    }
    exchange(&server, &revoked.text, &[]).expect(400);
    server.send(&form(&[GRANT])).expect(400);
    server.send(&form(&[GRANT]).key(&other.text)).expect(400);
    // These are faults of the request, or accepted.
    exchange(&server, &manager.text, &[("scope", "x")]).expect(400);
    exchange(&server, &manager.text, &[("audience", "x")]).expect(400);
    exchange(&server, &manager.text, &[]).expect(200);
    server.run_job("record_denials");
    server.advance(Duration::from_hours(1));
    server.run_job("record_denials");
    let events = server.events();
    let denied = events.iter().filter(|it| it["type"] == "auth.denied");
    let mut counts = std::collections::BTreeMap::new();
    for it in denied {
        let reason = it["data"]["reason"].as_str().unwrap();
        let group = (reason, it["subject"].as_str().unwrap());
        *counts.entry(group).or_insert(0) += it["data"]["count"].as_u64().unwrap();
    }
    let expected = [
        (("invalid_key", "keyward"), 3),
        (("key_revoked", &*revoked.id), 1),
        (("missing_key", "keyward"), 1),
        (("token_exchange_off", &*other.id), 4),
    ];
    assert_eq!(counts, expected.into());
}
