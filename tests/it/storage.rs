//! A full or read-only disk: changes are refused for now, and nothing is damaged afterwards.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::support::{Binary, Request, Response, keyward_in, skip};

/// A small file system of its own, unmounted when this value is dropped.
struct SmallDisk {
    path: PathBuf,
    _dir: tempfile::TempDir,
}

impl SmallDisk {
    /// Returns `None` if mounting is not allowed.
    fn mount(size: &str) -> Option<Self> {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("disk");
        fs::create_dir(&path).expect("a mount point");
        let options = format!("size={size},mode=0700");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &options, "keyward-test"]).arg(&path);
        let mounted = mount.output().is_ok_and(|it| it.status.success());
        // Not `then_some`: dropping the value unmounts the disk.
        mounted.then(|| Self { path, _dir: dir })
    }
}

impl SmallDisk {
    /// Remounts it `ro` or `rw`. No file may be open for writing.
    fn remount(&self, how: &str) {
        let mut mount = Command::new("mount");
        mount.args(["-o", &format!("remount,{how}")]).arg(&self.path);
        assert!(mount.status().expect("mount runs").success(), "{how}");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg("-l").arg(&self.path).status();
        assert!(unmounted.is_ok_and(|it| it.success()) || std::thread::panicking());
    }
}

fn create(server: &Binary, root: &str) -> Response {
    let body = json!({ "name": "x".repeat(100), "scopes": ["orders:read"] });
    Request::new("POST", "/api/v1/api-keys").key(root).json(&body).send(server.address)
}

fn verify(server: &Binary, root: &str, key: &str) -> Response {
    let body = json!({ "key": key });
    Request::new("POST", "/api/v1/api-keys/verify").key(root).json(&body).send(server.address)
}

/// Fills the disk.
fn fill(disk: &Path) -> PathBuf {
    let ballast = disk.join("ballast");
    let mut file = fs::File::create(&ballast).expect("a file");
    let block = [0_u8; 4096];
    while std::io::Write::write_all(&mut file, &block).is_ok() {}
    ballast
}

#[test]
fn a_full_disk_is_answered_with_503_while_verification_goes_on_and_no_change_is_half_done() {
    let Some(disk) = SmallDisk::mount("4m") else {
        skip("mounting a small file system needs root");
        return;
    };
    let server = Binary::serve(&disk.path.join("data"));
    let root = server.root_key();
    let before = create(&server, &root).expect(201).json();
    let ballast = fill(&disk.path);

    let mut made = 1;
    let refused = loop {
        let answer = create(&server, &root);
        if answer.status != 201 {
            break answer;
        }
        made += 1;
        assert!(made < 5_000, "the disk never fills");
    };
    assert_eq!(refused.clone().expect(503).problem(), "unavailable");
    assert_eq!(refused.header("retry-after"), Some("1"));
    assert_eq!(refused.json()["detail"], "the storage is full");
    // A change without effect writes nothing, so it succeeds on a full disk.
    let path = format!("/api/v1/api-keys/{}", before["id"].as_str().unwrap());
    let same = json!({ "name": before["name"] });
    Request::new("PUT", &path).key(&root).json(&same).send(server.address).expect(200);
    let metrics = Request::new("GET", "/metrics").send(server.address).expect(200).text();
    assert!(metrics.contains("\nkeyward_storage_available 0\n"), "{metrics}");
    let key = before["key"].as_str().unwrap();
    assert_eq!(verify(&server, &root, key).expect(200).json()["code"], "VALID");

    fs::remove_file(ballast).expect("room again");
    create(&server, &root).expect(201);
    made += 1;
    let checks = Request::new("GET", "/readyz?verbose").send(server.address);
    assert!(checks.expect(503).text().contains("[+]writer ok\n[+]reader ok\n[-]disk failed: "));
    let output = server.terminate();
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(log.contains("the disk is full"), "named in the log: {log}");
    assert!(output.status.success(), "{log}");

    let server = Binary::serve(&disk.path.join("data"));
    let list = Request::new("GET", "/api/v1/api-keys").key(&root).send(server.address);
    let keys = list.expect(200).json()["data"].as_array().unwrap().len();
    assert_eq!(keys, made + 1, "the root key and every key that was answered, and no other");
    assert_eq!(verify(&server, &root, key).expect(200).json()["code"], "VALID");
}

