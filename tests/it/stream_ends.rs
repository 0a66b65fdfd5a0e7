//! A stream ends when its reader loses access and when the server stops.

use std::time::Duration;

use keyward::{domain::event::EventType, http::stream_limits::StreamLimits};
use serde_json::{Value, json};

use crate::support::{Binary, EventStream, Key, Request, TestServer};

const STREAM: &str = "/api/v1/events/stream";

#[track_caller]
fn open(server: &TestServer, key: &str) -> EventStream {
    let mut stream = EventStream::open(server.address, &Request::new("GET", STREAM).key(key));
    assert_eq!(stream.status, 200, "{}", stream.head);
    stream.next().expect("an opening");
    stream
}

fn note(server: &TestServer) {
    server.app.record_server_event(EventType::ServerStarted, json!({})).expect("recorded");
}

/// Makes a key of the operator that may read the log.
fn reader(server: &TestServer) -> Key {
    server.key(&["events:read"])
}

/// Takes access away from a key.
type Fall<'a> = &'a dyn Fn(&Key);

#[test]
fn a_reader_that_loses_access_gets_the_reason_and_no_more_events() {
    let server = TestServer::start();
    let root = &server.root.text;
    let change = |key: &Key, change: Value| {
        server.put(root, &key.path(), &change).expect(200);
    };
    let cases: [(&str, Fall<'_>); 5] = [
        ("key_revoked", &|key| drop(server.delete(root, &key.path()).expect(204))),
        ("key_disabled", &|key| change(key, json!({ "enabled": false }))),
        ("missing_scope", &|key| change(key, json!({ "scopes": ["orders:read"] }))),
        ("key_rotated", &|key| {
            server.rotate(root, &key.id, &json!({ "gracePeriodSeconds": 0 }));
        }),
        ("key_expired", &|key| {
            change(key, json!({ "expiresAt": "2026-01-01T01:00:00Z" }));
            server.advance(Duration::from_hours(1));
            note(&server);
        }),
    ];
    for (reason, fall) in cases {
        let key = reader(&server);
        let mut stream = open(&server, &key.text);
        note(&server);
        assert_eq!(stream.event()["type"], "server.started", "{reason}");
        fall(&key);
        // A change that leaves the access in place is still an event on the stream.
        let (mut event, mut data) = stream.next_data().expect("more");
        if reason == "key_expired" && event == "api_key.updated" {
            (event, data) = stream.next_data().expect("an end");
        }
        assert_eq!((event.as_str(), &data), ("end", &json!({ "reason": reason })));
        assert!(stream.next().is_none(), "{reason}");
        let refused = server.get(&key.text, STREAM).problem();
        assert_eq!(refused, reason, "the next request is refused for the same reason");
    }
}

#[test]
fn a_suspended_or_deleted_account_gets_no_more_events() {
    let server = TestServer::start();
    let root = &server.root.text;
    for (reason, body) in
        [("account_suspended", Some(json!({ "status": "suspended" }))), ("key_revoked", None)]
    {
        let (account, owner) = server.account(&json!({ "name": "Acme" }));
        let path = format!("/api/v1/accounts/{account}");
        let mut streams = [open(&server, &owner.text), open(&server, &owner.text)];
        match body {
            Some(body) => server.put(root, &path, &body).expect(200),
            None => server.delete(root, &path).expect(204),
        };
        for stream in &mut streams {
            assert_eq!(stream.end(), reason);
        }
    }
}

#[test]
fn an_old_credential_reads_on_until_its_grace_period_ends() {
    let server = TestServer::start();
    let key = reader(&server);
    let mut stream = open(&server, &key.text);
    server.rotate(&server.root.text, &key.id, &json!({ "gracePeriodSeconds": 300 }));
    assert_eq!(stream.event()["type"], "api_key.rotated");
    server.advance(Duration::from_millis(299_999));
    note(&server);
    assert_eq!(stream.event()["type"], "server.started");
    server.advance(Duration::from_millis(1));
    note(&server);
    assert_eq!(stream.end(), "key_rotated");
}

#[test]
fn a_stream_whose_key_expires_ends_at_the_next_heartbeat() {
    let limits = StreamLimits { heartbeat: Duration::from_millis(20), ..StreamLimits::default() };
    let server = TestServer::with_streams(limits);
    let body = json!({ "name": "x", "scopes": ["events:read"],
                       "expiresAt": "2026-01-01T01:00:00Z" });
    let key = server.create(&server.root.text, &body);
    let mut stream = open(&server, &key.text);
    assert!(stream.next().expect("a heartbeat").comment);
    server.advance(Duration::from_hours(1));
    assert_eq!(stream.end(), "key_expired");
}

#[test]
fn a_server_that_stops_ends_its_streams_correctly() {
    let mut server = TestServer::start();
    let mut streams = [open(&server, &server.root.text), open(&server, &server.root.text)];
    server.stop();
    for stream in &mut streams {
        assert!(stream.next().is_none(), "an end, and no broken connection");
    }
}

#[test]
fn a_signal_ends_the_server_while_streams_are_open() {
    let dir = tempfile::tempdir().unwrap();
    let server = Binary::serve(dir.path());
    let root = server.root_key();
    let request = Request::new("GET", STREAM).key(&root);
    let mut streams = [(); 3].map(|()| EventStream::open(server.address, &request));
    for stream in &mut streams {
        stream.next().expect("an opening");
    }
    server.child.signal("-TERM");
    for stream in &mut streams {
        // A stream that was cut off would end without its last chunk.
        assert!(stream.next().is_none());
    }
    assert_eq!(server.wait().status.code(), Some(0));
}
