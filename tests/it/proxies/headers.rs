//! A client can neither add nor remove an identity, and its key does not reach the API.

use super::scene::{READS, Scene};
use crate::support::{Request, authz::IDENTITY, proxy::Kind};

each_proxy!(no_spelling_of_an_identity_passes: no_spelling_passes);
each_proxy!(no_connection_header_removes_an_identity: no_connection_removes);
each_proxy!(no_bearer_key_passes: no_bearer_passes);

/// Returns the name with a hyphen, an underscore or a dot in the place of each hyphen, in all ways.
fn spellings(name: &str) -> Vec<String> {
    let mut words = name.split('-');
    let first = words.next().unwrap_or_default().to_owned();
    words.fold(vec![first], |spelled, word| {
        let longer =
            |it: &String| ['-', '_', '.'].iter().map(|c| format!("{it}{c}{word}")).collect();
        spelled.iter().flat_map(|it| -> Vec<_> { longer(it) }).collect()
    })
}

/// Returns the identity headers by the names that a CGI program sees (RFC 3875, 4.1.18), and by the
/// names in servers that also map dots.
fn as_cgi(head: &str) -> Vec<(String, String)> {
    let headers = head.lines().filter_map(|it| it.split_once(": "));
    let mut mapped: Vec<_> = headers
        .map(|(name, value)| (name.to_uppercase().replace(['-', '.'], "_"), value.to_owned()))
        .filter(|(name, _)| name.starts_with("X_KEYWARD"))
        .collect();
    mapped.sort();
    mapped
}

fn no_spelling_passes(kind: Kind) {
    let forged: Vec<_> = IDENTITY.iter().flat_map(|it| spellings(it)).collect();
    for file in kind.files() {
        let scene = Scene::new(kind, file);
        let plain = Request::new("GET", "/orders").key(&scene.reader.text);
        let public = Request::new("GET", "/health");
        for request in [plain, public] {
            let (_, Some(honest)) = scene.sent(&request) else {
                assert!(file.contains("scopes"), "{kind:?}: {request:?} passes");
                continue;
            };
            let honest = as_cgi(&honest);
            assert_eq!(honest.len(), 6, "{honest:?}");
            for name in &forged {
                let (status, seen) = scene.sent(&request.clone().header(name, "evil"));
                let seen = seen.map(|it| as_cgi(&it));
                let refused = seen.is_none() && (400..500).contains(&status);
                assert!(refused || seen.as_ref() == Some(&honest), "{kind:?}: {name}: {seen:?}");
            }
        }
        for name in &forged {
            let status = scene.status(&Request::new("GET", "/orders").header(name, "evil"));
            assert!((400..500).contains(&status), "{kind:?}: {name}: {status}");
        }
    }
}

/// A proxy removes the headers that `Connection` names (RFC 9110, 7.6.1) before it passes a request on.
fn no_connection_removes(kind: Kind) {
    let all = "X-Keyward-Key-Id, X-Keyward-Key-Name, X-Keyward-Account-Id, X-Keyward-External-Id, X-Keyward-Scopes, X-Keyward-Key-Expires-At";
    let (lower, joined) = (all.to_lowercase(), all.replace(", ", ",\t"));
    let first = &[all][..];
    let eleventh = &["x", "x", "x", "x", "x", "x", "x", "x", "x", "x", all][..];
    let upgrade = &["Upgrade", &lower][..];
    for file in kind.files() {
        let scene = Scene::new(kind, file);
        for values in [first, eleventh, upgrade, &["x, y", &joined], &["close", all, "keep-alive"]]
        {
            let request = Request::new("GET", "/orders").key(&scene.reader.text);
            let request = values.iter().fold(request, |it, value| it.header("Connection", value));
            let (status, seen) = scene.sent(&request);
            let Some(seen) = seen else {
                assert_eq!(status, 400, "{kind:?}: {values:?}");
                continue;
            };
            let identities = as_cgi(&seen);
            assert_eq!(identities.len(), 6, "{kind:?}: {values:?}: {seen}");
            assert!(identities.iter().any(|it| it.1 == READS.join(" ")), "{kind:?}: {seen}");
            let nominated = |it: &str| it.starts_with("connection:") && it.contains("keyward");
            assert!(!seen.lines().any(nominated), "the next proxy would remove them: {seen}");
        }
    }
}

/// Every form in which a client can write a key into `Authorization` so that keyward could accept
/// it.
fn no_bearer_passes(kind: Kind) {
    for file in kind.files() {
        let scene = Scene::new(kind, file);
        let key = &scene.reader.text;
        let plain = format!("Bearer {key}");
        assert_eq!(
            scene.status(&Request::new("GET", "/orders").header("Authorization", &plain)),
            200
        );
        for value in [
            plain.clone(),
            format!("bearer {key}"),
            format!("BEARER  {key}"),
            format!("Bearer \t{key}"),
            format!("Bearer\t{key}"),
            format!("Bearer \t \t{key}"),
            format!("Bearer {key}\t"),
            format!("Bearer {key} \t "),
            format!("\tBearer {key}"),
        ] {
            for path in ["/orders", "/health"] {
                let request = Request::new("GET", path).header("Authorization", &value);
                let other = Request::new("GET", path).header("Authorization", "Basic YTpi");
                let beside = Request::new("GET", path).key(key).header("Authorization", &value);
                for request in [request, other.header("Authorization", &value), beside] {
                    let seen = scene.sent(&request).1.unwrap_or_default();
                    let leaks = seen.contains(&key.to_ascii_lowercase());
                    assert!(!leaks, "{kind:?}: {request:?}: {seen}");
                }
            }
        }
    }
}

/// If keyward refuses the HTTP of a request, the proxy answers with an error that tells the client
/// not to try again.
#[test]
fn nginx_tells_the_client_that_its_request_is_not_sound() {
    if !Kind::Nginx.is_there() {
        return;
    }
    for file in Kind::Nginx.files() {
        let scene = Scene::new(Kind::Nginx, file);
        let ask = || Request::new("GET", "/orders").key(&scene.reader.text);
        let many = (0..100).fold(ask(), |it, i| it.header(&format!("X-Many-{i}"), "1"));
        let strange = ask().header("Authorization", &format!("Bearer \u{c}{}", scene.reader.text));
        for (request, status, code) in
            [(strange, 400, "bad_request"), (many, 431, "headers_too_large")]
        {
            let answer = scene.send(request).expect(status);
            assert_eq!(answer.json()["code"], code, "{file}");
            assert_eq!(answer.header("retry-after"), None, "{file}: {answer:?}");
            assert_eq!(answer.header("cache-control"), Some("no-store"), "{file}: {answer:?}");
            assert_eq!(scene.api.take_seen(), [""; 0], "{file}");
        }
    }
}
