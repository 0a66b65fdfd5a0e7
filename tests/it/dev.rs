//! `keyward dev`: sample keys for every verdict, a settable clock, and nothing for production.

use std::{
    collections::BTreeSet,
    fs,
    net::TcpListener,
    process::{Command, Stdio},
};

use keyward::domain::{development_key::DevelopmentKey, verdict::Verdict};
use serde_json::{Value, json};

use crate::support::{
    Binary, Process, Request, TestServer,
    dev::{Dev, dev, directories},
    has,
    import::{import, place},
    keyward, keyward_in,
};

const HOUR: u64 = 60 * 60;

#[test]
fn every_sample_key_gets_the_verdict_of_the_list_and_of_the_table() {
    let server = Dev::start();
    let samples = server.samples();
    let table = fs::read_to_string(&server.stdout).unwrap();
    let mut codes = BTreeSet::new();
    for sample in &samples {
        let found = server.verify(&sample["request"]);
        assert_eq!(found["code"], sample["code"], "{sample}");
        if found["externalId"].is_string() {
            assert_eq!(found["externalId"], sample["account"], "{sample}");
        }
        let of = |member: &str| sample[member].as_str().unwrap();
        let row = table.lines().find(|it| it.contains(of("key")));
        let row = row.unwrap_or_else(|| panic!("{sample}: {table}"));
        assert!(row.starts_with(of("name")) && row.trim_end().ends_with(of("code")), "{row}");
        codes.insert(of("code").to_owned());
    }
    let all: BTreeSet<_> = Verdict::ALL.map(|it| it.as_str().to_owned()).into();
    assert_eq!(codes, all);
    let listed: BTreeSet<_> = samples.iter().map(|it| it["key"].as_str().unwrap()).collect();
    for key in DevelopmentKey::ALL {
        assert!(listed.contains(&*key.text()), "{key:?}");
    }
    let inside = json!({ "key": DevelopmentKey::Network.text(), "clientIp": "192.0.2.7" });
    assert_eq!(server.verify(&inside)["code"], "VALID");
    let gateway = DevelopmentKey::Gateway.text();
    let question = json!({ "key": DevelopmentKey::Valid.text() });
    let ask = |path| Request::new("POST", path).key(&gateway).json(&question).send(server.address);
    ask("/api/v1/api-keys/verify").expect(200);
    ask("/api/v1/api-keys").expect(403);
}

#[test]
fn two_starts_have_the_same_keys_names_and_accounts() {
    let (first, second) = (Dev::start(), Dev::start());
    assert_eq!(first.samples(), second.samples());
    let seen = |server: &Dev, path: &str| {
        let list = server.get(path).expect(200).json()["data"].as_array().unwrap().clone();
        let of = |it: &Value| {
            ["name", "externalId", "keyPrefix", "scopes", "expiresAt", "status"]
                .map(|member| it[member].clone())
        };
        list.iter().map(of).collect::<Vec<_>>()
    };
    for (path, count) in [("/api/v1/accounts", 4), ("/api/v1/api-keys?account=all", 15)] {
        assert_eq!(seen(&first, path), seen(&second, path), "{path}");
        assert_eq!(seen(&first, path).len(), count, "{path}");
    }
}

