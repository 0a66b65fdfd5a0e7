//! Every request: authentication, ambiguous requests, and the headers of every answer.

use std::{collections::BTreeSet, time::Duration};

use serde_json::{Value, json};

use crate::support::{Request, Response, TestServer, forged};

const KEYS: &str = "/api/v1/api-keys";
const METHODS: [&str; 8] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"];

#[track_caller]
fn assert_refused(answer: &Response, status: u16, code: &str) {
    assert_eq!((answer.status, &*answer.problem()), (status, code), "{}", answer.text());
}

/// Requests with every fault except the missing key, which is the only one that the answer may
/// name.
fn faulty() -> Vec<Request> {
    let post = |target: &str| Request::new("POST", target);
    let json = |it: Request| it.header("Content-Type", "application/json");
    vec![
        json(post(KEYS)).body("{"),
        json(post(KEYS)).body(vec![b'x'; 1024 * 1024]),
        json(json(post(KEYS))).body("{}"),
        post(KEYS).header("If-Match", "x").header("If-Match", "y"),
        Request::new("GET", &format!("{KEYS}?key={}", forged("rg_"))),
        Request::new("GET", &format!("{KEYS}?limit=0")),
        Request::new("GET", "/api/v1/api-keys/nope"),
        Request::new("GET", "/api/v1/nothing"),
        Request::new("PUT", KEYS),
        Request::new("TRACE", "/api/v1/scopes"),
    ]
}

/// Returns each path of the document with an example address, and the methods of that path.
fn documented(server: &TestServer) -> Vec<(String, BTreeSet<String>)> {
    let document = server.send(&Request::new("GET", "/openapi.json")).expect(200).json();
    let paths = document["paths"].as_object().expect("paths");
    let row = |(path, item): (&String, &Value)| {
        let servers = item.get("servers").unwrap_or(&document["servers"]);
        let base = servers[0]["url"].as_str().expect("a server").trim_end_matches('/');
        let methods = item.as_object().expect("an item").keys().map(|it| it.to_uppercase());
        let mut methods: BTreeSet<_> = methods.filter(|it| METHODS.contains(&&**it)).collect();
        if methods.contains("GET") {
            methods.insert("HEAD".to_owned());
        }
        let own = path
            .replace("{seq}", "1")
            .replace("/api-keys/{id}", &format!("/api-keys/{}", server.root.id));
        (format!("{base}{}", own.replace("{id}", "self")), methods)
    };
    paths.iter().map(row).collect()
}

#[test]
fn a_caller_without_a_key_learns_only_that_a_key_is_needed() {
    let server = TestServer::start();
    let events = server.events().len();
    for request in faulty() {
        for (key, code) in [
            (None, "missing_key"),
            (Some(forged("rg_")), "invalid_key"),
            (Some(forged(&server.root.text[..12])), "invalid_key"),
            (Some("nonsense".to_owned()), "invalid_key"),
            (Some(String::new()), "invalid_key"),
        ] {
            let request = key.iter().fold(request.clone(), |it, key| it.key(key));
            let answer = server.send(&request);
            assert_refused(&answer, 401, code);
            let challenge = answer.header("www-authenticate").expect("a challenge");
            assert!(challenge.contains("X-API-Key"), "{challenge}");
        }
    }
    assert_eq!(server.events().len(), events);
}

#[test]
fn a_key_that_no_longer_works_is_refused_with_the_reason() {
    let server = TestServer::start();
    let (root, scopes) = (&server.root.text, json!(["api-keys:read"]));
    let (account, owner) = server.account(&json!({ "name": "Acme" }));
    let made = || server.key(&["api-keys:read"]);
    let body = json!({ "name": "n", "scopes": scopes, "expiresAt": "2026-01-01T00:00:01Z" });
    let [expired, off, gone, rotated] = [server.create(root, &body), made(), made(), made()];
    for key in [&expired, &off, &gone, &rotated] {
        server.get(&key.text, KEYS).expect(200);
    }
    server.advance(Duration::from_secs(1));
    server.put(root, &off.path(), &json!({ "enabled": false })).expect(200);
    server.delete(root, &gone.path()).expect(204);
    server.rotate(root, &rotated.id, &json!({ "gracePeriodSeconds": 0 }));
    let path = format!("/api/v1/accounts/{account}");
    server.put(root, &path, &json!({ "status": "suspended" })).expect(200);
    for (key, code) in [
        (&expired, "key_expired"),
        (&off, "key_disabled"),
        (&gone, "key_revoked"),
        (&rotated, "key_rotated"),
        (&owner, "account_suspended"),
    ] {
        for request in faulty() {
            let answer = server.send(&request.key(&key.text));
            assert_refused(&answer, 401, code);
            assert!(answer.header("www-authenticate").is_some());
        }
    }
}

