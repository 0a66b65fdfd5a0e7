//! A disk that fails under a running server: verification goes on, changes are refused for now, and
//! no answered change is undone.

use std::{
    fs,
    path::Path,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use rusqlite::Connection;
use serde_json::{Value, json};

use crate::support::{Binary, Request, Response, keyward_in, skip};

const KEYS: &str = "/api/v1/api-keys";

/// The pause between two attempts. Each attempt writes a line to the log, which fills a pipe.
const PAUSE: Duration = Duration::from_millis(50);

/// Starts a server on a sound data directory. In each thread, these system calls fail on its files.
/// Returns `None` if this machine does not allow that.
fn failing(data: &Path, calls: &str, when: &str) -> Option<Binary> {
    let traced = Command::new("strace").args(["-qq", "-o", "/dev/null", "true"]).status();
    if !traced.is_ok_and(|it| it.success()) {
        skip("failing a system call needs strace and the right to trace");
        return None;
    }
    assert!(Binary::serve(data).terminate().status.success());
    let trace = format!("trace={calls}");
    let inject = format!("inject={calls}:error=EIO:when={when}");
    let quietly = ["env", "KEYWARD_LOG_LEVEL=warn"];
    let strace = ["strace", "-D", "-f", "-qq", "-o", "/dev/null", "-e", &trace, "-e", &inject];
    // Only the database files are affected, not the lock or the checkpoint file.
    let files = ["keyward.db", "keyward.db-wal", "keyward.db-shm"].map(|it| data.join(it));
    let paths = files.iter().flat_map(|it| ["-P", it.to_str().unwrap()]).collect::<Vec<_>>();
    Some(Binary::serve_under(&[&quietly[..], &strace, &paths].concat(), data))
}

fn ask(server: &Binary, root: &str, method: &str, path: &str, body: &Value) -> Response {
    Request::new(method, path).key(root).json(body).send(server.address)
}

fn create(server: &Binary, root: &str) -> Response {
    ask(server, root, "POST", KEYS, &json!({ "name": "x", "scopes": ["orders:read"] }))
}

fn code(server: &Binary, root: &str, key: &str) -> String {
    let answer = ask(server, root, "POST", &format!("{KEYS}/verify"), &json!({ "key": key }));
    answer.expect(200).json()["code"].as_str().unwrap().to_owned()
}

/// Repeats the change until the storage takes it. Also returns whether it was refused before.
fn insist(what: impl Fn() -> Response, meanwhile: impl Fn()) -> (Response, bool) {
    let deadline = Instant::now() + Duration::from_secs(25);
    let mut refused = false;
    loop {
        let answer = what();
        if answer.status != 503 {
            return (answer, refused);
        }
        assert_eq!(answer.header("retry-after"), Some("1"));
        assert!(Instant::now() < deadline, "it never recovers: {}", answer.text());
        refused = true;
        meanwhile();
        thread::sleep(PAUSE);
    }
}

fn metric(server: &Binary, name: &str) -> String {
    let text = Request::new("GET", "/metrics").send(server.address).expect(200).text();
    let found = text.lines().find_map(|it| it.strip_prefix(name)?.strip_prefix(' '));
    found.unwrap_or_else(|| panic!("no {name}")).to_owned()
}

/// Checks that the log is complete and that a server that starts from the file gives the same
/// answers.
fn check_afterwards(data: &Path, root: &str, wanted: &[(String, &str)]) {
    let verified = keyward_in(data, &["events", "verify"]);
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stdout));
    let server = Binary::serve_quietly(data);
    for (key, wanted) in wanted {
        assert_eq!(code(&server, root, key), *wanted);
    }
    assert!(server.terminate().status.success());
}

/// Creates, rotates and revokes keys while some of these calls fail.
fn change_keys_while(calls: &str, when: &str) {
    const ROUNDS: usize = 12;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let data = dir.path().join("data");
    let Some(server) = failing(&data, calls, when) else { return };
    let root = server.root_key();
    let (mut known, mut refusals) = (Vec::<(String, &str)>::new(), 0);
    for _ in 0..ROUNDS {
        let check = || {
            for (key, wanted) in &known {
                assert_eq!(code(&server, &root, key), *wanted, "{calls}");
            }
        };
        let (made, in_doubt) = insist(|| create(&server, &root), check);
        refusals += usize::from(in_doubt);
        let made = made.expect(201).json();
        let (id, first) = (made["id"].as_str().unwrap(), made["key"].as_str().unwrap().to_owned());
        assert_eq!(code(&server, &root, &first), "VALID");
        let path = format!("{KEYS}/{id}");
        let at_once = json!({ "gracePeriodSeconds": 0 });
        let rotate = || ask(&server, &root, "POST", &format!("{path}/rotate"), &at_once);
        let (rotated, in_doubt) = insist(rotate, check);
        refusals += usize::from(in_doubt);
        let second = rotated.expect(200).json()["key"].as_str().unwrap().to_owned();
        assert_eq!(code(&server, &root, &first), "ROTATED");
        assert_eq!(code(&server, &root, &second), "VALID");
        let revoke = || ask(&server, &root, "DELETE", &path, &json!({}));
        let (revoked, refused) = insist(revoke, check);
        // The refused revocation may still have been stored.
        assert!(revoked.status == 204 || refused && revoked.status == 404, "{}", revoked.text());
        assert_eq!(code(&server, &root, &second), "REVOKED");
        let kept = insist(|| create(&server, &root), check).0.expect(201).json();
        known.push((first, "REVOKED"));
        known.push((second, "REVOKED"));
        known.push((kept["key"].as_str().unwrap().to_owned(), "VALID"));
    }
    assert!(0 < refusals, "{calls}: nothing failed");
    // A failure during the stop is reported; everything else succeeds.
    let output = server.terminate();
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(matches!(output.status.code(), Some(0 | 75)), "{log}");
    check_afterwards(&data, &root, &known);
}

