//! The server is killed in the middle of changes, many times: every answered change is there,
//! complete.
//!
//! SIGKILL ends the process and keeps the data that the operating system has buffered. So this
//! shows that no answer comes before its commit and that no change is half done. It cannot show
//! that a commit survives a loss of power; `synchronous=FULL` is for that.

use std::{
    collections::HashMap,
    net::SocketAddr,
    path::Path,
    process::Command,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
};

use serde_json::{Value, json};

use crate::support::{Binary, Dice, Request, Response, has, keyward};

const KEYS: &str = "/api/v1/api-keys";
const CLIENTS: usize = 4;
/// After this many rounds, all keys are checked, not only those of the round.
const FULL_CHECK: usize = 20;

/// What one key must be, as far as answers tell.
#[derive(Clone, Debug)]
struct Story {
    id: String,
    name: String,
    enabled: bool,
    revoked: bool,
    /// The current plaintext key; unknown if the answer with it was lost.
    value: Option<String>,
    /// Plaintext keys that a rotation left in grace, and ended ones.
    in_grace: Vec<String>,
    ended: Vec<String>,
}

#[derive(Clone, Debug)]
enum Change {
    Create { name: String },
    Rename { name: String },
    Switch { enabled: bool },
    Rotate { grace: bool },
    Revoke,
}

/// A change that was requested.
#[derive(Clone, Debug)]
struct Asked {
    request_id: String,
    /// The index among the client's keys; for a creation, the next index.
    key: usize,
    change: Change,
    /// `None` if the server was killed before it answered.
    answer: Option<Response>,
}

impl Change {
    fn event_type(&self) -> &'static str {
        match self {
            Self::Create { .. } => "api_key.created",
            Self::Rename { .. } | Self::Switch { .. } => "api_key.updated",
            Self::Rotate { .. } => "api_key.rotated",
            Self::Revoke => "api_key.revoked",
        }
    }

    fn request(&self, story: Option<&Story>, root: &str, id: &str) -> Request {
        let path = story.map_or_else(|| KEYS.to_owned(), |it| format!("{KEYS}/{}", it.id));
        let (method, path, body) = match self {
            Self::Create { name } => {
                ("POST", path, json!({ "name": name, "scopes": ["orders:read"] }))
            }
            Self::Rename { name } => ("PUT", path, json!({ "name": name })),
            Self::Switch { enabled } => ("PATCH", path, json!({ "enabled": enabled })),
            Self::Rotate { grace } => {
                let seconds = if *grace { 604_800 } else { 0 };
                ("POST", format!("{path}/rotate"), json!({ "gracePeriodSeconds": seconds }))
            }
            Self::Revoke => ("DELETE", path, json!({})),
        };
        Request::new(method, &path).key(root).header("X-Request-Id", id).json(&body)
    }

    /// Applies the change to the model. `answer` holds the new plaintext key, if the answer
    /// arrived.
    fn apply(&self, stories: &mut Vec<Story>, key: usize, id: &str, answer: Option<&Value>) {
        let value = answer.and_then(|it| it["key"].as_str()).map(str::to_owned);
        if let Self::Create { name } = self {
            stories.push(Story {
                id: id.to_owned(),
                name: name.clone(),
                enabled: true,
                revoked: false,
                value,
                in_grace: Vec::new(),
                ended: Vec::new(),
            });
            return;
        }
        let story = &mut stories[key];
        match self {
            Self::Create { .. } => (),
            Self::Rename { name } => story.name.clone_from(name),
            Self::Switch { enabled } => story.enabled = *enabled,
            Self::Rotate { grace: true } => {
                story.in_grace.extend(std::mem::replace(&mut story.value, value));
            }
            Self::Rotate { grace: false } => {
                story.ended.append(&mut story.in_grace);
                story.ended.extend(std::mem::replace(&mut story.value, value));
            }
            Self::Revoke => story.revoked = true,
        }
    }
}

