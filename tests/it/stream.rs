//! The event stream: every event once, in order, only for its readers.

use std::{
    io::{Read, Write},
    net::TcpStream,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use keyward::{
    domain::event::EventType,
    http::stream_limits::{PermitLimits, StreamLimits},
    service::{EventFilter, Viewer},
};
use serde_json::{Value, json};

use crate::support::{EventStream, Key, Message, Request, TestServer};

const STREAM: &str = "/api/v1/events/stream";

fn request(key: &str, query: &str) -> Request {
    Request::new("GET", &format!("{STREAM}?{query}")).key(key)
}

#[track_caller]
fn open(server: &TestServer, key: &str, query: &str) -> EventStream {
    opened(server, &request(key, query)).0
}

/// Opens the stream; returns it and the event after which it begins.
#[track_caller]
fn opened(server: &TestServer, request: &Request) -> (EventStream, i64) {
    let mut stream = EventStream::open(server.address, request);
    assert_eq!(stream.status, 200, "{}", stream.head);
    let first = stream.next().expect("an opening");
    let start = first.id.expect("where it begins");
    assert_eq!(first, Message { id: Some(start), retry: Some(2000), ..Message::default() });
    (stream, start)
}

fn newest(server: &TestServer) -> i64 {
    server.app.newest_event().expect("a log")
}

fn note(server: &TestServer, data: Value) {
    server.app.record_server_event(EventType::ServerStarted, data).expect("recorded");
}

#[test]
fn events_that_do_not_match_are_not_read_again() {
    let server = TestServer::start();
    let page = |after, limit, event_type: Option<&str>| {
        let event_type = event_type.map(str::to_owned);
        let filter = EventFilter { after, limit, event_type, ..EventFilter::default() };
        let page = server.app.event_page(Viewer::Operator, filter).expect("a page");
        (page.views.len(), page.is_full, page.reached)
    };
    let newest = newest(&server);
    assert_eq!(page(0, 10, Some("api_key.purged")), (0, false, newest));
    assert_eq!(page(0, 10, Some("account.created")), (1, false, newest));
    assert_eq!(page(0, 1, Some("api_key.created")), (1, true, 2));
    assert_eq!(page(newest, 10, None), (0, false, newest));
}

fn rename(server: &TestServer, key: &Key, name: &str) {
    server.put(&server.root.text, &key.path(), &json!({ "name": name })).expect(200);
}

#[test]
fn a_stream_sends_each_new_event_as_the_list_shows_it() {
    let server = TestServer::start();
    let key = server.key(&["orders:read"]);
    let before = newest(&server);
    let (mut stream, start) = opened(&server, &request(&server.root.text, ""));
    assert_eq!(start, before, "nothing of what was");
    for line in [
        "http/1.1 200 ok",
        "content-type: text/event-stream",
        "cache-control: no-store",
        "x-accel-buffering: no",
        "x-request-id: req_",
        "x-content-type-options: nosniff",
    ] {
        assert!(stream.head.to_lowercase().contains(line), "{line}: {}", stream.head);
    }
    assert!(!stream.head.to_lowercase().contains("content-length"), "{}", stream.head);
    for name in ["a", "two\nlines\r\n\r\nid: 7\n", "\u{2028}ü"] {
        let metadata = json!({ "name": "x", "metadata": { "text": name } });
        server.put(&server.root.text, &key.path(), &metadata).expect(200);
        assert_eq!(&stream.event(), server.events().last().unwrap());
    }
}

#[test]
fn a_stream_continues_after_the_last_event_that_the_client_has_seen() {
    let server = TestServer::start();
    server.key(&["orders:read"]);
    let root = &server.root.text;
    let all = server.events();
    let newest = newest(&server);
    let resumed = |query: &str, header: Option<&str>| {
        let request = request(root, query);
        let request = header.map_or(request.clone(), |it| request.header("Last-Event-ID", it));
        let (mut stream, start) = opened(&server, &request);
        let missed = usize::try_from(newest - start).unwrap();
        (0..missed).map(|_| stream.event()).collect::<Vec<_>>()
    };
    assert_eq!(resumed("after=0", None), all);
    assert_eq!(resumed("after=2", None), all[2..]);
    assert_eq!(resumed("", Some("2")), all[2..]);
    assert_eq!(resumed("after=1", Some("3")), all[3..], "the header wins");
    assert_eq!(resumed("after=3", Some("1")), all[1..], "the header wins");
    assert_eq!(resumed(&format!("after={newest}"), None), all[all.len()..]);
}

#[test]
fn an_invalid_start_of_a_stream_is_reported() {
    let server = TestServer::start();
    let root = &server.root.text;
    let beyond = newest(&server) + 1;
    let fault = |pointer: &str, code: &str| (pointer.to_owned(), code.to_owned());
    let ask = |query: &str, header: &str| {
        server.send(&request(root, query).header("Last-Event-ID", header))
    };
    let answer = server.get(root, &format!("{STREAM}?after={beyond}"));
    assert!(answer.text().contains("older copy"), "{}", answer.text());
    assert_eq!(answer.faults(), [fault("/after", "out_of_range")]);
    assert_eq!(ask("", &beyond.to_string()).faults(), [fault("/Last-Event-ID", "out_of_range")]);
    for bad in ["", "x", "-1", "+1", "01", "1.0", "99999999999999999999", "ü"] {
        let both = ask("after=-1", bad).faults();
        let invalid = "invalid_format";
        assert_eq!(both, [fault("/after", invalid), fault("/Last-Event-ID", invalid)], "{bad}");
    }
    let twice = request(root, "").header("Last-Event-ID", "1").header("Last-Event-ID", "1");
    assert_eq!(server.send(&twice).expect(400).problem(), "duplicate_header");
    for unknown in ["cursor=v1.1", "limit=1", "since=2026-01-01T00:00:00Z", "last=3", "follow=true"]
    {
        let name = format!("/{}", unknown.split('=').next().unwrap());
        let faults = server.get(root, &format!("{STREAM}?{unknown}")).faults();
        assert_eq!(faults, [fault(&name, "unknown_parameter")]);
    }
    let faults = server.get(root, &format!("{STREAM}?type=x&subject=x&actor=x")).faults();
    assert_eq!(faults.len(), 3, "{faults:?}");
}

#[test]
fn filters_select_as_in_the_list() {
    let server = TestServer::start();
    let root = &server.root;
    let (account, owner) = server.account(&json!({ "name": "Acme" }));
    server.create(&owner.text, &json!({ "name": "k", "scopes": ["orders:read"] }));
    for filter in [
        "type=api_key.created".to_owned(),
        format!("subject={account}"),
        "subject=keyward".to_owned(),
        format!("actor={}", owner.id),
        "actor=cli".to_owned(),
        format!("type=api_key.created&actor={}", root.id),
        "actor=scheduler".to_owned(),
    ] {
        let list = server.get(&root.text, &format!("/api/v1/events?{filter}")).expect(200).json();
        let mut stream = open(&server, &root.text, &format!("after=0&{filter}"));
        for event in list["data"].as_array().unwrap() {
            assert_eq!(stream.event(), *event, "{filter}");
        }
    }
    let key = server.key(&["orders:read"]);
    let mut stream = open(&server, &root.text, &format!("subject={}", key.id));
    for round in 0..3 {
        note(&server, json!({}));
        server.key(&["orders:read"]);
        rename(&server, &key, &format!("name {round}"));
        assert_eq!(&stream.event(), server.events().last().unwrap());
    }
}

#[test]
fn an_account_follows_its_own_events_without_details_of_the_operator() {
    let server = TestServer::start();
    let (account, owner) = server.account(&json!({ "name": "Acme" }));
    let (_, other) = server.account(&json!({ "name": "Other" }));
    let root = &server.root;
    let mut stream = open(&server, &owner.text, "");
    let mut guessing = open(&server, &owner.text, &format!("after=0&actor={}", root.id));
    let from = newest(&server);
    let own = server.create(&owner.text, &json!({ "name": "k", "scopes": ["orders:read"] }));
    server.create(&other.text, &json!({ "name": "not yours", "scopes": ["orders:read"] }));
    rename(&server, &own, "ours");
    server.key(&["orders:read"]);
    server.delete(&owner.text, &own.path()).expect(204);
    let list = server.get(&owner.text, &format!("/api/v1/events?after={from}")).expect(200).json();
    let shown = list["data"].as_array().unwrap();
    assert_eq!(shown.len(), 3);
    assert!(shown.iter().all(|it| it["accountId"] == account));
    assert_eq!(shown[1]["actor"]["type"], "operator");
    for event in shown {
        assert_eq!(stream.event(), *event);
    }
    // The stream ends with the reason once the account is suspended, so all earlier events have
    // arrived.
    let path = format!("/api/v1/accounts/{account}");
    server.put(&root.text, &path, &json!({ "status": "suspended" })).expect(200);
    assert_eq!(stream.end(), "account_suspended");
    assert_eq!(guessing.end(), "account_suspended", "the owner of a key cannot be found by trial");
}

#[test]
fn a_slow_reader_gets_every_event_once_and_in_order() {
    const WRITERS: usize = 4;
    const EACH: usize = 1500;
    let server = TestServer::start();
    let (mut stream, start) = opened(&server, &request(&server.root.text, ""));
    // More than the buffers at both ends of the connection hold.
    let filling = "x".repeat(3000);
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let (server, filling) = (&server, &filling);
            scope.spawn(move || {
                for i in 0..EACH {
                    note(server, json!({ "writer": writer, "i": i, "filling": filling }));
                }
            });
        }
    });
    let all = i64::try_from(WRITERS * EACH).unwrap();
    assert_eq!(newest(&server), start + all);
    let mut next = [0; WRITERS];
    for seq in start + 1..=start + all {
        let event = stream.event();
        assert_eq!(event["seq"], seq);
        let writer = usize::try_from(event["data"]["writer"].as_u64().unwrap()).unwrap();
        assert_eq!(event["data"]["i"], next[writer]);
        next[writer] += 1;
    }
    note(&server, json!({}));
    assert_eq!(stream.event()["seq"], start + all + 1);
}

