//! Invalid input: refused with a complete problem document, and without any change.

use serde_json::{Value, json};

use crate::support::{Key, Request, Response, TestServer};

const KEYS: &str = "/api/v1/api-keys";
const ACCOUNTS: &str = "/api/v1/accounts";
const JSON: &str = "application/json";

/// A server with every kind of object that a request can name.
struct Site {
    server: TestServer,
    account: String,
    key: Key,
    events: usize,
}

impl Site {
    fn new() -> Self {
        let server = TestServer::start();
        let (account, _) = server.account(&json!({ "name": "Acme" }));
        let key = server.key(&["orders:read"]);
        let events = server.events().len();
        Self { server, account, key, events }
    }

    fn send(&self, method: &str, target: &str, media_type: &str, body: &[u8]) -> Response {
        let request = Request::new(method, target).key(&self.server.root.text);
        self.server.send(&request.header("Content-Type", media_type).body(body))
    }

    fn json(&self, method: &str, target: &str, body: &Value) -> Response {
        self.send(method, target, JSON, body.to_string().as_bytes())
    }

    /// Returns every operation that reads a body.
    fn readers(&self) -> Vec<(&'static str, String)> {
        let account = format!("{ACCOUNTS}/{}", self.account);
        vec![
            ("POST", KEYS.to_owned()),
            ("PUT", self.key.path()),
            ("PATCH", self.key.path()),
            ("POST", format!("{}/rotate", self.key.path())),
            ("POST", format!("{KEYS}/self/rotate")),
            ("POST", format!("{KEYS}/verify")),
            ("POST", ACCOUNTS.to_owned()),
            ("PUT", account.clone()),
            ("PATCH", account.clone()),
            ("POST", format!("{account}/api-keys")),
        ]
    }

    #[track_caller]
    fn assert_unchanged(&self) {
        let events = self.server.events();
        assert_eq!(events.len(), self.events, "{:?}", events.last());
    }
}

#[track_caller]
fn assert_refused(answer: &Response, status: u16, code: &str, why: &str) {
    assert_eq!((answer.status, &*answer.problem()), (status, code), "{why}: {}", answer.text());
}

fn fault(pointer: &str, code: &str) -> (String, String) {
    (pointer.to_owned(), code.to_owned())
}

fn nested(levels: usize) -> String {
    format!("{{\"metadata\": {}1{}}}", "{\"a\": ".repeat(levels), "}".repeat(levels))
}

#[test]
fn a_body_that_is_not_strict_json_is_refused_by_every_operation() {
    let site = Site::new();
    let (deep, deepest) = (nested(100), "[".repeat(60_000));
    for (method, target) in site.readers() {
        for body in [
            &b"{"[..],
            b"nul",
            b"{\"name\": \"a\",}",
            b"{'name': 'a'}",
            b"{\"name\": \"a\"} {}",
            b"\xef\xbb\xbf{}",
            b"{\"name\": \"\\ud800\"}",
            b"{\"name\": \"a\nb\"}",
            b"{\"name\": NaN}",
            b"{\"name\": 1e999}",
            b"{\"name\": 01}",
            b"{\"name\": \"a\", \"name\": \"a\"}",
            b"{\"metadata\": {\"a\": {\"b\": 1, \"b\": 1}}}",
            b"{\"name\": \"\xff\"}",
            b"\xff\xfe{\x00}\x00",
            b"name=a",
            b"<name>a</name>",
            b" ",
            deep.as_bytes(),
            deepest.as_bytes(),
        ] {
            let shown = String::from_utf8_lossy(&body[..body.len().min(40)]);
            let why = format!("{method} {target} {shown}");
            assert_refused(&site.send(method, &target, JSON, body), 400, "invalid_json", &why);
        }
        if !target.ends_with("/rotate") {
            assert_refused(&site.send(method, &target, JSON, b""), 400, "invalid_json", &target);
        }
    }
    site.assert_unchanged();
}

#[test]
fn json_that_is_not_an_object_is_refused_by_every_operation() {
    let site = Site::new();
    for (method, target) in site.readers() {
        for body in ["[]", "\"name\"", "1", "null", "true", "[{\"name\": \"a\"}]"] {
            let faults = site.send(method, &target, JSON, body.as_bytes()).faults();
            assert_eq!(
                faults.first(),
                Some(&fault("", "invalid_type")),
                "{method} {target} {body}"
            );
        }
    }
    site.assert_unchanged();
}

