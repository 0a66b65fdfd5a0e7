//! Files that `keyward apply` applies.

use std::{fs, path::Path, process::Output};

use rusqlite::Connection;

use super::{
    TestServer,
    import::{json_of, sha256},
    keyward, keyward_in,
};

/// Applies this text, and returns the exit code and both outputs. For `--prune`, the text is complete.
pub fn apply(data: &Path, text: &str, arguments: &[&str]) -> (i32, String, String) {
    let ends = arguments.contains(&"--prune") && !text.is_empty() && !text.contains("[end]");
    apply_as_it_stands(data, &format!("{text}{}", if ends { "[end]\n" } else { "" }), arguments)
}

pub fn apply_as_it_stands(data: &Path, text: &str, arguments: &[&str]) -> (i32, String, String) {
    let path = data.with_file_name("apply.toml");
    fs::write(&path, text).unwrap();
    let output = keyward_in(data, &[&["apply", path.to_str().unwrap()], arguments].concat());
    told(&output)
}

pub fn told(output: &Output) -> (i32, String, String) {
    let text = |it: &[u8]| String::from_utf8_lossy(it).into_owned();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

/// Applies this text without an error, and returns what it says.
#[track_caller]
pub fn applied(data: &Path, text: &str, arguments: &[&str]) -> String {
    let (code, said, errors) = apply(data, text, arguments);
    assert_eq!(code, 0, "{said}{errors}");
    said
}

/// Returns the number of events. The first use of an imported key is recorded later, so it is not counted.
pub fn count(server: &TestServer) -> i64 {
    let database = Connection::open(server.database()).unwrap();
    let count = "SELECT count(*) FROM events WHERE type <> 'api_key.rehashed'";
    database.query_row(count, [], |row| row.get(0)).unwrap()
}

/// Runs a dry run and then the run. Both must say the same, and only the run may change anything.
#[track_caller]
pub fn rehearsed(server: &TestServer, text: &str, arguments: &[&str]) -> (i32, String) {
    let data = server.data_dir();
    let before = count(server);
    let (dry_code, dry, errors) = apply(&data, text, &[arguments, &["--dry-run"]].concat());
    assert_eq!(count(server), before, "a dry run records nothing: {dry}{errors}");
    let (code, said, errors) = apply(&data, text, arguments);
    assert_eq!(dry, said, "{errors}");
    let quiet = said.lines().count() == 1;
    assert_eq!(dry_code, if quiet { 0 } else { 3 }, "{dry}{errors}");
    (code, said)
}

pub fn summary(created: u8, updated: u8, revoked: u8, suspended: u8, left: u8) -> String {
    format!(
        "{created} created, {updated} updated, {revoked} revoked, {suspended} suspended, {left} left\n"
    )
}

pub fn nothing() -> String {
    summary(0, 0, 0, 0, 0)
}

/// Returns a key of keyward's own shape and its digest.
pub fn generated() -> (String, String) {
    let output = keyward().args(["root-key", "generate", "-o", "json"]).output().unwrap();
    let made = json_of(&output);
    let text = |name: &str| made[name].as_str().unwrap().to_owned();
    (text("key"), text("digest").replace("sha256:", ""))
}

pub const TEXTS: [&str; 3] = [
    "sk_live_51HabcdefGHIJKLmnopQR-a",
    "sk_live_51HabcdefGHIJKLmnopQR-b",
    "sk_live_51HabcdefGHIJKLmnopQR-c",
];

/// Returns a file with an account and its key, and a key of the operator.
pub fn small() -> String {
    format!(
        "[[keys]]\nname = \"Gateway\"\nsha256 = \"{}\"\nscopes = [\"api-keys:verify\"]\n\n\
         [[accounts]]\nexternal_id = \"cust_42\"\nname = \"Acme\"\n\n\
         [[accounts.keys]]\nname = \"Shop\"\nsha256 = \"{}\"\nscopes = [\"orders:read\"]\n",
        sha256(TEXTS[0]),
        sha256(TEXTS[1]),
    )
}