#[test]
fn a_client_that_reconnects_often_gets_every_event_exactly_once() {
    const WRITERS: i64 = 3;
    const EACH: i64 = 150;
    let server = TestServer::start();
    let (idle, mut seen) = opened(&server, &request(&server.root.text, ""));
    drop(idle); // The connection ends before the first event, but the client knows where the stream began.
    let last = seen + WRITERS * EACH;
    std::thread::scope(|scope| {
        for _ in 0..WRITERS {
            scope.spawn(|| (0..EACH).for_each(|i| note(&server, json!({ "i": i }))));
        }
        let mut visit = 0;
        while seen < last {
            visit += 1;
            let request = request(&server.root.text, "after=0");
            let request = request.header("Last-Event-ID", &seen.to_string());
            let (mut stream, start) = opened(&server, &request);
            assert_eq!(start, seen);
            for _ in 0..(visit % 7).min(last - seen) {
                seen += 1;
                assert_eq!(stream.event()["seq"], seen, "visit {visit}");
            }
        }
        assert!(20 < visit, "{visit}");
    });
    assert_eq!(newest(&server), last);
}

#[test]
fn a_stream_without_events_sends_heartbeats() {
    let heartbeat = Duration::from_millis(200);
    let server = TestServer::with_streams(StreamLimits { heartbeat, ..StreamLimits::default() });
    let sign = Message { comment: true, ..Message::default() };
    let mut stream = open(&server, &server.root.text, "");
    for _ in 0..3 {
        assert_eq!(stream.next().as_ref(), Some(&sign));
    }
    let mut picky = open(&server, &server.root.text, "type=api_key.purged");
    let enough = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let deadline = Instant::now() + Duration::from_mins(1);
            note(&server, json!({}));
            while !enough.load(Ordering::Acquire) && Instant::now() < deadline {
                note(&server, json!({}));
            }
        });
        // Meanwhile there are events, one after the other, that the filter excludes.
        let signs = [(); 3].map(|()| picky.next());
        enough.store(true, Ordering::Release);
        assert!(signs.iter().all(|it| it.as_ref() == Some(&sign)), "{signs:?}");
    });
    assert_eq!(stream.event()["type"], "server.started");
}

