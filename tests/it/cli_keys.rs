//! Keys and accounts on the command line: beside a server, without one, and over the network.

use std::{
    io::Write,
    path::Path,
    process::{Output, Stdio},
};

use serde_json::{Value, json};

use crate::support::{Binary, Process, Request, keyward, without_triggers};

/// How a command reaches keyward.
#[derive(Clone, Copy)]
pub enum Way<'a> {
    Here(&'a Path),
    Network { server: &'a Binary, key: &'a str },
}

impl Way<'_> {
    pub fn try_run(self, arguments: &[&str], input: impl AsRef<[u8]>) -> Output {
        let mut command = keyward();
        command.args(arguments);
        match self {
            Self::Here(data) => command.arg("--data-dir").arg(data),
            Self::Network { server, key } => command
                .env("KEYWARD_URL", format!("http://{}", server.address))
                .env("KEYWARD_KEY", key),
        };
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = Process::start(&mut command);
        child.stdin.take().unwrap().write_all(input.as_ref()).unwrap();
        child.wait_with_output()
    }

    #[track_caller]
    pub fn run(self, arguments: &[&str]) -> String {
        let output = self.try_run(arguments, "");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {said}");
        String::from_utf8(output.stdout).unwrap()
    }

    #[track_caller]
    pub fn json(self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.run(&[arguments, &["-o", "json"]].concat())).unwrap()
    }

    #[track_caller]
    pub fn refused(self, arguments: &[&str], code: i32) -> String {
        let output = self.try_run(arguments, "");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
        assert!(output.stdout.is_empty(), "errors go to standard error");
        said
    }

    fn verify(self, key: &str, scope: &str) -> (i32, Value) {
        let output = self.try_run(&["verify", "-", "--scope", scope, "-o", "json"], key);
        (output.status.code().unwrap(), serde_json::from_slice(&output.stdout).unwrap())
    }
}

/// Does everything that an operator does for a customer.
fn live(way: Way<'_>) {
    let made = way.json(&["accounts", "create", "--name", "Acme", "--external-id", "cust/1&x"]);
    let first = made["apiKey"]["key"].as_str().unwrap();
    assert_eq!(way.verify(first, "orders:read").0, 0);
    let key = create(way);
    let id = find(way, &key);
    let rotated = change_and_rotate(way, &id, &key);
    end(way, &id, rotated.trim());
    assert_eq!(way.verify(first, "orders:read").1["code"], "REVOKED");
    make_mistakes(way, &id);
    assert!(way.run(&["scopes"]).contains("api-keys:verify"));
}

fn create(way: Way<'_>) -> String {
    let key = way.run(&[
        "keys",
        "create",
        "--account",
        "cust/1&x",
        "--name",
        "ci",
        "--scope",
        "orders:read,orders:write",
        "--expires",
        "90d",
        "--metadata",
        r#"{"team":"billing"}"#,
        "-q",
    ]);
    let key = key.strip_suffix('\n').unwrap();
    assert_eq!(key.len(), 50, "the key and nothing else");
    key.to_owned()
}

/// Returns the id of the key.
fn find(way: Way<'_>, key: &str) -> String {
    let (code, found) = way.verify(key, "orders:read");
    assert_eq!((code, &found["code"]), (0, &"VALID".into()));
    assert_eq!(found["metadata"]["team"], "billing");
    let (code, found) = way.verify(key, "products:read");
    assert_eq!((code, &found["code"]), (3, &"INSUFFICIENT_SCOPES".into()));
    for nonsense in [&b"nonsense"[..], b"", b"rg_\xff\xfe", b"\xf0\x9f"] {
        let output = way.try_run(&["verify", "-", "-o", "json"], nonsense);
        let found: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!((output.status.code(), &found["code"]), (Some(3), &"MALFORMED".into()));
    }

    let id = found["keyId"].as_str().unwrap();
    let shown = way.run(&["keys", "show", id]);
    assert!(shown.contains("orders:read orders:write"), "{shown}");
    assert!(!shown.contains(&key[12..]), "{shown}");
    let listed = way.json(&["keys", "list", "--account", "cust/1&x", "--query", "ci"]);
    assert_eq!(listed["data"].as_array().map(Vec::len), Some(1));
    assert_eq!(listed["data"][0]["id"], id);
    let everywhere = way.run(&["keys", "list", "--all"]);
    assert!(everywhere.contains(id) && everywhere.contains("Root key"), "{everywhere}");
    assert!(!everywhere.contains('\x1b'), "no colour without a terminal");
    id.to_owned()
}

