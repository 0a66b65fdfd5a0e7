//! Real Litestream beside keyward, with the packaged configuration and its documented restore, on the
//! same machine and on a standby machine.

use std::{
    fs,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::support::{Binary, Process, Request, has, keyward, keyward_in};

const SHIPPED: &str = include_str!("../../packaging/litestream/litestream.yml");
const PAGE: &str = include_str!("../../docs/operations.md");

/// A machine on which both programs run, or neither.
struct Machine {
    dir: tempfile::TempDir,
    /// Stands for the object storage, which outlives the machine.
    replica: PathBuf,
    root: String,
    keyward: Option<Binary>,
    litestream: Option<Process>,
    /// The keys whose creation was answered.
    keys: Vec<String>,
}

impl Machine {
    fn new(replica: &Path) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let server = Binary::serve(&dir.path().join("data"));
        let root = server.root_key();
        let replica = replica.to_owned();
        let mut it =
            Self { dir, replica, root, keyward: Some(server), litestream: None, keys: Vec::new() };
        fs::write(it.dir.path().join("litestream.yml"), it.here(SHIPPED)).unwrap();
        it.step("systemctl start litestream");
        it
    }

    /// Prepares another machine as the page says: the key that signs checkpoints, and the
    /// checkpoints that were kept.
    fn standby(&self) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (replica, root) = (self.replica.clone(), self.root.clone());
        let it = Self { dir, replica, root, keyward: None, litestream: None, keys: Vec::new() };
        fs::DirBuilder::new().mode(0o700).create(it.data()).unwrap();
        fs::create_dir(it.kept()).unwrap();
        for name in ["checkpoint.key", "checkpoint.pub"] {
            fs::copy(self.data().join(name), it.data().join(name)).unwrap();
        }
        fs::write(it.dir.path().join("litestream.yml"), it.here(SHIPPED)).unwrap();
        it
    }

    /// Returns the directory for the checkpoints of the other machine.
    fn kept(&self) -> PathBuf {
        self.dir.path().join("checkpoints")
    }

    /// Signs a checkpoint and copies it to a file of another machine.
    fn keep_checkpoint(&self, file: &Path) {
        assert!(keyward_in(&self.data(), &["run-job", "checkpoint"]).status.success());
        fs::copy(self.data().join("checkpoint"), file).unwrap();
    }

    /// Compares the log of the running server with a kept checkpoint. Returns the exit code and
    /// what the command said.
    fn compare(&self, checkpoint: &Path) -> (Option<i32>, String) {
        let database = self.data().join("keyward.db");
        let public_key = self.data().join("checkpoint.pub");
        let mut command = keyward();
        command.args(["events", "verify", "--db"]).arg(database).arg("--public-key");
        let output = command.arg(public_key).arg("--checkpoint").arg(checkpoint).output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    }

    /// Replaces the paths in a text with those of this test.
    fn here(&self, text: &str) -> String {
        let dir = self.dir.path().display().to_string();
        text.replace("s3://BUCKET/keyward", &format!("file://{}", self.replica.display()))
            .replace("/var/lib/keyward", &format!("{dir}/data"))
            .replace("/etc/litestream.yml", &format!("{dir}/litestream.yml"))
            .replace("/srv/checkpoints", &format!("{dir}/checkpoints"))
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
                let output = run(program, &words[5..]);
                let log = fs::read_to_string(self.dir.path().join("litestream.log"));
                let log = log.unwrap_or_default();
                assert!(output.status.success(), "{line}: {output:?}\n{log}");
            }
            ["sed", "-i", expression, file] => {
                assert!(run("sed", &["-i", expression.trim_matches('\''), file]).status.success());
            }
            // SQLite leaves two more files beside a database that it opened.
            ["rm", files] => {
                let (start, _) = files.split_once('*').expect("files that begin alike");
                let dir = fs::read_dir(self.data()).unwrap().map(|it| it.unwrap().path());
                let found: Vec<_> =
                    dir.filter(|it| it.display().to_string().starts_with(start)).collect();
                assert!(!found.is_empty(), "{line}");
                for it in &found {
                    fs::remove_file(it).unwrap();
                }
            }
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
            assert_eq!(self.verdict(key), "VALID");
        }
        self.is_sound();
    }

    fn verdict(&self, key: &str) -> String {
        let found = self.post("/api/v1/api-keys/verify", &json!({ "key": key }));
        found["code"].as_str().unwrap().to_owned()
    }

    fn is_sound(&self) {
        for check in [&["events", "verify"][..], &["doctor"]] {
            let output = keyward_in(&self.data(), check);
            let said = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success(), "{check:?}: {said}");
        }
    }
}

