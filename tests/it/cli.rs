//! The program as its operator uses it: first start, locks, signals, exit codes.

use std::{
    fs::{self, Permissions},
    io,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::Output,
    time::{Duration, Instant},
};

use keyward::domain::job::Job;
use rusqlite::Connection;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{Binary, Logged, Process, Request, keyward, keyward_in};

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("it is there").permissions().mode() & 0o7777
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[track_caller]
fn assert_exit(output: &Output, code: i32) -> String {
    let said = text(&[&*output.stdout, &*output.stderr].concat());
    assert_eq!(output.status.code(), Some(code), "{said}");
    said
}

/// Returns a directory in which keyward ran once, and its root key.
fn used() -> (TempDir, String) {
    let dir = tempfile::tempdir().unwrap();
    let server = Binary::serve(&dir.path().join("data"));
    let root = server.root_key();
    get(&server, &root, "/api/v1/scopes");
    assert!(server.terminate().status.success());
    (dir, root)
}

fn get(server: &Binary, key: &str, path: &str) -> Value {
    Request::new("GET", path).key(key).send(server.address).expect(200).json()
}

fn post(server: &Binary, key: &str, path: &str, body: &Value) -> Value {
    let answer = Request::new("POST", path).key(key).json(body).send(server.address);
    assert!(answer.status < 300, "{}", answer.text());
    answer.json()
}

fn status(server: &Binary, key: &str) -> u16 {
    Request::new("GET", "/api/v1/scopes").key(key).send(server.address).status
}

#[test]
fn a_first_start_makes_files_for_the_owner_only_and_prints_no_secret() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("deep/data");
    fs::create_dir(dir.path().join("deep")).unwrap();
    let server = Logged::serve(&data, &[]);
    let key = server.binary.root_key();
    let file = fs::read_to_string(data.join("initial-root-key")).unwrap();
    assert_eq!((file.len(), &*file), (51, &*format!("{key}\n")), "a line and nothing else");
    assert!(key.starts_with("rg_"));
    assert_eq!(mode(&data), 0o700);
    for file in [
        "keyward.db",
        "keyward.db-wal",
        "keyward.db-shm",
        "initial-root-key",
        "keyward.lock",
        "control.sock",
    ] {
        assert_eq!(mode(&data.join(file)), 0o600, "{file}");
    }
    let said = server.said();
    assert!(!said.contains(&key[12..]), "{said}");
    assert!(said.contains("initial-root-key"), "{said}");
    assert_eq!(status(&server.binary, "absent"), 401);
    assert!(data.join("initial-root-key").exists(), "only the use of this key removes it");
    assert_eq!(status(&server.binary, &key), 200);
    assert!(!data.join("initial-root-key").exists());
    assert!(server.binary.terminate().status.success());
    assert!(!data.join("control.sock").exists());
}

#[test]
fn the_initial_root_key_stays_in_its_file_over_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let first = Binary::serve(dir.path());
    let key = first.root_key();
    assert!(first.terminate().status.success());
    let second = Binary::serve(dir.path());
    assert_eq!(second.root_key(), key);
    assert_eq!(status(&second, &key), 200);
    assert!(!dir.path().join("initial-root-key").exists());
}

#[test]
fn a_second_server_says_which_process_holds_the_directory() {
    let dir = tempfile::tempdir().unwrap();
    let first = Binary::serve(dir.path());
    // Also at the same address, where the occupied port would otherwise be reported first.
    for address in ["127.0.0.1:0", &first.address.to_string()] {
        let second = keyward_in(dir.path(), &["serve", "--listen", address]);
        let said = assert_exit(&second, 75);
        assert!(said.contains(&first.child.id().to_string()), "{said}");
    }
    assert_eq!(status(&first, &first.root_key()), 200);
}

#[test]
fn a_server_that_was_killed_leaves_no_lock_behind() {
    let dir = tempfile::tempdir().unwrap();
    let mut first = Binary::serve(dir.path());
    let key = first.root_key();
    post(&first, &key, "/api/v1/api-keys", &json!({ "name": "x", "scopes": ["orders:read"] }));
    first.child.kill().unwrap();
    first.wait();
    let second = Binary::serve(dir.path());
    assert_eq!(get(&second, &key, "/api/v1/api-keys")["data"].as_array().map(Vec::len), Some(2));
}

