//! The audit log: each change has its event, and a changed event is always found.

use std::sync::Arc;

use keyward::{
    domain::event::{ChainHash, Event},
    env::{SeededEntropy, Timestamp},
    server::{self, Instance, Sources},
    store::StoreError,
};
use rusqlite::Connection;
use serde_json::{Value, json};

use crate::support::{Request, TestServer};

const COLUMNS: &str = "seq, time_ms, type, account_id, actor, actor_prefix, actor_account_id,
    subject, request_id, client_ip, data, prev_hash, hash";

/// Removes the triggers that protect the events, and stores them so that they can be restored.
const BREAK_IN: &str = "PRAGMA foreign_keys = OFF;
    DROP TRIGGER events_are_never_updated;
    DROP TRIGGER events_are_never_deleted;
    DROP TRIGGER events_have_no_gap;
    CREATE TABLE kept AS SELECT * FROM events;";
const PUT_BACK: &str = "DELETE FROM events; INSERT INTO events SELECT * FROM kept;";

/// An attacker who can write to the file and knows the program.
fn vandal(server: &TestServer) -> Connection {
    let conn = Connection::open(server.database()).unwrap();
    conn.busy_timeout(std::time::Duration::from_secs(10)).unwrap();
    conn
}

/// Two accounts with keys, each with a few events.
fn busy() -> TestServer {
    let server = TestServer::start();
    for name in ["one", "two"] {
        let (_, first) = server.account(&json!({ "name": name }));
        server.rotate(&first.text, &first.id, &json!({}));
    }
    server
}

fn counted(conn: &Connection, what: &str) -> i64 {
    conn.query_row(&format!("SELECT {what} FROM events"), [], |row| row.get(0)).unwrap()
}

#[test]
fn the_file_refuses_to_change_an_event() {
    let server = busy();
    let conn = vandal(&server);
    let row = |seq: &str| {
        COLUMNS.replacen("seq", seq, 1).replacen("data", "'{\"forged\": true}' AS data", 1)
    };
    let (gap, again) = (row("max(seq) + 2"), row("2"));
    for recursive in [false, true] {
        conn.pragma_update(None, "recursive_triggers", recursive).unwrap();
        for sql in [
            "UPDATE events SET actor = 'no one'".to_owned(),
            "UPDATE OR REPLACE events SET seq = 2 WHERE seq = 3".to_owned(),
            "UPDATE OR IGNORE events SET data = '{}'".to_owned(),
            "DELETE FROM events".to_owned(),
            "DELETE FROM events WHERE seq = (SELECT max(seq) FROM events)".to_owned(),
            format!("INSERT INTO events ({COLUMNS}) SELECT {gap} FROM events"),
            format!("INSERT INTO events ({COLUMNS}) SELECT {again} FROM events WHERE seq = 2"),
            format!("REPLACE INTO events ({COLUMNS}) SELECT {again} FROM events WHERE seq = 2"),
            format!(
                "INSERT INTO events ({COLUMNS}) SELECT {COLUMNS} FROM events WHERE seq = 1
                     ON CONFLICT (seq) DO UPDATE SET data = '{{}}'"
            ),
        ] {
            let err = conn.execute_batch(&sql).expect_err(&sql).to_string();
            assert!(err.contains("the audit log is append-only"), "{sql}: {err}");
        }
    }
    assert_eq!(server.app.first_broken_event().unwrap(), None);
}

/// Changes to the rows of a table without an event. Each has the reason why it is wrong.
fn unrecorded(table: &str, own: &str, subject: &str, fresh: &str) -> Vec<(String, &'static str)> {
    let victim = format!("{own} = (SELECT min({own}) FROM {table})");
    let latest = "(SELECT max(seq) FROM events)";
    let old = format!("(SELECT min(seq) FROM events WHERE subject = {subject})");
    let fresh = |seq: &str| fresh.replace("$SEQ", seq);
    vec![
        (format!("UPDATE {table} SET {own} = {own}"), "no event"),
        (format!("UPDATE {table} SET audit_seq = 1 WHERE {victim}"), "an older event"),
        (format!("UPDATE {table} SET audit_seq = {old} WHERE {victim}"), "an older event about it"),
        (format!("UPDATE {table} SET audit_seq = {latest} WHERE {victim}"), "another's event"),
        (format!("UPDATE {table} SET audit_seq = 999999 WHERE {victim}"), "no such event"),
        (format!("DELETE FROM {table} WHERE {victim}"), "no event of a purge"),
        (fresh("999999"), "no such event"),
        (fresh(latest), "another's event"),
        (fresh(&old), "an older event about it"),
    ]
}

