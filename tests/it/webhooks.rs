//! Webhooks: delivered in order and at least once, signed, and never in the way of a request.

use std::{
    net::ToSocketAddrs,
    time::{Duration, Instant},
};

use keyward::{domain::webhook_secret::WebhookSecret, service::WebhookStatus};
use serde_json::json;

use crate::support::{
    Reaction, Receiver, ReservedAddress, TestServer,
    webhook::{OK, OTHER_SECRET, SECRET, Secrets, create, names, server_with, wait_until, webhook},
};

#[test]
fn a_subscribed_event_is_delivered_with_the_signature_of_each_secret() {
    let receiver = Receiver::start(OK);
    let secrets = Secrets::new(&format!("{SECRET}\n\n{OTHER_SECRET}\n"));
    let server = server_with(&receiver.url(), &["api_key.created", "account.*"], &secrets);
    server.advance(Duration::from_millis(1_500));
    let key = create(&server, "first");
    server.delete(&server.root.text, &format!("/api/v1/api-keys/{key}")).expect(204);
    let (account, _) = server.account(&json!({ "name": "Customer" }));

    let sent = receiver.wait_for(3);

    let subjects: Vec<_> = sent.iter().map(|it| it.json()["data"]["subject"].clone()).collect();
    assert_eq!(subjects[0], *key);
    assert!(subjects.contains(&json!(account)), "{subjects:?}");
    let types: Vec<_> = sent.iter().map(|it| it.json()["type"].clone()).collect();
    assert!(!types.contains(&json!("api_key.revoked")), "{types:?}");
    for it in &sent {
        assert_eq!(it.line, "POST /hook HTTP/1.1");
        assert_eq!(it.header("content-type"), "application/json");
        let (id, time) = (it.header("webhook-id"), it.header("webhook-timestamp"));
        // 2026-01-01T00:00:01.500Z, in whole seconds.
        assert_eq!(time, "1767225601");
        let sign = |secret| {
            WebhookSecret::parse(secret).unwrap().sign(id, 1_767_225_601, it.body.as_bytes())
        };
        let both = format!("{} {}", sign(SECRET), sign(OTHER_SECRET));
        assert_eq!(it.header("webhook-signature"), both);
        let body = it.json();
        let event = server.get(&server.root.text, &format!("/api/v1/events/{}", it.seq()));
        assert_eq!(body["data"], event.expect(200).json());
        assert_eq!(
            (&body["type"], &body["timestamp"]),
            (&body["data"]["type"], &body["data"]["time"])
        );
        assert_eq!(body.as_object().unwrap().len(), 3);
        assert!(body["data"]["hash"].as_str().unwrap().starts_with(&id["evt_".len()..]), "{id}");
        assert_eq!(id.len(), 36);
    }
}

#[test]
fn a_new_webhook_begins_with_the_next_event() {
    let receiver = Receiver::start(OK);
    let secrets = Secrets::new(SECRET);
    let mut server = TestServer::start();
    create(&server, "before");
    let it = webhook("hook", &receiver.url(), &["*"], &secrets.path());
    server.restart(|config| config.webhooks = vec![it]);
    create(&server, "after");
    assert_eq!(names(&receiver.wait_for(1)), ["after"]);
}

/// Asserts that the next attempt is due this delay after the attempt at `at`, or up to a tenth earlier.
#[track_caller]
fn assert_due(status: &WebhookStatus, at: Duration, delay: Duration) {
    let wait = status.cursor.next_attempt.unwrap().since(TestServer::EPOCH.after(at));
    assert!((delay * 9 / 10..=delay).contains(&wait), "{wait:?} of {delay:?}");
}

#[test]
fn a_receiver_that_fails_gets_the_same_event_again_before_any_later_one() {
    let receiver = Receiver::start(Reaction::Answer(500, ""));
    let secrets = Secrets::new(SECRET);
    let server = server_with(&receiver.url(), &["api_key.created"], &secrets);
    create(&server, "first");
    receiver.wait_for(1);
    create(&server, "second");
    let failed = wait_until(&server, |it| it.cursor.attempts == 1);
    assert_eq!(failed.last_error.as_deref(), Some("the receiver answered 500"));
    assert_due(&failed, Duration::ZERO, Duration::from_secs(5));

    server.advance(Duration::from_secs(5));
    receiver.wait_for(2);
    let failed = wait_until(&server, |it| it.cursor.attempts == 2);
    assert_due(&failed, Duration::from_secs(5), Duration::from_mins(5));
    assert_eq!(failed.lag, 2);

    receiver.react(OK);
    server.advance(Duration::from_mins(5));
    let sent = receiver.wait_for(4);
    assert_eq!(names(&sent), ["first", "first", "first", "second"]);
    let header = |name| sent.iter().map(|it| it.header(name).to_owned()).collect::<Vec<_>>();
    let ids = header("webhook-id");
    assert!(ids[0] == ids[1] && ids[1] == ids[2] && ids[2] != ids[3], "{ids:?}");
    let times = header("webhook-timestamp");
    assert_eq!(times, ["1767225600", "1767225605", "1767225905", "1767225905"]);
    let done = wait_until(&server, |it| it.lag == 0);
    assert_eq!((done.cursor.attempts, done.last_error), (0, None));
}

