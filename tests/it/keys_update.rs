//! Changing a key: only the given members, only by an authorized caller, and only within its
//! limits.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Key, Request, Response, TestServer};

const DAY: Duration = Duration::from_hours(24);

fn send(server: &TestServer, method: &str, caller: &str, target: &str, body: &Value) -> Response {
    server.send(&Request::new(method, target).key(caller).json(body))
}

fn put_if(server: &TestServer, key: &Key, tags: &str, body: &Value) -> Response {
    let request = Request::new("PUT", &key.path()).key(&server.root.text);
    server.send(&request.header("If-Match", tags).json(body))
}

fn shown(server: &TestServer, key: &Key) -> Value {
    server.get(&server.root.text, &key.path()).expect(200).json()
}

/// Returns the current entity tag of the key.
fn tag(server: &TestServer, key: &Key) -> String {
    let answer = server.get(&server.root.text, &key.path()).expect(200);
    answer.header("etag").expect("a tag").to_owned()
}

fn fault(pointer: &str, code: &str) -> (String, String) {
    (pointer.to_owned(), code.to_owned())
}

#[track_caller]
fn assert_refused(answer: &Response, status: u16, code: &str) {
    assert_eq!((answer.status, &*answer.problem()), (status, code), "{}", answer.text());
}

#[test]
fn put_and_patch_both_change_only_the_given_members() {
    for method in ["PUT", "PATCH"] {
        let server = TestServer::start();
        let body = json!({
            "name": "shop", "scopes": ["orders:read", "orders:write"],
            "expiresAt": "2026-06-01T00:00:00.000Z", "metadata": { "team": "billing" },
        });
        let key = server.create(&server.root.text, &body);
        let mut expected = key.body;
        expected.as_object_mut().unwrap().remove("key");
        for (name, value) in [
            ("name", json!("till")),
            ("scopes", json!(["orders:read"])),
            ("enabled", json!(false)),
            ("expiresAt", json!("2026-07-01T00:00:00.000Z")),
            ("metadata", json!({ "a": [1, { "b": null }] })),
        ] {
            server.advance(Duration::from_secs(1));
            let path = format!("/api/v1/api-keys/{}", key.id);
            let body = json!({ name: value });
            let answer = send(&server, method, &server.root.text, &path, &body).expect(200).json();
            expected[name] = value;
            expected["unusedScopes"] = expected["scopes"].clone();
            expected["status"] =
                json!(if expected["enabled"] == true { "active" } else { "disabled" });
            expected["updatedAt"] = json!(server.app.env().time.now().to_string());
            assert_eq!(answer, expected, "{method} {name}");
            assert_eq!(server.get(&server.root.text, &path).expect(200).json(), expected);
        }
    }
}

#[test]
fn null_clears_optional_members_and_is_refused_elsewhere() {
    let server = TestServer::start();
    let body = json!({
        "name": "shop", "scopes": ["orders:read"], "expiresAt": "2026-06-01T00:00:00Z",
        "metadata": { "team": "billing" },
    });
    let key = server.create(&server.root.text, &body);
    let none = json!({ "name": null, "scopes": null, "enabled": null });
    let mut faults = server.put(&server.root.text, &key.path(), &none).faults();
    faults.sort();
    let refused = ["/enabled", "/name", "/scopes"].map(|it| fault(it, "not_nullable"));
    assert_eq!(faults, refused);
    let none = json!({ "expiresAt": null, "metadata": null });
    let cleared = server.put(&server.root.text, &key.path(), &none).expect(200).json();
    assert_eq!((&cleared["expiresAt"], &cleared["metadata"]), (&Value::Null, &json!({})));
}

#[test]
fn metadata_is_replaced_as_a_whole() {
    let server = TestServer::start();
    let body = json!({ "name": "shop", "scopes": ["orders:read"], "metadata": { "a": 1, "b": 2 } });
    let key = server.create(&server.root.text, &body);
    server.put(&server.root.text, &key.path(), &json!({ "metadata": { "c": 3 } })).expect(200);
    assert_eq!(shown(&server, &key)["metadata"], json!({ "c": 3 }));
    assert_eq!(server.verify(&key.text, &[])["metadata"], json!({ "c": 3 }));
}

