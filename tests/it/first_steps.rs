//! The first mistakes of a new operator: each message holds a command that helps.

use std::{
    ffi::OsStr,
    fs::{self, Permissions},
    os::unix::{
        ffi::OsStrExt,
        fs::{PermissionsExt, chown},
        process::CommandExt,
    },
    path::Path,
    process::{Command, Output},
};

use serde_json::{Value, json};

use crate::support::{Binary, Request, TestServer, keyward, keyward_in, skip};

/// The variables that Kubernetes sets in every pod beside a Service `keyward` with a named port.
const SERVICE_LINKS: [(&str, &str); 9] = [
    ("KEYWARD_SERVICE_HOST", "10.0.0.1"),
    ("KEYWARD_SERVICE_PORT", "8080"),
    ("KEYWARD_SERVICE_PORT_HTTP", "8080"),
    ("KEYWARD_PORT", "tcp://10.0.0.1:8080"),
    ("KEYWARD_PORT_8080_TCP", "tcp://10.0.0.1:8080"),
    ("KEYWARD_PORT_8080_TCP_PROTO", "tcp"),
    ("KEYWARD_PORT_8080_TCP_PORT", "8080"),
    ("KEYWARD_PORT_8080_TCP_ADDR", "10.0.0.1"),
    ("KEYWARD_METRICS_SERVICE_PORT", "9090"),
];

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[&*output.stdout, &*output.stderr].concat()).into_owned()
}

/// Runs keyward with these arguments and variables; returns the exit code and all output.
fn run(arguments: &[&str], variables: &[(&str, &str)]) -> (i32, String) {
    let mut command = keyward();
    command.args(arguments).envs(variables.iter().copied());
    let output = command.output().unwrap();
    (output.status.code().unwrap_or(-1), said(&output))
}

#[test]
fn service_links_of_kubernetes_do_no_harm() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let (code, said) = run(&["config", "check"], &SERVICE_LINKS);
    assert_eq!((code, said.trim()), (0, "the configuration is sound"));
    let server = Binary::serve_with(&data, &SERVICE_LINKS);
    let health = ["health", "--data-dir", data.to_str().unwrap()];
    let (code, said) = run(&health, &SERVICE_LINKS);
    assert_eq!((code, said.trim()), (0, "ok"));
    drop(server);
}

#[test]
fn an_unknown_variable_stops_no_command_but_a_typing_mistake_stops_a_server() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let server = Binary::serve(&data);
    let place = data.to_str().unwrap();
    let foreign = [("KEYWARD_API_KEY", "rg_x"), ("KEYWARD_LSTEN", "127.0.0.1:1")];
    for command in [
        &["health"][..],
        &["doctor"],
        &["keys", "list"],
        &["accounts", "list"],
        &["scopes"],
        &["events", "tail"],
        &["events", "verify"],
        &["run-job", "purge"],
        &["routes", "test", "GET", "/", "--file", "packaging/routes.toml"],
    ] {
        let mut arguments = command.to_vec();
        if command[0] != "routes" {
            arguments.extend(["--data-dir", place]);
        }
        let (code, said) = run(&arguments, &foreign);
        assert!(code == 0 || command[0] == "routes" && code == 3, "{command:?}: {said}");
        for part in ["ignored: KEYWARD_API_KEY", "ignored: KEYWARD_LSTEN", "`KEYWARD_LISTEN`"] {
            assert!(said.contains(part), "{command:?}: {said}");
        }
    }
    for command in [&["serve"][..], &["config", "check"], &["config", "print"]] {
        let arguments = [command, &["--data-dir", place]].concat();
        let (code, said) = run(&arguments, &foreign);
        assert_eq!(code, 78, "{command:?}: {said}");
        assert!(said.contains("did you mean `KEYWARD_LISTEN`?"), "{said}");
        let (code, said) = run(&arguments, &[("KEYWARD_PORT", "8081")]);
        assert_eq!(code, 78, "{command:?}: {said}");
        assert!(said.contains("KEYWARD_LISTEN=127.0.0.1:8080"), "{said}");
    }
    drop(server);
}

#[test]
fn variables_and_arguments_that_are_not_utf8_do_no_harm() {
    let strange = OsStr::from_bytes(b"\xff");
    let output = keyward().args(["config", "check"]).env("OTHER", strange).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let output = keyward().args(["serve", "--port"]).arg(strange).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
}

