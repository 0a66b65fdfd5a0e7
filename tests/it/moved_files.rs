//! Files that are moved, removed or replaced under a running server: verification goes on, and no change
//! is answered that the next start would not find.

use std::{
    fs::{self, OpenOptions, Permissions},
    os::unix::{
        fs::{FileExt, PermissionsExt, chown},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Command, Output},
    thread,
    time::{Duration, Instant},
};

use rusqlite::Connection;
use serde_json::{Value, json};

use crate::support::{Binary, Request, Response, keyward, keyward_in};

const KEYS: &str = "/api/v1/api-keys";
/// The pause between two attempts.
const PAUSE: Duration = Duration::from_millis(20);

/// A server with a key that was revoked, and keys whose creation it has answered.
struct Running {
    server: Binary,
    root: String,
    dir: tempfile::TempDir,
    keys: Vec<String>,
    revoked: Option<String>,
}

impl Running {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let server = Binary::serve_quietly(&dir.path().join("data"));
        let root = server.root_key();
        let mut it = Self { server, root, dir, keys: Vec::new(), revoked: None };
        let gone = it.create().expect(201).json();
        let path = format!("{KEYS}/{}", gone["id"].as_str().unwrap());
        it.ask("DELETE", &path, &json!({})).expect(204);
        it.revoked = gone["key"].as_str().map(str::to_owned);
        it.learn();
        it
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

    /// Creates a key, and notes it.
    fn learn(&mut self) {
        let made = self.create().expect(201).json();
        self.keys.push(made["key"].as_str().unwrap().to_owned());
    }

    fn check(&self) {
        self.check_at(&self.server);
    }

    fn check_at(&self, server: &Binary) {
        let wanted = self.keys.iter().map(|it| (it, "VALID"));
        for (key, wanted) in wanted.chain(self.revoked.iter().map(|it| (it, "REVOKED"))) {
            let question = Request::new("POST", &format!("{KEYS}/verify")).key(&self.root);
            let answer = question.json(&json!({ "key": key })).send(server.address);
            assert_eq!(answer.expect(200).json()["code"], wanted);
        }
    }

    /// Checks that changes are refused with this reason, and that verification goes on.
    fn check_refusing(&self, why: &str) {
        self.check();
        let refused = self.create().expect(503);
        assert_eq!(refused.problem(), "unavailable");
        assert_eq!(refused.header("retry-after"), Some("1"));
        assert_eq!(refused.json()["detail"], why);
        let ready = Request::new("GET", "/readyz").send(self.server.address).expect(503);
        assert_eq!(ready.json()["detail"], why);
        Request::new("GET", "/livez").send(self.server.address).expect(200);
    }

    /// Waits until a change is accepted, and notes the key.
    fn recover(&mut self) {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let answer = self.create();
            self.check();
            if answer.status == 201 {
                self.keys.push(answer.json()["key"].as_str().unwrap().to_owned());
                return;
            }
            assert!(Instant::now() < deadline, "it never recovers: {}", answer.text());
            answer.expect(503);
            thread::sleep(PAUSE);
        }
    }

    /// Kills the server. Checks the log and the answers of a server that starts from the files.
    fn killed(mut self) {
        self.server.child.kill().unwrap();
        self.server.child.wait().unwrap();
        let verified = keyward_in(&self.data(), &["events", "verify"]);
        assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stdout));
        let server = Binary::serve_quietly(&self.data());
        self.check_at(&server);
        assert!(server.terminate().status.success());
    }

    /// Waits until the server ends by itself. Returns its log.
    #[track_caller]
    fn ended(self, code: i32) -> (String, tempfile::TempDir) {
        let output = self.server.wait();
        let log = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{log}");
        assert!(!log.contains("panicked"), "{log}");
        (log, self.dir)
    }
}

fn second_start(data: &Path) -> Output {
    let mut serve = Command::new("timeout");
    serve.arg("20").arg(keyward().get_program()).env("KEYWARD_LOG_LEVEL", "error");
    serve.args(["serve", "--listen", "127.0.0.1:0", "--data-dir"]).arg(data).output().unwrap()
}

#[test]
fn a_removed_lock_lets_no_second_server_start_and_is_made_again() {
    let mut running = Running::start();
    let data = running.data();
    let lock = data.join("keyward.lock");
    for _ in 0..3 {
        fs::remove_file(&lock).unwrap();
        let second = second_start(&data);
        let said = String::from_utf8_lossy(&second.stderr);
        assert_eq!(second.status.code(), Some(75), "{said}");
        let socket = data.join("control.sock");
        let removed = format!("another keyward answers at {}", socket.display());
        // The running server may have been faster.
        assert!(said.contains(&removed) || said.contains("is in use by process"), "{said}");
        running.recover();
    }
    let deadline = Instant::now() + Duration::from_secs(10);
    let holder = || fs::read_to_string(&lock).unwrap_or_default();
    while holder().trim() != running.server.child.id().to_string() {
        assert!(Instant::now() < deadline, "the lock was not made again: {}", holder());
        thread::sleep(PAUSE);
    }
    let second = second_start(&data);
    let said = String::from_utf8_lossy(&second.stderr);
    assert!(said.contains("is in use by process"), "{said}");
    // Commands find the server.
    assert!(keyward_in(&data, &["keys", "list"]).status.success());
    running.learn();
    running.killed();
}

