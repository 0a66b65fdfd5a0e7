//! Signed checkpoints and proofs: what an auditor can verify without trusting the operator.

use std::{fs, process::Command};

use ct_merkle::{ConsistencyProof, InclusionProof, RootHash};
use keyward::{
    domain::checkpoint::{Checkpoint, CheckpointKey},
    env::SeededEntropy,
    server::{self, DataDirError, Instance, Sources},
    service::{LogFile, Mismatch, check_against_checkpoints},
    store::StoreError,
};
use pbkdf2::sha2::{Sha256, digest::Output};
use rusqlite::Connection;
use serde_json::{Value, json};

use crate::support::{TestServer, has, without_triggers};

/// The first step of an attacker who controls the disk.
const BREAK_IN: &str = "PRAGMA foreign_keys = OFF;
    DROP TRIGGER events_are_never_updated;
    DROP TRIGGER events_are_never_deleted;
    DROP TRIGGER events_have_no_gap;
    DROP TRIGGER checkpoints_are_never_updated;
    DROP TRIGGER checkpoints_are_never_deleted;
    DROP TRIGGER checkpoints_follow_the_log;";

fn grow(server: &TestServer, keys: usize) {
    for _ in 0..keys {
        server.key(&["orders:read"]);
    }
}

fn last(server: &TestServer) -> Value {
    server.get(&server.root.text, "/api/v1/checkpoints/last").expect(200).json()
}

fn public_key(server: &TestServer) -> CheckpointKey {
    let body = server.get(&server.root.text, "/api/v1/checkpoints/key").expect(200).json();
    CheckpointKey::parse(body["publicKey"].as_str().unwrap()).unwrap()
}

fn open(server: &TestServer, seed: u64) -> Result<Instance, server::Error> {
    let entropy = std::sync::Arc::new(SeededEntropy::new(seed));
    let clock = std::sync::Arc::clone(&server.clock);
    Instance::open(&server.config, Sources { clock, entropy })
}

fn digests(path: &Value) -> Vec<Output<Sha256>> {
    path.as_array().unwrap().iter().map(|it| bytes(it).into()).collect()
}

fn bytes(hexadecimal: &Value) -> [u8; 32] {
    let text = hexadecimal.as_str().unwrap();
    std::array::from_fn(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).unwrap())
}

fn root(size: &Value, hash: &Value) -> RootHash<Sha256> {
    RootHash::new(bytes(hash).into(), size.as_u64().unwrap())
}

#[test]
fn a_checkpoint_describes_the_log_and_is_signed() {
    let server = TestServer::start();
    grow(&server, 3);
    assert_eq!(server.run_job("checkpoint"), 1);
    let (checkpoint, events) = (last(&server), server.events());
    let newest = events.last().unwrap();
    assert_eq!(checkpoint["size"], newest["seq"]);
    assert_eq!(checkpoint["head"], newest["hash"]);
    let note = checkpoint["note"].as_str().unwrap();
    let signed = public_key(&server).open(note).unwrap();
    assert_eq!(signed.size, newest["seq"].as_u64().unwrap());
    assert_eq!(signed.head.to_string(), newest["hash"].as_str().unwrap());
    assert_eq!(signed.time.to_string(), checkpoint["time"].as_str().unwrap());
    assert_eq!(fs::read_to_string(server.data_dir().join("checkpoint")).unwrap(), note);
    let key = fs::read_to_string(server.data_dir().join("checkpoint.pub")).unwrap();
    assert_eq!(key.trim(), public_key(&server).to_string());
}

#[test]
fn a_checkpoint_is_made_only_when_something_happened() {
    let server = TestServer::start();
    server.run_job("checkpoint");
    assert_eq!(server.run_job("checkpoint"), 0);
    grow(&server, 1);
    assert_eq!(server.run_job("checkpoint"), 1);
    let list = server.get(&server.root.text, "/api/v1/checkpoints").expect(200).json();
    let sizes: Vec<_> = list["data"].as_array().unwrap().iter().map(|it| &it["size"]).collect();
    assert!(sizes.is_sorted_by_key(|it| it.as_i64()) && 2 <= sizes.len(), "{sizes:?}");
    assert_eq!(list["data"].as_array().unwrap().last(), Some(&last(&server)));
}