#[test]
fn the_file_refuses_a_change_without_an_event() {
    let server = busy();
    // The newest event is about keyward itself, so no change may refer to it.
    server.clock.step_wall(-3_600_000);
    server.run_job("keep_time");
    let conn = vandal(&server);
    let account = "INSERT INTO accounts (id, kind, name, status, metadata, created_at_ms,
            updated_at_ms, revision, audit_seq)
        SELECT 'acct_x', 'customer', 'x', 'active', '{}', 0, 0, 1, $SEQ";
    let key = "INSERT INTO api_keys (id, account_id, name, scopes, enabled, metadata,
            created_at_ms, updated_at_ms, revision, audit_seq)
        SELECT 'key_x', id, 'x', '*', 1, '{}', 0, 0, 1, $SEQ FROM accounts WHERE kind = 'operator'";
    // A second credential of the root key. This is the most dangerous of these changes.
    let value = "INSERT INTO credentials (prefix, key_id, phc, issued_at_ms, valid_until_ms,
            audit_seq)
        SELECT 'rg_backdoor0', key_id, phc, 0, 253402300799999, $SEQ FROM credentials
        WHERE prefix = (SELECT min(prefix) FROM credentials)";
    let holder = "(SELECT key_id FROM credentials ORDER BY prefix LIMIT 1)";
    let mut accepted = Vec::new();
    for (table, own, subject, fresh) in [
        ("accounts", "id", "(SELECT min(id) FROM accounts)", account),
        ("api_keys", "id", "(SELECT min(id) FROM api_keys)", key),
        ("credentials", "prefix", holder, value),
    ] {
        for (sql, why) in unrecorded(table, own, subject, fresh) {
            conn.execute_batch("SAVEPOINT attempt").unwrap();
            if conn.execute_batch(&sql).is_ok() {
                accepted.push(format!("{why}: {sql}"));
            }
            conn.execute_batch("ROLLBACK TO attempt; RELEASE attempt").unwrap();
        }
    }
    assert!(accepted.is_empty(), "accepted: {accepted:#?}");
}

#[test]
fn the_file_refuses_a_replaced_row_that_refers_to_an_older_event() {
    let server = busy();
    let conn = vandal(&server);
    let mut accepted = Vec::new();
    for (table, column, value) in [
        ("accounts", "name", "'x'"),
        ("api_keys", "scopes", "'*'"),
        ("credentials", "valid_until_ms", "NULL"),
    ] {
        conn.execute_batch("SAVEPOINT attempt").unwrap();
        let sql = format!(
            "CREATE TEMP TABLE forged AS SELECT * FROM {table};
             UPDATE forged SET {column} = {value};
             REPLACE INTO {table} SELECT * FROM forged LIMIT 1;"
        );
        if conn.execute_batch(&sql).is_ok() {
            accepted.push(table);
        }
        conn.execute_batch("ROLLBACK TO attempt; RELEASE attempt").unwrap();
    }
    assert!(accepted.is_empty(), "accepted in {accepted:?}");
}

#[test]
fn an_event_edited_in_the_file_is_found() {
    let mut server = busy();
    server.audited = false;
    let conn = vandal(&server);
    let last = counted(&conn, "max(seq)");
    assert!(6 < last);
    conn.execute_batch(BREAK_IN).unwrap();
    let set = |change: &str| format!("UPDATE events SET {change} WHERE seq = 4");
    let mut edits = vec![
        ("DELETE FROM events WHERE seq = 4".to_owned(), 5),
        ("DELETE FROM events WHERE seq < 4".to_owned(), 4),
        (format!("UPDATE events SET seq = {} WHERE seq = {last}", last + 1), last + 1),
        (
            format!(
                "INSERT INTO events ({COLUMNS}) SELECT {} FROM events",
                COLUMNS.replacen("seq", "max(seq) + 1", 1)
            ),
            last + 1,
        ),
        (
            "UPDATE events SET seq = -4 WHERE seq = 4; UPDATE events SET seq = 4 WHERE seq = 5;
             UPDATE events SET seq = 5 WHERE seq = -4;"
                .to_owned(),
            4,
        ),
        (set("time_ms = time_ms + 1"), 4),
        (set("prev_hash = zeroblob(32)"), 4),
        (set("hash = zeroblob(32)"), 4),
    ];
    for column in COLUMNS
        .split(',')
        .map(str::trim)
        .filter(|it| !["seq", "time_ms", "prev_hash", "hash", "data"].contains(it))
    {
        edits.push((set(&format!("{column} = coalesce({column}, '') || 'x'")), 4));
        edits.push((set(&format!("{column} = ''")), 4));
    }
    edits.push((set("data = '{}'"), 4));
    edits.push((set("data = data || ' '"), 4));
    for (sql, wanted) in edits {
        conn.execute_batch(&sql).unwrap();
        assert_eq!(server.app.first_broken_event().unwrap(), Some(wanted), "{sql}");
        conn.execute_batch(PUT_BACK).unwrap();
        assert_eq!(server.app.first_broken_event().unwrap(), None, "{sql}");
    }
}

