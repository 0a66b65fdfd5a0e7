//! Creating a key: its plaintext is shown once, and it has what was asked for and no more.

use std::time::Duration;

use keyward::domain::plaintext_key::PrefixLabel;
use serde_json::{Value, json};

use crate::support::{Response, TestServer, checksum};

const KEYS: &str = "/api/v1/api-keys";
const DAY: Duration = Duration::from_hours(24);
/// The documented members in their order; `key` is only in the answers that issue one.
const MEMBERS: [&str; 20] = [
    "id",
    "name",
    "key",
    "keyPrefix",
    "scopes",
    "unusedScopes",
    "createdAt",
    "expiresAt",
    "lastUsedAt",
    "accountId",
    "status",
    "enabled",
    "createdBy",
    "updatedAt",
    "rotatedAt",
    "previousKeys",
    "allowedIps",
    "rateLimit",
    "consoleLink",
    "metadata",
];

fn ask(server: &TestServer, caller: &str, scopes: &[&str]) -> Response {
    server.post(caller, KEYS, &json!({ "name": "child", "scopes": scopes }))
}

/// Asserts that the answer refuses additional scopes and names exactly these.
#[track_caller]
fn assert_escalation(answer: &Response, beyond: &[&str], held: &[&str]) {
    assert_eq!((answer.status, &*answer.problem()), (403, "scope_escalation"), "{answer:?}");
    let detail = answer.json()["detail"].as_str().unwrap().to_owned();
    assert!(beyond.iter().all(|it| detail.contains(it)), "{detail}");
    assert!(!held.iter().any(|it| detail.contains(it)), "{detail}");
}

fn members(object: &Value) -> Vec<&str> {
    object.as_object().unwrap().keys().map(String::as_str).collect()
}

#[test]
fn a_created_key_is_shown_completely_once_and_works_at_once() {
    let server = TestServer::start();
    let body = json!({
        "name": "Production Integration",
        "scopes": ["products:read", "orders:read", "orders:read"],
        "expiresAt": "2027-01-20T02:00:00.1239+02:00",
    });
    let answer = server.post(&server.root.text, KEYS, &body).expect(201);
    let key = answer.json();
    let text = key["key"].as_str().unwrap();
    assert_eq!(
        answer.header("location"),
        Some(&*format!("/api/v1/api-keys/{}", key["id"].as_str().unwrap()))
    );
    assert_eq!(key["scopes"], json!(["orders:read", "products:read"]));
    assert_eq!(key["expiresAt"], "2027-01-20T00:00:00.123Z");
    assert_eq!(key["keyPrefix"], text[..12]);
    assert_eq!(server.code(text), "VALID");
    let shown = server.get(&server.root.text, answer.header("location").unwrap()).expect(200);
    assert!(!shown.text().contains(text));
}

#[test]
fn the_object_has_exactly_the_documented_members_in_their_order() {
    let server = TestServer::start();
    let body = json!({ "name": "n", "scopes": ["orders:read", "api-keys:write"] });
    let answer = server.post(&server.root.text, KEYS, &body).expect(201);
    let made = answer.json();
    assert_eq!(members(&made), MEMBERS);
    assert_eq!(answer.header("etag"), Some("\"1\""));
    let facts = json!({
        "name": "n", "status": "active", "enabled": true, "createdBy": server.root.id,
        "createdAt": "2026-01-01T00:00:00.000Z", "updatedAt": "2026-01-01T00:00:00.000Z",
        "expiresAt": null, "lastUsedAt": null, "rotatedAt": null, "previousKeys": [],
        "metadata": {},
    });
    for (name, value) in facts.as_object().unwrap() {
        assert_eq!(&made[name], value, "{name}");
    }
    let path = format!("{KEYS}/{}", made["id"].as_str().unwrap());
    let root = &server.root.text;
    let listed = server.get(root, KEYS).expect(200).json()["data"][1].clone();
    let shown: Vec<_> = MEMBERS.into_iter().filter(|it| *it != "key").collect();
    for body in [
        server.get(root, &path).expect(200).json(),
        server.put(root, &path, &json!({})).expect(200).json(),
        server.get(made["key"].as_str().unwrap(), "/api/v1/api-keys/self").expect(200).json(),
        server.post(root, &format!("{path}/rotate/complete"), &json!({})).expect(200).json(),
        listed,
    ] {
        assert_eq!(members(&body), shown);
        assert_eq!(body["id"], made["id"]);
    }
    let rotated = server.post(root, &format!("{path}/rotate"), &json!({})).expect(200).json();
    assert_eq!(members(&rotated), MEMBERS);
}