#[test]
fn the_list_of_checkpoints_has_pages() {
    let server = TestServer::start();
    for _ in 0..5 {
        grow(&server, 1);
        server.run_job("checkpoint");
    }
    let whole = server.get(&server.root.text, "/api/v1/checkpoints").expect(200).json();
    let (mut seen, mut target) = (Vec::new(), "/api/v1/checkpoints?limit=2".to_owned());
    loop {
        let page = server.get(&server.root.text, &target).expect(200).json();
        seen.extend(page["data"].as_array().unwrap().clone());
        let Some(next) = page["nextCursor"].as_str() else { break };
        target = format!("/api/v1/checkpoints?limit=2&cursor={next}");
    }
    assert_eq!(Value::Array(seen), whole["data"]);
    let size = whole["data"][1]["size"].as_i64().unwrap();
    let after = format!("/api/v1/checkpoints?after={size}");
    let rest = server.get(&server.root.text, &after).expect(200).json();
    assert_eq!(rest["data"].as_array().unwrap()[..], whole["data"].as_array().unwrap()[2..]);
}

#[test]
fn the_end_of_the_log_is_signed_when_the_server_stops() {
    let mut server = TestServer::start();
    grow(&server, 2);
    server.stop();
    let key = fs::read_to_string(server.data_dir().join("checkpoint.pub")).unwrap();
    let note = fs::read_to_string(server.data_dir().join("checkpoint")).unwrap();
    let Checkpoint { size, head, .. } = CheckpointKey::parse(&key).unwrap().open(&note).unwrap();
    let conn = Connection::open(server.database()).unwrap();
    let newest = conn
        .query_row("SELECT seq, hash, type FROM events ORDER BY seq DESC LIMIT 1", [], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, [u8; 32]>(1)?, row.get::<_, String>(2)?))
        })
        .unwrap();
    assert_eq!(newest, (size.cast_signed(), head.0, "server.stopped".to_owned()));
}

#[test]
fn another_implementation_accepts_the_proofs_over_stored_subtrees() {
    let server = TestServer::start();
    // More than 256 events, so that a stored subtree takes part, and then more than two.
    grow(&server, 250);
    server.run_job("checkpoint");
    let older = last(&server);
    grow(&server, 300);
    server.run_job("checkpoint");
    let newer = last(&server);
    let events = server.events();
    for seq in [1, 2, 255, 256, 257, 511, 512, 513, events.len()] {
        let target = format!("/api/v1/events/{seq}/proof");
        let proof = server.get(&server.root.text, &target).expect(200).json();
        assert_eq!((&proof["size"], &proof["note"]), (&newer["size"], &newer["note"]));
        let path = InclusionProof::from_digests(digests(&proof["path"]).iter());
        let root = root(&proof["size"], &proof["rootHash"]);
        let leaf = bytes(&events[seq - 1]["hash"]);
        root.verify_inclusion(&leaf, seq as u64 - 1, &path).unwrap();
        let other = bytes(&events[seq % events.len()]["hash"]);
        root.verify_inclusion(&other, seq as u64 - 1, &path).unwrap_err();
    }
    let signed = public_key(&server).open(newer["note"].as_str().unwrap()).unwrap();
    let (from, to) = (&older["size"], &newer["size"]);
    let target = format!("/api/v1/checkpoints/consistency?from={from}&to={to}");
    let proof = server.get(&server.root.text, &target).expect(200).json();
    assert_eq!(bytes(&proof["toRootHash"]), signed.root.0);
    let path = ConsistencyProof::from_digests(digests(&proof["path"]).iter());
    let (before, after) = (root(from, &proof["fromRootHash"]), root(to, &proof["toRootHash"]));
    after.verify_consistency(&before, &path).unwrap();
    before.verify_consistency(&after, &path).unwrap_err();
}

