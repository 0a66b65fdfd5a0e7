//! Forward auth: which keys pass, and what the API behind the proxy learns about them.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{
    Key, Request, TestServer,
    authz::{IDENTITY, ask, assert_refused, decided, guarded, questions, sample},
    forged, form, issuing,
};

#[test]
fn the_api_behind_the_proxy_learns_whose_key_it_was() {
    let server = TestServer::start();
    let customer = json!({ "name": "Acme", "externalId": "-" });
    let (account, first) = server.account(&customer);
    let key = server.create(
        &first.text,
        &json!({ "name": "Büro, 100 %", "scopes": ["products:read", "orders:read"] }),
    );
    let told = server.send(&Request::new("GET", "/authz").key(&key.text)).expect(200);
    let values = IDENTITY.map(|it| told.header(it).unwrap_or_default().to_owned());
    assert_eq!(
        values,
        [
            key.id.as_str(),
            "B%C3%BCro,%20100%20%25",
            &account,
            "%2D",
            "orders:read products:read",
            "-"
        ]
    );
    let root = server.send(&Request::new("GET", "/authz").key(&server.root.text)).expect(200);
    assert_eq!(root.header("x-keyward-external-id"), Some("-"));
    assert_eq!(root.header("x-keyward-scopes"), Some("*"));
    assert!(root.header("deprecation").is_none() && root.header("sunset").is_none());
}

#[test]
fn the_key_may_come_as_a_bearer_token_and_never_twice() {
    let server = TestServer::start();
    let (key, other) = (server.key(&["orders:read"]), server.key(&["orders:read"]));
    let bearer = |text: &str| Request::new("GET", "/authz").header("Authorization", text);
    assert_eq!(ask(&server, &bearer(&format!("Bearer {}", key.text))).0, 200);
    // A token of the API itself is ignored, so the request has no key.
    assert_refused(ask(&server, &bearer("Bearer eyJhbGciOi.x.y")), 401, "missing_key");
    assert_refused(ask(&server, &bearer("Basic dXNlcjpwdw==")), 401, "missing_key");
    assert_eq!(ask(&server, &bearer("Bearer eyJhbGciOi.x.y").key(&key.text)).0, 200);
    let two = bearer(&format!("Bearer {}", other.text)).key(&key.text);
    assert_refused(ask(&server, &two), 401, "conflicting_keys");
    let twice = Request::new("GET", "/authz").key(&key.text).key(&key.text);
    assert_refused(ask(&server, &twice), 401, "duplicate_header");
    for request in questions("GET", &format!("/orders?api_key={}", key.text)) {
        assert_refused(ask(&server, &request.key(&key.text)), 401, "key_in_query");
    }
}

#[test]
fn an_empty_header_is_read_in_the_same_way_everywhere() {
    let (server, key) = issuing(|_| ());
    let grant = ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange");
    let get = |target: &str| Request::new("GET", target);
    let mut entrances = questions("GET", "/orders").to_vec();
    entrances.extend(
        ["/authz", "/api/v1/api-keys", "/api/v1/api-keys/self", "/api/v1/events/stream"].map(get),
    );
    entrances.push(get("/metrics").header("X-Forwarded-For", "203.0.113.9"));
    let question = json!({ "key": key.text });
    entrances.push(Request::new("POST", "/api/v1/api-keys/verify").json(&question));
    entrances.push(Request::new("DELETE", "/api/v1/api-keys/self"));
    entrances.push(form(&[grant]));
    for entrance in entrances {
        for (name, value, expected) in [
            ("X-API-Key", "", "invalid_key"),
            ("X-API-Key", "  ", "invalid_key"),
            ("Authorization", "", "missing_key"),
            ("Authorization", "Bearer", "missing_key"),
            ("Authorization", "Bearer  ", "missing_key"),
            ("X-Other", "", "missing_key"),
        ] {
            let request = entrance.clone().header(name, value);
            let answer = server.send(&request);
            // Tokens are refused in the form of OAuth, and nginx gets no body.
            let reason = answer.header("x-keyward-reason").map(str::to_owned);
            let code = || answer.json()["code"].as_str().unwrap().to_owned();
            assert_eq!(reason.unwrap_or_else(code), expected, "{request:?}");
            assert!(matches!(answer.status, 400 | 401), "{request:?}: {answer:?}");
        }
    }
}

