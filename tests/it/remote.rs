//! Commands with a `KEYWARD_URL` that names a server on the network.

use std::{
    io::{BufRead, BufReader},
    net::ToSocketAddrs,
    path::Path,
    process::{ChildStdout, Command, Output, Stdio},
};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{Binary, Process, Request, ReservedAddress, Supervised, keyward, keyward_in};

/// A server with its data directory where commands look by default.
struct Site {
    dir: TempDir,
    server: Binary,
    root: String,
    _reserved: ReservedAddress,
}

impl Site {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        // A fixed address, so that the server can return to it.
        let reserved = ReservedAddress::new();
        let address = reserved.address.to_string();
        let server = Binary::serve_at(&address, &dir.path().join("keyward-data"));
        let root = server.root_key();
        Self { dir, server, root, _reserved: reserved }
    }

    fn post(&self, path: &str, body: &Value) -> Value {
        let answer = Request::new("POST", path).key(&self.root).json(body);
        let answer = answer.send(self.server.address);
        assert!(answer.status < 300, "{}", answer.text());
        answer.json()
    }

    fn create(&self) -> Value {
        self.post("/api/v1/api-keys", &json!({ "name": "x", "scopes": ["orders:read"] }))
    }

    fn events(&self, key: &str) -> Vec<Value> {
        let list = Request::new("GET", "/api/v1/events").key(key).send(self.server.address);
        list.expect(200).json()["data"].as_array().unwrap().clone()
    }

    /// Returns a command beside the data directory, with `KEYWARD_URL` set to the server.
    fn command(&self, key: &str, arguments: &[&str]) -> Command {
        let mut command = keyward();
        command.args(arguments).current_dir(self.dir.path()).env("KEYWARD_KEY", key);
        command.env("KEYWARD_URL", format!("http://{}", self.server.address));
        command
    }

    fn run(&self, key: &str, arguments: &[&str]) -> Output {
        self.command(key, arguments).output().unwrap()
    }

    #[track_caller]
    fn lines(&self, key: &str, arguments: &[&str]) -> Vec<Value> {
        lines(&self.run(key, arguments))
    }

    fn data_dir(&self) -> &Path {
        &self.server.data_dir
    }
}

#[track_caller]
fn lines(output: &Output) -> Vec<Value> {
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().map(|it| serde_json::from_str(it).expect("JSON")).collect()
}

/// A running `keyward events tail -f`.
struct Tail {
    child: Process,
    out: BufReader<ChildStdout>,
}

impl Tail {
    fn start(mut command: Command) -> Self {
        let mut child = Process::start(command.stdout(Stdio::piped()).stderr(Stdio::piped()));
        let out = BufReader::new(child.stdout.take().unwrap());
        Self { child, out }
    }

    fn event(&mut self) -> Value {
        let mut line = String::new();
        self.out.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|err| panic!("{line:?}: {err}"))
    }

    /// Waits until it ends by itself; returns its exit code and its output.
    fn end(self) -> (Option<i32>, String) {
        let output = self.child.wait_for_end();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    }
}

#[test]
fn the_newest_events_come_from_the_server_in_the_url() {
    let site = Site::start();
    (0..12).for_each(|_| drop(site.create()));
    let all = site.events(&site.root);
    let tail = |key: &str, lines: &str| {
        site.lines(key, &["events", "tail", "--format", "jsonl", "-n", lines])
    };
    assert_eq!(tail(&site.root, "1000000"), all);
    assert_eq!(tail(&site.root, "3"), all[all.len() - 3..]);
    assert_eq!(tail(&site.root, "0"), [] as [Value; 0]);
    let refused = site.run("nonsense", &["events", "tail"]);
    assert_eq!((refused.status.code(), refused.stdout.len()), (Some(4), 0));
}

#[test]
fn an_account_is_shown_its_own_newest_events_however_far_back_they_are() {
    let site = Site::start();
    let body = json!({ "name": "Acme", "externalId": "acme" });
    let account = site.post("/api/v1/accounts", &body);
    let key = account["apiKey"]["key"].as_str().unwrap();
    (0..30).for_each(|_| drop(site.create()));
    let own = site.events(key);
    assert!(2 <= own.len() && own.len() < 10, "{own:?}");
    for count in [1, 2, own.len()] {
        let count_text = count.to_string();
        let told = site.lines(key, &["events", "tail", "--format", "jsonl", "-n", &count_text]);
        assert_eq!(told, own[own.len() - count..]);
    }
}

