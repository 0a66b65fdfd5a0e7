//! Backups: made under load, verified, and restored elsewhere without a loss.

use std::{
    collections::HashSet,
    fs::{self, OpenOptions},
    io::{Seek, SeekFrom, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use rusqlite::Connection;
use serde_json::{Value, json};

use crate::support::{
    Binary, Request, TestServer,
    import::{OLD, import, place, rows},
    keyward, keyward_in,
};

fn json_of(data: &Path, arguments: &[&str]) -> Value {
    let output = keyward_in(data, &[arguments, &["-o", "json"]].concat());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {said}");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[track_caller]
fn ended(data: &Path, arguments: &[&str], code: i32) -> String {
    let output = keyward_in(data, arguments);
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    assert_eq!(output.status.code(), Some(code), "{said}");
    said
}

fn create_key(server: &Binary, root: &str, name: &str) -> Option<String> {
    let body = json!({ "name": name, "scopes": ["orders:read"] });
    let request = Request::new("POST", "/api/v1/api-keys").key(root).json(&body);
    let answer = request.try_send(server.address)?;
    (answer.status == 201).then(|| answer.json()["key"].as_str().unwrap().to_owned())
}

fn code_of(server: &Binary, root: &str, key: &str) -> Value {
    let request = Request::new("POST", "/api/v1/api-keys/verify").key(root);
    let answer = request.json(&json!({ "key": key })).send(server.address).expect(200);
    answer.json()["code"].clone()
}

#[test]
fn a_backup_under_load_holds_every_change_that_was_answered_before_it() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let server = Arc::new(Binary::serve_quietly(&data));
    let root: Arc<str> = server.root_key().into();
    let stop = Arc::new(AtomicBool::new(false));
    let made = Arc::new(Mutex::new(Vec::new()));
    let writers: Vec<_> = (0..4)
        .map(|writer| {
            let (server, root) = (Arc::clone(&server), Arc::clone(&root));
            let (stop, made) = (Arc::clone(&stop), Arc::clone(&made));
            thread::spawn(move || {
                for round in 0..10_000 {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    let key = create_key(&server, &root, &format!("{writer}-{round}")).unwrap();
                    made.lock().unwrap().push(key);
                }
            })
        })
        .collect();
    while made.lock().unwrap().len() < 200 {
        thread::yield_now();
    }
    let before: HashSet<_> = made.lock().unwrap().iter().cloned().collect();
    let backup = json_of(&data, &["backup", "create"]);
    let during = made.lock().unwrap().len();
    stop.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.join().unwrap();
    }
    assert!(before.len() < during, "nothing was written meanwhile");
    let path = PathBuf::from(backup["path"].as_str().unwrap());
    assert_eq!(path.parent().unwrap(), data.join("backups"));
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
    let beside: Vec<_> = fs::read_dir(data.join("backups")).unwrap().collect();
    assert_eq!(beside.len(), 2, "the backup and its digest: {beside:?}");
    let mut sums = Command::new("sha256sum");
    sums.arg("-c").arg(path.with_extension("db.sha256")).current_dir(path.parent().unwrap());
    let sums = sums.output().unwrap();
    assert!(sums.status.success(), "{}", String::from_utf8_lossy(&sums.stderr));
    let events = Request::new("GET", "/api/v1/events?type=backup.created").key(&root);
    let events = events.send(server.address).expect(200).json();
    assert_eq!(events["data"][0]["data"]["sha256"], backup["sha256"]);

    let elsewhere = dir.path().join("elsewhere");
    let file = path.to_str().unwrap();
    let said = ended(&elsewhere, &["backup", "restore", file, "--yes"], 0);
    assert!(said.contains("Restored"), "{said}");
    let second = Binary::serve(&elsewhere);
    for key in &before {
        assert_eq!(code_of(&second, &root, key), "VALID");
    }
    let events = Request::new("GET", "/api/v1/events?type=backup.restored").key(&root);
    let events = events.send(second.address).expect(200).json();
    assert_eq!(events["data"][0]["data"]["events"], backup["events"]);
    assert!(second.terminate().status.success());
    ended(&elsewhere, &["events", "verify"], 0);
}

#[test]
fn restoring_keeps_the_old_database_aside_and_says_which_changes_are_undone() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let server = Binary::serve(&data);
    let root = server.root_key();
    let early = create_key(&server, &root, "early").unwrap();
    let file = dir.path().join("a.db");
    let file = file.to_str().unwrap();
    json_of(&data, &["backup", "create", "--to", file]);
    let late = create_key(&server, &root, "late").unwrap();
    let said = ended(&data, &["backup", "restore", file, "--yes"], 75);
    assert!(said.contains("in use"), "{said}");
    let said = ended(&data, &["backup", "create", "--to", file], 1);
    assert!(said.contains("exists"), "nothing is overwritten: {said}");
    assert_eq!(code_of(&server, &root, &late), "VALID");
    assert!(server.terminate().status.success());

    let said = ended(&data, &["backup", "restore", file], 2);
    assert!(said.contains("--yes"), "{said}");
    let said = ended(&data, &["backup", "restore", file, "--yes"], 0);
    assert!(said.contains("more events"), "{said}");
    let old = Connection::open(aside(&data).unwrap().join("keyward.db")).unwrap();
    let names: i64 = old
        .query_row("SELECT count(*) FROM api_keys WHERE name = 'late'", [], |row| row.get(0))
        .unwrap();
    assert_eq!(names, 1);
    let server = Binary::serve(&data);
    assert_eq!(code_of(&server, &root, &early), "VALID");
    assert_eq!(code_of(&server, &root, &late), "NOT_FOUND");
}

