//! Each system call of a rotation, an update and a revocation fails once: the change happens once, or the
//! caller learns that it did not.
//!
//! The ordinary suite alternates the errors. With `EVERY_FAULT` set, each call fails with each error.

use std::{
    env, thread,
    time::{Duration, Instant},
};

use serde_json::json;

use super::victim::{CALLS, KEYS, PAUSE, Victim};
use crate::support::{Request, Response};

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Operation {
    Create,
    Rotate,
    RotateAtOnce,
    Update,
    Revoke,
}

/// The key that an operation is about, as it was before.
struct Subject {
    operation: Operation,
    id: String,
    key: String,
    /// Different for each attempt of a test.
    turn: String,
}

impl Operation {
    const ALL: [Self; 5] =
        [Self::Create, Self::Rotate, Self::RotateAtOnce, Self::Update, Self::Revoke];

    fn event(self) -> &'static str {
        match self {
            Self::Create => "api_key.created",
            Self::Rotate | Self::RotateAtOnce => "api_key.rotated",
            Self::Update => "api_key.updated",
            Self::Revoke => "api_key.revoked",
        }
    }

    /// Returns the verdict on the plaintext key from before the change.
    fn verdict(self) -> &'static str {
        match self {
            Self::Create | Self::Rotate | Self::Update => "VALID",
            Self::RotateAtOnce => "ROTATED",
            Self::Revoke => "REVOKED",
        }
    }
}

impl Subject {
    fn of(operation: Operation, victim: &Victim, turn: String) -> Self {
        let made = victim.create().expect(201).json();
        let text = |member: &str| made[member].as_str().unwrap().to_owned();
        Self { operation, id: text("id"), key: text("key"), turn }
    }

    fn path(&self) -> String {
        format!("{KEYS}/{}", self.id)
    }

    /// A retry has the same `Idempotency-Key`, so it cannot rotate or create twice.
    fn send(&self, victim: &Victim) -> Response {
        let rotate = format!("{}/rotate", self.path());
        let (method, path, body) = match self.operation {
            Operation::Create => {
                ("POST", KEYS.to_owned(), json!({ "name": self.turn, "scopes": ["orders:read"] }))
            }
            Operation::Rotate => ("POST", rotate, json!({ "gracePeriodSeconds": 3600 })),
            Operation::RotateAtOnce => ("POST", rotate, json!({ "gracePeriodSeconds": 0 })),
            Operation::Update => ("PUT", self.path(), json!({ "name": self.turn })),
            Operation::Revoke => ("DELETE", self.path(), json!({})),
        };
        let request = Request::new(method, &path).key(victim.root()).json(&body);
        let request = match method {
            "POST" => request.header("Idempotency-Key", &self.turn),
            _ => request,
        };
        request.send(victim.server.address)
    }

    /// Repeats the change until it is answered. Meanwhile all other keys are verified, and this one as
    /// before or after the change.
    fn change(&self, victim: &Victim, why: &str) -> Response {
        let deadline = Instant::now() + Duration::from_mins(1);
        let mut refused = false;
        let answer = loop {
            let answer = self.send(victim);
            victim.check(&victim.server);
            if answer.status != 503 {
                break answer;
            }
            let said = answer.text();
            assert!(Instant::now() < deadline, "it never recovers: {why}: {said}");
            assert_eq!(answer.problem(), "unavailable", "{why}: {said}");
            assert_eq!(answer.header("retry-after"), Some("1"), "{why}: {said}");
            let code = victim.code(&self.key);
            assert!(["VALID", self.operation.verdict()].contains(&&*code), "{why}: {code}");
            refused = true;
            thread::sleep(PAUSE);
        };
        let said = answer.text();
        match self.operation {
            Operation::Create => assert_eq!(answer.status, 201, "{why}: {said}"),
            Operation::Rotate | Operation::RotateAtOnce | Operation::Update => {
                assert_eq!(answer.status, 200, "{why}: {said}");
            }
            // The refused revocation may have been stored.
            Operation::Revoke => {
                assert!(answer.status == 204 || refused && answer.status == 404, "{why}: {said}");
            }
        }
        answer
    }

    /// Checks that the change is there as a whole, and once.
    fn check(&self, victim: &Victim, answer: &Response, why: &str) {
        let wanted = self.operation.verdict();
        assert_eq!(victim.code(&self.key), wanted, "{why}");
        victim.note(&self.key, wanted);
        let mut id = self.id.clone();
        let get = |id: &str| victim.ask("GET", &format!("{KEYS}/{id}"), &json!({}));
        match self.operation {
            Operation::Create | Operation::Rotate | Operation::RotateAtOnce => {
                let new = answer.json();
                let key = new["key"].as_str().unwrap();
                assert_eq!(victim.code(key), "VALID", "{why}");
                victim.note(key, "VALID");
                new["id"].as_str().unwrap().clone_into(&mut id);
                let found = get(&id).expect(200).json();
                assert_eq!(found["keyPrefix"], key[..12], "{why}");
                let in_grace = usize::from(self.operation == Operation::Rotate);
                assert_eq!(found["previousKeys"].as_array().unwrap().len(), in_grace, "{why}");
            }
            Operation::Update => {
                assert_eq!(get(&id).expect(200).json()["name"], self.turn, "{why}");
            }
            Operation::Revoke => drop(get(&id).expect(404)),
        }
        let filter = format!("/api/v1/events?subject={id}&type={}", self.operation.event());
        let events = victim.ask("GET", &filter, &json!({})).expect(200).json();
        assert_eq!(events["data"].as_array().unwrap().len(), 1, "{why}: {events}");
        if self.operation == Operation::Create {
            let named = victim.ask("GET", &format!("{KEYS}?q={}", self.turn), &json!({}));
            let named = named.expect(200).json();
            assert_eq!(named["data"].as_array().map(Vec::len), Some(1), "{why}: {named}");
        }
    }
}

