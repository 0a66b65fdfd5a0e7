//! A server whose writer thread meets failing system calls, and what it has answered.

use std::{
    cell::RefCell,
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::support::{Binary, Process, Request, Response, keyward_in, skip};

pub const KEYS: &str = "/api/v1/api-keys";
/// The pause between two attempts.
pub const PAUSE: Duration = Duration::from_millis(20);
/// More calls of one name than any action of these tests makes.
pub const CALLS: usize = 100;

/// Starts a server with fast key derivations and a short log.
fn serve(data: &Path) -> Binary {
    let fast = ("KEYWARD_KEYS_HASH_ITERATIONS", "1000");
    Binary::serve_with(data, &[("KEYWARD_LOG_LEVEL", "warn"), fast])
}

/// A server, and the keys whose creation or revocation it has answered.
pub struct Victim {
    pub server: Binary,
    root: String,
    dir: tempfile::TempDir,
    known: RefCell<Vec<(String, &'static str)>>,
}

impl Victim {
    /// Returns `None` if a thread cannot be traced.
    pub fn start() -> Option<Self> {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let server = serve(&dir.path().join("data"));
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

    pub fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    pub fn root(&self) -> &str {
        &self.root
    }

    pub fn ask(&self, method: &str, path: &str, body: &Value) -> Response {
        Request::new(method, path).key(&self.root).json(body).send(self.server.address)
    }

    pub fn create(&self) -> Response {
        self.ask("POST", KEYS, &json!({ "name": "x", "scopes": ["orders:read"] }))
    }

    /// Notes a key whose creation was answered.
    pub fn learn(&self, made: &Response) {
        self.note(made.json()["key"].as_str().unwrap(), "VALID");
    }

    /// Notes the verdict that an answered change gave to a plaintext key.
    pub fn note(&self, key: &str, wanted: &'static str) {
        self.known.borrow_mut().push((key.to_owned(), wanted));
    }

    pub fn code(&self, key: &str) -> String {
        let answer = self.ask("POST", &format!("{KEYS}/verify"), &json!({ "key": key }));
        answer.expect(200).json()["code"].as_str().unwrap().to_owned()
    }

    /// Returns all keys, without the times of use: a time that is only in memory may be lost.
    fn keys(&self) -> Vec<Value> {
        let mut list = self.ask("GET", KEYS, &json!({})).expect(200).json();
        let keys = list["data"].as_array_mut().unwrap();
        for key in &mut *keys {
            key["lastUsedAt"] = Value::Null;
            for previous in key["previousKeys"].as_array_mut().unwrap() {
                previous["lastUsedAt"] = Value::Null;
            }
        }
        keys.clone()
    }

    /// Checks that the answered changes are in force.
    pub fn check(&self, server: &Binary) {
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
    pub fn failing(&self, faults: &[&str], act: impl FnOnce()) -> Option<String> {
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
    pub fn insist(&self, why: &str) {
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
    pub fn end(self) {
        let keys = self.keys();
        self.server.child.signal("-TERM");
        let data = self.data();
        let Self { server, root, dir, known } = self;
        let output = server.wait();
        let log = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{log}");
        let verified = keyward_in(&data, &["events", "verify"]);
        assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stdout));
        let again = Self { server: serve(&data), root, dir, known };
        again.known.borrow().iter().for_each(|it| again.check_one(&again.server, it));
        assert_eq!(again.keys(), keys, "the restart changed a key");
        assert!(again.server.terminate().status.success());
    }
}
