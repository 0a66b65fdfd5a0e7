//! A disk that fails under a first start or under a command: the next start succeeds, and the exit code tells
//! whether trying again may help.

use std::{
    ffi::OsStr,
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use crate::support::{Binary, Process, Request, keyward, keyward_in, skip};

/// Every file that a first start makes, and those that become one of them.
const FILES: [&str; 13] = [
    "",
    "keyward.db",
    "keyward.db-wal",
    "keyward.db-shm",
    "keyward.db-journal",
    "keyward.lock",
    "initial-root-key",
    "initial-root-key.new",
    "checkpoint",
    "checkpoint.new",
    "checkpoint.key",
    "checkpoint.key.new",
    "checkpoint.pub",
];
const FAST: [(&str, &str); 2] =
    [("KEYWARD_KEYS_HASH_ITERATIONS", "1000"), ("KEYWARD_LOG_LEVEL", "error")];

fn may_trace() -> bool {
    let traced = Command::new("strace").args(["-qq", "-o", "/dev/null", "true"]).status();
    let may = traced.is_ok_and(|it| it.success());
    if !may {
        skip("failing a system call needs strace and the right to trace");
    }
    may
}

/// The end of a program, one of whose system calls failed.
struct Ended {
    code: Option<i32>,
    says: String,
    /// Whether there was such a call.
    failed: bool,
}

/// Runs the program while a system call on one of these files fails, such as `fsync:error=EIO:when=2`. Stops
/// a server that starts all the same.
fn failing(fault: &str, files: &[PathBuf], arguments: &[&str], data: &Path) -> Ended {
    let calls = data.with_extension("calls");
    let call = fault.split(':').next().expect("a call");
    let mut strace = Command::new("strace");
    strace.args(["-D", "-f", "-a1", "-s0", "-o"]).arg(&calls);
    strace.args(["-e", &format!("trace={call}"), "-e", &format!("inject={fault}")]);
    strace.args(files.iter().flat_map(|it| [OsStr::new("-P"), it.as_os_str()]));
    strace.arg(keyward().get_program()).args(arguments).arg("--data-dir").arg(data).envs(FAST);
    strace.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = Process::start(&mut strace);
    let mut line = String::new();
    let mut out = BufReader::new(child.stdout.take().expect("its output"));
    out.read_line(&mut line).expect("its output");
    if line.contains("http://") {
        child.signal("-TERM");
    }
    let number = child.id().to_string();
    let output = child.wait_for_end();
    // The tracer writes its last line after the end of the program.
    let deadline = Instant::now() + Duration::from_secs(30);
    let calls = loop {
        let text = fs::read_to_string(&calls).unwrap_or_default();
        let mut lines = text.lines().map(str::split_whitespace);
        if lines.any(|mut it| it.next() == Some(&number) && it.next() == Some("+++")) {
            break text;
        }
        assert!(Instant::now() < deadline, "the tracer goes on: {text}");
        thread::sleep(Duration::from_millis(2));
    };
    Ended {
        code: output.status.code(),
        says: String::from_utf8_lossy(&output.stderr).into_owned(),
        failed: calls.contains("(INJECTED)"),
    }
}

/// Fails each of these calls of a first start, then starts again. Tries fewer of the later calls of one
/// name: those of SQLite are many. Returns how many failed.
fn fail_first_starts(call: &str, error: &str) -> usize {
    let (mut n, mut tried) = (1, 0);
    loop {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let data = dir.path().join("data");
        let files = FILES.map(|it| if it.is_empty() { data.clone() } else { data.join(it) });
        let fault = format!("{call}:error={error}:when={n}");
        let first = failing(&fault, &files, &["serve", "--listen", "127.0.0.1:0"], &data);
        if !first.failed {
            return tried;
        }
        assert!(
            matches!(first.code, Some(0 | 75 | 78)),
            "{fault}: {:?} {}",
            first.code,
            first.says
        );
        assert!(!first.says.contains("panicked"), "{fault}: {}", first.says);
        let server = Binary::serve_with(&data, &FAST);
        let root = server.root_key();
        Request::new("GET", "/api/v1/scopes").key(&root).send(server.address).expect(200);
        assert!(server.terminate().status.success(), "{fault}");
        (n, tried) = (n + 1 + n / 4, tried + 1);
    }
}

#[test]
fn a_first_start_whose_disk_is_full_is_no_obstacle_to_the_next_one() {
    if !may_trace() {
        return;
    }
    for (call, least) in [("write", 2), ("pwrite64", 9), ("openat", 5), ("mkdir", 0)] {
        let tried = fail_first_starts(call, "ENOSPC");
        assert!(least < tried, "{call}: {tried}");
    }
}

#[test]
fn a_first_start_whose_disk_fails_is_no_obstacle_to_the_next_one() {
    if !may_trace() {
        return;
    }
    for (call, least) in [("fsync", 5), ("rename", 1), ("unlink", 0), ("ftruncate", 0)] {
        let tried = fail_first_starts(call, "EIO");
        assert!(least < tried, "{call}: {tried}");
    }
}

/// Returns a stopped server's directory, and a backup of it.
fn with_backup(dir: &Path) -> (PathBuf, PathBuf) {
    let (data, backup) = (dir.join("data"), dir.join("made.db"));
    assert!(Binary::serve(&data).terminate().status.success());
    let made = keyward_in(&data, &["backup", "create", "--to", backup.to_str().expect("text")]);
    assert!(made.status.success(), "{made:?}");
    (data, backup)
}

#[test]
fn a_backup_that_finds_no_room_names_its_file_and_may_be_tried_again() {
    if !may_trace() {
        return;
    }
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (data, _) = with_backup(dir.path());
    let to = dir.path().join("second.db");
    let partial = dir.path().join("second.db.partial");
    let create = ["backup", "create", "--to", to.to_str().expect("text")];
    for (fault, cause) in [
        ("pwrite64:error=ENOSPC:when=2", "the disk is full"),
        ("pwrite64:error=EIO:when=3", "the disk failed"),
        ("openat:error=ENOSPC:when=1", "No space left on device"),
        ("rename:error=EIO:when=1", "Input/output error"),
    ] {
        let ended = failing(fault, &[partial.clone(), to.clone()], &create, &data);
        assert!(ended.failed, "{fault}: {}", ended.says);
        assert_eq!(ended.code, Some(75), "{fault}: {}", ended.says);
        let message = ended.says.rsplit("keyward: ").next().expect("a message");
        assert!(message.contains(to.to_str().expect("text")), "{fault}: {message}");
        assert_eq!(message.matches(cause).count(), 1, "{fault}: {message}");
        assert!(!to.exists() && !partial.exists(), "{fault}");
    }
}

/// SQLite reports a page that the disk did not give among the faults of the file.
#[test]
fn a_backup_that_the_disk_does_not_give_is_not_called_damaged() {
    if !may_trace() {
        return;
    }
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (data, backup) = with_backup(dir.path());
    let restore = ["backup", "restore", "--yes", backup.to_str().expect("text")];
    // SQLite repeats the reads before these.
    for n in [14, 20, 26, 32, 40] {
        let fault = format!("pread64:error=EIO:when={n}");
        let ended = failing(&fault, std::slice::from_ref(&backup), &restore, &data);
        assert!(ended.failed, "{fault}: {}", ended.says);
        assert_eq!(ended.code, Some(75), "{fault}: {}", ended.says);
        assert!(ended.says.contains("the disk failed"), "{fault}: {}", ended.says);
        assert!(!ended.says.contains("damaged"), "{fault}: {}", ended.says);
    }
    assert!(keyward_in(&data, &restore).status.success());
}