#[test]
fn a_follower_on_the_network_resumes_where_it_was() {
    let mut site = Site::start();
    (0..3).for_each(|_| drop(site.create()));
    let arguments = ["events", "tail", "-f", "-n", "2", "--format", "jsonl"];
    let mut tail = Tail::start(site.command(&site.root, &arguments));
    let mut seen = vec![tail.event(), tail.event()];
    site.create();
    seen.push(tail.event());
    let (address, data) = (site.server.address.to_string(), site.data_dir().to_owned());
    assert!(site.server.terminate().status.success());
    site.server = Binary::serve_at(&address, &data);
    let made = site.post("/api/v1/api-keys", &json!({ "name": "*", "scopes": ["*"] }));
    seen.extend((0..3).map(|_| tail.event()));
    let all = site.events(&site.root);
    assert_eq!(seen, all[all.len() - 6..]);

    // The key that the command uses is revoked.
    let own = site.events(&site.root);
    let root = own.iter().find(|it| it["type"] == "api_key.created").unwrap();
    let path = format!("/api/v1/api-keys/{}", root["subject"].as_str().unwrap());
    let revoke = Request::new("DELETE", &path).key(made["key"].as_str().unwrap());
    revoke.send(site.server.address).expect(204);
    let (code, said) = tail.end();
    assert_eq!(code, Some(4), "{said}");
    let lines: Vec<_> = said.lines().collect();
    assert!(lines[0].contains("broke") && lines[1].contains("connected again"), "{said}");
    assert!(lines[2].contains("nothing more"), "{said}");
}

#[test]
fn an_export_over_the_network_equals_that_of_the_file() {
    let site = Site::start();
    site.create();
    assert!(keyward_in(site.data_dir(), &["run-job", "checkpoint"]).status.success());
    for format in ["jsonl", "cloudevents", "ocsf"] {
        let arguments = ["events", "export", "--since-seq", "2", "--format", format];
        let local = lines(&keyward_in(site.data_dir(), &arguments));
        assert!(local.len() > 1);
        assert_eq!(site.lines(&site.root, &arguments), local, "{format}");
    }
    let weak = site.create();
    let refused = site.run(weak["key"].as_str().unwrap(), &["events", "export"]);
    assert_eq!((refused.status.code(), refused.stdout.len()), (Some(4), 0));
    // A file on the command line has precedence.
    let database = site.data_dir().join("keyward.db");
    let named = site.run("nonsense", &["events", "export", "--db", database.to_str().unwrap()]);
    assert_eq!(lines(&named).len(), site.events(&site.root).len());
}

#[test]
fn a_command_for_the_local_machine_is_refused_with_the_url_of_another() {
    let site = Site::start();
    let before = site.events(&site.root);
    let file = site.dir.path().join("keys.jsonl");
    std::fs::write(&file, "").unwrap();
    for arguments in [
        &["run-job", "checkpoint"][..],
        &["backup", "create"],
        &["backup", "restore", "keys.jsonl", "--yes"],
        &["root-key", "reset"],
        &["clock", "accept"],
        &["import", "keys.jsonl"],
        &["apply", "keys.toml"],
        &["doctor"],
        &["events", "verify"],
    ] {
        let output = site.run(&site.root, arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{said}");
        assert!(said.contains("unset it") && said.contains("--data-dir"), "{said}");
    }
    assert_eq!(site.events(&site.root), before);
    for arguments in [
        &["run-job", "checkpoint", "--data-dir", "keyward-data"][..],
        &["events", "verify", "--data-dir", "keyward-data"],
        &["events", "verify", "--db", "keyward-data/keyward.db"],
        &["config", "check"],
        &["config", "print"],
    ] {
        let output = site.run(&site.root, arguments);
        assert!(output.status.success(), "{arguments:?}: {output:?}");
    }
}

#[test]
fn a_server_ignores_the_url_variable() {
    let dir = tempfile::tempdir().unwrap();
    let url = [("KEYWARD_URL", "http://127.0.0.1:1")];
    let server = Supervised::serve_with(dir.path(), "listen = \"127.0.0.1:0\"\n", &url);
    assert!(server.terminate().status.success());
}

#[test]
fn a_proxy_from_the_environment_is_not_used_for_this_machine() {
    let site = Site::start();
    let port = site.server.address.port();
    let run = |url: &str, arguments: &[&str]| {
        let mut command = site.command(&site.root, arguments);
        // Port 9 is the discard service (RFC 863); here it is closed.
        for name in ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY"] {
            command.env(name, "http://user:secret@127.0.0.1:9");
        }
        command.env_remove("NO_PROXY").env_remove("no_proxy");
        command.env("KEYWARD_URL", url).output().unwrap()
    };
    for arguments in [&["scopes"][..], &["health"], &["events", "tail"]] {
        for host in ["http://127.0.0.1", "HTTP://localhost", "Http://127.0.0.1"] {
            // A minimal Debian has no /etc/hosts and cannot resolve the name.
            if host.ends_with("localhost") && ("localhost", port).to_socket_addrs().is_err() {
                continue;
            }
            let output = run(&format!("{host}:{port}/api/v1/"), arguments);
            assert!(output.status.success(), "{host} {arguments:?}: {output:?}");
        }
        // This address is reserved for documentation (RFC 5737), so only a proxy could lead there.
        let output = run("http://192.0.2.7:8080", arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {said}");
        let names_both = said.contains("http://192.0.2.7:8080 (through 127.0.0.1:9)");
        assert!(names_both && !said.contains("secret"), "{arguments:?}: {said}");
        let output = run("gopher://127.0.0.1", arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {output:?}");
    }
}
