//! Traefik is in no package that could be tried here. Its `forwardAuth` is replayed by the rules of
//! its documentation, with the file that ships: what it would send to keyward, and what it would
//! then send to the API.

use std::fs;

use crate::support::{Request, Response, TestServer, authz::sample};

/// What the middleware would do with a request.
#[derive(Debug)]
enum Outcome {
    /// The headers that the API would get.
    Passed(Vec<(String, String)>),
    Refused(Response),
}

/// The middleware as it is set up in `packaging/traefik/policy.yaml`.
struct ForwardAuth {
    target: String,
    sent: Vec<String>,
    copied: Vec<String>,
}

impl ForwardAuth {
    fn shipped() -> Self {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/packaging/traefik/policy.yaml");
        let text = fs::read_to_string(path).expect("the file");
        assert!(text.contains("trustForwardHeader: false"), "a client could say where it goes");
        let list = |name: &str| {
            let (_, rest) = text.split_once(&format!("{name}:\n")).expect(name);
            let items = rest.lines().map_while(|it| it.trim_start().strip_prefix("- "));
            items.map(str::to_ascii_lowercase).collect::<Vec<_>>()
        };
        let address = text.lines().find_map(|it| it.trim().strip_prefix("address: "));
        let target = address.and_then(|it| it.strip_prefix("http://127.0.0.1:8080"));
        Self {
            target: target.expect("keyward's address").to_owned(),
            sent: list("authRequestHeaders"),
            copied: list("authResponseHeaders"),
        }
    }

    /// With `trustForwardHeader: false`, the `X-Forwarded-*` are Traefik's own, whatever came; of
    /// the rest only those in the list are sent. On 2xx the listed headers of the answer replace
    /// the client's; any other answer goes to the client.
    fn ask(
        &self,
        server: &TestServer,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Outcome {
        let listed = |list: &[String], name: &str| list.contains(&name.to_ascii_lowercase());
        let kept = headers.iter().filter(|(name, _)| listed(&self.sent, name));
        let own = [
            ("X-Forwarded-Method", method),
            ("X-Forwarded-Proto", "http"),
            ("X-Forwarded-Host", "api.example.com"),
            ("X-Forwarded-Port", "80"),
            ("X-Forwarded-Uri", path),
            ("X-Forwarded-For", "198.51.100.7"),
        ];
        let question = kept
            .copied()
            .chain(own)
            .fold(Request::new("GET", &self.target), |request, (name, value)| {
                request.header(name, value)
            });
        let answer = server.send(&question);
        if !(200..300).contains(&answer.status) {
            return Outcome::Refused(answer);
        }
        let rest = headers.iter().filter(|(name, _)| !listed(&self.copied, name));
        let rest = rest.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let copied = answer.headers.iter().filter(|(name, _)| listed(&self.copied, name));
        Outcome::Passed(rest.chain(copied.cloned()).collect())
    }
}

#[test]
fn traefik_by_its_documented_rules_protects_an_api() {
    let server = TestServer::with(|it| it.authz.policy_file = Some(sample()));
    let traefik = ForwardAuth::shipped();
    let reader = server.key(&["orders:read"]);
    let lies = [
        ("X-Forwarded-Method", "GET"),
        ("X-Forwarded-Uri", "/health"),
        ("X-Original-URI", "/health"),
        ("X-Keyward-Key-Id", "key_evil"),
        ("X-Keyward-Key-Name", "evil"),
        ("X-Keyward-Account-Id", "acct_evil"),
        ("X-Keyward-External-Id", "evil"),
        ("X-Keyward-Scopes", "evil"),
    ];
    let key = ("X-API-Key", reader.text.as_str());
    let with_key = [&lies[..], &[key]].concat();

    let status = |method: &str, path: &str, headers: &[(&str, &str)]| match traefik
        .ask(&server, method, path, headers)
    {
        Outcome::Passed(_) => 200,
        Outcome::Refused(answer) => answer.status,
    };
    assert_eq!(status("GET", "/orders", &lies), 401);
    assert_eq!(status("GET", "/orders", &with_key), 200);
    assert_eq!(status("POST", "/orders", &with_key), 403);
    assert_eq!(status("GET", "/orders/../health", &with_key), 403);
    assert_eq!(status("GET", "//orders", &with_key), 403);
    assert_eq!(status("GET", "/health", &lies), 200);

    for (path, id) in [("/orders", reader.id.as_str()), ("/health", "-")] {
        let Outcome::Passed(headers) = traefik.ask(&server, "GET", path, &with_key) else {
            panic!("{path} is refused");
        };
        let told: Vec<_> = headers
            .iter()
            .filter(|(name, _)| name.to_lowercase().starts_with("x-keyward"))
            .collect();
        assert_eq!(told.len(), 5, "{told:?}");
        assert!(told.iter().all(|(_, value)| !value.contains("evil")), "{told:?}");
        assert!(told.iter().any(|(_, value)| value == id), "{told:?}");
    }
    let Outcome::Refused(answer) = traefik.ask(&server, "GET", "/orders", &[]) else {
        panic!("it passes");
    };
    assert_eq!(answer.problem(), "missing_key");
}