#[test]
fn the_number_of_streams_is_limited_and_one_account_cannot_use_all() {
    let heartbeat = Duration::from_millis(20);
    let permits = PermitLimits { total: 3, per_account: 2, reserved_for_operator: 0 };
    let limits = StreamLimits { permits, heartbeat };
    let server = TestServer::with_streams(limits);
    let (_, owner) = server.account(&json!({ "name": "Acme" }));
    let root = &server.root.text;
    let refused = |key: &str| {
        let answer = server.send(&request(key, "")).expect(503);
        assert_eq!(answer.problem(), "too_many_streams");
        assert_eq!(answer.header("retry-after"), Some("5"));
    };
    let first = open(&server, &owner.text, "");
    let second = open(&server, &owner.text, "");
    refused(&owner.text);
    for _ in 0..5 {
        let head = Request::new("HEAD", STREAM).key(root);
        server.send(&head).expect(200); // This uses a permit only for a moment.
    }
    let third = open(&server, root, "");
    refused(root);
    assert_eq!(
        server.get(root, &format!("{STREAM}?after=x")).status,
        422,
        "the fault is reported first"
    );
    drop(second);
    // The server notices that the client is gone when it sends the next message.
    let deadline = Instant::now() + Duration::from_secs(30);
    while EventStream::open(server.address, &request(root, "")).status == 503 {
        assert!(Instant::now() < deadline, "the permit is not released");
        std::thread::yield_now();
    }
    drop((first, third));
}

