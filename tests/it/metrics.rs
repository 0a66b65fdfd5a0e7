//! The metrics for Prometheus, and the alerts and the dashboard that use them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::Write,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use keyward::{config::WebhookSetting, domain::webhook::EventPattern, telemetry::Metrics};
use serde_json::{Value, json};

use crate::support::{
    Process, Request, TestServer, authz, has, keyward_in, operations::operations,
};

/// Starts a server and causes some of every counted event.
fn busy_server() -> (TestServer, String) {
    let mut server = authz::guarded();
    let key = server.key(&["orders:read"]);
    let secrets = server.data_dir().join("hook.secret");
    fs::write(&secrets, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
    fs::set_permissions(&secrets, fs::Permissions::from_mode(0o600)).unwrap();
    server.restart(|config| {
        config.webhooks.push(WebhookSetting {
            name: "siem".to_owned(),
            url: "https://siem.example.com/".to_owned(),
            events: vec![EventPattern::parse("backup.restored").unwrap()],
            secret_file: Some(secrets),
            allow_private: false,
            timeout: WebhookSetting::TIMEOUT,
        });
    });
    for request in authz::questions("GET", "/orders/7") {
        server.send(&request.clone().key(&key.text)).expect(200);
        server.send(&request.clone()).expect(401);
        server.send(&request.key("nonsense")).expect(401);
    }
    // This scope does not exist.
    server.send(&Request::new("GET", "/authz?scope=orders:raed").key(&key.text)).expect(403);
    let body = json!({ "key": key.text, "scopes": ["orders:write"] });
    let verify = Request::new("POST", "/api/v1/api-keys/verify").key(&server.root.text);
    server.send(&verify.json(&body)).expect(200);
    server.send(&Request::new("BREW", "/api/v1/api-keys").key(&server.root.text));
    server.send(&Request::new("GET", "/api/v1/rg_secretive?name=x").key(&server.root.text));
    let rotate = format!("/api/v1/api-keys/{}/rotate", key.id);
    server.send(&Request::new("POST", &rotate).key(&server.root.text)).expect(200);
    server.run_job("backup");
    server.advance(Duration::from_mins(1));
    let text = server.send(&Request::new("GET", "/metrics")).expect(200).text();
    (server, text)
}

/// Returns the samples by name, each with its labels.
fn samples(text: &str) -> Vec<(String, BTreeMap<String, String>, String)> {
    let lines = text.lines().filter(|it| !it.is_empty() && !it.starts_with('#'));
    let sample = |line: &str| {
        let (name, value) = line.rsplit_once(' ').expect("a value");
        let (name, labels) = name.split_once('{').unwrap_or((name, "}"));
        let labels = labels.trim_end_matches('}').split("\",").filter(|it| !it.is_empty());
        let label = |it: &str| {
            let (name, value) = it.split_once("=\"").expect("a label");
            (name.to_owned(), value.trim_end_matches('"').to_owned())
        };
        (name.to_owned(), labels.map(label).collect(), value.to_owned())
    };
    lines.map(sample).collect()
}

fn value(text: &str, name: &str, labels: &[(&str, &str)]) -> String {
    let found = samples(text).into_iter().find(|(it, of, _)| {
        it == name && labels.iter().all(|(name, value)| of.get(*name).is_some_and(|it| it == value))
    });
    found.unwrap_or_else(|| panic!("no {name} {labels:?}\n{text}")).2
}

#[test]
fn every_occurrence_is_counted_in_its_metric() {
    let (_server, text) = busy_server();
    let decisions = |entry, outcome| {
        let labels = [("entry", entry), ("outcome", outcome)];
        value(&text, "keyward_verifications_total", &labels)
    };
    for entry in ["nginx", "forward", "envoy"] {
        for outcome in ["VALID", "MISSING_KEY", "MALFORMED"] {
            assert_eq!(decisions(entry, outcome), "1", "{entry} {outcome}");
        }
        let name = "keyward_verification_duration_seconds_count";
        assert_eq!(value(&text, name, &[("entry", entry)]), "3");
    }
    assert_eq!(decisions("plain", "REFUSED"), "1");
    assert_eq!(decisions("api", "INSUFFICIENT_SCOPES"), "1");
    let keys = |state| value(&text, "keyward_keys", &[("state", state)]);
    assert_eq!([keys("active"), keys("rotating"), keys("revoked")], ["2", "1", "0"]);
    let created = [("type", "api_key.created")];
    assert_eq!(value(&text, "keyward_audit_events_total", &created), "2");
    let newest = value(&text, "keyward_audit_last_sequence", &[]);
    let all = samples(&text).into_iter().filter(|it| it.0 == "keyward_audit_events_total");
    let sum: u64 = all.map(|it| it.2.parse::<u64>().unwrap()).sum();
    assert_eq!(sum.to_string(), newest);
    assert_ne!(value(&text, "keyward_backup_last_success_timestamp_seconds", &[]), "0");
    assert_eq!(value(&text, "keyward_job_duration_seconds_count", &[("job", "purge")]), "1");
    let route = [("http_route", "/api/v1/api-keys/{id}/rotate"), ("http_request_method", "POST")];
    let name = "http_server_request_duration_seconds_count";
    assert_eq!(value(&text, name, &route), "1");
    for status in ["404", "405"] {
        let labels = [("http_request_method", "_OTHER"), ("http_response_status_code", status)];
        assert_eq!(value(&text, "http_server_requests_total", &labels), "1", "{status}");
    }
}

#[test]
fn a_job_run_by_hand_is_counted_like_any_other() {
    let server = TestServer::with(|config| config.backup.dir = Some("/dev/null/nowhere".into()));
    let counted = |job, result| {
        let text = server.send(&Request::new("GET", "/metrics")).expect(200).text();
        value(&text, "keyward_job_runs_total", &[("job", job), ("result", result)])
    };
    assert_eq!(counted("purge", "ok"), "1", "at the start");
    assert_eq!(counted("backup", "failed"), "0");
    let run = |job| keyward_in(&server.data_dir(), &["run-job", job]).status.code();
    assert_eq!([run("purge"), run("backup")], [Some(0), Some(1)]);
    assert_eq!(counted("purge", "ok"), "2");
    assert_eq!(counted("backup", "failed"), "1");
}

#[test]
fn no_request_can_add_many_series_to_the_metrics() {
    let server = TestServer::start();
    let paths = operations();
    let methods = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW"];
    let (_, key) = server.account(&json!({ "name": "x" }));
    for it in paths.iter().filter(|it| it.id != "streamEvents") {
        for method in methods {
            let request = Request::new(method, &it.path.replace("{seq}", "1").replace("{id}", "x"));
            server.send(&request.clone());
            server.send(&request.key(&key.text));
        }
    }
    let text = server.send(&Request::new("GET", "/metrics")).expect(200).text();
    let mut pairs = BTreeSet::new();
    for (name, labels, _) in samples(&text) {
        if name == "http_server_requests_total" {
            let label = |name: &str| labels.get(name).cloned().unwrap_or_default();
            pairs.insert((label("http_request_method"), label("http_route")));
        }
    }
    let documented = paths.iter().map(|it| (it.method.clone(), it.path.clone()));
    let mut known: BTreeSet<_> = documented.collect();
    known.insert(("_OTHER".to_owned(), String::new()));
    assert!(pairs.is_subset(&known), "{:?}", pairs.difference(&known));
    // The longest metrics possible: all of these, each with every status.
    let metrics = Metrics::new();
    let statuses = [
        200, 201, 204, 304, 307, 400, 401, 403, 404, 405, 406, 408, 409, 411, 412, 413, 414, 415,
        417, 422, 429, 431, 500, 501, 503, 504, 505,
    ];
    for path in ["/", "/console", "/console/{path:.*}", "/docs", "/docs/{path:.*}", "/healthz"] {
        known.insert(("GET".to_owned(), path.to_owned()));
    }
    for (method, route) in known {
        for status in statuses {
            let took = Duration::from_millis(u64::from(status));
            metrics.count_request(method.clone().leak(), route.clone(), status, took);
        }
    }
    let longest = metrics.render(&server.app, &server.app.statistics()).len();
    assert!((50_000..350_000).contains(&longest), "{longest} bytes");
}

#[test]
fn no_label_reveals_anything_about_a_key_or_a_client() {
    let (server, text) = busy_server();
    let known: BTreeSet<&str> = [
        "entry", "outcome", "le", "job", "result", "state", "type", "version", "commit", "webhook",
    ]
    .into_iter()
    .chain(["http_request_method", "http_route", "http_response_status_code"])
    .collect();
    for (name, labels, _) in samples(&text) {
        for (label, value) in labels {
            assert!(known.contains(&*label), "{name} has {label}");
            for secret in ["key_", "acct_", "rg_", "127.0.0.1", "BREW", "Root"] {
                assert!(!value.contains(secret), "{name} reveals {value}");
            }
        }
    }
    assert!(!text.contains(&server.root.text[..12]));
}

#[test]
fn promtool_finds_no_fault() {
    if !has(&["promtool"]) {
        return;
    }
    let (_server, text) = busy_server();
    let mut check = Command::new("promtool");
    check.args(["check", "metrics"]).stdin(Stdio::piped());
    let mut check = Process::start(check.stdout(Stdio::piped()).stderr(Stdio::piped()));
    check.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = check.wait_with_output();
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success() && said.is_empty(), "{}", String::from_utf8_lossy(&said));
    let packaging = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/prometheus");
    for arguments in [
        ["check", "rules", "rules.yml"],
        ["test", "rules", "rules_test.yml"],
        ["check", "config", "--syntax-only"],
    ] {
        let mut promtool = Command::new("promtool");
        promtool.args(arguments).current_dir(&packaging);
        if arguments[2].starts_with("--") {
            promtool.arg("prometheus.yml");
        }
        let output = promtool.output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{arguments:?}: {said}");
    }
}