#[test]
fn a_server_that_is_told_to_stop_stores_the_last_uses() {
    for signal in ["-TERM", "-INT"] {
        let dir = tempfile::tempdir().unwrap();
        let first = Binary::serve(dir.path());
        let root = first.root_key();
        let body = json!({ "name": "x", "scopes": ["orders:read"] });
        let made = post(&first, &root, "/api/v1/api-keys", &body);
        let question = json!({ "key": made["key"] });
        let answer = post(&first, &root, "/api/v1/api-keys/verify", &question);
        assert_eq!(answer["code"], "VALID");
        first.child.signal(signal);
        assert_eq!(first.wait().status.code(), Some(0), "{signal}");
        let second = Binary::serve(dir.path());
        let path = format!("/api/v1/api-keys/{}", made["id"].as_str().unwrap());
        assert!(get(&second, &root, &path)["lastUsedAt"].is_string(), "{signal}");
        let events = get(&second, &root, "/api/v1/events?type=server.stopped");
        assert_eq!(events["data"].as_array().map(Vec::len), Some(1));
    }
}

#[test]
fn the_root_key_can_be_reset_while_the_server_runs() {
    let (dir, old) = used();
    let data = dir.path().join("data");
    let server = Binary::serve(&data);
    let said = assert_exit(&keyward_in(&data, &["root-key", "reset"]), 0);
    let new = server.root_key();
    assert!(!said.contains(&new[12..]), "{said}");
    assert_eq!(mode(&data.join("initial-root-key")), 0o600);
    assert_eq!([status(&server, &old), status(&server, &new)], [200, 200]);
    assert!(!data.join("initial-root-key").exists());

    let body = json!({ "name": "x", "scopes": ["orders:read"] });
    let other = post(&server, &new, "/api/v1/api-keys", &body);
    assert_exit(&keyward_in(&data, &["root-key", "reset", "--revoke-others"]), 0);
    let newest = server.root_key();
    let other = other["key"].as_str().unwrap();
    let found = [&old, &new, &*newest, other].map(|it| status(&server, it));
    assert_eq!(found, [401, 401, 200, 200]);
    let events = get(&server, &newest, "/api/v1/events?type=root_key.reset");
    assert_eq!(events["data"].as_array().map(Vec::len), Some(2));
    assert_eq!(events["data"][0]["actor"]["type"], "cli");
}

#[test]
fn the_root_key_can_be_reset_while_no_server_runs() {
    let (dir, old) = used();
    let data = dir.path().join("data");
    assert_exit(&keyward_in(&data, &["root-key", "reset", "--revoke-others"]), 0);
    let server = Binary::serve(&data);
    let new = server.root_key();
    assert_eq!([status(&server, &old), status(&server, &new)], [401, 200]);
    assert!(!data.join("initial-root-key").exists());
}

#[test]
fn a_command_on_a_directory_without_keyward_creates_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let nowhere = dir.path().join("typo");
    for command in [&["root-key", "reset"][..], &["run-job", "purge"], &["clock", "accept"]] {
        let output = keyward_in(&nowhere, command);
        assert!(!output.status.success(), "{command:?}: {output:?}");
        assert!(!nowhere.exists(), "{command:?} made it");
    }
}

#[test]
fn a_job_can_be_run_by_hand_with_and_without_a_server() {
    let (dir, root) = used();
    let data = dir.path().join("data");
    let run = |name: &str| keyward_in(&data, &["run-job", name]);
    for name in Job::ALL.map(Job::as_str) {
        assert!(assert_exit(&run(name), 0).starts_with(name), "{name}");
    }
    let said = assert_exit(&run("sweep"), 2);
    assert!(said.contains("sweep") && said.contains("flush_usage"), "{said}");

    let server = Binary::serve(&data);
    let body = json!({ "name": "x", "scopes": ["orders:read"] });
    let made = post(&server, &root, "/api/v1/api-keys", &body);
    post(&server, &root, "/api/v1/api-keys/verify", &json!({ "key": made["key"] }));
    assert!(assert_exit(&run("flush_usage"), 0).starts_with("flush_usage: "));
    let said = assert_exit(&run("end_graces"), 0);
    assert_eq!(said.trim(), "end_graces: 0 grace periods ended");
    assert_exit(&run("sweep"), 2);
    assert_exit(&keyward_in(&data, &["clock", "accept"]), 0);
}