#[test]
fn a_move_of_the_clock_ends_keys_grace_periods_and_rate_windows_at_once() {
    use DevelopmentKey as Key;
    let server = Dev::start();
    let shown = server.get("/dev/clock").expect(200).json()["now"].clone();
    assert!(shown.as_str().unwrap().starts_with("2027-01-01T00:00"), "{shown}");
    for key in [Key::Expiring, Key::InGrace, Key::Limited, Key::Limited, Key::Limited] {
        assert_eq!(server.code(key), "VALID", "{key:?}");
    }
    assert_eq!(server.code(Key::Limited), "RATE_LIMITED");
    server.advance(HOUR - 60);
    assert_eq!(server.code(Key::Limited), "RATE_LIMITED");
    let now = server.advance(60);
    assert!(now.as_str().unwrap().starts_with("2027-01-01T01:00"), "{now}");
    assert_eq!(server.code(Key::Expiring), "EXPIRED");
    assert_eq!(server.code(Key::InGrace), "ROTATED");
    assert_eq!(server.code(Key::Renewed), "VALID");
    assert_eq!(server.code(Key::Limited), "VALID");
    assert_eq!(server.code(Key::UsedUp), "RATE_LIMITED");
    // The jobs have run before the answer, so that their events are there.
    for (event_type, key) in
        [("api_key.expired", Key::Expiring), ("api_key.grace_ended", Key::InGrace)]
    {
        let list = server.get(&format!("/api/v1/events?type={event_type}")).expect(200).json();
        let text = list.to_string();
        assert!(text.contains(&key.text()[..12]), "{event_type}: {text}");
    }
    let next_day = json!({ "now": "2027-01-02T00:00:00Z" });
    server.post("/dev/clock", &next_day).expect(200);
    assert_eq!(server.code(Key::UsedUp), "VALID");
    assert_eq!(server.code(Key::UsedUp), "RATE_LIMITED");
    // A new key follows the clock, too.
    let body = json!({ "name": "x", "scopes": ["orders:read"], "expiresIn": 60 });
    let made = server.post("/api/v1/api-keys", &body).expect(201).json();
    let expires_at = made["expiresAt"].as_str().unwrap();
    assert!(expires_at.starts_with("2027-01-02T00:01"), "{expires_at}");
    server.advance(60);
    assert_eq!(server.verify(&json!({ "key": made["key"] }))["code"], "EXPIRED");
    // After the retention, the purge removes what has ended.
    server.advance(40 * 24 * HOUR);
    assert_eq!(server.code(Key::Expired), "NOT_FOUND");
}

#[test]
fn the_clock_never_goes_back_and_refuses_what_it_cannot_show() {
    let server = Dev::start();
    for (body, pointer, code) in [
        (json!({ "now": "2026-12-31T23:59:59Z" }), "/now", "clock_goes_back"),
        (json!({ "now": "2500-01-01T00:00:00Z" }), "/now", "out_of_range"),
        (json!({ "now": "tomorrow" }), "/now", "invalid_format"),
        (json!({ "advanceSeconds": -1 }), "/advanceSeconds", "out_of_range"),
        (json!({ "advanceSeconds": 1.5 }), "/advanceSeconds", "invalid_type"),
        (json!({}), "/now", "required"),
        (
            json!({ "now": "2028-01-01T00:00:00Z", "advanceSeconds": 1 }),
            "/advanceSeconds",
            "invalid_combination",
        ),
        (json!({ "advanceSeconds": 1, "hours": 1 }), "/hours", "unknown_field"),
    ] {
        let answer = server.post("/dev/clock", &body);
        assert_eq!(answer.faults(), [(pointer.to_owned(), code.to_owned())], "{body}");
    }
    let now = server.get("/dev/clock").expect(200).json()["now"].clone();
    assert!(now.as_str().unwrap().starts_with("2027-01-01T00:0"), "{now}");
    let wrong = Request::new("DELETE", "/dev/clock").send(server.address).expect(405);
    assert_eq!(wrong.header("allow"), Some("GET, HEAD, POST"));
    // Another media type would let pages of other sites move the clock.
    let plain = Request::new("POST", "/dev/clock").header("Content-Type", "text/plain");
    plain.body("{\"advanceSeconds\": 1}").send(server.address).expect(415);
}

