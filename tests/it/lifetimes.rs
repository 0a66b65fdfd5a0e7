//! How long keys may live: the policy of the server and of accounts, and `expiresIn`.

use std::time::Duration;

use keyward::{
    domain::{
        api_key::RequestedExpiry,
        event::EventSource,
        imported_key::ImportedDigest,
        scope::{Scope, ScopeSet},
        text::Name,
    },
    env::Timestamp,
    service::{ImportRow, KeyPatch, NewKey},
};
use serde_json::{Value, json};

use crate::{
    cli_keys::Way,
    support::{Binary, Key, Response, TestServer},
};

const KEYS: &str = "/api/v1/api-keys";
const MS: Duration = Duration::from_millis(1);
const DAY: Duration = Duration::from_hours(24);

fn later(by: Duration) -> Value {
    json!(TestServer::EPOCH.after(by).to_string())
}

/// An account whose keys live for 10 days at most and 2 days by default, and its first key.
fn limited(server: &TestServer) -> (String, Key) {
    let limits = json!({
        "name": "Acme", "maxKeyLifetimeSeconds": 864_000, "defaultKeyLifetimeSeconds": 172_800,
    });
    server.account(&limits)
}

fn create(server: &TestServer, caller: &str, more: &Value) -> Response {
    let mut body = json!({ "name": "x", "scopes": ["orders:read"] });
    let members = more.as_object().unwrap().clone();
    body.as_object_mut().unwrap().extend(members);
    server.post(caller, KEYS, &body)
}

#[track_caller]
fn end(answer: &Response) -> Value {
    assert!(answer.status < 300, "{answer:?}");
    answer.json()["expiresAt"].clone()
}

#[track_caller]
fn assert_fault(answer: &Response, pointer: &str, code: &str) {
    assert_eq!(answer.faults(), [(pointer.to_owned(), code.to_owned())], "{}", answer.text());
}

/// A key of the operator may manage every account, and never ends.
fn operator(server: &TestServer, account: &str) -> impl Fn(&Value) -> Response {
    let path = format!("/api/v1/accounts/{account}/api-keys");
    move |more| {
        let mut body = json!({ "name": "x", "scopes": ["orders:read"] });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        server.post(&server.root.text, &path, &body)
    }
}

#[test]
fn expires_in_counts_from_the_change_and_excludes_expires_at() {
    let server = TestServer::start();
    let root = &server.root.text;
    let made = create(&server, root, &json!({ "expiresIn": 60 })).expect(201).json();
    assert_eq!(made["expiresAt"], later(Duration::from_mins(1)));
    let path = format!("{KEYS}/{}", made["id"].as_str().unwrap());
    server.advance(Duration::from_secs(30));
    assert_eq!(
        end(&server.put(root, &path, &json!({ "expiresIn": 60 }))),
        later(Duration::from_secs(90))
    );
    let text = made["key"].as_str().unwrap();
    server.advance(Duration::from_mins(1) - MS);
    assert_eq!(server.code(text), "VALID");
    server.advance(MS);
    assert_eq!(server.code(text), "EXPIRED");

    for at in [json!(null), json!("2099-01-20T00:00:00Z")] {
        let both = create(&server, root, &json!({ "expiresIn": 60, "expiresAt": at }));
        assert_fault(&both, "/expiresIn", "invalid_combination");
        let key = server.key(&["orders:read"]);
        let both = server.put(root, &key.path(), &json!({ "expiresIn": 60, "expiresAt": at }));
        assert_fault(&both, "/expiresIn", "invalid_combination");
    }
    for (bad, code) in [
        (json!(0), "out_of_range"),
        (json!(-1), "out_of_range"),
        (json!(3_153_600_001_u64), "out_of_range"),
        (json!(1.5), "invalid_type"),
        (json!("60"), "invalid_type"),
        (json!(null), "not_nullable"),
    ] {
        assert_fault(&create(&server, root, &json!({ "expiresIn": bad })), "/expiresIn", code);
    }
    for good in [1_u64, 3_153_600_000] {
        create(&server, root, &json!({ "expiresIn": good })).expect(201);
    }
}

#[test]
fn a_maximum_holds_to_the_millisecond_and_a_default_fills_in() {
    let server = TestServer::start();
    let (id, first) = limited(&server);
    assert_eq!(first.body["expiresAt"], later(2 * DAY), "the first key follows the policy");
    let make = operator(&server, &id);
    assert_eq!(end(&make(&json!({}))), later(2 * DAY));
    assert_eq!(end(&make(&json!({ "expiresAt": later(10 * DAY) }))), later(10 * DAY));
    assert_eq!(end(&make(&json!({ "expiresIn": 864_000 }))), later(10 * DAY));
    let refused = make(&json!({ "expiresAt": later(10 * DAY + MS) }));
    assert_fault(&refused, "/expiresAt", "expires_too_late");
    let limit = later(10 * DAY);
    assert!(refused.text().contains(limit.as_str().unwrap()), "{}", refused.text());
    assert_fault(&make(&json!({ "expiresIn": 864_001 })), "/expiresIn", "expires_too_late");
    let never = make(&json!({ "expiresAt": null }));
    assert_fault(&never, "/expiresAt", "expires_too_late");
    assert!(never.text().contains(limit.as_str().unwrap()), "{}", never.text());

    // The caller's end is the limit if it is earlier, and the default is cut to it.
    let brief = make(&json!({ "scopes": ["orders:read", "api-keys:write"], "expiresIn": 3600 }));
    let brief = brief.expect(201).json();
    let brief = brief["key"].as_str().unwrap();
    assert_eq!(end(&create(&server, brief, &json!({}))), later(Duration::from_hours(1)));
    let beyond = create(&server, brief, &json!({ "expiresIn": 7200 }));
    assert_fault(&beyond, "/expiresIn", "expires_after_caller");

    // All faults come at once.
    let refused = make(&json!({ "name": "", "expiresIn": 864_001 }));
    assert_eq!(refused.faults().len(), 2, "{}", refused.text());
}

