//! A key is announced 30, 7 and 1 days before it expires, exactly once each.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Key, TestServer};

const MS: Duration = Duration::from_millis(1);
const DAY: Duration = Duration::from_hours(24);

/// A key of the operator that expires this long after the epoch.
fn ending(server: &TestServer, after: Duration) -> Key {
    let end = TestServer::EPOCH.after(after).to_string();
    let body = json!({ "name": "x", "scopes": ["orders:read"], "expiresAt": end });
    server.create(&server.root.text, &body)
}

fn move_to(server: &TestServer, key: &Key, after: Option<Duration>) {
    let end = after.map(|it| TestServer::EPOCH.after(it).to_string());
    server.put(&server.root.text, &key.path(), &json!({ "expiresAt": end })).expect(200);
}

/// The notices of a key: how many days were left.
fn told(server: &TestServer, key: &Key) -> Vec<i64> {
    let path = format!("/api/v1/events?type=api_key.expiring&subject={}", key.id);
    let events = server.get(&server.root.text, &path).expect(200).json();
    let events = events["data"].as_array().cloned().unwrap();
    events.iter().map(|it| it["data"]["days"].as_i64().unwrap()).collect()
}

#[test]
fn each_notice_comes_once_and_not_a_millisecond_early_also_across_restarts() {
    let mut server = TestServer::start();
    let key = ending(&server, 40 * DAY);
    let mut now = Duration::ZERO;
    let mut expected = Vec::new();
    for days in [30, 7, 1_u32] {
        let at = (40 - days) * DAY;
        server.advance(at - now - MS);
        assert_eq!(server.run_job("notices"), 0, "{days} days and a millisecond are left");
        server.advance(MS);
        assert_eq!(server.run_job("notices"), 1);
        expected.push(i64::from(days));
        assert_eq!(told(&server, &key), expected);
        assert_eq!(server.run_job("notices"), 0);
        server.restart(|_| ());
        assert_eq!(told(&server, &key), expected, "the job ran at the start");
        now = at;
    }
    server.advance(DAY);
    assert_eq!(server.run_job("notices"), 0, "it has expired");
    let event = server.events().into_iter().find(|it| it["type"] == "api_key.expiring").unwrap();
    assert_eq!(event["actor"]["type"], "scheduler");
    assert_eq!(
        event["data"],
        json!({
            "name": "x", "keyPrefixes": [&key.text[..12]], "days": 30,
            "expiresAt": key.body["expiresAt"],
        })
    );
}

#[test]
fn a_notice_changes_neither_the_key_nor_its_revision() {
    let server = TestServer::start();
    let key = ending(&server, 40 * DAY);
    let before = server.get(&server.root.text, &key.path()).expect(200);
    server.advance(10 * DAY);
    assert_eq!(server.run_job("notices"), 1);
    let after = server.get(&server.root.text, &key.path()).expect(200);
    assert_eq!((after.json(), after.header("etag")), (before.json(), before.header("etag")));
    assert_eq!(server.code(&key.text), "VALID");
}

#[test]
fn a_key_made_with_less_time_left_is_announced_at_once_and_once() {
    let server = TestServer::start();
    for (left, at_once) in [
        (30 * DAY + MS, vec![]),
        (30 * DAY, vec![30]),
        (7 * DAY + MS, vec![30]),
        (6 * DAY, vec![7]),
        (DAY, vec![1]),
        (MS, vec![1]),
    ] {
        let key = ending(&server, left);
        assert_eq!(told(&server, &key), at_once, "{left:?}");
        let mut story = vec!["api_key.created"];
        story.extend(at_once.iter().map(|_| "api_key.expiring"));
        assert_eq!(server.story_of(&key.id), story);
    }
    assert_eq!(server.run_job("notices"), 0);
    let six = ending(&server, 6 * DAY);
    server.advance(5 * DAY);
    server.run_job("notices");
    assert_eq!(told(&server, &six), [7, 1]);

    let brief = json!({ "name": "Acme", "defaultKeyLifetimeSeconds": 3600 });
    let (_, first) = server.account(&brief);
    assert_eq!(told(&server, &first), [1], "the first key of an account as well");
}

