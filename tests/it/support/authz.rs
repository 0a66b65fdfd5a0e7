//! The authorization requests of proxies, and the checks that every answer must pass.

use std::path::PathBuf;

use crate::support::{Key, Request, Response, TestServer};

pub const IDENTITY: [&str; 6] = [
    "x-keyward-key-id",
    "x-keyward-key-name",
    "x-keyward-account-id",
    "x-keyward-external-id",
    "x-keyward-scopes",
    "x-keyward-key-expires-at",
];

/// Starts a server with the sample policy.
pub fn guarded() -> TestServer {
    TestServer::with(|it| it.authz.policy_file = Some(sample()))
}

pub fn sample() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("packaging/routes.toml")
}

/// Returns the authorization request of a proxy on each mount that describes the original request.
pub fn questions(method: &str, target: &str) -> [Request; 3] {
    [
        Request::new("GET", "/authz/nginx")
            .header("X-Original-Method", method)
            .header("X-Original-URI", target),
        Request::new("GET", "/authz/forward")
            .header("X-Forwarded-Method", method)
            .header("X-Forwarded-Uri", target)
            .header("X-Forwarded-Host", "api.example.com"),
        Request::new(method, &format!("/authz/envoy{target}")),
    ]
}

/// Checks the properties of every answer; returns its status and reason.
#[track_caller]
pub fn outcome(request: &Request, response: &Response) -> (u16, String) {
    let header = |name| response.header(name);
    assert_eq!(header("cache-control"), Some("no-store"), "{request:?}");
    assert!(header("x-request-id").is_some_and(|it| !it.is_empty()), "{request:?}");
    if response.status == 200 {
        assert!(response.body.is_empty(), "{request:?}");
        for name in IDENTITY {
            assert!(header(name).is_some_and(|it| !it.is_empty()), "{name}: {response:?}");
        }
        return (200, String::new());
    }
    assert!(matches!(response.status, 401 | 403), "{request:?}: {response:?}");
    assert_eq!(header("www-authenticate").is_some(), response.status == 401, "{response:?}");
    assert!(IDENTITY.iter().all(|it| header(it).is_none()), "{response:?}");
    let reason = header("x-keyward-reason").expect("a reason").to_owned();
    if format!("{request:?}").contains("/authz/nginx") {
        assert!(response.body.is_empty() && header("content-type").is_none(), "{response:?}");
        assert_eq!(header("content-length"), Some("0"));
    } else if !format!("{request:?}").contains("HEAD") {
        assert_eq!(response.problem(), reason);
    }
    (response.status, reason)
}

#[track_caller]
pub fn ask(server: &TestServer, request: &Request) -> (u16, String) {
    outcome(request, &server.send(request))
}

/// Returns the decision of the three mounts, which must agree.
#[track_caller]
pub fn decided(
    server: &TestServer,
    method: &str,
    target: &str,
    key: Option<&Key>,
) -> (u16, String) {
    let answers = questions(method, target).map(|it| {
        let request = key.iter().fold(it, |it, key| it.key(&key.text));
        ask(server, &request)
    });
    let [first, ..] = &answers;
    assert!(answers.iter().all(|it| it == first), "{method} {target}: {answers:?}");
    first.clone()
}

#[track_caller]
pub fn assert_refused((actual, why): (u16, String), status: u16, reason: &str) {
    assert_eq!((actual, why.as_str()), (status, reason));
}