#[test]
fn only_plain_json_in_utf_8_is_a_body() {
    let site = Site::new();
    for (method, target) in site.readers() {
        for media_type in [
            "text/plain",
            "application/x-www-form-urlencoded",
            "application/jsonp",
            "application/merge-patch+json",
            "application/json; charset=iso-8859-1",
            "application/json; charset=latin1",
            "application/json; charset=utf-16",
            "json",
            "*/*",
            "",
        ] {
            let answer = site.send(method, &target, media_type, b"{}");
            assert_refused(&answer, 415, "unsupported_media_type", media_type);
        }
        let bare = Request::new(method, &target).key(&site.server.root.text).body("{}");
        let missing = site.server.send(&bare);
        assert_refused(&missing, 415, "unsupported_media_type", "no type at all");
        for coding in ["gzip", "br", "identity, gzip"] {
            let request = bare.clone().header("Content-Type", JSON);
            let answer = site.server.send(&request.header("Content-Encoding", coding));
            assert_refused(&answer, 415, "unsupported_media_type", coding);
        }
    }
    site.assert_unchanged();
    let body = json!({ "name": "n", "scopes": ["orders:read"] }).to_string();
    for media_type in [
        JSON,
        "Application/JSON",
        "application/json; charset=utf-8",
        "application/json;charset=\"UTF-8\"",
    ] {
        site.send("POST", KEYS, media_type, body.as_bytes()).expect(201);
    }
}

#[test]
fn a_body_is_at_most_64_kibibytes() {
    let site = Site::new();
    let padded = |len: usize| {
        let body = json!({ "name": "n", "scopes": ["orders:read"] }).to_string();
        let blanks = " ".repeat(len - body.len());
        (body + &blanks).into_bytes()
    };
    for len in [64 * 1024 + 1, 1024 * 1024] {
        for (method, target) in site.readers() {
            let answer = site.send(method, &target, JSON, &padded(len));
            assert_refused(&answer, 413, "payload_too_large", &target);
        }
    }
    site.assert_unchanged();
    site.send("POST", KEYS, JSON, &padded(64 * 1024)).expect(201);
}

#[test]
fn a_body_is_ignored_where_none_is_read() {
    let site = Site::new();
    let large = vec![0; 100_000];
    for (body, status) in [(&b"{"[..], 400), (b"{}", 200), (&large, 413)] {
        for target in [KEYS.to_owned(), site.key.path(), "/api/v1/scopes".to_owned()] {
            site.send("GET", &target, "text/plain", body).expect(status);
        }
    }
    site.assert_unchanged();
}

