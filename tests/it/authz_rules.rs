//! Forward auth: which requests a policy decides, and what is refused before any header is trusted.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::support::{
    Logged, Request, TestServer,
    authz::{IDENTITY, ask, assert_refused, decided, guarded, questions, sample},
    forged,
};

/// Starts a server with this policy.
fn with_policy(text: &str) -> (TestServer, tempfile::TempDir) {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("routes.toml");
    fs::write(&file, text).expect("a policy");
    (TestServer::with(|it| it.authz.policy_file = Some(file)), dir)
}

fn route(path: &str, rest: &str) -> String {
    format!("[[route]]\nmethods = [\"*\"]\npath = \"{path}\"\n{rest}\n")
}

#[test]
fn the_plain_mount_reads_only_its_query() {
    for server in [guarded(), TestServer::start()] {
        let reader = server.key(&["orders:read"]);
        let question = |query: &str| Request::new("GET", &format!("/authz{query}"));
        assert_eq!(ask(&server, &question("?scope=orders:read").key(&reader.text)).0, 200);
        assert_eq!(ask(&server, &question("").key(&reader.text)).0, 200);
        let other = question("?scope=orders:write");
        assert_refused(ask(&server, &other.clone().key(&reader.text)), 403, "missing_scope");
        assert_eq!(ask(&server, &other.key(&server.root.text)).0, 200);
        assert_refused(ask(&server, &question("?scope=orders:read")), 401, "missing_key");
        // Headers of the other mounts change nothing.
        let lie =
            question("").header("X-Original-URI", "/health").header("X-Forwarded-Uri", "/health");
        assert_refused(ask(&server, &lie), 401, "missing_key");
    }
}

#[test]
fn a_request_without_a_readable_host_is_refused_if_any_route_has_hosts() {
    let admin = "hosts = [\"admin.example.com\"]\nscopes = [\"orders:write\"]";
    let routes = route("/**", admin) + &route("/open/**", "public = true");
    let (server, _dir) = with_policy(&routes);
    let reader = server.key(&["orders:read"]);
    // With a readable host, each request matches its route.
    let forward = |host: &str| {
        Request::new("GET", "/authz/forward")
            .key(&reader.text)
            .header("X-Forwarded-Method", "GET")
            .header("X-Forwarded-Uri", "/open/1")
            .header("X-Forwarded-Host", host)
    };
    assert_refused(ask(&server, &forward("ADMIN.example.com.:8443")), 403, "missing_scope");
    for host in ["api.example.com", "[2001:db8::1]:443", "10.0.0.1", "my_api:80", "a"] {
        assert_eq!(ask(&server, &forward(host)).0, 200, "{host}");
    }
    for host in [
        "",
        " ",
        "admin.example.com,x",
        "x@admin.example.com",
        "admin.example.com/x",
        "admin%2eexample.com",
        "admin.example.com..",
        ".admin.example.com",
        "admin .example.com",
        "admin.example.com:80:80",
        "admin.example.com:x",
        "ádmin.example.com",
        "[::1",
        ":80",
    ] {
        let [nginx, _, envoy] = questions("GET", "/open/1").map(|it| it.key(&reader.text));
        for request in [forward(host), nginx.header("Host", host), envoy.header("Host", host)] {
            assert_refused(ask(&server, &request), 403, "authz_misconfigured");
        }
    }
    let unsaid = Request::new("GET", "/authz/forward")
        .key(&reader.text)
        .header("X-Forwarded-Method", "GET")
        .header("X-Forwarded-Uri", "/open/1");
    assert_refused(ask(&server, &unsaid), 403, "authz_misconfigured");
    // A policy without hosts needs no host.
    let server = guarded();
    let reader = server.key(&["orders:read"]);
    let unsaid = Request::new("GET", "/authz/forward")
        .key(&reader.text)
        .header("X-Forwarded-Method", "GET")
        .header("X-Forwarded-Uri", "/orders/1");
    assert_eq!(ask(&server, &unsaid).0, 200);
}

