//! Address lists: a key with a list is accepted from nowhere else.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Key, Request, TestServer};

const VERIFY: &str = "/api/v1/api-keys/verify";
/// The clients of the tests: the proxy in between is trusted.
const INSIDE: &str = "203.0.113.7";
const OUTSIDE: &str = "203.0.114.0";

fn listed(server: &TestServer, caller: &str, networks: &[&str], scopes: &[&str]) -> Key {
    let body = json!({ "name": "k", "scopes": scopes, "allowedIps": networks });
    server.create(caller, &body)
}

fn code(server: &TestServer, key: &Key, client: Option<&str>) -> String {
    let mut question = json!({ "key": key.text });
    if let Some(client) = client {
        question["clientIp"] = json!(client);
    }
    let answer = server.post(&server.root.text, VERIFY, &question).expect(200).json();
    answer["code"].as_str().unwrap().to_owned()
}

fn from(client: &str, request: Request) -> Request {
    request.header("X-Forwarded-For", client)
}

#[test]
fn a_key_is_accepted_from_the_addresses_on_its_list_alone() {
    let server = TestServer::start();
    let networks = ["203.0.113.64/26", "2001:db8::/126", "198.51.100.7"];
    let key = listed(&server, &server.root.text, &networks, &["orders:read"]);
    let shown = json!(["203.0.113.64/26", "2001:db8::/126", "198.51.100.7/32"]);
    assert_eq!(key.body["allowedIps"], shown);
    for (client, expected) in [
        (None, "IP_NOT_ALLOWED"),
        (Some("203.0.113.63"), "IP_NOT_ALLOWED"),
        (Some("203.0.113.64"), "VALID"),
        (Some("203.0.113.127"), "VALID"),
        (Some("203.0.113.128"), "IP_NOT_ALLOWED"),
        (Some("::ffff:203.0.113.64"), "VALID"),
        (Some("::ffff:203.0.113.63"), "IP_NOT_ALLOWED"),
        (Some("2001:db8::3"), "VALID"),
        (Some("2001:db8::4"), "IP_NOT_ALLOWED"),
        (Some("198.51.100.7"), "VALID"),
        (Some("198.51.100.8"), "IP_NOT_ALLOWED"),
    ] {
        assert_eq!(code(&server, &key, client), expected, "{client:?}");
    }
    for client in [json!("x"), json!(""), json!("203.0.113.64/32"), Value::Null, json!(1)] {
        let question = json!({ "key": key.text, "clientIp": client });
        let faults = server.post(&server.root.text, VERIFY, &question).expect(422).faults();
        assert_eq!(faults[0].0, "/clientIp", "{client}");
    }
    server.put(&server.root.text, &key.path(), &json!({ "allowedIps": null })).expect(200);
    assert_eq!(code(&server, &key, None), "VALID");
}

#[test]
fn an_address_is_judged_after_the_expiry_and_before_the_scopes() {
    let server = TestServer::start();
    let body = json!({
        "name": "k", "scopes": ["orders:read"], "allowedIps": [INSIDE],
        "rateLimit": { "limit": 1, "windowSeconds": 60 }, "expiresAt": "2026-01-02T00:00:00Z",
    });
    let key = server.create(&server.root.text, &body);
    let ask = |client: &str, scope: &str| {
        let question = json!({ "key": key.text, "clientIp": client, "scopes": [scope] });
        let answer = server.post(&server.root.text, VERIFY, &question).expect(200).json();
        answer["code"].as_str().unwrap().to_owned()
    };
    assert_eq!(ask(OUTSIDE, "orders:write"), "IP_NOT_ALLOWED");
    assert_eq!(ask(OUTSIDE, "orders:read"), "IP_NOT_ALLOWED");
    assert_eq!(ask(INSIDE, "orders:write"), "INSUFFICIENT_SCOPES");
    assert_eq!(ask(INSIDE, "orders:read"), "VALID", "nothing was used before");
    assert_eq!(ask(OUTSIDE, "orders:read"), "IP_NOT_ALLOWED");
    assert_eq!(ask(INSIDE, "orders:read"), "RATE_LIMITED");
    let path = format!("{}/usage?days=1", key.path());
    let day = server.get(&server.root.text, &path).expect(200).json()["data"][0].clone();
    assert_eq!(day["denied"]["ipNotAllowed"], 3);
    server.advance(Duration::from_hours(24));
    assert_eq!(ask(OUTSIDE, "orders:read"), "EXPIRED");
}

