//! From where a key is used: the last five addresses, and an event about a new one.

use std::time::Duration;

use keyward::{config::Config, domain::client_address::AddressRecording};
use serde_json::{Value, json};

use crate::{
    least_privilege::rows,
    support::{Key, Request, TestServer},
};

const MS: Duration = Duration::from_millis(1);
const HOUR: Duration = Duration::from_hours(1);
const VERIFY: &str = "/api/v1/api-keys/verify";
const NEW: &str = "api_key.new_address";

fn with(recording: AddressRecording) -> impl FnOnce(&mut Config) {
    move |it| it.keys.client_addresses = recording
}

/// Verifies the key for a client, and returns the verdict.
fn ask(server: &TestServer, key: &Key, client: &str) -> String {
    let question = json!({ "key": key.text, "scopes": ["orders:read"], "clientIp": client });
    let answer = server.post(&server.root.text, VERIFY, &question).expect(200).json();
    answer["code"].as_str().unwrap().to_owned()
}

fn listed(server: &TestServer, key: &Key) -> Vec<Value> {
    let answer = server.get(&server.root.text, &format!("{}/addresses", key.path()));
    answer.expect(200).json()["data"].as_array().unwrap().clone()
}

fn addresses(server: &TestServer, key: &Key) -> Vec<String> {
    listed(server, key).iter().map(|it| it["address"].as_str().unwrap().to_owned()).collect()
}

/// Stores the uses, and returns the addresses of each event about the key.
fn announced(server: &TestServer, key: &Key) -> Vec<Vec<String>> {
    server.run_job("flush_usage");
    let path = format!("/api/v1/events?type={NEW}&subject={}", key.id);
    let list = server.get(&server.root.text, &path).expect(200).json();
    let events = list["data"].as_array().unwrap().iter();
    let addresses = |it: &Value| {
        let all = it["data"]["addresses"].as_array().unwrap().iter();
        all.map(|it| it["address"].as_str().unwrap().to_owned()).collect()
    };
    events.map(addresses).collect()
}

#[test]
fn the_sixth_address_pushes_out_the_one_that_was_used_longest_ago() {
    for stored in [false, true] {
        let mut server = TestServer::start();
        let key = server.key(&["orders:read"]);
        assert_eq!(addresses(&server, &key), [""; 0]);
        for n in 1..=5 {
            assert_eq!(ask(&server, &key, &format!("203.0.113.{n}")), "VALID");
            server.advance(MS);
        }
        if stored {
            server.restart(|_| ());
        }
        assert_eq!(addresses(&server, &key), [5, 4, 3, 2, 1].map(|n| format!("203.0.113.{n}")));
        ask(&server, &key, "203.0.113.1");
        let first = &listed(&server, &key)[0];
        let times = ["2026-01-01T00:00:00.000Z", "2026-01-01T00:00:00.005Z"];
        let expected = json!({
            "address": "203.0.113.1", "firstUsedAt": times[0], "lastUsedAt": times[1],
        });
        assert_eq!(*first, expected);
        server.advance(MS);
        ask(&server, &key, "203.0.113.6");
        let expected = [6, 1, 5, 4, 3].map(|n| format!("203.0.113.{n}"));
        assert_eq!(addresses(&server, &key), expected, "{stored}");
        server.restart(|_| ());
        assert_eq!(addresses(&server, &key), expected, "{stored}");
        assert_eq!(rows(&server, "key_addresses", &key), 5);
    }
}

#[test]
fn an_ipv6_client_is_its_network_and_a_mapped_one_is_ipv4() {
    let server = TestServer::start();
    let key = server.key(&["orders:read"]);
    for client in [
        "2001:db8:1:2::",
        "2001:db8:1:2:ffff:ffff:ffff:ffff",
        "2001:db8:1:3::",
        "203.0.113.7",
        "::ffff:203.0.113.7",
        "ff02::1",
    ] {
        ask(&server, &key, client);
        server.advance(MS);
    }
    let expected = ["203.0.113.7", "2001:db8:1:3::/64", "2001:db8:1:2::/64"];
    assert_eq!(addresses(&server, &key), expected);
    assert_eq!(announced(&server, &key), [["2001:db8:1:3::/64", "203.0.113.7"]]);
}

