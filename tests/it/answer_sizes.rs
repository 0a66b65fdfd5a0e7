//! The size of a refusal: a request of at most 64 KiB never makes a greater problem document, and its
//! faults are limited in number.

use std::fmt::Write;

use serde_json::{Value, json};

use crate::support::{Request, Response, TestServer, exchange, form, issuing};

const MOST: usize = 64 * 1024;
/// The most faults in an answer: 100, and one that says that there are more.
const MOST_FAULTS: usize = 101;
/// A text that just fits into a target or a body.
const LONG: usize = 60_000;

/// Returns parameters with different names, together about `LONG` bytes long.
fn names(name: impl Fn(usize) -> String) -> String {
    let mut all = String::new();
    for i in 0.. {
        let next = name(i);
        if LONG < all.len() + next.len() {
            break;
        }
        let _ = write!(all, "{next}&");
    }
    all
}

/// Returns an array with as many of these items as a body can hold.
fn array(item: impl Fn(usize) -> Value) -> Value {
    let (mut items, mut len) = (Vec::new(), 0);
    for i in 0.. {
        let next = item(i);
        len += next.to_string().len() + 1;
        if LONG < len {
            break;
        }
        items.push(next);
    }
    items.into()
}

/// Returns queries that have a fault for each of many parameters, or very long names and values.
fn queries() -> Vec<String> {
    vec![
        "a&".repeat(LONG / 2),
        names(|i| i.to_string()),
        names(|i| format!("{i}{}", "%01".repeat(99))),
        names(|i| format!("{i}{}", "%F0%9F%94%91".repeat(99))),
        names(|i| format!("{i}=%FF")),
        "a".repeat(LONG),
        format!("limit={}", "9".repeat(LONG)),
        format!("cursor={}&status={0}&scope={0}&after={0}", "%01".repeat(LONG / 20)),
    ]
}

/// Returns bodies with a fault for each of many members or items, or very long texts.
fn bodies() -> Vec<Value> {
    let long = "\u{1}".repeat(LONG / 6);
    let unknown: serde_json::Map<_, _> = (0..7_000).map(|i| (i.to_string(), Value::Null)).collect();
    let controls: serde_json::Map<_, _> =
        (0..95).map(|i| (format!("{i}{}", "\u{1}".repeat(100)), json!(1))).collect();
    let mut all = vec![
        unknown.clone().into(),
        controls.into(),
        json!({ "rateLimit": unknown.clone(), "keyRateLimit": 1 }),
        json!({ "metadata": unknown }),
        json!({ "a".repeat(LONG): 1 }),
    ];
    for name in ["scopes", "anyScopes", "allowedScopes", "allowedIps", "keys"] {
        for items in [
            array(|_| json!("a")),
            array(|_| json!(0)),
            array(|i| json!(format!("{i}{}", "\u{1}".repeat(64)))),
            array(|i| json!(format!("order{i}:read"))),
            json!([long, long]),
        ] {
            all.push(json!({ name: items }));
        }
    }
    for name in ["name", "externalId", "expiresAt", "status", "clientIp", "key", "location"] {
        all.push(json!({ name: long }));
    }
    all
}

/// Asserts that a refusal is short. Returns the number of its faults.
#[track_caller]
fn assert_short(answer: &Response, why: &str) -> usize {
    let faults = answer.json()["errors"].as_array().map_or(0, Vec::len);
    let start: String = why.chars().take(80).collect();
    assert!(answer.body.len() <= MOST, "{}: {} bytes", start, answer.body.len());
    assert!(faults <= MOST_FAULTS, "{start}: {faults} faults");
    if faults == MOST_FAULTS {
        assert_eq!(answer.faults()[100], (String::new(), "too_many_faults".to_owned()), "{start}");
    }
    faults
}

#[test]
fn a_query_with_many_faults_has_a_short_answer() {
    let server = TestServer::start();
    let mut most = 0;
    for path in ["/livez", "/api/v1/api-keys", "/api/v1/events", "/api/v1/accounts"] {
        for query in queries() {
            let target = format!("{path}?{query}");
            let answer = server.get(&server.root.text, &target).expect(422);
            most = most.max(assert_short(&answer, &target));
            let answer = server.send(&Request::new("GET", &target));
            assert!(matches!(answer.status, 401 | 422), "{}", answer.status);
            assert_short(&answer, &target);
        }
    }
    assert_eq!(most, MOST_FAULTS);
}

#[test]
fn a_body_with_many_faults_has_a_short_answer() {
    let (server, _) = issuing(|_| ());
    let (account, _) = server.account(&json!({ "name": "x" }));
    let key = server.key(&["orders:read"]);
    let account = format!("/api/v1/accounts/{account}");
    let mut most = 0;
    for (method, path) in [
        ("POST", "/api/v1/api-keys"),
        ("PUT", &key.path()),
        ("POST", &format!("{}/rotate", key.path())),
        ("POST", "/api/v1/api-keys/verify"),
        ("POST", "/api/v1/accounts"),
        ("PUT", &account),
        ("POST", &format!("{account}/console-links")),
        ("POST", "/api/v1/leaked-keys"),
    ] {
        for body in bodies() {
            let request = Request::new(method, path).key(&server.root.text).json(&body);
            let answer = server.send(&request);
            assert!(answer.status < 500, "{path}: {}", answer.text());
            most = most.max(assert_short(&answer, &format!("{method} {path} {body}")));
        }
    }
    assert_eq!(most, MOST_FAULTS);
}

#[test]
fn a_long_text_is_not_repeated() {
    let (server, key) = issuing(|_| ());
    let long = "x".repeat(LONG);
    for (name, value) in
        [("scope", &long), ("audience", &long), ("resource", &long), ("grant_type", &long)]
    {
        let answer = match name {
            "grant_type" => server.send(&form(&[(name, value)])),
            _ => exchange(&server, &key.text, &[(name, value)]),
        };
        let answer = answer.expect(400);
        assert!(answer.body.len() < 1_000, "{name}: {} bytes", answer.body.len());
    }
    let marks = "%01".repeat(LONG / 3);
    for target in [
        format!("/authz?scope={long}"),
        format!("/authz?scope={marks}"),
        format!("/authz/forward?scope={long}"),
        format!("/authz?{long}=1"),
        format!("/authz?{}", names(|i| i.to_string())),
        format!("/api/v1/api-keys/{long}"),
        format!("/api/v1/{long}"),
    ] {
        let answer = server.get(&key.text, &target);
        assert!((400..500).contains(&answer.status), "{}", answer.status);
        assert!(answer.body.len() < 1_000, "{}: {} bytes", &target[..30], answer.body.len());
    }
    for name in ["If-Match", "Idempotency-Key", "Last-Event-ID", "X-Request-Id"] {
        let request = Request::new("PUT", &key.path()).header(name, &long).key(&key.text);
        let answer = server.send(&request.json(&json!({})));
        assert!(answer.body.len() < 2_000, "{name}: {} bytes", answer.body.len());
    }
}
