//! Concurrent histories of one key. They are linearizable, so each answer is right at an instant before it was sent.

use std::{
    fmt::Write,
    path::Path,
    sync::{
        Barrier, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use serde_json::{Value, json};

use super::{
    cases_and_seed,
    linearizable::{Operation, Sequential, linearize},
};
use crate::support::{
    Binary, Dice, Request, Response, TestServer, control::control, import::sha256,
};

const KEYS: &str = "/api/v1/api-keys";
const THREADS: usize = 4;
/// The number of requests of each thread.
const EACH: usize = 10;

#[derive(Clone, Copy, Debug)]
enum Call {
    /// Imports the key. Its text is known before, so that it can be verified before, too.
    Import,
    /// Verifies a credential: 0 is the imported text, and each rotation makes the next one.
    Verify(usize),
    Rotate {
        grace: bool,
    },
    Complete,
    Enable(bool),
    Suspend(bool),
    Revoke,
    Read,
}

#[derive(Clone, Debug, Eq, PartialEq)]
struct Answer {
    said: String,
    /// The credential that a rotation made.
    fresh: Option<usize>,
}

/// A key as docs/api.md describes it, while no time passes.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
struct Key {
    is_revoked: bool,
    is_disabled: bool,
    is_suspended: bool,
    /// Each credential, and whether it is live. The last one is current. None before the import.
    credentials: Vec<(usize, bool)>,
}

impl Key {
    fn verdict(&self, credential: usize) -> &'static str {
        let found = self.credentials.iter().find(|(it, _)| *it == credential);
        match found {
            None => "MALFORMED",
            Some(_) if self.is_revoked => "REVOKED",
            Some((_, false)) => "ROTATED",
            Some(_) if self.is_suspended => "ACCOUNT_SUSPENDED",
            Some(_) if self.is_disabled => "DISABLED",
            Some(_) => "VALID",
        }
    }

    fn live(&self) -> usize {
        self.credentials.iter().filter(|(_, live)| *live).count()
    }

    fn end_graces(&mut self) {
        let current = self.credentials.len() - 1;
        self.credentials[..current].iter_mut().for_each(|(_, live)| *live = false);
    }

    /// Makes the call, and returns what the key answers.
    fn take(&mut self, call: Call, fresh: Option<usize>) -> String {
        let is_there = !self.credentials.is_empty() && !self.is_revoked;
        let answer = match call {
            Call::Verify(credential) => self.verdict(credential),
            Call::Import if self.credentials.is_empty() => {
                self.credentials.push((0, true));
                "imported"
            }
            Call::Import => "refused",
            Call::Suspend(suspended) => {
                self.is_suspended = suspended;
                "done"
            }
            _ if !is_there => "not_found",
            Call::Rotate { grace: true } if self.live() == 3 => "too_many_live_keys",
            Call::Rotate { grace } => {
                // No credential has this number, so only an answer with a new one is right.
                self.credentials.push((fresh.unwrap_or(usize::MAX), true));
                if !grace {
                    self.end_graces();
                }
                "done"
            }
            Call::Complete => {
                self.end_graces();
                "done"
            }
            Call::Enable(enabled) => {
                self.is_disabled = !enabled;
                "done"
            }
            Call::Revoke => {
                self.is_revoked = true;
                "done"
            }
            Call::Read => {
                return format!("enabled {}, {} in grace", !self.is_disabled, self.live() - 1);
            }
        };
        answer.to_owned()
    }
}

impl Sequential for Key {
    type State = Self;
    type Call = Call;
    type Answer = Answer;

    fn after(state: &Self, call: &Call, answer: &Answer) -> Option<Self> {
        let mut next = state.clone();
        (next.take(*call, answer.fresh) == answer.said).then_some(next)
    }
}

/// The server under test, and how it is asked for a verdict.
struct Subject<'a> {
    send: &'a (dyn Fn(&Request) -> Response + Sync),
    verify: &'a (dyn Fn(&str) -> String + Sync),
    data_dir: &'a Path,
    root: &'a str,
}

/// What the threads of one history share.
struct Shared<'a> {
    subject: &'a Subject<'a>,
    account: String,
    /// The identifier of the key, once the import was answered.
    id: Mutex<Option<String>>,
    texts: Mutex<Vec<String>>,
    stamps: AtomicU64,
}