#[test]
fn a_damaged_backup_is_found_and_never_restored() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let server = Binary::serve(&data);
    let root = server.root_key();
    for round in 0..50 {
        create_key(&server, &root, &format!("key {round}")).unwrap();
    }
    assert!(server.terminate().status.success());
    let make = |name: &str| {
        let file = dir.path().join(name).to_str().unwrap().to_owned();
        json_of(&data, &["backup", "create", "--to", &file]);
        file
    };
    let verify = |file: &str| keyward().args(["backup", "verify", file]).output().unwrap();
    let good = make("good.db");
    assert_eq!(verify(&good).status.code(), Some(0));

    let flipped = make("flipped.db");
    let bytes = fs::read(&flipped).unwrap();
    let there = bytes.windows(15).rposition(|it| it == b"api_key.created").unwrap();
    let mut file = OpenOptions::new().write(true).open(&flipped).unwrap();
    file.seek(SeekFrom::Start(there as u64)).unwrap();
    file.write_all(b"not what was here").unwrap();
    drop(file);
    assert_eq!(verify(&flipped).status.code(), Some(3), "by its digest");
    fs::remove_file(format!("{flipped}.sha256")).unwrap();
    assert_eq!(verify(&flipped).status.code(), Some(3), "and without it");
    ended(&data, &["backup", "restore", &flipped, "--yes"], 3);

    let rewritten = make("rewritten.db");
    fs::remove_file(format!("{rewritten}.sha256")).unwrap();
    let conn = Connection::open(&rewritten).unwrap();
    let sql = "DROP TRIGGER events_are_never_updated;
        UPDATE events SET actor = 'scheduler' WHERE seq = 3";
    conn.execute_batch(sql).unwrap();
    drop(conn);
    let said = verify(&rewritten);
    assert_eq!(said.status.code(), Some(3), "a complete log, but another one");
    assert!(String::from_utf8_lossy(&said.stdout).contains("event 3"));
    ended(&data, &["backup", "restore", &rewritten, "--yes"], 3);

    assert_eq!(verify("/nowhere.db").status.code(), Some(1));
    let foreign = dir.path().join("foreign.db");
    Connection::open(&foreign).unwrap().execute_batch("CREATE TABLE x (y)").unwrap();
    assert_eq!(verify(foreign.to_str().unwrap()).status.code(), Some(3));
    let server = Binary::serve(&data);
    assert_eq!(code_of(&server, &root, &root), "VALID", "nothing was changed meanwhile");
}

/// Changes a byte in the text of a hash. SQLite and the audit log do not notice this change.
fn spoil_a_hash(file: &Path) {
    let mut bytes = fs::read(file).unwrap();
    let at = bytes.windows(7).position(|it| it == b"$pbkdf2").expect("a hash");
    bytes[at] = b'!';
    fs::write(file, bytes).unwrap();
}

fn aside(data: &Path) -> Option<PathBuf> {
    let inside = fs::read_dir(data).unwrap().map(|it| it.unwrap().path());
    inside.into_iter().find(|it| it.to_str().unwrap().contains("replaced-"))
}

