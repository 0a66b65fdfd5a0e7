//! What was used of rate limits, in the file: over a crash, and after the end of a key.

use std::{path::Path, time::Duration};

use rusqlite::Connection;
use serde_json::{Value, json};

use crate::support::{Binary, Key, Request, TestServer};

const KEYS: &str = "/api/v1/api-keys";
/// The longest window. A shorter one could end while a test runs by the clock of the machine.
const MONTH: u32 = 30 * 86_400;

/// Returns the stored use of the rate limit of a key or an account, if any is stored.
fn stored(database: &Path, subject: &str) -> Option<u32> {
    let conn = Connection::open(database).unwrap();
    let sql = "SELECT max(used) FROM rate_windows WHERE subject = ?1";
    conn.query_row(sql, [subject], |row| row.get(0)).unwrap()
}

struct Crash<'a> {
    server: Binary,
    root: &'a str,
}

impl<'a> Crash<'a> {
    /// Serves with a job that stores use only on request: at the start, and by hand.
    fn serve(data: &Path) -> Binary {
        let never = ("KEYWARD_JOBS_FLUSH_USAGE", "0 0 0 29 2 MON");
        Binary::serve_with(data, &[never, ("KEYWARD_LOG_LEVEL", "warn")])
    }

    fn ask(&self, method: &str, path: &str, body: &Value) -> Value {
        let request = Request::new(method, path).key(self.root);
        let request = if body.is_null() { request } else { request.json(body) };
        let answer = request.send(self.server.address);
        assert!(answer.status < 300, "{}", answer.text());
        answer.json()
    }

    /// Returns how many of these requests with the key are accepted.
    fn granted(&self, key: &Value, requests: usize) -> usize {
        let question = json!({ "key": key["key"] });
        let ask = || self.ask("POST", &format!("{KEYS}/verify"), &question)["code"].clone();
        let codes = (0..requests).map(|_| ask()).collect::<Vec<_>>();
        assert!(codes.iter().all(|it| it == "VALID" || it == "RATE_LIMITED"), "{codes:?}");
        codes.iter().filter(|it| *it == "VALID").count()
    }

    /// The account or key, and a key that its limit of 10 holds for.
    fn limited(&self) -> [(String, Value); 2] {
        let rate = json!({ "limit": 10, "windowSeconds": MONTH });
        let body = json!({ "name": "k", "scopes": ["orders:read"], "rateLimit": rate });
        let key = self.ask("POST", KEYS, &body);
        let account = json!({ "name": "A", "rateLimit": rate });
        let account = self.ask("POST", "/api/v1/accounts", &account);
        let id = |it: &Value| it["id"].as_str().unwrap().to_owned();
        [(id(&key), key), (id(&account), account["apiKey"].clone())]
    }

    fn kill(self) {
        let mut child = self.server.child;
        child.kill().unwrap();
        child.wait().unwrap();
    }

    fn again(data: &Path, root: &'a str) -> Self {
        Self { server: Self::serve(data), root }
    }
}

#[test]
fn a_crash_grants_again_only_what_was_used_since_it_was_last_stored() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let server = Crash::serve(&data);
    let root = server.root_key();
    let before = Crash { server, root: &root };
    let both = before.limited();
    for (_, key) in &both {
        assert_eq!(before.granted(key, 4), 4);
    }
    // This answer stores every use before it.
    let path = format!("{KEYS}/{}/usage?days=1", both[0].1["id"].as_str().unwrap());
    assert_eq!(before.ask("GET", &path, &Value::Null)["data"][0]["allowed"], 4);
    for (_, key) in &both {
        assert_eq!(before.granted(key, 3), 3);
    }
    before.kill();
    let database = data.join("keyward.db");
    let known = both.each_ref().map(|(subject, _)| stored(&database, subject));
    assert_eq!(known, [Some(4); 2], "nothing was stored since");
    let after = Crash::again(&data, &root);
    for (subject, key) in &both {
        assert_eq!(after.granted(key, 9), 6, "{subject}");
    }
    assert!(after.server.terminate().status.success());
    // An orderly stop stores everything.
    assert_eq!(both.each_ref().map(|(subject, _)| stored(&database, subject)), [Some(10); 2]);
    let last = Crash::again(&data, &root);
    assert!(both.iter().all(|(_, key)| last.granted(key, 1) == 0));
}