#[test]
fn a_proof_is_only_for_an_event_that_the_reader_may_see_and_a_size_that_exists() {
    let server = TestServer::start();
    let (_, owner) = server.account(&json!({ "name": "Acme" }));
    server.run_job("checkpoint");
    let events = server.events();
    let own = events.iter().find(|it| it["subject"] == owner.id).unwrap();
    let ask = |key: &str, rest: &str| server.get(key, &format!("/api/v1/events/{rest}"));
    ask(&owner.text, &format!("{}/proof", own["seq"])).expect(200);
    assert_eq!(ask(&owner.text, "1/proof").status, 404);
    for missing in ["0/proof", "99999/proof", "01/proof", "x/proof"] {
        assert_eq!(ask(&server.root.text, missing).status, 404, "{missing}");
    }
    let size = last(&server)["size"].as_u64().unwrap();
    let proof = ask(&server.root.text, &format!("1/proof?size={}", size - 1)).expect(200).json();
    assert_eq!((proof["size"].as_u64(), &proof["note"]), (Some(size - 1), &Value::Null));
    for wrong in
        ["1/proof?size=0", "3/proof?size=2", "1/proof?size=99999", "1/proof?size=x", "1/proof?x=1"]
    {
        assert_eq!(ask(&server.root.text, wrong).status, 422, "{wrong}");
    }
    grow(&server, 1);
    let young = ask(&server.root.text, &format!("{}/proof", size + 1));
    assert_eq!((young.status, &young.json()["code"]), (409, &json!("not_checkpointed")));
    assert!(young.header("retry-after").is_some());
    let between = |query: &str| {
        server.get(&server.root.text, &format!("/api/v1/checkpoints/consistency{query}")).status
    };
    assert_eq!(between("?from=2&to=2"), 200);
    for wrong in
        ["", "?from=1", "?from=0&to=1", "?from=2&to=1", "?from=1&to=99999", "?from=-1&to=1"]
    {
        assert_eq!(between(wrong), 422, "{wrong}");
    }
}

/// Changes the stopped server's file as its owner could, and starts the server.
fn start_after(change: impl FnOnce(&TestServer, &Connection)) -> Result<(), server::Error> {
    let mut server = TestServer::start();
    server.audited = false;
    grow(&server, 3);
    server.stop();
    drop(open(&server, 2).expect("a sound log"));
    let conn = Connection::open(server.database()).unwrap();
    conn.pragma_update(None, "foreign_keys", false).unwrap();
    without_triggers(&conn, || change(&server, &conn));
    drop(conn);
    open(&server, 3).map(drop)
}

#[test]
fn keyward_does_not_start_on_a_truncated_log() {
    let cut = "DELETE FROM events WHERE seq > 4";
    let outcome = start_after(|_, conn| conn.execute_batch(cut).unwrap());
    assert!(
        matches!(
            outcome,
            Err(server::Error::Database { fault: StoreError::NotAsCheckpointed { .. }, .. })
        ),
        "{outcome:?}"
    );
    // The checkpoint file beside the database shows it, even if the database holds no later
    // checkpoint.
    let all = "DELETE FROM events WHERE seq > 4; DELETE FROM checkpoints WHERE size > 4";
    let outcome = start_after(|_, conn| conn.execute_batch(all).unwrap());
    assert!(matches!(outcome, Err(server::Error::Mismatch(Mismatch::Log { .. }))), "{outcome:?}");
}

#[test]
fn keyward_does_not_start_on_a_forged_checkpoint_or_tree() {
    let forge = "UPDATE checkpoints SET note = replace(note, 'time 2026', 'time 2025')";
    let outcome = start_after(|_, conn| conn.execute_batch(forge).unwrap());
    assert!(matches!(outcome, Err(server::Error::Mismatch(Mismatch::Note { .. }))), "{outcome:?}");
    let outcome = start_after(|server, _| {
        fs::write(server.data_dir().join("checkpoint"), "nonsense").unwrap();
    });
    assert!(matches!(outcome, Err(server::Error::Mismatch(Mismatch::Note { .. }))), "{outcome:?}");
}

#[test]
fn an_older_copy_starts_once_the_checkpoint_file_is_removed() {
    let outcome = start_after(|server, conn| {
        conn.execute_batch(
            "DELETE FROM events WHERE seq > 4; DELETE FROM checkpoints WHERE size > 4",
        )
        .unwrap();
        fs::remove_file(server.data_dir().join("checkpoint")).unwrap();
    });
    assert!(outcome.is_ok(), "{outcome:?}");
}

#[test]
fn a_lost_signing_key_is_reported_and_replaced_only_when_its_public_key_is_removed_too() {
    let lost = |also: &'static [&'static str]| {
        start_after(move |server, _| {
            for file in ["checkpoint.key"].iter().chain(also) {
                fs::remove_file(server.data_dir().join(file)).unwrap();
            }
        })
    };
    let outcome = lost(&[]);
    let said = matches!(outcome, Err(server::Error::DataDir(DataDirError::NoCheckpointKey { .. })));
    assert!(said, "{outcome:?}");
    lost(&["checkpoint.pub"]).expect("a new key");
}

