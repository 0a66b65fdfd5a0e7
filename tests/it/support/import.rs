//! Files of keys that another system issued.

use std::{fs, path::Path, process::Output};

use keyward::domain::imported_key::ImportedKey;
use serde_json::{Value, json};

use super::{Binary, Request, keyward_in};

pub const OLD: &str = "sk_live_51HabcdefGHIJKLmnopQR";

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|it| format!("{it:02x}")).collect()
}

pub fn sha256(text: &str) -> String {
    hex(&ImportedKey::parse(text.as_bytes()).unwrap().sha256())
}

pub fn sha512(text: &str) -> String {
    hex(&ImportedKey::parse(text.as_bytes()).unwrap().sha512())
}

/// Imports these rows and returns the exit code and the report.
pub fn import(data: &Path, file: &str, text: &str, arguments: &[&str]) -> (i32, Value) {
    let path = data.with_file_name(file);
    fs::write(&path, text).unwrap();
    let fixed = ["import", path.to_str().unwrap(), "-o", "json"];
    let output = keyward_in(data, &[&fixed, arguments].concat());
    (output.status.code().unwrap(), json_of(&output))
}

pub fn json_of(output: &Output) -> Value {
    let said = String::from_utf8_lossy(&output.stderr);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("no report: {said}"))
}

pub fn verify(server: &Binary, root: &str, key: &str) -> Value {
    let request = Request::new("POST", "/api/v1/api-keys/verify").key(root);
    request.json(&json!({ "key": key })).send(server.address).expect(200).json()
}

pub fn code(server: &Binary, root: &str, key: &str) -> Value {
    verify(server, root, key)["code"].clone()
}

/// Returns a data directory with a place for files beside it.
pub fn place() -> (tempfile::TempDir, std::path::PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    (dir, data)
}

pub fn rows(rows: &[Value]) -> String {
    rows.iter().map(|it| format!("{it}\n")).collect()
}
