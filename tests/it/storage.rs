//! When the disk says no: refused for now, intact afterwards.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::json;

use crate::support::{Binary, Request, Response, skip};

/// A file system of its own that holds only so much; gone with this value.
struct SmallDisk {
    path: PathBuf,
    _dir: tempfile::TempDir,
}

impl SmallDisk {
    /// `None` where mounting is not allowed.
    fn mount(size: &str) -> Option<Self> {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("disk");
        fs::create_dir(&path).expect("a mount point");
        let options = format!("size={size},mode=0700");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &options, "keyward-test"]).arg(&path);
        let mounted = mount.output().is_ok_and(|it| it.status.success());
        // Not `then_some`: dropping the value unmounts.
        mounted.then(|| Self { path, _dir: dir })
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

/// Leaves no room on the disk.
fn fill(disk: &Path) -> PathBuf {
    let ballast = disk.join("ballast");
    let mut file = fs::File::create(&ballast).expect("a file");
    let block = [0_u8; 4096];
    while std::io::Write::write_all(&mut file, &block).is_ok() {}
    ballast
}

#[test]
fn a_full_disk_is_a_503_while_verification_goes_on_and_nothing_is_half_done() {
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
    let key = before["key"].as_str().unwrap();
    assert_eq!(verify(&server, &root, key).expect(200).json()["code"], "VALID");

    fs::remove_file(ballast).expect("room again");
    create(&server, &root).expect(201);
    made += 1;
    let checks = Request::new("GET", "/readyz?verbose").send(server.address);
    assert!(checks.expect(503).text().contains("[+]writer ok\n[+]reader ok\n[-]disk failed"));
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

#[test]
fn after_a_failed_sync_nothing_goes_on_and_every_answered_change_is_there() {
    let traced = Command::new("strace").args(["-qq", "-o", "/dev/null", "true"]).status();
    if !traced.is_ok_and(|it| it.success()) {
        skip("failing a sync needs strace and the right to trace");
        return;
    }
    let dir = tempfile::tempdir().expect("a temporary directory");
    let data = dir.path().join("data");
    // Every sync of a thread from its 30th on fails; only the writer has that many.
    let fault = "inject=fsync,fdatasync:error=EIO:when=30+";
    let strace = ["strace", "-D", "-f", "-qq", "-o", "/dev/null", "-e", "trace=fsync,fdatasync"];
    let server = Binary::serve_under(&[&strace[..], &["-e", fault]].concat(), &data);
    let root = server.root_key();
    let mut answered = Vec::new();
    let refused = loop {
        let answer = create(&server, &root);
        if answer.status != 201 {
            break answer;
        }
        answered.push(answer.json()["key"].as_str().unwrap().to_owned());
        assert!(answered.len() < 100, "the disk never fails");
    };
    assert_eq!(refused.expect(503).problem(), "unavailable");
    assert!(!answered.is_empty());
    let output = server.wait();
    let log = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(75), "{log}");
    assert!(log.contains("the disk failed"), "named in the log: {log}");

    let server = Binary::serve(&data);
    for key in &answered {
        assert_eq!(verify(&server, &root, key).expect(200).json()["code"], "VALID");
    }
    assert!(server.terminate().status.success());
}