#[test]
fn a_change_without_effect_leaves_no_trace() {
    let server = TestServer::start();
    let body = json!({
        "name": "shop", "scopes": ["orders:read"], "expiresAt": "2026-06-01T00:00:00Z",
        "metadata": { "a": 1 },
    });
    let key = server.create(&server.root.text, &body);
    let (before, events) = (shown(&server, &key), server.events().len());
    server.advance(DAY);
    for nothing in [
        json!({}),
        json!({ "name": "  shop " }),
        json!({ "scopes": ["orders:read", "orders:read"] }),
        json!({ "expiresAt": "2026-06-01T02:00:00+02:00" }),
        json!({
            "name": before["name"], "scopes": before["scopes"], "enabled": before["enabled"],
            "expiresAt": before["expiresAt"], "metadata": before["metadata"],
        }),
    ] {
        let answer = server.put(&server.root.text, &key.path(), &nothing).expect(200);
        assert_eq!((answer.header("etag"), answer.json()), (Some("\"1\""), before.clone()));
    }
    assert_eq!(server.events().len(), events);
}

#[test]
fn the_entity_tag_changes_with_changes_and_not_with_uses() {
    let server = TestServer::start();
    let key = server.key(&["api-keys:read", "orders:read"]);
    let first = tag(&server, &key);
    server.advance(DAY);
    server.code(&key.text);
    server.get(&key.text, "/api/v1/api-keys").expect(200);
    server.run_job("flush_usage");
    assert_ne!(shown(&server, &key)["lastUsedAt"], Value::Null);
    assert_eq!(tag(&server, &key), first);
    let own = server.get(&key.text, "/api/v1/api-keys/self").expect(200);
    assert_eq!(own.header("etag"), Some(&*first));
    let answer = server.put(&server.root.text, &key.path(), &json!({ "name": "n" })).expect(200);
    let second = answer.header("etag").unwrap().to_owned();
    assert_ne!(second, first);
    assert_eq!(tag(&server, &key), second);
}

#[test]
fn a_change_meant_for_another_revision_is_refused() {
    let server = TestServer::start();
    let key = server.key(&["orders:read"]);
    let now = tag(&server, &key);
    let events = server.events().len();
    for stale in ["\"99\"", &format!("W/{now}"), "\"98\", \"99\"", now.trim_matches('"'), "", "W/*"]
    {
        let answer = put_if(&server, &key, stale, &json!({ "name": "anew" }));
        assert_refused(&answer, 412, "precondition_failed");
        // The precondition is checked after the syntax of the body and before its members.
        assert_refused(
            &put_if(&server, &key, stale, &json!({ "x": 1 })),
            412,
            "precondition_failed",
        );
        for (method, path) in [
            ("DELETE", key.path()),
            ("POST", format!("{}/rotate", key.path())),
            ("POST", format!("{}/rotate/complete", key.path())),
        ] {
            let request = Request::new(method, &path).key(&server.root.text);
            let answer = server.send(&request.header("If-Match", stale));
            assert_refused(&answer, 412, "precondition_failed");
        }
    }
    assert_eq!(server.events().len(), events);
    for (i, fresh) in ["TAG", "*", "\"99\", TAG", "\"99\" ,TAG,\"98\""].into_iter().enumerate() {
        let tags = fresh.replace("TAG", &tag(&server, &key));
        put_if(&server, &key, &tags, &json!({ "name": format!("name {i}") })).expect(200);
    }
    let request = Request::new("DELETE", &key.path()).key(&server.root.text);
    server.send(&request.header("If-Match", &tag(&server, &key))).expect(204);
}

#[test]
fn a_weaker_caller_cannot_change_a_stronger_key() {
    let server = TestServer::start();
    let weak = server.key(&["api-keys:write", "orders:read"]);
    let strong = server.key(&["orders:read", "orders:write"]);
    let equal = server.key(&["api-keys:write", "orders:read"]);
    for change in [
        json!({ "name": "mine" }),
        json!({ "scopes": ["orders:read"] }),
        json!({ "enabled": false }),
        json!({ "expiresAt": "2027-01-01T00:00:00Z" }),
    ] {
        for target in [&strong, &server.root] {
            let answer = server.put(&weak.text, &target.path(), &change);
            assert_refused(&answer, 403, "scope_escalation");
        }
    }
    assert!(
        server
            .put(&weak.text, &strong.path(), &json!({ "name": "x" }))
            .text()
            .contains("orders:write")
    );
    assert_eq!(server.story_of(&strong.id), ["api_key.created"]);
    server.put(&weak.text, &equal.path(), &json!({ "name": "theirs" })).expect(200);
}