#[test]
fn a_port_in_use_is_answered_with_a_command_that_works() {
    let dir = tempfile::tempdir().unwrap();
    let (one, other) = (dir.path().join("one"), dir.path().join("the other"));
    let first = Binary::serve(&one);
    let address = first.address.to_string();
    let second = keyward_in(&other, &["serve", "--listen", &address]);
    let text = said(&second);
    assert_eq!(second.status.code(), Some(1), "{text}");
    let next = format!("--listen 127.0.0.1:{}", first.address.port() + 1);
    let quoted = format!("--data-dir '{}' {next}", other.display());
    assert!(text.contains("Another program listens there"), "{text}");
    assert!(text.trim_end().ends_with(&quoted), "{text}");
    assert!(!other.exists());
}

#[test]
fn a_second_server_is_refused_with_the_way_to_run_it_beside_the_first() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let first = Binary::serve(&data);
    let place = data.to_str().unwrap();
    let (code, text) = run(&["serve", "--listen=127.0.0.1:0", "--data-dir", place], &[]);
    assert_eq!(code, 75, "{text}");
    assert!(text.contains("another keyward"), "{text}");
    let command = text.lines().last().unwrap().trim();
    let expected = format!("serve --data-dir {place}-2 --listen 127.0.0.1:8081");
    assert!(command.ends_with(&expected), "{text}");
    drop(first);
}

#[test]
fn options_of_other_servers_are_answered_with_the_right_one() {
    for (arguments, tip) in [
        (&["serve", "--port", "8081"][..], "--listen 127.0.0.1:8081"),
        (&["serve", "--port=9000"], "--listen 127.0.0.1:9000"),
        (&["serve", "-p", "9000"], "--listen 127.0.0.1:9000"),
        (&["serve", "--host", "0.0.0.0"], "--listen 127.0.0.1:"),
        (&["serve", "--bind", "0.0.0.0:99"], "--listen 127.0.0.1:99"),
        (&["serve", "8081"], "--listen 127.0.0.1:8081"),
        (&["serve", ":8081"], "--listen 127.0.0.1:8081"),
    ] {
        let (code, said) = run(arguments, &[]);
        assert_eq!(code, 2, "{said}");
        assert!(said.contains(tip), "{arguments:?}: {said}");
    }
}

#[test]
fn the_search_for_revoked_keys_is_answered_with_a_command_that_finds_them() {
    let dir = tempfile::tempdir().unwrap();
    let server = Binary::serve(dir.path());
    let here = |arguments: &[&str]| keyward_in(dir.path(), arguments);
    let new = ["keys", "create", "--name", "x", "--scope", "orders:read", "-o", "json"];
    let made: Value = serde_json::from_slice(&here(&new).stdout).unwrap();
    let id = made["id"].as_str().unwrap();
    assert!(here(&["keys", "revoke", id, "--yes"]).status.success());
    let output = here(&["keys", "list", "--status", "revoked"]);
    assert_eq!(output.status.code(), Some(2));
    let text = said(&output);
    assert!(text.contains("keyward events tail -n 1000 | grep api_key.revoked"), "{text}");
    let events = said(&here(&["events", "tail", "-n", "1000"]));
    let found = events.lines().find(|it| it.contains("api_key.revoked"));
    assert!(found.is_some_and(|it| it.contains(id)), "{events}");
    drop(server);
}

/// Runs keyward as another user; `None` if this test may not change the user.
fn as_another_user(arguments: &[&str]) -> Option<Output> {
    let mut command = keyward();
    command.uid(12_345).gid(12_345).args(arguments).current_dir("/");
    command.output().ok()
}

#[test]
fn a_user_without_permission_is_told_which_user_to_use() {
    let dir = tempfile::tempdir().unwrap();
    let (data, file) = (dir.path().join("data"), dir.path().join("etc/keyward.toml"));
    assert!(Binary::serve(&data).terminate().status.success());
    fs::create_dir(dir.path().join("etc")).unwrap();
    fs::write(&file, format!("data_dir = \"{}\"\n", data.display())).unwrap();
    let open = |path: &Path, mode| fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    open(dir.path(), 0o755);
    // The package installs them so: root owns the directory, and only the group may read it.
    let (user, group) = (1, 1);
    let given = chown(&data, Some(user), None)
        .and_then(|()| chown(dir.path().join("etc"), None, Some(group)))
        .is_ok();
    open(&dir.path().join("etc"), 0o750);
    if !given || as_another_user(&["--version"]).is_none() {
        return skip(
            "giving files away needs root, and another user must be able to run the binary",
        );
    }
    let name = Command::new("id").args(["-un", "1"]).output().unwrap();
    let name = String::from_utf8(name.stdout).unwrap();
    let name = name.trim();
    let (file, data) = (file.to_str().unwrap(), data.to_str().unwrap());
    for arguments in [
        &["keys", "list", "--config", file][..],
        &["health", "--config", file],
        &["doctor", "--config", file],
        &["config", "check", "--config", file],
        &["config", "print", "--config", file],
        &["serve", "--config", file],
        &["keys", "list", "--data-dir", data],
        &["health", "--data-dir", data],
        &["run-job", "purge", "--data-dir", data],
        &["root-key", "reset", "--data-dir", data],
    ] {
        let output = as_another_user(arguments).unwrap();
        let text = said(&output);
        assert_eq!(output.status.code(), Some(78), "{arguments:?}: {text}");
        let command = text.lines().last().unwrap().trim();
        assert!(command.starts_with(&format!("sudo -u {name} ")), "{arguments:?}: {text}");
        assert!(command.ends_with(&arguments.join(" ")), "{arguments:?}: {text}");
    }
    let (_, text) = run(&["keys", "list", "--data-dir", data], &[]);
    assert!(text.contains(&format!("belongs to the user {name}")), "{text}");
}