#[test]
fn every_fault_of_a_new_key_is_named() {
    let site = Site::new();
    let (long, longest) = ("x".repeat(101), "ü".repeat(101));
    for (member, value, code) in [
        ("name", json!(1), "invalid_type"),
        ("name", json!(["a"]), "invalid_type"),
        ("name", json!(null), "not_nullable"),
        ("name", json!(""), "out_of_range"),
        ("name", json!(" \u{2003} "), "out_of_range"),
        ("name", json!(long), "out_of_range"),
        ("name", json!(longest), "out_of_range"),
        ("name", json!("a\nb"), "invalid_format"),
        ("name", json!("a\u{0}b"), "invalid_format"),
        ("name", json!("\u{7}bell"), "invalid_format"),
        ("name", json!("a\u{9b}b"), "invalid_format"),
        ("name", json!("safe\u{202e}exe"), "invalid_format"),
        ("scopes", json!("orders:read"), "invalid_type"),
        ("scopes", json!({ "0": "orders:read" }), "invalid_type"),
        ("scopes", json!(null), "not_nullable"),
        ("scopes", json!([]), "out_of_range"),
        ("expiresAt", json!(1_800_000_000), "invalid_type"),
        ("expiresAt", json!(true), "invalid_type"),
        ("expiresAt", json!(""), "invalid_format"),
        ("expiresAt", json!("tomorrow"), "invalid_format"),
        ("expiresAt", json!("2027-01-01"), "invalid_format"),
        ("expiresAt", json!("2027-01-01T00:00:00"), "invalid_format"),
        ("expiresAt", json!("2027-01-01 00:00:00Z"), "invalid_format"),
        ("expiresAt", json!("2027-02-30T00:00:00Z"), "invalid_format"),
        ("expiresAt", json!("2027-02-29T00:00:00Z"), "invalid_format"),
        ("expiresAt", json!("2027-13-01T00:00:00Z"), "invalid_format"),
        ("expiresAt", json!("2027-01-01T24:00:00Z"), "invalid_format"),
        ("expiresAt", json!("2027-06-30T23:59:60Z"), "invalid_format"),
        ("expiresAt", json!("10000-01-01T00:00:00Z"), "invalid_format"),
        ("expiresAt", json!("9999-12-31T23:59:59-01:00"), "out_of_range"),
        ("expiresAt", json!("2025-12-31T23:59:59Z"), "in_the_past"),
        ("enabled", json!("true"), "invalid_type"),
        ("enabled", json!(1), "invalid_type"),
        ("enabled", json!(null), "not_nullable"),
        ("metadata", json!([]), "invalid_type"),
        ("metadata", json!("{}"), "invalid_type"),
        ("allowedIps", json!("10.0.0.0/8"), "invalid_type"),
        ("rateLimit", json!(100), "invalid_type"),
        ("allowed_ips", json!(["10.0.0.0/8"]), "unknown_field"),
        ("rate_limit", json!(null), "unknown_field"),
        ("accountId", json!(site.account), "unknown_field"),
        ("key", json!("mine"), "unknown_field"),
        ("Name", json!("n"), "unknown_field"),
        ("expires_at", json!(null), "unknown_field"),
    ] {
        let mut body = json!({ "name": "n", "scopes": ["orders:read"] });
        body[member] = value;
        let expected = [fault(&format!("/{member}"), code)];
        assert_eq!(site.json("POST", KEYS, &body).faults(), expected, "{body}");
        let change = json!({ member: body[member] });
        assert_eq!(site.json("PUT", &site.key.path(), &change).faults(), expected, "{change}");
    }
    site.assert_unchanged();
    let hundred = json!({ "name": "ü".repeat(100), "scopes": ["orders:read"] });
    site.json("POST", KEYS, &hundred).expect(201);
}

#[test]
fn a_missing_member_of_a_new_key_is_named() {
    let site = Site::new();
    for (body, missing) in
        [(json!({ "scopes": ["orders:read"] }), "/name"), (json!({ "name": "n" }), "/scopes")]
    {
        assert_eq!(site.json("POST", KEYS, &body).faults(), [fault(missing, "required")]);
    }
    site.assert_unchanged();
}

#[test]
fn every_unknown_scope_is_named_by_its_place() {
    let site = Site::new();
    let scopes = json!(["orders:read", "orders:*", 5, "ORDERS:READ", "", "orders:read ", null]);
    let expected = [
        fault("/scopes/1", "unknown_scope"),
        fault("/scopes/2", "invalid_type"),
        fault("/scopes/3", "unknown_scope"),
        fault("/scopes/4", "unknown_scope"),
        fault("/scopes/5", "unknown_scope"),
        fault("/scopes/6", "invalid_type"),
    ];
    let body = json!({ "name": "n", "scopes": scopes });
    assert_eq!(site.json("POST", KEYS, &body).faults(), expected);
    assert_eq!(site.json("PUT", &site.key.path(), &json!({ "scopes": scopes })).faults(), expected);
    let question = json!({ "key": "k", "scopes": scopes });
    assert_eq!(site.json("POST", &format!("{KEYS}/verify"), &question).faults(), expected);
    site.assert_unchanged();
}