#[test]
fn a_key_can_remove_its_own_scopes_and_never_add_any() {
    let server = TestServer::start();
    let key = server.key(&["api-keys:read", "api-keys:write", "orders:read"]);
    for path in [key.path(), "/api/v1/api-keys/self".to_owned()] {
        for wider in [json!(["api-keys:write", "orders:write"]), json!(["*"])] {
            let answer = server.put(&key.text, &path, &json!({ "scopes": wider }));
            assert_refused(&answer, 403, "scope_escalation");
        }
    }
    let less = json!({ "scopes": ["api-keys:write"] });
    server.put(&key.text, "/api/v1/api-keys/self", &less).expect(200);
    assert_refused(&server.get(&key.text, "/api/v1/api-keys"), 403, "missing_scope");
    assert_eq!(server.verify(&key.text, &["orders:read"])["code"], "INSUFFICIENT_SCOPES");
    let back = json!({ "scopes": ["api-keys:write", "orders:read"] });
    assert_refused(&server.put(&key.text, &key.path(), &back), 403, "scope_escalation");
}

#[test]
fn a_caller_that_expires_gives_no_later_end_not_even_to_itself() {
    let server = TestServer::start();
    let end = "2026-02-01T00:00:00.000Z";
    let body = json!({ "name": "m", "scopes": ["api-keys:write"], "expiresAt": end });
    let mortal = server.create(&server.root.text, &body);
    let eternal = server.key(&["api-keys:write"]);
    let later = json!({ "expiresAt": "2026-02-01T00:00:00.001Z" });
    let faults = server.put(&mortal.text, &mortal.path(), &later).faults();
    assert_eq!(faults, [fault("/expiresAt", "expires_after_caller")]);
    let never = json!({ "expiresAt": null });
    let faults = server.put(&mortal.text, &mortal.path(), &never).faults();
    assert_eq!(faults, [fault("/expiresAt", "expires_after_caller")]);
    server.put(&mortal.text, &eternal.path(), &never).expect(200); // The key already never expires.
    server.put(&mortal.text, &eternal.path(), &later).expect(200); // A nearer end gives nothing.
    let faults = server.put(&mortal.text, &eternal.path(), &never).faults();
    assert_eq!(faults, [fault("/expiresAt", "expires_after_caller")]);
    let past = json!({ "expiresAt": "2026-01-01T00:00:00.000Z" });
    let faults = server.put(&mortal.text, &eternal.path(), &past).faults();
    assert_eq!(faults, [fault("/expiresAt", "in_the_past")]);
    let sooner = json!({ "expiresAt": "2026-01-31T00:00:00.000Z" });
    for target in [&eternal, &mortal] {
        server.put(&mortal.text, &target.path(), &sooner).expect(200);
    }
    let back = server.put(&mortal.text, &mortal.path(), &json!({ "expiresAt": end }));
    assert_eq!(back.faults(), [fault("/expiresAt", "expires_after_caller")]);
}

#[test]
fn disabling_and_enabling_take_effect_at_once() {
    let server = TestServer::start();
    let key = server.key(&["api-keys:read"]);
    for _ in 0..2 {
        server.put(&server.root.text, &key.path(), &json!({ "enabled": false })).expect(200);
        assert_eq!(server.code(&key.text), "DISABLED");
        assert_refused(&server.get(&key.text, "/api/v1/api-keys"), 401, "key_disabled");
        server.put(&server.root.text, &key.path(), &json!({ "enabled": true })).expect(200);
        assert_eq!(server.code(&key.text), "VALID");
        server.get(&key.text, "/api/v1/api-keys").expect(200);
    }
}

#[test]
fn an_expired_key_can_be_renamed_and_not_extended() {
    let server = TestServer::start();
    let body = json!({
        "name": "old", "scopes": ["orders:read"], "expiresAt": "2026-01-02T00:00:00.000Z",
    });
    let key = server.create(&server.root.text, &body);
    server.advance(DAY);
    for revival in [json!({ "expiresAt": null }), json!({ "expiresAt": "2026-01-03T00:00:00Z" })] {
        let answer = server.put(&server.root.text, &key.path(), &revival);
        assert_refused(&answer, 409, "key_not_active");
    }
    let same = json!({ "name": "older", "expiresAt": "2026-01-02T00:00:00.000Z" });
    let answer = server.put(&server.root.text, &key.path(), &same).expect(200).json();
    assert_eq!((&answer["name"], &answer["status"]), (&json!("older"), &json!("expired")));
    assert_eq!(server.code(&key.text), "EXPIRED");
}