/// The call that fails, and with which errors; other calls that fail, and when.
struct Fault {
    call: &'static str,
    errors: &'static [&'static str],
    also: &'static [&'static str],
}

/// Fails each call of this name that the operation makes the writer thread do, one after the other.
/// Returns how many failed.
fn fail_each(operation: Operation, fault: &Fault, victim: &Victim) -> usize {
    let every = env::var_os("EVERY_FAULT").is_some();
    let (mut n, mut missed) = (1, false);
    while n < CALLS {
        let place = n + operation as usize;
        let chosen = fault.errors[place % fault.errors.len()];
        let errors = if every { fault.errors } else { &[chosen] };
        let mut reached = false;
        for error in errors {
            let turn = format!("{operation:?}-{}-{error}-{n}-{missed}", fault.call);
            let subject = Subject::of(operation, victim, turn);
            let call = format!("{}:error={error}:when={n}", fault.call);
            let why = format!("{operation:?}, {call}");
            let faults = [&[call.as_str()], fault.also].concat();
            let mut answer = None;
            let failed = victim.failing(&faults, || answer = Some(subject.change(victim, &why)));
            reached |= failed.expect("traced before").contains(&format!("{}(", fault.call));
            // A lock that was not released delays reads until the next change.
            victim.insist(&why);
            subject.check(victim, &answer.expect("an answer"), &why);
        }
        if reached {
            (n, missed) = (n + 1, false);
        } else if missed {
            return n - 1;
        } else {
            // On a busy machine, an attempt may come after the calls were watched.
            missed = true;
        }
    }
    panic!("{}: more than {CALLS} calls", fault.call);
}

/// Fails each of these calls for each of these operations, which make at least so many of them.
fn fail_all(operations: &[Operation], faults: &[(Fault, usize)]) {
    let Some(victim) = Victim::start() else { return };
    let mut tried = Vec::new();
    for operation in operations {
        for (fault, least) in faults {
            let count = fail_each(*operation, fault, &victim);
            assert!(*least < count, "{operation:?}, {}: {count}", fault.call);
            tried.push(format!("{operation:?} {} {count}", fault.call));
        }
    }
    eprintln!("{}", tried.join(", "));
    victim.end();
}

const DISK: &[&str] = &["EIO", "ENOSPC"];

fn commit(call: &'static str, errors: &'static [&'static str]) -> Fault {
    Fault { call, errors, also: &[] }
}

/// The sync of the first commit fails, so the file is opened and read again, while another call fails.
fn reopening(call: &'static str, errors: &'static [&'static str]) -> Fault {
    Fault { call, errors, also: &["fsync:error=EIO:when=1"] }
}

#[test]
fn any_write_of_a_rotation_may_fail() {
    let rotations = [Operation::Rotate, Operation::RotateAtOnce];
    fail_all(&rotations, &[(commit("pwrite64", DISK), 15)]);
}

#[test]
fn any_write_of_an_update_or_a_revocation_may_fail() {
    fail_all(&[Operation::Update, Operation::Revoke], &[(commit("pwrite64", DISK), 10)]);
}

#[test]
fn any_sync_lock_or_look_at_a_file_of_a_change_may_fail() {
    let faults = [
        (commit("fsync", DISK), 0),
        (commit("fcntl", &["EIO", "ENOLCK"]), 3),
        (commit("statx", &["EIO", "EACCES"]), 1),
    ];
    let operations = if env::var_os("EVERY_FAULT").is_some() {
        &Operation::ALL[..]
    } else {
        &[Operation::RotateAtOnce, Operation::Revoke]
    };
    fail_all(operations, &faults);
}

#[test]
fn any_call_that_reopens_the_file_after_a_change_may_fail() {
    let errors: &[_] = &["EIO", "ENOSPC", "EACCES"];
    let faults = [(reopening("openat", errors), 1), (reopening("statx", &["EIO", "EACCES"]), 3)];
    if env::var_os("EVERY_FAULT").is_some() {
        fail_all(&Operation::ALL, &[(reopening("pread64", DISK), 9)]);
        fail_all(&Operation::ALL, &faults);
    } else {
        fail_all(&[Operation::Revoke], &faults);
    }
}
