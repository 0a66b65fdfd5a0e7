//! Webhooks as an operator runs them: disabled, enabled, listed, counted, reloaded.

use std::{
    fs,
    io::{Read, Write},
    net::TcpListener,
    os::unix::fs::PermissionsExt,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use rcgen::{CertifiedKey, KeyPair, generate_simple_self_signed};
use rustls::{ServerConfig, ServerConnection, StreamOwned, pki_types::PrivateKeyDer};
use serde_json::{Value, json};

use crate::support::{
    Binary, Reaction, Receiver, Request, Sent, TestServer, keyward, keyward_in,
    webhook::{OK, OTHER_SECRET, SECRET, Secrets, create, names, server_with, wait_until, webhook},
};

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
fn an_attempt_that_fails_after_an_operator_enabled_the_webhook_does_not_undo_that() {
    let receiver = Receiver::start(Reaction::Answer(500, ""));
    let secrets = Secrets::new(SECRET);
    let mut it = webhook("hook", &receiver.url(), &["api_key.created"], &secrets.path());
    it.timeout = Duration::from_secs(1);
    let server = TestServer::with(|config| config.webhooks = vec![it]);
    create(&server, "first");
    wait_until(&server, |it| it.cursor.attempts == 1);
    receiver.react(Reaction::Hang);
    server.advance(Duration::from_secs(5));
    receiver.wait_for(2);
    // The second attempt is under way.
    server.app.enable_webhook("hook").unwrap();
    receiver.react(OK);
    assert_eq!(names(&receiver.wait_for(3)), ["first"; 3], "at once, not after five minutes");
    let done = wait_until(&server, |it| it.lag == 0);
    assert_eq!((done.cursor.attempts, done.cursor.next_attempt), (0, None));
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
    let failed = wait_until(&server, |it| it.cursor.attempts == 1);
    let list = |server: &TestServer| -> Value {
        let out = keyward_in(&server.data_dir(), &["webhooks", "list", "-o", "json"]);
        serde_json::from_slice(&out.stdout).unwrap()
    };
    let running = &list(&server)["data"][0];
    assert_eq!((&running["name"], &running["status"]), (&json!("hook"), &json!("retrying")));
    assert_eq!((&running["attempts"], &running["lag"]), (&json!(1), &json!(1)));
    assert_eq!(running["nextAttemptAt"], failed.cursor.next_attempt.unwrap().to_string());
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

/// An HTTPS server that answers every connection with 204.
fn tls_receiver(certificate: &CertifiedKey<KeyPair>) -> u16 {
    let chain = vec![certificate.cert.der().clone()];
    let key = PrivateKeyDer::Pkcs8(certificate.signing_key.serialize_der().into());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config =
        ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.unwrap().with_no_client_auth().with_single_cert(chain, key).unwrap();
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    // Ends with the process of the tests.
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let connection = ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut stream = StreamOwned::new(connection, stream);
            let mut request = [0; 4096];
            // A client that does not trust the certificate ends the connection here.
            if stream.read(&mut request).is_ok() {
                let _ = stream.write_all(b"HTTP/1.1 204 x\r\nconnection: close\r\n\r\n");
                let _ = stream.flush();
            }
        }
    });
    port
}

#[test]
fn a_receiver_with_tls_needs_a_certificate_that_the_system_trusts() {
    let certificate = generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let port = tls_receiver(&certificate);
    let secrets = Secrets::new(SECRET);
    let dir = tempfile::tempdir().unwrap();
    let (file, roots) = (dir.path().join("keyward.toml"), dir.path().join("roots.pem"));
    let text = format!(
        "[[webhooks]]\nname = \"hook\"\nurl = \"https://127.0.0.1:{port}/\"\n\
         events = [\"server.started\"]\nsecret_file = \"{}\"\nallow_private = true\n",
        secrets.path().display()
    );
    fs::write(&file, text).unwrap();
    let (file, data) = (file.to_str().unwrap(), dir.path().join("data"));
    // The first start places the webhook after its own event, so the second event is delivered.
    let status_with = |roots_file: &str| {
        let variables = [("KEYWARD_CONFIG", file), ("SSL_CERT_FILE", roots_file)];
        let server = Binary::serve_with(&data, &variables);
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let out = keyward_in(&data, &["webhooks", "list", "-o", "json"]);
            let list: Value = serde_json::from_slice(&out.stdout).unwrap();
            let it = list["data"][0].clone();
            if it["status"] == "retrying" || it["lag"] == 0 && it["seq"] != 0 {
                assert!(server.terminate().status.success());
                return it;
            }
            assert!(Instant::now() < deadline, "{list}");
        }
    };
    let other = generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    fs::write(&roots, other.cert.pem()).unwrap();
    let first = status_with(roots.to_str().unwrap());
    assert_eq!(first["status"], "active", "{first}");
    let refused = status_with(roots.to_str().unwrap());
    assert_eq!(refused["status"], "retrying", "{refused}");
    assert!(refused["lastError"].as_str().unwrap().contains("certificate"), "{refused}");

    keyward_in(&data, &["webhooks", "enable", "hook"]);
    fs::write(&roots, certificate.cert.pem()).unwrap();
    let delivered = status_with(roots.to_str().unwrap());
    assert_eq!(
        (&delivered["status"], &delivered["lag"]),
        (&json!("active"), &json!(0)),
        "{delivered}"
    );
}