fn choose(dice: &mut Dice, stories: &[Story], name: String) -> (usize, Change) {
    let key = dice.roll(stories.len().max(1));
    let Some(story) = stories.get(key).filter(|it| !it.revoked) else {
        return (stories.len(), Change::Create { name });
    };
    match dice.roll(10) {
        0..=3 => (stories.len(), Change::Create { name }),
        4 => (key, Change::Rename { name }),
        5 => (key, Change::Switch { enabled: !story.enabled }),
        // At most three credentials may work at once, and a lost answer may have made one of them.
        6 if story.in_grace.is_empty() && story.value.is_some() => {
            (key, Change::Rotate { grace: true })
        }
        6..=8 => (key, Change::Rotate { grace: false }),
        _ => (key, Change::Revoke),
    }
}

/// What the clients of one round share.
struct Round<'a> {
    address: SocketAddr,
    root: &'a str,
    answered: AtomicUsize,
    over: AtomicBool,
}

impl Round<'_> {
    /// Changes the keys of one client until the server is gone. Returns the requested changes in
    /// order.
    fn client(&self, label: &str, seed: u64, mut stories: Vec<Story>) -> Vec<Asked> {
        let (mut dice, mut asked) = (Dice::new(seed), Vec::new());
        while !self.over.load(Ordering::Relaxed) {
            let request_id = format!("{label}n{}", asked.len());
            let (key, change) = choose(&mut dice, &stories, request_id.clone());
            let request = change.request(stories.get(key), self.root, &request_id);
            let answer = request.try_send(self.address);
            if let Some(answer) = &answer {
                assert!((200..300).contains(&answer.status), "{change:?}: {}", answer.text());
                let body = answer.json();
                let id = body["id"].as_str().unwrap_or_default();
                change.apply(&mut stories, key, id, Some(&body));
                self.answered.fetch_add(1, Ordering::Relaxed);
            }
            let gone = answer.is_none();
            asked.push(Asked { request_id, key, change, answer });
            if gone {
                break;
            }
        }
        asked
    }
}

/// Returns every event after `seq` that one of these requests caused, by request id.
fn events_after(server: &Binary, root: &str, mut seq: i64) -> (HashMap<String, Value>, i64) {
    let mut found = HashMap::new();
    loop {
        let target = format!("/api/v1/events?after={seq}");
        let page = Request::new("GET", &target).key(root).send(server.address).expect(200).json();
        for event in page["data"].as_array().unwrap() {
            assert_eq!(event["seq"], seq + 1, "no gap");
            seq += 1;
            // The checks of this test cause the events about used retired keys.
            let ours = event["type"] != "api_key.retired_key_used";
            if let Some(request) = event["requestId"].as_str().filter(|_| ours) {
                let before = found.insert(request.to_owned(), event.clone());
                assert!(before.is_none(), "{request} happened twice");
            }
        }
        if page["nextCursor"].is_null() {
            return (found, seq);
        }
    }
}

/// Compares the state with the requests and answers, and updates the stories.
fn settle(
    stories: &mut Vec<Story>,
    asked: &[Asked],
    events: &mut HashMap<String, Value>,
) -> Vec<usize> {
    let mut touched = Vec::new();
    for it in asked {
        let event = events.remove(&it.request_id);
        let Some(event) = event else {
            assert!(it.answer.is_none(), "answered, and not in the log: {it:?}");
            continue;
        };
        assert_eq!(event["type"], it.change.event_type(), "{it:?}");
        let subject = event["subject"].as_str().unwrap();
        if let Some(story) = stories.get(it.key) {
            assert_eq!(subject, story.id, "{it:?}");
        }
        let body = it.answer.as_ref().map(Response::json);
        it.change.apply(stories, it.key, subject, body.as_ref());
        touched.push(it.key);
    }
    touched
}

/// Checks that the server's answers about this key agree with its story.
fn check(server: &Binary, root: &str, story: &Story) {
    let path = format!("{KEYS}/{}", story.id);
    let shown = Request::new("GET", &path).key(root).send(server.address);
    if story.revoked {
        assert_eq!(shown.status, 404, "{story:?}");
    } else {
        let body = shown.expect(200).json();
        assert_eq!(
            (body["name"].as_str(), body["enabled"].as_bool()),
            (Some(story.name.as_str()), Some(story.enabled)),
            "{story:?}"
        );
    }
    let alive = match (story.revoked, story.enabled) {
        (true, _) => "REVOKED",
        (false, false) => "DISABLED",
        (false, true) => "VALID",
    };
    let ended = if story.revoked { "REVOKED" } else { "ROTATED" };
    let values = story.value.iter().chain(&story.in_grace).map(|it| (it, alive));
    for (value, wanted) in values.chain(story.ended.iter().map(|it| (it, ended))) {
        let question = json!({ "key": value });
        let target = format!("{KEYS}/verify");
        let request = Request::new("POST", &target).key(root).json(&question);
        let code = request.send(server.address).expect(200).json()["code"].clone();
        assert_eq!(code, wanted, "{}: {story:?}", &value[..12]);
    }
}