impl Shared<'_> {
    fn stamp(&self) -> u64 {
        self.stamps.fetch_add(1, Ordering::SeqCst)
    }

    fn choose(&self, dice: &mut Dice) -> Call {
        let credential = dice.roll(self.texts.lock().unwrap().len());
        if self.id.lock().unwrap().is_none() {
            return Call::Verify(credential);
        }
        match dice.roll(26) {
            0..=11 => Call::Verify(credential),
            12..=14 => Call::Rotate { grace: true },
            15 => Call::Rotate { grace: false },
            16 => Call::Complete,
            17..=19 => Call::Enable(dice.roll(2) == 0),
            20..=21 => Call::Suspend(dice.roll(2) == 0),
            22 => Call::Revoke,
            23 => Call::Import,
            _ => Call::Read,
        }
    }

    fn make(&self, call: Call) -> Answer {
        let plain = |said: &str| Answer { said: said.to_owned(), fresh: None };
        let path = format!("{KEYS}/{}", self.id.lock().unwrap().clone().unwrap_or_default());
        let (method, path, body) = match call {
            Call::Verify(credential) => {
                let text = self.texts.lock().unwrap()[credential].clone();
                return plain(&(self.subject.verify)(&text));
            }
            Call::Import => return plain(self.import()),
            Call::Rotate { grace } => {
                let seconds = if grace { 604_800 } else { 0 };
                ("POST", format!("{path}/rotate"), json!({ "gracePeriodSeconds": seconds }))
            }
            Call::Complete => ("POST", format!("{path}/rotate/complete"), json!({})),
            Call::Enable(enabled) => ("PUT", path, json!({ "enabled": enabled })),
            Call::Suspend(suspended) => {
                let status = if suspended { "suspended" } else { "active" };
                ("PUT", format!("/api/v1/accounts/{}", self.account), json!({ "status": status }))
            }
            Call::Revoke => ("DELETE", path, json!({})),
            Call::Read => ("GET", path, Value::Null),
        };
        let request = Request::new(method, &path).key(self.subject.root);
        let request = if body.is_null() { request } else { request.json(&body) };
        let answer = (self.subject.send)(&request);
        let shown = answer.json();
        match call {
            _ if 300 <= answer.status => plain(&answer.problem()),
            Call::Read => {
                let previous = shown["previousKeys"].as_array().unwrap().len();
                plain(&format!("enabled {}, {previous} in grace", shown["enabled"]))
            }
            Call::Rotate { .. } => {
                let mut texts = self.texts.lock().unwrap();
                texts.push(shown["key"].as_str().unwrap().to_owned());
                Answer { fresh: Some(texts.len() - 1), ..plain("done") }
            }
            _ => plain("done"),
        }
    }

    fn import(&self) -> &'static str {
        let digest = sha256(&self.texts.lock().unwrap()[0]);
        let row = json!({ "name": "x", "scopes": ["orders:read"], "account": self.account, "sha256": digest });
        let answer = control(self.subject.data_dir, "/imports", &json!({ "rows": [row] }));
        let Some(id) = answer["outcomes"][0]["key_id"].as_str() else { return "refused" };
        *self.id.lock().unwrap() = Some(id.to_owned());
        "imported"
    }

    fn thread(&self, number: usize, mut dice: Dice) -> Vec<Operation<Call, Answer>> {
        let operation = |turn| {
            let imports = number == 0 && turn == 1;
            let call = if imports { Call::Import } else { self.choose(&mut dice) };
            let invoked = self.stamp();
            let answer = self.make(call);
            Operation { call, answer, invoked, answered: self.stamp() }
        };
        (0..EACH).map(operation).collect()
    }
}

