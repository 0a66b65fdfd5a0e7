//! Damaged, wrong and missing files at a start: the message names the file and what to do, `doctor` finds
//! the same fault, and no file is overwritten.

mod data;

use std::{
    fs::{self, OpenOptions, Permissions},
    io::Write,
    os::unix::{fs::PermissionsExt, net::UnixListener},
    path::Path,
    process::Command,
};

use rusqlite::Connection;
use serde_json::{Value, json};

use self::data::{
    Base, Harm, KEYS, Sound, contents, copy, cut, directory, empty, garbage, leaf_of, lost_link,
    nothing, one_byte, overwrite, pipe, put, text,
};
use crate::support::{Binary, Request, keyward, keyward_in, skip};

/// Part of every message about a database that no start can use.
const RESTORE: &str = "restore a backup with `keyward backup restore`";

/// Starts the server, which has to end. Returns its exit code and its message.
fn refused_start(data: &Path) -> (Option<i32>, String) {
    // The time limit ends a server that starts, or that hangs.
    let mut serve = Command::new("timeout");
    serve.arg("20").arg(keyward().get_program()).env("KEYWARD_LOG_LEVEL", "error");
    let output = serve.args(["serve", "--listen", "127.0.0.1:0", "--data-dir"]).arg(data).output();
    let output = output.unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

/// Returns the details of the failed checks.
fn doctor(data: &Path) -> Vec<String> {
    let mut doctor = Command::new("timeout");
    doctor.arg("20").arg(keyward().get_program()).args(["doctor", "-o", "json", "--data-dir"]);
    let output = doctor.arg(data).output().unwrap();
    let found: Vec<Value> = serde_json::from_slice(&output.stdout).expect("the doctor answers");
    let failed = found.iter().filter(|it| it["state"] == "failed");
    failed.map(|it| it["detail"].as_str().unwrap().to_owned()).collect()
}

/// A damage, the directory that it happens to, the file that the message must name, and words of the
/// message. Each has the exit code 78.
type Case = (&'static str, Base, Harm, &'static str, &'static str);

fn check_refused(sound: &Sound, cases: Vec<Case>) {
    for (name, base, harm, file, words) in cases {
        let data = sound.copy(base);
        harm(&data);
        let before = contents(&data);
        let failed = doctor(&data);
        assert_eq!(contents(&data).keys().collect::<Vec<_>>(), before.keys().collect::<Vec<_>>());
        let path = data.join(file).display().to_string();
        let told = |it: &String| it.contains(&path) && it.contains(words);
        assert!(failed.iter().any(told), "{name}: {failed:#?}");
        let (code, said) = refused_start(&data);
        assert_eq!(code, Some(78), "{name}: {said}");
        assert!(!said.contains("panicked"), "{name}: {said}");
        let message = said.rsplit("keyward: ").next().unwrap_or_default().to_owned();
        assert!(told(&message), "{name}: {said}");
        let after = contents(&data);
        let changed: Vec<_> =
            before.iter().filter(|(it, text)| after.get(*it) != Some(text)).collect();
        let changed: Vec<_> = changed.into_iter().map(|it| it.0).collect();
        assert!(changed.is_empty(), "{name}: the refused start changed {changed:?}");
        let made: Vec<_> = after.keys().filter(|it| !before.contains_key(*it)).collect();
        assert!(made.is_empty(), "{name}: the refused start made {made:?}");
    }
}

#[test]
fn a_damaged_database_is_refused_and_stays_as_it_is() {
    use Base::{Killed, Stopped};
    let sound = Sound::new();
    let db = "keyward.db";
    let at = |at, bytes: &[u8]| overwrite("keyward.db", at, bytes.to_vec());
    let damaged = "the database is damaged";
    let unreadable = "the database cannot be read";
    let mut cases: Vec<Case> = vec![
        ("header page", Stopped, at(0, &[0xa5; 4096]), db, "not a keyward database"),
        ("schema page", Stopped, at(100, &[0xa5; 3000]), db, unreadable),
        ("freelist", Stopped, at(32, &[0, 0, 0xff, 0xff, 0, 0, 0, 9]), db, "Freelist"),
        ("half of the file", Stopped, cut(db, 50, 0), db, unreadable),
        ("half of a page", Stopped, cut(db, 50, 2000), db, unreadable),
        ("half of a header", Stopped, cut(db, 0, 0), db, "is missing or empty"),
        ("newer schema", Stopped, at(60, &[0, 0, 0, 99]), db, "written by a newer keyward"),
        ("no schema", Stopped, at(60, &[0, 0, 0, 0]), db, "its version is 0"),
        ("impossible schema", Stopped, at(60, &[0xff; 4]), db, "its version is -1"),
        ("no file", Stopped, put(db, nothing), db, "is missing or empty"),
        ("no file beside a log", Killed, put(db, nothing), db, "is missing or empty"),
        ("empty", Stopped, put(db, empty), db, "is missing or empty"),
        ("empty beside a log", Killed, put(db, empty), db, "is missing or empty"),
        ("lost link", Killed, put(db, lost_link), db, "is missing or empty"),
        ("one byte", Stopped, put(db, one_byte), db, "not a keyward database"),
        ("one byte beside a log", Killed, put(db, one_byte), db, RESTORE),
        ("garbage", Stopped, put(db, garbage), db, "not a keyward database"),
        ("text", Stopped, put(db, text), db, "not a keyward database"),
        ("text beside a log", Killed, put(db, text), db, RESTORE),
        ("directory", Stopped, put(db, directory), db, "is not a file"),
        ("pipe", Stopped, put(db, pipe), db, "is not a file"),
    ];
    let other: Harm = Box::new(|data| {
        put("keyward.db", nothing)(data);
        let conn = Connection::open(data.join("keyward.db")).unwrap();
        conn.execute_batch("CREATE TABLE a (b); PRAGMA application_id = 7").unwrap();
        fs::set_permissions(data.join("keyward.db"), Permissions::from_mode(0o600)).unwrap();
    });
    cases.push(("database of another program", Stopped, other, db, "not a keyward database"));
    for name in ["events", "accounts", "credentials", "event_tree", "checkpoints"] {
        cases.push((name, Stopped, leaf_of(name), db, damaged));
    }
    for name in ["events_by_time", "api_keys_by_account"] {
        cases.push((name, Stopped, leaf_of(name), db, RESTORE));
    }
    check_refused(&sound, cases);
}

/// SQLite works without these, and no number or rule that they keep would hold.
#[test]
fn a_database_without_one_of_its_objects_is_refused() {
    let sound = Sound::new();
    let sql = |sql: &'static str| -> Harm {
        Box::new(move |data| {
            let conn = Connection::open(data.join("keyward.db")).unwrap();
            conn.execute_batch(sql).unwrap();
        })
    };
    let cases = [
        (
            "DROP TRIGGER events_are_never_updated",
            "the trigger events_are_never_updated is missing",
        ),
        ("DROP TRIGGER api_keys_insert_is_counted", "the trigger api_keys_insert_is_counted is"),
        ("DROP INDEX credentials_one_current", "the index credentials_one_current is missing"),
        ("DROP VIEW newest_event", "newest_event"),
        ("DROP TABLE token_status", "the index token_status_free is missing"),
        ("DROP TABLE event_tree", "event_tree"),
        (
            "DROP INDEX events_by_time; CREATE INDEX events_by_time ON events (seq)",
            "the index events_by_time is not the one that keyward made",
        ),
        (
            "DROP TRIGGER events_have_no_gap;
             CREATE TRIGGER events_have_no_gap BEFORE INSERT ON events BEGIN SELECT 1; END",
            "the trigger events_have_no_gap is not the one that keyward made",
        ),
        (
            "CREATE TRIGGER silent BEFORE INSERT ON checkpoints BEGIN SELECT RAISE(IGNORE); END",
            "the trigger silent on checkpoints is not keyward's",
        ),
        (
            "CREATE UNIQUE INDEX narrow ON api_keys (id, name)",
            "the index narrow on api_keys is not keyward's",
        ),
        (
            "PRAGMA writable_schema = ON;
             UPDATE sqlite_schema SET sql = replace(sql, ' CHECK (0 <= used)', '')
             WHERE name = 'rate_windows'",
            "the table rate_windows is not the one that keyward made",
        ),
    ];
    let cases = cases.map(|(it, words)| (it, Base::Stopped, sql(it), "keyward.db", words)).into();
    check_refused(&sound, cases);

    let data = sound.copy(Base::Stopped);
    sql("CREATE TABLE of_another (a); CREATE INDEX another ON events (client_ip); ANALYZE;
         CREATE TRIGGER of_another_too AFTER INSERT ON of_another BEGIN SELECT 1; END")(&data);
    assert!(
        Binary::serve_quietly(&data).terminate().status.success(),
        "objects of others may stay"
    );
}

/// SQLite ignores a log with a damaged header, and takes the log of another database for its own. At the
/// end it folds the log into the database and removes it.
#[test]
fn a_damaged_or_foreign_write_ahead_log_is_refused_and_kept() {
    use Base::{Killed, Stopped};
    let (sound, other) = (Sound::new(), Sound::new());
    let foreign = || -> Harm {
        let log = other.dir.path().join("killed/keyward.db-wal");
        Box::new(move |data| {
            fs::copy(&log, data.join("keyward.db-wal")).unwrap();
        })
    };
    let (wal, shm) = ("keyward.db-wal", "keyward.db-shm");
    let cases: Vec<Case> = vec![
        ("log of another database", Killed, foreign(), "", "events verify"),
        ("log of another database beside one file", Stopped, foreign(), "", "events verify"),
        ("directory as log", Stopped, put(wal, directory), wal, "is not a file"),
        ("pipe as log", Stopped, put(wal, pipe), wal, "is not a file"),
        ("link as log", Stopped, put(wal, lost_link), wal, "is not a file"),
        ("directory as memory", Stopped, put(shm, directory), shm, "is not a file"),
        ("link as memory", Stopped, put(shm, lost_link), shm, "is not a file"),
        (
            "pipe as journal",
            Stopped,
            put("keyward.db-journal", pipe),
            "keyward.db-journal",
            "not a",
        ),
    ];
    check_refused(&sound, cases);

    // The newest checkpoint shows that events are missing.
    let data = sound.copy(Killed);
    assert!(keyward_in(&data, &["events", "verify"]).status.success());
    let mut server = Binary::serve_quietly(&data);
    assert!(keyward_in(&data, &["run-job", "upkeep"]).status.success());
    let body = json!({ "name": "last", "scopes": ["orders:read"] });
    let create = Request::new("POST", KEYS).key(&sound.root).json(&body);
    create.send(server.address).expect(201);
    assert!(keyward_in(&data, &["run-job", "checkpoint"]).status.success());
    server.child.kill().unwrap();
    server.child.wait().unwrap();
    for (name, harm) in [
        ("header", overwrite(wal, 0, vec![0xa5; 32])),
        ("first frame", overwrite(wal, 32 + 24 + 100, vec![0xa5; 64])),
        ("all frames", cut(wal, 0, 0)),
    ] {
        let harmed = data.with_file_name("harmed");
        copy(&data, &harmed);
        harm(&harmed);
        let before = contents(&harmed);
        let (code, said) = refused_start(&harmed);
        assert_eq!(code, Some(78), "{name}: {said}");
        assert!(said.contains("the audit log was cut or changed"), "{name}: {said}");
        assert!(contents(&harmed) == before, "{name}: the refused start changed a file");
        assert!(doctor(&harmed).iter().any(|it| it.contains("cut or changed")), "{name}");
        fs::remove_dir_all(harmed).unwrap();
    }
}

#[test]
fn a_damaged_file_beside_the_database_is_refused_and_stays_as_it_is() {
    use Base::Stopped;
    let sound = Sound::new();
    let mut cases: Vec<Case> = Vec::new();
    for file in ["checkpoint", "checkpoint.key", "checkpoint.pub", "token.keys", "initial-root-key"]
    {
        cases.push(("pipe", Stopped, put(file, pipe), file, "is not a file"));
        cases.push(("directory", Stopped, put(file, directory), file, "Move what is there"));
    }
    for file in ["control.sock", "command.sock"] {
        cases.push(("text", Stopped, put(file, text), file, "is not a socket"));
        cases.push(("directory", Stopped, put(file, directory), file, "is not a socket"));
    }
    for (name, kind) in [("pipe", pipe as fn(&Path)), ("directory", directory), ("link", lost_link)]
    {
        cases.push((name, Stopped, put("keyward.lock", kind), "keyward.lock", "is not a file"));
    }
    for (file, words) in [
        ("checkpoint", "is not what our key signed"),
        ("checkpoint.key", "holds no key for checkpoints"),
        ("token.keys", "it holds no keys that sign tokens"),
    ] {
        cases.push(("garbage", Stopped, put(file, garbage), file, words));
        cases.push(("empty", Stopped, put(file, empty), file, words));
        cases.push(("half", Stopped, cut(file, 50, 0), file, words));
    }
    check_refused(&sound, cases);
}

/// These hold nothing that a start could not make again.
#[test]
fn a_file_that_can_be_made_again_is_made_again() {
    use Base::{Killed, Stopped};
    let sound = Sound::new();
    let cases: Vec<(&str, Base, Harm)> = vec![
        ("public key", Stopped, put("checkpoint.pub", garbage)),
        ("no public key", Stopped, put("checkpoint.pub", nothing)),
        ("no checkpoint", Stopped, put("checkpoint", nothing)),
        ("number in the lock", Stopped, put("keyward.lock", garbage)),
        ("no lock", Killed, put("keyward.lock", nothing)),
        ("memory", Killed, put("keyward.db-shm", garbage)),
        ("empty memory", Killed, put("keyward.db-shm", empty)),
        ("log without content", Stopped, put("keyward.db-wal", empty)),
        (
            "half a frame of an unanswered change",
            Killed,
            Box::new(|data| {
                let mut log =
                    OpenOptions::new().append(true).open(data.join("keyward.db-wal")).unwrap();
                log.write_all(&[7; 2000]).unwrap();
            }),
        ),
        (
            "socket of a killed server",
            Stopped,
            put("control.sock", |it| {
                drop(UnixListener::bind(it).unwrap());
            }),
        ),
        ("first root key", Stopped, put("initial-root-key", garbage)),
    ];
    for (name, base, harm) in cases {
        let data = sound.copy(base);
        harm(&data);
        let server = Binary::serve_quietly(&data);
        for key in &sound.keys {
            let body = json!({ "key": key });
            let request =
                Request::new("POST", &format!("{KEYS}/verify")).key(&sound.root).json(&body);
            let answer = request.send(server.address).expect(200).json();
            assert_eq!(answer["code"], "VALID", "{name}");
        }
        let made = json!({ "name": "b", "scopes": ["orders:read"] });
        let request = Request::new("POST", KEYS).key(&sound.root).json(&made);
        request.send(server.address).expect(201);
        let output = server.terminate();
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
        assert!(keyward_in(&data, &["events", "verify"]).status.success(), "{name}");
        assert!(fs::read_to_string(data.join("checkpoint.pub")).is_ok(), "{name}");
    }
}

/// A start that meets a failing disk ends with 75, so that the unit tries again.
#[test]
fn a_failing_disk_at_the_start_is_no_mistake_in_the_data() {
    let sound = Sound::new();
    let data = sound.copy(Base::Killed);
    let attempt = |file: &str, fault: &str| {
        let path = data.join(file);
        let call = fault.split(':').next().unwrap();
        let (trace, inject) = (format!("trace={call}"), format!("inject={fault}"));
        let mut serve = Command::new("strace");
        serve.args(["-D", "-f", "-qq", "-o", "/dev/null", "-e", &trace, "-e", &inject, "-P"]);
        serve.arg(&path).arg(keyward().get_program()).env("KEYWARD_LOG_LEVEL", "error");
        serve.args(["serve", "--listen", "127.0.0.1:0", "--data-dir"]).arg(&data);
        serve
            .output()
            .ok()
            .map(|it| (it.status.code(), String::from_utf8_lossy(&it.stderr).into_owned(), path))
    };
    let may_trace = Command::new("strace").args(["-qq", "-o", "/dev/null", "true"]).status();
    if !may_trace.is_ok_and(|it| it.success()) {
        return skip("failing a system call needs strace and the right to trace");
    }
    for (file, fault, words) in [
        (
            "keyward.lock",
            "flock:error=ENOLCK",
            "cannot be locked; the data directory must be on a local",
        ),
        ("keyward.lock", "openat:error=EIO", "cannot be used: Input/output error"),
        ("checkpoint", "read:error=EIO", "cannot be read: Input/output error"),
        ("checkpoint.key", "read:error=EIO", "cannot be read: Input/output error"),
        ("token.keys", "openat:error=EMFILE", "cannot be read: Too many open files"),
        ("keyward.db", "pread64:error=EIO", "the disk failed"),
        ("keyward.db-wal", "pread64:error=EIO", ""),
    ] {
        let (code, said, path) = attempt(file, fault).unwrap();
        assert_eq!(code, Some(75), "{file}, {fault}: {said}");
        let message = said.rsplit("keyward: ").next().unwrap_or_default();
        let named = path.to_str().unwrap().trim_end_matches("-wal");
        assert!(message.contains(named) && message.contains(words), "{file}, {fault}: {said}");
    }
    let server = Binary::serve_quietly(&data);
    assert!(server.terminate().status.success());
}
