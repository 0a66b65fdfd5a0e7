//! Forward auth as proxies call it: which scopes a request needs, and which headers are trusted.

use std::fs;

use crate::support::{
    Key, Request, TestServer,
    authz::{IDENTITY, ask, assert_refused, decided, guarded, questions},
    forged,
};

const MOUNTS: [&str; 4] = ["/authz/nginx", "/authz/forward", "/authz/envoy/orders", "/authz"];

#[test]
fn the_policy_says_which_scopes_a_request_needs() {
    let server = guarded();
    let reader = server.key(&["orders:read", "products:read"]);
    let writer = server.key(&["orders:write", "webhooks:write"]);
    for (method, target, reads, writes) in [
        ("GET", "/orders", 200, 403),
        ("HEAD", "/orders/7?expand=items", 200, 403),
        ("POST", "/orders", 403, 200),
        ("DELETE", "/orders/7/items/1", 403, 200),
        ("GET", "/products/1", 200, 403),
        ("PATCH", "/products/1", 403, 403),
        ("GET", "/inventory/products/1", 200, 403),
        ("GET", "/inventory/warehouses", 403, 403),
        ("GET", "/commissions", 403, 403),
        ("PUT", "/webhooks/1", 403, 200),
        ("GET", "/%6Frders", 200, 403),
    ] {
        let reader = decided(&server, method, target, Some(&reader));
        let writer = decided(&server, method, target, Some(&writer));
        assert_eq!((reader.0, writer.0), (reads, writes), "{method} {target}");
        for (status, reason) in [reader, writer] {
            assert_eq!(reason, if status == 403 { "missing_scope" } else { "" });
        }
        assert_refused(decided(&server, method, target, None), 401, "missing_key");
        let root = Key { text: server.root.text.clone(), ..server.root.clone() };
        assert_eq!(decided(&server, method, target, Some(&root)).0, 200, "{method} {target}");
    }
}

#[test]
fn a_request_without_a_matching_route_is_refused_and_a_public_one_passes() {
    let server = guarded();
    for (method, target) in
        [("GET", "/"), ("GET", "/orders-admin"), ("PURGE", "/orders"), ("POST", "/health")]
    {
        for key in [None, Some(&server.root)] {
            assert_refused(decided(&server, method, target, key), 403, "no_route");
        }
    }
    let forgery = Key { text: forged("rg_"), ..server.root.clone() };
    for key in [None, Some(&forgery)] {
        for request in questions("GET", "/health") {
            let request = key.iter().fold(request, |it, key| it.key(&key.text));
            let response = server.send(&request).expect(200);
            assert!(IDENTITY.iter().all(|it| response.header(it) == Some("-")), "{response:?}");
        }
    }
}

#[test]
fn a_path_that_can_be_read_in_two_ways_is_refused() {
    for server in [guarded(), TestServer::start()] {
        for target in [
            "/orders%2F7",
            "/orders%2f..%2fhealth",
            "/orders/../health",
            "/orders/%2e%2e/health",
            "/orders/./7",
            "//orders",
            "/orders//7",
            "/orders\\7",
            "/orders%5C7",
            "/orders;v=1",
            "/orders/%00",
            "/orders/%c3%28",
            "/orders/%252e",
            "/orders/%zz",
        ] {
            let answer = decided(&server, "GET", target, Some(&server.root));
            assert_refused(answer, 403, "ambiguous_path");
        }
    }
}

/// Some servers read `get` as `GET`, and compare paths without regard to case.
#[test]
fn a_request_that_a_lenient_server_reads_as_another_is_refused() {
    for server in [guarded(), TestServer::start()] {
        for method in ["get", "Get", "pATCH"] {
            // Another HTTP library reads the method of Envoy's question.
            let [nginx, forward, _] =
                questions(method, "/orders").map(|it| it.key(&server.root.text));
            for request in [nginx, forward] {
                assert_refused(ask(&server, &request), 403, "ambiguous_method");
            }
        }
    }
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("routes.toml");
    let route = |path: &str, scope: &str| {
        format!("[[route]]\nmethods = [\"*\"]\npath = \"{path}\"\nscopes = [{scope}]\n")
    };
    let text = route("/orders/admin/**", "\"orders:write\"") + &route("/orders/**", "");
    fs::write(&file, text).expect("a policy");
    let server = TestServer::with(|it| it.authz.policy_file = Some(file));
    for path in [
        "/orders/ADMIN",
        "/orders/admin.",
        "/orders/admin%20/7",
        "/orders/admin%3Fx",
        "/orders/admin.json",
    ] {
        let answer = decided(&server, "GET", path, Some(&server.root));
        assert_refused(answer, 403, "ambiguous_path");
    }
    for path in ["/orders/admin", "/orders/Other.", "/orders/C%23"] {
        assert_eq!(decided(&server, "GET", path, Some(&server.root)).0, 200, "{path}");
    }
}