/// Returns how often each of the two servers is killed.
fn kills() -> usize {
    let more = std::env::var("KEYWARD_CRASH_KILLS").ok();
    more.map_or(40, |it| it.parse().expect("KEYWARD_CRASH_KILLS is a number"))
}

fn kill_again_and_again(seed: u64) {
    let kills = kills();
    eprintln!("the seed is {seed}");
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let mut server = Binary::serve_quietly(&data);
    let root = server.root_key();
    let mut stories: Vec<Vec<Story>> = vec![Vec::new(); CLIENTS];
    let (mut dice, mut last_seq) = (Dice::new(seed), 0);
    let mut changes = 0;
    for round in 0..kills {
        (_, last_seq) = events_after(&server, &root, last_seq);
        let shared = Round {
            address: server.address,
            root: &root,
            answered: AtomicUsize::new(0),
            over: AtomicBool::new(false),
        };
        let enough = 3 + dice.roll(25);
        let spins = dice.roll(200_000);
        let asked: Vec<Vec<Asked>> = thread::scope(|scope| {
            let clients: Vec<_> = (0..CLIENTS)
                .map(|i| {
                    let label = format!("s{seed}r{round}c{i}");
                    let (seed, stories) = (dice.roll(usize::MAX) as u64, stories[i].clone());
                    let shared = &shared;
                    scope.spawn(move || shared.client(&label, seed, stories))
                })
                .collect();
            // The kill comes in the middle of the work, or at once if a client has failed.
            while shared.answered.load(Ordering::Relaxed) < enough
                && clients.iter().all(|it| !it.is_finished())
            {
                thread::yield_now();
            }
            (0..spins).for_each(|_| std::hint::spin_loop());
            server.child.kill().unwrap();
            shared.over.store(true, Ordering::Relaxed);
            clients.into_iter().map(|it| it.join().unwrap()).collect()
        });
        server.child.wait().unwrap();
        changes += shared.answered.into_inner();
        server = Binary::serve_quietly(&data);
        let (mut events, _) = events_after(&server, &root, last_seq);
        for (stories, asked) in stories.iter_mut().zip(&asked) {
            let touched = settle(stories, asked, &mut events);
            let all = round % FULL_CHECK == 0 || round + 1 == kills;
            for (i, story) in stories.iter().enumerate() {
                if all || touched.contains(&i) {
                    check(&server, &root, story);
                }
            }
        }
        assert!(events.is_empty(), "keyward caused these itself: {events:?}");
    }
    eprintln!("{kills} kills among {changes} answered changes");
    assert!(server.terminate().status.success());
    assert_sound(&data);
}

/// Checks the log and the file, the log also with another implementation.
fn assert_sound(data: &Path) {
    let mut verify = keyward();
    let verified = verify.args(["events", "verify", "--data-dir"]).arg(data).output().unwrap();
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stdout));
    let integrity = rusqlite::Connection::open(data.join("keyward.db")).unwrap();
    let sound: String =
        integrity.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(sound, "ok");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/verify_events.py");
    if has(&["python3"]) {
        let mut second = Command::new("python3");
        let second = second.arg(script).arg(data.join("keyward.db")).output().unwrap();
        assert!(second.status.success(), "{}", String::from_utf8_lossy(&second.stderr));
    }
}

// Two tests, so that the processors are busy while one of the servers starts.

#[test]
fn every_answered_change_survives_every_kill() {
    kill_again_and_again(0x5EED_0001);
}

#[test]
fn every_answered_change_survives_every_kill_of_another_seed() {
    kill_again_and_again(0x5EED_0002);
}