/// Returns the plaintext key after the rotation.
fn change_and_rotate(way: Way<'_>, id: &str, key: &str) -> String {
    let changed = way.json(&["keys", "update", id, "--expires", "never", "--disable"]);
    assert_eq!((&changed["expiresAt"], &changed["enabled"]), (&Value::Null, &false.into()));
    assert_eq!(way.verify(key, "orders:read").1["code"], "DISABLED");
    way.run(&["keys", "update", id, "--enable", "--scope", "orders:read"]);
    let rotated = way.run(&["keys", "rotate", id, "--grace", "1h", "-q"]);
    assert_eq!(
        [way.verify(key, "orders:read").0, way.verify(rotated.trim(), "orders:read").0],
        [0; 2]
    );
    way.run(&["keys", "rotate", id, "--complete"]);
    assert_eq!(way.verify(key, "orders:read").1["code"], "ROTATED");
    rotated
}

/// Suspends and resumes the account, revokes the key, deletes the account.
fn end(way: Way<'_>, id: &str, key: &str) {
    way.run(&["accounts", "suspend", "cust/1&x", "--yes"]);
    assert_eq!(way.verify(key, "orders:read").1["code"], "ACCOUNT_SUSPENDED");
    way.run(&["accounts", "resume", "cust/1&x"]);
    let said = way.refused(&["keys", "revoke", id], 2);
    assert!(said.contains("--yes"), "{said}");
    assert_eq!(way.verify(key, "orders:read").0, 0);
    way.run(&["keys", "revoke", id, "--yes"]);
    assert_eq!(way.verify(key, "orders:read").1["code"], "REVOKED");
    way.run(&["accounts", "delete", "cust/1&x", "-y"]);
}

fn make_mistakes(way: Way<'_>, id: &str) {
    let said = way.refused(&["keys", "create", "--name", "x", "--scope", "order:read"], 1);
    assert!(said.contains("orders:read"), "the nearest name: {said}");
    way.refused(&["keys", "show", id], 1);
    way.refused(&["accounts", "show", "absent"], 1);
    way.refused(&["keys", "update", id], 2);
    for never in ["soon", "9000y", "99999999999999y"] {
        let create =
            ["keys", "create", "--name", "x", "--scope", "orders:read", "--expires", never];
        way.refused(&create, 2);
    }
    for grace in ["1500ms", "1s 1ns", "x"] {
        way.refused(&["keys", "rotate", id, "--grace", grace], 2);
    }
}

#[test]
fn beside_a_server_a_command_uses_the_control_socket() {
    let dir = tempfile::tempdir().unwrap();
    let server = Binary::serve(dir.path());
    let root = server.root_key();
    live(Way::Here(dir.path()));
    let events = Request::new("GET", "/api/v1/events?actor=cli&type=api_key.rotated");
    let events = events.key(&root).send(server.address).expect(200).json();
    let event = &events["data"][0];
    assert_eq!(event["actor"]["type"], "cli", "{event}");
    assert!(event["requestId"].is_string(), "{event}");
}

#[test]
fn without_a_server_a_command_opens_the_database_and_leaves_it_complete() {
    let dir = tempfile::tempdir().unwrap();
    assert!(Binary::serve(dir.path()).terminate().status.success());
    live(Way::Here(dir.path()));
    assert!(!dir.path().join("control.sock").exists());
    let server = Binary::serve(dir.path());
    let events = Request::new("GET", "/api/v1/events?actor=cli&type=account.deleted");
    let events = events.key(&server.root_key()).send(server.address).expect(200).json();
    assert_eq!(events["data"].as_array().map(Vec::len), Some(1));
}

#[test]
fn over_the_network_a_command_needs_a_key_with_the_required_scopes() {
    let dir = tempfile::tempdir().unwrap();
    let server = Binary::serve(dir.path());
    let root = server.root_key();
    let way = Way::Network { server: &server, key: &root };
    live(way);

    let weak = way.run(&["keys", "create", "--name", "x", "--scope", "api-keys:read", "-q"]);
    let weak = Way::Network { server: &server, key: weak.trim() };
    assert!(weak.run(&["keys", "list"]).contains("Root key"));
    weak.refused(&["keys", "create", "--name", "x", "--scope", "orders:read"], 4);
    weak.refused(&["accounts", "list"], 4);
    Way::Network { server: &server, key: "nonsense" }.refused(&["keys", "list"], 4);

    let file = dir.path().join("key");
    std::fs::write(&file, format!("{root}\n")).unwrap();
    let url = format!("http://{}/", server.address);
    let run = |command: &mut std::process::Command| command.output().unwrap().status.code();
    let list = ["keys", "list", "--url", &url];
    assert_eq!(run(keyward().args(list).env("KEYWARD_KEY_FILE", &file)), Some(0));
    assert_eq!(run(keyward().args(list)), Some(4), "no key at all");
    let nowhere = ["keys", "list", "--url", "http://127.0.0.1:1"];
    assert_eq!(run(keyward().args(nowhere).env("KEYWARD_KEY", &root)), Some(1));
    let no_url = ["keys", "list", "--url", "localhost"];
    assert_eq!(run(keyward().args(no_url).env("KEYWARD_KEY", &root)), Some(2));
    let both = ["keys", "list", "--url", &url, "--data-dir", "x"];
    assert_eq!(run(keyward().args(both)), Some(2));
}