/// Returns the event as the file stores it.
fn event(conn: &Connection, seq: i64) -> Event {
    let sql = format!("SELECT {COLUMNS} FROM events WHERE seq = ?1");
    conn.query_row(&sql, [seq], |row| {
        Ok(Event {
            seq,
            time: Timestamp::from_millis(row.get(1)?),
            event_type: row.get(2)?,
            account_id: row.get(3)?,
            actor: row.get(4)?,
            actor_prefix: row.get(5)?,
            actor_account_id: row.get(6)?,
            subject: row.get(7)?,
            request_id: row.get(8)?,
            client_ip: row.get(9)?,
            data: row.get(10)?,
            prev_hash: ChainHash(row.get(11)?),
            hash: ChainHash(row.get(12)?),
        })
    })
    .unwrap()
}

#[test]
fn an_event_rewritten_with_its_hash_does_not_fit_the_next_event() {
    let mut server = busy();
    server.audited = false;
    let conn = vandal(&server);
    conn.execute_batch(BREAK_IN).unwrap();
    let mut forged = event(&conn, 4);
    assert_eq!(forged.expected_hash(), forged.hash);
    forged.data = "{}".to_owned();
    let change = "UPDATE events SET data = '{}', hash = ?1 WHERE seq = 4";
    conn.execute(change, [forged.expected_hash().0]).unwrap();
    assert_eq!(server.app.first_broken_event().unwrap(), Some(5));
}

#[test]
fn keyward_does_not_start_on_a_log_that_was_changed() {
    let mut server = busy();
    server.audited = false;
    server.stop();
    let open = |server: &TestServer| {
        let clock = Arc::clone(&server.clock);
        let entropy = Arc::new(SeededEntropy::new(3));
        Instance::open(&server.config, Sources { clock, entropy })
    };
    drop(open(&server).expect("a sound log"));
    let conn = vandal(&server);
    conn.execute_batch(BREAK_IN).unwrap();
    conn.execute_batch("UPDATE events SET actor = 'no one' WHERE seq = 3").unwrap();
    drop(conn);
    match open(&server) {
        Err(server::Error::Database { fault: StoreError::BrokenChain { seq: 3 }, .. }) => (),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_refused_change_leaves_no_event_and_no_gap() {
    let server = TestServer::start();
    let root = &server.root;
    let (account, first) = server.account(&json!({ "name": "full", "maxKeys": 1 }));
    let key = server.key(&["orders:read"]);
    let create = |caller: &str, body: &Value| server.post(caller, "/api/v1/api-keys", body);
    let good = json!({ "name": "x", "scopes": ["orders:read"] });
    let before = server.events();
    let refused = [
        (server.delete(&root.text, &root.path()), 409, "last_root_key"),
        (server.put(&root.text, &root.path(), &json!({ "enabled": false })), 409, "last_root_key"),
        (
            server.put(&root.text, &root.path(), &json!({ "scopes": ["orders:read"] })),
            409,
            "last_root_key",
        ),
        (create(&first.text, &good), 409, "too_many_keys"),
        (create(&root.text, &json!({ "name": "" })), 422, "invalid_request"),
        (create(&key.text, &good), 403, "missing_scope"),
        (create("absent", &good), 401, "invalid_key"),
        (server.delete(&first.text, &key.path()), 404, "not_found"),
        (
            server.put(&first.text, &first.path(), &json!({ "scopes": ["*"] })),
            403,
            "scope_escalation",
        ),
        (
            server.send(
                &Request::new("DELETE", &key.path()).key(&root.text).header("If-Match", "\"9\""),
            ),
            412,
            "precondition_failed",
        ),
    ];
    for (answer, status, code) in &refused {
        assert_eq!((answer.status, &*answer.problem()), (*status, *code));
    }
    assert_eq!(server.events(), before);
    server.put(&root.text, &format!("/api/v1/accounts/{account}"), &json!({ "maxKeys": 2 }));
    create(&first.text, &good).expect(201);
    let seqs: Vec<_> = server.events().iter().map(|it| it["seq"].as_u64().unwrap()).collect();
    let wanted: Vec<_> = (1..=before.len() as u64 + 2).collect();
    assert_eq!(seqs, wanted);
}

#[test]
fn the_times_in_the_log_never_decrease_even_if_the_clock_steps_back() {
    let mut server = TestServer::start();
    server.key(&["orders:read"]);
    server.advance(std::time::Duration::from_secs(10));
    server.key(&["orders:read"]);
    server.clock.step_wall(-3_600_000);
    let late = server.key(&["orders:read"]);
    assert_eq!(late.body["createdAt"], "2026-01-01T00:00:10.000Z");
    server.restart(|_| ());
    server.clock.step_wall(-3_600_000);
    server.key(&["orders:read"]);
    let events = server.events();
    let times: Vec<_> = events.iter().map(|it| it["time"].as_str().unwrap()).collect();
    assert!(times.is_sorted(), "{times:?}");
    assert_eq!(*times.last().unwrap(), "2026-01-01T00:00:10.000Z");
}
