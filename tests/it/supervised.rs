//! Under systemd: watchdog messages, reloads, and sockets that systemd has opened.

use std::{
    fs,
    io::Write,
    net::TcpStream,
    os::unix::net::UnixListener,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::support::{Supervised, has, keyward, keyward_in, skip};

const PLAIN: &str = "listen = \"127.0.0.1:0\"\n";

/// Returns the answer to a CORS preflight request through a proxy.
fn preflight(server: &Supervised) -> String {
    let url = server.url("http://");
    let mut curl = Command::new("curl");
    curl.args(["-sS", "-o", "/dev/null", "-w", "%{http_code}"]);
    curl.args(["-H", "X-Forwarded-Method: OPTIONS", "-H", "X-Forwarded-Uri: /x"]);
    curl.args(["-H", "Origin: https://a.example", "-H", "Access-Control-Request-Method: GET"]);
    let output = curl.arg(format!("{url}/authz/forward")).output().expect("curl");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn watchdog_messages_come_as_long_as_the_writer_answers() {
    let dir = tempfile::tempdir().unwrap();
    let variables = [("WATCHDOG_USEC", "300000")];
    let server = Supervised::serve_with(dir.path(), PLAIN, &variables);
    for _ in 0..3 {
        server.hear("WATCHDOG=1");
    }
    // Another process holds the file, so the writer waits and sends nothing.
    let other = rusqlite::Connection::open(dir.path().join("data/keyward.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    // One message may have been on its way.
    let heard = server.count_for(Duration::from_secs(1), "WATCHDOG=1");
    assert!(heard <= 1, "{heard}");
    drop(other);
    server.hear("WATCHDOG=1");
    assert!(server.terminate().status.success());
}

#[test]
fn no_watchdog_message_comes_while_a_worker_is_stuck() {
    let traced = Command::new("strace").args(["-qq", "-o", "/dev/null", "true"]).status();
    if !traced.is_ok_and(|it| it.success()) {
        skip("delaying a worker needs strace and the right to trace");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let bare = keyward();
    let mut command = Command::new("strace");
    // The first thread that receives data, which is a worker, is stuck for 5 seconds.
    command.args(["-D", "-f", "-qq", "-o", "/dev/null", "-e", "trace=recvfrom"]);
    command.args(["-e", "inject=recvfrom:delay_enter=5000000:when=1"]);
    command.arg(bare.get_program()).stdin(Stdio::null()).env("WATCHDOG_USEC", "300000");
    let server = Supervised::start(dir.path(), PLAIN, command);
    server.hear("WATCHDOG=1");
    // The address comes from the log. `Supervised::url` reloads, and `recvfrom` receives its signal
    // too.
    let said = server.said();
    let address = said.split("http://").nth(1).and_then(|it| it.split('"').next()).unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(b"GET /livez HTTP/1.1\r\n\r\n").unwrap();
    // Some messages may have been on their way.
    let heard = server.count_for(Duration::from_secs(1), "WATCHDOG=1");
    assert!(heard <= 3, "{heard}");
}

#[test]
fn its_status_shows_the_number_of_keys_and_the_address() {
    let dir = tempfile::tempdir().unwrap();
    let server = Supervised::serve(dir.path(), PLAIN);
    server.signal("-HUP");
    server.hear("RELOADING=1");
    let notice = server.hear("READY=1");
    assert!(notice.contains("1 credential; http://127.0.0.1:"), "{notice}");
}

#[test]
fn a_signal_starts_a_backup_and_the_server_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let server = Supervised::serve(dir.path(), PLAIN);
    server.signal("-USR1");
    let made = || {
        let files = fs::read_dir(dir.path().join("data/backups")).into_iter().flatten().flatten();
        files.map(|it| it.path()).find(|it| it.extension().is_some_and(|it| it == "sha256"))
    };
    let deadline = Instant::now() + Duration::from_secs(30);
    let digest = loop {
        if let Some(digest) = made() {
            break digest;
        }
        assert!(Instant::now() < deadline, "no backup: {}", server.said());
        std::thread::yield_now();
    };
    let backup = digest.with_extension("");
    let verified = keyward().args(["backup", "verify"]).arg(&backup).output().unwrap();
    assert!(verified.status.success(), "{verified:?}");
    assert!(server.terminate().status.success());
}

#[test]
fn a_reload_applies_what_can_change_and_names_what_cannot() {
    if !has(&["curl"]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let server = Supervised::serve(dir.path(), PLAIN);
    let said = server.reload(&format!("{PLAIN}[log]\nlevel = \"debug\"\n"));
    assert!(said.contains("reloaded"), "{said}");
    assert_eq!(preflight(&server), "401");
    let more = format!("{PLAIN}workers = 3\n[authz]\nallow_preflight = true\n");
    let said = server.reload(&more);
    assert!(said.contains("after a restart") && said.contains("workers"), "{said}");
    assert!(!said.contains("allow_preflight"), "{said}");
    assert_eq!(preflight(&server), "200");

    let said = server.reload("listen = 7\nworkers = \"x\"\n");
    assert!(said.contains("not reloaded"), "{said}");
    for setting in ["listen", "workers"] {
        assert_eq!(said.matches(setting).count(), 1, "every fault exactly once: {said}");
    }
    assert_eq!(preflight(&server), "200", "as it was");
    let said = server.reload(&format!("{PLAIN}[log]\nlevel = \"error\"\n"));
    assert!(!said.contains("\"INFO\"") || said.contains("reloaded"), "{said}");
    let before = server.said().len();
    preflight(&server);
    assert_eq!(server.said().len(), before, "errors only");
}

#[test]
fn sockets_that_the_supervisor_opened_are_used() {
    if !has(&["curl"]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("given.sock");
    let socket = UnixListener::bind(&path).unwrap();
    // sd_listen_fds(3): file descriptor 3, and the id of the process that it is for.
    let script = "exec 3<&0 0</dev/null; LISTEN_FDS=1 LISTEN_PID=$$ exec \"$0\" \"$@\"";
    let mut command = Command::new("sh");
    command.args(["-c", script]).arg(keyward().get_program());
    command.stdin(std::os::fd::OwnedFd::from(socket));
    let server = Supervised::start(dir.path(), PLAIN, command);
    let curl = Command::new("curl")
        .args(["-sS", "--unix-socket", path.to_str().unwrap(), "http://localhost/livez"])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&curl.stdout), "ok\n");
    assert!(!server.url("unix:").contains("http://"));
    assert!(server.terminate().status.success());
    assert!(path.exists(), "the program that made the socket removes it");
    fs::remove_file(&path).unwrap();
}

/// Gives the signing key only to the service, as `LoadCredential=` does.
fn hand_over_the_key(data: &Path, credentials: &Path) {
    fs::create_dir(credentials).unwrap();
    fs::rename(data.join("checkpoint.key"), credentials.join("checkpoint.key")).unwrap();
}

#[test]
fn commands_work_without_a_signing_key_that_only_the_service_can_read() {
    let dir = tempfile::tempdir().unwrap();
    assert!(Supervised::serve(dir.path(), PLAIN).terminate().status.success());
    let (data, credentials) = (dir.path().join("data"), dir.path().join("credentials"));
    hand_over_the_key(&data, &credentials);
    let public = fs::read_to_string(data.join("checkpoint.pub")).unwrap();
    let checkpoint = || fs::read_to_string(data.join("checkpoint")).unwrap();
    let signed = checkpoint();
    let state = || {
        let output = keyward_in(&data, &["doctor", "-o", "json"]);
        let found: Value = serde_json::from_slice(&output.stdout).unwrap();
        let found = found.as_array().unwrap();
        let key = found.iter().find(|it| it["check"] == "checkpoint key").unwrap().clone();
        (output.status.code().unwrap(), key["state"].clone())
    };
    assert_eq!(state(), (0, "warning".into()));
    for arguments in [&["keys", "list"][..], &["root-key", "reset"], &["backup", "create"]] {
        let output = keyward_in(&data, arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {said}");
    }
    assert_eq!(checkpoint(), signed, "nothing to sign with");
    assert!(!data.join("checkpoint.key").exists(), "no key is made");
    assert_eq!(keyward_in(&data, &["events", "verify"]).status.code(), Some(0));

    let output = keyward_in(&data, &["serve", "--listen", "127.0.0.1:0"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(78), "{said}");
    assert!(said.contains("credential of the service"), "{said}");

    let place = credentials.to_str().unwrap();
    let variables = [("CREDENTIALS_DIRECTORY", place)];
    let server = Supervised::serve_with(dir.path(), PLAIN, &variables);
    assert_eq!(state(), (0, "ok".into()), "the server can read the key");
    assert_ne!(checkpoint(), signed, "the start signs the changes of the commands");
    assert!(server.terminate().status.success());
    assert_eq!(fs::read_to_string(data.join("checkpoint.pub")).unwrap(), public);
    let said = keyward_in(&data, &["events", "verify"]).stdout;
    let said = String::from_utf8_lossy(&said).into_owned();
    let count = |line: &str| {
        let line = said.lines().find(|it| it.starts_with(line)).unwrap();
        line.split_whitespace().nth(1).unwrap().to_owned()
    };
    assert_eq!(count("signatures"), count("checkpoints"), "{said}");
}

#[test]
fn a_command_does_not_use_another_signing_key_in_place_of_the_servers() {
    let dir = tempfile::tempdir().unwrap();
    assert!(Supervised::serve(dir.path(), PLAIN).terminate().status.success());
    let (data, credentials) = (dir.path().join("data"), dir.path().join("credentials"));
    hand_over_the_key(&data, &credentials);
    let other = dir.path().join("other");
    fs::create_dir(&other).unwrap();
    assert!(Supervised::serve(&other, PLAIN).terminate().status.success());
    fs::rename(other.join("data/checkpoint.key"), data.join("checkpoint.key")).unwrap();
    let kept = ["checkpoint", "checkpoint.pub"].map(|it| fs::read(data.join(it)).unwrap());
    assert_eq!(keyward_in(&data, &["root-key", "reset"]).status.code(), Some(0));
    let found = ["checkpoint", "checkpoint.pub"].map(|it| fs::read(data.join(it)).unwrap());
    assert_eq!(found, kept);
}
