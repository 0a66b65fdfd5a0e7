//! When the machine's clock is wrong: a key may end too early, but never too late.

use std::{sync::Arc, time::Duration};

use keyward::{
    domain::policy::RequiredScopes,
    env::{ManualClock, SeededEntropy, Timestamp},
    server::{Instance, Sources},
    service::Identity,
};
use serde_json::{Value, json};

use crate::support::{Key, TestServer};

const HOUR_MS: i64 = 3_600_000;
const MS: Duration = Duration::from_millis(1);
const TEN_MINUTES: Duration = Duration::from_mins(10);

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn grace(seconds: u64) -> Value {
    json!({ "gracePeriodSeconds": seconds })
}

/// Makes a key that expires this many seconds after the beginning.
fn brief(server: &TestServer, seconds: u64) -> Key {
    let end = TestServer::EPOCH.after(secs(seconds)).to_string();
    let body = json!({ "name": "brief", "scopes": ["orders:read"], "expiresAt": end });
    server.create(&server.root.text, &body)
}

fn count(server: &TestServer, event_type: &str) -> usize {
    server.events().iter().filter(|it| it["type"] == event_type).count()
}

fn last_used(server: &TestServer, key: &Key) -> Value {
    server.get(&server.root.text, &key.path()).expect(200).json()["lastUsedAt"].clone()
}

#[test]
fn after_a_step_back_of_the_clock_no_key_works_again_and_time_goes_on() {
    let mut server = TestServer::start();
    let (expired, rotated) = (brief(&server, 60), server.key(&["orders:read"]));
    let current = server.rotate(&server.root.text, &rotated.id, &grace(60));
    server.advance(secs(60));
    let dead = |server: &TestServer| {
        assert_eq!(server.code(&expired.text), "EXPIRED");
        assert_eq!(server.code(&rotated.text), "ROTATED");
        assert_eq!(server.code(&current.text), "VALID");
    };
    dead(&server);
    server.clock.step_wall(-HOUR_MS);
    dead(&server);
    assert_eq!(last_used(&server, &current), "2026-01-01T00:01:00.000Z");
    server.advance(secs(5));
    dead(&server);
    assert_eq!(last_used(&server, &current), "2026-01-01T00:01:05.000Z");
    server.restart(|_| ());
    dead(&server);
    server.advance(secs(5));
    dead(&server);
    assert_eq!(last_used(&server, &current), "2026-01-01T00:01:10.000Z");
    let made = server.key(&["orders:read"]);
    assert_eq!(made.body["createdAt"], "2026-01-01T00:01:10.000Z");
}

#[test]
fn after_a_step_back_while_keyward_is_down_no_key_works_again() {
    let mut server = TestServer::start();
    let expired = brief(&server, 60);
    server.advance(secs(60));
    server.stop();
    server.clock.step_wall(-HOUR_MS);
    server.restart(|_| ());
    assert_eq!(server.code(&expired.text), "EXPIRED");
    assert_eq!(count(&server, "clock.stepped"), 1);
}

#[test]
fn a_step_of_the_clock_is_recorded_once() {
    let server = TestServer::start();
    server.advance(secs(1));
    server.clock.step_wall(-HOUR_MS);
    assert_eq!(server.run_job("keep_time"), 1);
    assert_eq!(server.run_job("keep_time"), 0);
    server.advance(secs(60));
    assert_eq!(server.run_job("keep_time"), 0);
    let events = server.events();
    let steps: Vec<_> = events.iter().filter(|it| it["type"] == "clock.stepped").collect();
    assert_eq!(steps.len(), 1);
    assert_eq!(steps[0]["data"]["direction"], "back");
    assert_eq!(steps[0]["data"]["wall"], "2025-12-31T23:00:01.000Z");
    assert_eq!(steps[0]["data"]["expected"], "2026-01-01T00:00:01.000Z");
    assert_eq!(steps[0]["actor"]["type"], "scheduler");
}

#[test]
fn a_correction_of_less_than_an_hour_is_accepted_and_recorded_at_once() {
    let server = TestServer::start();
    let key = brief(&server, 3_000);
    server.clock.step_wall(HOUR_MS - 1);
    assert_eq!(server.code(&key.text), "EXPIRED");
    assert_eq!(server.run_job("expire_keys"), 1);
    server.clock.step_wall(1 - HOUR_MS);
    assert_eq!(server.code(&key.text), "EXPIRED");
}