#[test]
fn a_backup_that_the_server_would_not_start_from_is_found_and_never_restored() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let server = Binary::serve(&data);
    let root = server.root_key();
    assert_eq!(code_of(&server, &root, &root), "VALID");
    assert!(server.terminate().status.success());
    let file = dir.path().join("spoilt.db");
    let name = file.to_str().unwrap();
    json_of(&data, &["backup", "create", "--to", name]);
    let verify = || {
        let output = keyward().args(["backup", "verify", name, "-o", "json"]).output().unwrap();
        let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
        (output.status.code().unwrap(), answer)
    };
    let (code, answer) = verify();
    assert_eq!((code, &answer["digestCompared"]), (0, &true.into()), "{answer}");
    fs::remove_file(dir.path().join("spoilt.db.sha256")).unwrap();
    let (code, answer) = verify();
    assert_eq!((code, &answer["digestCompared"]), (0, &false.into()), "{answer}");
    let shown = keyward().args(["backup", "verify", name]).output().unwrap().stdout;
    assert!(String::from_utf8_lossy(&shown).contains("not compared"));

    spoil_a_hash(&file);
    let (code, answer) = verify();
    assert_eq!((code, &answer["sound"]), (3, &false.into()), "{answer}");
    assert!(answer["detail"].as_str().unwrap().contains("phc"), "{answer}");
    let said = ended(&data, &["backup", "restore", name, "--yes"], 3);
    assert!(said.contains("phc"), "{said}");
    assert_eq!(aside(&data), None, "no file was exchanged");
    let server = Binary::serve(&data);
    assert_eq!(code_of(&server, &root, &root), "VALID");
}

#[test]
fn a_restore_that_fails_at_the_end_says_where_the_old_database_is() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    assert!(Binary::serve(&data).terminate().status.success());
    let file = dir.path().join("a.db");
    json_of(&data, &["backup", "create", "--to", file.to_str().unwrap()]);
    // The start after the exchange writes this file.
    fs::remove_file(data.join("checkpoint.pub")).unwrap();
    std::os::unix::fs::symlink("/no/such/directory/file", data.join("checkpoint.pub")).unwrap();
    let said = ended(&data, &["backup", "restore", file.to_str().unwrap(), "--yes"], 78);
    let place = aside(&data).expect("the old database");
    assert!(said.contains(place.to_str().unwrap()), "{said}");
    assert!(place.join("keyward.db").exists());
}

#[test]
fn a_restored_backup_accepts_its_imported_keys() {
    let (dir, data) = place();
    let server = Binary::serve(&data);
    let row = json!({ "name": "x", "scopes": ["orders:read"], "key": OLD });
    assert_eq!(import(&data, "keys.jsonl", &rows(&[row]), &[]).0, 0);
    let root = server.root_key();
    let file = dir.path().join("a.db");
    json_of(&data, &["backup", "create", "--to", file.to_str().unwrap()]);
    assert!(server.terminate().status.success());
    let restore = ["backup", "restore", file.to_str().unwrap(), "--yes"];
    let elsewhere = dir.path().join("elsewhere");
    ended(&elsewhere, &restore, 0);
    let server = Binary::serve(&elsewhere);
    assert_eq!(code_of(&server, &root, OLD), "VALID");
}

#[test]
fn the_file_with_the_unused_root_key_is_moved_aside_with_its_database() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    assert!(Binary::serve(&data).terminate().status.success());
    let waiting = data.join("initial-root-key");
    let first = fs::read_to_string(&waiting).unwrap();
    let file = dir.path().join("a.db");
    let file = file.to_str().unwrap();
    json_of(&data, &["backup", "create", "--to", file]);
    ended(&data, &["backup", "restore", file, "--yes"], 0);
    assert_eq!(fs::read_to_string(&waiting).unwrap(), first, "the backup knows it");
    fs::remove_dir_all(aside(&data).unwrap()).unwrap();

    ended(&data, &["root-key", "reset"], 0);
    let second = fs::read_to_string(&waiting).unwrap();
    assert_ne!(first, second);
    ended(&data, &["backup", "restore", file, "--yes"], 0);
    assert!(!waiting.exists(), "it no longer works");
    let kept = aside(&data).unwrap().join("initial-root-key");
    assert_eq!(fs::read_to_string(kept).unwrap(), second);
}