#[test]
fn every_answer_says_that_it_is_not_for_production() {
    let server = Dev::start();
    let key = DevelopmentKey::Valid.text();
    let question = json!({ "key": key });
    for (request, status) in [
        (Request::new("GET", "/livez"), 200),
        (Request::new("HEAD", "/"), 307),
        (Request::new("GET", "/console/"), 200),
        (Request::new("GET", "/docs/"), 200),
        (Request::new("GET", "/openapi.json"), 200),
        (Request::new("GET", "/dev/keys"), 200),
        (Request::new("GET", "/api/v1/api-keys"), 401),
        (Request::new("GET", "/api/v1/api-keys").key(&key), 403),
        (Request::new("GET", "/nothing"), 404),
        (Request::new("GET", "/api/v1/nothing").key(&key), 404),
        (Request::new("POST", "/livez"), 405),
        (Request::new("POST", "/api/v1/api-keys/verify").key(&key).json(&question), 403),
        (Request::new("POST", "/api/v1/api-keys").key(&DevelopmentKey::Root.text()).body("{"), 415),
        (Request::new("GET", &format!("/livez?key={key}")), 400),
        (Request::new("GET", "/authz").key(&key), 200),
        (Request::new("GET", "/authz/nginx"), 401),
        (Request::new("OPTIONS", "*"), 404),
    ] {
        let answer = request.send(server.address);
        assert_eq!(answer.status, status, "{request:?}: {}", answer.text());
        assert_eq!(answer.header("x-keyward-mode"), Some("development"), "{request:?}");
    }
    let verified = server.post("/api/v1/api-keys/verify", &question).expect(200);
    assert_eq!(verified.header("x-keyward-mode"), Some("development"));
    let first = fs::read_to_string(&server.stdout).unwrap();
    let first = first.lines().next().unwrap();
    assert!(first.contains("DEVELOPMENT MODE, NOT FOR PRODUCTION"), "{first}");
    let log = fs::read_to_string(&server.stderr).unwrap();
    assert!(log.contains("development mode: not for production"), "{log}");
    let ready = log.lines().find(|it| it.contains("keyward is ready")).unwrap();
    assert!(ready.contains("\"mode\":\"development\""), "{ready}");
}

#[test]
fn a_real_server_has_neither_the_routes_nor_the_header() {
    let server = TestServer::start();
    for (method, path) in [("GET", "/dev/clock"), ("POST", "/dev/clock"), ("GET", "/dev/keys")] {
        let answer = Request::new(method, path).key(&server.root.text).send(server.address);
        assert_eq!(answer.expect(404).header("x-keyward-mode"), None, "{path}");
    }
    let document = server.get(&server.root.text, "/openapi.json").expect(200);
    assert!(!document.text().contains("/dev/"));
}

#[test]
fn a_real_server_refuses_the_keys_and_the_data_of_development_mode() {
    let root = DevelopmentKey::Root.text();
    let (_dir, data) = place();
    let server = Binary::serve(&data);
    let initial = server.root_key();
    let asked = Request::new("GET", "/api/v1/scopes").key(&root).send(server.address);
    assert_eq!(asked.expect(401).problem(), "invalid_key");
    for (digest, value) in [
        ("sha256", "7f97d864ff28dda4f801a0614a34841c9ae771f081f7103067943f018dc9c6a9"),
        (
            "sha512",
            "7c477f20d99b438c4e4dfb338f0b88190611b27e6ffa6b54e10e58d1c09a53409a52ecdafce8fd7cf460fd140260bcdf96e95bca499b250218a417f7223bdd07",
        ),
    ] {
        let row = json!({ "name": "x", "scopes": ["orders:read"], digest: value });
        let (exit, report) = import(&data, "keys.jsonl", &row.to_string(), &[]);
        assert_eq!(exit, 3, "{report}");
        assert!(report.to_string().contains("development_key"), "{report}");
    }
    let row = json!({ "name": "x", "scopes": ["orders:read"], "key": root });
    let (exit, report) = import(&data, "keys.jsonl", &row.to_string(), &[]);
    assert_eq!(exit, 3, "{report}");
    assert_eq!(server.root_key(), initial);
    drop(server);

    // What a kill leaves behind.
    let mut server = Dev::start();
    server.child.kill().unwrap();
    server.child.wait().unwrap();
    let left = server.data();
    let name = left.file_name().unwrap().to_str().unwrap();
    assert_eq!(name, format!("keyward-dev-{}", server.child.id()));
    for arguments in [&["serve", "--listen", "127.0.0.1:0"][..], &["doctor"]] {
        let mut command = keyward();
        command.args(arguments).arg("--data-dir").arg(&left);
        // With a deadline: a server that accepts the directory would run on.
        let command = command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let output = Process::start(command).wait_for_end();
        let said =
            String::from_utf8_lossy(&[&*output.stdout, &*output.stderr].concat()).into_owned();
        let code = if arguments[0] == "serve" { 78 } else { 1 };
        assert_eq!(output.status.code(), Some(code), "{said}");
        assert!(said.contains("this is a database of development mode"), "{said}");
    }
    let backup = left.join("keyward.db");
    let target = server.temporary.path().join("restored");
    let output = keyward_in(&target, &["backup", "restore", backup.to_str().unwrap(), "--yes"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.contains("this is a database of development mode"), "{said}");
    assert!(!target.join("keyward.db").exists());
}

#[test]
fn the_directory_is_removed_at_the_end() {
    for signal in ["-TERM", "-INT", "-HUP"] {
        let server = Dev::start();
        let data = server.data();
        server.child.signal(signal);
        let Dev { child, temporary, stderr, .. } = server;
        let output = child.wait_for_end();
        let log = fs::read_to_string(stderr).unwrap();
        assert_eq!(output.status.code(), Some(0), "{signal}: {log}");
        assert!(!data.exists() && directories(temporary.path()).is_empty(), "{signal}");
    }
    let temporary = tempfile::tempdir().unwrap();
    let occupied = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = occupied.local_addr().unwrap().to_string();
    let output = dev(temporary.path(), &["--listen", &address]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("choose another port"), "{said}");
    assert!(directories(temporary.path()).is_empty());
}

#[test]
fn a_configuration_file_gives_scopes_and_no_places() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("keyward.toml");
    let real = dir.path().join("real");
    let text = format!(
        "data_dir = \"{}\"\nroot_key_file = \"/nowhere\"\nlisten = \"127.0.0.1:1\"\npublic_url = \"https://keys.example.com\"\n\
         [tls]\ncertificate = \"/nowhere\"\nkey = \"/nowhere\"\n\
         [[webhooks]]\nname = \"a\"\nurl = \"https://keys.example.com/\"\nevents = [\"*\"]\nsecret_file = \"/nowhere\"\n\
         [[scopes]]\nname = \"only:one\"\ndescription = \"x\"\n",
        real.display()
    );
    fs::write(&file, text).unwrap();
    let server = Dev::with(&["--listen", "127.0.0.1:0", "--config", file.to_str().unwrap()]);
    for sample in server.samples() {
        let found = server.verify(&sample["request"]);
        assert_eq!(found["code"], sample["code"], "{sample}");
    }
    let valid = json!({ "key": DevelopmentKey::Valid.text(), "scopes": ["only:one"] });
    assert_eq!(server.verify(&valid)["code"], "VALID");
    assert!(!real.exists());
}

