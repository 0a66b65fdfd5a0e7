//! Rate limits: exact to the request and to the millisecond, shared by all ways in.

use std::{thread, time::Duration};

use keyward::{domain::policy::RequiredScopes, domain::verdict::Verdict, service::Identity};
use serde_json::{Value, json};

use crate::support::{Key, Request, TestServer};

const MS: Duration = Duration::from_millis(1);
const VERIFY: &str = "/api/v1/api-keys/verify";

fn limited(server: &TestServer, limit: u32, window: u32) -> Key {
    let rate = json!({ "limit": limit, "windowSeconds": window });
    let body = json!({ "name": "k", "scopes": ["orders:read"], "rateLimit": rate });
    let key = server.create(&server.root.text, &body);
    assert_eq!(key.body["rateLimit"], rate);
    key
}

fn with_cost(server: &TestServer, key: &Key, cost: u32) -> Value {
    let question = json!({ "key": key.text, "cost": cost });
    server.post(&server.root.text, VERIFY, &question).expect(200).json()
}

/// The codes of `count` questions.
fn codes(server: &TestServer, key: &Key, count: usize) -> Vec<String> {
    (0..count).map(|_| server.code(&key.text)).collect()
}

fn remaining(server: &TestServer, key: &Key) -> Value {
    with_cost(server, key, 0)["rateLimit"]["remaining"].clone()
}

fn proxy_asks(server: &TestServer, key: &Key) -> crate::support::Response {
    server.send(&Request::new("GET", "/authz?scope=orders:read").key(&key.text))
}

#[test]
fn a_window_grants_its_limit_and_ends_at_the_millisecond() {
    let server = TestServer::start();
    let key = limited(&server, 3, 60);
    server.advance(Duration::from_secs(17));
    let first = server.verify(&key.text, &["orders:read"]);
    let reset = "2026-01-01T00:01:00.000Z";
    assert_eq!(first["rateLimit"], json!({ "limit": 3, "remaining": 2, "resetAt": reset }));
    assert_eq!(codes(&server, &key, 3), ["VALID", "VALID", "RATE_LIMITED"]);
    server.advance(Duration::from_secs(43) - MS);
    let refused = server.verify(&key.text, &[]);
    assert_eq!((&refused["valid"], &refused["code"]), (&json!(false), &json!("RATE_LIMITED")));
    assert_eq!(refused["rateLimit"], json!({ "limit": 3, "remaining": 0, "resetAt": reset }));
    assert_eq!(refused["keyId"], key.id);
    server.advance(MS);
    assert_eq!(server.code(&key.text), "VALID");
    assert_eq!(remaining(&server, &key), 2);
}

#[test]
fn an_ambiguous_request_is_refused_and_uses_nothing() {
    let server = TestServer::start();
    let key = limited(&server, 3, 60);
    let twice = Request::new("GET", "/authz").key(&key.text).key(&key.text);
    let refused = server.send(&twice).expect(401);
    assert_eq!(refused.header("x-keyward-reason"), Some("duplicate_header"));
    assert_eq!(remaining(&server, &key), 3);
}

#[test]
fn verify_and_forward_auth_share_one_limit() {
    let server = TestServer::start();
    let key = limited(&server, 2, 60);
    server.advance(Duration::from_secs(10) + MS);
    let passed = proxy_asks(&server, &key).expect(200);
    assert_eq!(passed.header("ratelimit-policy"), Some("\"key\";q=2;w=60"));
    assert_eq!(passed.header("ratelimit"), Some("\"key\";r=1;t=50"));
    assert_eq!(codes(&server, &key, 2), ["VALID", "RATE_LIMITED"]);
    for target in ["/authz", "/authz/nginx", "/authz/forward", "/authz/envoy/x"] {
        let refused = server.send(&Request::new("GET", target).key(&key.text)).expect(429);
        assert_eq!(refused.header("x-keyward-reason"), Some("rate_limited"));
        assert_eq!(refused.header("retry-after"), Some("50"), "rounded up");
        assert_eq!(refused.header("ratelimit-policy"), Some("\"key\";q=2;w=60"));
        assert_eq!(refused.header("ratelimit"), Some("\"key\";r=0;t=50"));
    }
    let unlimited = proxy_asks(&server, &server.key(&["orders:read"])).expect(200);
    assert_eq!((unlimited.header("ratelimit"), unlimited.header("ratelimit-policy")), (None, None));
}