#[test]
fn only_accepted_requests_of_known_clients_count_on_every_way_in() {
    let server = TestServer::start();
    let root = &server.root.text;
    let body = json!({
        "name": "k", "scopes": ["orders:read", "api-keys:read", "api-keys:verify"],
        "allowedIps": ["203.0.113.0/24", "127.0.0.1"],
    });
    let key = server.create(root, &body);
    assert_eq!(ask(&server, &key, "198.51.100.1"), "IP_NOT_ALLOWED");
    let lacking = json!({ "key": key.text, "scopes": ["x:y"], "clientIp": "203.0.113.1" });
    server.post(root, VERIFY, &lacking).expect(422);
    let lacking = json!({
        "key": key.text, "scopes": ["orders:write"], "clientIp": "203.0.113.1",
    });
    assert_eq!(server.post(root, VERIFY, &lacking).json()["code"], "INSUFFICIENT_SCOPES");
    let free = server.key(&["orders:read"]);
    server.verify(&free.text, &["orders:read"]);
    assert_eq!(addresses(&server, &free), [""; 0], "verify names no client");
    let send = |request: Request, client: &str| {
        server.advance(MS);
        server.send(&request.key(&key.text).header("X-Forwarded-For", client)).status
    };
    assert_eq!(send(Request::new("GET", "/authz"), "198.51.100.1"), 403);
    assert_eq!(addresses(&server, &key), [""; 0]);
    assert_eq!(send(Request::new("GET", "/authz"), "198.51.100.9, 203.0.113.2"), 200);
    let list = || Request::new("GET", "/api/v1/api-keys");
    assert_eq!(send(list(), "203.0.113.3"), 200);
    for n in [4, 5] {
        let verify = Request::new("POST", VERIFY).json(&json!({ "key": "x" }));
        assert_eq!(send(verify, &format!("203.0.113.{n}")), 200, "the caller itself");
    }
    assert_eq!(addresses(&server, &key), [5, 4, 3, 2].map(|n| format!("203.0.113.{n}")));
    let unknown = Request::new("GET", "/authz").key(&free.text).header("X-Forwarded-For", "?");
    server.send(&unknown).expect(200);
    assert_eq!(addresses(&server, &free), [""; 0]);
    server.send(&Request::new("GET", "/authz").key(&free.text)).expect(200);
    assert_eq!(addresses(&server, &free), ["127.0.0.1"], "the proxy's own request");
}

#[test]
fn credentials_of_a_key_share_its_addresses() {
    let mut server = TestServer::start();
    let key = server.key(&["orders:read"]);
    ask(&server, &key, "203.0.113.1");
    let root = server.root.text.clone();
    let fresh = server.rotate(&root, &key.id, &json!({}));
    server.advance(MS);
    ask(&server, &fresh, "203.0.113.1");
    server.advance(MS);
    ask(&server, &key, "203.0.113.2");
    let before = listed(&server, &key);
    assert_eq!(before[1]["firstUsedAt"], "2026-01-01T00:00:00.000Z");
    assert_eq!(before[1]["lastUsedAt"], "2026-01-01T00:00:00.001Z");
    server.put(&root, &key.path(), &json!({ "name": "other" })).expect(200);
    let complete = format!("{}/rotate/complete", key.path());
    server.send(&Request::new("POST", &complete).key(&root)).expect(200);
    server.restart(|_| ());
    assert_eq!(listed(&server, &key), before);
}

#[test]
fn a_new_address_is_announced_once_and_the_first_is_not_new() {
    let mut server = TestServer::start();
    let (_, owner) = server.account(&json!({ "name": "Acme" }));
    let body = json!({ "name": "k", "scopes": ["orders:read"] });
    let key = server.create(&owner.text, &body);
    ask(&server, &key, "203.0.113.1");
    assert!(announced(&server, &key).is_empty(), "the first address");
    server.advance(HOUR);
    ask(&server, &key, "203.0.113.1");
    assert!(announced(&server, &key).is_empty(), "a known address");
    ask(&server, &key, "203.0.113.2");
    assert_eq!(announced(&server, &key), [["203.0.113.2"]]);
    server.restart(|_| ());
    server.advance(HOUR);
    for n in [2, 1, 2] {
        ask(&server, &key, &format!("203.0.113.{n}"));
        server.advance(MS);
    }
    assert_eq!(announced(&server, &key).len(), 1, "both are known");
    // The account sees the event, and the addresses of its own keys.
    let path = format!("/api/v1/events?type={NEW}");
    let event = server.get(&owner.text, &path).expect(200).json()["data"][0].clone();
    let at = "2026-01-01T01:00:00.000Z";
    let data = json!({ "addresses": [{ "address": "203.0.113.2", "firstUsedAt": at }] });
    assert_eq!((&event["data"], &event["subject"]), (&data, &json!(key.id)));
    assert_eq!(event["actor"]["type"], "scheduler");
    // An address that fell out of the five is new again.
    for n in 3..=6 {
        ask(&server, &key, &format!("203.0.113.{n}"));
        server.advance(MS);
    }
    assert_eq!(announced(&server, &key).len(), 2);
    server.advance(HOUR);
    ask(&server, &key, "203.0.113.1");
    assert_eq!(announced(&server, &key)[2], ["203.0.113.1"]);
}