#[test]
fn a_backup_that_only_the_service_can_see_is_a_failure() {
    let may = Command::new("unshare").args(["--mount", "true"]).output();
    if !may.is_ok_and(|it| it.status.success()) {
        return crate::support::skip("a mount namespace needs root");
    }
    let dir = tempfile::tempdir().unwrap();
    let (data, hidden) = (dir.path().join("data"), dir.path().join("tmp"));
    fs::create_dir(&hidden).unwrap();
    // systemd's `PrivateTmp=` does the same.
    let mount = format!("mount -t tmpfs none {} && exec \"$0\" \"$@\"", hidden.display());
    let wrapper = ["unshare", "--mount", "--propagation", "private", "sh", "-c", &mount];
    let server = Binary::serve_under(&wrapper, &data);
    let file = hidden.join("a.db");
    let arguments = ["backup", "create", "--to", file.to_str().unwrap()];
    let said = ended(&data, &arguments, 1);
    assert!(said.contains("ReadWritePaths="), "{said}");
    assert!(said.contains(file.to_str().unwrap()), "{said}");
    // Outside, another file has the same name.
    fs::write(hidden.join("b.db"), "x").unwrap();
    let other = hidden.join("b.db");
    ended(&data, &["backup", "create", "--to", other.to_str().unwrap()], 1);
    json_of(&data, &["backup", "create"]);
    let visible = dir.path().join("c.db");
    json_of(&data, &["backup", "create", "--to", visible.to_str().unwrap()]);
    assert!(server.terminate().status.success());
}

#[test]
fn scheduled_backups_delete_old_ones_and_no_other_files() {
    let mut server = TestServer::with(|config| config.backup.keep = 2);
    let dir = server.data_dir().join("backups");
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("keyward-mine.db"), "x").unwrap();
    for _ in 0..4 {
        assert_eq!(server.run_job("backup"), 1);
        server.advance(Duration::from_mins(1));
    }
    let mut names: Vec<_> = fs::read_dir(&dir)
        .unwrap()
        .map(|it| it.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names.len(), 5, "two, their digests, and a file that is not ours: {names:?}");
    assert!(names.contains(&"keyward-mine.db".to_owned()));
    server.restart(|config| config.backup.keep = 0);
    assert_eq!(server.run_job("backup"), 0);
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 5);
}

#[test]
fn backups_dated_in_the_future_and_leftovers_are_deleted_first() {
    let server = TestServer::start();
    let dir = server.data_dir().join("backups");
    fs::create_dir_all(&dir).unwrap();
    let late: Vec<_> =
        (0..7).map(|n| dir.join(format!("keyward-2999010{n}T000000000Z.db"))).collect();
    let left = ["db.partial", "db.scratch-wal", "db.sha256.partial"]
        .map(|it| dir.join(format!("keyward-20260101T000000000Z.{it}")));
    let other = dir.join("other.db.partial");
    for file in late.iter().chain(&left).chain([&other]) {
        fs::write(file, "").unwrap();
    }
    let made = server.app.create_backup(None).unwrap();
    assert!(made.path.exists(), "the one that was just made stays");
    assert_eq!(late.iter().filter(|it| it.exists()).count(), 6);
    assert!(!left.iter().any(|it| it.exists()) && other.exists());
}

#[test]
fn the_tables_of_a_replicator_do_no_harm() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let server = Binary::serve(&data);
    let root = server.root_key();
    let conn = Connection::open(data.join("keyward.db")).unwrap();
    let sql = "CREATE TABLE _litestream_seq (id INTEGER PRIMARY KEY, seq INTEGER);
        CREATE TABLE _litestream_lock (id INTEGER);
        INSERT INTO _litestream_seq VALUES (1, 1) ";
    conn.execute_batch(sql).unwrap();
    drop(conn);
    let key = create_key(&server, &root, "x").unwrap();
    let backup = json_of(&data, &["backup", "create"]);
    assert!(server.terminate().status.success());
    let verified = keyward().args(["backup", "verify", backup["path"].as_str().unwrap()]).output();
    assert!(verified.unwrap().status.success());
    let server = Binary::serve(&data);
    assert_eq!(code_of(&server, &root, &key), "VALID");
    assert!(server.terminate().status.success());
    ended(&data, &["events", "verify"], 0);
}
