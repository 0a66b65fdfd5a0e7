//! `keyward health` and `keyward doctor`.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::Command,
    time::{Duration, Instant, SystemTime},
};

use rusqlite::Connection;
use serde_json::{Value, json};

use crate::support::{Binary, Request, keyward, keyward_in, without_triggers};

fn run(mut command: Command) -> i32 {
    command.output().unwrap().status.code().unwrap()
}

/// Runs `keyward doctor`; returns the results by check, and the exit code.
fn doctor(data: &Path, arguments: &[&str]) -> (i32, Value) {
    let output = keyward_in(data, &[&["doctor", "-o", "json"], arguments].concat());
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    let by_check = found
        .as_array()
        .unwrap()
        .iter()
        .map(|it| (it["check"].as_str().unwrap().to_owned(), it["state"].clone()));
    (output.status.code().unwrap(), by_check.collect::<serde_json::Map<_, _>>().into())
}

#[test]
fn health_reaches_the_server_in_every_supported_way() {
    let dir = tempfile::tempdir().unwrap();
    let server = Binary::serve(dir.path());
    for arguments in [&["health"][..], &["health", "--ready"]] {
        assert_eq!(keyward_in(dir.path(), arguments).status.code(), Some(0));
        let mut network = keyward();
        network.args(arguments).env("KEYWARD_URL", format!("http://{}", server.address));
        assert_eq!(run(network), 0, "and needs no key");
    }
    let address = server.address;
    assert!(server.terminate().status.success());
    assert_eq!(keyward_in(dir.path(), &["health"]).status.code(), Some(1));
    let mut network = keyward();
    network.args(["health", "--url", &format!("http://{address}")]);
    assert_eq!(run(network), 1);
}

#[test]
fn health_does_not_wait_for_a_stopped_server() {
    let dir = tempfile::tempdir().unwrap();
    let server = Binary::serve(dir.path());
    server.child.signal("-STOP");
    let begun = Instant::now();
    let mut network = keyward();
    network.args(["health", "--url", &format!("http://{}", server.address)]);
    for asked in [keyward_in(dir.path(), &["health"]), network.output().unwrap()] {
        let said = String::from_utf8_lossy(&asked.stderr);
        assert_eq!(asked.status.code(), Some(1), "{said}");
        assert!(said.contains("does not answer within 5 seconds"), "{said}");
    }
    let (code, found) = doctor(dir.path(), &[]);
    assert_eq!((code, &found["server"]), (1, &"failed".into()));
    assert!(begun.elapsed() < Duration::from_mins(1), "three requests of 5 seconds each");
    server.child.signal("-CONT");
    assert_eq!(keyward_in(dir.path(), &["health"]).status.code(), Some(0));
}

#[test]
fn the_doctor_finds_every_fault_of_an_installation() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let (code, found) = doctor(&data, &[]);
    assert_eq!((code, &found["data directory"]), (1, &"failed".into()));
    assert_eq!(found.as_object().unwrap().len(), 4, "each fault is reported once: {found}");

    let server = Binary::serve(&data);
    let (code, found) = doctor(&data, &[]);
    assert_eq!(code, 0, "{found}");
    assert_eq!(found["server"], "ok");
    assert_eq!(found["initial root key"], "warning");
    assert_eq!(found["backup"], "warning", "none yet");
    let root = server.root_key();
    Request::new("GET", "/api/v1/scopes").key(&root).send(server.address).expect(200);
    assert!(keyward_in(&data, &["backup", "create"]).status.success());
    let (_, found) = doctor(&data, &[]);
    for check in ["initial root key", "backup", "database", "clock", "free space", "listeners"] {
        assert_eq!(found[check], "ok", "{check}: {found}");
    }
    let shown = keyward_in(&data, &["doctor"]).stdout;
    assert!(String::from_utf8_lossy(&shown).contains("initial root key"));
    assert!(server.terminate().status.success());
    assert_eq!(doctor(&data, &[]).1["server"], "warning");

    let backup = fs::read_dir(data.join("backups")).unwrap().map(|it| it.unwrap().path());
    let backup = backup.into_iter().find(|it| it.extension().unwrap() == "db").unwrap();
    let old = SystemTime::now() - Duration::from_hours(48);
    fs::File::options().append(true).open(backup).unwrap().set_modified(old).unwrap();
    fs::set_permissions(&data, Permissions::from_mode(0o755)).unwrap();
    fs::rename(data.join("checkpoint.key"), data.join("mislaid")).unwrap();
    let file = dir.path().join("k.toml");
    let policy = dir.path().join("routes.toml");
    let config = format!(
        "listen = \"0.0.0.0:80\"\n[authz]\npolicy_file = \"{}\"\n[backup]\nkeep = 3\n",
        policy.display()
    );
    fs::write(&file, config).unwrap();
    let (code, found) = doctor(&data, &["--config", file.to_str().unwrap()]);
    assert_eq!(code, 1);
    for (check, state) in [
        ("backup", "warning"),
        ("data directory", "warning"),
        ("checkpoint key", "warning"),
        ("listeners", "warning"),
        ("files named in the configuration", "failed"),
    ] {
        assert_eq!(found[check], state, "{check}");
    }
}