#[test]
fn a_key_is_never_an_argument() {
    let dir = tempfile::tempdir().unwrap();
    let server = Binary::serve(dir.path());
    let way = Way::Here(dir.path());
    let key = server.root_key();
    let secret = &key[12..];
    let said = way.refused(&["verify", &key], 2);
    assert!(said.contains("keyward verify -") && !said.contains(secret), "{said}");
    let said = way.refused(&["verify", "of-another-system"], 2);
    assert!(said.contains("keyward verify -") && !said.contains("another"), "{said}");
    for surplus in [["keys", "list"], ["verify", "-"]] {
        let said = way.refused(&[&surplus[..], &["sk_live_51HabcdefGHIJ"]].concat(), 2);
        assert!(!said.contains("sk_live"), "{said}");
    }
    for wrong in [
        &["keys", "create", &key][..],
        &["keys", "list", "--status", &key],
        &["keys", "update", "x", "--expires", &key],
        &["run-job", &key],
        &[&key],
    ] {
        let said = way.refused(wrong, 2);
        assert!(said.contains(&key[..12]) && !said.contains(secret), "{said}");
    }
}

#[test]
fn unused_keys_are_found() {
    let dir = tempfile::tempdir().unwrap();
    let server = Binary::serve(dir.path());
    let way = Way::Here(dir.path());
    way.run(&["keys", "create", "--name", "fresh", "--scope", "orders:read"]);
    let found = way.json(&["keys", "unused", "--days", "1", "--all"]);
    assert_eq!(found["data"].as_array().map(Vec::len), Some(0), "none is that old");
    assert!(server.terminate().status.success());
    let database = rusqlite::Connection::open(dir.path().join("keyward.db")).unwrap();
    // The key looks as if it was made two days ago.
    let sql =
        "UPDATE api_keys SET created_at_ms = created_at_ms - 2 * 86400000 WHERE name = 'fresh'";
    without_triggers(&database, || database.execute_batch(sql).unwrap());
    drop(database);
    let found = way.json(&["keys", "unused", "--days", "1", "--all"]);
    assert_eq!(found["data"][0]["name"], "fresh");
    assert_eq!(way.json(&["keys", "unused", "--all"])["data"].as_array().map(Vec::len), Some(0));
}

#[test]
fn unused_scopes_and_addresses_are_printed() {
    let dir = tempfile::tempdir().unwrap();
    let server = Binary::serve(dir.path());
    let (here, root) = (Way::Here(dir.path()), server.root_key());
    let scopes = "orders:read,orders:write";
    let key = here.run(&["keys", "create", "--name", "ci", "--scope", scopes, "-q"]);
    let (key, prefix) = (key.trim(), &key[..12]);
    let found = |way: Way<'_>| {
        let list = way.json(&["keys", "unused", "--scopes"]);
        let rows = list["data"].as_array().unwrap().iter().filter(|it| it["name"] == "ci");
        rows.map(|it| it["unusedScopes"].clone()).collect::<Vec<_>>()
    };
    let question = json!({ "key": key, "scopes": ["orders:read"], "clientIp": "2001:db8::1" });
    let verify = Request::new("POST", "/api/v1/api-keys/verify").key(&root).json(&question);
    for way in [here, Way::Network { server: &server, key: &root }] {
        verify.send(server.address).expect(200);
        assert_eq!(found(way), [json!(["orders:write"])]);
        let table = way.run(&["keys", "unused", "--scopes"]);
        let row = table.lines().find(|it| it.contains(prefix)).unwrap();
        assert!(table.contains("UNUSED SCOPES") && row.ends_with(" orders:write"), "{table}");
        let shown = way.run(&["keys", "show", prefix]);
        let row = shown.lines().find(|it| it.starts_with("unused scopes")).unwrap();
        assert!(row.ends_with(" orders:write") && !row.contains("orders:read"), "{shown}");
        let addresses = way.json(&["keys", "addresses", prefix]);
        assert_eq!(addresses["data"][0]["address"], "2001:db8::/64");
        let table = way.run(&["keys", "addresses", prefix]);
        assert!(table.contains("LAST USED") && table.contains("2001:db8::/64"), "{table}");
        way.refused(&["keys", "addresses", "rg_000000000"], 1);
        way.refused(&["keys", "unused", "--scopes", "--days", "7"], 2);
    }
    assert_eq!(here.verify(key, "orders:write").0, 0);
    assert!(found(here).is_empty());
    assert!(!here.run(&["keys", "show", prefix]).contains("unused scopes"));
}