#[test]
fn all_mistakes_in_a_configuration_are_reported_with_file_and_line() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("keyward.toml");
    let lines = [
        "listen = \"nowhere\"",
        "wrkers = 2",
        "[keys]",
        "rotation_grace = \"8d\"",
        "[log]",
        "level = 3",
    ];
    fs::write(&file, lines.join("\n")).unwrap();
    let mut command = keyward();
    command.args(["config", "check", "--config"]).arg(&file);
    command.env("KEYWARD_LSTEN", "x").args(["--log-format", "loud"]);
    let said = assert_exit(&command.output().unwrap(), 78);
    for line in [1, 2, 4, 6] {
        let place = format!("{}:{line}", file.display());
        assert!(said.contains(&place), "{place}: {said}");
    }
    for part in ["KEYWARD_LISTEN", "`workers`", "--log-format"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    // Every file that the configuration names is examined.
    let named = "[tls]\ncertificate = \"/no.pem\"\nkey = \"/no.key\"\n[authz]\npolicy_file = \"/no.toml\"\n";
    fs::write(&file, named).unwrap();
    let mut command = keyward();
    let output = command.args(["config", "check", "--config"]).arg(&file).output().unwrap();
    let said = assert_exit(&output, 78);
    assert!(said.contains("/no.toml") && said.contains("/no.key"), "{said}");
    fs::write(&file, "[keys]\nprefix = \"acme\"\n").unwrap();
    let mut command = keyward();
    let output = command.args(["config", "check", "--config"]).arg(&file).output().unwrap();
    assert_exit(&output, 0);
    let mut command = keyward();
    let output = command.args(["config", "check", "--config", "/nowhere.toml"]).output().unwrap();
    assert_exit(&output, 78);
}

#[test]
fn an_unknown_variable_stops_the_start_and_the_nearest_name_is_suggested() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = keyward();
    command.env("KEYWARD_LOG_LEVL", "info").args(["serve", "--data-dir"]);
    let said = assert_exit(&command.arg(dir.path().join("data")).output().unwrap(), 78);
    assert!(said.contains("KEYWARD_LOG_LEVL") && said.contains("KEYWARD_LOG_LEVEL"), "{said}");
    assert!(!dir.path().join("data").exists(), "nothing is made before the configuration is sound");
}

/// Returns the error of `serve` on this database, which must stay as it is.
fn refused(data: &Path) -> String {
    let database = data.join("keyward.db");
    let before = fs::read(&database).unwrap();
    let mut command = keyward();
    command.args(["serve", "--listen", "127.0.0.1:0", "--data-dir"]).arg(data);
    let said = assert_exit(&command.output().unwrap(), 78);
    assert!(fs::read(&database).unwrap() == before, "the file was changed");
    assert!(!data.join("initial-root-key").exists());
    said
}

#[test]
fn a_database_that_others_can_read_is_refused() {
    let (dir, _) = used();
    let database = dir.path().join("data/keyward.db");
    for exposed in [0o644, 0o604, 0o666] {
        fs::set_permissions(&database, Permissions::from_mode(exposed)).unwrap();
        let said = refused(&dir.path().join("data"));
        assert!(said.contains("keyward.db") && said.contains("chmod 600"), "{said}");
    }
}

#[test]
fn a_file_of_another_program_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let database = dir.path().join("keyward.db");
    let others = Connection::open(&database).unwrap();
    others.execute_batch("CREATE TABLE diary (day TEXT); INSERT INTO diary VALUES ('x')").unwrap();
    drop(others);
    fs::set_permissions(&database, Permissions::from_mode(0o600)).unwrap();
    assert!(refused(dir.path()).contains("not a keyward database"));
    fs::write(&database, "Dear diary,\n".repeat(500)).unwrap();
    assert!(refused(dir.path()).contains("not a keyward database"));
}