#[test]
fn a_moved_expiry_is_announced_anew_and_repeats_no_notice() {
    let mut server = TestServer::start();
    let key = ending(&server, 60 * DAY);
    move_to(&server, &key, Some(6 * DAY));
    assert_eq!(told(&server, &key), [7], "brought near");
    move_to(&server, &key, Some(5 * DAY));
    assert_eq!(told(&server, &key), [7], "it was told already");
    move_to(&server, &key, Some(20 * DAY));
    server.run_job("notices");
    assert_eq!(told(&server, &key), [7], "30 days have passed");
    server.advance(13 * DAY - MS);
    assert_eq!(server.run_job("notices"), 0);
    server.advance(MS);
    assert_eq!(server.run_job("notices"), 1);
    assert_eq!(told(&server, &key), [7, 7], "another end, 7 days ahead");

    move_to(&server, &key, Some(60 * DAY)); // 47 days are left
    server.restart(|_| ());
    assert_eq!(told(&server, &key), [7, 7]);
    server.advance(17 * DAY);
    assert_eq!(server.run_job("notices"), 1);
    assert_eq!(told(&server, &key), [7, 7, 30]);
    move_to(&server, &key, None);
    server.advance(29 * DAY);
    assert_eq!(server.run_job("notices"), 0, "it never expires");
    // A change of other things announces nothing.
    server.put(&server.root.text, &key.path(), &json!({ "name": "y" })).expect(200);
    assert_eq!(told(&server, &key), [7, 7, 30]);
}

#[test]
fn of_several_notices_that_were_missed_only_the_newest_comes() {
    let mut server = TestServer::start();
    let (near, nearer, over) =
        (ending(&server, 45 * DAY), ending(&server, 40 * DAY), ending(&server, 35 * DAY));
    let revoked = ending(&server, 45 * DAY);
    server.delete(&server.root.text, &revoked.path()).expect(204);
    server.stop();
    server.advance(39 * DAY);
    server.restart(|_| ());
    assert_eq!(server.run_job("notices"), 0, "the time since the last run is in doubt at first");
    server.advance(Duration::from_mins(10));
    assert_eq!(server.run_job("notices"), 2);
    assert_eq!(told(&server, &near), [7]);
    assert_eq!(told(&server, &nearer), [1]);
    assert_eq!(told(&server, &over), [] as [i64; 0], "it had expired");
    assert_eq!(told(&server, &revoked), [] as [i64; 0]);
    assert_eq!(server.run_job("notices"), 0);
}

#[test]
fn no_notice_comes_while_the_clock_is_in_doubt() {
    let server = TestServer::start();
    let key = ending(&server, 40 * DAY);
    let leap = 20 * 24 * 3_600_000;
    server.clock.step_wall(leap);
    assert_eq!(server.run_job("notices"), 0);
    let made = ending(&server, 50 * DAY); // By the leaping clock 30 days are left.
    move_to(&server, &key, Some(41 * DAY));
    server.advance(Duration::from_mins(10) - MS);
    assert_eq!(server.run_job("notices"), 0);
    assert!(told(&server, &key).is_empty() && told(&server, &made).is_empty());
    server.clock.step_wall(-leap);
    server.run_job("keep_time");
    assert_eq!(server.run_job("notices"), 0, "it was no notice at all");

    server.clock.step_wall(leap);
    assert_eq!(server.run_job("notices"), 0);
    server.advance(Duration::from_mins(10));
    assert_eq!(server.run_job("notices"), 2, "both clocks agree");
    assert_eq!([told(&server, &key), told(&server, &made)], [vec![30], vec![30]]);
}

#[test]
fn notices_come_in_batches_until_all_are_given() {
    const KEYS: u64 = 130;
    let server = TestServer::start();
    for _ in 0..KEYS {
        ending(&server, 31 * DAY);
    }
    server.advance(DAY);
    let app = &server.app;
    let job = keyward::service::Job::Notices;
    assert_eq!(app.run_job(job, &|| true).unwrap(), 100, "it can be stopped between two batches");
    assert_eq!(app.run_job(job, &|| false).unwrap(), KEYS - 100);
    assert_eq!(app.run_job(job, &|| false).unwrap(), 0);
}

#[test]
fn forward_auth_tells_when_the_key_expires() {
    let server = TestServer::start();
    let asked = |key: &Key| {
        let request = crate::support::Request::new("GET", "/authz").key(&key.text);
        let answer = server.send(&request).expect(200);
        answer.header("x-keyward-key-expires-at").map(str::to_owned)
    };
    let key = ending(&server, 40 * DAY);
    let shown = |key: &Value| key["expiresAt"].as_str().map(str::to_owned);
    assert_eq!(asked(&key), shown(&key.body));
    move_to(&server, &key, Some(6 * DAY + MS));
    assert_eq!(asked(&key).as_deref(), Some("2026-01-07T00:00:00.001Z"));
    move_to(&server, &key, None);
    assert_eq!(asked(&key).as_deref(), Some("-"));
}
