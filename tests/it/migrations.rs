//! Migrations from each version of the database file to the next.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use rusqlite::Connection;
use serde_json::json;

use crate::support::{
    Binary, Request,
    import::{OLD, code, import, place, rows, sha256},
    keyward, keyward_in, skip,
};

/// Every earlier version, and the SQL that makes it from the version after it.
const EARLIER: [(i64, &str, &str); 4] = [
    (4, include_str!("fixtures/schema-4.sql"), include_str!("fixtures/down-to-4.sql")),
    (3, include_str!("fixtures/schema-3.sql"), include_str!("fixtures/down-to-3.sql")),
    (2, include_str!("fixtures/schema-2.sql"), include_str!("fixtures/down-to-2.sql")),
    (1, include_str!("fixtures/schema-1.sql"), include_str!("fixtures/down-to-1.sql")),
];
const NOW: &str = include_str!("../../schema.sql");

/// Returns every table, index, view and trigger of the schema, without comments and white space.
fn shape(conn: &Connection) -> Vec<(String, String)> {
    let sql = "SELECT name, sql FROM sqlite_schema
        WHERE sql IS NOT NULL AND substr(name, 1, 7) != 'sqlite_' ORDER BY name";
    let mut statement = conn.prepare(sql).unwrap();
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get::<_, String>(1)?))).unwrap();
    let plain = |sql: String| {
        let lines = sql.lines().map(|it| it.split("--").next().unwrap_or_default());
        let words = lines.flat_map(str::split_whitespace).collect::<Vec<_>>().join(" ");
        // A column that was added later is written with other blanks.
        words.replace(" ,", ",").replace(" )", ")").replace("( ", "(")
    };
    rows.map(|row| row.map(|(name, sql)| (name, plain(sql))).unwrap()).collect()
}

/// Makes a database of the first version, with a root key in it.
fn old_database(data: &Path) -> String {
    database_of(data, 1)
}

/// Makes a database of this version, with a root key in it.
fn database_of(data: &Path, version: i64) -> String {
    let server = Binary::serve(data);
    let root = server.root_key();
    assert!(server.terminate().status.success());
    let conn = Connection::open(data.join("keyward.db")).unwrap();
    for (earlier, schema, down) in EARLIER.iter().filter(|(it, _, _)| version <= *it) {
        conn.execute_batch(down).unwrap();
        let fresh = Connection::open_in_memory().unwrap();
        fresh.execute_batch(schema).unwrap();
        assert_eq!(shape(&conn), shape(&fresh), "the schema of version {earlier}");
    }
    root
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[&*output.stdout, &*output.stderr].concat()).into_owned()
}

#[test]
fn a_migrated_database_has_the_schema_of_a_new_one() {
    for (version, _, _) in EARLIER {
        arrives_where_a_fresh_database_begins(version);
    }
}

fn arrives_where_a_fresh_database_begins(version: i64) {
    let dir = tempfile::tempdir().unwrap();
    let root = database_of(dir.path(), version);
    let server = Binary::serve(dir.path());
    Request::new("GET", "/api/v1/scopes").key(&root).send(server.address).expect(200);
    assert!(server.terminate().status.success());
    let migrated = Connection::open(dir.path().join("keyward.db")).unwrap();
    let fresh = Connection::open_in_memory().unwrap();
    fresh.execute_batch(NOW).unwrap();
    assert_eq!(shape(&migrated), shape(&fresh));
    for pragma in ["user_version", "application_id"] {
        let read =
            |it: &Connection| it.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0));
        assert_eq!(read(&migrated).unwrap(), read(&fresh).unwrap(), "{pragma}");
    }
    assert_eq!(keyward_in(dir.path(), &["events", "verify"]).status.code(), Some(0));
}