#[test]
fn a_header_that_decides_the_answer_must_not_come_twice() {
    let server = TestServer::start();
    let root = &server.root.text;
    for (name, one, other) in [
        ("X-API-Key", &**root, &**root),
        ("X-API-Key", root, "other"),
        ("Authorization", "Basic eDp5", "Basic eDp6"),
        ("Authorization", "Bearer a", "bearer b"),
        ("Content-Type", "application/json", "application/json"),
        ("Idempotency-Key", "a", "b"),
        ("If-Match", "\"1\"", "\"2\""),
    ] {
        for (method, body) in [("POST", "{"), ("PUT", "{}"), ("GET", "")] {
            let request = Request::new(method, &server.root.path());
            let request = if name == "X-API-Key" { request } else { request.key(root) };
            let request = request.header(name, one).header(&name.to_lowercase(), other);
            let answer = server.send(&request.body(body));
            assert_refused(&answer, 400, "duplicate_header");
        }
    }
    let request = Request::new("GET", KEYS).header("X-API-Key", "other").key(root);
    assert_refused(&server.send(&request), 401, "invalid_key");
}

#[test]
fn a_second_host_is_refused_first() {
    let server = TestServer::start();
    for hosts in [["keyward.test", "keyward.test"], ["a", "b"]] {
        let request = Request::new("DELETE", &server.root.path()).key(&server.root.text);
        let request = hosts.iter().fold(request, |it, host| it.header("Host", host));
        assert_eq!(server.send(&request).status, 400);
    }
}

#[test]
fn a_bearer_token_counts_only_if_it_has_the_form_of_a_key() {
    let server = TestServer::start();
    let (root, other) = (&server.root.text, server.key(&["api-keys:read"]).text);
    let ask = |key: Option<&str>, authorization: &str| {
        let request = Request::new("GET", &format!("{KEYS}/self"));
        let request = key.iter().fold(request, |it, key| it.key(key));
        server.send(&request.header("Authorization", authorization))
    };
    for scheme in ["Bearer", "bearer", "BEARER"] {
        let alone = ask(None, &format!("{scheme} {root}")).expect(200);
        assert_eq!(alone.json()["id"], server.root.id);
        ask(Some(root), &format!("{scheme} {root}")).expect(200);
        let both = ask(Some(root), &format!("{scheme} {other}"));
        assert_refused(&both, 400, "conflicting_keys");
        assert!(!both.text().contains(&other[12..]) && !both.text().contains(&root[12..]));
    }
    for foreign in
        ["Bearer eyJhbGciOiJub25lIn0.e30.", "Bearer rg_short", "Basic eDp5", "Bearer", ""]
    {
        assert_eq!(ask(Some(root), foreign).expect(200).json()["id"], server.root.id, "{foreign}");
        assert_refused(&ask(None, foreign), 401, "missing_key");
    }
    assert_refused(&ask(None, &format!("Bearer {}", forged("rg_"))), 401, "invalid_key");
    assert_refused(&ask(Some("nonsense"), &format!("Bearer {root}")), 401, "invalid_key");
}

#[test]
fn a_key_in_an_address_is_refused_and_not_repeated() {
    let server = TestServer::start();
    let (root, key) = (&server.root.text, server.key(&["orders:read"]).text);
    let secret = &key[12..44];
    for target in [
        format!("{KEYS}?q={key}"),
        format!("{KEYS}?api_key={key}&limit=5"),
        format!("{KEYS}?{key}"),
        format!("{KEYS}?{key}=1"),
        format!("/api/v1/scopes?x={key}"),
        format!("/api/v1/nothing?x={key}"),
    ] {
        let answer = server.get(root, &target);
        assert_refused(&answer, 400, "key_in_query");
        assert!(!format!("{answer:?}").contains(secret), "{answer:?}");
        // The answer always tells the caller to revoke the key, but authentication comes first.
        let nameless = server.send(&Request::new("GET", &target));
        assert_refused(&nameless, 401, "missing_key");
        assert!(nameless.text().contains("revoke it"), "{}", nameless.text());
    }
    for target in [format!("{KEYS}/{key}"), format!("/api/v1/{key}"), format!("/{key}")] {
        let answer = server.get(root, &target).expect(404);
        assert!(!format!("{answer:?}").contains(secret), "{answer:?}");
    }
}