#[test]
fn alerts_and_dashboard_use_only_metrics_that_exist() {
    let (_server, text) = busy_server();
    let names: BTreeSet<_> = samples(&text).into_iter().map(|(name, ..)| name).collect();
    let packaging = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging");
    let dashboard = fs::read_to_string(packaging.join("grafana/keyward.json")).unwrap();
    let dashboard: Value = serde_json::from_str(&dashboard).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    assert!(8 <= panels.len());
    assert_eq!(dashboard["__inputs"][0]["name"], "DS_PROMETHEUS");
    let queries = panels.iter().flat_map(|it| it["targets"].as_array().unwrap());
    let mut queries: Vec<_> = queries.map(|it| it["expr"].as_str().unwrap().to_owned()).collect();
    let rules = fs::read_to_string(packaging.join("prometheus/rules.yml")).unwrap();
    queries.extend(rules.lines().filter(|it| !it.contains("alert:")).map(str::to_owned));
    let mut used = 0;
    for query in queries {
        let words = query.split(|it: char| !(it.is_ascii_alphanumeric() || it == '_'));
        for name in words.filter(|it| it.starts_with("keyward_") || it.starts_with("http_server")) {
            assert!(names.contains(name), "{name} in {query}");
            used += 1;
        }
    }
    assert!(20 < used, "{used}");
}

