//! `keyward events tail`: with a server, without one, and while a server stops and starts.

use std::{
    fs,
    io::{BufRead, BufReader},
    os::unix::process::ExitStatusExt,
    path::Path,
    process::{ChildStdout, ExitStatus, Stdio},
};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{Binary, Process, Request, keyward, keyward_in};

/// A running `keyward events tail`.
struct Tail {
    child: Process,
    out: Option<BufReader<ChildStdout>>,
}

impl Tail {
    fn start(data: &Path, arguments: &[&str]) -> Self {
        let mut command = keyward();
        command.args(["events", "tail"]).args(arguments).arg("--data-dir").arg(data);
        let mut child = Process::start(command.stdout(Stdio::piped()).stderr(Stdio::piped()));
        let out = child.stdout.take().map(BufReader::new);
        Self { child, out }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.out.as_mut().unwrap().read_line(&mut line).unwrap();
        assert!(line.ends_with('\n'), "{line:?}");
        line.trim_end().to_owned()
    }

    fn event(&mut self) -> Value {
        serde_json::from_str(&self.line()).expect("JSON")
    }

    /// Stops reading its output, as `| head` does.
    fn deaf(&mut self) {
        self.out = None;
    }

    /// Waits for its end; returns its exit status and its error output.
    fn end(self) -> (ExitStatus, String) {
        let output = self.child.wait_for_end();
        (output.status, String::from_utf8(output.stderr).unwrap())
    }
}

fn events(server: &Binary, key: &str) -> Vec<Value> {
    let list = Request::new("GET", "/api/v1/events").key(key).send(server.address);
    list.expect(200).json()["data"].as_array().unwrap().clone()
}

fn create(server: &Binary, key: &str) {
    let body = json!({ "name": "x", "scopes": ["orders:read"] });
    Request::new("POST", "/api/v1/api-keys").key(key).json(&body).send(server.address).expect(201);
}

/// Starts a server with a few more events than `tail` shows by default; also returns its root key.
fn busy() -> (TempDir, Binary, String) {
    let dir = tempfile::tempdir().unwrap();
    let server = Binary::serve(&dir.path().join("data"));
    let root = server.root_key();
    (0..12).for_each(|_| create(&server, &root));
    (dir, server, root)
}

fn printed(data: &Path, arguments: &[&str]) -> Vec<String> {
    let output = keyward_in(data, &[&["events", "tail"], arguments].concat());
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn the_newest_events_are_printed_with_and_without_a_server() {
    let (dir, server, root) = busy();
    let data = dir.path().join("data");
    let all = events(&server, &root);
    let check = |all: &[Value]| {
        let json = |arguments: &[&str]| -> Vec<Value> {
            let lines = printed(&data, &[arguments, &["--format", "jsonl"]].concat());
            lines.iter().map(|it| serde_json::from_str(it).expect("JSON")).collect()
        };
        assert_eq!(json(&["-n", "1000000"]), all);
        assert_eq!(json(&["--lines", "3"]), all[all.len() - 3..]);
        assert_eq!(json(&["-n", "0"]), [Value::Null; 0]);
        let lines = printed(&data, &[]);
        assert_eq!(lines.len(), 10);
        for (line, event) in lines.iter().zip(&all[all.len() - 10..]) {
            let words: Vec<_> = line.split_whitespace().collect();
            let text = |it: &Value| it.as_str().unwrap().to_owned();
            let actor = event["actor"]["keyId"].as_str().unwrap_or("cli");
            let wanted = [
                text(&event["time"]),
                event["seq"].to_string(),
                text(&event["type"]),
                actor.into(),
            ];
            assert_eq!(words[..4], wanted, "{line}");
            assert_eq!(words[4], text(&event["subject"]), "{line}");
        }
    };
    check(&all);
    assert!(server.terminate().status.success());
    let last = printed(&data, &["-n", "1", "--format", "jsonl"]);
    let stopped: Value = serde_json::from_str(&last[0]).unwrap();
    assert_eq!(stopped["type"], "server.stopped");
    check(&[&all[..], &[stopped]].concat());
}

#[test]
fn following_needs_a_server() {
    let (dir, server, _) = busy();
    let data = dir.path().join("data");
    assert!(server.terminate().status.success());
    let output = keyward_in(&data, &["events", "tail", "-f"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0), "{said}");
    assert!(said.contains("no server"), "{said}");
    let mut killed = Binary::serve(&data);
    killed.child.kill().unwrap();
    killed.wait();
    assert!(data.join("control.sock").exists(), "left behind, without a listener");
    assert_eq!(keyward_in(&data, &["events", "tail", "-f"]).status.code(), Some(1));
    assert_eq!(printed(&data, &["-n", "2"]).len(), 2);
}

#[test]
fn a_follower_resumes_where_it_was_when_the_server_returns() {
    let (dir, server, root) = busy();
    let data = dir.path().join("data");
    let mut tail = Tail::start(&data, &["-f", "-n", "2", "--format", "jsonl"]);
    let mut seen = vec![tail.event(), tail.event()];
    create(&server, &root);
    seen.push(tail.event());
    assert!(server.terminate().status.success());
    let server = Binary::serve(&data);
    create(&server, &root);
    seen.extend((0..3).map(|_| tail.event()));
    let all = events(&server, &root);
    assert_eq!(seen, all[all.len() - 6..]);
    let types: Vec<_> = seen[3..].iter().map(|it| it["type"].as_str().unwrap()).collect();
    assert_eq!(types, ["server.stopped", "server.started", "api_key.created"]);

    tail.child.signal("-INT");
    let (status, said) = tail.end();
    assert_eq!(status.signal(), Some(2), "a shell reports this as 130");
    let lines: Vec<_> = said.lines().collect();
    assert_eq!(lines.len(), 2, "{said}");
    assert!(lines[0].contains("broke") && lines[1].contains("connected again"), "{said}");
}

#[test]
fn a_follower_ends_silently_when_its_output_is_closed() {
    let (dir, server, root) = busy();
    let mut tail = Tail::start(&dir.path().join("data"), &["-f", "-n", "1"]);
    tail.line();
    tail.deaf();
    create(&server, &root);
    let (status, said) = tail.end();
    assert_eq!((status.code(), &*said), (Some(0), ""));
}

#[test]
fn a_follower_reports_that_an_older_log_has_replaced_the_log() {
    let (dir, server, root) = busy();
    let (data, copy) = (dir.path().join("data"), dir.path().join("copy"));
    assert!(server.terminate().status.success());
    fs::create_dir(&copy).unwrap();
    fs::copy(data.join("keyward.db"), copy.join("keyward.db")).unwrap();
    let server = Binary::serve(&data);
    (0..5).for_each(|_| create(&server, &root));
    let mut tail = Tail::start(&data, &["-f", "-n", "1"]);
    tail.line();
    assert!(server.terminate().status.success());
    fs::copy(copy.join("keyward.db"), data.join("keyward.db")).unwrap();
    // The documentation tells an operator who restores an older copy to do this.
    fs::remove_file(data.join("checkpoint")).unwrap();
    let _server = Binary::serve(&data);
    let (status, said) = tail.end();
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("older copy"), "{said}");
}