#[test]
fn only_what_is_valid_uses_the_limit_and_calls_of_this_api_use_none() {
    let server = TestServer::start();
    let rate = json!({ "limit": 1, "windowSeconds": 60 });
    let scopes = ["orders:read", "api-keys:read"];
    let body = json!({ "name": "k", "scopes": scopes, "rateLimit": rate });
    let key = server.create(&server.root.text, &body);
    for _ in 0..3 {
        assert_eq!(server.verify(&key.text, &["orders:write"])["code"], "INSUFFICIENT_SCOPES");
        server.get(&key.text, "/api/v1/api-keys/self").expect(200);
    }
    assert_eq!(remaining(&server, &key), 1);
    assert_eq!(codes(&server, &key, 2), ["VALID", "RATE_LIMITED"]);
    assert_eq!(server.verify(&key.text, &["orders:write"])["code"], "INSUFFICIENT_SCOPES");
    server.get(&key.text, "/api/v1/api-keys/self").expect(200);
    server.put(&server.root.text, &key.path(), &json!({ "enabled": false })).expect(200);
    let disabled = server.verify(&key.text, &[]);
    assert_eq!((&disabled["code"], &disabled["rateLimit"]), (&json!("DISABLED"), &Value::Null));
}

#[test]
fn a_cost_is_used_whole_or_not_at_all() {
    let server = TestServer::start();
    let key = limited(&server, 10, 60);
    let ask = |cost| {
        let answer = with_cost(&server, &key, cost);
        let left = answer["rateLimit"]["remaining"].as_u64().unwrap();
        (answer["code"].as_str().unwrap().to_owned(), left)
    };
    assert_eq!(ask(7), ("VALID".to_owned(), 3));
    assert_eq!(ask(4), ("RATE_LIMITED".to_owned(), 3));
    assert_eq!(ask(3), ("VALID".to_owned(), 0));
    assert_eq!(ask(0), ("VALID".to_owned(), 0));
    assert_eq!(ask(1), ("RATE_LIMITED".to_owned(), 0));
    for cost in [json!(-1), json!(1_000_000_001), json!(1.5), json!("1"), Value::Null] {
        let question = json!({ "key": key.text, "cost": cost });
        let faults = server.post(&server.root.text, VERIFY, &question).expect(422).faults();
        assert_eq!(faults[0].0, "/cost", "{cost}");
    }
    assert_eq!(ask(1_000_000_000).0, "RATE_LIMITED");
}

#[test]
fn rotation_and_updates_keep_what_was_used() {
    let server = TestServer::start();
    let root = &server.root.text;
    let key = limited(&server, 5, 3600);
    assert_eq!(codes(&server, &key, 2), ["VALID", "VALID"]);
    let fresh = server.rotate(root, &key.id, &json!({}));
    assert_eq!(fresh.body["rateLimit"], key.body["rateLimit"]);
    assert_eq!(server.code(&fresh.text), "VALID");
    assert_eq!(server.code(&key.text), "VALID");
    assert_eq!((remaining(&server, &fresh), remaining(&server, &key)), (json!(1), json!(1)));
    server.put(root, &key.path(), &json!({ "name": "other" })).expect(200);
    let lower = json!({ "rateLimit": { "limit": 4, "windowSeconds": 3600 } });
    server.put(root, &key.path(), &lower).expect(200);
    assert_eq!(server.code(&fresh.text), "RATE_LIMITED");
    server.put(root, &key.path(), &json!({ "rateLimit": null })).expect(200);
    assert_eq!(server.verify(&fresh.text, &[])["rateLimit"], Value::Null);
    let higher = json!({ "rateLimit": { "limit": 6, "windowSeconds": 3600 } });
    server.put(root, &key.path(), &higher).expect(200);
    assert_eq!(remaining(&server, &fresh), 2, "what was used without a limit does not count");
    server.send(&Request::new("POST", &format!("{}/rotate/complete", key.path())).key(root));
    assert_eq!(codes(&server, &fresh, 3), ["VALID", "VALID", "RATE_LIMITED"]);
}