#[test]
fn an_occasional_write_error_undoes_no_answered_change() {
    change_keys_while("pwrite64", "20+97");
}

#[test]
fn an_occasional_sync_error_undoes_no_answered_change() {
    change_keys_while("fsync,fdatasync", "9+7");
}

/// Keys whose creation or revocation was answered, made until the storage takes no more changes.
struct Answered {
    root: String,
    known: Vec<(String, &'static str)>,
}

impl Answered {
    fn until_it_fails(server: &Binary) -> Self {
        let (root, mut known) = (server.root_key(), Vec::new());
        loop {
            assert!(known.len() < 100, "the disk never fails");
            let [kept, gone] = [(); 2].map(|()| create(server, &root));
            if kept.status == 201 {
                known.push((kept.json()["key"].as_str().unwrap().to_owned(), "VALID"));
            }
            if gone.status != 201 {
                assert_eq!(gone.expect(503).problem(), "unavailable");
                return Self { root, known };
            }
            let (id, key) = (gone.json()["id"].clone(), gone.json()["key"].clone());
            let path = format!("{KEYS}/{}", id.as_str().unwrap());
            if ask(server, &root, "DELETE", &path, &json!({})).status == 204 {
                known.push((key.as_str().unwrap().to_owned(), "REVOKED"));
            }
        }
    }

    fn check(&self, server: &Binary) {
        for (key, wanted) in &self.known {
            assert_eq!(code(server, &self.root, key), *wanted);
        }
    }
}

#[test]
fn a_server_recovers_by_itself_from_a_disk_that_fails_for_a_while() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let data = dir.path().join("data");
    let Some(server) = failing(&data, "fsync,fdatasync", "12..17") else { return };
    let answered = Answered::until_it_fails(&server);
    let refused = create(&server, &answered.root).expect(503);
    assert_eq!(refused.json()["detail"], "the storage failed");
    assert_eq!(metric(&server, "keyward_storage_available"), "0");
    let ready = Request::new("GET", "/readyz").send(server.address).expect(503).json();
    assert_eq!(ready["detail"], "the storage failed");
    let checks = Request::new("GET", "/readyz?verbose").send(server.address).expect(503).text();
    assert!(checks.contains("[-]writer failed: the storage failed\n[+]reader ok"), "{checks}");
    Request::new("GET", "/livez").send(server.address).expect(200);

    let again = insist(|| create(&server, &answered.root), || answered.check(&server)).0;
    let again = again.expect(201).json();
    answered.check(&server);
    assert_eq!(metric(&server, "keyward_storage_available"), "1");
    assert_eq!(
        metric(&server, "keyward_storage_failures_total"),
        "1",
        "repeated attempts do not count"
    );
    let path = format!("{KEYS}/{}", again["id"].as_str().unwrap());
    ask(&server, &answered.root, "GET", &path, &json!({})).expect(200);
    let log = String::from_utf8(server.terminate().stderr).unwrap();
    assert!(log.contains("verification goes on") && log.contains("works again"), "{log}");
    check_afterwards(&data, &answered.root, &answered.known);
}

#[test]
fn a_server_whose_disk_keeps_failing_stops_when_it_is_told_to() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let data = dir.path().join("data");
    let Some(server) = failing(&data, "fsync,fdatasync", "12+") else { return };
    let answered = Answered::until_it_fails(&server);
    // The process goes on and answers requests.
    for _ in 0..20 {
        thread::sleep(PAUSE);
        create(&server, &answered.root).expect(503);
        answered.check(&server);
    }
    let begun = Instant::now();
    let output = server.terminate();
    assert!(begun.elapsed() < Duration::from_secs(10), "like every stop");
    let log = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(75), "{log}");
    assert!(log.contains("keyward: not everything could be stored: the storage failed"), "{log}");
    check_afterwards(&data, &answered.root, &answered.known);
}