#[test]
fn the_printed_address_opens_a_page() {
    let server = TestServer::start();
    for method in ["GET", "HEAD"] {
        let answer = Request::new(method, "/").send(server.address).expect(307);
        assert_eq!(answer.header("location"), Some("/console/"));
    }
    let without_console = TestServer::with(|config| config.console = false);
    let answer = Request::new("GET", "/").send(without_console.address).expect(307);
    assert_eq!(answer.header("location"), Some("/docs/"));
    let plain = TestServer::with(|config| (config.console, config.docs) = (false, false));
    let answer = Request::new("GET", "/").send(plain.address).expect(404);
    assert_eq!(answer.problem(), "not_found");
    assert!(answer.text().contains("/openapi.json"), "{}", answer.text());
    for (server, path) in [(&server, "/"), (&server, "/docs"), (&plain, "/")] {
        let answer = Request::new("POST", path).send(server.address).expect(405);
        assert_eq!(answer.header("allow"), Some("GET, HEAD"), "{path}");
        assert_eq!(answer.problem(), "method_not_allowed");
    }
}

#[test]
fn every_text_ends_with_a_newline_and_has_the_announced_length() {
    let server = TestServer::start();
    let (root, id) = (&server.root.text, &server.root.id);
    let document = server.send(&Request::new("GET", "/openapi.json")).expect(200).json();
    let body = json!({ "key": root });
    let mut requests = vec![
        Request::new("GET", "/healthz"),
        Request::new("GET", "/readyz?verbose"),
        Request::new("GET", "/nothing"),
        Request::new("POST", "/livez"),
        Request::new("GET", "/api/v1/scopes").key("absent"),
        Request::new("POST", "/api/v1/api-keys/verify").key(root).json(&body),
        Request::new("POST", "/api/v1/api-keys/verify").key("absent").json(&body),
        Request::new("POST", "/api/v1/api-keys/verify").key(root).body("{"),
        Request::new("POST", "/api/v1/api-keys").key(root).json(&json!({})),
        Request::new("POST", "/api/v1/accounts").key(root).json(&json!({ "name": "x" })),
        Request::new("POST", &format!("/api/v1/api-keys/{id}/rotate")).key(root).json(&json!({})),
    ];
    for path in document["paths"].as_object().unwrap().keys() {
        let key_path = path.contains("/api-keys/{id}");
        let path = path.replace("{id}", if key_path { id } else { "self" }).replace("{seq}", "1");
        if !path.ends_with("/stream") {
            requests.push(Request::new("GET", &path).key(root));
        }
    }
    assert!(25 < requests.len());
    for request in requests {
        let answer = server.send(&request);
        let text = answer.text();
        assert!(text.ends_with('\n'), "{text:?}");
        let length = answer.header("content-length").map(|it| it.parse().unwrap());
        assert_eq!(length, Some(text.len()), "{text}");
    }
    let length = |method| {
        let answer = Request::new(method, "/api/v1/api-keys").key(root).send(server.address);
        answer.expect(200).header("content-length").map(str::to_owned)
    };
    assert_eq!(length("HEAD"), length("GET"));
}

#[test]
fn the_scope_that_the_readme_adds_can_be_given_to_a_key() {
    let readme = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
    let (_, section) = readme.split_once("## Scopes").unwrap();
    let (_, block) = section.split_once("```toml\n").unwrap();
    let (block, _) = block.split_once("```").unwrap();
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("keyward.toml"), block).unwrap();
    let here = |arguments: &[&str]| {
        let output = keyward().args(arguments).current_dir(dir.path()).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", said(&output));
        said(&output)
    };
    here(&["config", "check"]);
    let data = dir.path().join("keyward-data");
    assert!(Binary::serve(&data).terminate().status.success());
    assert!(here(&["scopes"]).contains("refunds:write"));
    here(&["keys", "create", "--name", "x", "--scope", "refunds:write", "--scope", "orders:read"]);
}