#[test]
fn a_key_grants_only_scopes_that_it_holds() {
    let server = TestServer::start();
    let maker = server.key(&["api-keys:write", "orders:read"]).text;
    for scopes in [&["orders:read"][..], &["api-keys:write"], &["orders:read", "api-keys:write"]] {
        ask(&server, &maker, scopes).expect(201);
    }
    for beyond in
        [&["orders:write"][..], &["products:read", "webhooks:write"], &["api-keys:read"], &["*"]]
    {
        let wanted = [&["orders:read"], beyond].concat();
        assert_escalation(&ask(&server, &maker, &wanted), beyond, &["orders:read"]);
    }
}

#[test]
fn the_write_scope_does_not_include_reading() {
    let server = TestServer::start();
    let maker = server.key(&["api-keys:write", "orders:write"]).text;
    assert_escalation(&ask(&server, &maker, &["orders:read"]), &["orders:read"], &[]);
    server.get(&maker, KEYS).expect(403);
    let child = ask(&server, &maker, &["orders:write"]).expect(201).json();
    let found = server.verify(child["key"].as_str().unwrap(), &["orders:read", "orders:write"]);
    assert_eq!(found["code"], "INSUFFICIENT_SCOPES");
    assert_eq!(found["missingScopes"], json!(["orders:read"]));
}

#[test]
fn the_root_key_grants_everything_in_the_order_of_the_catalogue() {
    let server = TestServer::start();
    let catalogue = server.get(&server.root.text, "/api/v1/scopes").expect(200).json();
    let data = catalogue["data"].as_array().unwrap();
    let names: Vec<_> = data.iter().map(|it| it["name"].as_str().unwrap()).collect();
    assert_eq!(names.len(), 18, "{names:?}");
    let backwards: Vec<_> = names.iter().rev().copied().collect();
    let made = ask(&server, &server.root.text, &backwards).expect(201).json();
    assert_eq!(made["scopes"], json!(names));
}

#[test]
fn a_customers_key_never_gets_a_scope_of_the_operator() {
    let server = TestServer::start();
    let (id, owner) = server.account(&json!({ "name": "Acme" }));
    let across = format!("/api/v1/accounts/{id}/api-keys");
    let root = &server.root.text;
    for scope in ["*", "api-keys:verify", "accounts:read", "accounts:write", "metrics:read"] {
        assert_escalation(&ask(&server, &owner.text, &[scope]), &[scope], &[]);
        let body = json!({ "name": "child", "scopes": ["orders:read", scope] });
        assert_escalation(&server.post(root, &across, &body), &[scope], &["orders:read"]);
        let wider = json!({ "scopes": [scope] });
        for caller in [root, &owner.text] {
            assert_escalation(&server.put(caller, &owner.path(), &wider), &[scope], &[]);
        }
    }
    assert_eq!(server.get(&owner.text, KEYS).expect(200).json()["data"][1], Value::Null);
}

#[test]
fn an_unknown_scope_is_answered_with_the_nearest_name() {
    let server = TestServer::start();
    for (wrong, near) in [("order:read", "orders:read"), ("webhook:write", "webhooks:write")] {
        let answer = ask(&server, &server.root.text, &["orders:write", wrong]);
        assert_eq!(answer.faults(), [("/scopes/1".to_owned(), "unknown_scope".to_owned())]);
        let detail = answer.json()["errors"][0]["detail"].as_str().unwrap().to_owned();
        assert!(detail.contains(near), "{detail}");
    }
}