#[test]
fn the_doctor_finds_token_exchange_without_an_issuer() {
    let dir = tempfile::tempdir().unwrap();
    let (data, file) = (dir.path().join("data"), dir.path().join("k.toml"));
    let server = Binary::serve(&data);
    let root = server.root_key();
    let found = |arguments: &[&str]| doctor(&data, arguments).1["token exchange"].clone();
    let ask = |method, id: &str| Request::new(method, &format!("/api/v1/accounts{id}")).key(&root);
    let made = ask("POST", "").json(&json!({ "name": "Acme", "tokenExchange": true }));
    let made = made.send(server.address).expect(201).json();
    assert_eq!(found(&[]), "warning");
    fs::write(&file, "public_url = \"https://keys.example.com\"\n").unwrap();
    assert_eq!(found(&["--config", file.to_str().unwrap()]), "ok");
    ask("DELETE", &format!("/{}", made["id"].as_str().unwrap())).send(server.address).expect(204);
    assert_eq!(found(&[]), "ok", "a deleted account has no keys");
}

#[test]
fn the_owner_of_the_data_directory_is_the_user_who_may_open_it() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    assert!(Binary::serve(&data).terminate().status.success());
    // Only root can give a directory to another user.
    if std::os::unix::fs::chown(&data, Some(12_345), None).is_err() {
        return crate::support::skip("giving a directory away needs root");
    }
    let output = keyward_in(&data, &["keys", "list"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(78), "{said}");
    assert!(said.contains("12345") && said.contains("sudo -u"), "{said}");
}

#[test]
fn a_user_without_permission_is_told_so_and_not_that_nothing_is_there() {
    use std::os::unix::process::CommandExt;
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    assert!(Binary::serve(&data).terminate().status.success());
    fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(&data, Permissions::from_mode(0o000)).unwrap();
    let as_another = |arguments: &[&str]| {
        let mut command = keyward();
        // Root can read everything.
        if fs::read_dir(&data).is_ok() {
            command.uid(12_345).gid(12_345);
        }
        command.args(arguments).arg("--data-dir").arg(&data).current_dir("/");
        command.output()
    };
    if as_another(&["health"]).is_err() {
        return crate::support::skip("another user may not run the binary");
    }
    for arguments in [
        &["keys", "list"][..],
        &["run-job", "purge"],
        &["events", "tail"],
        &["events", "export"],
        &["events", "verify"],
        &["backup", "create"],
        &["root-key", "reset"],
    ] {
        let output = as_another(arguments).unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(78), "{arguments:?}: {said}");
        assert!(said.contains("permission denied") && said.contains("    sudo "), "{said}");
    }
    let output = as_another(&["doctor", "-o", "json"]).unwrap();
    let found: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    for check in ["database", "initial root key", "checkpoint key", "server"] {
        let it = found.iter().find(|it| it["check"] == check).unwrap();
        assert_eq!(it["state"], "failed", "{it}");
        assert!(!it["detail"].as_str().unwrap().contains("gone"), "{it}");
    }
    fs::set_permissions(&data, Permissions::from_mode(0o700)).unwrap();
}

/// A change that damages a sound data directory.
type Harm = Box<dyn Fn(&Path)>;

/// Returns the exit code of `serve`, and the exit code and the failed checks of the doctor.
fn verdicts(data: &Path) -> (Option<i32>, i32, Vec<String>) {
    // The time limit ends a server that starts unexpectedly.
    let mut serve = Command::new("timeout");
    serve.arg("20").arg(keyward().get_program());
    let serve = serve.args(["serve", "--listen", "127.0.0.1:0", "--data-dir"]).arg(data).output();
    let started = serve.unwrap().status.code();
    let (code, found) = doctor(data, &[]);
    let failed = found.as_object().unwrap().iter().filter(|it| it.1 == "failed");
    (started, code, failed.map(|it| it.0.clone()).collect())
}