#[test]
fn all_keys_of_an_account_share_its_ceiling_and_have_its_default() {
    let server = TestServer::start();
    let root = &server.root.text;
    let body = json!({
        "name": "Acme",
        "rateLimit": { "limit": 5, "windowSeconds": 3600 },
        "keyRateLimit": { "limit": 3, "windowSeconds": 60 },
    });
    let (id, one) = server.account(&body);
    let own = json!({ "limit": 9, "windowSeconds": 60 });
    let body = json!({ "name": "k", "scopes": ["orders:read"], "rateLimit": own });
    let other = server.create(&one.text, &body);
    assert_eq!(one.body["rateLimit"], Value::Null, "the default is no setting of the key");
    assert_eq!(codes(&server, &one, 4), ["VALID", "VALID", "VALID", "RATE_LIMITED"]);
    let first = server.verify(&other.text, &[]);
    assert_eq!(first["rateLimit"]["limit"], 5, "the limit with the least left");
    let passed = proxy_asks(&server, &other).expect(200);
    assert_eq!(passed.header("ratelimit"), Some("\"key\";r=7;t=60, \"account\";r=0;t=3600"),);
    assert_eq!(passed.header("ratelimit-policy"), Some("\"key\";q=9;w=60, \"account\";q=5;w=3600"),);
    let refused = proxy_asks(&server, &other).expect(429);
    assert_eq!(refused.header("retry-after"), Some("3600"));
    assert_eq!(
        refused.header("ratelimit"),
        Some("\"key\";r=7;t=60, \"account\";r=0;t=3600"),
        "a refusal by the account uses nothing of the key",
    );
    let path = format!("/api/v1/accounts/{id}");
    let change = json!({ "rateLimit": null, "keyRateLimit": { "limit": 4, "windowSeconds": 60 } });
    let changed = server.put(root, &path, &change).expect(200).json();
    assert_eq!(
        (&changed["rateLimit"], &changed["keyRateLimit"]["limit"]),
        (&Value::Null, &json!(4))
    );
    assert_eq!(codes(&server, &one, 2), ["VALID", "RATE_LIMITED"]);
    let event = server.events().into_iter().rfind(|it| it["type"] == "account.updated").unwrap();
    assert_eq!(event["data"]["after"]["rateLimit"], Value::Null);
    assert_eq!(event["data"]["before"]["rateLimit"], json!({ "limit": 5, "windowSeconds": 3600 }));
}

#[test]
fn many_threads_get_exactly_the_limit() {
    let server = TestServer::start();
    let account = json!({ "name": "A", "rateLimit": { "limit": 4_000, "windowSeconds": 3600 } });
    let (_, one) = server.account(&account);
    let rate = json!({ "limit": 2_500, "windowSeconds": 3600 });
    let body = json!({ "name": "k", "scopes": ["orders:read"], "rateLimit": rate });
    let two = server.create(&one.text, &body);
    for key in [&one, &two] {
        assert_eq!(with_cost(&server, key, 0)["code"], "VALID", "its secret is verified");
    }
    let granted = |key: &Key| {
        let ask = || {
            let Identity::Known(entry) = server.app.identify(key.text.as_bytes()) else {
                panic!("the key is known")
            };
            let found =
                server.app.judge(&Identity::Known(entry), RequiredScopes::default()).verdict;
            u32::from(found == Verdict::Valid)
        };
        (0..2_000).map(|_| ask()).sum::<u32>()
    };
    let (of_one, of_two) = thread::scope(|scope| {
        let spawn = |key| scope.spawn(move || granted(key));
        let threads: Vec<_> = [&one, &two, &one, &two].map(spawn).into_iter().collect();
        let counts: Vec<_> = threads.into_iter().map(|it| it.join().unwrap()).collect();
        (counts[0] + counts[2], counts[1] + counts[3])
    });
    assert!(of_two <= 2_500, "{of_two}");
    // A refusal by the account may take the key's share for a moment, so only the account is exact.
    assert_eq!(of_one + of_two, 4_000);
}

#[test]
fn a_restart_grants_nothing_of_a_long_window_again() {
    let mut server = TestServer::start();
    let key = limited(&server, 5, 86_400);
    let account = json!({ "name": "A", "rateLimit": { "limit": 3, "windowSeconds": 86_400 } });
    let (_, one) = server.account(&account);
    assert_eq!(codes(&server, &key, 3), ["VALID"; 3]);
    assert_eq!(codes(&server, &one, 2), ["VALID"; 2]);
    server.restart(|_| ());
    assert_eq!((remaining(&server, &key), remaining(&server, &one)), (json!(2), json!(1)));
    server.run_job("flush_usage");
    assert_eq!(codes(&server, &key, 3), ["VALID", "VALID", "RATE_LIMITED"]);
    server.restart(|_| ());
    assert_eq!(server.code(&key.text), "RATE_LIMITED");
    assert_eq!(codes(&server, &one, 2), ["VALID", "RATE_LIMITED"]);
    server.advance(Duration::from_hours(24));
    server.restart(|_| ());
    assert_eq!(server.code(&key.text), "VALID");
}

