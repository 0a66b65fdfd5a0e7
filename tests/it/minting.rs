//! Hashes are derived only for changes that will be made, and keys are verified meanwhile.

use std::{
    sync::{Arc, Mutex, mpsc::channel},
    thread,
    time::{Duration, Instant},
};

use serde_json::json;

use crate::support::{Request, Response, TestServer};

const KEYS: &str = "/api/v1/api-keys";
const ACCOUNTS: &str = "/api/v1/accounts";

fn post(server: &TestServer, key: &str, target: &str, body: &serde_json::Value) -> Response {
    server.send(&Request::new("POST", target).key(key).json(body))
}

#[test]
fn a_refused_change_derives_no_hash() {
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
        server.get(key, &format!("{KEYS}/self")).expect(200); // The first use runs the KDF.
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
    let server = TestServer::start();
    let root = &server.root.text;
    server.get(root, &format!("{KEYS}/self")).expect(200); // The first use runs the KDF.
    let create = || post(&server, root, KEYS, &json!({ "name": "x", "scopes": ["orders:read"] }));
    // Every KDF thread is occupied, and the queue is full.
    let (release, held) = channel::<()>();
    let held = Arc::new(Mutex::new(held));
    let mut waiting = 0;
    let hold_up = || {
        let held = Arc::clone(&held);
        move |_| drop(held.lock().map(|it| it.recv()))
    };
    while server.app.mint_apart(hold_up()).is_ok() {
        waiting += 1;
    }
    assert_eq!(waiting, 1024);
    let refused = create().expect(503);
    let retry = refused.header("retry-after");
    assert_eq!((refused.problem().as_str(), retry), ("unavailable", Some("1")));
    server.send(&Request::new("GET", "/authz").key(root)).expect(200);
    server.get(root, KEYS).expect(200);
    drop(release);
    let deadline = Instant::now() + Duration::from_secs(30);
    while create().status != 201 {
        assert!(Instant::now() < deadline, "the hashes are not derived");
    }
}

/// Waits until this many hashes wait to be derived.
fn wait_for_queue(server: &TestServer, expected: usize) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while server.app.waiting_verifications() != expected {
        assert!(Instant::now() < deadline, "{} wait", server.app.waiting_verifications());
        thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_rotation_of_any_revision_succeeds_even_if_the_key_was_changed_meanwhile() {
    const HELD: usize = 1000; // Enough for each of the threads to get one.
    let server = TestServer::start();
    let root = &server.root.text;
    let server = &server;
    server.get(root, &format!("{KEYS}/self")).expect(200); // The first use runs the KDF.
    for (tag, status) in [("*", 200), ("\"1\"", 412)] {
        let key = server.key(&["orders:read"]);
        wait_for_queue(server, 0);
        // Every KDF thread is occupied.
        let (release, held) = channel::<()>();
        let held = Arc::new(Mutex::new(held));
        for _ in 0..HELD {
            let held = Arc::clone(&held);
            server.app.mint_apart(move |_| drop(held.lock().map(|it| it.recv()))).unwrap();
        }
        let threads = thread::available_parallelism().unwrap().get();
        wait_for_queue(server, HELD - threads);
        let answer = thread::scope(|scope| {
            let target = format!("{}/rotate", key.path());
            let rotation = Request::new("POST", &target).key(root).header("If-Match", tag);
            let rotation = scope.spawn(move || server.send(&rotation));
            wait_for_queue(server, HELD - threads + 1);
            let change = Request::new("PATCH", &key.path()).key(root);
            server.send(&change.json(&json!({ "name": "changed" }))).expect(200);
            drop(release);
            rotation.join().unwrap()
        });
        assert_eq!(answer.status, status, "{tag}: {}", answer.text());
    }
}
