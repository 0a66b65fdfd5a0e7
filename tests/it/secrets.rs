//! A plaintext key is only in the answer that issues it: in no file, log, event or error.

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    path::Path,
};

use serde_json::{Value, json};

use crate::support::{Logged, Request, Response, keyward_in};

/// Returns the secret part of a key: without its public prefix and its checksum, which protects
/// nothing.
fn secret_of(key: &str) -> &str {
    assert_eq!(key.len(), 50);
    &key[12..44]
}

/// Encodes in base64. The alphabets differ only in digits that letters and figures never need.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for three in bytes.chunks_exact(3) {
        let bits = three.iter().fold(0_usize, |bits, it| bits << 8 | usize::from(*it));
        text.extend([18, 12, 6, 0].map(|shift| char::from(DIGITS[bits >> shift & 63])));
    }
    text
}

fn hex(text: &str) -> String {
    let digits = text.bytes().flat_map(|it| [it >> 4, it & 15]);
    digits.filter_map(|it| char::from_digit(it.into(), 16)).collect()
}

/// Returns the encodings of a text, at each offset in a longer text.
fn spellings(text: &str) -> Vec<String> {
    let mut all = vec![text.to_owned(), hex(text), hex(text).to_uppercase()];
    all.extend((0..3).map(|skip| base64(&text.as_bytes()[skip..])));
    all.push(text.chars().rev().collect());
    all
}

/// Returns the first encoding of the secret that is in `hay`.
fn leak(hay: &[u8], key: &str) -> Option<String> {
    let hay = String::from_utf8_lossy(hay);
    spellings(secret_of(key)).into_iter().find(|it| hay.contains(it))
}

fn files(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let entries = fs::read_dir(dir).unwrap().map(|it| it.unwrap().path());
    let files = entries.filter(|it| it.is_file()); // Without the socket.
    files.map(|it| (it.display().to_string(), fs::read(&it).unwrap())).collect()
}

#[track_caller]
fn assert_clean(what: &str, hay: &[u8], keys: &[String]) {
    for key in keys {
        let found = leak(hay, key);
        assert_eq!(found, None, "{what} holds the secret of {}", &key[..12]);
    }
}

#[test]
fn the_search_finds_secrets_that_are_there() {
    let key = "rg_8fK2mQ9zTabcdefghijklmnopqrstuvwxyz0123453bAXzK";
    let dir = tempfile::tempdir().unwrap();
    for before in ["", "x", "xy", "xyz"] {
        let text = format!("{before}{key}");
        for planted in [
            text.clone(),
            hex(&text),
            hex(&text).to_uppercase(),
            base64(text.as_bytes()),
            format!("\u{0}\u{fffd}{text}"),
            secret_of(key).to_owned(),
        ] {
            fs::write(
                dir.path().join("keyward.db-wal"),
                [b"\xff\x00", planted.as_bytes()].concat(),
            )
            .unwrap();
            let (name, hay) = files(dir.path()).pop().unwrap();
            assert!(leak(&hay, key).is_some(), "{name}: {planted}");
        }
    }
    assert_eq!(base64(b"Man any carnal pleas"), "TWFuIGFueSBjYXJuYWwgcGxl");
    assert_eq!(leak(&key.as_bytes()[..12], key), None);
}

/// One run: the server, every key that was issued, and everything else that it answered.
struct Run {
    address: SocketAddr,
    root: String,
    keys: Vec<String>,
    answers: Vec<(String, Vec<u8>)>,
}

impl Run {
    fn send(&mut self, request: &Request) -> Response {
        let answer = request.send(self.address);
        self.answers.push((format!("the answer to {request:?}"), whole(&answer)));
        answer
    }

    fn root(&mut self, method: &str, path: &str, body: &Value) -> Response {
        self.send(&Request::new(method, path).key(&self.root).json(body))
    }

    /// Asks for a new plaintext key, and removes it from the answer, the only place where it may
    /// be.
    fn issue(&mut self, caller: &str, path: &str, body: &Value) -> (String, String) {
        let answer = Request::new("POST", path).key(caller).json(body).send(self.address);
        let mut body = answer.json();
        assert!(answer.status < 300, "{body}");
        let made = if body["apiKey"].is_object() { &mut body["apiKey"] } else { &mut body };
        let key = made.as_object_mut().unwrap().remove("key").expect("a key");
        let key = key.as_str().unwrap().to_owned();
        let id = made["id"].as_str().unwrap().to_owned();
        self.keys.push(key.clone());
        self.answers.push((format!("the rest of the answer to {path}"), body.to_string().into()));
        (id, key)
    }