#[test]
fn a_key_that_is_not_valid_is_refused_with_the_reason() {
    let server = guarded();
    let body = |name: &str| json!({ "name": name, "scopes": ["orders:read"] });
    let root = server.root.text.clone();
    let expiring = server.create(
        &root,
        &json!({ "name": "e", "scopes": ["orders:read"], "expiresAt": "2026-01-01T00:01:00Z" }),
    );
    let disabled = server.create(&root, &body("d"));
    let revoked = server.create(&root, &body("r"));
    let old = server.create(&root, &body("o"));
    let (account, suspended) = server.account(&json!({ "name": "Acme" }));
    for key in [&expiring, &disabled, &revoked, &old] {
        assert_eq!(decided(&server, "GET", "/orders", Some(key)).0, 200);
    }
    server.put(&root, &disabled.path(), &json!({ "enabled": false })).expect(200);
    server.delete(&root, &revoked.path()).expect(204);
    server.rotate(&root, &old.id, &json!({ "gracePeriodSeconds": 30 }));
    server
        .put(&root, &format!("/api/v1/accounts/{account}"), &json!({ "status": "suspended" }))
        .expect(200);
    server.advance(Duration::from_mins(1));
    let unknown = Key { text: forged("rg_"), ..old.clone() };
    let malformed = Key { text: "hello".to_owned(), ..old.clone() };
    for (key, reason) in [
        (&expiring, "key_expired"),
        (&disabled, "key_disabled"),
        (&revoked, "key_revoked"),
        (&old, "key_rotated"),
        (&suspended, "account_suspended"),
        (&unknown, "invalid_key"),
        (&malformed, "invalid_key"),
    ] {
        assert_refused(decided(&server, "GET", "/orders", Some(key)), 401, reason);
    }
}

#[test]
fn an_earlier_credential_in_grace_passes_and_the_answer_says_until_when() {
    let mut server = TestServer::start();
    let key = server.key(&["orders:read"]);
    server.rotate(&server.root.text.clone(), &key.id, &json!({ "gracePeriodSeconds": 300 }));
    for _ in 0..2 {
        let told = server.send(&Request::new("GET", "/authz").key(&key.text)).expect(200);
        assert_eq!(told.header("deprecation"), Some("@1767225600"));
        assert_eq!(told.header("sunset"), Some("Thu, 01 Jan 2026 00:05:00 GMT"));
        server.restart(|_| ());
    }
}

#[test]
fn a_preflight_passes_without_a_key_if_the_operator_allows_it() {
    let preflight = |it: Request| {
        it.header("Origin", "https://shop.example").header("Access-Control-Request-Method", "POST")
    };
    let asked = |server: &TestServer, method: &str, target: &str| {
        questions(method, target).map(|it| ask(server, &preflight(it)).1)
    };
    let strict = guarded();
    assert_eq!(asked(&strict, "OPTIONS", "/orders"), ["no_route"; 3]);
    let server = TestServer::with(|it| {
        it.authz.policy_file = Some(sample());
        it.authz.allow_preflight = true;
    });
    assert_eq!(asked(&server, "OPTIONS", "/orders"), [""; 3]);
    assert_eq!(asked(&server, "OPTIONS", "/orders/../x"), ["ambiguous_path"; 3]);
    assert_eq!(asked(&server, "POST", "/orders"), ["missing_key"; 3]);
    assert_refused(decided(&server, "OPTIONS", "/orders", None), 403, "no_route");
    let [nginx, ..] =
        questions("OPTIONS", "/orders").map(|it| preflight(it).key(&server.root.text));
    assert_refused(ask(&server, &nginx), 403, "no_route");
}

#[test]
fn an_event_has_the_address_of_the_client_and_not_of_the_proxy() {
    let server = TestServer::start();
    let key = server.key(&["orders:read"]);
    server.rotate(&server.root.text.clone(), &key.id, &json!({ "gracePeriodSeconds": 0 }));
    let question = Request::new("GET", "/authz")
        .key(&key.text)
        .header("X-Forwarded-For", "10.9.9.9, 198.51.100.7");
    assert_refused(ask(&server, &question), 401, "key_rotated");
    // The server may record this only after the answer.
    let deadline = Instant::now() + Duration::from_secs(30);
    let event = loop {
        let retired = |it: &Value| it["type"] == "api_key.retired_key_used";
        if let Some(event) = server.events().into_iter().find(retired) {
            break event;
        }
        assert!(Instant::now() < deadline, "the use of a retired credential was not recorded");
        std::thread::yield_now();
    };
    assert_eq!(event["clientIp"], "198.51.100.7", "{event}");
    // The events of the API have the same address.
    let create = Request::new("POST", "/api/v1/api-keys")
        .key(&server.root.text)
        .header("X-Forwarded-For", "198.51.100.8")
        .json(&json!({ "name": "x", "scopes": ["orders:read"] }));
    server.send(&create).expect(201);
    let newest = server.events().pop().expect("an event");
    assert_eq!(newest["clientIp"], "198.51.100.8", "{newest}");
    // A client that comes through a proxy on this machine does not count as local.
    let metrics = Request::new("GET", "/metrics").header("X-Forwarded-For", "198.51.100.8");
    server.send(&metrics).expect(401);
    let distrustful = TestServer::with(|it| it.trusted_proxies.clear());
    distrustful.send(&metrics).expect(200);
}
