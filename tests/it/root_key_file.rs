//! A first start with a root key from a file.

use std::{
    fs::{self, Permissions},
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::{Output, Stdio},
};

use keyward::domain::{plaintext_key::PlaintextKey, root_key::ProvidedRootKey};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{Binary, Logged, Process, Request, keyward, keyward_in};

/// A directory with a file that provides the root key, and the configuration that names it.
struct Place {
    dir: TempDir,
}

impl Place {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    /// Writes the file with this mode.
    fn with(content: &str, mode: u32) -> Self {
        let place = Self::new();
        place.write(content, mode);
        place
    }

    fn write(&self, content: &str, mode: u32) {
        fs::write(self.file(), content).unwrap();
        fs::set_permissions(self.file(), Permissions::from_mode(mode)).unwrap();
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("root-key")
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    fn serve(&self) -> Logged {
        let config = self.dir.path().join("keyward.toml");
        fs::write(&config, format!("root_key_file = '{}'\n", self.file().display())).unwrap();
        Logged::serve(&self.data(), &["--config", config.to_str().unwrap()])
    }

    /// Starts a server that is expected to end at once. Waits with a deadline, because it may block.
    fn refused(&self) -> String {
        let mut command = keyward();
        command.args(["serve", "--listen", "127.0.0.1:0", "--data-dir"]).arg(self.data());
        command.env("KEYWARD_ROOT_KEY_FILE", self.file());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let output = Process::start(&mut command).wait_for_end();
        let said = text(&output);
        assert_eq!(output.status.code(), Some(78), "{said}");
        assert!(!self.data().exists(), "nothing is made: {said}");
        said
    }
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&[&*output.stdout, &*output.stderr].concat()).into_owned()
}

/// Returns a new key and the line with its digest, as the command prints them.
fn generated() -> (String, String) {
    let output = keyward().args(["root-key", "generate", "--digest"]).output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    let said = String::from_utf8(output.stdout).unwrap();
    let (key, digest) = said.split_once('\n').unwrap();
    (key.to_owned(), digest.trim_end().to_owned())
}

fn get(server: &Binary, key: &str, path: &str) -> Value {
    Request::new("GET", path).key(key).send(server.address).expect(200).json()
}

fn status(server: &Binary, key: &str) -> u16 {
    Request::new("GET", "/api/v1/scopes").key(key).send(server.address).status
}

/// Returns the data of the newest event of this type.
fn event(server: &Binary, key: &str, of: &str) -> Value {
    let list = get(server, key, &format!("/api/v1/events?type={of}"));
    list["data"][0]["data"].clone()
}

#[test]
fn a_command_makes_keys_that_keyward_accepts() {
    let (key, digest) = generated();
    let parsed = PlaintextKey::parse(key.as_bytes()).expect("a key");
    assert_eq!(digest, ProvidedRootKey::digest_line(&parsed));
    let output = keyward().args(["root-key", "generate"]).output().unwrap();
    assert_eq!(output.stdout.len(), 51, "a line and nothing else");
    assert_ne!(output.stdout, format!("{key}\n").into_bytes());
    let output = keyward().args(["root-key", "generate", "-o", "json"]).output().unwrap();
    let made: Value = serde_json::from_slice(&output.stdout).unwrap();
    let parsed = PlaintextKey::parse(made["key"].as_str().unwrap().as_bytes()).expect("a key");
    assert_eq!(made["digest"], json!(ProvidedRootKey::digest_line(&parsed)));
    let output = keyward()
        .args(["root-key", "generate"])
        .env("KEYWARD_KEYS_PREFIX", "acme")
        .output()
        .unwrap();
    assert!(output.stdout.starts_with(b"acme_"), "{}", text(&output));
}