#[test]
fn a_server_ends_once_another_one_has_taken_its_lock() {
    let running = Running::start();
    let data = running.data();
    // While it is stopped, the first server cannot notice anything.
    running.server.child.signal("-STOP");
    for file in ["keyward.lock", "control.sock"] {
        fs::remove_file(data.join(file)).unwrap();
    }
    let second = Binary::serve_quietly(&data);
    running.server.child.signal("-CONT");
    let (root, keys) = (running.root.clone(), running.keys.clone());
    let (log, _dir) = running.ended(75);
    assert!(log.contains("another process took the lock of the data directory"), "{log}");

    // The end of the first server does no harm to the second one.
    let ask = |path: &str, body: &Value| {
        Request::new("POST", path).key(&root).json(body).send(second.address)
    };
    let verdict = ask(&format!("{KEYS}/verify"), &json!({ "key": keys[0] })).expect(200).json();
    assert_eq!(verdict["code"], "VALID");
    ask(KEYS, &json!({ "name": "x", "scopes": ["orders:read"] })).expect(201);
    assert!(keyward_in(&data, &["health", "--ready"]).status.success());
    assert!(second.terminate().status.success());
    assert!(keyward_in(&data, &["events", "verify"]).status.success());
}

#[test]
fn a_server_ends_once_another_process_had_its_lock_for_a_moment_and_changed_something() {
    let running = Running::start();
    let data = running.data();
    running.server.child.signal("-STOP");
    for file in ["keyward.lock", "control.sock"] {
        fs::remove_file(data.join(file)).unwrap();
    }
    let changed = keyward_in(&data, &["accounts", "create", "-q", "--name", "Acme"]);
    assert!(changed.status.success(), "{}", String::from_utf8_lossy(&changed.stderr));
    running.server.child.signal("-CONT");
    let (log, dir) = running.ended(75);
    assert!(log.contains("another process took the lock of the data directory"), "{log}");
    assert!(keyward_in(&dir.path().join("data"), &["events", "verify"]).status.success());
}

/// The reader holds the log, so it cannot be emptied at once.
#[test]
fn a_log_that_is_removed_while_a_reader_holds_it_is_saved_once_the_reader_ends() {
    let mut running = Running::start();
    let file = running.data().join("keyward.db");
    let reader = Connection::open(&file).unwrap();
    reader.execute_batch("BEGIN; SELECT count(*) FROM events").unwrap();
    running.learn();
    fs::remove_file(file.with_extension("db-wal")).unwrap();
    for _ in 0..5 {
        running.check_refusing("the database is not in its place");
        thread::sleep(PAUSE);
    }
    reader.execute_batch("COMMIT").unwrap();
    drop(reader);
    running.recover();
    running.killed();
}

#[test]
fn a_data_directory_that_was_moved_away_takes_changes_again_once_it_is_back() {
    for replaced in [false, true] {
        let mut running = Running::start();
        let (data, away) = (running.data(), running.dir.path().join("away"));
        fs::rename(&data, &away).unwrap();
        if replaced {
            fs::create_dir(&data).unwrap();
        }
        for _ in 0..5 {
            running.check_refusing("the database is not in its place");
            let list = running.ask("GET", KEYS, &json!({}));
            assert!([200, 503].contains(&list.status), "{}", list.text());
        }
        if replaced {
            fs::remove_dir(&data).unwrap();
        }
        fs::rename(&away, &data).unwrap();
        running.recover();
        running.ask("GET", KEYS, &json!({})).expect(200);
        running.killed();
    }
}

#[test]
fn a_data_directory_that_was_replaced_by_a_copy_ends_the_server() {
    let running = Running::start();
    let (data, away) = (running.data(), running.dir.path().join("away"));
    fs::rename(&data, &away).unwrap();
    assert!(Command::new("cp").arg("-a").args([&away, &data]).status().unwrap().success());
    let (root, keys) = (running.root.clone(), running.keys.clone());
    let (log, _dir) = running.ended(75);
    assert!(log.contains("was replaced while the server ran"), "{log}");
    let server = Binary::serve_quietly(&data);
    let question = Request::new("POST", &format!("{KEYS}/verify")).key(&root);
    let answer = question.json(&json!({ "key": keys[0] })).send(server.address).expect(200);
    assert_eq!(answer.json()["code"], "VALID");
    assert!(server.terminate().status.success());
}