#[test]
fn forward_auth_refuses_with_403_and_believes_only_trusted_proxies() {
    let server = TestServer::start();
    let key = listed(&server, &server.root.text, &["203.0.113.0/24"], &["orders:read"]);
    for target in ["/authz", "/authz/nginx", "/authz/forward", "/authz/envoy/x"] {
        let ask = || Request::new("GET", target).key(&key.text);
        server.send(&from(INSIDE, ask())).expect(200);
        // The last hop is what the trusted proxy saw.
        server.send(&from(&format!("{OUTSIDE}, {INSIDE}"), ask())).expect(200);
        for request in [
            ask(),
            from(OUTSIDE, ask()),
            from(&format!("{INSIDE}, {OUTSIDE}"), ask()),
            from(&format!("{INSIDE}, unknown"), ask()),
            from("", ask()),
        ] {
            let refused = server.send(&request).expect(403);
            assert_eq!(refused.header("x-keyward-reason"), Some("ip_not_allowed"), "{request:?}");
        }
    }
}

#[test]
fn the_api_itself_refuses_a_key_from_elsewhere() {
    let server = TestServer::start();
    let scopes = ["api-keys:read", "api-keys:write", "api-keys:verify", "events:read"];
    let key = listed(&server, &server.root.text, &[INSIDE], &scopes);
    let list = || Request::new("GET", "/api/v1/api-keys").key(&key.text);
    let ask = || Request::new("POST", VERIFY).key(&key.text).json(&json!({ "key": "x" }));
    for _ in 0..2 {
        server.send(&from(INSIDE, list())).expect(200);
        server.send(&from(INSIDE, ask())).expect(200);
        for request in [list(), ask()] {
            for request in [request.clone(), from(OUTSIDE, request)] {
                assert_eq!(server.send(&request).expect(403).problem(), "ip_not_allowed");
            }
        }
    }
    server.run_job("record_denials");
    let denied = server.events().into_iter().rfind(|it| it["type"] == "auth.denied").unwrap();
    assert!(denied["data"].to_string().contains("ip_not_allowed"), "{denied}");
    let change = json!({ "allowedIps": [OUTSIDE] });
    server.put(&server.root.text, &key.path(), &change).expect(200);
    server.send(&from(INSIDE, list())).expect(403);
    server.send(&from(OUTSIDE, list())).expect(200);
}