#[test]
fn another_address_than_that_of_this_machine_is_announced() {
    let server = Dev::with(&["--listen", "0.0.0.0:0"]);
    let log = fs::read_to_string(&server.stderr).unwrap();
    assert!(
        log.contains("every machine that reaches this server can use its public keys"),
        "{log}"
    );
    let output = keyward().args(["dev", "--now", "1999-12-31T00:00:00Z"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn the_example_of_a_test_passes() {
    if !has(&["python3"]) {
        return;
    }
    let temporary = tempfile::tempdir().unwrap();
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/packaging/examples/test_with_keyward.py");
    let mut command = Command::new("python3");
    command.arg(example).env("KEYWARD", env!("CARGO_BIN_EXE_keyward"));
    let command = command.env("TMPDIR", temporary.path()).stdout(Stdio::piped());
    let output = Process::start(command.stderr(Stdio::piped())).wait_for_end();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && said.contains("OK"), "{said}");
    assert!(directories(temporary.path()).is_empty());
}

#[test]
fn health_finds_a_development_server_on_request_only() {
    let dir = tempfile::tempdir().unwrap();
    let development = Dev::start();
    let temporary = development.temporary.path();
    // A process that was killed leaves a directory.
    fs::create_dir(temporary.join("keyward-dev-0")).unwrap();
    let asked = |arguments: &[&str]| {
        let mut command = keyward();
        command.args(arguments).arg("--data-dir").arg(dir.path()).env("TMPDIR", temporary);
        command.output().unwrap()
    };
    assert_eq!(asked(&["health"]).status.code(), Some(1));
    assert_eq!(asked(&["health", "--or-dev"]).status.code(), Some(0));
    assert_eq!(asked(&["health", "--or-dev", "--ready"]).status.code(), Some(0));
    drop(development.child);
    let said = asked(&["health", "--or-dev"]);
    assert_eq!(said.status.code(), Some(1));
    let said = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(
        said.contains(&format!("no server uses the data directory {}", dir.path().display())),
        "{said}"
    );
}
