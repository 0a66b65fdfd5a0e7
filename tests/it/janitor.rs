//! Scheduled jobs: a late job lets no ended key work, and a repeated job changes nothing.

use std::time::Duration;

use keyward::{
    domain::{
        api_key::RequestedExpiry,
        policy::RequiredScopes,
        scope::{Scope, ScopeSet},
        text::Name,
    },
    service::{Identity, IssuedKey, Job, KeyAccess, KeyChange, KeyPatch, NewKey, Principal},
};
use rusqlite::Connection;
use serde_json::{Value, json};

use crate::support::{Key, Request, TestServer};

const MS: Duration = Duration::from_millis(1);
const DAY: Duration = Duration::from_hours(24);

fn brief(server: &TestServer) -> Key {
    let body = json!({
        "name": "brief", "scopes": ["orders:read"], "expiresAt": "2026-01-01T00:01:00Z",
    });
    server.create(&server.root.text, &body)
}

fn last_of(server: &TestServer, subject: &str) -> Value {
    let events = server.events();
    events.iter().rfind(|it| it["subject"] == subject).cloned().unwrap_or_default()
}

#[test]
fn an_expired_key_is_refused_before_any_job_runs_and_recorded_once() {
    let mut server = TestServer::start();
    let key = brief(&server);
    server.advance(Duration::from_mins(1) - MS);
    assert_eq!(server.code(&key.text), "VALID");
    assert_eq!(server.run_job("expire_keys"), 0);
    server.advance(MS);
    assert_eq!(server.code(&key.text), "EXPIRED");
    assert_eq!(server.story_of(&key.id), ["api_key.created", "api_key.expiring"]);
    assert_eq!(server.run_job("expire_keys"), 1);
    assert_eq!(server.run_job("expire_keys"), 0);
    server.restart(|_| ());
    assert_eq!(server.run_job("expire_keys"), 0);
    assert_eq!(
        server.story_of(&key.id),
        ["api_key.created", "api_key.expiring", "api_key.expired"]
    );
    let event = last_of(&server, &key.id);
    assert_eq!(event["actor"]["type"], "scheduler");
    assert_eq!(event["data"]["expiresAt"], "2026-01-01T00:01:00.000Z");
    let shown = server.get(&server.root.text, &key.path()).expect(200).json();
    assert_eq!(shown["status"], "expired");
}

#[test]
fn ended_keys_are_purged_after_retention_and_their_events_stay() {
    let server = TestServer::with(|it| it.keys.retention = DAY);
    let (expired, revoked) = (brief(&server), server.key(&["orders:read"]));
    let (live, disabled) = (server.key(&["orders:read"]), server.key(&["orders:read"]));
    server.put(&server.root.text, &disabled.path(), &json!({ "enabled": false })).expect(200);
    server.advance(Duration::from_mins(1));
    server.delete(&server.root.text, &revoked.path()).expect(204);
    server.run_job("expire_keys");
    let known = server.app.credential_count();
    server.advance(DAY);
    assert_eq!(server.run_job("purge"), 0);
    assert_eq!(server.code(&revoked.text), "REVOKED");
    server.get(&server.root.text, &expired.path()).expect(200);
    server.advance(MS);
    assert_eq!(server.run_job("purge"), 2);
    assert_eq!(server.run_job("purge"), 0);
    assert_eq!(server.app.credential_count(), known - 2);
    for (key, code) in [
        (&expired, "NOT_FOUND"),
        (&revoked, "NOT_FOUND"),
        (&live, "VALID"),
        (&disabled, "DISABLED"),
    ] {
        assert_eq!(server.code(&key.text), code);
    }
    server.get(&server.root.text, &expired.path()).expect(404);
    let story = ["api_key.created", "api_key.expiring", "api_key.expired", "api_key.purged"];
    assert_eq!(server.story_of(&expired.id), story);
    assert_eq!(last_of(&server, &expired.id)["data"]["reason"], "expired");
    let story = ["api_key.created", "api_key.revoked", "api_key.purged"];
    assert_eq!(server.story_of(&revoked.id), story);
    assert_eq!(last_of(&server, &revoked.id)["data"]["reason"], "revoked");
    assert_eq!(last_of(&server, &revoked.id)["data"]["keyPrefixes"], json!([&revoked.text[..12]]));
}

