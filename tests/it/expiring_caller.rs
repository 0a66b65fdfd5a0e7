//! A caller that expires gains no later end. Every operation that yields a secret or a longer life
//! is called with each order of the two expiry times.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{
    Key, TestServer,
    operations::{Operation, protected},
};

const HOUR: Duration = Duration::from_hours(1);
/// The end of the callers that expire, in hours from the start.
const END: u64 = 2;

fn at(hours: u64) -> Value {
    json!(TestServer::EPOCH.after(HOUR * u32::try_from(hours).unwrap()).to_string())
}

/// Returns whether an object with this end outlives a caller with this end; `None` is never.
fn outlives(end: Option<u64>, caller: Option<u64>) -> bool {
    caller.is_some_and(|limit| end.is_none_or(|it| limit < it))
}

/// The key that the operation changes.
#[derive(Clone, Copy, Debug)]
struct Target {
    end: Option<u64>,
    disabled: bool,
}

/// A body, and the model: whether the body gives the target something that lasts until the target's
/// end.
type Variant = (Value, fn(Target, Option<u64>) -> bool);

/// Returns the bodies for an operation that makes a change. A new operation must be added here.
fn variants(operation: &Operation) -> Vec<Variant> {
    let never: fn(Target, Option<u64>) -> bool = |_, _| false;
    let secret: fn(Target, Option<u64>) -> bool = |it, caller| outlives(it.end, caller);
    match &*operation.id {
        "patchApiKey" => {
            vec![(json!({ "enabled": true }), |it, caller| it.disabled && outlives(it.end, caller))]
        }
        "updateApiKey" => vec![
            (json!({ "name": "renamed" }), never),
            (json!({ "enabled": false }), never),
            (json!({ "scopes": ["orders:read"] }), never),
            (json!({ "enabled": true }), |it, caller| it.disabled && outlives(it.end, caller)),
            (json!({ "scopes": ["orders:read", "products:read"] }), secret),
            (json!({ "expiresAt": null }), |it, caller| it.end.is_some() && caller.is_some()),
            (json!({ "expiresAt": at(3) }), |it, caller| {
                it.end.is_some_and(|end| end < 3) && caller.is_some()
            }),
            (json!({ "expiresAt": at(END) }), never),
            (json!({ "expiresAt": at(1), "enabled": true }), never),
            (json!({ "expiresIn": 3 * 3600 }), |it, caller| {
                it.end.is_some_and(|end| end < 3) && caller.is_some()
            }),
            (json!({ "expiresIn": END * 3600 }), never),
        ],
        "rotateApiKey" => vec![
            (json!({ "gracePeriodSeconds": 0 }), secret),
            (json!({ "gracePeriodSeconds": 300 }), secret),
            (json!({}), secret),
        ],
        "completeRotation" | "revokeApiKey" | "deleteAccount" => vec![(Value::Null, never)],
        "createApiKey" | "createAccountApiKey" => {
            let body =
                |end: Value| json!({ "name": "x", "scopes": ["orders:read"], "expiresAt": end });
            let within = |hours: u64| json!({ "name": "x", "scopes": ["orders:read"], "expiresIn": hours * 3600 });
            vec![
                (json!({ "name": "x", "scopes": ["orders:read"] }), never),
                (body(at(END)), never),
                (body(at(3)), |_, caller| caller.is_some()),
                (body(Value::Null), |_, caller| caller.is_some()),
                (within(END), never),
                (within(3), |_, caller| caller.is_some()),
            ]
        }
        // A link never outlives its maker, and gives no later end.
        "createAccount" | "createConsoleLink" => vec![(json!({ "name": "x" }), never)],
        // This suspends the account of the key. It does not disable the key.
        "updateAccount" | "patchAccount" => vec![
            (json!({ "name": "x" }), never),
            (json!({ "status": "active" }), |it, caller| !it.disabled && outlives(it.end, caller)),
        ],
        // These change only the caller, which keeps its end. Verification changes nothing.
        "rotateOwnApiKey" | "revokeOwnApiKey" | "updateOwnApiKey" | "patchOwnApiKey"
        | "verifyApiKey" | "updateOwnAccount" | "patchOwnAccount" | "deleteOwnAccount" => vec![],
        other => panic!("{other}: add it to this list with what it gives and for how long"),
    }
}

/// The outcome of one case, which is checked again when the caller has ended.
struct Tried {
    what: String,
    /// A plaintext key in the answer.
    secret: Option<String>,
    target: Key,
    /// Whether the target worked before, and which scopes it had.
    worked: bool,
    limited: bool,
}

fn secret_in(answer: &Value) -> Option<String> {
    let found = answer["key"].as_str().or_else(|| answer["apiKey"]["key"].as_str());
    let in_link = || answer["url"].as_str()?.split("#key=").nth(1);
    found.or_else(in_link).map(str::to_owned)
}

/// An account and a caller, which acts on keys of the account.
struct Scene {
    end: Option<u64>,
    across: bool,
    account: String,
    first: Key,
    caller: Key,
}

