//! An API behind real proxies, with the files that ship: nginx, Caddy, `HAProxy`, Envoy.

use std::{net::SocketAddr, time::Duration};

use serde_json::json;

use crate::support::{
    Key, Request, Response, TestServer,
    authz::sample,
    forged,
    proxy::{Kind, Proxy, Stub, Surroundings, free_address},
};

const OK: &str = "HTTP/1.1 200 OK";
const READS: [&str; 5] =
    ["orders:read", "products:read", "inventory:read", "commissions:read", "webhooks:read"];
const WRITES: [&str; 4] = ["orders:write", "products:write", "inventory:write", "webhooks:write"];

/// A proxy with keyward beside it and the API behind it.
struct Scene {
    keyward: TestServer,
    api: Stub,
    proxy: Proxy,
    reader: Key,
    writer: Key,
    expired: Key,
}

impl Scene {
    fn new(kind: Kind, file: &str) -> Self {
        let mut keyward = TestServer::start();
        // An address of its own, so that it can come back to it.
        let address = free_address();
        let policy = file.contains("policy").then(sample);
        keyward.restart(|it| (it.listen, it.authz.policy_file) = (vec![address.into()], policy));
        let (reader, writer) = (keyward.key(&READS), keyward.key(&WRITES));
        let body = json!({ "name": "e", "scopes": READS, "expiresAt": "2026-01-01T00:01:00Z" });
        let expired = keyward.create(&keyward.root.text, &body);
        keyward.advance(Duration::from_mins(1));
        let api = Stub::serve(SocketAddr::from(([127, 0, 0, 1], 0)), OK);
        let proxy = kind.start(file, Surroundings { keyward: address, api: api.address });
        Self { keyward, api, proxy, reader, writer, expired }
    }

    fn send(&self, request: Request) -> Response {
        request.header("Host", "api.example.com").send(self.proxy.address)
    }

    /// The status, and that the API was asked if and only if the request passed.
    #[track_caller]
    fn status(&self, request: &Request) -> u16 {
        self.api.take_seen();
        let response = self.send(request.clone());
        let asked = self.api.take_seen().len();
        assert_eq!(asked, usize::from(response.status == 200), "{request:?}: {response:?}");
        response.status
    }

    fn keyless(&self, method: &str, path: &str) -> u16 {
        self.status(&Request::new(method, path))
    }

    fn with(&self, key: &Key, method: &str, path: &str) -> u16 {
        self.status(&Request::new(method, path).key(&key.text))
    }

    /// The statuses without a key, with the reader's, the writer's, an expired and an invented one.
    fn statuses(&self, method: &str, path: &str) -> [u16; 5] {
        let forgery = Key { text: forged("rg_"), ..self.reader.clone() };
        [
            self.keyless(method, path),
            self.with(&self.reader, method, path),
            self.with(&self.writer, method, path),
            self.with(&self.expired, method, path),
            self.with(&forgery, method, path),
        ]
    }
}

/// What every proxy is asked with its policy file, and what it must answer.
const BY_POLICY: [(&str, &str, [u16; 5]); 14] = [
    ("GET", "/orders", [401, 200, 403, 401, 401]),
    ("HEAD", "/orders/7", [401, 200, 403, 401, 401]),
    ("POST", "/orders", [401, 403, 200, 401, 401]),
    ("DELETE", "/orders/7", [401, 403, 200, 401, 401]),
    ("GET", "/products/7?expand=prices", [401, 200, 403, 401, 401]),
    ("PATCH", "/products/7", [401, 403, 200, 401, 401]),
    ("GET", "/inventory/products/7", [401, 200, 403, 401, 401]),
    ("PUT", "/inventory/7", [401, 403, 200, 401, 401]),
    ("GET", "/commissions", [401, 200, 403, 401, 401]),
    ("POST", "/commissions", [403, 403, 403, 403, 403]),
    ("GET", "/webhooks", [401, 200, 403, 401, 401]),
    ("POST", "/webhooks", [401, 403, 200, 401, 401]),
    ("GET", "/health", [200, 200, 200, 200, 200]),
    ("GET", "/orders-admin", [403, 403, 403, 403, 403]),
];

/// The table that the documents show.
fn table() -> String {
    let row = |(method, path, statuses): &(&str, &str, [u16; 5])| {
        let cells: Vec<_> = statuses.iter().map(ToString::to_string).collect();
        format!("| `{method} {path}` | {} |\n", cells.join(" | "))
    };
    BY_POLICY.iter().map(row).collect()
}