#[test]
fn a_command_on_several_keys_revokes_those_that_it_can() {
    let dir = tempfile::tempdir().unwrap();
    let server = Binary::serve(dir.path());
    let root = server.root_key();
    let here = Way::Here(dir.path());
    let make = |scope| {
        let made = here.json(&["keys", "create", "--name", "x", "--scope", scope]);
        [&made["id"], &made["key"]].map(|it| it.as_str().unwrap().to_owned())
    };
    for way in [here, Way::Network { server: &server, key: &root }] {
        let [[a, first], [b, second]] = [make("orders:read"), make("orders:read")];
        let output = way.try_run(&["keys", "revoke", &a, "key_none", &b, "-y"], "");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("key_none") && !said.contains(&*a) && !said.contains(&*b), "{said}");
        for key in [first, second] {
            assert_eq!(way.verify(&key, "orders:read").1["code"], "REVOKED");
        }
    }
    // The caller must not revoke a key whose scopes it could not grant.
    let [strong, _] = make("orders:read");
    let [_, weak] = make("api-keys:read,api-keys:write");
    let [own, value] = make("api-keys:read");
    let weak = Way::Network { server: &server, key: &weak };
    let output = weak.try_run(&["keys", "revoke", &strong, &own, "-y"], "");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(4), "{said}");
    assert!(said.contains(&*strong) && !said.contains(&*own), "{said}");
    assert_eq!(here.verify(&value, "api-keys:read").1["code"], "REVOKED");
    assert_eq!(here.json(&["keys", "show", &strong])["status"], "active");
}

/// Finds keys and accounts, and tells how much they are used.
fn search(way: Way<'_>) {
    let account = way.json(&["accounts", "create", "--name", "Acme", "--external-id", "cust_1"]);
    let first = &account["apiKey"];
    let made =
        ["keys", "create", "--account", "cust_1", "--name", "leaked", "--scope", "orders:read"];
    let key = way.json(&made);
    let id = key["id"].as_str().unwrap();
    let newest = way.json(&["keys", "list", "--account", "all", "--order", "desc", "--limit", "2"]);
    let ids = [&newest["data"][0]["id"], &newest["data"][1]["id"]];
    assert_eq!(ids, [&key["id"], &first["id"]]);
    let by_id = way.json(&["keys", "list", "--all", "--query", id]);
    assert_eq!((&by_id["data"][0]["id"], &by_id["data"][1]), (&key["id"], &Value::Null));
    let first_id = first["id"].as_str().unwrap();
    let by_creator = way.json(&["keys", "list", "--all", "--created-by", first_id]);
    assert_eq!(by_creator["data"].as_array().map(Vec::len), Some(0));

    let text = key["key"].as_str().unwrap();
    let any = ["verify", "-", "--any-scope", "orders:write,orders:read"];
    assert_eq!(way.try_run(&any, text).status.code(), Some(0));
    let none = ["verify", "-", "--scope", "orders:read", "--any-scope", "orders:write"];
    assert_eq!(way.try_run(&none, text).status.code(), Some(3));
    for of in [&["usage", "--account", "cust_1"][..], &["usage", id]] {
        let used = way.json(&[of, &["--days", "1"]].concat());
        let denied = &used["data"][0]["denied"]["insufficientScopes"];
        assert_eq!((&used["data"][0]["allowed"], denied), (&1.into(), &1.into()), "{of:?}");
        assert!(way.run(of).starts_with("DATE"), "{of:?}");
    }
    way.refused(&["usage", "--account", "cust_2"], 1);
    way.refused(&["usage", "--days", "367"], 2);

    let suspended = ["accounts", "list", "--status", "suspended", "--query", "acme"];
    assert_eq!(way.json(&suspended)["data"].as_array().map(Vec::len), Some(0));
    way.run(&["accounts", "suspend", "cust_1", "--yes"]);
    assert_eq!(way.json(&suspended)["data"][0]["id"], account["id"]);
    way.run(&["keys", "revoke", id, "--yes", "--reason", "in a log & a ticket"]);
    way.run(&["accounts", "delete", "cust_1", "--yes", "--reason", "unpaid"]);
}

#[test]
fn keys_accounts_and_their_use_are_found_and_reasons_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let server = Binary::serve(dir.path());
    let root = server.root_key();
    for way in [Way::Here(dir.path()), Way::Network { server: &server, key: &root }] {
        search(way);
    }
    for (event_type, reason) in
        [("api_key.revoked", "in a log & a ticket"), ("account.deleted", "unpaid")]
    {
        let events = Request::new("GET", &format!("/api/v1/events?type={event_type}"));
        let events = events.key(&root).send(server.address).expect(200).json();
        let data = events["data"].as_array().unwrap();
        let told = data.iter().filter(|it| it["data"]["reasonText"] == reason).count();
        assert_eq!(told, 2, "{events}");
    }
}