#[test]
fn the_settings_hold_where_an_account_has_no_rule_and_the_operator_is_exempt() {
    let mut server = TestServer::with(|it| it.keys.max_lifetime = Some(5 * DAY));
    let root = server.root.text.clone();
    let (id, first) = server.account(&json!({ "name": "Acme" }));
    assert_eq!(first.body["expiresAt"], later(5 * DAY), "without a default, the maximum");
    let (longer, _) = limited(&server);
    assert_fault(
        &operator(&server, &id)(&json!({ "expiresAt": null })),
        "/expiresAt",
        "expires_too_late",
    );
    assert_eq!(
        end(&operator(&server, &longer)(&json!({ "expiresAt": later(10 * DAY) }))),
        later(10 * DAY),
        "the operator gave this account more"
    );
    assert_eq!(end(&create(&server, &root, &json!({}))), json!(null));
    assert_eq!(
        end(&create(&server, &root, &json!({ "expiresAt": later(900 * DAY) }))),
        later(900 * DAY)
    );

    server.restart(|it| {
        it.keys.max_lifetime = None;
        it.keys.default_lifetime = Some(3 * DAY);
    });
    assert_eq!(end(&operator(&server, &id)(&json!({}))), later(3 * DAY));
    assert_eq!(end(&operator(&server, &id)(&json!({ "expiresAt": null }))), json!(null));
    assert_eq!(end(&operator(&server, &longer)(&json!({}))), later(2 * DAY));
}

#[test]
fn a_lifetime_counts_from_the_creation_or_the_last_rotation() {
    let server = TestServer::start();
    let root = server.root.text.clone();
    let (id, _) = limited(&server);
    let made = operator(&server, &id)(&json!({ "expiresIn": 864_000 })).expect(201).json();
    let key = Key {
        id: made["id"].as_str().unwrap().to_owned(),
        text: made["key"].as_str().unwrap().to_owned(),
        body: made,
    };
    server.advance(9 * DAY);
    let extend = |to: Duration| server.put(&root, &key.path(), &json!({ "expiresAt": later(to) }));
    assert_fault(&extend(10 * DAY + MS), "/expiresAt", "expires_too_late");
    assert_eq!(end(&extend(9 * DAY + MS)), later(9 * DAY + MS), "shorter");
    assert_eq!(end(&extend(10 * DAY)), later(10 * DAY), "and back");
    let rotated = server.rotate(&root, &key.id, &json!({}));
    assert_eq!(rotated.body["expiresAt"], later(10 * DAY), "a rotation moves no end");
    assert_fault(&extend(19 * DAY + MS), "/expiresAt", "expires_too_late");
    assert_eq!(end(&extend(19 * DAY)), later(19 * DAY));
}

#[test]
fn a_key_from_before_the_policy_keeps_its_end_until_it_is_changed() {
    let server = TestServer::start();
    let root = server.root.text.clone();
    let (id, first) = server.account(&json!({ "name": "Acme" }));
    assert_eq!(first.body["expiresAt"], json!(null));
    let account = format!("/api/v1/accounts/{id}");
    let shown =
        server.put(&root, &account, &json!({ "maxKeyLifetimeSeconds": 86_400 })).expect(200);
    assert_eq!(shown.json()["maxKeyLifetimeSeconds"], 86_400);
    assert_eq!(shown.json()["defaultKeyLifetimeSeconds"], json!(null));
    let change = |body: &Value| server.put(&root, &first.path(), body);
    assert_eq!(end(&change(&json!({ "name": "y" }))), json!(null));
    assert_eq!(end(&change(&json!({ "expiresAt": null }))), json!(null), "no change");
    let shorter = [3 * DAY, 2 * DAY, 2 * DAY - MS].map(later);
    for at in shorter {
        assert_eq!(end(&change(&json!({ "expiresAt": at }))), at, "a nearer end gives nothing");
    }
    let back = change(&json!({ "expiresAt": later(2 * DAY) }));
    assert_fault(&back, "/expiresAt", "expires_too_late");
    assert_eq!(end(&change(&json!({ "expiresAt": later(DAY) }))), later(DAY));
    let back = change(&json!({ "expiresAt": later(DAY + MS) }));
    assert_fault(&back, "/expiresAt", "expires_too_late");
    assert_fault(&change(&json!({ "expiresAt": null })), "/expiresAt", "expires_too_late");
    let lifted = server.put(&root, &account, &json!({ "maxKeyLifetimeSeconds": null })).expect(200);
    assert_eq!(lifted.json()["maxKeyLifetimeSeconds"], json!(null));
    assert_eq!(end(&change(&json!({ "expiresAt": null }))), json!(null));
}