    /// Sends these bytes and reads the answer.
    fn raw(&mut self, bytes: &str) {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.write_all(bytes.as_bytes()).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = Vec::new();
        // A closed connection is an answer too.
        let _ = stream.read_to_end(&mut answer);
        self.answers.push((format!("the answer to {bytes:?}"), answer));
    }
}

fn whole(answer: &Response) -> Vec<u8> {
    format!("{:?}\n{}", answer.headers, answer.text()).into_bytes()
}

/// Uses keys correctly, in every way.
fn use_well(run: &mut Run) -> (String, String) {
    let root = run.root.clone();
    let all = json!({ "name": "x", "scopes": ["orders:read", "api-keys:write", "api-keys:read"] });
    let (id, key) = run.issue(&root, "/api/v1/api-keys", &all);
    let (_, other) =
        run.issue(&key, "/api/v1/api-keys", &json!({ "name": "y", "scopes": ["orders:read"] }));
    let rotate = format!("/api/v1/api-keys/{id}/rotate");
    let (_, second) = run.issue(&root, &rotate, &json!({ "gracePeriodSeconds": 0 }));
    let (_, third) = run.issue(&second, "/api/v1/api-keys/self/rotate", &json!({}));
    run.root("POST", &format!("{rotate}/complete"), &json!({}));
    let (_, first) = run.issue(&root, "/api/v1/accounts", &json!({ "name": "Acme" }));
    for value in [&key, &other, &second, &third, &first] {
        for scopes in [json!([]), json!(["orders:read"]), json!(["webhooks:write"])] {
            let question = json!({ "key": value, "scopes": scopes });
            run.root("POST", "/api/v1/api-keys/verify", &question).expect(200);
        }
        run.send(&Request::new("GET", "/api/v1/api-keys/self").key(value));
        run.send(
            &Request::new("GET", "/api/v1/api-keys")
                .header("Authorization", &format!("Bearer {value}")),
        );
    }
    (id, third)
}

/// Makes every mistake that people make with keys.
fn misuse(run: &mut Run, id: &str, key: &str) {
    let typo = format!("{}{}", &key[..49], if key.ends_with('0') { '1' } else { '0' });
    for key in [key, &typo, &key[..49], &format!("{key}x")] {
        for body in [
            json!({ "key": key, "scopes": [key], "clientIp": key, key: key }),
            json!({ "key": [key] }),
            json!({ "key": { key: key } }),
            json!({ "key": format!(" {key}\n") }),
        ] {
            run.root("POST", "/api/v1/api-keys/verify", &body);
        }
        misplace_in_targets(run, key);
        misplace_in_headers(run, id, key);
        misplace_in_bodies(run, id, key);
        for bytes in [
            format!("GET /{key} HTTP/9.9\r\n\r\n"),
            format!("{key} / HTTP/1.1\r\nHost: x\r\n\r\n"),
            format!("GET / {key}\r\n\r\n"),
            format!("GET / HTTP/1.1\r\nHost: x\r\n{key}\r\n\r\n"),
            format!("GET / HTTP/1.1\r\nHost: x\r\nX-API-Key: {key}\u{1}\r\n\r\n"),
            format!("GET / HTTP/1.1\r\nHost: x\r\nContent-Length: {key}\r\n\r\n"),
            format!("GET http://{key}@x/ HTTP/1.1\r\nHost: x\r\n\r\n"),
            format!(
                "POST /api/v1/api-keys HTTP/1.1\r\nHost: x\r\nX-API-Key: {}\r\nContent-Type: \
                 application/json\r\nContent-Length: 4000\r\n\r\n{{\"name\": \"{key}",
                run.root
            ),
            format!("{key}\r\n\r\n"),
        ] {
            run.raw(&bytes);
        }
    }
}

fn misplace_in_targets(run: &mut Run, key: &str) {
    for name in
        ["/", "/api/v1/", "/api/v1/api-keys/", "/api/v1/accounts/", "/api/v1/events/", "/docs/"]
    {
        for method in ["GET", "DELETE", "POST", "BREW"] {
            run.root(method, &format!("{name}{key}"), &json!({}));
        }
        run.send(&Request::new("GET", &format!("{name}{key}")));
    }
    for query in ["key", "api_key", "q", "cursor", "status", "scope", "unusedSince", "limit"] {
        for path in ["/api/v1/api-keys", "/api/v1/events", "/livez", "/metrics", "/nothing"] {
            run.root("GET", &format!("{path}?{query}={key}"), &json!({}));
            run.send(&Request::new("GET", &format!("{path}?{query}={key}")));
            run.send(&Request::new("GET", &format!("{path}?{key}")).key(key));
        }
    }
}