#[test]
fn a_new_key_ends_no_later_than_the_key_that_made_it() {
    let server = TestServer::start();
    let (end, past_end) = ("2026-02-01T00:00:00.000Z", "2026-02-01T00:00:00.001Z");
    let maker = json!({
        "name": "maker", "scopes": ["api-keys:write", "orders:read"], "expiresAt": end,
    });
    let maker = server.create(&server.root.text, &maker).text;
    let body =
        |expiry: Value| json!({ "name": "c", "scopes": ["orders:read"], "expiresAt": expiry });
    let heir = ask(&server, &maker, &["orders:read"]).expect(201).json();
    assert_eq!(heir["expiresAt"], end, "without expiresAt, the end of the key that makes it");
    for good in [end, "2026-01-31T00:00:00.000Z"] {
        assert_eq!(server.create(&maker, &body(json!(good))).body["expiresAt"], good);
    }
    for bad in [json!(past_end), json!(null), json!("2026-02-01T00:00:00.000-00:01")] {
        let faults = server.post(&maker, KEYS, &body(bad)).faults();
        assert_eq!(faults, [("/expiresAt".to_owned(), "expires_after_caller".to_owned())]);
    }
}

#[test]
fn an_expiry_must_be_in_the_future() {
    let server = TestServer::start();
    let ask = |at: String| {
        let body = json!({ "name": "n", "scopes": ["orders:read"], "expiresAt": at });
        server.post(&server.root.text, KEYS, &body)
    };
    let now = TestServer::EPOCH;
    for past in [now, now.before(Duration::from_millis(1)), now.before(400 * DAY)] {
        let faults = ask(past.to_string()).faults();
        assert_eq!(faults, [("/expiresAt".to_owned(), "in_the_past".to_owned())], "{past}");
    }
    let brief = ask(now.after(Duration::from_millis(1)).to_string()).expect(201).json();
    assert_eq!(brief["status"], "expiring");
    assert_eq!(server.code(brief["key"].as_str().unwrap()), "VALID");
    server.advance(Duration::from_millis(1));
    assert_eq!(server.code(brief["key"].as_str().unwrap()), "EXPIRED");
}

#[test]
fn an_expiry_with_any_offset_is_stored_in_utc() {
    let server = TestServer::start();
    for (given, shown) in [
        ("2027-01-20T02:00:00+02:00", "2027-01-20T00:00:00.000Z"),
        ("2027-01-20T00:00:00-05:30", "2027-01-20T05:30:00.000Z"),
        ("2027-01-20T00:00:00.5Z", "2027-01-20T00:00:00.500Z"),
        ("2027-01-20t00:00:00z", "2027-01-20T00:00:00.000Z"),
        ("2028-02-29T23:59:59.999999999Z", "2028-02-29T23:59:59.999Z"),
        ("9999-12-31T23:59:59.999Z", "9999-12-31T23:59:59.999Z"),
    ] {
        let body = json!({ "name": "n", "scopes": ["orders:read"], "expiresAt": given });
        let key = server.create(&server.root.text, &body);
        assert_eq!(key.body["expiresAt"], shown, "{given}");
        let read = server.get(&server.root.text, &key.path()).expect(200).json();
        assert_eq!(read["expiresAt"], shown, "{given}");
    }
}

#[test]
fn a_key_created_disabled_works_once_it_is_enabled() {
    let server = TestServer::start();
    let body = json!({ "name": "later", "scopes": ["orders:read"], "enabled": false });
    let key = server.create(&server.root.text, &body);
    assert_eq!((&key.body["enabled"], &key.body["status"]), (&json!(false), &json!("disabled")));
    assert_eq!(server.code(&key.text), "DISABLED");
    server.put(&server.root.text, &key.path(), &json!({ "enabled": true })).expect(200);
    assert_eq!(server.code(&key.text), "VALID");
}

