//! Real Litestream beside keyward, with the packaged configuration and its documented restore.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::support::{Binary, Process, Request, has, keyward, keyward_in};

const SHIPPED: &str = include_str!("../../packaging/litestream/litestream.yml");

/// A machine on which both programs run, or neither.
struct Machine {
    dir: tempfile::TempDir,
    root: String,
    keyward: Option<Binary>,
    litestream: Option<Process>,
    /// The keys whose creation was answered.
    keys: Vec<String>,
}

impl Machine {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let server = Binary::serve(&dir.path().join("data"));
        let root = server.root_key();
        let mut it = Self { dir, root, keyward: Some(server), litestream: None, keys: Vec::new() };
        fs::write(it.dir.path().join("litestream.yml"), it.here(SHIPPED)).unwrap();
        it.step("systemctl start litestream");
        it
    }

    /// Replaces the paths in a text with those of this test.
    fn here(&self, text: &str) -> String {
        let dir = self.dir.path().display().to_string();
        text.replace("s3://BUCKET/keyward", &format!("file://{dir}/replica"))
            .replace("/var/lib/keyward", &format!("{dir}/data"))
            .replace("/etc/litestream.yml", &format!("{dir}/litestream.yml"))
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    fn post(&self, path: &str, body: &Value) -> Value {
        let address = self.keyward.as_ref().expect("it runs").address;
        let request = Request::new("POST", path).key(&self.root).json(body);
        let answer = request.send(address);
        assert!(matches!(answer.status, 200 | 201), "{answer:?}");
        answer.json()
    }

    fn create_keys(&mut self, count: usize) {
        for _ in 0..count {
            let body = json!({ "name": "x", "scopes": ["orders:read"] });
            let made = self.post("/api/v1/api-keys", &body);
            self.keys.push(made["key"].as_str().unwrap().to_owned());
        }
    }

    /// Makes changes before and after a checkpoint of the write-ahead log, and over a restart.
    fn work(&mut self) {
        self.create_keys(20);
        assert!(keyward_in(&self.data(), &["run-job", "upkeep"]).status.success());
        self.create_keys(5);
        self.step("systemctl stop keyward");
        self.step("systemctl start keyward");
        self.create_keys(5);
    }

    /// Carries out one line of the documentation.
    fn step(&mut self, line: &str) {
        let line = self.here(line);
        let words: Vec<_> = line.split_whitespace().collect();
        match words[..] {
            ["systemctl", "stop", "keyward"] => {
                let output = self.keyward.take().expect("it runs").terminate();
                assert!(output.status.success(), "{output:?}");
            }
            ["systemctl", "start", "keyward"] => self.keyward = Some(Binary::serve(&self.data())),
            ["systemctl", "stop", "litestream"] => {
                let litestream = self.litestream.take().expect("it runs");
                litestream.signal("-TERM");
                litestream.wait_for_end();
            }
            ["systemctl", "start", "litestream"] => {
                self.litestream = Some(replicate(self.dir.path()));
            }
            ["runuser", "-u", "keyward", "--", program, ..] => {
                let mut command =
                    if program == "keyward" { keyward() } else { Command::new(program) };
                let output = command.args(&words[5..]).stdin(Stdio::null()).output().unwrap();
                let log = fs::read_to_string(self.dir.path().join("litestream.log"));
                assert!(output.status.success(), "{line}: {output:?}\n{}", log.unwrap());
            }
            ["rm", file] => fs::remove_file(file).unwrap(),
            _ => panic!("the test does not know how to do this: {line}"),
        }
    }

    /// Waits until the replica holds every event that the database has now. Litestream sends
    /// changes once a second. When it is stopped, it sends the rest only if it has begun.
    fn wait_for_replica(&self) {
        let newest = |file: &Path| -> Option<i64> {
            let conn = rusqlite::Connection::open(file).ok()?;
            conn.query_row("SELECT max(seq) FROM events", [], |row| row.get(0)).ok()
        };
        let (database, probe) = (self.data().join("keyward.db"), self.dir.path().join("probe.db"));
        let wanted = newest(&database);
        let deadline = Instant::now() + Duration::from_mins(1);
        loop {
            let mut restore = Command::new("litestream");
            restore.args(["restore", "-config"]).arg(self.dir.path().join("litestream.yml"));
            let output = restore.arg("-o").arg(&probe).arg(&database).output().unwrap();
            if wanted.is_some() && wanted <= newest(&probe) {
                return fs::remove_file(&probe).unwrap();
            }
            assert!(Instant::now() < deadline, "the replica is behind: {output:?}");
            // Opening the replica creates the file if it was missing.
            let _ = fs::remove_file(&probe);
        }
    }

    /// Restores as the documentation says. Then checks that the database is sound and every key is
    /// there.
    fn restore(&mut self) {
        let steps = SHIPPED.lines().filter_map(|it| it.strip_prefix("#   "));
        let steps: Vec<_> = steps.collect();
        assert!(steps.iter().any(|it| it.contains("litestream restore")), "{steps:?}");
        for step in steps {
            self.step(step);
        }
        for key in &self.keys {
            let found = self.post("/api/v1/api-keys/verify", &json!({ "key": key }));
            assert_eq!(found["code"], "VALID");
        }
        for check in [&["events", "verify"][..], &["doctor"]] {
            let output = keyward_in(&self.data(), check);
            let said = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success(), "{check:?}: {said}");
        }
    }
}

/// Starts Litestream and waits until it has begun.
fn replicate(dir: &Path) -> Process {
    let log = dir.join("litestream.log");
    let file = fs::File::create(&log).unwrap();
    let mut command = Command::new("litestream");
    command.args(["replicate", "-config"]).arg(dir.join("litestream.yml")).stdin(Stdio::null());
    command.stdout(file.try_clone().unwrap()).stderr(file);
    let mut child = Process::start(&mut command);
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let said = fs::read_to_string(&log).unwrap();
        if said.contains("replicating to") {
            return child;
        }
        assert!(child.try_wait().unwrap().is_none() && Instant::now() < deadline, "{said}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_replica_is_restored_as_documented_several_times() {
    if !has(&["litestream"]) {
        return;
    }
    let mut machine = Machine::new();
    for _ in 0..2 {
        machine.work();
        machine.wait_for_replica();
        machine.restore();
    }
}