#[test]
fn the_migration_to_version_3_counts_keys_and_collects_uses() {
    let dir = tempfile::tempdir().unwrap();
    database_of(dir.path(), 2);
    let conn = Connection::open(dir.path().join("keyward.db")).unwrap();
    conn.execute_batch(
        "DELETE FROM credential_usage;
         INSERT INTO credential_usage SELECT key_id, prefix, 1 FROM credentials;
         INSERT INTO credential_usage SELECT id, 'rg_000000001', 7 FROM api_keys;
         INSERT INTO credential_usage SELECT id, 'rg_000000002', 5 FROM api_keys;",
    )
    .unwrap();
    drop(conn);
    assert!(keyward_in(dir.path(), &["keys", "list"]).status.success());
    let conn = Connection::open(dir.path().join("keyward.db")).unwrap();
    let number = |sql: &str| conn.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
    assert_eq!(number("SELECT stored FROM key_counts"), number("SELECT count(*) FROM api_keys"));
    assert_eq!(number("SELECT count(*) FROM credential_usage"), 2);
    let gathered = "SELECT last_used_at_ms FROM credential_usage WHERE prefix = ''";
    assert_eq!(number(gathered), 7, "the newest use of the deleted credentials");
}

#[test]
fn the_migration_to_version_4_keeps_imported_digests_and_refuses_imported_plaintext_keys() {
    let (_dir, data) = place();
    let root = database_of(&data, 4);
    let row = json!({ "name": "x", "scopes": ["orders:read"], "sha256": sha256(OLD) });
    assert_eq!(import(&data, "keys.jsonl", &rows(&[row]), &[]).0, 0);
    let conn = Connection::open(data.join("keyward.db")).unwrap();
    for (_, _, down) in &EARLIER[..2] {
        conn.execute_batch(down).unwrap();
    }
    conn.execute("INSERT INTO imported_values VALUES ('0r0000000001')", []).unwrap();
    drop(conn);
    for arguments in [&["serve", "--listen", "127.0.0.1:0"][..], &["doctor"]] {
        let output = keyward_in(&data, arguments);
        let expected = if arguments[0] == "serve" { 78 } else { 1 };
        assert_eq!(output.status.code(), Some(expected), "{}", said(&output));
        assert!(said(&output).contains("imported in plain text"), "{}", said(&output));
    }
    let conn = Connection::open(data.join("keyward.db")).unwrap();
    let version: i64 = conn.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
    assert_eq!(version, 3, "as it was");
    conn.execute("DELETE FROM imported_values WHERE prefix = '0r0000000001'", []).unwrap();
    drop(conn);
    let output = keyward_in(&data, &["doctor"]);
    assert!(!said(&output).contains("failed"), "an earlier version is sound: {}", said(&output));
    let server = Binary::serve(&data);
    assert_eq!(code(&server, &root, OLD), "VALID");
}

#[test]
fn the_database_is_copied_before_it_is_changed() {
    let dir = tempfile::tempdir().unwrap();
    let root = old_database(dir.path());
    let before = fs::read_dir(dir.path()).unwrap().count();
    let listed = keyward_in(dir.path(), &["keys", "list"]);
    assert!(listed.status.success(), "{}", said(&listed));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), before + 1);
    let copied = dir.path().join("backups/before-migration-from-1.db");
    let old = Connection::open(&copied).unwrap();
    let version: i64 = old.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
    assert_eq!(version, 1);
    drop(old);
    let beside: Vec<_> = fs::read_dir(dir.path().join("backups")).unwrap().collect();
    assert_eq!(beside.len(), 2, "the copy and its digest: {beside:?}");
    let verify = ["backup", "verify", copied.to_str().unwrap(), "-o", "json"];
    let verified = keyward().args(verify).output().unwrap();
    assert!(verified.status.success(), "{}", said(&verified));
    assert!(said(&verified).contains("\"digestCompared\":true"), "{}", said(&verified));

    // An operator goes back to the old version, and then forward again.
    let file = copied.to_str().unwrap();
    let restored = keyward_in(dir.path(), &["backup", "restore", file, "--yes"]);
    assert!(restored.status.success(), "{}", said(&restored));
    let server = Binary::serve(dir.path());
    Request::new("GET", "/api/v1/scopes").key(&root).send(server.address).expect(200);
}