#[test]
fn all_accounts_together_leave_streams_for_the_operator() {
    let server = TestServer::start();
    let PermitLimits { total, per_account, reserved_for_operator } =
        StreamLimits::default().permits;
    let (mut streams, mut refused) = (Vec::new(), 0);
    for number in 0..total / per_account {
        let (_, owner) = server.account(&json!({ "name": format!("Account {number}") }));
        for _ in 0..per_account {
            let stream = EventStream::open(server.address, &request(&owner.text, ""));
            refused += usize::from(stream.status == 503);
            streams.push(stream);
        }
    }
    assert_eq!(refused, reserved_for_operator);
    let root = &server.root.text;
    streams.extend((0..reserved_for_operator).map(|_| open(&server, root, "")));
    assert_eq!(server.send(&request(root, "")).expect(503).problem(), "too_many_streams");
}

#[test]
fn the_head_of_a_stream_can_be_asked_for() {
    let server = TestServer::start();
    let mut answer = Request::new("HEAD", STREAM).key(&server.root.text).open(server.address);
    let mut text = String::new();
    answer.read_to_string(&mut text).expect("an end");
    assert!(text.starts_with("HTTP/1.1 200 OK\r\n") && text.ends_with("\r\n\r\n"), "{text}");
    assert!(text.contains("content-type: text/event-stream\r\n"), "{text}");
    assert!(!text.contains("content-length"), "the length of the answer to GET is unknown: {text}");
    for method in ["POST", "PUT", "PATCH", "DELETE"] {
        let answer = server.send(&Request::new(method, STREAM).key(&server.root.text)).expect(405);
        assert_eq!(answer.header("allow"), Some("GET, HEAD"));
    }
}

#[test]
fn a_client_of_http_1_0_gets_no_chunks() {
    let server = TestServer::start();
    let mut stream = TcpStream::connect(server.address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let key = &server.root.text;
    write!(stream, "GET {STREAM}?after=0 HTTP/1.0\r\nHost: x\r\nX-API-Key: {key}\r\n\r\n").unwrap();
    let mut text = String::new();
    let mut piece = [0; 1024];
    while !text.contains("\nid: 2\n") {
        let len = stream.read(&mut piece).unwrap();
        assert_ne!(len, 0, "{text}");
        text.push_str(std::str::from_utf8(&piece[..len]).unwrap());
    }
    assert!(!text.to_lowercase().contains("transfer-encoding"), "{text}");
    assert!(
        text.contains("\r\n\r\nretry: 2000\nid: 0\n\nid: 1\nevent: account.created\n"),
        "{text}"
    );
}