#[test]
fn a_leap_ahead_ends_keys_at_once_but_is_recorded_only_when_both_clocks_agree() {
    let mut server = TestServer::start();
    let key = brief(&server, 3_600);
    let old = server.key(&["orders:read"]);
    server.rotate(&server.root.text, &old.id, &grace(3_600));
    let gone = server.key(&["orders:read"]);
    server.delete(&server.root.text, &gone.path()).expect(204);
    let quiet = |server: &TestServer| {
        assert_eq!([server.code(&key.text), server.code(&old.text)], ["EXPIRED", "ROTATED"]);
        let done = ["expire_keys", "end_graces", "purge"].map(|job| server.run_job(job));
        assert_eq!(done, [0, 0, 0]);
    };
    let leap = 40 * 24 * HOUR_MS;
    server.clock.step_wall(leap);
    quiet(&server);
    server.advance(TEN_MINUTES - MS);
    quiet(&server);

    // A leap that is undone before it is accepted has no effect.
    server.clock.step_wall(-leap);
    assert_eq!([server.code(&key.text), server.code(&old.text)], ["VALID", "VALID"]);
    server.run_job("keep_time");

    // The same holds over a restart.
    server.clock.step_wall(leap);
    quiet(&server);
    server.restart(|_| ());
    quiet(&server);
    server.clock.step_wall(-leap);
    assert_eq!(server.code(&key.text), "VALID");

    server.clock.step_wall(leap);
    quiet(&server);
    server.advance(TEN_MINUTES - MS);
    quiet(&server);
    server.advance(MS);
    assert_eq!(["expire_keys", "end_graces"].map(|job| server.run_job(job)), [1, 1]);
    // The expired key and the revoked one. The credential whose end was just recorded is too young.
    assert_eq!(server.run_job("purge"), 2);
    server.clock.step_wall(-leap);
    assert_eq!([server.code(&key.text), server.code(&old.text)], ["NOT_FOUND", "ROTATED"]);
}

#[test]
fn a_grace_period_ends_by_the_monotonic_clock_if_that_is_first() {
    let mut server = TestServer::start();
    let old = server.key(&["orders:read"]);
    server.clock.step_wall(2 * HOUR_MS);
    let new = server.rotate(&server.root.text, &old.id, &grace(300));
    assert_eq!(new.body["previousKeys"][0]["validUntil"], "2026-01-01T02:05:00.000Z");
    server.clock.step_wall(-2 * HOUR_MS);
    server.advance(secs(300) - MS);
    assert_eq!(server.code(&old.text), "VALID");
    server.advance(MS);
    assert_eq!(server.code(&old.text), "ROTATED");
    assert_eq!(server.run_job("end_graces"), 1);
    server.restart(|_| ());
    assert_eq!(server.code(&old.text), "ROTATED");
    assert_eq!(server.code(&new.text), "VALID");
}

#[test]
fn a_credential_whose_grace_period_has_ended_cannot_act() {
    let server = TestServer::start();
    let old = server.key(&["api-keys:write", "orders:read"]);
    server.clock.step_wall(2 * HOUR_MS);
    server.rotate(&server.root.text, &old.id, &grace(300));
    server.clock.step_wall(-2 * HOUR_MS);
    server.advance(secs(300));
    let body = json!({ "name": "x", "scopes": ["orders:read"] });
    let refused = server.post(&old.text, "/api/v1/api-keys", &body).expect(401);
    assert_eq!(refused.problem(), "key_rotated");
}

#[test]
fn a_credential_whose_grace_period_has_ended_is_neither_shown_nor_counted_as_in_grace() {
    let server = TestServer::start();
    let old = server.key(&["orders:read"]);
    server.clock.step_wall(2 * HOUR_MS);
    server.rotate(&server.root.text, &old.id, &grace(300));
    server.clock.step_wall(-2 * HOUR_MS);
    server.advance(secs(300));
    assert_eq!(server.code(&old.text), "ROTATED");
    let shown = server.get(&server.root.text, &old.path()).expect(200).json();
    assert_eq!(shown["previousKeys"], json!([]));
}

#[test]
fn nothing_is_purged_in_the_first_ten_minutes_after_a_start() {
    let mut server = TestServer::start();
    let key = server.key(&["orders:read"]);
    server.delete(&server.root.text, &key.path()).expect(204);
    server.advance(Duration::from_hours(31 * 24));
    server.restart(|_| ());
    assert_eq!(server.run_job("purge"), 0);
    server.advance(TEN_MINUTES - MS);
    assert_eq!(server.run_job("purge"), 0);
    assert_eq!(server.code(&key.text), "REVOKED");
    server.advance(MS);
    assert_eq!(server.run_job("purge"), 1);
    assert_eq!(server.code(&key.text), "NOT_FOUND");
}