#[test]
fn the_doctor_finds_every_reason_for_which_a_start_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let sound = dir.path().join("sound");
    let server = Binary::serve(&sound);
    let root = server.root_key();
    Request::new("GET", "/api/v1/scopes").key(&root).send(server.address).expect(200);
    assert!(server.terminate().status.success());
    assert_eq!(doctor(&sound, &[]).0, 0);

    let mode = |file: &'static str| {
        move |data: &Path| {
            fs::set_permissions(data.join(file), Permissions::from_mode(0o604)).unwrap();
        }
    };
    let sql = |sql: &'static str| {
        move |data: &Path| {
            let conn = Connection::open(data.join("keyward.db")).unwrap();
            without_triggers(&conn, || conn.execute_batch(sql).unwrap());
        }
    };
    let garbage = |data: &Path| fs::write(data.join("checkpoint.key"), "garbage").unwrap();
    let forged = |data: &Path| {
        let note = fs::read_to_string(data.join("checkpoint")).unwrap();
        fs::write(data.join("checkpoint"), note.replace("\nhead ", "\nhead  ")).unwrap();
    };
    let edit = "UPDATE events SET actor = 'scheduler'
        WHERE seq = (SELECT max(seq) - 1 FROM events)";
    let spoil = "UPDATE credentials SET phc = 'x'";
    let cases: [(&str, Harm, &str); 6] = [
        ("exposed database", Box::new(mode("keyward.db")), "database"),
        ("exposed key", Box::new(mode("checkpoint.key")), "checkpoint key"),
        ("garbage for a key", Box::new(garbage), "checkpoint key"),
        ("edited event", Box::new(sql(edit)), "database"),
        ("unreadable row", Box::new(sql(spoil)), "database"),
        ("forged checkpoint", Box::new(forged), "audit log"),
    ];
    for (name, harm, check) in cases {
        let data = dir.path().join(name);
        assert!(Command::new("cp").arg("-a").args([&sound, &data]).status().unwrap().success());
        harm(&data);
        let (started, code, failed) = verdicts(&data);
        assert_eq!((started, code), (Some(78), 1), "{name}: {failed:?}");
        assert!(failed.iter().any(|it| it == check), "{name}: {failed:?}");
    }
}

#[test]
fn the_doctor_changes_nothing_and_counts_only_backups_of_the_schedule() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    assert!(Binary::serve(&data).terminate().status.success());
    let before = fs::read(data.join("keyward.db")).unwrap();
    let backups = data.join("backups");
    fs::create_dir(&backups).unwrap();
    for name in ["before-migration-from-1.db", "mine.db"] {
        fs::write(backups.join(name), "x").unwrap();
    }
    assert_eq!(doctor(&data, &[]).1["backup"], "warning", "none of these is a scheduled backup");
    assert!(fs::read(data.join("keyward.db")).unwrap() == before);
    assert!(keyward_in(&data, &["backup", "create"]).status.success());
    assert_eq!(doctor(&data, &[]).1["backup"], "ok");
}

#[test]
fn the_doctor_finds_a_backup_directory_that_the_server_cannot_write_to() {
    let dir = tempfile::tempdir().unwrap();
    let (data, place) = (dir.path().join("data"), dir.path().join("backups"));
    let doctor_of = |place: &Path| {
        let mut command = keyward();
        command.args(["doctor", "-o", "json", "--data-dir"]).arg(&data);
        let output = command.env("KEYWARD_BACKUP_DIR", place).output().unwrap();
        let found: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
        let it = found.into_iter().find(|it| it["check"] == "backup").unwrap();
        (it["state"].clone(), it["detail"].as_str().unwrap().to_owned())
    };
    assert!(Binary::serve(&data).terminate().status.success());
    assert_eq!(doctor_of(&place).0, "warning", "none yet; it is made when it is needed");
    let file = data.join("keyward.db");
    let (state, said) = doctor_of(&file.join("below"));
    assert!(state == "failed" && said.contains("Not a directory"), "{said}");
    fs::create_dir(&place).unwrap();
    fs::set_permissions(&place, Permissions::from_mode(0o500)).unwrap();
    if std::os::unix::fs::chown(&data, Some(12_345), None).is_ok() {
        // The directory is closed to that user and open to root, who runs this test.
        assert_eq!(doctor_of(&place).0, "failed");
        std::os::unix::fs::chown(&data, Some(0), None).unwrap();
    } else {
        assert_eq!(doctor_of(&place).0, "failed");
    }
    fs::set_permissions(&place, Permissions::from_mode(0o700)).unwrap();

    let may = Command::new("unshare").args(["--mount", "true"]).output();
    if !may.is_ok_and(|it| it.status.success()) {
        return crate::support::skip("a mount namespace needs root");
    }
    // systemd's `ProtectSystem=strict` does the same.
    let mount = format!("mount -t tmpfs -o ro none {} && exec \"$0\" \"$@\"", place.display());
    let wrapper = ["unshare", "--mount", "--propagation", "private", "sh", "-c", &mount];
    let server = Binary::serve_under(&wrapper, &data);
    let (state, said) = doctor_of(&place);
    assert!(state == "failed" && said.contains("ReadWritePaths="), "{said}");
    assert!(server.terminate().status.success());
    assert_eq!(doctor_of(&place).0, "warning");
}