#[test]
fn the_documents_show_what_was_measured() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/forward-auth.md");
    let document = std::fs::read_to_string(path).expect("the document");
    assert!(document.contains(&table()), "put this into it:\n{}", table());
}

#[test]
fn nginx_protects_an_api() {
    protects_an_api(Kind::Nginx);
}

#[test]
fn caddy_protects_an_api() {
    protects_an_api(Kind::Caddy);
}

#[test]
fn haproxy_protects_an_api() {
    protects_an_api(Kind::HaProxy);
}

#[test]
fn envoy_protects_an_api() {
    protects_an_api(Kind::Envoy);
}

fn protects_an_api(kind: Kind) {
    if !kind.is_there() {
        return;
    }
    let [policy, scopes] = kind.files();
    let mut scene = Scene::new(kind, policy);
    for (method, path, expected) in BY_POLICY {
        assert_eq!(scene.statuses(method, path), expected, "{kind:?}: {method} {path}");
    }
    ambiguous_paths_do_not_pass(&scene);
    nobody_says_who_they_are(&scene);
    nobody_hides_who_they_are(&scene);
    the_key_stays_outside(&scene);
    refusals_say_why(&scene, kind);
    hides_nothing_when_keyward_is_away(&mut scene);
    drop(scene);

    let scene = Scene::new(kind, scopes);
    for (method, path, expected) in BY_POLICY {
        let named = expected[0] == 401;
        if named {
            assert_eq!(scene.statuses(method, path), expected, "{kind:?}: {method} {path}");
        } else {
            let passed = scene.statuses(method, path).contains(&200);
            assert!(!passed, "{kind:?}: {method} {path} is named nowhere");
        }
    }
    ambiguous_paths_do_not_pass(&scene);
    nobody_says_who_they_are(&scene);
    nobody_hides_who_they_are(&scene);
    the_key_stays_outside(&scene);
    passes_on_that_it_is_too_much(scene, kind, scopes);
}

fn ambiguous_paths_do_not_pass(scene: &Scene) {
    for path in [
        "/orders%2F7",
        "/orders%2f..%2fhealth",
        "/orders%5c..%5chealth",
        "/orders/7;v=1",
        "/orders/%252e%252e/health",
        "/orders/%00",
    ] {
        for key in [&scene.reader, &scene.keyward.root] {
            let status = scene.with(key, "GET", path);
            assert!((400..500).contains(&status), "{path}: {status}");
        }
    }
    // A proxy may make one reading of these, and then that is what counts: never what the writer
    // may not see, and never anything for nobody.
    for path in
        ["//orders", "/orders//7", "/webhooks/../orders", "/webhooks/%2e%2e/orders", "/./orders"]
    {
        for status in [scene.with(&scene.writer, "GET", path), scene.keyless("GET", path)] {
            assert!((400..500).contains(&status), "{path}: {status}");
        }
    }
}

/// Headers by which a client might pass for somebody else, or for a harmless request.
fn nobody_says_who_they_are(scene: &Scene) {
    let lies = |request: Request| {
        [
            "X-Original-Method: GET",
            "X-Original-URI: /health",
            "X-Original-URL: /health",
            "X-Forwarded-Method: GET",
            "X-Forwarded-Uri: /health",
            "X-Forwarded-Host: other.example.com",
            "X-Keyward-Key-Id: key_evil",
            "X-Keyward-Key-Name: evil",
            "X-Keyward-Account-Id: acct_evil",
            "X-Keyward-External-Id: evil",
            "X-Keyward-Scopes: evil",
        ]
        .into_iter()
        .filter_map(|it| it.split_once(": "))
        .fold(request, |request, (name, value)| request.header(name, value))
    };
    let refused = lies(Request::new("POST", "/orders")).key(&scene.reader.text);
    assert_eq!(scene.status(&refused), 403);
    assert_eq!(scene.status(&lies(Request::new("GET", "/orders"))), 401);

    scene.send(lies(Request::new("GET", "/orders")).key(&scene.reader.text)).expect(200);
    let seen = scene.api.take_seen().pop().expect("the API was asked");
    for expected in [
        format!("x-keyward-key-id: {}", scene.reader.id.to_ascii_lowercase()),
        "x-keyward-key-name: test".to_owned(),
        "x-keyward-external-id: -".to_owned(),
        format!("x-keyward-scopes: {}", READS.join(" ")),
    ] {
        assert_eq!(seen.lines().filter(|it| *it == expected).count(), 1, "{expected}: {seen}");
    }
    let identities = seen.lines().filter(|it| it.starts_with("x-keyward-")).count();
    assert_eq!(identities, 5, "{seen}");
    assert!(!seen.contains("evil"), "{seen}");

    // What a program behind CGI could not tell apart.
    let underscores =
        Request::new("GET", "/orders").key(&scene.reader.text).header("X_Keyward_Key_Id", "evil");
    scene.send(underscores);
    assert!(scene.api.take_seen().iter().all(|it| !it.contains("evil")));
}