#[test]
fn the_key_in_the_file_is_the_root_key_and_nothing_else_is_written() {
    let (key, _) = generated();
    let place = Place::with(&format!("{key}\n"), 0o600);
    let server = place.serve();
    assert!(!place.data().join("initial-root-key").exists());
    assert_eq!(status(&server.binary, &key), 200);
    let made = event(&server.binary, &key, "api_key.created");
    assert_eq!(made["after"]["scopes"], json!(["*"]));
    assert_eq!(made["after"]["keyPrefix"], json!(&key[..12]));
    let made = event(&server.binary, &key, "account.created");
    assert_eq!(made["rootKeyFile"], "key");
    let said = server.said();
    assert!(!said.contains(&key[12..]), "{said}");
    assert!(place.file().exists(), "the file is the operator's");
    assert!(server.binary.terminate().status.success());
}

#[test]
fn a_digest_is_enough_and_the_key_works_like_any_other() {
    let (key, digest) = generated();
    let place = Place::with(&digest, 0o644);
    let server = place.serve();
    assert!(!place.data().join("initial-root-key").exists());
    let (other, _) = generated();
    assert_eq!(status(&server.binary, &other), 401);
    assert_eq!(status(&server.binary, &key), 200);
    let bearer =
        Request::new("GET", "/api/v1/scopes").header("authorization", &format!("Bearer {key}"));
    assert_eq!(bearer.send(server.binary.address).status, 200);
    assert_eq!(event(&server.binary, &key, "account.created")["rootKeyFile"], "digest");
    assert_eq!(event(&server.binary, &key, "api_key.created")["imported"], "sha256");
    let own = get(&server.binary, &key, "/api/v1/api-keys");
    let id = own["data"][0]["id"].as_str().unwrap().to_owned();
    assert!(server.binary.terminate().status.success());

    let again = place.serve();
    assert_eq!(status(&again.binary, &key), 200, "also after a restart");
    let doctor = keyward_in(&place.data(), &["doctor", "-o", "json"]);
    let said = text(&doctor);
    assert!(!said.contains("\"failed\""), "{said}");
    let reset = keyward_in(&place.data(), &["root-key", "reset", "--revoke-others", "-o", "json"]);
    assert!(reset.status.success(), "{}", text(&reset));
    let reset: Value = serde_json::from_slice(&reset.stdout).unwrap();
    assert_eq!(reset["revoked"], json!([id]));
    assert_eq!(status(&again.binary, &key), 401);
    assert_eq!(status(&again.binary, &again.binary.root_key()), 200);
}

#[test]
fn a_root_key_that_was_given_by_its_digest_can_be_rotated() {
    let (key, digest) = generated();
    let place = Place::with(&digest, 0o644);
    let server = place.serve();
    let own = get(&server.binary, &key, "/api/v1/api-keys");
    let path = format!("/api/v1/api-keys/{}/rotate", own["data"][0]["id"].as_str().unwrap());
    let body = json!({ "gracePeriodSeconds": 60 });
    let rotated = Request::new("POST", &path).key(&key).json(&body).send(server.binary.address);
    let fresh = rotated.expect(200).json()["key"].as_str().unwrap().to_owned();
    assert_eq!((status(&server.binary, &key), status(&server.binary, &fresh)), (200, 200));
    let own = get(&server.binary, &fresh, "/api/v1/api-keys");
    assert_eq!(own["data"][0]["keyPrefix"], json!(&fresh[..12]));
}

#[test]
fn weak_and_malformed_files_are_refused_before_anything_is_made() {
    let (key, digest) = generated();
    let wrong = format!("{}0", &key[..49]);
    let public = "rg_8fK2mQ9zTabcdefghijklmnopqrstuvwxyz0123453bAXzK";
    let empty = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    let password = "sha256:5e884898da28047151d0e56f8dc6292773603d0d6aabbdd62a11ef721d1542d8";
    for (content, says) in [
        ("", "it is empty"),
        ("\n", "it is empty"),
        ("hunter2-hunter2-hunter2", "holds neither a key"),
        (if wrong == key { "x" } else { &wrong }, "holds neither a key"),
        (&format!("{key}\n{key}\n"), "holds neither a key"),
        (&digest["sha256:".len()..], "holds neither a key"),
        (&format!("{digest}  -"), "needs 64 hexadecimal digits"),
        (public, "publicly known"),
        (empty, "publicly known"),
        (password, "publicly known"),
        (&format!("sha256:{}", "ab".repeat(32)), "not random"),
    ] {
        let said = Place::with(content, 0o600).refused();
        assert!(said.contains(says), "{content}: {said}");
        let shown = content.len() > 12 && said.contains(&content[7..content.len().min(40)]);
        assert!(!shown, "the content is not repeated: {said}");
    }
    let said = Place::new().refused();
    assert!(said.contains("root-key") && said.contains("cannot be read"), "{said}");
}