/// Changes the files during an outage; checks the exit code and the log.
fn part(harm: impl Fn(&Path), exit: i32, says: &str) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let data = dir.path().join("data");
    let Some(server) = failing(&data, "fsync,fdatasync", "12..16") else { return };
    let early = dir.path().join("early.db");
    let to = early.to_str().unwrap();
    assert!(keyward_in(&data, &["backup", "create", "--to", to]).status.success());
    Answered::until_it_fails(&server);
    harm(dir.path());
    // The server ends at its next attempt to open the file. A request from here on can find it ended.
    let output = server.wait();
    let log = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(exit), "{log}");
    assert!(log.contains(says), "{log}");
}

#[test]
fn a_file_that_lost_answered_changes_is_not_used_again() {
    let older = |dir: &Path| {
        for file in ["keyward.db-wal", "keyward.db-shm"] {
            fs::remove_file(dir.join("data").join(file)).expect("a file");
        }
        fs::rename(dir.join("early.db"), dir.join("data/keyward.db")).expect("an older copy");
    };
    part(older, 78, "changes are missing in");
    let gone = |dir: &Path| fs::remove_file(dir.join("data/keyward.db")).expect("a file");
    part(gone, 78, "was removed while the server ran");
}

#[test]
fn a_file_that_is_no_longer_this_database_is_not_used_again() {
    let database = |dir: &Path| dir.join("data/keyward.db");
    let says = "is no longer the database that the server wrote";
    let empty = |dir: &Path| {
        fs::File::create(database(dir)).expect("the database");
        let log = fs::metadata(dir.join("data/keyward.db-wal")).expect("the log");
        assert_ne!(log.len(), 0);
    };
    part(empty, 78, &format!("{says}: it is empty"));
    let put = |dir: &Path, make: &dyn Fn(&Path)| {
        for file in ["keyward.db-wal", "keyward.db-shm"] {
            fs::remove_file(dir.join("data").join(file)).expect("a file");
        }
        make(&dir.join("other"));
        fs::rename(dir.join("other"), database(dir)).expect("in its place");
    };
    let garbage = |path: &Path| fs::write(path, "no database ".repeat(1000)).expect("a file");
    part(|dir| put(dir, &garbage), 78, says);
    let foreign = |sql: &'static str| {
        move |path: &Path| {
            let other = Connection::open(path).expect("a database");
            other.execute_batch(sql).expect("a table");
        }
    };
    let table = foreign("CREATE TABLE events (seq INTEGER); PRAGMA application_id = 7");
    part(|dir| put(dir, &table), 78, says);
    part(|dir| put(dir, &foreign("CREATE TABLE a (b); DROP TABLE a")), 78, says);
}

#[test]
fn another_file_with_the_same_log_is_used_only_by_the_next_start() {
    let copied = |dir: &Path| {
        let file = dir.join("data/keyward.db");
        fs::copy(&file, dir.join("copy")).expect("a copy");
        fs::rename(dir.join("copy"), file).expect("in its place");
    };
    part(copied, 75, "was replaced while the server ran");
}

#[test]
fn a_long_read_keeps_the_write_ahead_log_and_delays_no_change() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let server = Binary::serve_quietly(dir.path());
    let root = server.root_key();
    let reader = Connection::open(dir.path().join("keyward.db")).expect("the database");
    reader.execute_batch("BEGIN").expect("a snapshot");
    let _: i64 = reader.query_row("SELECT count(*) FROM events", [], |it| it.get(0)).unwrap();
    create(&server, &root).expect(201);

    // SQLite waits five seconds for readers, on the thread that makes the changes.
    let begun = Instant::now();
    let upkeep = thread::spawn({
        let dir = dir.path().to_owned();
        move || keyward_in(&dir, &["run-job", "upkeep"])
    });
    while !upkeep.is_finished() {
        create(&server, &root).expect(201);
    }
    let said = upkeep.join().unwrap();
    let said = (said.status.code(), String::from_utf8(said.stdout).unwrap());
    assert_eq!(said.0, Some(0));
    assert!(said.1.contains("not emptied: a reader"), "{}", said.1);
    assert!(begun.elapsed() < Duration::from_secs(4), "it waited for the reader");
    let wal = dir.path().join("keyward.db-wal");
    assert_ne!(fs::metadata(&wal).unwrap().len(), 0);

    drop(reader);
    let said = keyward_in(dir.path(), &["run-job", "upkeep"]).stdout;
    assert_eq!(String::from_utf8_lossy(&said), "upkeep: the write-ahead log was emptied\n");
    assert_eq!(fs::metadata(&wal).unwrap().len(), 0);
    let log = String::from_utf8(server.terminate().stderr).unwrap();
    assert!(log.contains("not emptied: a reader holds it"), "{log}");
}
