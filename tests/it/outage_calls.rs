//! Each system call of a commit fails once: verification goes on, no answered change is lost, and
//! the server takes changes again without a restart.

use std::{
    cell::RefCell,
    fs,
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::support::{Binary, Process, Request, Response, keyward_in, skip};

const KEYS: &str = "/api/v1/api-keys";
/// The pause between two attempts.
const PAUSE: Duration = Duration::from_millis(20);
/// More calls of one name than any action of these tests makes.
const CALLS: usize = 100;

/// A server, and the keys whose creation or revocation it has answered.
struct Victim {
    server: Binary,
    root: String,
    dir: tempfile::TempDir,
    known: RefCell<Vec<(String, &'static str)>>,
}

impl Victim {
    /// Returns `None` if a thread cannot be traced.
    fn start() -> Option<Self> {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let server = Binary::serve_quietly(&dir.path().join("data"));
        let root = server.root_key();
        let victim = Self { server, root, dir, known: RefCell::default() };
        // This creates the write-ahead log before any call fails.
        let made = victim.create().expect(201);
        victim.learn(&made);
        let path = format!("{KEYS}/{}", made.json()["id"].as_str().unwrap());
        victim.ask("DELETE", &path, &json!({})).expect(204);
        victim.known.borrow_mut()[0].1 = "REVOKED";
        victim.learn(&victim.create().expect(201));
        if victim.failing(&["getcwd:error=EIO:when=1"], || ()).is_none() {
            skip("failing a system call needs strace and the right to trace");
            return None;
        }
        Some(victim)
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    fn ask(&self, method: &str, path: &str, body: &Value) -> Response {
        Request::new(method, path).key(&self.root).json(body).send(self.server.address)
    }

    fn create(&self) -> Response {
        self.ask("POST", KEYS, &json!({ "name": "x", "scopes": ["orders:read"] }))
    }

    /// Notes a key whose creation was answered.
    fn learn(&self, made: &Response) {
        let key = made.json()["key"].as_str().unwrap().to_owned();
        self.known.borrow_mut().push((key, "VALID"));
    }

    /// Checks that the answered changes are in force.
    fn check(&self, server: &Binary) {
        // A check of all keys takes long. A lost key stays lost, and the check at the end finds it.
        let known = self.known.borrow();
        let (first, last) = (known.iter().take(2), known.iter().rev().take(2));
        first.chain(last).for_each(|it| self.check_one(server, it));
    }

    fn check_one(&self, server: &Binary, (key, wanted): &(String, &'static str)) {
        let question = Request::new("POST", &format!("{KEYS}/verify")).key(&self.root);
        let answer = question.json(&json!({ "key": key })).send(server.address);
        assert_eq!(answer.expect(200).json()["code"], *wanted);
    }

    /// Runs `act` while these system calls of the writer thread fail. Returns the failed calls, one
    /// line each; `None` if the thread cannot be traced.
    fn failing(&self, faults: &[&str], act: impl FnOnce()) -> Option<String> {
        let log = self.dir.path().join("calls");
        let mut strace = Command::new("strace");
        strace.args(["-a1", "-s0", "-o"]).arg(&log);
        for fault in faults {
            strace.args(["-e", &format!("inject={fault}")]);
        }
        let names: Vec<_> = faults.iter().filter_map(|it| it.split(':').next()).collect();
        strace.args(["-e", &format!("trace={}", names.join(","))]);
        // The thread also maps memory and opens other files, which do not count.
        for file in ["", "/keyward.db", "/keyward.db-wal", "/keyward.db-shm"] {
            strace.arg("-P").arg(format!("{}{file}", self.data().display()));
        }
        strace.args(["-p", &self.writer().to_string()]).stderr(Stdio::piped());
        if !Command::new("strace")
            .arg("-V")
            .stdout(Stdio::null())
            .status()
            .is_ok_and(|it| it.success())
        {
            return None;
        }
        let mut strace = Process::start(&mut strace);
        let mut said = BufReader::new(strace.stderr.take().expect("a pipe"));
        let mut line = String::new();
        said.read_line(&mut line).expect("its first line");
        if !line.ends_with("attached\n") {
            return None;
        }
        act();
        strace.signal("-TERM");
        strace.wait_with_output();
        let calls = fs::read_to_string(&log).expect("its output");
        Some(
            calls
                .lines()
                .filter(|it| it.contains("(INJECTED)"))
                .map(|it| format!("{it}\n"))
                .collect(),
        )
    }

    /// Returns the number of the writer thread.
    fn writer(&self) -> u32 {
        let tasks = format!("/proc/{}/task", self.server.child.id());
        let mut tasks = fs::read_dir(tasks).expect("its threads").map(|it| it.unwrap().path());
        let is_writer =
            |it: &PathBuf| fs::read_to_string(it.join("comm")).unwrap() == "keyward-writer\n";
        let writer = tasks.find(is_writer).expect("a writer");
        writer.file_name().unwrap().to_str().unwrap().parse().unwrap()
    }

    /// Makes changes until one succeeds. Each one either succeeds or is refused for now.
    fn insist(&self, why: &str) {
        let deadline = Instant::now() + Duration::from_mins(1);
        loop {
            let answer = self.create();
            self.check(&self.server);
            if answer.status == 201 {
                self.learn(&answer);
                return;
            }
            let said = answer.text();
            assert!(Instant::now() < deadline, "it never recovers: {why}: {said}");
            assert_eq!(answer.expect(503).header("retry-after"), Some("1"), "{why}: {said}");
            thread::sleep(PAUSE);
        }
    }

    /// Stops the server. Checks the log and the answers of a server that starts from the file.
    fn end(self) {
        self.server.child.signal("-TERM");
        let data = self.data();
        let Self { server, root, dir, known } = self;
        let output = server.wait();
        let log = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{log}");
        let verified = keyward_in(&data, &["events", "verify"]);
        assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stdout));
        let again = Self { server: Binary::serve_quietly(&data), root, dir, known };
        again.known.borrow().iter().for_each(|it| again.check_one(&again.server, it));
        assert!(again.server.terminate().status.success());
    }
}

/// The errors of the call, used in turn; and other calls that fail, and when.
#[derive(Clone, Copy, Default)]
struct Faults {
    errors: &'static [&'static str],
    also: &'static [&'static str],
    /// Checkpoints the write-ahead log before each attempt, so that the next change goes to its
    /// start.
    folded: bool,
}

