//! New hashes are derived for changes that will be made, and while proved keys are verified.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use serde_json::json;

use crate::support::{Request, Response, TestServer};

const KEYS: &str = "/api/v1/api-keys";
const ACCOUNTS: &str = "/api/v1/accounts";

fn post(server: &TestServer, key: &str, target: &str, body: &serde_json::Value) -> Response {
    server.send(&Request::new("POST", target).key(key).json(body))
}

#[test]
fn what_is_refused_derives_nothing() {
    let server = TestServer::with(|config| config.keys.hash_iterations = 100_000);
    let root = server.root.text.clone();
    let (account, owner) =
        server.account(&json!({ "name": "Acme", "externalId": "acme", "maxKeys": 4 }));
    let weak = server.create(&owner.text, &json!({ "name": "w", "scopes": ["api-keys:write"] }));
    let strong = server.create(&owner.text, &json!({ "name": "s", "scopes": ["orders:read"] }));
    let end = TestServer::EPOCH.after(Duration::from_hours(1)).to_string();
    let short =
        json!({ "name": "e", "scopes": ["api-keys:write", "orders:read"], "expiresAt": end });
    let short = server.create(&owner.text, &short);
    for key in [&root, &owner.text, &weak.text, &short.text] {
        server.get(key, &format!("{KEYS}/self")).expect(200); // The first use is derived.
    }
    let before = server.app.derivations();
    let plain = json!({ "name": "x", "scopes": ["orders:read"] });
    let late = json!({ "name": "x", "scopes": ["orders:read"], "expiresAt": null });
    let rotate = |id: &str| format!("{KEYS}/{id}/rotate");
    let there = format!("{ACCOUNTS}/{account}/api-keys");
    let nowhere = format!("{ACCOUNTS}/acct_0000000000000000000000/api-keys");
    for (key, target, body, status) in [
        (&weak.text, KEYS.to_owned(), &plain, 403),
        (&short.text, KEYS.to_owned(), &late, 422),
        (&owner.text, KEYS.to_owned(), &plain, 409),
        (&owner.text, KEYS.to_owned(), &json!({ "name": "x" }), 422),
        (&root, there, &plain, 409),
        (&root, nowhere, &plain, 404),
        (&root, ACCOUNTS.to_owned(), &json!({ "name": "x", "externalId": "acme" }), 409),
        (&weak.text, rotate(&strong.id), &json!({}), 403),
        (&owner.text, rotate(&owner.id), &json!({ "gracePeriodSeconds": 0 }), 422),
        (&owner.text, rotate("key_0000000000000000000000"), &json!({}), 404),
    ] {
        let answer = post(&server, key, &target, body);
        assert_eq!(answer.status, status, "{target}: {}", answer.text());
    }
    let other =
        Request::new("POST", &rotate(&strong.id)).key(&owner.text).header("If-Match", "\"9\"");
    server.send(&other).expect(412);
    assert_eq!(server.app.derivations(), before);
    post(&server, &owner.text, &rotate(&strong.id), &json!({})).expect(200);
    assert_eq!(server.app.derivations(), before + 1);
}

#[test]
fn keys_are_verified_while_new_ones_wait_for_their_hashes() {
    let server = TestServer::with(|config| config.keys.hash_iterations = 2_000_000);
    let root = &server.root.text;
    server.get(root, &format!("{KEYS}/self")).expect(200);
    let over = AtomicBool::new(false);
    let (answers, verified) = thread::scope(|scope| {
        let create =
            || post(&server, root, KEYS, &json!({ "name": "x", "scopes": ["orders:read"] }));
        let creating: Vec<_> = (0..20).map(|_| scope.spawn(create)).collect();
        let verifying = scope.spawn(|| {
            let mut count = 0;
            while !over.load(Ordering::Acquire) {
                server.send(&Request::new("GET", "/authz").key(root)).expect(200);
                count += 1;
            }
            count
        });
        let answers: Vec<_> = creating.into_iter().map(thread::ScopedJoinHandle::join).collect();
        over.store(true, Ordering::Release); // Also if one of them panicked.
        let answers: Vec<_> = answers.into_iter().map(Result::unwrap).collect();
        (answers, verifying.join().unwrap())
    });
    let refused: Vec<_> = answers.iter().filter(|it| it.status != 201).collect();
    assert!(!refused.is_empty() && refused.len() < answers.len(), "{} refused", refused.len());
    for answer in refused {
        assert_eq!((answer.status, answer.problem().as_str()), (503, "unavailable"));
        assert!(answer.header("retry-after").is_some());
    }
    // With the derivations in front of it, it would be one or two.
    assert!(20 < verified, "{verified} were verified");
}