#[test]
fn a_long_window_is_announced_at_80_and_at_100_per_cent_once_each() {
    let mut server = TestServer::start();
    let key = limited(&server, 10, 86_400);
    let short = limited(&server, 10, 86_399);
    let account = json!({ "name": "A", "rateLimit": { "limit": 10, "windowSeconds": 86_400 } });
    let (id, one) = server.account(&account);
    let told = |server: &TestServer, subject: &str| {
        server.run_job("flush_usage");
        let about = server.story_of(subject);
        about.into_iter().filter(|it| it.contains("rate_limit")).collect::<Vec<_>>()
    };
    let (near, reached) = ("api_key.rate_limit_near", "api_key.rate_limit_reached");
    with_cost(&server, &key, 7);
    assert_eq!(told(&server, &key.id), [""; 0]);
    with_cost(&server, &key, 1);
    assert_eq!(told(&server, &key.id), [near]);
    let event = server.events().into_iter().rfind(|it| it["type"] == near).unwrap();
    let expected = json!({
        "limit": 10, "windowSeconds": 86_400, "used": 8, "resetAt": "2026-01-02T00:00:00.000Z",
    });
    assert_eq!((&event["data"], &event["actor"]["type"]), (&expected, &json!("scheduler")));
    with_cost(&server, &key, 1);
    server.restart(|_| ());
    with_cost(&server, &key, 1);
    assert_eq!(server.code(&key.text), "RATE_LIMITED");
    assert_eq!(told(&server, &key.id), [near, reached]);
    server.restart(|_| ());
    assert_eq!(server.code(&key.text), "RATE_LIMITED");
    assert_eq!(told(&server, &key.id), [near, reached]);
    with_cost(&server, &short, 10);
    assert_eq!(told(&server, &short.id), [""; 0], "shorter than a day");
    with_cost(&server, &one, 10);
    assert_eq!(told(&server, &id), ["account.rate_limit_near", "account.rate_limit_reached"]);
    assert_eq!(told(&server, &one.id), [""; 0]);
    server.advance(Duration::from_hours(24));
    with_cost(&server, &key, 10);
    assert_eq!(told(&server, &key.id), [near, reached, near, reached], "the next window");
}

#[test]
fn what_was_used_is_counted_and_shown() {
    let server = TestServer::start();
    let key = limited(&server, 1, 60);
    assert_eq!(codes(&server, &key, 3), ["VALID", "RATE_LIMITED", "RATE_LIMITED"]);
    let path = format!("{}/usage?days=1", key.path());
    let day = server.get(&server.root.text, &path).expect(200).json()["data"][0].clone();
    assert_eq!((&day["allowed"], &day["denied"]["rateLimited"]), (&json!(1), &json!(2)));
    let metrics = server.get(&server.root.text, "/metrics").expect(200).text();
    assert!(metrics.lines().any(|it| it == "keyward_rate_limited_total 2"), "{metrics}");
}

#[test]
fn a_limit_that_cannot_be_is_refused_with_all_its_faults() {
    let server = TestServer::start();
    let root = &server.root.text;
    let key = server.key(&["orders:read"]);
    let (account, _) = server.account(&json!({ "name": "A" }));
    let at_most = json!({ "limit": 1_000_000_000, "windowSeconds": 2_592_000 });
    server.put(root, &key.path(), &json!({ "rateLimit": at_most })).expect(200);
    for (rate, pointers) in [
        (json!({}), vec!["/limit", "/windowSeconds"]),
        (json!({ "limit": 0, "windowSeconds": 0 }), vec!["/limit", "/windowSeconds"]),
        (
            json!({ "limit": 1_000_000_001, "windowSeconds": 2_592_001 }),
            vec!["/limit", "/windowSeconds"],
        ),
        (json!({ "limit": 1, "windowSeconds": null }), vec!["/windowSeconds"]),
        (json!({ "limit": 1, "windowSeconds": 1, "x": 1 }), vec!["/x"]),
        (json!("100/60s"), vec![""]),
    ] {
        for (path, member) in [
            (key.path(), "rateLimit"),
            (format!("/api/v1/accounts/{account}"), "rateLimit"),
            (format!("/api/v1/accounts/{account}"), "keyRateLimit"),
        ] {
            let faults = server.put(root, &path, &json!({ member: rate })).expect(422).faults();
            let found: Vec<_> = faults.iter().map(|it| it.0.clone()).collect();
            let expected: Vec<_> = pointers.iter().map(|it| format!("/{member}{it}")).collect();
            assert_eq!(found, expected, "{rate}");
        }
    }
}
