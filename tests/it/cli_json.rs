//! Commands with `--output json`, for programs.

use std::{fs, path::Path, process::Output};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{Binary, keyward, keyward_in};

/// Returns a directory in which keyward ran once.
fn used() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    assert!(Binary::serve(&dir.path().join("data")).terminate().status.success());
    dir
}

/// Returns the exit code and the one printed object.
#[track_caller]
fn object(output: &Output) -> (i32, Value) {
    let said = String::from_utf8_lossy(&output.stdout);
    let found = serde_json::from_str(&said).unwrap_or_else(|err| panic!("{err}: {output:?}"));
    (output.status.code().unwrap(), found)
}

#[track_caller]
fn ask(data: &Path, arguments: &[&str]) -> (i32, Value) {
    object(&keyward_in(data, &[arguments, &["-o", "json"]].concat()))
}

#[track_caller]
fn ask_about(file: &Path, command: &[&str], rest: &[&str]) -> (i32, Value) {
    let mut program = keyward();
    program.args(command).arg(file).args(rest).args(["--output", "json"]);
    object(&program.output().unwrap())
}

#[test]
fn local_commands_report_their_result_as_json() {
    let dir = used();
    let data = dir.path().join("data");
    let done = ask(&data, &["run-job", "purge"]);
    assert_eq!(done, (0, json!({ "job": "purge", "changed": 0 })));

    let (code, reset) = ask(&data, &["root-key", "reset", "--revoke-others"]);
    let path = data.join("initial-root-key");
    let key = fs::read_to_string(&path).unwrap();
    let key = key.trim();
    assert_eq!(code, 0);
    assert_eq!((&reset["keyPrefix"], &reset["key"]), (&json!(key[..12]), &Value::Null));
    assert_eq!(reset["path"], json!(path));
    assert_eq!(reset["revoked"].as_array().map(Vec::len), Some(1));
    assert!(!reset.to_string().contains(&key[12..]), "{reset}");

    let (_, backup) = ask(&data, &["backup", "create"]);
    ask(&data, &["run-job", "checkpoint"]);
    ask(&data, &["root-key", "reset"]);
    let file = backup["path"].as_str().unwrap();
    let (code, restored) = ask(&data, &["backup", "restore", file, "--yes"]);
    assert_eq!((code, &restored["events"]), (0, &backup["events"]), "{restored}");
    assert!(Path::new(restored["aside"].as_str().unwrap()).is_dir());
    assert_eq!(restored["lostEvents"], 3, "the backup, the reset, the key that it made");
    let (_, elsewhere) = ask(&dir.path().join("other"), &["backup", "restore", file, "-y"]);
    assert_eq!((&elsewhere["aside"], &elsewhere["lostEvents"]), (&Value::Null, &json!(0)));
}

#[test]
fn events_and_the_verdict_on_the_log_are_printed_as_json() {
    let dir = used();
    let data = dir.path().join("data");
    let tail = |arguments: &[&str]| {
        let output = keyward_in(&data, &[&["events", "tail"], arguments].concat());
        assert!(output.status.success(), "{output:?}");
        output.stdout
    };
    assert_eq!(tail(&["-o", "json"]), tail(&["--format", "jsonl"]));
    assert_eq!(tail(&["-o", "table"]), tail(&["--format", "text"]));
    let both = keyward_in(&data, &["events", "tail", "-o", "json", "--format", "text"]);
    assert_eq!(both.status.code(), Some(2));

    let (code, found) = ask(&data, &["events", "verify"]);
    assert_eq!((code, &found["sound"]), (0, &json!(true)), "{found}");
    assert_eq!(found["signed"], found["checkpoints"]);
    assert!(found["signer"].as_str().unwrap().starts_with("keyward-"));
    assert_eq!(found["head"].as_str().map(str::len), Some(64));
    let database = rusqlite::Connection::open(data.join("keyward.db")).unwrap();
    let sql = "DROP TRIGGER events_are_never_updated; UPDATE events SET data = '{}' WHERE seq = 2";
    database.execute_batch(sql).unwrap();
    let (code, found) = ask(&data, &["events", "verify"]);
    assert_eq!((code, &found["sound"], &found["seq"]), (3, &json!(false), &json!(2)), "{found}");
    assert!(found["detail"].is_string());
}

#[test]
fn errors_in_a_file_are_printed_as_json() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("keyward.toml");
    fs::write(&file, "[keys]\nprefix = \"acme\"\n").unwrap();
    let config = ["config", "check", "--config"];
    assert_eq!(ask_about(&file, &config, &[]), (0, json!({ "sound": true, "faults": [] })));
    fs::write(&file, "listen = \"nowhere\"\nwrkers = 2\n").unwrap();
    let (code, found) = ask_about(&file, &config, &[]);
    assert_eq!((code, &found["sound"]), (78, &json!(false)));
    let places: Vec<_> = [1, 2].map(|it| format!("{}:{it}", file.display())).into();
    let faults = found["faults"].as_array().unwrap();
    assert_eq!(faults.iter().map(|it| it["place"].as_str().unwrap()).collect::<Vec<_>>(), places);
    let (code, found) = ask_about(Path::new("/nowhere.toml"), &config, &[]);
    assert_eq!((code, &found["faults"][0]["place"]), (78, &Value::Null), "{found}");

    let route = "[[route]]\nname = \"read\"\nmethods = [\"GET\"]\npath = \"/orders/**\"\n";
    fs::write(&file, format!("{route}scopes = [\"orders:read\"]\n")).unwrap();
    let (code, found) = ask_about(&file, &["routes", "check", "--file"], &[]);
    let sound = json!({ "sound": true, "file": file, "routes": 1, "faults": [] });
    assert_eq!((code, found), (0, sound));
    let test = |rest: &[&str]| ask_about(&file, &["routes", "test", "--file"], rest);
    let expected = json!({
        "refused": null, "route": 1, "name": "read", "file": file, "line": 1,
        "public": false, "optional": false, "scopes": ["orders:read"], "anyOf": [],
    });
    assert_eq!(test(&["GET", "/orders/7"]), (0, expected));
    let refused = |rest: &[&str]| (test(rest).0, test(rest).1["refused"].clone());
    assert_eq!(refused(&["PUT", "/orders/7"]), (3, json!("no_route")));
    assert_eq!(refused(&["GET", "/orders//7"]), (3, json!("ambiguous_path")));
    fs::write(&file, format!("{route}scopes = [\"order:read\"]\n")).unwrap();
    let (code, found) = ask_about(&file, &["routes", "check", "--file"], &[]);
    assert_eq!((code, &found["routes"]), (3, &Value::Null));
    assert_eq!(found["faults"][0]["place"], format!("{}:5", file.display()));
}