#[test]
fn several_faults_are_told_at_once() {
    let site = Site::new();
    let body = json!({
        "name": "", "scopes": ["order:read"], "expiresAt": "2027-02-30T00:00:00Z", "enabled": 1,
        "metadata": 1, "a/b~c": 1, "": 1,
    });
    let mut faults = site.json("POST", KEYS, &body).faults();
    faults.sort();
    let expected = [
        fault("/", "unknown_field"),
        fault("/a~1b~0c", "unknown_field"),
        fault("/enabled", "invalid_type"),
        fault("/expiresAt", "invalid_format"),
        fault("/metadata", "invalid_type"),
        fault("/name", "out_of_range"),
        fault("/scopes/0", "unknown_scope"),
    ];
    assert_eq!(faults, expected);
    let body = json!({ "maxKeys": 0, "externalId": "a b", "allowedScopes": ["x:y"], "status": "" });
    let mut faults = site.json("POST", ACCOUNTS, &body).faults();
    faults.sort();
    let expected = [
        fault("/allowedScopes/0", "unknown_scope"),
        fault("/externalId", "invalid_format"),
        fault("/maxKeys", "out_of_range"),
        fault("/name", "required"),
        fault("/status", "unknown_field"),
    ];
    assert_eq!(faults, expected);
    site.assert_unchanged();
}

#[test]
fn a_key_is_stored_only_where_keys_are_stored() {
    let site = Site::new();
    let secret = &site.key.text;
    let made = |member: &str, value: Value| {
        let mut body = json!({ "name": "n", "scopes": ["orders:read"] });
        body[member] = value;
        site.json("POST", KEYS, &body)
    };
    let account = |method: &str, target: &str, member: &str, value: Value| {
        let mut body = json!({ "name": "n" });
        body[member] = value;
        site.json(method, target, &body)
    };
    let own = format!("{ACCOUNTS}/{}", site.account);
    for (pointer, answer) in [
        ("/name", made("name", json!(secret))),
        ("/name", made("name", json!(format!("the key {secret}, for the shop")))),
        ("/metadata", made("metadata", json!({ "a": { "b": [secret] } }))),
        ("/metadata", made("metadata", json!({ secret: 1 }))),
        ("/name", site.json("PUT", &site.key.path(), &json!({ "name": secret }))),
        ("/metadata", site.json("PUT", &site.key.path(), &json!({ "metadata": { "a": secret } }))),
        ("/name", account("POST", ACCOUNTS, "name", json!(secret))),
        ("/externalId", account("POST", ACCOUNTS, "externalId", json!(secret))),
        ("/externalId", account("PUT", &own, "externalId", json!(format!("x{secret}")))),
        ("/metadata", account("PUT", &own, "metadata", json!({ "a": secret }))),
    ] {
        assert_eq!(answer.faults(), [fault(pointer, "contains_api_key")]);
        assert!(!answer.text().contains(&secret[12..]), "{}", answer.text());
    }
    let escaped = format!("{{\"name\": \"{}\"}}", secret.replace('_', "\\u005f"));
    let answer = site.send("PUT", &site.key.path(), JSON, escaped.as_bytes());
    assert_eq!(answer.faults(), [fault("/name", "contains_api_key")]);
    site.assert_unchanged();
}

#[test]
fn an_identifier_of_another_kind_is_answered_with_404() {
    let site = Site::new();
    for target in [
        format!("{KEYS}/{}", site.account),
        format!("{ACCOUNTS}/{}", site.key.id),
        format!("{ACCOUNTS}/{}/api-keys", site.key.id),
        format!("/api/v1/events/{}", site.key.id),
        format!("{ACCOUNTS}/{}", &site.key.text[..12]),
        format!("{KEYS}/{}", site.key.id.to_uppercase()),
        format!("{KEYS}/{}%20", site.key.id),
        format!("{KEYS}/{}/rotation", site.key.id),
    ] {
        let answer = site.server.get(&site.server.root.text, &target);
        assert_refused(&answer, 404, "not_found", &target);
    }
    site.assert_unchanged();
}

#[test]
fn a_grace_period_is_a_whole_number_of_seconds_up_to_a_week() {
    let site = Site::new();
    let rotate = format!("{}/rotate", site.key.path());
    for (grace, code) in [
        (json!(-1), "out_of_range"),
        (json!(604_801), "out_of_range"),
        (json!(1.5), "invalid_type"),
        (json!("300"), "invalid_type"),
        (json!(1e30), "invalid_type"),
        (json!(null), "not_nullable"),
    ] {
        let faults = site.json("POST", &rotate, &json!({ "gracePeriodSeconds": grace })).faults();
        assert_eq!(faults, [fault("/gracePeriodSeconds", code)], "{grace}");
    }
    site.assert_unchanged();
}
