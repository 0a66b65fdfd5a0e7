//! Under systemd: signs of life, reloads, sockets that were opened before.

use std::{fs, os::unix::net::UnixListener, process::Command, time::Duration};

use crate::support::{Supervised, has, keyward};

const PLAIN: &str = "listen = \"127.0.0.1:0\"\n";

/// What a question before a request from another origin is answered through a proxy.
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
fn signs_of_life_come_for_as_long_as_the_writer_answers() {
    let dir = tempfile::tempdir().unwrap();
    let variables = [("WATCHDOG_USEC", "300000")];
    let server = Supervised::serve_with(dir.path(), PLAIN, &variables);
    for _ in 0..3 {
        server.hear("WATCHDOG=1");
    }
    // Somebody else holds the file: the writer waits, and nothing is heard meanwhile.
    let other = rusqlite::Connection::open(dir.path().join("data/keyward.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    // One may have been on its way.
    let heard = server.count_for(Duration::from_secs(1), "WATCHDOG=1");
    assert!(heard <= 1, "{heard}");
    drop(other);
    server.hear("WATCHDOG=1");
    assert!(server.terminate().status.success());
}

#[test]
fn its_status_tells_how_much_there_is_and_where() {
    let dir = tempfile::tempdir().unwrap();
    let server = Supervised::serve(dir.path(), PLAIN);
    server.signal("-HUP");
    server.hear("RELOADING=1");
    let notice = server.hear("READY=1");
    assert!(notice.contains("1 key values; http://127.0.0.1:"), "{notice}");
}

#[test]
fn a_reload_changes_what_can_change_and_names_what_cannot() {
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
    assert!(said.contains("listen") && said.contains("workers"), "every fault: {said}");
    assert_eq!(preflight(&server), "200", "as it was");
    let said = server.reload(&format!("{PLAIN}[log]\nlevel = \"error\"\n"));
    assert!(!said.contains("\"INFO\"") || said.contains("reloaded"), "{said}");
    let before = server.said().len();
    preflight(&server);
    assert_eq!(server.said().len(), before, "errors only");
}

#[test]
fn sockets_that_the_supervisor_opened_are_used_instead() {
    if !has(&["curl"]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("given.sock");
    let socket = UnixListener::bind(&path).unwrap();
    // sd_listen_fds(3): file descriptor 3, and the number of the process that it is for.
    let script = "exec 3<&0 0</dev/null; LISTEN_FDS=1 LISTEN_PID=$$ exec \"$0\" \"$@\"";
    let mut command = Command::new("sh");
    command.args(["-c", script]).arg(keyward().get_program());
    command.stdin(std::os::fd::OwnedFd::from(socket));
    let server = Supervised::start(dir.path(), PLAIN, command);
    let curl = Command::new("curl")
        .args(["-sS", "--unix-socket", path.to_str().unwrap(), "http://localhost/livez"])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&curl.stdout), "ok");
    assert!(!server.url("unix:").contains("http://"));
    assert!(server.terminate().status.success());
    assert!(path.exists(), "who made it removes it");
    fs::remove_file(&path).unwrap();
}