/// A sound data directory with keys whose creation or revocation was answered.
struct Kept {
    data: PathBuf,
    root: String,
    good: String,
    revoked: String,
}

impl Kept {
    /// The server is either killed or stopped, which leaves different files behind.
    fn on(disk: &Path, killed: bool) -> Self {
        let data = disk.join("data");
        let mut server = Binary::serve(&data);
        let root = server.root_key();
        let [good, gone] = [(); 2].map(|()| create(&server, &root).expect(201).json());
        let path = format!("/api/v1/api-keys/{}", gone["id"].as_str().unwrap());
        Request::new("DELETE", &path).key(&root).send(server.address).expect(204);
        if killed {
            server.child.kill().expect("it runs");
            server.child.wait().expect("its end");
        } else {
            assert!(server.terminate().status.success());
        }
        let [good, revoked] = [good, gone].map(|it| it["key"].as_str().unwrap().to_owned());
        Self { data, root, good, revoked }
    }

    fn check(&self, server: &Binary) {
        for (key, code) in [(&self.good, "VALID"), (&self.revoked, "REVOKED")] {
            assert_eq!(verify(server, &self.root, key).expect(200).json()["code"], code);
        }
        let list = Request::new("GET", "/api/v1/api-keys").key(&self.root).send(server.address);
        assert_eq!(list.expect(200).json()["data"].as_array().unwrap().len(), 2);
    }

    /// Checks that the server verifies keys, refuses changes and gives the reason.
    fn check_refusing(&self, server: &Binary, why: &str) {
        self.check(server);
        let refused = create(server, &self.root).expect(503);
        assert_eq!(refused.problem(), "unavailable");
        assert_eq!(refused.header("retry-after"), Some("1"));
        assert_eq!(refused.json()["detail"], why);
        let ready = Request::new("GET", "/readyz").send(server.address).expect(503);
        assert_eq!(ready.json()["detail"], why);
    }

    /// Checks that nothing is missing once changes are accepted again, and that the log holds the
    /// start.
    fn check_recovered(&self, server: Binary) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while create(&server, &self.root).status != 201 {
            assert!(Instant::now() < deadline, "it never recovers");
            thread::sleep(Duration::from_millis(100));
        }
        assert_eq!(verify(&server, &self.root, &self.good).expect(200).json()["code"], "VALID");
        let page = Request::new("GET", "/api/v1/events").key(&self.root).send(server.address);
        let starts = |page: &Value| {
            let events = page["data"].as_array().unwrap().clone();
            events.into_iter().filter(|it| it["type"] == "server.started").count()
        };
        let before = starts(&page.expect(200).json());
        let output = server.terminate();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let server = Binary::serve(&self.data);
        let page = Request::new("GET", "/api/v1/events").key(&self.root).send(server.address);
        let after = starts(&page.expect(200).json());
        assert_eq!((before.max(1), after), (before.max(1), 3), "the log holds each start");
        let verified = keyward_in(&self.data, &["events", "verify"]);
        assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stdout));
    }
}

#[test]
fn a_server_starts_on_a_full_disk_and_accepts_changes_once_there_is_space() {
    for killed in [false, true] {
        let Some(disk) = SmallDisk::mount("4m") else {
            return skip("mounting a small file system needs root");
        };
        let kept = Kept::on(&disk.path, killed);
        let ballast = fill(&disk.path);
        let server = Binary::serve(&kept.data);
        // An existing write-ahead log may have space for some changes.
        let mut made = 0;
        while create(&server, &kept.root).status == 201 {
            made += 1;
            assert!(made < 500, "the disk never fills");
        }
        if made == 0 {
            kept.check_refusing(&server, "the storage is full");
        }
        fs::remove_file(ballast).expect("room again");
        kept.check_recovered(server);
    }
}