#[test]
fn a_caller_with_a_list_gives_no_wider_one() {
    let server = TestServer::start();
    let root = &server.root.text;
    let scopes = ["orders:read", "api-keys:read", "api-keys:write"];
    let caller = listed(&server, root, &["203.0.113.0/24"], &scopes);
    let send = |method: &str, path: &str, body: &Value| {
        let request = Request::new(method, path).key(&caller.text).json(body);
        server.send(&from(INSIDE, request))
    };
    let create = |networks: Option<Value>| {
        let mut body = json!({ "name": "k", "scopes": ["orders:read"] });
        if let Some(networks) = networks {
            body["allowedIps"] = networks;
        }
        send("POST", "/api/v1/api-keys", &body)
    };
    let child = create(None).expect(201).json();
    assert_eq!(child["allowedIps"], json!(["203.0.113.0/24"]), "left out: that of the caller");
    create(Some(json!(["203.0.113.0/25", "203.0.113.255"]))).expect(201);
    for wider in [json!(["203.0.112.0/23"]), json!(["203.0.113.0/24", "::/0"]), Value::Null] {
        let faults = create(Some(wider.clone())).expect(422).faults();
        let expected = [("/allowedIps".to_owned(), "outside_caller_addresses".to_owned())];
        assert_eq!(faults, expected, "{wider}");
        for id in [child["id"].as_str().unwrap(), "self"] {
            let change = json!({ "allowedIps": wider });
            let path = format!("/api/v1/api-keys/{id}");
            assert_eq!(send("PUT", &path, &change).expect(422).faults(), expected, "{id} {wider}");
        }
    }
    // A key that is accepted from elsewhere gains nothing from this caller.
    let free = server.create(
        root,
        &json!({
            "name": "free", "scopes": ["orders:read"], "enabled": false,
            "expiresAt": "2026-02-01T00:00:00Z",
        }),
    );
    for (method, tail, body, pointer) in [
        ("PUT", "", json!({ "enabled": true }), "/enabled"),
        ("PUT", "", json!({ "expiresAt": null }), "/expiresAt"),
        ("PUT", "", json!({ "scopes": ["orders:read", "api-keys:read"] }), "/scopes"),
        ("POST", "/rotate", json!({}), ""),
    ] {
        let answer = send(method, &format!("{}{tail}", free.path()), &body).expect(422);
        let expected = [(pointer.to_owned(), "outside_caller_addresses".to_owned())];
        assert_eq!(answer.faults(), expected, "{body}");
    }
    send("PUT", &free.path(), &json!({ "name": "renamed" })).expect(200);
    let narrowed = json!({ "allowedIps": [INSIDE], "enabled": true });
    send("PUT", &free.path(), &narrowed).expect(200);
    send("POST", &format!("{}/rotate", free.path()), &json!({})).expect(200);
    send("POST", "/api/v1/api-keys/self/rotate", &json!({})).expect(200);
}

#[test]
fn an_operator_with_a_list_hands_it_to_new_accounts_and_wakes_no_wider_key() {
    let server = TestServer::start();
    let root = &server.root.text;
    let scopes = ["accounts:read", "accounts:write"];
    let caller = listed(&server, root, &[INSIDE], &scopes);
    let send = |method: &str, path: &str, body: &Value| {
        let request = Request::new(method, path).key(&caller.text).json(body);
        server.send(&from(INSIDE, request))
    };
    let made = send("POST", "/api/v1/accounts", &json!({ "name": "A" })).expect(201).json();
    assert_eq!(made["apiKey"]["allowedIps"], json!([format!("{INSIDE}/32")]));
    let path = format!("/api/v1/accounts/{}", made["id"].as_str().unwrap());
    for status in ["suspended", "active", "suspended"] {
        send("PUT", &path, &json!({ "status": status })).expect(200);
    }
    let key = format!("/api/v1/api-keys/{}", made["apiKey"]["id"].as_str().unwrap());
    server.put(root, &key, &json!({ "allowedIps": null })).expect(200);
    let faults = send("PUT", &path, &json!({ "status": "active" })).expect(422).faults();
    assert_eq!(faults, [("/status".to_owned(), "outside_caller_addresses".to_owned())]);
}

#[test]
fn a_list_that_cannot_be_is_refused_with_all_its_faults() {
    let server = TestServer::start();
    let fifty: Vec<_> = (0..50).map(|it| format!("10.0.0.{it}")).collect();
    let more = [&*fifty, &["10.0.1.0".to_owned()]].concat();
    let body =
        |networks: Value| json!({ "name": "k", "scopes": ["orders:read"], "allowedIps": networks });
    server.create(&server.root.text, &body(json!(fifty)));
    for (networks, pointers) in [
        (json!([]), vec![""]),
        (json!(more), vec![""]),
        (json!(["10.0.0.1/8", "10.0.0.0/8", "x", 1, "::/129"]), vec!["/0", "/2", "/3", "/4"]),
        (json!("10.0.0.0/8"), vec![""]),
    ] {
        let answer = server.post(&server.root.text, "/api/v1/api-keys", &body(networks.clone()));
        let found: Vec<_> = answer.expect(422).faults().into_iter().map(|it| it.0).collect();
        let expected: Vec<_> = pointers.iter().map(|it| format!("/allowedIps{it}")).collect();
        assert_eq!(found, expected, "{networks}");
    }
}