#[test]
fn the_operator_can_accept_the_clock_and_the_decision_lasts() {
    let mut server = TestServer::start();
    let key = brief(&server, 1_800);
    // The clock was wrong, and keyward accepted it.
    server.clock.step_wall(HOUR_MS);
    assert_eq!(server.code(&key.text), "EXPIRED");
    server.clock.step_wall(-HOUR_MS);
    server.run_job("keep_time");
    assert_eq!(server.code(&key.text), "EXPIRED");

    assert_eq!(server.app.accept_clock().unwrap(), Duration::from_hours(1));
    assert_eq!(server.code(&key.text), "VALID");
    server.restart(|_| ());
    assert_eq!(server.code(&key.text), "VALID");
    let events = server.events();
    let accepted: Vec<_> = events.iter().filter(|it| it["type"] == "clock.accepted").collect();
    assert_eq!(accepted.len(), 1);
    assert_eq!(accepted[0]["actor"]["type"], "cli");
    assert_eq!(accepted[0]["data"]["before"], "2026-01-01T01:00:00.000Z");
    assert_eq!(accepted[0]["data"]["after"], "2026-01-01T00:00:00.000Z");
    let made = server.key(&["orders:read"]);
    assert_eq!(made.body["createdAt"], "2026-01-01T00:00:00.000Z");
}

/// Returns the verdict of a server that starts on a copy of the current files, with the wall clock
/// at `wall`. This is the case of a crash on a machine without a hardware clock.
fn code_after_a_crash(server: &TestServer, wall: Timestamp, text: &str) -> &'static str {
    let copy = tempfile::tempdir().unwrap();
    let mut config = server.config.clone();
    config.data_dir = copy.path().join("data");
    std::fs::create_dir(&config.data_dir).unwrap();
    for file in ["keyward.db", "keyward.db-wal"] {
        std::fs::copy(server.data_dir().join(file), config.data_dir.join(file)).unwrap();
    }
    let clock = Arc::new(ManualClock::at(wall));
    let sources = Sources { clock, entropy: Arc::new(SeededEntropy::new(2)) };
    let site = Instance::open(&config, sources).unwrap();
    let identity = match site.app.identify(text.as_bytes()) {
        Identity::Unverified(it) => site.app.verify_secret(it).unwrap().0,
        known => known,
    };
    site.app.judge(&identity, RequiredScopes::default()).verdict.as_str()
}

#[test]
fn what_was_ended_at_once_stays_ended_after_a_crash_with_the_clock_behind() {
    let server = TestServer::start();
    server.run_job("keep_time");
    server.advance(secs(30));
    let [zero, completed, revoked] = [(); 3].map(|()| server.key(&["orders:read"]));
    server.rotate(&server.root.text, &zero.id, &grace(0));
    server.rotate(&server.root.text, &completed.id, &grace(300));
    let path = format!("{}/rotate/complete", completed.path());
    server.post(&server.root.text, &path, &json!({})).expect(200);
    server.delete(&server.root.text, &revoked.path()).expect(204);
    for wall in [TestServer::EPOCH, Timestamp::from_millis(0)] {
        assert_eq!(code_after_a_crash(&server, wall, &revoked.text), "REVOKED");
        assert_eq!(code_after_a_crash(&server, wall, &completed.text), "ROTATED");
        assert_eq!(code_after_a_crash(&server, wall, &zero.text), "ROTATED");
    }
}

#[test]
fn what_the_log_records_as_ended_stays_ended_after_a_crash_with_the_clock_behind() {
    let server = TestServer::start();
    server.run_job("keep_time");
    let (expired, rotated) = (brief(&server, 20), server.key(&["orders:read"]));
    server.rotate(&server.root.text, &rotated.id, &grace(20));
    server.advance(secs(20));
    assert_eq!(["expire_keys", "end_graces"].map(|job| server.run_job(job)), [1, 1]);
    for wall in [TestServer::EPOCH, Timestamp::from_millis(0)] {
        assert_eq!(code_after_a_crash(&server, wall, &rotated.text), "ROTATED");
        assert_eq!(code_after_a_crash(&server, wall, &expired.text), "EXPIRED");
    }
}