#[test]
fn a_key_in_an_address_is_recognised_in_every_encoding() {
    let server = TestServer::start();
    let key = server.key(&["orders:read"]).text;
    for encoded in [
        key.replace("rg", "%72%67"),
        key.replace('_', "%5F"),
        key.replace('_', "%5f"),
        key.bytes().map(|it| format!("%{it:02X}")).collect(),
    ] {
        let answer = server.get(&server.root.text, &format!("{KEYS}?limit=1&q={encoded}"));
        assert_refused(&answer, 400, "key_in_query");
    }
}

#[test]
fn a_key_in_the_wrong_place_is_masked_in_every_answer() {
    let server = TestServer::start();
    let (root, key) = (&server.root.text, server.key(&["orders:read"]).text);
    let name = json!({ "name": "n", "scopes": ["orders:read"] });
    let with = |member: &str, value: Value| {
        let mut body = name.clone();
        body[member] = value;
        body
    };
    let shortened = &key[..40];
    for body in [
        with(&key, json!(1)),
        with(&format!("{key}/x~"), json!(1)),
        with(shortened, json!(1)),
        with("scopes", json!([key])),
        with("scopes", json!([format!("orders:{key}")])),
        with("expiresAt", json!(key)),
        with("name", json!(format!("{key}\n"))),
        json!({ "name": key, "scopes": key, "enabled": key, "metadata": key, "expiresAt": key }),
    ] {
        let answer = server.post(root, KEYS, &body).expect(422);
        assert!(!format!("{answer:?}").contains(&key[12..40]), "{body}: {answer:?}");
    }
    let pointers = server.post(root, KEYS, &with(&key, json!(1))).faults();
    assert_eq!(pointers, [(format!("/{}…", &key[..12]), "unknown_field".to_owned())]);
    let request = Request::new("GET", KEYS).key(root).header("X-Request-Id", &key);
    assert!(!format!("{:?}", server.send(&request)).contains(&key[12..]));
    let request = Request::new("PUT", &server.root.path()).key(root).header("If-Match", &key);
    assert!(!format!("{:?}", server.send(&request.json(&json!({})))).contains(&key[12..]));
}

#[test]
fn every_answer_has_a_request_id() {
    let server = TestServer::start();
    let root = &server.root.text;
    let ask = |target: &str, id: Option<&str>| {
        let request = Request::new("GET", target).key(root);
        let request = id.iter().fold(request, |it, id| it.header("X-Request-Id", id));
        server.send(&request).header("x-request-id").expect("an identifier").to_owned()
    };
    let longest = "x".repeat(64);
    let mut seen = BTreeSet::new();
    for target in [KEYS, "/api/v1/nothing", "/livez", "/readyz", "/nothing", "/openapi.json", "/"] {
        for plain in ["a", "build-7", "6ba7b810-9dad-11d1-80b4-00c04fd430c8", &longest] {
            assert_eq!(ask(target, Some(plain)), plain, "{target}");
        }
        let long = "x".repeat(65);
        for odd in [None, Some(""), Some("a b"), Some("a_b"), Some("é"), Some("a\"b"), Some(&long)]
        {
            let made = ask(target, odd);
            assert!(made.starts_with("req_") && seen.insert(made), "{target} {odd:?}");
        }
    }
}

#[test]
fn no_answer_of_the_api_may_be_cached_or_sniffed() {
    let server = TestServer::start();
    let root = &server.root.text;
    let mut answers: Vec<Response> = faulty().iter().map(|it| server.send(it)).collect();
    answers.extend(faulty().into_iter().map(|it| server.send(&it.key(root))));
    for (target, _) in documented(&server).iter().filter(|it| it.0.starts_with("/api/")) {
        answers.extend(METHODS.map(|it| server.send(&Request::new(it, target))));
        answers.push(server.get(root, target));
        answers.push(server.get(root, &format!("{target}/")));
    }
    answers.push(server.delete(root, &server.key(&["orders:read"]).path()).expect(204));
    for answer in &answers {
        assert_eq!(answer.header("cache-control"), Some("no-store"), "{answer:?}");
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{answer:?}");
    }
    let statuses: BTreeSet<_> = answers.iter().map(|it| it.status).collect();
    assert!(statuses.is_superset(&[200, 204, 400, 401, 404, 405, 413, 422].into()), "{statuses:?}");
}

#[test]
fn an_answer_may_not_be_cached_however_its_address_is_written() {
    let server = TestServer::start();
    for target in
        ["/%61pi/v1/api-keys", "/api/v1/%61pi-keys", "/api/%761/scopes", "//api/v1/scopes"]
    {
        let answer = server.get(&server.root.text, target);
        let kept = answer.header("cache-control") != Some("no-store");
        assert!(!kept || answer.status == 404, "{target}: {answer:?}");
    }
}