fn misplace_in_headers(run: &mut Run, id: &str, key: &str) {
    for header in [
        "X-Key",
        "Cookie",
        "User-Agent",
        "Referer",
        "X-Request-Id",
        "If-Match",
        "Content-Type",
        "Idempotency-Key",
        "Host",
        "Content-Encoding",
        "Accept",
        "Range",
        "Expect",
        key,
        "Traceparent",
        "X-Forwarded-For",
        "Transfer-Encoding",
    ] {
        let root = run.root.clone();
        let path = format!("/api/v1/api-keys/{id}");
        let request = Request::new("PUT", &path).key(&root).header(header, key);
        run.send(&request.body("{}"));
        run.send(&Request::new("GET", &path).header(header, key));
    }
    for authorization in ["Bearer ", "bearer", "Basic ", "ApiKey ", ""] {
        let value = format!("{authorization}{key}");
        run.send(&Request::new("GET", "/api/v1/scopes").header("Authorization", &value));
        run.send(&Request::new("GET", "/api/v1/scopes").key(&value));
    }
}

fn misplace_in_bodies(run: &mut Run, id: &str, key: &str) {
    let root = run.root.clone();
    let path = format!("/api/v1/api-keys/{id}");
    for body in [
        json!({ "name": key, "scopes": ["orders:read"] }),
        json!({ "name": { key: key }, "scopes": key }),
        json!({ "name": "x", "scopes": [key, format!("{key}:read"), { key: key }] }),
        json!({ "name": "x", "scopes": ["orders:read"], "metadata": { key: key } }),
        json!({ "name": "x", "scopes": ["orders:read"], "metadata": { "a": [{ "b": key }] } }),
        json!({ "name": "x", "scopes": ["orders:read"], "expiresAt": key, "enabled": key }),
        json!({ key: key, "allowedIps": [key], "externalId": key, "allowedScopes": [key] }),
        json!({ "name": "x", "externalId": key, "metadata": { key: 1 } }),
        json!({ "gracePeriodSeconds": key, key: 1 }),
        json!([key]),
        json!(key),
    ] {
        run.root("PUT", &path, &body);
        run.root("POST", "/api/v1/api-keys", &body);
        run.root("POST", "/api/v1/accounts", &body);
        run.root("POST", &format!("{path}/rotate"), &body);
    }
    for text in [
        format!("{{\"name\": \"{key}"),
        format!("{{\"name\": {key}}}"),
        format!("{{\"{key}\": 1, \"{key}\": 2}}"),
        format!("name={key}"),
        key.to_owned(),
    ] {
        let request = Request::new("POST", "/api/v1/api-keys").key(&root).body(text);
        run.send(&request);
        run.send(&request.header("Content-Type", "application/json"));
    }
}

#[test]
fn a_key_is_only_in_the_answer_that_issues_it() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let server = Logged::serve(&data, &["--log-level", "trace"]);
    let root = server.binary.root_key();
    let address = server.binary.address;
    let mut run = Run { address, root: root.clone(), keys: vec![root], answers: vec![] };
    assert!(server.said().len() > 100, "it writes log lines");
    assert_clean("what it says at its start", server.said().as_bytes(), &run.keys);

    let (id, key) = use_well(&mut run);
    misuse(&mut run, &id, &key);
    let reset = keyward_in(&data, &["root-key", "reset"]);
    assert!(reset.status.success(), "{reset:?}");
    let fresh = server.binary.root_key();
    run.keys.push(fresh.clone());
    run.answers.push(("what the reset says".to_owned(), [reset.stdout, reset.stderr].concat()));
    run.send(&Request::new("GET", "/api/v1/scopes").key(&fresh)).expect(200);

    run.send(&Request::new("GET", "/metrics")).expect(200);
    let mut after = 0;
    loop {
        let page = run.root("GET", &format!("/api/v1/events?after={after}"), &json!({}));
        let Some(last) = page.expect(200).json()["data"].as_array().unwrap().last().cloned() else {
            break;
        };
        after = last["seq"].as_i64().unwrap();
    }
    run.root("GET", "/api/v1/api-keys", &json!({})).expect(200);
    run.root("GET", "/api/v1/accounts", &json!({})).expect(200);

    let mut places = files(&data);
    assert!(places.iter().any(|(name, hay)| name.ends_with("-wal") && !hay.is_empty()));
    let said = [&server.stdout, &server.stderr].map(|it| (it.display().to_string(), it.clone()));
    let ended = server.binary.terminate();
    assert!(ended.status.success());
    places.extend(files(&data));
    places.extend(said.map(|(name, path)| (name, fs::read(path).unwrap())));
    places.append(&mut run.answers);
    assert_eq!(run.keys.len(), 7);
    for (name, hay) in places {
        assert_clean(&name, &hay, &run.keys);
    }
}