#[test]
fn a_key_has_at_most_one_event_an_hour_and_no_new_address_is_forgotten() {
    let mut server = TestServer::start();
    let key = server.key(&["orders:read"]);
    let other = server.key(&["orders:read"]);
    ask(&server, &key, "203.0.113.1");
    ask(&server, &key, "203.0.113.2");
    assert_eq!(announced(&server, &key), [["203.0.113.2"]], "the first of one batch is not new");
    server.advance(MS);
    ask(&server, &key, "203.0.113.3");
    server.advance(MS);
    ask(&server, &key, "203.0.113.4");
    assert_eq!(announced(&server, &key).len(), 1);
    ask(&server, &other, "203.0.113.1");
    ask(&server, &other, "203.0.113.2");
    assert_eq!(announced(&server, &other).len(), 1, "each key has its own hour");
    server.restart(|_| ());
    server.advance(HOUR - 3 * MS);
    assert_eq!(announced(&server, &key).len(), 1, "a millisecond before the hour is over");
    server.advance(MS);
    let expected = [vec!["203.0.113.2"], vec!["203.0.113.3", "203.0.113.4"]];
    assert_eq!(announced(&server, &key), expected, "although the key was not used again");
    for n in 0..100 {
        ask(&server, &key, &format!("198.51.100.{n}"));
        server.advance(MS);
        server.run_job("flush_usage");
    }
    assert_eq!(announced(&server, &key).len(), 2);
    server.advance(HOUR);
    let last = announced(&server, &key).remove(2);
    assert_eq!(last, [95, 96, 97, 98, 99].map(|n| format!("198.51.100.{n}")));
    server.advance(24 * HOUR);
    assert_eq!(announced(&server, &key).len(), 3);
}

#[test]
fn the_events_can_be_switched_off() {
    let server = TestServer::with(with(AddressRecording::Store));
    let key = server.key(&["orders:read"]);
    for n in 1..=3 {
        ask(&server, &key, &format!("203.0.113.{n}"));
        server.advance(MS);
        assert!(announced(&server, &key).is_empty());
    }
    assert_eq!(addresses(&server, &key), [3, 2, 1].map(|n| format!("203.0.113.{n}")));
}

#[test]
fn no_address_is_stored_if_that_is_switched_off_and_stored_ones_are_deleted() {
    let mut server = TestServer::start();
    let (key, idle) = (server.key(&["orders:read"]), server.key(&["orders:read"]));
    ask(&server, &key, "203.0.113.1");
    ask(&server, &idle, "203.0.113.1");
    server.restart(with(AddressRecording::Off));
    assert_eq!(addresses(&server, &key), [""; 0], "although the file still has them");
    server.advance(MS);
    ask(&server, &key, "203.0.113.2");
    assert!(announced(&server, &key).is_empty());
    assert_eq!((rows(&server, "key_addresses", &key), addresses(&server, &key)), (1, vec![]));
    server.run_job("keep_time");
    server.advance(Duration::from_mins(11));
    server.run_job("keep_time");
    server.run_job("purge");
    for it in [&key, &idle] {
        assert_eq!(rows(&server, "key_addresses", it), 0);
    }
    // An address list is obeyed nevertheless.
    let root = &server.root.text;
    server.put(root, &key.path(), &json!({ "allowedIps": ["203.0.113.2"] })).expect(200);
    assert_eq!(ask(&server, &key, "203.0.113.1"), "IP_NOT_ALLOWED");
    assert_eq!(ask(&server, &key, "203.0.113.2"), "VALID");
}

#[test]
fn an_account_sees_the_addresses_of_its_own_keys_alone() {
    let server = TestServer::start();
    let (_, owner) = server.account(&json!({ "name": "Acme" }));
    let (_, stranger) = server.account(&json!({ "name": "Other" }));
    let body = json!({ "name": "k", "scopes": ["orders:read"] });
    let key = server.create(&owner.text, &body);
    ask(&server, &key, "203.0.113.1");
    let path = format!("{}/addresses", key.path());
    let shown = server.get(&owner.text, &path).expect(200).json();
    assert_eq!(shown["data"][0]["address"], "203.0.113.1");
    assert_eq!(server.get(&stranger.text, &path).expect(404).problem(), "not_found");
    let by_prefix = format!("/api/v1/api-keys/{}/addresses", &key.text[..12]);
    assert_eq!(server.get(&owner.text, &by_prefix).expect(200).json(), shown);
    let own = server.get(&owner.text, "/api/v1/api-keys/self/addresses").expect(200).json();
    assert_eq!(own["data"][0]["address"], "127.0.0.1");
    assert_eq!(server.get(&key.text, &path).expect(403).problem(), "missing_scope");
    server.delete(&owner.text, &key.path()).expect(204);
    assert_eq!(server.get(&owner.text, &path).expect(404).problem(), "not_found");
}