#[test]
fn a_database_of_a_newer_keyward_is_refused() {
    let (dir, _) = used();
    let conn = Connection::open(dir.path().join("data/keyward.db")).unwrap();
    conn.pragma_update(None, "user_version", 999).unwrap();
    conn.pragma_update(None, "journal_mode", "DELETE").unwrap();
    drop(conn);
    let said = refused(&dir.path().join("data"));
    assert!(said.contains("999"), "{said}");
}

#[test]
fn the_api_document_can_be_printed_without_a_server() {
    let print = |arguments: &[&str]| {
        let output = keyward().args(arguments).output().unwrap();
        assert!(output.status.success());
        text(&output.stdout)
    };
    assert_eq!(print(&["openapi"]), keyward::http::openapi::document_json());
    assert_eq!(print(&["openapi", "--yaml"]), keyward::http::openapi::document_yaml());
    assert_eq!(print(&["openapi", "--v3.0"]), keyward::http::openapi::document_json_3_0());
}

#[test]
fn a_server_goes_on_when_its_output_is_not_read() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let deaf = || io::pipe().unwrap().1;
    let mut command = keyward();
    command.args(["serve", "--listen", "127.0.0.1:0", "--data-dir"]).arg(&data);
    let mut child = Process::start(command.stdout(deaf()).stderr(deaf()));
    let deadline = Instant::now() + Duration::from_secs(30);
    while !keyward_in(&data, &["health"]).status.success() {
        assert_eq!(child.try_wait().unwrap(), None, "it ended");
        assert!(Instant::now() < deadline, "it does not answer");
    }
    // The server logs this signal.
    child.signal("-HUP");
    assert_exit(&keyward_in(&data, &["run-job", "upkeep"]), 0);
    child.signal("-TERM");
    assert!(child.wait_for_end().status.success());
}

#[test]
fn a_data_directory_with_a_path_too_long_for_a_socket_is_refused_before_anything_is_made() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("d".repeat(100));
    for command in [&["serve", "--listen", "127.0.0.1:0"][..], &["config", "check"]] {
        let said = assert_exit(&keyward_in(&data, command), 78);
        assert!(said.contains("too long") && said.contains("107"), "{said}");
        assert!(!data.exists());
    }
    let fits = dir.path().join("d".repeat(107 - dir.path().as_os_str().len() - 14));
    assert_eq!(fits.join("control.sock").as_os_str().len(), 107);
    assert!(Binary::serve(&fits).terminate().status.success());
}

#[test]
fn the_log_names_the_configuration_file_that_was_read() {
    let dir = tempfile::tempdir().unwrap();
    let print = |arguments: &[&str]| {
        let mut command = keyward();
        command.args(["config", "print"]).args(arguments).current_dir(dir.path());
        let output = command.output().unwrap();
        assert!(output.status.success(), "{output:?}");
        assert!(text(&output.stdout).starts_with("listen = "), "{output:?}");
        text(&output.stderr)
    };
    if !Path::new("/etc/keyward/keyward.toml").exists() {
        assert!(print(&[]).contains("no configuration file"));
        let server = Logged::serve(&dir.path().join("data"), &[]);
        assert!(server.said().contains("no configuration file"), "{}", server.said());
    }
    let here = dir.path().join("keyward.toml");
    fs::write(&here, "workers = 1\n").unwrap();
    let named = dir.path().join("other.toml");
    fs::write(&named, "workers = 1\n").unwrap();
    let name = named.to_str().unwrap();
    assert_eq!(print(&[]), format!("keyward: read {}\n", here.display()));
    assert_eq!(print(&["--config", name]), format!("keyward: read {name}\n"));
    let server = Logged::serve(&dir.path().join("more"), &["--config", name]);
    let said = server.said();
    assert!(said.contains("the configuration was read") && said.contains(name), "{said}");
}