#[test]
fn the_operator_keeps_a_root_key_in_every_case() {
    let ways = [
        json!({ "enabled": false }),
        json!({ "expiresAt": "2099-01-01T00:00:00Z" }),
        json!({ "scopes": ["api-keys:read"] }),
        Value::Null, // Revokes it.
    ];
    for way in ways {
        let server = TestServer::start();
        let root = &server.root;
        let go = |caller: &str| match &way {
            Value::Null => server.delete(caller, &root.path()),
            change => server.put(caller, &root.path(), change),
        };
        // Neither of these counts as a root key that remains.
        let body = json!({ "name": "d", "scopes": ["*"], "enabled": false });
        server.create(&root.text, &body);
        let body = json!({ "name": "e", "scopes": ["*"], "expiresAt": "2099-01-01T00:00:00Z" });
        server.create(&root.text, &body);
        let before = (server.events().len(), tag(&server, root));
        assert_refused(&go(&root.text), 409, "last_root_key");
        assert_eq!((server.events().len(), tag(&server, root)), before, "{way}");
        assert_eq!(server.code(&root.text), "VALID");
        let spare = server.key(&["*"]);
        let answer = go(&spare.text);
        assert!(matches!(answer.status, 200 | 204), "{way}: {}", answer.text());
    }
}

#[test]
fn the_event_holds_each_changed_member_before_and_after() {
    let server = TestServer::start();
    let body = json!({ "name": "shop", "scopes": ["orders:read"], "metadata": { "a": 1 } });
    let key = server.create(&server.root.text, &body);
    for (change, before) in [
        (json!({ "name": "till" }), json!({ "name": "shop" })),
        (
            json!({ "scopes": ["orders:read", "orders:write"], "enabled": false }),
            json!({ "scopes": ["orders:read"], "enabled": true }),
        ),
        (json!({ "expiresAt": "2027-01-01T00:00:00.000Z" }), json!({ "expiresAt": null })),
        (json!({ "metadata": { "b": 2 } }), json!({ "metadata": { "a": 1 } })),
    ] {
        let mut whole = change.clone();
        whole["name"] = json!("till"); // In the request, and unchanged from the second round on.
        server.put(&server.root.text, &key.path(), &whole).expect(200);
        let event = server.events().pop().unwrap();
        assert_eq!(
            (&event["type"], &event["subject"]),
            (&json!("api_key.updated"), &json!(key.id))
        );
        assert_eq!(event["data"], json!({ "before": before, "after": change }));
    }
}

#[test]
fn a_scope_removed_from_the_catalogue_stays_on_its_keys_and_satisfies_nothing() {
    let mut server = TestServer::start();
    let key = server.key(&["orders:read", "products:read"]);
    let other = server.key(&["products:read"]);
    server.restart(|config| config.scopes.retain(|it| it.name != "orders:read"));
    let root = server.root.text.clone();
    let scopes = shown(&server, &key)["scopes"].clone();
    assert_eq!(scopes, json!(["products:read", "orders:read"]));
    let found = server.verify(&key.text, &["products:read"]);
    assert_eq!((&found["code"], &found["missingScopes"]), (&json!("VALID"), &json!([])));
    for text in [&key.text, &root] {
        let question = json!({ "key": text, "scopes": ["orders:read"] });
        let answer = server.post(&root, "/api/v1/api-keys/verify", &question);
        assert_eq!(answer.faults(), [fault("/scopes/0", "unknown_scope")]);
    }
    let events = server.events().len();
    server.put(&root, &key.path(), &json!({ "scopes": scopes })).expect(200);
    assert_eq!(server.events().len(), events, "sending the answer back changes nothing");
    let anew = server.put(&root, &other.path(), &json!({ "scopes": scopes }));
    assert_eq!(anew.faults(), [fault("/scopes/1", "unknown_scope")]);
    let wider = json!({ "scopes": ["products:read", "orders:read", "inventory:read"] });
    server.put(&root, &key.path(), &wider).expect(200);
    server.restart(|config| config.scopes = keyward::config::Config::default().scopes);
    assert_eq!(server.verify(&key.text, &["orders:read", "inventory:read"])["code"], "VALID");
    server.restart(|config| config.scopes.retain(|it| it.name != "orders:read"));
    server.put(&root, &key.path(), &json!({ "scopes": ["products:read"] })).expect(200);
    let back = server.put(&root, &key.path(), &json!({ "scopes": scopes }));
    assert_eq!(back.faults(), [fault("/scopes/1", "unknown_scope")], "once dropped, it is gone");
}