#[test]
fn the_signing_key_may_be_elsewhere_but_not_where_every_user_can_read_it() {
    let mut server = TestServer::start();
    let elsewhere = tempfile::tempdir().unwrap();
    let file = elsewhere.path().join("key");
    fs::copy(server.data_dir().join("checkpoint.key"), &file).unwrap();
    let key = public_key(&server);
    server.stop();
    fs::remove_file(server.data_dir().join("checkpoint.key")).unwrap();
    server.restart(|config| config.audit.checkpoint_key = Some(file.clone()));
    assert_eq!(public_key(&server), key);
    server.stop();
    let mode = std::os::unix::fs::PermissionsExt::from_mode;
    fs::set_permissions(&file, mode(0o644)).unwrap();
    let outcome = open(&server, 9);
    assert!(
        matches!(outcome, Err(server::Error::DataDir(DataDirError::Exposed { .. }))),
        "{outcome:?}"
    );
    fs::remove_file(&file).unwrap();
    assert!(matches!(open(&server, 9), Err(server::Error::DataDir(DataDirError::KeyFile { .. }))));
}

#[test]
fn the_start_is_an_event_that_names_the_signing_key() {
    let server = TestServer::start();
    let started = server.events().into_iter().find(|it| it["type"] == "server.started").unwrap();
    assert_eq!(started["data"]["checkpointKey"], public_key(&server).to_string());
}

#[test]
fn python_and_openssl_accept_the_same_checkpoints_and_proofs() {
    if !has(&["python3"]) {
        return;
    }
    let mut server = TestServer::start();
    server.audited = false;
    grow(&server, 300);
    server.stop();
    let dir = server.data_dir();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/verify_events.py");
    let check = || {
        let mut command = Command::new("python3");
        command.arg(script).arg(server.database());
        let output =
            command.arg(dir.join("checkpoint")).arg(dir.join("checkpoint.pub")).output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8(text).unwrap())
    };
    let (sound, text) = check();
    assert!(sound && text.contains("nothing changed"), "{text}");
    let conn = Connection::open(server.database()).unwrap();
    conn.execute_batch(BREAK_IN).unwrap();
    let change = |sql: &str, wanted: &str| {
        conn.execute_batch(&format!("CREATE TABLE kept AS SELECT * FROM events; {sql}")).unwrap();
        let (sound, text) = check();
        assert!(!sound && text.contains(wanted), "{sql}: {text}");
        let back = "DELETE FROM events; INSERT INTO events SELECT * FROM kept; DROP TABLE kept";
        conn.execute_batch(back).unwrap();
        assert!(check().0, "{sql}");
    };
    change("UPDATE events SET actor = 'no one' WHERE seq = 7", "event 7 is not");
    change("DELETE FROM events WHERE seq = 7", "event 7 is not");
    change("DELETE FROM events WHERE seq > 290", "the log was cut");
    let note = fs::read_to_string(dir.join("checkpoint")).unwrap();
    fs::write(dir.join("checkpoint"), note.replace("time 2026", "time 2025")).unwrap();
    let (sound, text) = check();
    assert!(!sound && text.contains("not signed"), "{text}");
}

#[test]
fn a_checkpoint_made_during_a_verification_is_no_contradiction() {
    let server = TestServer::start();
    grow(&server, 3);
    let (key, note) = (public_key(&server), server.data_dir().join("note"));
    assert!(Command::new("mkfifo").arg(&note).status().unwrap().success());
    let mut log = LogFile::open(&server.database()).unwrap();
    std::thread::scope(|scope| {
        let looks = scope
            .spawn(|| log.read::<_, Mismatch>(|tx| check_against_checkpoints(tx, &key, &note)));
        // Returns when the other end is open, so the reader is waiting there.
        let mut file = fs::File::options().write(true).open(&note).unwrap();
        grow(&server, 3);
        assert_eq!(server.run_job("checkpoint"), 1);
        let newest = fs::read(server.data_dir().join("checkpoint")).unwrap();
        std::io::Write::write_all(&mut file, &newest).unwrap();
        drop(file);
        looks.join().unwrap().unwrap();
    });
}