/// Runs a program to its end. `keyward` is the one of this build.
fn run(program: &str, arguments: &[&str]) -> Output {
    let mut command = if program == "keyward" { keyward() } else { Command::new(program) };
    command.args(arguments).stdin(Stdio::null()).output().unwrap()
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

/// Returns the first number after `start` in a text.
fn number_after(text: &str, start: &str) -> usize {
    let rest = text.split_once(start).unwrap_or_else(|| panic!("{start:?} in {text}")).1;
    rest.split(|it: char| !it.is_ascii_digit()).next().unwrap().parse().unwrap()
}

#[test]
fn a_replica_is_restored_as_documented_several_times() {
    if !has(&["litestream"]) {
        return;
    }
    let storage = tempfile::tempdir().unwrap();
    let mut machine = Machine::new(&storage.path().join("replica"));
    for _ in 0..2 {
        machine.work();
        machine.wait_for_replica();
        machine.restore();
    }
}

/// Runs the commands of the page on the standby. Returns how many events the log lacks.
fn take_over(standby: &mut Machine) -> usize {
    let section = PAGE.split_once("\n### A standby machine\n").expect("a section").1;
    let block = section.split_once("\n```bash\n").expect("its commands").1;
    let mut missing = None;
    for step in block.split_once("\n```\n").unwrap().0.lines() {
        if step.contains("events verify") {
            let line = standby.here(step);
            let words: Vec<_> = line.split_whitespace().collect();
            let output = run(words[4], &words[5..]);
            let said = String::from_utf8(output.stdout).unwrap();
            assert_eq!(output.status.code(), Some(3), "{said}");
            let first = number_after(&said, "event ");
            missing = Some(number_after(&said, "says that it had ") + 1 - first);
        } else {
            standby.step(step);
        }
    }
    missing.expect("the page compares the log with a checkpoint")
}

#[test]
fn a_standby_takes_over_and_names_what_was_lost() {
    if !has(&["litestream"]) {
        return;
    }
    let storage = tempfile::tempdir().unwrap();
    let mut lost = Machine::new(&storage.path().join("replica"));
    let body = json!({ "name": "gateway", "scopes": ["api-keys:verify"] });
    let gateway = lost.post("/api/v1/api-keys", &body)["key"].as_str().unwrap().to_owned();
    lost.create_keys(20);
    let mut standby = lost.standby();
    let (earlier, newest) = (standby.kept().join("earlier"), standby.kept().join("newest"));
    lost.keep_checkpoint(&earlier);
    lost.wait_for_replica();
    // Litestream may send some of these five. It is killed before the other changes.
    lost.create_keys(5);
    let litestream = lost.litestream.take().unwrap();
    litestream.signal("-KILL");
    litestream.wait_for_end();
    lost.create_keys(3);
    let revoked = Request::new("DELETE", "/api/v1/api-keys/self").key(&lost.keys[0]);
    let address = lost.keyward.as_ref().unwrap().address;
    assert_eq!(revoked.send(address).status, 204);
    lost.keep_checkpoint(&newest);
    let keyward = lost.keyward.take().unwrap();
    keyward.child.signal("-KILL");
    keyward.wait();
    let keys = std::mem::take(&mut lost.keys);
    drop(lost);

    let missing = take_over(&mut standby);

    // The keys that were lost are the newest, and a revocation that was lost is undone.
    let verdicts: Vec<_> = keys.iter().map(|it| standby.verdict(it)).collect();
    let there = verdicts.iter().take_while(|it| *it == "VALID").count();
    assert!((20..=25).contains(&there), "{verdicts:?}");
    assert!(verdicts[there..].iter().all(|it| it == "NOT_FOUND"), "{verdicts:?}");
    assert_eq!(missing, keys.len() - there + 1, "the keys and the revocation");
    let address = standby.keyward.as_ref().unwrap().address;
    let question = Request::new("POST", "/api/v1/api-keys/verify").key(&gateway);
    assert_eq!(question.json(&json!({ "key": keys[1] })).send(address).json()["code"], "VALID");
    standby.is_sound();
    standby.wait_for_replica();

    // Checkpoints from before the loss agree for ever; those from the lost seconds never do.
    assert_eq!(standby.compare(&earlier).0, Some(0));
    let (code, said) = standby.compare(&newest);
    assert!(code == Some(3) && said.contains("the log was "), "{said}");
    standby.create_keys(missing + 5);
    assert_eq!(standby.compare(&earlier).0, Some(0));
    let (code, said) = standby.compare(&newest);
    assert!(code == Some(3) && said.contains("the log was rewritten"), "{said}");
    let path = "/api/v1/events?type=backup.restored";
    let events = Request::new("GET", path).key(&standby.root).send(address).json();
    let seq = events["data"][0]["seq"].as_u64().unwrap();
    assert_eq!(events["data"][0]["data"]["events"].as_u64(), Some(seq - 1), "{events}");
}