const IO: Faults = Faults { errors: &["EIO"], also: &[], folded: false };

/// Fails each call of this name that `act` makes the thread do, one after the other. Returns how
/// many failed.
fn fail_each(call: &str, faults: Faults, act: impl Fn(&Victim)) -> usize {
    let Some(victim) = Victim::start() else { return usize::MAX };
    for n in 1..CALLS {
        if faults.folded {
            upkeep(&victim);
        }
        let error = faults.errors[n % faults.errors.len()];
        let fault = format!("{call}:error={error}:when={n}");
        let failed = victim.failing(&[&[fault.as_str()], faults.also].concat(), || {
            act(&victim);
            victim.check(&victim.server);
        });
        let failed = failed.expect("traced before");
        victim.insist(&format!("{fault}\n{failed}"));
        if !failed.contains(&format!("{call}(")) {
            victim.end();
            return n - 1;
        }
    }
    panic!("{call}: more than {CALLS} calls");
}

fn change(victim: &Victim) {
    victim.insist("while a call fails");
}

fn change_twice(victim: &Victim) {
    change(victim);
    change(victim);
}

fn upkeep(victim: &Victim) {
    // It may fail, and then it reports that.
    keyward_in(&victim.data(), &["run-job", "upkeep"]);
}

fn upkeep_and_change(victim: &Victim) {
    upkeep(victim);
    change(victim);
}

#[test]
fn any_write_of_a_commit_may_fail() {
    let faults = Faults { errors: &["EIO", "ENOSPC", "EINTR"], ..IO };
    assert!(20 < fail_each("pwrite64", faults, change));
}

#[test]
fn any_lock_or_unlock_of_a_commit_may_fail() {
    assert!(3 < fail_each("fcntl", Faults { errors: &["EIO", "ENOLCK"], ..IO }, change));
}

/// After a checkpoint of the write-ahead log, a commit makes more calls than usual.
#[test]
fn any_call_of_a_commit_that_restarts_the_write_ahead_log_may_fail() {
    let faults = Faults { folded: true, ..IO };
    for (call, least) in [("fcntl", 3), ("fsync", 1), ("newfstatat", 0)] {
        assert!(least < fail_each(call, faults, change), "{call}");
    }
}

#[test]
fn any_call_of_a_write_ahead_log_checkpoint_may_fail() {
    let faults = Faults { errors: &["EIO", "ENOSPC"], ..IO };
    for (call, least) in [("fsync", 3), ("pread64", 9), ("pwrite64", 9), ("ftruncate", 1)] {
        assert!(least < fail_each(call, faults, upkeep_and_change), "{call}");
    }
    let faults = Faults { errors: &["EIO", "EACCES"], ..IO };
    assert!(1 < fail_each("newfstatat", faults, upkeep_and_change));
}

/// The first commit fails, so the file is opened and read again, while another call fails.
const REOPENED: Faults = Faults { also: &["fsync:error=EIO:when=1"], ..IO };

/// SQLite reports a page that it cannot read as a damaged page.
#[test]
fn any_call_that_reopens_the_file_may_fail() {
    assert!(19 < fail_each("pread64", REOPENED, change));
    let faults = Faults { errors: &["EIO", "EACCES", "ENOMEM"], ..REOPENED };
    for (call, least) in [("newfstatat", 19), ("openat", 1), ("statfs", 0)] {
        assert!(least < fail_each(call, faults, change), "{call}");
    }
}

#[test]
fn any_lock_of_the_reopened_file_may_fail() {
    assert!(19 < fail_each("fcntl", REOPENED, change));
}

/// A lock that could not be released ends with the last connection of the process. Everything that
/// the connections share is then built again.
#[test]
fn any_call_that_reopens_a_locked_file_may_fail() {
    let faults = Faults { also: &["fcntl:error=EIO:when=3"], ..IO };
    for call in ["mmap", "ftruncate"] {
        assert!(0 < fail_each(call, faults, change_twice), "{call}");
    }
}
