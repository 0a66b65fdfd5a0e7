//! An API behind real proxies, with the files that ship.

use crate::support::{
    Answer, Request, Stub,
    proxy::{Kind, Surroundings},
};

use self::scene::{READS, Scene};

/// A test for each proxy, named after the proxy. One that is not installed is skipped.
macro_rules! each_proxy {
    ($name:ident: $run:expr) => {
        mod $name {
            use super::*;

            each_proxy!(@ $run, nginx Nginx, caddy Caddy, haproxy HaProxy);
            each_proxy!(@ $run, envoy Envoy, traefik Traefik, apache Apache);
        }
    };
    (@ $run:expr, $($test:ident $kind:ident),*) => {$(
        #[test]
        fn $test() {
            if Kind::$kind.is_there() {
                $run(Kind::$kind);
            }
        }
    )*};
}

mod broken;
mod headers;
mod scene;
mod transport;

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

each_proxy!(an_api: protects_an_api);

fn protects_an_api(kind: Kind) {
    let [policy, scopes] = kind.files();
    let mut scene = Scene::new(kind, policy);
    for (method, path, expected) in BY_POLICY {
        assert_eq!(scene.statuses(method, path), expected, "{kind:?}: {method} {path}");
    }
    ambiguous_paths_do_not_pass(&scene);
    no_method_passes_without_a_key(&scene);
    lies_are_not_believed(&scene);
    the_key_stays_outside(&scene);
    refusals_say_why(&scene, kind);
    nothing_passes_while_keyward_is_away(&mut scene, kind);
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
    no_method_passes_without_a_key(&scene);
    lies_are_not_believed(&scene);
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
    // may not see, and never anything without a key.
    for path in [
        "//orders",
        "/orders//7",
        "/webhooks/../orders",
        "/webhooks/%2e%2e/orders",
        "/./orders",
        "http://api.example.com/orders",
        "http://api.example.com/health/../orders",
        "*",
        "orders",
    ] {
        for status in [scene.with(&scene.writer, "GET", path), scene.keyless("GET", path)] {
            assert!((400..500).contains(&status), "{path}: {status}");
        }
    }
}

/// Methods that programs between the client and the API may answer, or take for a tunnel.
fn no_method_passes_without_a_key(scene: &Scene) {
    for method in ["TRACE", "OPTIONS", "CONNECT", "PURGE", "get", "PROPFIND"] {
        for target in ["/orders", "*", "api.example.com:80"] {
            let request = Request::new(method, target).header("Host", "api.example.com");
            request.try_send(scene.proxy.address);
            assert_eq!(scene.api.take_seen(), [""; 0], "{method} {target}");
        }
    }
}

/// Headers by which a client might pass for another, or for a harmless request.
fn lies_are_not_believed(scene: &Scene) {
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
            "X-Keyward-Key-Expires-At: evil",
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
        "x-keyward-key-expires-at: -".to_owned(),
    ] {
        assert_eq!(seen.lines().filter(|it| *it == expected).count(), 1, "{expected}: {seen}");
    }
    let identities = seen.lines().filter(|it| it.starts_with("x-keyward-")).count();
    assert_eq!(identities, 6, "{seen}");
    assert!(!seen.contains("evil"), "{seen}");
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

fn nothing_passes_while_keyward_is_away(scene: &mut Scene, kind: Kind) {
    let request = || Request::new("GET", "/orders").key(&scene.reader.text);
    let asked = (request(), request());
    scene.keyward.stop();
    let away = if kind == Kind::Traefik { 500 } else { 503 };
    let refused = scene.send(asked.0);
    assert_eq!((refused.status, scene.api.take_seen().len()), (away, 0));
    // Envoy and Traefik say nothing about when to come back.
    if !matches!(kind, Kind::Envoy | Kind::Traefik) {
        assert_eq!(refused.header("retry-after"), Some("1"), "{kind:?}: {refused:?}");
    }
    scene.keyward.restart(|_| ());
    assert_eq!(scene.status(&asked.1), 200);
    let keyless = scene.keyless("GET", "/orders");
    assert_eq!(keyless, 401);
}

/// keyward has no rate limits yet; a stub answers in its place.
fn passes_on_that_it_is_too_much(scene: Scene, kind: Kind, file: &str) {
    const LIMITED: Answer = Answer::Head(
        "HTTP/1.1 429 Too Many Requests\r\nRetry-After: 7\r\n\
                           X-Keyward-Reason: rate_limited",
    );
    drop(scene.keyward);
    let keyward = Stub::start(LIMITED);
    let around = Surroundings { keyward: keyward.address, api: scene.api.address };
    let proxy = kind.start(file, around);
    let request = Request::new("GET", "/orders").key("k").header("Host", "api.example.com");
    let response = request.send(proxy.address).expect(429);
    assert_eq!(response.header("retry-after"), Some("7"), "{kind:?}: {response:?}");
    assert_eq!(scene.api.take_seen().len(), 0);
}
