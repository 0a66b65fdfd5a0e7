//! Many simultaneous changes: every answered change is there, and an ended key stays ended.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    thread,
};

use keyward::{
    domain::{policy::RequiredScopes, verdict::Verdict},
    service::Identity,
};
use rusqlite::Connection;
use serde_json::{Value, json};

use crate::support::{Key, Request, TestServer};

#[test]
fn every_answered_change_is_there_and_the_log_has_no_gap() {
    const THREADS: usize = 16;
    const EACH: usize = 10;
    let server = TestServer::start();
    let made = Mutex::new(BTreeMap::new());
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                for _ in 0..EACH {
                    let key = server.key(&["orders:read"]);
                    made.lock().unwrap().insert(key.id, key.text);
                }
            });
        }
    });
    let made = made.into_inner().unwrap();
    assert_eq!(made.len(), THREADS * EACH);
    assert_eq!(made.values().collect::<BTreeSet<_>>().len(), THREADS * EACH);
    let list = server.get(&server.root.text, "/api/v1/api-keys").expect(200).json();
    let listed: Vec<_> =
        list["data"].as_array().unwrap().iter().map(|it| it["id"].as_str().unwrap()).collect();
    assert_eq!(listed.len(), THREADS * EACH + 1);
    assert!(listed.is_sorted(), "sorted by age, because ids increase");
    assert!(made.keys().all(|it| listed.contains(&&**it)));
    let events = server.events();
    for (event, seq) in events.iter().zip(1..) {
        assert_eq!(event["seq"], seq);
    }
    let created: Vec<_> = events.iter().filter(|it| it["type"] == "api_key.created").collect();
    assert_eq!(created.len(), THREADS * EACH + 1);
    assert!(made.values().all(|it| server.code(it) == "VALID"));
}

#[test]
fn a_caller_that_was_revoked_changes_nothing_afterwards() {
    const ROUNDS: usize = 25;
    let server = TestServer::start();
    let body = json!({ "name": "x", "scopes": ["orders:read"] });
    let mut made = 0;
    for _ in 0..ROUNDS {
        let caller = server.key(&["api-keys:write", "orders:read"]);
        let (started, answered) = (AtomicU64::new(0), AtomicBool::new(false));
        made += thread::scope(|scope| {
            let workers = [(); 3].map(|()| {
                scope.spawn(|| {
                    let mut made = 0;
                    loop {
                        let late = answered.load(Ordering::SeqCst);
                        let answer = server.post(&caller.text, "/api/v1/api-keys", &body);
                        started.fetch_add(1, Ordering::SeqCst);
                        match answer.status {
                            201 => made += 1,
                            status => assert_eq!(status, 401, "{}", answer.text()),
                        }
                        assert!(!late || answer.status == 401, "made by a revoked key");
                        if late {
                            return made;
                        }
                    }
                })
            });
            while started.load(Ordering::SeqCst) < 2 {
                thread::yield_now();
            }
            server.delete(&server.root.text, &caller.path()).expect(204);
            answered.store(true, Ordering::SeqCst);
            workers.map(|it| it.join().unwrap()).into_iter().sum::<u32>()
        });
    }
    assert!(0 < made);
    // The log shows the true order: a key did nothing after its revocation.
    let conn = Connection::open(server.database()).unwrap();
    let sql = "SELECT count(*) FROM events AS done JOIN events AS revoked
               ON revoked.subject = done.actor AND revoked.type = 'api_key.revoked'
               WHERE revoked.seq < done.seq";
    let late: i64 = conn.query_row(sql, [], |row| row.get(0)).unwrap();
    assert_eq!(late, 0);
}

/// The ways to end a credential at once.
#[derive(Clone, Copy, Debug)]
enum End {
    Revoke,
    Disable,
    RotateAtOnce,
    Complete,
    Suspend,
    DeleteAccount,
}

