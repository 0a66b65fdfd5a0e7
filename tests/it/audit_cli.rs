//! `keyward events verify` and `export`: an auditor works on a copy, without a server.

use std::{
    fs,
    path::PathBuf,
    process::{Command, Output},
};

use keyward::domain::event::{ChainHash, Event};
use rusqlite::Connection;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{TestServer, keyward, skip};

/// A log to which nothing is added, a copy of it, and what the auditor stored.
struct Evidence {
    dir: TempDir,
    events: Vec<Value>,
}

const BREAK_IN: &str = "PRAGMA foreign_keys = OFF;
    DROP TRIGGER events_are_never_updated;
    DROP TRIGGER events_are_never_deleted;
    DROP TRIGGER events_have_no_gap;
    DROP TRIGGER checkpoints_are_never_updated;
    DROP TRIGGER checkpoints_are_never_deleted;
    DROP TRIGGER checkpoints_follow_the_log;";
const FILES: [&str; 3] = ["keyward.db", "checkpoint", "checkpoint.pub"];

impl Evidence {
    /// Makes more than 256 events, so that the tree stores a subtree, and several checkpoints.
    fn secure() -> Self {
        let mut server = TestServer::start();
        for _ in 0..3 {
            for _ in 0..90 {
                server.key(&["orders:read"]);
            }
            server.run_job("checkpoint");
        }
        let events = server.events();
        server.stop();
        let dir = tempfile::tempdir().unwrap();
        for file in FILES {
            fs::copy(server.data_dir().join(file), dir.path().join(file)).unwrap();
        }
        Self { dir, events }
    }

    fn path(&self, file: &str) -> PathBuf {
        self.dir.path().join(file)
    }

    fn open(&self) -> Connection {
        Connection::open(self.path("keyward.db")).unwrap()
    }

    /// Runs a command with these options and `--db`. A file name in an option stands for its path.
    fn ask(&self, command: &str, options: &[&str]) -> Output {
        let mut program = keyward();
        program.args(["events", command, "--db"]).arg(self.path("keyward.db"));
        for option in options {
            if FILES.contains(option) {
                program.arg(self.path(option));
            } else {
                program.arg(option);
            }
        }
        program.output().unwrap()
    }

    /// Returns the exit code and the output.
    fn verify(&self, options: &[&str]) -> (i32, String) {
        let output = self.ask("verify", options);
        let text = [output.stdout, output.stderr].concat();
        (output.status.code().unwrap(), String::from_utf8(text).unwrap())
    }

    fn whole(&self) -> (i32, String) {
        self.verify(&["--public-key", "checkpoint.pub", "--checkpoint", "checkpoint"])
    }

    fn export(&self, options: &[&str]) -> Vec<Value> {
        let output = self.ask("export", options);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines().map(|it| serde_json::from_str(it).unwrap()).collect()
    }

    /// Changes the log as the owner of the disk could. Returns what the auditor then reads.
    fn after(&self, sql: &str) -> (i32, String) {
        let before = fs::read(self.path("keyward.db")).unwrap();
        self.open().execute_batch(&format!("{BREAK_IN} {sql}")).unwrap();
        let heard = self.whole();
        fs::write(self.path("keyward.db"), before).unwrap();
        heard
    }
}

#[test]
fn a_sound_copy_is_reported_as_sound_with_and_without_the_public_key() {
    let evidence = Evidence::secure();
    let (code, text) = evidence.whole();
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("nothing changed, nothing missing"), "{text}");
    assert!(text.contains("signatures   "), "{text}");
    let (code, text) = evidence.verify(&[]);
    assert!(code == 0 && text.contains("not checked"), "{text}");
    // `jq -r` and editors add this line end.
    let mut kept = fs::read_to_string(evidence.path("checkpoint")).unwrap();
    kept.push('\n');
    fs::write(evidence.path("checkpoint"), kept).unwrap();
    assert_eq!(evidence.whole().0, 0);
    fs::remove_file(evidence.path("keyward.db")).unwrap();
    let (code, text) = evidence.verify(&[]);
    assert!(code == 1 && text.contains("No such file") && !text.contains("serve"), "{text}");
}