#[test]
fn head_is_get_without_the_body() {
    let server = TestServer::start();
    let root = &server.root.text;
    for (target, _) in documented(&server).iter().filter(|it| it.1.contains("GET")) {
        let ask = |method: &str| server.send(&Request::new(method, target).key(root));
        let (get, head) = (ask("GET"), ask("HEAD"));
        assert!(head.body.is_empty(), "{target}: {}", head.text());
        assert_eq!(head.status, get.status, "{target}");
        for name in ["content-type", "etag", "link", "cache-control"] {
            assert_eq!(head.header(name), get.header(name), "{target} {name}");
        }
    }
    let stranger = server.send(&Request::new("HEAD", KEYS));
    assert_eq!((stranger.status, stranger.body.len()), (401, 0));
}

#[test]
fn another_method_is_answered_with_405_and_the_allowed_methods() {
    let server = TestServer::start();
    let rows = documented(&server);
    assert!(15 < rows.len(), "{rows:?}");
    for (target, methods) in &rows {
        for method in METHODS.iter().filter(|it| !methods.contains(**it)) {
            let answer = server.send(&Request::new(method, target).key(&server.root.text));
            // `self` is also an id; see the next test.
            if target.ends_with("/self") {
                continue;
            }
            let allow = answer.header("allow").unwrap_or_default().split(", ");
            assert_eq!(answer.status, 405, "{method} {target}: {}", answer.text());
            assert_eq!(allow.map(str::to_owned).collect::<BTreeSet<_>>(), *methods, "{target}");
            if *method != "HEAD" {
                assert_eq!(answer.problem(), "method_not_allowed");
            }
        }
    }
}

#[test]
fn every_method_of_self_is_in_its_allow_header() {
    let server = TestServer::start();
    let ask = |method| {
        let request = Request::new(method, &format!("{KEYS}/self")).key(&server.root.text);
        server.send(&request)
    };
    let answered: Vec<_> = METHODS.into_iter().filter(|it| ask(it).status != 405).collect();
    assert_eq!(answered, ["GET", "HEAD", "PUT", "PATCH", "DELETE"]);
    let answer = ask("POST").expect(405);
    let allow = answer.header("allow").unwrap_or_default().split(", ");
    assert_eq!(allow.collect::<BTreeSet<_>>(), answered.into_iter().collect());
}

#[test]
fn an_address_with_an_extra_slash_is_answered_with_404() {
    let server = TestServer::start();
    for (target, methods) in documented(&server) {
        for method in &methods {
            let request = Request::new(method, &format!("{target}/")).key(&server.root.text);
            assert_eq!(server.send(&request).status, 404, "{method} {target}/");
        }
    }
    let answer = server.get(&server.root.text, &format!("{KEYS}//{}", server.root.id));
    assert_refused(&answer, 404, "not_found");
}

#[test]
fn the_first_applicable_refusal_is_given() {
    let server = TestServer::start();
    let (_, owner) = server.account(&json!({ "name": "Acme" }));
    let key = server.create(&owner.text, &json!({ "name": "n", "scopes": ["orders:read"] }));
    let reader = server.create(&owner.text, &json!({ "name": "r", "scopes": ["api-keys:read"] }));
    let ask = |caller: &str, query: &str, id: &str, body: &str, tag: &str| {
        let request = Request::new("PUT", &format!("{KEYS}/{id}{query}")).key(caller);
        let request = request.header("Content-Type", "application/json").body(body);
        server.send(&request.header("If-Match", tag)).problem()
    };
    // At first every part is wrong; then one part after the other is corrected.
    let secret = format!("?x={}", key.text);
    let never = "key_0000000000000000000042";
    let wrong = r#"{"scopes": ["x:y"]}"#;
    assert_eq!(ask("absent", &secret, never, "{", "\"9\""), "invalid_key");
    assert_eq!(ask(&reader.text, &secret, never, "{", "\"9\""), "key_in_query");
    assert_eq!(ask(&reader.text, "", never, "{", "\"9\""), "missing_scope");
    assert_eq!(ask(&owner.text, "", never, "{", "\"9\""), "not_found");
    assert_eq!(ask(&owner.text, "", &key.id, "{", "\"9\""), "invalid_json");
    assert_eq!(ask(&owner.text, "", &key.id, wrong, "\"9\""), "precondition_failed");
    assert_eq!(ask(&owner.text, "", &key.id, wrong, "*"), "invalid_request");
    let wider = r#"{"scopes": ["*"]}"#;
    assert_eq!(ask(&owner.text, "", &key.id, wider, "*"), "scope_escalation");
}