#[test]
fn a_key_that_may_read_metrics_is_enough_over_the_network() {
    let server = TestServer::start();
    let reader = server.key(&["metrics:read"]);
    let from = |key: &str| {
        let request = Request::new("GET", "/metrics").header("X-Forwarded-For", "203.0.113.9");
        server.send(&request.header("Authorization", &format!("Bearer {key}"))).status
    };
    assert_eq!(from(&reader.text), 200);
    assert_eq!(from(&server.key(&["orders:read"]).text), 403);
    assert_eq!(from("nonsense"), 401);
}

#[test]
fn metrics_accept_a_key_as_the_api_does() {
    let server = TestServer::start();
    let reader = server.key(&["metrics:read"]);
    let ask = || Request::new("GET", "/metrics").header("X-Forwarded-For", "203.0.113.9");
    let bearer = format!("Bearer {}", reader.text);
    server.send(&ask().key(&reader.text).header("Authorization", &bearer)).expect(200);
    let both = server.send(&ask().key(&server.root.text).header("Authorization", &bearer));
    assert_eq!(both.expect(400).problem(), "conflicting_keys");
    let twice = server.send(&ask().key(&reader.text).header("x-api-key", &reader.text));
    assert_eq!(twice.expect(400).problem(), "duplicate_header");
    let path = format!("{}/rotate", reader.path());
    let now = json!({ "gracePeriodSeconds": 0 });
    server.send(&Request::new("POST", &path).key(&server.root.text).json(&now)).expect(200);
    let retired = server.send(&ask().key(&reader.text)).expect(401);
    assert_eq!(retired.problem(), "key_rotated");
    // The server may record this only after the answer.
    let deadline = Instant::now() + Duration::from_secs(30);
    let event = loop {
        let events = server.events();
        if let Some(event) = events.iter().find(|it| it["type"] == "api_key.retired_key_used") {
            break event.clone();
        }
        assert!(Instant::now() < deadline, "the use was not recorded");
        thread::sleep(Duration::from_millis(1));
    };
    assert_eq!(event["actor"]["keyId"], reader.id);
    assert_eq!(event["clientIp"], "203.0.113.9");
    assert_eq!(event["requestId"], retired.header("x-request-id").unwrap());
}