#[test]
fn root_may_inspect_the_data_of_the_service() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    assert!(Binary::serve(&data).terminate().status.success());
    if std::os::unix::fs::chown(&data, Some(12_345), None).is_err() {
        return crate::support::skip("giving a directory away needs root");
    }
    for file in fs::read_dir(&data).unwrap() {
        std::os::unix::fs::chown(file.unwrap().path(), Some(12_345), None).unwrap();
    }
    let (code, found) = doctor(&data, &[]);
    assert_eq!((code, &found["data directory"]), (0, &"ok".into()), "{found}");
}

#[test]
fn a_file_of_another_user_is_named_with_what_to_do() {
    use std::os::unix::{fs::chown, process::CommandExt};
    const OWNER: u32 = 65_534;
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
    let sound = dir.path().join("sound");
    let mut server = Binary::serve(&sound);
    // A killed server leaves all of these files behind.
    server.child.kill().unwrap();
    server.child.wait().unwrap();
    let all = || fs::read_dir(&sound).unwrap().map(|it| it.unwrap().path());
    if all().chain([sound.clone()]).any(|it| chown(it, Some(OWNER), Some(OWNER)).is_err()) {
        return crate::support::skip("giving a file away needs root");
    }
    let as_owner = |arguments: &[&str], data: &Path| {
        let mut command = keyward();
        command.args(arguments).arg("--data-dir").arg(data).current_dir("/");
        command.uid(OWNER).gid(OWNER).output()
    };
    if as_owner(&["health"], &sound).is_err() {
        return crate::support::skip("another user may not run the binary");
    }
    let serve = ["serve", "--listen", "127.0.0.1:0"];
    let give: fn(&Path) = |it| chown(it, Some(0), Some(0)).unwrap();
    let close: fn(&Path) = |it| fs::set_permissions(it, Permissions::from_mode(0o200)).unwrap();
    let link: fn(&Path) = |it| {
        fs::remove_file(it).unwrap();
        std::os::unix::fs::symlink("/dev/null", it).unwrap();
    };
    let cases = [
        ("keyward.db", give, "belongs to root, and the data directory"),
        ("keyward.db-wal", give, "`chown nobody "),
        ("keyward.db-shm", give, "belongs to root"),
        ("keyward.lock", give, "belongs to root"),
        ("keyward.db", close, "chmod 600"),
        ("keyward.db-wal", close, "chmod 600"),
        ("keyward.lock", link, "is not a file"),
    ];
    for (file, harm, says) in cases {
        let data = dir.path().join("data");
        assert!(Command::new("cp").arg("-a").args([&sound, &data]).status().unwrap().success());
        let harmed = data.join(file);
        harm(&harmed);
        let output = as_owner(&serve, &data).unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(78), "{file}: {said}");
        assert!(said.contains(&format!("keyward: {}", harmed.display())), "{said}");
        assert!(said.contains(says), "{said}");
        let (code, found) = doctor(&data, &[]);
        assert_eq!((code, &found["data files"]), (1, &"failed".into()), "{file}: {found}");
        fs::remove_dir_all(&data).unwrap();
    }
}

#[test]
fn a_directory_that_other_users_may_write_to_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    assert!(Binary::serve(&data).terminate().status.success());
    for mode in [0o770, 0o702] {
        fs::set_permissions(&data, Permissions::from_mode(mode)).unwrap();
        let (started, code, failed) = verdicts(&data);
        assert_eq!((started, code), (Some(78), 1), "{mode:o}: {failed:?}");
        assert!(failed.iter().any(|it| it == "data files"), "{failed:?}");
    }
}
