//! Webhooks: delivered in order and at least once, signed, and never in the way of a request.

use std::{
    fs,
    net::{SocketAddr, TcpListener},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use keyward::{
    config::WebhookSetting,
    domain::{webhook::EventPattern, webhook_secret::WebhookSecret},
    service::WebhookStatus,
};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{Binary, Reaction, Receiver, Request, Sent, TestServer, keyward, keyward_in};

/// The secret of the specification's vector, and another one.
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const OTHER_SECRET: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX";
const OK: Reaction = Reaction::Answer(204, "");

/// A directory with a file of secrets.
struct Secrets(TempDir);

impl Secrets {
    fn new(text: &str) -> Self {
        let it = Self(tempfile::tempdir().unwrap());
        it.write(text);
        it
    }

    fn write(&self, text: &str) {
        fs::write(self.path(), text).unwrap();
        fs::set_permissions(self.path(), fs::Permissions::from_mode(0o600)).unwrap();
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("hook.secret")
    }
}

fn webhook(name: &str, url: &str, events: &[&str], secrets: &Path) -> WebhookSetting {
    WebhookSetting {
        name: name.to_owned(),
        url: url.to_owned(),
        events: events.iter().map(|it| EventPattern::parse(it).unwrap()).collect(),
        secret_file: Some(secrets.to_owned()),
        allow_private: true,
        timeout: Duration::from_secs(20),
    }
}

/// A server with the webhook `hook` for this receiver.
fn server_with(url: &str, events: &[&str], secrets: &Secrets) -> TestServer {
    let it = webhook("hook", url, events, &secrets.path());
    TestServer::with(|config| config.webhooks = vec![it])
}

fn create(server: &TestServer, name: &str) -> String {
    server.create(&server.root.text, &json!({ "name": name, "scopes": ["orders:read"] })).id
}

fn names(sent: &[Sent]) -> Vec<String> {
    let name = |it: &Sent| it.json()["data"]["data"]["after"]["name"].as_str().unwrap().to_owned();
    sent.iter().map(name).collect()
}

/// Waits until the only webhook is in this state, and returns it.
#[track_caller]
fn wait_until(server: &TestServer, what: impl Fn(&WebhookStatus) -> bool) -> WebhookStatus {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let found = server.app.list_webhooks().unwrap();
        match found.into_iter().find(|it| it.name == "hook") {
            Some(it) if what(&it) => return it,
            other => assert!(Instant::now() < deadline, "{other:?}"),
        }
        thread::sleep(Duration::from_millis(5));
    }
}

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
    assert_eq!(failed.cursor.next_attempt, Some(TestServer::EPOCH.after(Duration::from_secs(5))));

    server.advance(Duration::from_secs(5));
    receiver.wait_for(2);
    let failed = wait_until(&server, |it| it.cursor.attempts == 2);
    assert_eq!(failed.cursor.next_attempt, Some(TestServer::EPOCH.after(Duration::from_secs(305))));
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
    let address = free_address();
    let secrets = Secrets::new(SECRET);
    let url = format!("http://{address}/hook");
    let mut server = server_with(&url, &["api_key.created"], &secrets);
    create(&server, "a");
    wait_until(&server, |it| it.cursor.attempts == 1);
    create(&server, "b");
    server.restart(|_| ());
    let kept = wait_until(&server, |it| it.cursor.attempts == 1);
    assert_eq!(kept.cursor.next_attempt, Some(TestServer::EPOCH.after(Duration::from_secs(5))));
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
fn a_receiver_that_is_gone_gets_nothing_until_an_operator_enables_it() {
    let (receiver, witness) = (Receiver::start(Reaction::Answer(410, "")), Receiver::start(OK));
    let secrets = Secrets::new(SECRET);
    let all = ["api_key.created", "webhook.*"];
    let mut server = TestServer::with(|config| {
        config.webhooks = vec![
            webhook("hook", &receiver.url(), &all, &secrets.path()),
            webhook("witness", &witness.url(), &all, &secrets.path()),
        ];
    });
    create(&server, "first");
    receiver.wait_for(1);
    let gone = wait_until(&server, |it| it.cursor.disabled_at.is_some());
    assert_eq!(gone.last_error.as_deref(), Some("the receiver answered 410 Gone"));
    let told = witness.wait_for(2)[1].json();
    assert_eq!(told["type"], "webhook.disabled");
    assert_eq!(told["data"]["data"], json!({ "name": "hook", "status": 410 }));
    assert_eq!(told["data"]["actor"]["type"], "scheduler");

    // Neither a later event, nor time, nor a restart sends anything to it.
    create(&server, "second");
    server.advance(Duration::from_hours(48));
    witness.wait_for(3);
    server.restart(|_| ());
    create(&server, "third");
    witness.wait_for(4);
    wait_until(&server, |it| it.cursor.disabled_at.is_some() && it.lag > 3);
    assert_eq!(receiver.sent().len(), 1);

    receiver.react(OK);
    let enabled = keyward_in(&server.data_dir(), &["webhooks", "enable", "hook", "-o", "json"]);
    assert!(enabled.status.success(), "{enabled:?}");
    let sent = receiver.wait_for(6);
    let types: Vec<_> =
        sent.iter().map(|it| it.json()["type"].as_str().unwrap().to_owned()).collect();
    let created = "api_key.created";
    let expected = [created, created, "webhook.disabled", created, created, "webhook.enabled"];
    assert_eq!(types, expected);
}