#[test]
fn a_key_is_optional_where_the_route_says_so() {
    let (server, _dir) = with_policy(
        &(route("/catalogue", "optional = true")
            + &route("/prices", "optional = true\nscopes = [\"products:read\"]")),
    );
    let reader = server.key(&["products:read"]);
    let writer = server.key(&["orders:write"]);
    for request in questions("GET", "/prices") {
        let named = server.send(&request.clone().key(&reader.text)).expect(200);
        assert_eq!(named.header("x-keyward-key-id"), Some(&*reader.id));
        let bearer = format!("Bearer {}", reader.text);
        let named = server.send(&request.clone().header("Authorization", &bearer)).expect(200);
        assert_eq!(named.header("x-keyward-key-id"), Some(&*reader.id));
        for foreign in [None, Some("Bearer eyJhbGciOi.x.y"), Some("Basic dXNlcjpwdw==")] {
            let request =
                foreign.iter().fold(request.clone(), |it, token| it.header("Authorization", token));
            let nameless = server.send(&request).expect(200);
            assert!(IDENTITY.iter().all(|it| nameless.header(it) == Some("-")), "{nameless:?}");
        }
        assert_refused(ask(&server, &request.clone().key(&writer.text)), 403, "missing_scope");
        for bad in ["", "hello", &forged("rg_")] {
            assert_refused(ask(&server, &request.clone().key(bad)), 401, "invalid_key");
        }
        let twice = request.key(&reader.text).key(&reader.text);
        assert_refused(ask(&server, &twice), 401, "duplicate_header");
    }
    assert_eq!(decided(&server, "GET", "/catalogue", Some(&writer)).0, 200);
    let target = format!("/catalogue?key={}", writer.text);
    assert_refused(decided(&server, "GET", &target, None), 401, "key_in_query");
    server.delete(&server.root.text, &reader.path()).expect(204);
    assert_refused(decided(&server, "GET", "/prices", Some(&reader)), 401, "key_revoked");
    // The scopes that the proxy asks for stay required.
    let asked = Request::new("GET", "/authz/nginx?scope=orders:write")
        .header("X-Original-Method", "GET")
        .header("X-Original-URI", "/catalogue");
    assert_refused(ask(&server, &asked), 401, "missing_key");
    assert_eq!(ask(&server, &asked.key(&writer.text)).0, 200);
}

#[test]
fn a_header_that_stands_twice_hides_no_key_on_an_optional_route() {
    let (server, _dir) =
        with_policy(&(route("/catalogue", "optional = true") + &route("/news", "public = true")));
    let key = server.key(&["orders:read"]);
    server.delete(&server.root.text, &key.path()).expect(204);
    let (bearer, basic) = (format!("Bearer {}", key.text), "Basic dXNlcjpwdw==");
    for values in [[basic, &bearer], [&bearer, basic], [basic, basic]] {
        let twice = |request: Request| {
            values.iter().fold(request, |it, value| it.header("Authorization", value))
        };
        for request in questions("GET", "/catalogue").map(twice) {
            let (status, reason) = ask(&server, &request);
            assert_eq!(status, 401, "{request:?}");
            let expected = if values[0] == bearer { "key_revoked" } else { "duplicate_header" };
            assert_eq!(reason, expected, "{request:?}");
        }
        for request in questions("GET", "/news").map(twice) {
            assert_eq!(ask(&server, &request).0, 200, "{request:?}");
        }
    }
}

#[test]
fn a_bearer_key_with_white_space_other_than_blanks_is_refused() {
    let server = guarded();
    let key = server.key(&["orders:read", "api-keys:read"]).text;
    for good in [format!("Bearer {key}"), format!("bearer   {key}"), format!("BEARER {key}  ")] {
        for request in questions("GET", "/orders") {
            assert_eq!(ask(&server, &request.header("Authorization", &good)).0, 200, "{good:?}");
        }
    }
    for bad in [
        format!("Bearer\t{key}"),
        format!("Bearer \t{key}"),
        format!("Bearer\t {key}"),
        format!("Bearer  \t {key}"),
        format!("Bearer \u{a0}{key}"),
        format!("Bearer {key}\u{a0}"),
        format!("Bearer {key}\u{3000}"),
        format!("Bearer\u{85}{key}"),
    ] {
        for request in questions("GET", "/orders") {
            let request = request.header("Authorization", &bad);
            assert_refused(ask(&server, &request), 401, "invalid_key");
            // Beside a valid key this is a second key, which the API behind the proxy would see.
            assert_refused(ask(&server, &request.key(&key)), 401, "conflicting_keys");
        }
        let own = Request::new("GET", "/api/v1/api-keys").header("Authorization", &bad);
        assert_eq!(server.send(&own).expect(401).problem(), "invalid_key", "{bad:?}");
    }
    // These are no keys: tokens of the API itself are ignored in every spelling.
    for foreign in ["Bearer\teyJhbGciOi.x.y", "Bearer", "Bearer \t", "Bearerx", "Token \trg_x"] {
        for request in questions("GET", "/orders") {
            let request = request.header("Authorization", foreign);
            assert_refused(ask(&server, &request), 401, "missing_key");
        }
    }
}