#[test]
fn every_change_of_a_row_is_found_and_named() {
    let evidence = Evidence::secure();
    let last = i64::try_from(evidence.events.len()).unwrap() + 1; // The stop is an event too.
    let copy = "time_ms, type, account_id, actor, actor_prefix, actor_account_id, subject,
        request_id, client_ip, data, prev_hash, hash";
    let cases = [
        ("UPDATE events SET data = '{}' WHERE seq = 17".to_owned(), 17),
        ("UPDATE events SET time_ms = time_ms + 1 WHERE seq = 1".to_owned(), 1),
        ("UPDATE events SET prev_hash = hash WHERE seq = 200".to_owned(), 200),
        ("DELETE FROM events WHERE seq = 17".to_owned(), 17),
        ("DELETE FROM events WHERE seq = 1".to_owned(), 1),
        (format!("DELETE FROM events WHERE seq = {last}"), last),
        ("DELETE FROM events WHERE seq > 100".to_owned(), 101),
        ("DELETE FROM events".to_owned(), 1),
        (
            format!("INSERT INTO events SELECT seq + 1, {copy} FROM events WHERE seq = {last}"),
            last + 1,
        ),
        (format!("INSERT INTO events SELECT 0, {copy} FROM events WHERE seq = 1"), 1),
        (
            "UPDATE events SET seq = -1 WHERE seq = 20; UPDATE events SET seq = 20 WHERE seq = 21;
             UPDATE events SET seq = 21 WHERE seq = -1"
                .to_owned(),
            20,
        ),
        ("DELETE FROM event_tree".to_owned(), 256),
        ("UPDATE event_tree SET hash = zeroblob(32)".to_owned(), 256),
        ("INSERT INTO event_tree VALUES (8, 7, zeroblob(32))".to_owned(), last + 1),
        (
            "PRAGMA ignore_check_constraints = ON; UPDATE events SET hash = x'00' WHERE seq = 30"
                .to_owned(),
            30,
        ),
    ];
    for (sql, seq) in cases {
        let (code, text) = evidence.after(&sql);
        assert_eq!(code, 3, "{sql}: {text}");
        assert!(text.starts_with(&format!("event {seq}: ")), "{sql}: {text}");
    }
    assert_eq!(evidence.whole().0, 0);
}

#[test]
fn a_log_rewritten_from_the_start_is_found_through_a_checkpoint() {
    let evidence = Evidence::secure();
    let conn = evidence.open();
    conn.execute_batch(BREAK_IN).unwrap();
    rewrite(&conn);
    conn.execute_batch("DELETE FROM checkpoints").unwrap();
    let (code, text) = evidence.verify(&[]);
    assert_eq!(code, 0, "an auditor without a stored checkpoint cannot see the forgery: {text}");
    let (code, text) = evidence.whole();
    assert!(code == 3 && text.contains("rewritten"), "{text}");
}

/// Changes the address in every event and recomputes all hashes.
fn rewrite(conn: &Connection) {
    let columns = "seq, time_ms, type, account_id, actor, actor_prefix, actor_account_id, subject,
        request_id, client_ip, data, prev_hash, hash";
    let mut statement =
        conn.prepare(&format!("SELECT {columns} FROM events ORDER BY seq")).unwrap();
    let events = statement.query_map([], |row| {
        Ok(Event {
            seq: row.get(0)?,
            time: keyward::env::Timestamp::from_millis(row.get(1)?),
            event_type: row.get(2)?,
            account_id: row.get(3)?,
            actor: row.get(4)?,
            actor_prefix: row.get(5)?,
            actor_account_id: row.get(6)?,
            subject: row.get(7)?,
            request_id: row.get(8)?,
            client_ip: Some("192.0.2.1".to_owned()),
            data: row.get(10)?,
            prev_hash: ChainHash(row.get(11)?),
            hash: ChainHash(row.get(12)?),
        })
    });
    let events: Vec<Event> = events.unwrap().map(Result::unwrap).collect();
    let (mut last, mut leaves) = (ChainHash::GENESIS, Vec::new());
    for mut event in events {
        event.prev_hash = last;
        last = event.expected_hash();
        leaves.push(last);
        let change = "UPDATE events SET client_ip = ?1, prev_hash = ?2, hash = ?3 WHERE seq = ?4";
        let values = (event.client_ip.as_ref(), event.prev_hash.0, last.0, event.seq);
        conn.execute(change, values).unwrap();
    }
    let mut tree = keyward::domain::merkle::Frontier::default();
    for (i, leaf) in leaves.into_iter().enumerate() {
        tree.push(keyward::domain::merkle::TreeHash::leaf(leaf), |len, hash| {
            if len == 256 {
                let position = i64::try_from((i + 1) / 256 - 1).unwrap();
                let change = "UPDATE event_tree SET hash = ?1 WHERE level = 8 AND position = ?2";
                assert_eq!(conn.execute(change, (hash.0, position)).unwrap(), 1);
            }
        });
    }
}

#[test]
fn a_checkpoint_is_accepted_only_with_the_right_signature() {
    let evidence = Evidence::secure();
    let note = fs::read_to_string(evidence.path("checkpoint")).unwrap();
    fs::write(evidence.path("checkpoint"), note.replace("time 2026", "time 2027")).unwrap();
    let (code, text) = evidence.whole();
    assert!(code == 3 && text.contains("signature is wrong"), "{text}");
    fs::write(evidence.path("checkpoint"), "x").unwrap();
    assert_eq!(evidence.whole().0, 3);
    fs::write(evidence.path("checkpoint"), &note).unwrap();
    let forged = "UPDATE checkpoints SET note = replace(note, 'time 2026', 'time 2027')";
    assert_eq!(evidence.after(forged).0, 3);
    assert_eq!(evidence.after("UPDATE checkpoints SET time_ms = time_ms + 1").0, 3);
    // The public key of another log.
    let other = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
    fs::write(evidence.path("checkpoint.pub"), other).unwrap();
    let (code, text) = evidence.whole();
    assert!(code == 3 && text.contains("did not sign"), "{text}");
    fs::write(evidence.path("checkpoint.pub"), "x").unwrap();
    assert_eq!(evidence.whole().0, 2);
    fs::remove_file(evidence.path("checkpoint.pub")).unwrap();
    assert_eq!(evidence.whole().0, 1);
}