impl End {
    const ALL: [Self; 6] = [
        Self::Revoke,
        Self::Disable,
        Self::RotateAtOnce,
        Self::Complete,
        Self::Suspend,
        Self::DeleteAccount,
    ];

    fn request(self, account: &str, key: &Key) -> (Request, u16) {
        let account = format!("/api/v1/accounts/{account}");
        let rotate = format!("{}/rotate", key.path());
        let (method, path, body, status) = match self {
            Self::Revoke => ("DELETE", key.path(), Value::Null, 204),
            Self::Disable => ("PUT", key.path(), json!({ "enabled": false }), 200),
            Self::RotateAtOnce => ("POST", rotate, json!({ "gracePeriodSeconds": 0 }), 200),
            Self::Complete => ("POST", format!("{rotate}/complete"), Value::Null, 200),
            Self::Suspend => ("PUT", account, json!({ "status": "suspended" }), 200),
            Self::DeleteAccount => ("DELETE", account, Value::Null, 204),
        };
        let request = Request::new(method, &path);
        (if body.is_null() { request } else { request.json(&body) }, status)
    }
}

fn is_valid(server: &TestServer, text: &str) -> bool {
    let identity = match server.app.identify(text.as_bytes()) {
        Identity::Unverified(it) => server.app.verify_secret(it).unwrap().0,
        known => known,
    };
    server.app.judge(&identity, RequiredScopes::default()).verdict == Verdict::Valid
}

/// A key that will be ended, and its verdicts meanwhile.
struct Target {
    account: String,
    key: Key,
    end: End,
    answered: AtomicBool,
    accepted: AtomicU64,
    accepted_late: AtomicU64,
}

impl Target {
    fn new(server: &TestServer, end: End) -> Self {
        let (account, key) = server.account(&json!({ "name": "x" }));
        assert!(is_valid(server, &key.text), "a new key is valid at once");
        if matches!(end, End::Complete) {
            server.rotate(&server.root.text, &key.id, &json!({}));
        }
        Self {
            account,
            key,
            end,
            answered: AtomicBool::new(false),
            accepted: AtomicU64::new(0),
            accepted_late: AtomicU64::new(0),
        }
    }

    fn watch(&self, server: &TestServer) {
        let begins_late = self.answered.load(Ordering::SeqCst);
        let counter = if begins_late { &self.accepted_late } else { &self.accepted };
        let valid = is_valid(server, &self.key.text);
        counter.fetch_add(u64::from(valid), Ordering::SeqCst);
    }

    fn end(&self, server: &TestServer) {
        let (request, status) = self.end.request(&self.account, &self.key);
        let answer = server.send(&request.key(&server.root.text));
        self.answered.store(true, Ordering::SeqCst);
        answer.expect(status);
    }
}

#[test]
fn an_ended_key_is_never_accepted_after_the_answer_and_a_new_key_always_is() {
    const ROUNDS: usize = 8;
    const EACH: usize = 8; // For each of six ways to end a credential: 384 changes in all.
    let server = TestServer::start();
    for round in 0..ROUNDS {
        let targets: Vec<_> = std::iter::repeat_n(End::ALL, EACH)
            .flatten()
            .map(|end| Target::new(&server, end))
            .collect();
        // The watchers look at the key that is being ended and at the one before, which was just answered.
        let current = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while let Some(target) = targets.get(current.load(Ordering::SeqCst)) {
                        target.watch(&server);
                        let before = current.load(Ordering::SeqCst).saturating_sub(1);
                        targets[before].watch(&server);
                    }
                });
            }
            for (at, target) in targets.iter().enumerate() {
                current.store(at, Ordering::SeqCst);
                target.end(&server);
                target.watch(&server);
            }
            current.store(targets.len(), Ordering::SeqCst);
        });
        for it in targets {
            let late = it.accepted_late.load(Ordering::SeqCst);
            assert_eq!(late, 0, "accepted after {:?}, round {round}", it.end);
        }
    }
}