#[test]
fn each_mount_ignores_the_headers_of_the_others() {
    let server = guarded();
    let reader = server.key(&["orders:read"]);
    let [nginx, forward, envoy] = questions("POST", "/orders").map(|it| it.key(&reader.text));
    let lies = [
        nginx
            .header("X-Forwarded-Method", "GET")
            .header("X-Forwarded-Uri", "/health")
            .header("X-Original-URL", "/health")
            .header("X-HTTP-Method-Override", "GET"),
        forward.header("X-Original-Method", "GET").header("X-Original-URI", "/health"),
        envoy
            .header("X-Original-Method", "GET")
            .header("X-Original-URI", "/health")
            .header("X-Forwarded-Method", "GET")
            .header("X-Forwarded-Uri", "/health")
            .header("X-Envoy-Original-Path", "/health"),
    ];
    for request in lies {
        let request = request.header("X-Keyward-Scopes", "orders:write").header("Scope", "*");
        assert_refused(ask(&server, &request), 403, "missing_scope");
    }
    // Headers of the other family do not replace missing headers of the proxy.
    let unsaid = Request::new("GET", "/authz/nginx")
        .key(&reader.text)
        .header("X-Forwarded-Method", "GET")
        .header("X-Forwarded-Uri", "/health");
    assert_refused(ask(&server, &unsaid), 403, "authz_misconfigured");
    // One comes from the proxy and one from its client. keyward cannot tell which is which.
    let [nginx, forward, _] = questions("GET", "/orders").map(|it| it.key(&reader.text));
    let twice = [
        nginx.clone().header("X-Original-URI", "/health"),
        nginx.header("X-Original-Method", "GET"),
        forward.clone().header("X-Forwarded-Uri", "/health"),
        forward.header("X-Forwarded-Host", "other.example.com"),
    ];
    for request in twice {
        assert_refused(ask(&server, &request), 403, "authz_misconfigured");
    }
}

#[test]
fn each_mount_reads_the_host_from_its_own_header() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("routes.toml");
    let route = |host: &str, scope: &str| {
        format!(
            "[[route]]\nhosts = [\"{host}\"]\nmethods = [\"GET\"]\npath = \"/**\"\nscopes = [\"{scope}\"]\n"
        )
    };
    let text = route("api.example.com", "orders:read") + &route("*.example.org", "orders:write");
    fs::write(&file, text).expect("a policy");
    let server = TestServer::with(|it| it.authz.policy_file = Some(file));
    let reader = server.key(&["orders:read"]);
    let on = |host: &str| {
        let [nginx, _, envoy] = questions("GET", "/").map(|it| it.key(&reader.text));
        let forward = Request::new("GET", "/authz/forward")
            .key(&reader.text)
            .header("X-Forwarded-Method", "GET")
            .header("X-Forwarded-Uri", "/")
            .header("X-Forwarded-Host", host)
            .header("Host", "api.example.com");
        let nginx = nginx.header("Host", host).header("X-Forwarded-Host", "api.example.com");
        let envoy = envoy.header("Host", host).header("X-Forwarded-Host", "api.example.com");
        [nginx, forward, envoy].map(|it| ask(&server, &it).1)
    };
    assert_eq!(on("API.example.com:8443"), ["", "", ""]);
    assert_eq!(on("eu.example.org"), ["missing_scope"; 3]);
    assert_eq!(on("example.net"), ["no_route"; 3]);
}

#[test]
fn scopes_in_the_url_and_in_the_policy_are_all_required() {
    let server = guarded();
    let reader = server.key(&["orders:read"]);
    let both = server.key(&["orders:read", "commissions:read"]);
    let question = |query: &str, key: &Key| {
        let request = Request::new("GET", &format!("/authz/nginx{query}"))
            .header("X-Original-Method", "GET")
            .header("X-Original-URI", "/orders?scope=orders:write&x=1")
            .key(&key.text);
        ask(&server, &request)
    };
    assert_eq!(question("", &reader).0, 200);
    assert_refused(question("?scope=commissions:read", &reader), 403, "missing_scope");
    assert_eq!(question("?scope=commissions:read", &both).0, 200);
    assert_eq!(question("?scope=orders:read&scope=commissions:read", &both).0, 200);
    for mistake in ["?scope=", "?scope=order:read", "?scopes=orders:read", "?scope=orders:read&x=1"]
    {
        assert_refused(question(mistake, &server.root), 403, "authz_misconfigured");
    }
    // A public route does not remove the scopes that the proxy asks for.
    let health = Request::new("GET", "/authz/nginx?scope=orders:read")
        .header("X-Original-Method", "GET")
        .header("X-Original-URI", "/health");
    assert_refused(ask(&server, &health), 401, "missing_key");
    // The client chooses the query of an Envoy request, so it neither adds scopes nor causes an
    // error.
    let envoy = Request::new("GET", "/authz/envoy/orders?scope=commissions:read&x=1");
    assert_eq!(ask(&server, &envoy.key(&reader.text)).0, 200);
}

#[test]
fn without_a_policy_only_the_url_names_the_required_scopes() {
    let server = TestServer::start();
    let reader = server.key(&["orders:read"]);
    for (mount, method) in MOUNTS.into_iter().flat_map(|it| {
        ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PURGE"].map(|method| (it, method))
    }) {
        let plain = Request::new(method, mount);
        assert_eq!(ask(&server, &plain.clone().key(&reader.text)).0, 200, "{method} {mount}");
        assert_refused(ask(&server, &plain), 401, "missing_key");
    }
    for mount in ["/authz/nginx", "/authz/forward", "/authz"] {
        let question = |scope: &str| {
            let target = format!("{mount}?scope={scope}");
            ask(&server, &Request::new("POST", &target).key(&reader.text).body("{}"))
        };
        assert_eq!(question("orders:read").0, 200);
        assert_refused(question("orders:write"), 403, "missing_scope");
        assert_refused(question("*"), 403, "missing_scope");
    }
}