#[test]
fn metadata_has_at_most_fifty_members_and_four_kibibytes() {
    let server = TestServer::start();
    let ask = |metadata: &Value| {
        let body = json!({ "name": "n", "scopes": ["orders:read"], "metadata": metadata });
        server.post(&server.root.text, KEYS, &body)
    };
    let members = |n: usize| (0..n).map(|i| (i.to_string(), json!(i))).collect::<Value>();
    let text = |letter: &str, n: usize| json!({ "a": letter.repeat(n) });
    for good in [json!({}), members(50), text("x", 4088), text("ü", 2044)] {
        assert_eq!(ask(&good).expect(201).json()["metadata"], good);
    }
    assert_eq!(ask(&json!(null)).expect(201).json()["metadata"], json!({}));
    for bad in [members(51), text("x", 4089), text("ü", 2045)] {
        assert_eq!(ask(&bad).faults(), [("/metadata".to_owned(), "out_of_range".to_owned())]);
    }
}

#[test]
fn an_account_has_no_more_live_keys_than_its_limit() {
    let server = TestServer::start();
    let (id, owner) = server.account(&json!({ "name": "Acme", "maxKeys": 3 }));
    let brief = json!({
        "name": "brief", "scopes": ["orders:read"], "expiresAt": "2026-01-01T01:00:00Z",
    });
    server.create(&owner.text, &brief);
    let off = json!({ "name": "off", "scopes": ["orders:read"], "enabled": false });
    let off = server.create(&owner.text, &off);
    let full = || {
        let across = format!("/api/v1/accounts/{id}/api-keys");
        let body = json!({ "name": "child", "scopes": ["orders:read"] });
        for answer in [
            ask(&server, &owner.text, &["orders:read"]),
            server.post(&server.root.text, &across, &body),
        ] {
            assert_eq!((answer.status, &*answer.problem()), (409, "too_many_keys"));
        }
    };
    full();
    server.advance(Duration::from_hours(1));
    ask(&server, &owner.text, &["orders:read"]).expect(201); // The expired key does not count.
    full();
    server.delete(&owner.text, &off.path()).expect(204);
    ask(&server, &owner.text, &["orders:read"]).expect(201); // The revoked key does not count.
    full();
}

#[test]
fn the_servers_limit_applies_to_customers_and_not_to_the_operator() {
    let server = TestServer::with(|config| config.keys.max_keys_per_account = 1);
    let (_, owner) = server.account(&json!({ "name": "Acme" }));
    assert_eq!(ask(&server, &owner.text, &["orders:read"]).expect(409).problem(), "too_many_keys");
    let (_, roomy) = server.account(&json!({ "name": "Big", "maxKeys": 2 }));
    ask(&server, &roomy.text, &["orders:read"]).expect(201);
    for _ in 0..3 {
        ask(&server, &server.root.text, &["orders:read"]).expect(201);
    }
}

#[test]
fn a_key_is_fifty_letters_and_digits_and_ends_in_its_checksum() {
    for (prefix, rest) in [("a", 48), ("rg", 47), ("k2x", 46), ("acme", 45)] {
        let server =
            TestServer::with(|config| config.keys.prefix = PrefixLabel::parse(prefix).unwrap());
        for text in [server.root.text.clone(), server.key(&["orders:read"]).text] {
            let digits = text.strip_prefix(prefix).and_then(|it| it.strip_prefix('_')).unwrap();
            assert_eq!(digits.len(), rest);
            assert!(digits.bytes().all(|it| it.is_ascii_alphanumeric()));
            assert_eq!(text[44..], checksum(&text[..44]));
        }
    }
}

#[test]
fn keys_with_an_earlier_prefix_label_stay_valid() {
    let mut server =
        TestServer::with(|config| config.keys.prefix = PrefixLabel::parse("acme").unwrap());
    let old = server.key(&["orders:read"]);
    server.restart(|config| config.keys.prefix = PrefixLabel::parse("rg").unwrap());
    assert_eq!(server.code(&old.text), "VALID");
    let new = server.rotate(&server.root.text, &old.id, &json!({}));
    assert!(new.text.starts_with("rg_"));
    server.restart(|config| config.keys.prefix = PrefixLabel::parse("zz").unwrap());
    for text in [&old.text, &new.text, &server.root.text] {
        assert_eq!(server.code(text), "VALID");
    }
}
