//! An API behind real proxies, with the packaged configuration.

use serde_json::json;

use crate::support::{Key, Request, proxy::Kind};

use self::scene::{READS, Scene};

/// Makes a test for each proxy, named after the proxy. A proxy that is not installed is skipped.
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

/// The requests to every proxy with its policy file, and the required answers.
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

/// Returns the table as the documentation shows it.
fn table() -> String {
    let row = |(method, path, statuses): &(&str, &str, [u16; 5])| {
        let cells: Vec<_> = statuses.iter().map(ToString::to_string).collect();
        format!("| `{method} {path}` | {} |\n", cells.join(" | "))
    };
    BY_POLICY.iter().map(row).collect()
}

#[test]
fn the_documentation_shows_the_measured_table() {
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
            assert!(!passed, "{kind:?}: no rule names {method} {path}");
        }
    }
    ambiguous_paths_do_not_pass(&scene);
    no_method_passes_without_a_key(&scene);
    lies_are_not_believed(&scene);
    the_key_stays_outside(&scene);
    passes_on_what_limits_say(&scene, kind);
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
    // A proxy may normalise these paths, and then the normalised path counts. The writer must not
    // read what it may not, and nothing passes without a key.
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

/// Methods that programs between the client and the API may answer, or understand as a tunnel.
fn no_method_passes_without_a_key(scene: &Scene) {
    for method in ["TRACE", "OPTIONS", "CONNECT", "PURGE", "get", "PROPFIND"] {
        for target in ["/orders", "*", "api.example.com:80"] {
            let request = Request::new(method, target).header("Host", "api.example.com");
            request.try_send(scene.proxy.address);
            assert_eq!(scene.api.take_seen(), [""; 0], "{method} {target}");
        }
    }
}

/// Headers by which a client could pretend to be another, or to send a harmless request.
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
    let token = "Bearer eyJ0eXAiOiJhdCtqd3QifQ.eyJzdWIiOiJhY2N0XzEifQ.rg_8fK2mQ9zT-c2lnbmF0dXJl";
    let alone = Request::new("GET", "/orders").header("Authorization", token);
    let beside = Request::new("GET", "/orders").key(key).header("Authorization", token);
    for request in [Request::new("GET", "/orders").key(key), as_bearer] {
        scene.send(request).expect(200);
        let seen = scene.api.take_seen().pop().expect("the API was asked");
        assert!(!seen.contains(&key.to_ascii_lowercase()), "{seen}");
        assert!(!seen.contains("x-api-key:"), "{seen}");
    }
    scene.send(beside).expect(200);
    let seen = scene.api.take_seen().pop().expect("the API was asked");
    let passed = format!("authorization: {}", token.to_ascii_lowercase());
    assert!(seen.lines().any(|it| it == passed), "{seen}");
    assert_eq!(scene.status(&alone), 401);
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
    // Refusals of the API itself are passed on unchanged.
}

fn nothing_passes_while_keyward_is_away(scene: &mut Scene, kind: Kind) {
    let request = || Request::new("GET", "/orders").key(&scene.reader.text);
    let asked = (request(), request());
    scene.keyward.stop();
    let away = if kind == Kind::Traefik { 500 } else { 503 };
    let refused = scene.send(asked.0);
    assert_eq!((refused.status, scene.api.take_seen().len()), (away, 0));
    // Envoy and Traefik send no `Retry-After`.
    if !matches!(kind, Kind::Envoy | Kind::Traefik) {
        assert_eq!(refused.header("retry-after"), Some("1"), "{kind:?}: {refused:?}");
    }
    scene.keyward.restart(|_| ());
    assert_eq!(scene.status(&asked.1), 200);
    let keyless = scene.keyless("GET", "/orders");
    assert_eq!(keyless, 401);
}

/// The proxy shows the client what keyward says, and tells keyward the address of the client.
fn passes_on_what_limits_say(scene: &Scene, kind: Kind) {
    let make = |networks: &str, limit: u32| {
        let body = json!({
            "name": "limited", "scopes": READS, "allowedIps": [networks],
            "rateLimit": { "limit": limit, "windowSeconds": 3600 },
        });
        scene.keyward.create(&scene.keyward.root.text, &body)
    };
    let request = |key: &Key| Request::new("GET", "/orders").key(&key.text);
    // In place of a loopback address, Envoy names the address of its own machine.
    let own = if kind == Kind::Envoy { "0.0.0.0/0" } else { "127.0.0.0/8" };
    let key = make(own, 2);
    assert_eq!([0; 3].map(|_| scene.status(&request(&key))), [200, 200, 429], "{kind:?}");
    let response = scene.send(request(&key)).expect(429);
    let until: u64 = response.header("retry-after").unwrap_or_default().parse().unwrap_or(0);
    assert!((1..=3600).contains(&until), "{kind:?}: {response:?}");
    let left = format!("\"key\";r=0;t={until}");
    assert_eq!(response.header("ratelimit"), Some(&*left), "{kind:?}: {response:?}");
    let policy = Some("\"key\";q=2;w=3600");
    assert_eq!(response.header("ratelimit-policy"), policy, "{kind:?}: {response:?}");
    assert_eq!(response.json()["code"], "rate_limited", "{kind:?}: {response:?}");
    let elsewhere = make("203.0.113.0/24", 2);
    let forged = request(&elsewhere).header("X-Forwarded-For", "203.0.113.7");
    for request in [request(&elsewhere), forged] {
        assert_eq!(scene.status(&request), 403, "{kind:?}");
        let response = scene.send(request).expect(403);
        assert_eq!(response.json()["code"], "ip_not_allowed", "{kind:?}: {response:?}");
    }
}