fn limited(server: &TestServer, caller: &str, limit: u32) -> Key {
    let rate = json!({ "limit": limit, "windowSeconds": MONTH });
    let body = json!({ "name": "k", "scopes": ["orders:read"], "rateLimit": rate });
    server.create(caller, &body)
}

#[test]
fn use_of_a_key_that_was_purged_meanwhile_is_not_stored() {
    let server = TestServer::start();
    let root = &server.root.text;
    let account = json!({ "name": "A", "rateLimit": { "limit": 9, "windowSeconds": MONTH } });
    let (account, one) = server.account(&account);
    let (gone, kept) = (limited(&server, &one.text, 1), limited(&server, root, 1));
    for key in [&gone, &kept] {
        assert_eq!(server.code(&key.text), "VALID");
    }
    server.delete(root, &format!("/api/v1/accounts/{account}")).expect(204);
    server.advance(Duration::from_hours(31 * 24));
    // Removes the key, and at its next run the account.
    while server.run_job("purge") != 0 {}
    assert_eq!(server.code(&gone.text), "NOT_FOUND");
    let sql = "SELECT count(*) FROM accounts WHERE id = ?1";
    let conn = Connection::open(server.database()).unwrap();
    assert_eq!(conn.query_row(sql, [&account], |row| row.get::<_, u32>(0)), Ok(0));
    server.run_job("flush_usage");
    let of = |subject| stored(&server.database(), subject);
    assert_eq!([of(&gone.id), of(&account), of(&kept.id)], [None, None, Some(1)]);
    let about = |it: &String| it.contains("rate_limit");
    assert!(!server.story_of(&gone.id).iter().any(about), "no event about a key that is gone");
    assert!(server.story_of(&kept.id).iter().any(about));
}

#[test]
fn each_limit_is_announced_also_if_it_replaces_another_within_a_window() {
    const DAY: u32 = 86_400;
    let server = TestServer::start();
    let root = &server.root.text;
    let body = json!({
        "name": "k", "scopes": ["orders:read"], "rateLimit": { "limit": 10, "windowSeconds": DAY },
    });
    let key = server.create(root, &body);
    let told = |more: u32| {
        let question = json!({ "key": key.text, "cost": more });
        server.post(root, &format!("{KEYS}/verify"), &question).expect(200);
        server.run_job("flush_usage");
        let events = server.events();
        let about = events.iter().filter(|it| it["subject"] == *key.id);
        let type_of = |it: &Value| it["type"].as_str().unwrap().to_owned();
        let rate = about.filter(|it| type_of(it).contains("rate_limit"));
        rate.map(|it| (type_of(it).split('_').next_back().unwrap().to_owned(), it["data"].clone()))
            .map(|(what, data)| format!("{what} {}/{}", data["used"], data["limit"]))
            .collect::<Vec<_>>()
    };
    let change = |limit: u32, window: u32| {
        let rate = json!({ "rateLimit": { "limit": limit, "windowSeconds": window } });
        server.put(root, &key.path(), &rate).expect(200);
    };
    let mut expected = vec!["near 10/10", "reached 10/10"];
    assert_eq!(told(10), expected);
    change(20, DAY);
    assert_eq!(told(5), expected, "75 % of the new limit");
    expected.push("near 16/20");
    assert_eq!([told(1), told(1)], [&*expected, &*expected]);
    expected.push("reached 20/20");
    assert_eq!(told(3), expected);
    server.put(root, &key.path(), &json!({ "name": "other" })).expect(200);
    assert_eq!(told(0), expected, "the same limit");
    // This window of two days began with the one of a day.
    change(20, 2 * DAY);
    expected.extend(["near 20/20", "reached 20/20"]);
    assert_eq!(told(0), expected);
}

#[test]
fn the_use_of_a_window_of_five_seconds_is_stored_and_that_of_a_shorter_one_is_not() {
    let mut server = TestServer::start();
    let of = |seconds: u32| {
        let rate = json!({ "limit": 1, "windowSeconds": seconds });
        let body = json!({ "name": "k", "scopes": ["orders:read"], "rateLimit": rate });
        server.create(&server.root.text, &body)
    };
    let (four, five) = (of(4), of(5));
    for key in [&four, &five] {
        assert_eq!([server.code(&key.text), server.code(&key.text)], ["VALID", "RATE_LIMITED"]);
    }
    server.restart(|_| ());
    assert_eq!([&four, &five].map(|it| server.code(&it.text)), ["VALID", "RATE_LIMITED"]);
}