#[test]
fn a_migration_that_fails_leaves_the_file_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    old_database(dir.path());
    let database = dir.path().join("keyward.db");
    let conn = Connection::open(&database).unwrap();
    conn.execute_batch("CREATE TABLE import_secret (in_the_way)").unwrap();
    drop(conn);
    let started = keyward_in(dir.path(), &["serve", "--listen", "127.0.0.1:0"]);
    assert_eq!(started.status.code(), Some(78), "{}", said(&started));
    let conn = Connection::open(&database).unwrap();
    let version: i64 = conn.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
    assert_eq!(version, 1);
    conn.execute_batch("DROP TABLE import_secret").unwrap();
    drop(conn);
    assert!(keyward_in(dir.path(), &["keys", "list"]).status.success());
}

#[test]
fn an_earlier_copy_stays_until_a_new_one_is_complete() {
    let dir = tempfile::tempdir().unwrap();
    old_database(dir.path());
    let database = dir.path().join("keyward.db");
    let old = fs::read(&database).unwrap();
    assert!(keyward_in(dir.path(), &["keys", "list"]).status.success());
    let copied = dir.path().join("backups/before-migration-from-1.db");
    let beside = dir.path().join("backups/before-migration-from-1.db.sha256");
    let good = [fs::read(&copied).unwrap(), fs::read(&beside).unwrap()];

    fs::write(&database, old).unwrap();
    let conn = Connection::open(&database).unwrap();
    conn.execute_batch("CREATE TABLE import_secret (in_the_way)").unwrap();
    drop(conn);
    let listed = keyward_in(dir.path(), &["keys", "list"]);
    assert_eq!(listed.status.code(), Some(78), "{}", said(&listed));
    assert!(said(&listed).contains("earlier version"), "{}", said(&listed));
    assert!([fs::read(&copied).unwrap(), fs::read(&beside).unwrap()] == good);

    let conn = Connection::open(&database).unwrap();
    conn.execute_batch("DROP TABLE import_secret; CREATE TABLE _other (x)").unwrap();
    drop(conn);
    let listed = keyward_in(dir.path(), &["keys", "list"]);
    assert_eq!(listed.status.code(), Some(0), "{}", said(&listed));
    assert!([fs::read(&copied).unwrap(), fs::read(&beside).unwrap()] != good, "a new one");
    assert_eq!(fs::read_dir(dir.path().join("backups")).unwrap().count(), 2);
}

#[test]
fn without_space_for_a_copy_nothing_is_changed() {
    let dir = tempfile::tempdir().unwrap();
    old_database(dir.path());
    let backups = dir.path().join("backups");
    fs::create_dir(&backups).unwrap();
    let mount = format!("mount -t tmpfs -o size=8m none {} && exec \"$@\"", backups.display());
    let mut small = Command::new("unshare");
    small.args(["--mount", "--propagation", "private", "sh", "-c", &mount, "sh"]);
    if !small.arg("true").output().is_ok_and(|it| it.status.success()) {
        return skip("a mount namespace needs root");
    }
    let mut small = Command::new("unshare");
    small.args(["--mount", "--propagation", "private", "sh", "-c", &mount, "sh"]);
    small.arg(keyward().get_program()).args(["keys", "list", "--data-dir"]).arg(dir.path());
    let listed = small.output().unwrap();
    assert_eq!(listed.status.code(), Some(75), "{}", said(&listed));
    assert!(said(&listed).contains("bytes free"), "{}", said(&listed));
    let conn = Connection::open(dir.path().join("keyward.db")).unwrap();
    let version: i64 = conn.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
    assert_eq!(version, 1);
}

#[test]
fn a_database_of_a_newer_version_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    assert!(Binary::serve(dir.path()).terminate().status.success());
    let database = dir.path().join("keyward.db");
    Connection::open(&database).unwrap().pragma_update(None, "user_version", 99).unwrap();
    for arguments in [&["serve", "--listen", "127.0.0.1:0"][..], &["keys", "list"]] {
        let output = keyward_in(dir.path(), arguments);
        assert_eq!(output.status.code(), Some(78));
        assert!(said(&output).contains("newer keyward"), "{}", said(&output));
    }
    assert!(!dir.path().join("backups").exists());
}