#[test]
fn a_deleted_account_is_purged_with_its_keys() {
    let server = TestServer::start();
    let body = json!({ "name": "Acme", "externalId": "cust_42" });
    let (id, first) = server.account(&body);
    let second = server.create(&first.text, &json!({ "name": "x", "scopes": ["orders:read"] }));
    let path = format!("/api/v1/accounts/{id}");
    server.delete(&server.root.text, &path).expect(204);
    assert_eq!([server.code(&first.text), server.code(&second.text)], ["REVOKED", "REVOKED"]);
    server.account(&body); // The external id is free again at once.
    server.advance(30 * DAY);
    assert_eq!(server.run_job("purge"), 0);
    server.advance(MS);
    assert_eq!(server.run_job("purge"), 3);
    assert_eq!([server.code(&first.text), server.code(&second.text)], ["NOT_FOUND", "NOT_FOUND"]);
    let story = ["account.created", "account.deleted", "account.purged"];
    assert_eq!(server.story_of(&id), story);
    server.get(&server.root.text, &path).expect(404);
}

/// Returns the root key as the service layer sees it.
fn root(server: &TestServer) -> Principal {
    let identity = match server.app.identify(server.root.text.as_bytes()) {
        Identity::Unverified(it) => server.app.verify_secret(it).unwrap().0,
        known => known,
    };
    let found = server.app.judge(&identity, RequiredScopes::default());
    server
        .app
        .principal(&found, keyward::domain::event::RequestContext::default())
        .expect("the root key is valid")
}

/// Makes many keys of the operator at once.
fn many_keys(server: &TestServer, count: u64, expires_at: RequestedExpiry) -> Vec<IssuedKey> {
    let (app, caller) = (&server.app, root(server));
    let make = || {
        let scopes = ScopeSet::new([Scope::parse("orders:read").unwrap()]).unwrap();
        let new = NewKey {
            settings: KeyPatch { expires_at, ..KeyPatch::default() },
            ..NewKey::new(Name::parse("one of many").unwrap(), scopes)
        };
        let permit = app.permit_new_key(&caller, caller.account, &new).unwrap();
        app.create_key(permit, caller.account, new, app.mint()).unwrap()
    };
    std::thread::scope(|scope| {
        let share = || (0..count / 16).map(|_| make()).collect::<Vec<_>>();
        let workers: Vec<_> = (0..16).map(|_| scope.spawn(share)).collect();
        workers.into_iter().flat_map(|it| it.join().unwrap()).collect()
    })
}

#[test]
fn uses_and_ends_of_grace_periods_are_stored_in_batches_too() {
    const KEYS: u64 = 112;
    let server = TestServer::start();
    let (app, caller) = (&server.app, root(&server));
    let keys = many_keys(&server, KEYS, RequestedExpiry::Never);
    app.flush_usage().unwrap();
    for key in &keys {
        let Identity::Unverified(it) = app.identify(key.plaintext.expose().as_bytes()) else {
            panic!("it was used before")
        };
        app.judge(&app.verify_secret(it).unwrap().0, RequiredScopes::default());
    }
    let grace = Some(Duration::from_secs(1));
    for key in &keys {
        let wanted = KeyChange { id: key.view.key.id, access: KeyAccess::Write, expected: None };
        let permit = app.permit_rotation(&caller, wanted, grace).unwrap();
        app.rotate_key(permit, wanted, grace, app.mint()).unwrap();
    }
    server.advance(Duration::from_secs(1));
    for job in [Job::FlushUsage, Job::EndGraces] {
        let stopped = app.run_job(job, &|| true).unwrap();
        assert_eq!(stopped, 100, "{job:?} can be stopped between two batches");
        assert_eq!(app.run_job(job, &|| false).unwrap(), KEYS - 100, "{job:?}: nothing is lost");
        assert_eq!(app.run_job(job, &|| false).unwrap(), 0, "{job:?}");
    }
}