#[test]
fn other_users_may_read_a_digest_but_neither_a_key_nor_may_they_write_to_either() {
    let (key, digest) = generated();
    for (content, mode, says) in [
        (&key, 0o644, "can be read by other users"),
        (&key, 0o604, "can be read by other users"),
        (&key, 0o602, "may write"),
        (&digest, 0o646, "may write"),
    ] {
        let said = Place::with(content, mode).refused();
        assert!(said.contains(says), "{mode:o}: {said}");
    }
    for (content, mode) in [(&key, 0o640), (&key, 0o440), (&digest, 0o444)] {
        let place = Place::with(content, mode);
        assert_eq!(status(&place.serve().binary, &key), 200, "{mode:o}");
    }
}

#[test]
fn a_secret_volume_of_kubernetes_is_accepted_with_its_usual_mode() {
    let (key, _) = generated();
    let place = Place::new();
    let volume = place.dir.path().join("..2026_01_20_10_00_00.123456789");
    fs::create_dir(&volume).unwrap();
    fs::write(volume.join("root-key"), &key).unwrap();
    fs::set_permissions(volume.join("root-key"), Permissions::from_mode(0o644)).unwrap();
    symlink(volume.file_name().unwrap(), place.dir.path().join("..data")).unwrap();
    symlink(Path::new("..data/root-key"), place.file()).unwrap();
    assert_eq!(status(&place.serve().binary, &key), 200);
}

#[test]
fn the_file_is_ignored_once_there_is_a_root_key() {
    let (key, _) = generated();
    let place = Place::with(&key, 0o600);
    assert!(place.serve().binary.terminate().status.success());
    let (other, _) = generated();
    for content in [Some(&*other), Some("password"), None] {
        match content {
            Some(content) => place.write(content, 0o666),
            None => fs::remove_file(place.file()).unwrap(),
        }
        let server = place.serve();
        assert_eq!((status(&server.binary, &key), status(&server.binary, &other)), (200, 401));
        assert!(server.binary.terminate().status.success());
        let said = fs::read_to_string(&server.stderr).unwrap();
        assert_eq!(said.matches("root_key_file is ignored").count(), 1, "{said}");
    }
}

#[test]
fn a_credential_of_the_service_provides_the_root_key() {
    let (key, digest) = generated();
    let dir = tempfile::tempdir().unwrap();
    for name in ["root-key", "keyward_root-key"] {
        let credentials = dir.path().join(format!("credentials-{name}"));
        fs::create_dir(&credentials).unwrap();
        fs::write(credentials.join(name), &digest).unwrap();
        let directory = credentials.to_str().unwrap();
        let data = dir.path().join(name);
        let server = Binary::serve_with(&data, &[("CREDENTIALS_DIRECTORY", directory)]);
        assert_eq!(status(&server, &key), 200);
        assert!(!data.join("initial-root-key").exists());
    }
}

#[test]
fn a_pipe_or_a_device_is_refused_and_blocks_nothing() {
    let place = Place::new();
    let made = std::process::Command::new("mkfifo").arg(place.file()).status().unwrap();
    assert!(made.success());
    let said = place.refused();
    assert!(said.contains("it is not a regular file"), "{said}");
    fs::remove_file(place.file()).unwrap();
    for target in ["/dev/zero", "/"] {
        symlink(target, place.file()).unwrap();
        let said = place.refused();
        assert!(said.contains("it is not a regular file"), "{target}: {said}");
        fs::remove_file(place.file()).unwrap();
    }
    place.write(&"x".repeat(5_000), 0o600);
    let said = place.refused();
    assert!(said.contains("it is larger than 4096 bytes"), "{said}");
}