#[test]
fn another_url_enables_a_webhook_where_it_was() {
    let gone = Receiver::start(Reaction::Answer(410, ""));
    let secrets = Secrets::new(SECRET);
    let mut server = server_with(&gone.url(), &["api_key.created"], &secrets);
    create(&server, "first");
    wait_until(&server, |it| it.cursor.disabled_at.is_some());
    create(&server, "second");
    let receiver = Receiver::start(OK);
    server.restart(|config| config.webhooks[0].url = receiver.url());
    assert_eq!(names(&receiver.wait_for(2)), ["first", "second"]);
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
    for host in ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "2130706433"] {
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

#[test]
fn a_webhook_passes_over_a_long_log_and_forgets_its_place_once_it_is_removed() {
    let receiver = Receiver::start(OK);
    let secrets = Secrets::new(SECRET);
    let mut server = server_with(&receiver.url(), &["account.created"], &secrets);
    for n in 0..70 {
        create(&server, &format!("k{n}"));
    }
    let done = wait_until(&server, |it| it.lag == 0);
    assert!(receiver.sent().is_empty());
    // A page further on, the position was stored although nothing was delivered.
    let stored = |server: &TestServer| {
        let conn = rusqlite::Connection::open(server.database()).unwrap();
        conn.query_row("SELECT max(seq) FROM webhook_cursors", [], |row| {
            row.get::<_, Option<i64>>(0)
        })
        .unwrap()
    };
    server.stop();
    let seq = stored(&server).unwrap();
    assert!((done.cursor.seq - 64..=done.cursor.seq).contains(&seq), "{seq}");

    server.restart(|config| config.webhooks.clear());
    server.stop();
    assert_eq!(stored(&server), None);
}

#[test]
fn deliveries_are_counted() {
    let receiver = Receiver::start(Reaction::Answer(500, ""));
    let secrets = Secrets::new(SECRET);
    let server = server_with(&receiver.url(), &["api_key.created"], &secrets);
    let sample = |sample: &str| {
        let text = server.send(&Request::new("GET", "/metrics")).expect(200).text();
        assert!(text.lines().any(|it| it == sample), "{sample}\n{text}");
    };
    let deliveries = |result, count| {
        format!("keyward_webhook_deliveries_total{{webhook=\"hook\",result=\"{result}\"}} {count}")
    };
    sample(&deliveries("gone", 0));
    create(&server, "first");
    wait_until(&server, |it| it.cursor.attempts == 1);
    sample(&deliveries("failed", 1));
    sample("keyward_webhook_lag_events{webhook=\"hook\"} 1");
    receiver.react(OK);
    server.advance(Duration::from_secs(5));
    wait_until(&server, |it| it.lag == 0);
    sample(&deliveries("delivered", 1));
    sample("keyward_webhook_lag_events{webhook=\"hook\"} 0");
}

#[test]
fn an_operator_sees_the_webhooks_with_and_without_a_server() {
    let receiver = Receiver::start(Reaction::Answer(500, ""));
    let secrets = Secrets::new(SECRET);
    let mut server = server_with(&receiver.url(), &["api_key.created"], &secrets);
    create(&server, "first");
    wait_until(&server, |it| it.cursor.attempts == 1);
    let list = |server: &TestServer| -> Value {
        let out = keyward_in(&server.data_dir(), &["webhooks", "list", "-o", "json"]);
        serde_json::from_slice(&out.stdout).unwrap()
    };
    let running = &list(&server)["data"][0];
    assert_eq!((&running["name"], &running["status"]), (&json!("hook"), &json!("retrying")));
    assert_eq!((&running["attempts"], &running["lag"]), (&json!(1), &json!(1)));
    assert_eq!(running["nextAttemptAt"], "2026-01-01T00:00:05.000Z");
    assert_eq!(running["lastError"], "the receiver answered 500");
    let table = keyward_in(&server.data_dir(), &["webhooks", "list"]);
    let table = String::from_utf8(table.stdout).unwrap();
    assert!(table.contains("retrying") && table.contains("the receiver answered 500"), "{table}");
    let unknown = keyward_in(&server.data_dir(), &["webhooks", "enable", "other"]);
    assert_eq!(unknown.status.code(), Some(1), "{unknown:?}");
    server.stop();
    let stopped = &list(&server)["data"][0];
    assert_eq!((&stopped["status"], &stopped["lastError"]), (&json!("retrying"), &Value::Null));
    let enabled = keyward_in(&server.data_dir(), &["webhooks", "enable", "hook", "-o", "json"]);
    let enabled: Value = serde_json::from_slice(&enabled.stdout).unwrap();
    assert_eq!(enabled["data"][0]["status"], "active");
}

#[test]
fn a_reload_takes_over_new_secrets_and_refuses_an_exposed_file() {
    let receiver = Receiver::start(OK);
    let secrets = Secrets::new(SECRET);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("keyward.toml");
    let text = format!(
        "[[webhooks]]\nname = \"hook\"\nurl = \"{}\"\nevents = [\"api_key.created\"]\n\
         secret_file = \"{}\"\nallow_private = true\n",
        receiver.url(),
        secrets.path().display()
    );
    fs::write(&file, text).unwrap();
    let path = file.to_str().unwrap();
    let server = Binary::serve_with(&dir.path().join("data"), &[("KEYWARD_CONFIG", path)]);
    let root = server.root_key();
    let create = || {
        let body = json!({ "name": "k", "scopes": ["orders:read"] });
        let request = Request::new("POST", "/api/v1/api-keys").key(&root).json(&body);
        request.send(server.address).expect(201);
    };
    create();
    receiver.wait_for(1);
    secrets.write(&format!("{OTHER_SECRET}\n{SECRET}"));
    server.child.signal("-HUP");
    let signatures = |it: &Sent| it.header("webhook-signature").split(' ').count();
    assert_eq!(signatures(&receiver.sent()[0]), 1);
    let deadline = Instant::now() + Duration::from_secs(20);
    while signatures(receiver.sent().last().unwrap()) != 2 {
        assert!(Instant::now() < deadline);
        let before = receiver.sent().len();
        create();
        receiver.wait_for(before + 1);
    }

    fs::set_permissions(secrets.path(), fs::Permissions::from_mode(0o604)).unwrap();
    let check = keyward().args(["config", "check", "--config", path]).output().unwrap();
    assert_eq!(check.status.code(), Some(78));
    let why = String::from_utf8(check.stderr).unwrap();
    assert!(why.contains("can be read by other users"), "{why}");
}

/// An address at which nothing listens.
fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}