#[test]
fn a_database_that_is_removed_ends_the_server_before_it_answers_another_change() {
    type Harm = fn(&Path);
    let cases: [(Harm, &str); 3] = [
        (|it| fs::remove_file(it).unwrap(), "was removed while the server ran"),
        (
            |it| fs::rename(it, it.with_extension("old")).unwrap(),
            "was removed while the server ran",
        ),
        (|it| drop(fs::File::create(it).unwrap()), "is no longer the database"),
    ];
    for (harm, says) in cases {
        let running = Running::start();
        let data = running.data();
        harm(&data.join("keyward.db"));
        let (log, _dir) = match running.create() {
            answer if answer.status == 503 => running.ended(78),
            answer => panic!("answered: {}", answer.text()),
        };
        assert!(log.contains(says) && log.to_lowercase().contains("keep a copy of"), "{log}");
        let again = second_start(&data);
        let said = String::from_utf8_lossy(&again.stderr);
        assert_eq!(again.status.code(), Some(78), "{said}");
        assert!(said.contains("keyward.db is missing or empty"), "{said}");
    }
}

/// SQLite goes on with files that were removed. What it writes there would be gone after a crash.
#[test]
fn a_removed_write_ahead_log_loses_nothing() {
    for files in
        [&["keyward.db-wal"][..], &["keyward.db-shm"], &["keyward.db-wal", "keyward.db-shm"]]
    {
        let mut running = Running::start();
        for _ in 0..3 {
            running.learn();
            for file in files {
                fs::remove_file(running.data().join(file)).unwrap();
            }
            running.recover();
        }
        running.killed();
    }
}

/// The files that are open stay open. The checkpoint file is replaced by a new one, which needs the
/// directory.
#[test]
fn a_directory_that_takes_no_new_file_stops_no_change() {
    const OWNER: u32 = 65_534;
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
    let data = dir.path().join("data");
    fs::create_dir(&data).unwrap();
    fs::set_permissions(&data, Permissions::from_mode(0o700)).unwrap();
    // Root may write everywhere.
    let is_root = chown(&data, Some(OWNER), Some(OWNER)).is_ok();
    let start = |data: &Path| {
        let mut command = keyward();
        command.env("KEYWARD_LOG_LEVEL", "warn").current_dir("/");
        if is_root {
            command.uid(OWNER).gid(OWNER);
        }
        Binary::serve_as(command, data)
    };
    let server = start(&data);
    let root = server.root_key();
    let (keys, revoked) = (Vec::new(), None);
    let mut running = Running { server, root, dir, keys, revoked };
    running.learn();
    fs::set_permissions(&data, Permissions::from_mode(0o500)).unwrap();
    running.learn();
    let job = keyward_in(&data, &["run-job", "checkpoint"]);
    assert_eq!(job.status.code(), Some(1), "{}", String::from_utf8_lossy(&job.stderr));
    running.learn();
    fs::set_permissions(&data, Permissions::from_mode(0o700)).unwrap();
    assert!(keyward_in(&data, &["run-job", "checkpoint"]).status.success());
    let Running { server, root, dir, keys, revoked } = running;
    let log = String::from_utf8(server.terminate().stderr).unwrap();
    let message = format!("{} cannot be written", data.join("checkpoint").display());
    assert!(log.contains(&message), "{log}");
    let running = Running { server: start(&data), root, dir, keys, revoked };
    running.check();
}

/// The checksums in the header show it, and SQLite makes the memory again from the log.
#[test]
fn garbage_in_the_shared_memory_loses_nothing() {
    let mut running = Running::start();
    for _ in 0..3 {
        let memory = OpenOptions::new().write(true).open(running.data().join("keyward.db-shm"));
        memory.unwrap().write_all_at(&[0xa5; 96], 0).unwrap();
        running.recover();
    }
    running.killed();
}

#[test]
fn a_page_that_is_damaged_meanwhile_stops_no_verification_and_the_next_start_refuses_it() {
    let running = Running::start();
    let data = running.data();
    assert!(keyward_in(&data, &["run-job", "upkeep"]).status.success());
    let file = data.join("keyward.db");
    let conn = Connection::open(&file).unwrap();
    let sql = "SELECT rootpage FROM sqlite_schema WHERE name = 'api_keys'";
    let page: u32 = conn.query_row(sql, [], |row| row.get(0)).unwrap();
    conn.close().unwrap();
    let opened = OpenOptions::new().write(true).open(&file).unwrap();
    opened.write_all_at(&[0xa5; 4096], u64::from(page - 1) * 4096).unwrap();
    // After a change, the readers read the pages again.
    running.ask("PATCH", "/api/v1/accounts/self", &json!({ "name": "y" })).expect(200);
    for _ in 0..8 {
        running.ask("GET", KEYS, &json!({})).expect(503);
        running.check();
    }
    let output = running.server.terminate();
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(matches!(output.status.code(), Some(0 | 75)) && !log.contains("panicked"), "{log}");
    let again = second_start(&data);
    let said = String::from_utf8_lossy(&again.stderr);
    assert_eq!(again.status.code(), Some(78), "{said}");
    assert!(said.contains(&format!("{}: the database ", file.display())), "{said}");
}