impl Subject<'_> {
    /// Runs one history of several threads on a new key, and checks it.
    fn run(&self, seed: u64) {
        let body = json!({ "name": "x" });
        let request = Request::new("POST", "/api/v1/accounts").key(self.root).json(&body);
        let account = (self.send)(&request).expect(201).json();
        let shared = Shared {
            subject: self,
            account: account["id"].as_str().unwrap().to_owned(),
            id: Mutex::new(None),
            texts: Mutex::new(vec![format!("sk_live_of_another_system_{seed}")]),
            stamps: AtomicU64::new(0),
        };
        let together = Barrier::new(THREADS);
        let history: Vec<_> = thread::scope(|scope| {
            let threads: Vec<_> = (0..THREADS)
                .map(|number| {
                    let dice = Dice::new(seed ^ (number as u64) << 56);
                    let (shared, together) = (&shared, &together);
                    scope.spawn(move || {
                        together.wait();
                        shared.thread(number, dice)
                    })
                })
                .collect();
            threads.into_iter().flat_map(|it| it.join().unwrap()).collect()
        });
        assert!(
            linearize::<Key>(&history, &Key::default()).is_ok(),
            "{}\nKEYWARD_MODEL_SEED={seed} runs these threads again",
            explain(history)
        );
    }
}

/// Returns a history that is not linearizable, without the questions that it does not need for that.
fn explain(mut history: Vec<Operation<Call, Answer>>) -> String {
    history.sort_by_key(|it| it.invoked);
    for at in (0..history.len()).rev() {
        let mut smaller = history.clone();
        let removed = smaller.remove(at);
        let is_question = matches!(removed.call, Call::Verify(_) | Call::Read);
        if is_question && linearize::<Key>(&smaller, &Key::default()).is_err() {
            history = smaller;
        }
    }
    let longest = linearize::<Key>(&history, &Key::default()).unwrap_or_else(|longest| longest);
    let mut text = format!("not linearizable; the longest explained beginning is {longest:?} of\n");
    for (at, Operation { call, answer, invoked, answered }) in history.iter().enumerate() {
        let fresh = answer.fresh.map(|it| format!(" with credential {it}")).unwrap_or_default();
        let said = &answer.said;
        let _ = writeln!(text, "{at:>3}: {invoked:>3} to {answered:>3}: {call:?}: {said}{fresh}");
    }
    text
}

#[test]
fn every_concurrent_history_of_a_key_is_linearizable() {
    let (cases, seed) = cases_and_seed(150);
    let server = TestServer::start();
    let subject = Subject {
        send: &|request| server.send(request),
        verify: &|text| super::history::ask(&server, text, &super::rules::NO_QUESTION).to_owned(),
        data_dir: &server.data_dir(),
        root: &server.root.text,
    };
    (0..u64::from(cases)).for_each(|case| subject.run(seed.wrapping_add(case)));
}

#[test]
fn a_concurrent_history_of_the_program_over_http_is_linearizable() {
    let (_, seed) = cases_and_seed(1);
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let server = Binary::serve_quietly(&data);
    let root = server.root_key();
    let verify = |text: &str| {
        let request = Request::new("POST", "/api/v1/api-keys/verify").key(&root);
        let answer = request.json(&json!({ "key": text })).send(server.address).expect(200);
        answer.json()["code"].as_str().unwrap().to_owned()
    };
    let subject = Subject {
        send: &|request| request.send(server.address),
        verify: &verify,
        data_dir: &data,
        root: &root,
    };
    (0..3).for_each(|case| subject.run(seed.wrapping_add(case)));
}

#[test]
fn a_window_admits_exactly_its_limit_of_concurrent_verifications() {
    let server = TestServer::start();
    for limit in [1, 2, 29, 100] {
        let rate = json!({ "limit": limit, "windowSeconds": 60 });
        let body = json!({ "name": "x", "scopes": ["orders:read"], "rateLimit": rate });
        let key = server.create(&server.root.text, &body);
        for _ in 0..8 {
            let together = Barrier::new(THREADS);
            let admitted = thread::scope(|scope| {
                let ask = |number| {
                    let (server, text, together) = (&server, &key.text, &together);
                    scope.spawn(move || {
                        together.wait();
                        // The last thread asks over HTTP.
                        let over_http = number + 1 == THREADS;
                        let questions = if over_http { 5 } else { 40 };
                        let ask = || {
                            if over_http {
                                return server.code(text);
                            }
                            super::history::ask(server, text, &super::rules::NO_QUESTION).to_owned()
                        };
                        (0..questions).filter(|_| ask() == "VALID").count()
                    })
                };
                let threads: Vec<_> = (0..THREADS).map(ask).collect();
                threads.into_iter().map(|it| it.join().unwrap()).sum::<usize>()
            });
            assert_eq!(admitted, limit);
            server.advance(std::time::Duration::from_mins(1));
        }
    }
}