/// A proxy removes the headers that `Connection` names (RFC 9110, 7.6.1), before it passes a request on.
fn nobody_hides_who_they_are(scene: &Scene) {
    let named =
        "close, X-Keyward-Account-Id, x-keyward-key-id,X-Keyward-Scopes, X-Keyward-Key-Name";
    let request = Request::new("GET", "/orders").key(&scene.reader.text);
    let response = scene.send(request.header("Connection", named));
    for seen in scene.api.take_seen() {
        let identities = seen.lines().filter(|it| it.starts_with("x-keyward-")).count();
        assert_eq!(identities, 5, "{response:?}: {seen}");
        let named = seen.lines().any(|it| it.starts_with("connection:") && it.contains("keyward"));
        assert!(!named, "whoever comes after would remove them: {seen}");
    }
}

fn the_key_stays_outside(scene: &Scene) {
    let key = &scene.reader.text;
    let as_bearer =
        Request::new("GET", "/orders").header("Authorization", &format!("Bearer {key}"));
    let beside = Request::new("GET", "/orders").key(key).header("Authorization", "Bearer other");
    for request in [Request::new("GET", "/orders").key(key), as_bearer] {
        scene.send(request).expect(200);
        let seen = scene.api.take_seen().pop().expect("the API was asked");
        assert!(!seen.contains(&key.to_ascii_lowercase()), "{seen}");
        assert!(!seen.contains("x-api-key:"), "{seen}");
    }
    scene.send(beside).expect(200);
    let seen = scene.api.take_seen().pop().expect("the API was asked");
    assert!(seen.contains("authorization: bearer other"), "{seen}");
    let twice = Request::new("GET", "/orders").key(key).key(&scene.writer.text);
    assert_eq!(scene.status(&twice), 401);
}

fn refusals_say_why(scene: &Scene, kind: Kind) {
    let keyless = scene.send(Request::new("GET", "/orders")).expect(401);
    let challenge = keyless.header("www-authenticate").unwrap_or_default();
    assert!(challenge.starts_with("ApiKey "), "{keyless:?}");
    let lacking = scene.send(Request::new("POST", "/orders").key(&scene.reader.text)).expect(403);
    for (response, code) in [(keyless, "missing_key"), (lacking, "missing_scope")] {
        assert_eq!(response.json()["code"], code, "{kind:?}: {response:?}");
        let kind = response.header("content-type");
        assert_eq!(kind, Some("application/problem+json"), "{response:?}");
        assert_eq!(response.header("cache-control"), Some("no-store"), "{response:?}");
    }
    // What the API itself refuses is the API's to say.
}

fn hides_nothing_when_keyward_is_away(scene: &mut Scene) {
    let request = || Request::new("GET", "/orders").key(&scene.reader.text);
    let asked = (request(), request());
    scene.keyward.stop();
    assert_eq!(scene.status(&asked.0), 503);
    scene.keyward.restart(|_| ());
    // Envoy and HAProxy may need a moment; nobody is let in meanwhile.
    assert_eq!(scene.status(&asked.1), 200);
    let keyless = scene.keyless("GET", "/orders");
    assert_eq!(keyless, 401);
}

/// keyward has no limits of rate yet; somebody else answers in its place as it will.
fn passes_on_that_it_is_too_much(scene: Scene, kind: Kind, file: &str) {
    const LIMITED: &str = "HTTP/1.1 429 Too Many Requests\r\nRetry-After: 7\r\n\
                           X-Keyward-Reason: rate_limited";
    drop(scene.keyward);
    let keyward = Stub::serve(free_address(), LIMITED);
    let around = Surroundings { keyward: keyward.address, api: scene.api.address };
    let proxy = kind.start(file, around);
    let request = Request::new("GET", "/orders").key("k").header("Host", "api.example.com");
    let response = request.send(proxy.address).expect(429);
    assert_eq!(response.header("retry-after"), Some("7"), "{kind:?}: {response:?}");
    assert_eq!(scene.api.take_seen().len(), 0);
}