#[test]
fn a_server_starts_on_a_read_only_disk_and_accepts_changes_once_it_is_writable() {
    for killed in [false, true] {
        let Some(disk) = SmallDisk::mount("80m") else {
            return skip("mounting a small file system needs root");
        };
        let kept = Kept::on(&disk.path, killed);
        disk.remount("ro");
        // A command without a server needs a socket of its own.
        for command in [&["keys", "list"][..], &["clock", "accept"]] {
            let output = keyward_in(&kept.data, command);
            let says = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(output.status.code(), Some(78), "{command:?}: {says}");
            assert!(says.contains("command.sock cannot be used: Read-only"), "{command:?}: {says}");
        }
        let server = Binary::serve(&kept.data);
        kept.check_refusing(&server, "the storage is read-only");
        let doctor = keyward_in(&kept.data, &["doctor"]);
        let says = String::from_utf8_lossy(&doctor.stdout).into_owned();
        assert_eq!(doctor.status.code(), Some(1), "{says}");
        assert!(says.contains("the file system is read-only"), "{says}");
        disk.remount("rw");
        kept.check_recovered(server);
    }
}

#[test]
fn a_first_start_on_a_full_disk_reports_it() {
    let Some(disk) = SmallDisk::mount("1m") else {
        return skip("mounting a small file system needs root");
    };
    fill(&disk.path);
    let data = disk.path.join("data");
    let output = keyward_in(&data, &["serve", "--listen", "127.0.0.1:0"]);
    let says = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(75), "{says}");
    let wanted = format!("keyward: the disk of {} is full: 0 bytes free", data.display());
    assert!(says.contains(&wanted), "{says}");
}

#[test]
fn files_are_only_for_their_owner_and_no_core_dump_is_made() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let data = dir.path().join("data");
    let lax =
        ["sh", "-c", "umask 000; ulimit -c unlimited 2>/dev/null || true; exec \"$0\" \"$@\""];
    let server = Binary::serve_under(&lax, &data);
    let process = |file: &str| fs::read_to_string(format!("/proc/{}/{file}", server.child.id()));
    let limits = process("limits").expect("its limits");
    let core = limits.lines().find(|it| it.starts_with("Max core file size")).expect("a limit");
    assert_eq!(core.split_whitespace().rev().nth(1), Some("0"), "{core}");
    // Root owns the files of a process that is not dumpable, so only root can see this from the
    // outside.
    let owner = fs::metadata(format!("/proc/{}/mem", server.child.id())).expect("it runs");
    assert_eq!(std::os::unix::fs::MetadataExt::uid(&owner), 0);
    assert!(keyward_in(&data, &["backup", "create"]).status.success());
    assert!(keyward_in(&data, &["run-job", "checkpoint"]).status.success());
    let mut looked = 0;
    let mut dirs = vec![data.clone()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(&dir).expect("a directory") {
            let path = entry.expect("an entry").path();
            let found = fs::metadata(&path).expect("a file");
            let mode = std::os::unix::fs::PermissionsExt::mode(&found.permissions());
            assert_eq!(mode & 0o077, 0, "{}: {mode:o}", path.display());
            looked += 1;
            dirs.extend(found.is_dir().then_some(path));
        }
    }
    assert!(8 < looked, "{looked}");
    server.child.signal("-ABRT");
    let status = server.wait().status;
    assert!(!std::os::unix::process::ExitStatusExt::core_dumped(&status), "{status}");
}

/// SQLite's locks belong to the process: closing the file anywhere in the process releases all of
/// them. Another program with an older SQLite then removes the write-ahead log, and changes are
/// lost.
#[test]
fn the_server_holds_its_lock_on_the_database_for_as_long_as_it_runs() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let server = Binary::serve_quietly(dir.path());
    let root = server.root_key();
    let database = fs::metadata(dir.path().join("keyward.db")).expect("the database");
    let inode = format!(":{} ", std::os::unix::fs::MetadataExt::ino(&database));
    let check = |when: &str| {
        let locks = fs::read_to_string("/proc/locks").expect("the locks of the system");
        let held = locks.lines().any(|it| it.contains("POSIX") && it.contains(&inode));
        assert!(held, "{when}: {locks}");
    };
    check("after the start");
    create(&server, &root).expect(201);
    for command in [&["backup", "create"][..], &["run-job", "upkeep"], &["doctor"]] {
        keyward_in(dir.path(), command);
        check(command[0]);
    }
}