#[test]
fn a_file_that_is_no_keyward_database_is_reported_as_such() {
    let evidence = Evidence::secure();
    fs::write(evidence.path("keyward.db"), "hello, this is no database").unwrap();
    let (code, text) = evidence.verify(&[]);
    assert!(code == 78 && text.contains("not a keyward database"), "{text}");
    fs::remove_file(evidence.path("keyward.db")).unwrap();
    assert_eq!(evidence.verify(&[]).0, 1);
    assert!(!evidence.path("keyward.db").exists(), "nothing is made by looking");
}

#[test]
fn each_line_of_the_export_is_an_event_as_the_api_answers_it() {
    let evidence = Evidence::secure();
    let lines = evidence.export(&[]);
    assert_eq!(lines[..evidence.events.len()], evidence.events[..]);
    assert_eq!(lines.last().unwrap()["type"], "server.stopped");
    assert_eq!(evidence.export(&["--since-seq", "100"]), lines[99..]);
    assert_eq!(evidence.export(&["--since-seq", "9999"]), [] as [Value; 0]);
    for wrong in [["--since-seq", "0"], ["--since-seq", "x"], ["--format", "xml"]] {
        assert_eq!(evidence.ask("export", &wrong).status.code(), Some(2), "{wrong:?}");
    }
    let file = evidence.path("out");
    let output = evidence.ask("export", &["-o", file.to_str().unwrap()]);
    assert!(output.status.success() && output.stdout.is_empty());
    let text = fs::read_to_string(&file).unwrap();
    assert_eq!(text.lines().count(), lines.len());
    let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&file).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn cloud_events_have_what_the_specification_requires() {
    let evidence = Evidence::secure();
    let plain = evidence.export(&[]);
    for (line, event) in evidence.export(&["--format", "cloudevents"]).iter().zip(&plain) {
        assert_eq!(line["specversion"], "1.0");
        assert_eq!(line["id"], event["seq"].to_string());
        assert!(line["source"].as_str().unwrap().starts_with("keyward-"), "{line}");
        let kind = format!("dev.keyward.{}", event["type"].as_str().unwrap());
        assert_eq!(line["type"], kind);
        assert_eq!((&line["time"], &line["subject"]), (&event["time"], &event["subject"]));
        assert_eq!((&line["datacontenttype"], &line["data"]), (&json!("application/json"), event));
    }
}

#[test]
fn ocsf_has_what_class_6003_requires() {
    let evidence = Evidence::secure();
    let plain = evidence.export(&[]);
    for (line, event) in evidence.export(&["--format", "ocsf"]).iter().zip(&plain) {
        assert_eq!((&line["class_uid"], &line["category_uid"]), (&json!(6003), &json!(6)));
        let activity = line["activity_id"].as_i64().unwrap();
        let wanted = match event["type"].as_str().unwrap() {
            "api_key.created" | "account.created" => 1,
            _ => 99,
        };
        assert_eq!(activity, wanted, "{line}");
        assert_eq!(line["type_uid"], 600_300 + activity);
        let time = keyward::env::Timestamp::parse(event["time"].as_str().unwrap()).unwrap();
        assert_eq!(line["time"], time.as_millis());
        assert_eq!(line["metadata"]["sequence"], event["seq"]);
        for member in ["actor", "api", "metadata", "severity_id", "src_endpoint"] {
            assert!(!line[member].is_null(), "{member}: {line}");
        }
        assert!(line["actor"]["user"]["uid"].is_string(), "{line}");
        assert_eq!(line["resources"][0]["uid"], event["subject"]);
        assert_eq!(line["unmapped"]["data"], event["data"]);
        let without = line["unmapped"]["data"].to_string();
        assert!(!line.to_string().replace(&without, "").contains("null"), "{line}");
    }
}

#[test]
fn ocsf_lines_fit_the_published_schema() {
    let python = |arguments: &[&str]| {
        let mut python = Command::new("python3");
        python.args(arguments);
        python
    };
    let packages = python(&["-c", "import jsonschema, ocsf_json_schema"]).output();
    if !packages.is_ok_and(|it| it.status.success()) {
        return skip("there is no python3 with ocsf-json-schema and jsonschema");
    }
    let evidence = Evidence::secure();
    let file = evidence.path("ocsf");
    let options = ["--format", "ocsf", "-o", file.to_str().unwrap()];
    assert!(evidence.ask("export", &options).status.success());
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/validate_ocsf.py");
    let output = python(&[script]).stdin(fs::File::open(file).unwrap()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
}