#[test]
fn the_janitor_works_in_batches_until_all_is_done() {
    const KEYS: u64 = 240;
    let server = TestServer::start();
    let end = TestServer::EPOCH.after(Duration::from_mins(1));
    many_keys(&server, KEYS, RequestedExpiry::At(end));
    server.advance(Duration::from_mins(1));
    for (job, batch, after) in [(Job::ExpireKeys, 100, 30 * DAY + MS), (Job::Purge, 25, DAY)] {
        let stopped = server.app.run_job(job, &|| true).unwrap();
        assert_eq!(stopped, batch, "{job:?} can be stopped between two batches");
        assert_eq!(server.app.run_job(job, &|| false).unwrap(), KEYS - batch, "{job:?}");
        assert_eq!(server.app.run_job(job, &|| false).unwrap(), 0, "{job:?}");
        server.advance(after);
    }
    assert_eq!(server.app.credential_count(), 1, "the root key");
    let conn = Connection::open(server.database()).unwrap();
    let events = |name: &str| {
        let sql = "SELECT count(DISTINCT subject) FROM events WHERE type = ?1";
        conn.query_row(sql, [name], |row| row.get::<_, i64>(0)).unwrap().unsigned_abs()
    };
    for (name, wanted) in
        [("api_key.created", KEYS + 1), ("api_key.expired", KEYS), ("api_key.purged", KEYS)]
    {
        assert_eq!(events(name), wanted, "{name}");
    }
}

#[test]
fn ended_credentials_and_accounts_are_purged_in_batches_too() {
    let server = TestServer::start();
    let key = server.key(&["orders:read"]);
    for _ in 0..3 {
        server.rotate(&server.root.text, &key.id, &json!({ "gracePeriodSeconds": 0 }));
        let (id, _) = server.account(&json!({ "name": "x" }));
        server.delete(&server.root.text, &format!("/api/v1/accounts/{id}")).expect(204);
    }
    server.advance(MS);
    server.run_job("end_graces");
    server.advance(30 * DAY + MS);
    // Three credentials, and three accounts with a key each.
    assert_eq!(server.run_job("purge"), 9);
    assert_eq!(server.run_job("purge"), 0);
    assert_eq!(server.app.credential_count(), 2);
}

#[test]
fn every_job_but_the_backup_runs_once_at_the_start() {
    let mut server = TestServer::start();
    let key = brief(&server);
    server.advance(Duration::from_mins(1));
    server.restart(|_| ());
    assert_eq!(
        server.story_of(&key.id),
        ["api_key.created", "api_key.expiring", "api_key.expired"]
    );
    let metrics = server.send(&Request::new("GET", "/metrics")).expect(200).text();
    for job in Job::ALL {
        let (name, runs) = (job.as_str(), i32::from(job != Job::Backup));
        let line = format!("keyward_job_runs_total{{job=\"{name}\",result=\"ok\"}} {runs}");
        assert!(metrics.contains(&line), "{line}\n{metrics}");
    }
}

#[test]
fn each_job_has_the_name_under_which_it_is_configured() {
    let names = Job::ALL.map(Job::as_str);
    let wanted = [
        "end_graces",
        "expire_keys",
        "notices",
        "purge",
        "flush_usage",
        "keep_time",
        "record_denials",
        "tokens",
        "checkpoint",
        "backup",
        "upkeep",
    ];
    assert_eq!(names, wanted);
    for job in Job::ALL {
        assert_eq!(Job::parse(job.as_str()), Some(job));
    }
    for unknown in ["", "Purge", "purge ", "everything"] {
        assert_eq!(Job::parse(unknown), None, "{unknown:?}");
    }
}

#[test]
fn uses_are_collected_in_memory_and_stored_by_their_job() {
    let server = TestServer::start();
    let key = server.key(&["orders:read"]);
    server.run_job("flush_usage");
    let conn = Connection::open(server.database()).unwrap();
    let stored = || {
        let sql = "SELECT max(last_used_at_ms) FROM credential_usage WHERE prefix = ?1";
        conn.query_row(sql, [&key.text[..12]], |row| row.get::<_, Option<i64>>(0)).unwrap()
    };
    server.advance(Duration::from_secs(3));
    for _ in 0..5 {
        assert_eq!(server.code(&key.text), "VALID");
    }
    assert_eq!(stored(), None, "verification writes nothing");
    let shown = server.get(&server.root.text, &key.path()).expect(200).json();
    assert_eq!(shown["lastUsedAt"], "2026-01-01T00:00:03.000Z");
    assert_eq!(server.run_job("flush_usage"), 2, "the key and the root key");
    assert_eq!(stored(), Some(TestServer::EPOCH.as_millis() + 3_000));
    assert_eq!(server.run_job("flush_usage"), 0);
}

#[test]
fn upkeep_checkpoints_the_write_ahead_log() {
    let server = TestServer::start();
    server.key(&["orders:read"]);
    let wal = server.data_dir().join("keyward.db-wal");
    assert!(0 < std::fs::metadata(&wal).unwrap().len());
    server.run_job("upkeep");
    assert_eq!(std::fs::metadata(&wal).unwrap().len(), 0);
}