#[test]
fn only_the_operator_sets_lifetimes_and_its_own_account_has_none() {
    let server = TestServer::start();
    let (id, first) = limited(&server);
    let own = server.get(&first.text, "/api/v1/accounts/self").expect(200).json();
    assert_eq!(own["maxKeyLifetimeSeconds"], 864_000);
    assert_eq!(own["defaultKeyLifetimeSeconds"], 172_800);
    let more = json!({ "maxKeyLifetimeSeconds": 1 });
    assert_eq!(server.put(&first.text, "/api/v1/accounts/self", &more).status, 403);
    for name in ["maxKeyLifetimeSeconds", "defaultKeyLifetimeSeconds"] {
        let answer = server.put(&server.root.text, "/api/v1/accounts/self", &json!({ name: 60 }));
        assert_eq!((answer.status, &*answer.problem()), (409, "operator_account"), "{name}");
        for bad in [0_i64, -1, 3_153_600_001] {
            let path = format!("/api/v1/accounts/{id}");
            let answer = server.put(&server.root.text, &path, &json!({ name: bad }));
            assert_fault(&answer, &format!("/{name}"), "out_of_range");
        }
    }
    let told = server.events().into_iter().find(|it| it["subject"] == *id).unwrap();
    assert_eq!(told["data"]["after"]["maxKeyLifetimeSeconds"], 864_000);
}

#[test]
fn imported_keys_follow_the_policy_of_their_account() {
    let server = TestServer::start();
    let (id, _) = limited(&server);
    let operator = server.app.local_operator(EventSource::CLI).unwrap();
    let row = |digest, expires_at| {
        let scopes = ScopeSet::new([Scope::parse("orders:read").unwrap()]).unwrap();
        let new = NewKey {
            settings: KeyPatch { expires_at, ..KeyPatch::default() },
            ..NewKey::new(Name::parse("x").unwrap(), scopes)
        };
        ImportRow { digest: ImportedDigest::Sha256([digest; 32]), account: Some(id.clone()), new }
    };
    let at = |by| RequestedExpiry::At(TestServer::EPOCH.after(by));
    let rows = vec![
        row(1, RequestedExpiry::Inherit),
        row(2, at(10 * DAY)),
        row(3, at(10 * DAY + MS)),
        row(4, RequestedExpiry::Never),
    ];
    let outcomes = server.app.import_keys(&operator, rows, None).unwrap();
    let told: Vec<_> = outcomes
        .into_iter()
        .map(|it| match it {
            Ok(imported) => {
                let path = format!("{KEYS}/{}", imported.key);
                server.get(&server.root.text, &path).expect(200).json()["expiresAt"].clone()
            }
            Err(fault) => json!([fault.pointer, fault.code]),
        })
        .collect();
    let late = json!(["/expiresAt", "expires_too_late"]);
    assert_eq!(told, [later(2 * DAY), later(10 * DAY), late.clone(), late]);
}

#[test]
fn the_command_line_sets_and_shows_lifetimes() {
    let dir = tempfile::tempdir().unwrap();
    let _server = Binary::serve(dir.path());
    let here = Way::Here(dir.path());
    let create = ["accounts", "create", "--name", "Acme", "--external-id", "acme"];
    let made = here.json(&[&create[..], &["--max-key-lifetime", "10d"]].concat());
    assert_eq!(made["maxKeyLifetimeSeconds"], 864_000);
    let update = ["accounts", "update", "acme", "--max-key-lifetime", "server"];
    let made = here.json(&[&update[..], &["--default-key-lifetime", "36h"]].concat());
    assert_eq!(made["maxKeyLifetimeSeconds"], json!(null));
    assert_eq!(made["defaultKeyLifetimeSeconds"], 129_600);
    let shown = here.run(&["accounts", "show", "acme"]);
    assert!(shown.contains("1day 12h"), "{shown}");
    here.run(&["accounts", "update", "acme", "--max-key-lifetime", "90d"]);
    let key = ["keys", "create", "--account", "acme", "--name", "x", "--scope", "orders:read"];
    let made = here.json(&[&key[..], &["--expires", "90d"]].concat());
    let instant = |name: &str| Timestamp::parse(made[name].as_str().unwrap()).unwrap();
    assert_eq!(
        instant("expiresAt").since(instant("createdAt")),
        90 * DAY,
        "the clock of the server counts"
    );
    let said = here.refused(&[&key[..], &["--expires", "91d"]].concat(), 1);
    assert!(said.contains("at most 7776000 seconds"), "{said}");
}