#[test]
fn local_metrics_are_closed_to_a_web_page_whose_host_name_resolves_to_this_machine() {
    let server = TestServer::start();
    let reader = server.key(&["metrics:read"]);
    let ask = |host: &str| Request::new("GET", "/metrics").header("Host", host);
    let port = server.address.port();
    for own in ["127.0.0.1", "localhost", "LOCALHOST", "[::1]", "192.0.2.7"] {
        server.send(&ask(own)).expect(200);
        server.send(&ask(&format!("{own}:{port}"))).expect(200);
    }
    for other in ["rebound.example", "127.0.0.1.example", "localhost.example:8080", "a,127.0.0.1"] {
        // A web page can choose this header, so it is not trusted.
        let request = ask(other).header("X-Forwarded-Host", "localhost");
        server.send(&request).expect(401);
        server.send(&request.key(&reader.text)).expect(200);
        let verbose = Request::new("GET", "/readyz?verbose").header("Host", other);
        assert_eq!(server.send(&verbose).text().trim_end(), "ok");
    }
}

#[test]
fn readiness_is_tested_by_a_write_at_most_once_a_second() {
    let server = TestServer::start();
    let ready = || server.send(&Request::new("GET", "/readyz"));
    ready().expect(200);
    let verbose = || server.send(&Request::new("GET", "/readyz?verbose"));
    assert_eq!(verbose().text(), "[+]accepting ok\n[+]writer ok\n[+]reader ok\n[+]disk ok\n");
    let afar = Request::new("GET", "/readyz?verbose").header("X-Forwarded-For", "203.0.113.9");
    assert_eq!(server.send(&afar).text(), "ok\n", "nothing more for others");
    let other = rusqlite::Connection::open(server.database()).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    ready().expect(200);
    server.advance(Duration::from_secs(1));
    ready().expect(503);
    assert!(verbose().text().contains("[-]writer failed: the service is busy\n[+]reader ok"));
    drop(other);
    server.advance(Duration::from_secs(1));
    ready().expect(200);
    server.app.drain();
    ready().expect(503);
    server.send(&Request::new("GET", "/livez")).expect(200);
    server.send(&Request::new("GET", "/healthz")).expect(200);
}