#[test]
fn only_headers_that_carry_the_key_must_not_come_twice() {
    let server = guarded();
    let key = server.key(&["orders:read"]).text;
    for request in questions("GET", "/orders") {
        let request = request.key(&key);
        let lawful = [
            ("If-Match", "\"a\""),
            ("Content-Type", "text/plain"),
            ("Idempotency-Key", "x"),
            ("Accept", "*/*"),
            ("Cookie", "a=b"),
        ];
        let lawful = lawful
            .iter()
            .fold(request.clone(), |it, (name, value)| it.header(name, value).header(name, value));
        assert_eq!(ask(&server, &lawful).0, 200);
        let twice = request.clone().header("Authorization", "Basic a").header("Authorization", "x");
        assert_refused(ask(&server, &twice), 401, "duplicate_header");
        assert_refused(ask(&server, &request.key(&key)), 401, "duplicate_header");
    }
}

#[test]
fn a_key_in_a_query_is_refused_on_every_path() {
    let server = guarded();
    let (root, key) = (&server.root.text, server.key(&["orders:read"]).text);
    for path in [
        "/metrics",
        "/livez",
        "/healthz",
        "/readyz",
        "/openapi.json",
        "/openapi.yaml",
        "/console",
        "/console/",
        "/docs",
        "/docs/",
        "/nothing",
        "/",
    ] {
        for query in [format!("k={key}"), key.clone(), key.replace('_', "%5F")] {
            let answer = server.get(root, &format!("{path}?{query}")).expect(400);
            assert_eq!(answer.problem(), "key_in_query", "{path}");
            assert!(!format!("{answer:?}").contains(&key[12..]), "{answer:?}");
        }
    }
    // This holds for a public route too.
    let target = format!("/health?key={key}");
    assert_refused(decided(&server, "GET", &target, None), 401, "key_in_query");
}

#[test]
fn without_an_address_from_the_proxy_the_client_is_unknown_and_not_local() {
    let server = TestServer::start();
    let create = |hops: &str| {
        let request = Request::new("POST", "/api/v1/api-keys")
            .key(&server.root.text)
            .header("X-Forwarded-For", hops)
            .json(&json!({ "name": "x", "scopes": ["orders:read"] }));
        server.send(&request).expect(201);
        server.events().pop().expect("an event")
    };
    assert_eq!(create("198.51.100.8")["clientIp"], "198.51.100.8");
    for hops in ["203.0.113.9, unknown", "fe80::1%eth0", "unix:", "", "1.2.3.4,", "_hidden"] {
        for target in ["/metrics", "/readyz?verbose"] {
            let request = Request::new("GET", target).header("X-Forwarded-For", hops);
            let answer = server.send(&request);
            let shut =
                if target == "/metrics" { answer.status == 401 } else { answer.text() == "ok\n" };
            assert!(shut, "{hops} {target}: {answer:?}");
        }
        assert_eq!(create(hops)["clientIp"], Value::Null, "{hops}");
    }
    server.send(&Request::new("GET", "/metrics")).expect(200);
}

#[test]
fn a_wrong_proxy_configuration_is_logged_once_a_minute() {
    let dir = tempfile::tempdir().expect("a directory");
    let config = dir.path().join("keyward.toml");
    let policy = sample();
    let text = format!("workers = 4\n[authz]\npolicy_file = \"{}\"\n", policy.display());
    fs::write(&config, text).expect("a file");
    let server =
        Logged::serve(&dir.path().join("data"), &["--config", config.to_str().expect("UTF-8")]);
    for _ in 0..40 {
        let question = Request::new("GET", "/authz/nginx");
        assert_eq!(question.send(server.binary.address).status, 403);
    }
    let log = server.stderr.clone();
    assert!(server.binary.terminate().status.success());
    let log = fs::read_to_string(log).expect("its log");
    assert_eq!(log.matches("a proxy is misconfigured").count(), 1, "{log}");
}

#[test]
fn malformed_keys_are_counted_and_logged_once_a_minute() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = Logged::serve(&dir.path().join("data"), &[]);
    let garbage: [&[u8]; 6] = [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET /\x01 HTTP/1.1\r\nHost: a\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n",
        b"GET /authz HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer \x0crg_\r\n\r\n",
    ];
    let rounds = 20;
    for bytes in garbage.iter().cycle().take(rounds * garbage.len()) {
        let mut stream = TcpStream::connect(server.binary.address).expect("a connection");
        stream.write_all(bytes).expect("it is taken");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    }
    let counted = format!("keyward_malformed_requests_total {}\n", rounds * garbage.len());
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let metrics = Request::new("GET", "/metrics").send(server.binary.address).text();
        if metrics.contains(&counted) {
            break;
        }
        assert!(Instant::now() < deadline, "{metrics}");
        std::thread::yield_now();
    }
    let log = server.stderr.clone();
    assert!(server.binary.terminate().status.success());
    let log = fs::read_to_string(log).expect("its log");
    assert!(!log.contains("ERROR"), "{log}");
    let said: Vec<_> = log.lines().filter(|it| it.contains("could not be read as HTTP")).collect();
    assert_eq!(said.len(), 1, "{log}");
    assert!(said[0].contains("127.0.0.1"), "{said:?}");
}