impl Scene {
    /// Makes a caller with this end; `across` says whether it belongs to the operator.
    fn new(server: &TestServer, end: Option<u64>, across: bool) -> Self {
        let (account, first) = server.account(&json!({ "name": "x" }));
        let mut scopes = vec!["orders:read", "products:read", "api-keys:write"];
        if across {
            scopes = vec!["accounts:write", "orders:read", "api-keys:write"];
        }
        let maker = if across { &server.root.text } else { &first.text };
        let body =
            json!({ "name": "c", "scopes": scopes, "expiresAt": end.map_or(Value::Null, at) });
        let caller = server.create(maker, &body);
        Self { end, across, account, first, caller }
    }
}

fn attempt(
    server: &TestServer,
    operation: &Operation,
    (body, gives): &Variant,
    scene: &Scene,
    target: Target,
) -> Tried {
    let Scene { end, across, account, first, caller } = scene;
    let root = &server.root.text;
    let on_account = operation.path.contains("/accounts/");
    let end_of_key = target.end.map_or(Value::Null, at);
    let key = server.create(
        &first.text,
        &json!({ "name": "t", "scopes": ["orders:read"], "expiresAt": end_of_key }),
    );
    if target.disabled {
        server.put(root, &key.path(), &json!({ "enabled": false })).expect(200);
    }
    let revives = on_account && operation.method != "POST";
    let address = format!("/api/v1/accounts/{account}");
    if revives {
        // The target must be the only key that counts.
        server.delete(root, &first.path()).expect(204);
        server.put(root, &address, &json!({ "status": "suspended" })).expect(200);
    }
    let text = if body.is_null() { String::new() } else { body.to_string() };
    let request = operation.request(&key.id, account, "1", &text).key(&caller.text);
    let answer = server.send(&request);
    let what =
        format!("{} {body} by a caller until {end:?}, across: {across}, {target:?}", operation.id);
    if gives(target, *end) {
        let faults = answer.faults();
        assert!(
            faults.iter().all(|(_, code)| code == "expires_after_caller"),
            "{what}: {faults:?}"
        );
    } else {
        assert!(answer.status < 300, "{what}: {}", answer.text());
    }
    let worked = !target.disabled && !revives;
    let limited = target.end.is_some_and(|it| it <= END);
    Tried { what, secret: secret_in(&answer.json()), target: key, worked, limited }
}

#[test]
fn no_effect_of_an_expiring_caller_lasts_beyond_its_end_unless_it_was_there_before() {
    let server = TestServer::start();
    let mut tried = Vec::new();
    let callers = [(None, false), (None, true), (Some(END), false), (Some(END), true)];
    let scenes = callers.map(|(end, across)| Scene::new(&server, end, across));
    for operation in protected().iter().filter(|it| it.method != "GET") {
        for variant in variants(operation) {
            for end in [None, Some(END)] {
                for key_end in [None, Some(1), Some(END), Some(3)] {
                    // Only these operations depend on whether the target is disabled.
                    let may_enable = variant.0.is_object() && operation.method != "POST";
                    for disabled in [false, true].into_iter().filter(|it| may_enable || !it) {
                        let target = Target { end: key_end, disabled };
                        for across in [false, true] {
                            let own_only = ["createApiKey"].contains(&&*operation.id);
                            let across_only = operation.path.contains("/accounts");
                            if (own_only && across) || (across_only && !across) {
                                continue;
                            }
                            // An operation on an account needs one of its own.
                            let own = operation.path.contains("/accounts");
                            let own = own.then(|| Scene::new(&server, end, across));
                            let shared =
                                scenes.iter().find(|it| (it.end, it.across) == (end, across));
                            let scene = own.as_ref().or(shared).unwrap();
                            let case = attempt(&server, operation, &variant, scene, target);
                            if end.is_some() {
                                tried.push(case);
                            }
                        }
                    }
                }
            }
        }
    }
    assert!(200 < tried.len());
    server.advance(HOUR * u32::try_from(END).unwrap());
    let works = |text: &str, scopes: &[&str]| server.verify(text, scopes)["valid"] == true;
    for Tried { what, secret, target, worked, limited } in tried {
        assert!(!secret.is_some_and(|it| works(&it, &[])), "a secret outlives its caller: {what}");
        let lives = works(&target.text, &[]);
        assert!(!lives || (worked && !limited), "an extended expiry outlives its caller: {what}");
        let gained = works(&target.text, &["products:read"]);
        assert!(!gained, "a permission outlives its caller: {what}");
    }
}

#[test]
fn a_caller_that_expires_may_rotate_itself_and_keeps_its_end() {
    let server = TestServer::start();
    let scopes = ["api-keys:write", "orders:read"];
    let body = json!({ "name": "c", "scopes": scopes, "expiresAt": at(END) });
    let caller = server.create(&server.root.text, &body);
    let other = server.create(&caller.text, &json!({ "name": "o", "scopes": ["orders:read"] }));
    assert_eq!(other.body["expiresAt"], at(END));
    for path in ["/api/v1/api-keys/self/rotate".to_owned(), format!("{}/rotate", other.path())] {
        let answer = server.post(&caller.text, &path, &json!({ "gracePeriodSeconds": 300 }));
        assert_eq!(answer.expect(200).json()["expiresAt"], at(END));
    }
}