#[test]
fn a_receiver_that_hangs_delays_no_request_and_is_tried_again() {
    let receiver = Receiver::start(Reaction::Hang);
    let secrets = Secrets::new(SECRET);
    let mut it = webhook("hook", &receiver.url(), &["api_key.created"], &secrets.path());
    it.timeout = Duration::from_secs(1);
    let server = TestServer::with(|config| config.webhooks = vec![it]);
    create(&server, "first");
    receiver.wait_for(1);
    // The receiver hangs now. Changes and verifications go on.
    let key = create(&server, "second");
    assert_eq!(server.get(&server.root.text, &format!("/api/v1/api-keys/{key}")).status, 200);
    assert_eq!(server.app.list_webhooks().unwrap()[0].cursor.attempts, 0, "it still hangs");

    let failed = wait_until(&server, |it| it.cursor.attempts == 1);
    assert!(failed.last_error.unwrap().contains("timeout"));
    receiver.react(OK);
    server.advance(Duration::from_secs(5));
    assert_eq!(names(&receiver.wait_for(3)), ["first", "first", "second"]);
}

#[test]
fn a_receiver_that_was_away_gets_everything_in_order_once_it_is_back_also_after_restarts() {
    let reserved = ReservedAddress::new();
    let address = reserved.address;
    let secrets = Secrets::new(SECRET);
    let url = format!("http://{address}/hook");
    let mut server = server_with(&url, &["api_key.created"], &secrets);
    create(&server, "a");
    wait_until(&server, |it| it.cursor.attempts == 1);
    create(&server, "b");
    server.restart(|_| ());
    let kept = wait_until(&server, |it| it.cursor.attempts == 1);
    assert_due(&kept, Duration::ZERO, Duration::from_secs(5));
    create(&server, "c");
    server.advance(Duration::from_secs(5));
    wait_until(&server, |it| it.cursor.attempts == 2);

    let receiver = Receiver::serve(address, OK);
    server.advance(Duration::from_mins(5));
    assert_eq!(names(&receiver.wait_for(3)), ["a", "b", "c"]);
    wait_until(&server, |it| it.lag == 0);
    server.restart(|_| ());
    create(&server, "d");
    assert_eq!(
        names(&receiver.wait_for(4)),
        ["a", "b", "c", "d"],
        "what was taken is not sent again"
    );
}

#[test]
fn a_stop_does_not_wait_for_a_receiver_that_hangs_and_the_event_is_sent_again() {
    let receiver = Receiver::start(Reaction::Hang);
    let secrets = Secrets::new(SECRET);
    let mut server = server_with(&receiver.url(), &["api_key.created"], &secrets);
    create(&server, "first");
    receiver.wait_for(1);
    let started = Instant::now();
    server.stop();
    assert!(started.elapsed() < Duration::from_secs(9), "{:?}", started.elapsed());
    receiver.react(OK);
    server.restart(|_| ());
    assert_eq!(names(&receiver.wait_for(2)), ["first", "first"]);
}

#[test]
fn a_receiver_may_ask_for_another_delay() {
    let receiver = Receiver::start(Reaction::Answer(503, "Retry-After: 90\r\n"));
    let secrets = Secrets::new(SECRET);
    let server = server_with(&receiver.url(), &["api_key.created"], &secrets);
    create(&server, "first");
    let failed = wait_until(&server, |it| it.cursor.attempts == 1);
    assert_eq!(failed.cursor.next_attempt, Some(TestServer::EPOCH.after(Duration::from_secs(90))));
    receiver.react(OK);
    server.advance(Duration::from_secs(90));
    assert_eq!(names(&receiver.wait_for(2)), ["first", "first"]);
}

#[test]
fn a_redirect_is_a_failure_and_is_not_followed() {
    let other = Receiver::start(OK);
    let location: &'static str = format!("Location: {}\r\n", other.url()).leak();
    let receiver = Receiver::start(Reaction::Answer(307, location));
    let secrets = Secrets::new(SECRET);
    let server = server_with(&receiver.url(), &["api_key.created"], &secrets);
    create(&server, "first");
    let failed = wait_until(&server, |it| it.cursor.attempts == 1);
    assert_eq!(failed.last_error.as_deref(), Some("the receiver answered 307"));
    assert!(other.sent().is_empty());
}

#[test]
fn a_private_address_is_refused_by_number_and_by_name_unless_it_is_allowed() {
    let receiver = Receiver::start(OK);
    let secrets = Secrets::new(SECRET);
    let port = receiver.address.port();
    // A machine without /etc/hosts does not know the name.
    let is_known = |host: &&str| *host != "localhost" || (*host, port).to_socket_addrs().is_ok();
    let hosts = ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "2130706433"];
    for host in hosts.into_iter().filter(is_known) {
        let url = format!("http://{host}:{port}/");
        let mut it = webhook("hook", &url, &["api_key.created"], &secrets.path());
        it.allow_private = false;
        let server = TestServer::with(|config| config.webhooks = vec![it]);
        create(&server, "first");
        let failed = wait_until(&server, |it| it.cursor.attempts == 1);
        let why = failed.last_error.unwrap();
        assert!(why.contains("private address"), "{host}: {why}");
        assert!(receiver.sent().is_empty());
    }
}
