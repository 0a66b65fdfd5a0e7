//! Text and numbers from people: keyward changes none without a word, and shows every character.

use std::{fs, path::Path};

use keyward::{
    config::{Config, ConfigFile, Flags},
    domain::visible::hides_something,
};
use serde_json::{Value, json};

use crate::{
    cli_keys::Way,
    support::{Binary, Request, Response, TestServer, without_triggers},
};

const KEYS: &str = "/api/v1/api-keys";

fn post(server: &TestServer, path: &str, body: &str) -> Response {
    let request = Request::new("POST", path).header("Content-Type", "application/json").body(body);
    server.send(&request.key(&server.root.text))
}

#[test]
fn a_number_in_metadata_keeps_its_value_or_is_refused() {
    let server = TestServer::start();
    for (path, rest) in
        [(KEYS, r#""scopes": ["orders:read"]"#), ("/api/v1/accounts", r#""maxKeys": 3e2"#)]
    {
        let body =
            |number: &str| format!(r#"{{"name": "n", {rest}, "metadata": {{"a": [{number}]}}}}"#);
        for kept in ["1546130668394913822", "18446744073709551615", "-1.5", "1e2", "-0", "0.1"] {
            let made = post(&server, path, &body(kept)).expect(201).json();
            let back = &made["metadata"]["a"][0];
            let same = format!("{back}") == kept || back.as_f64() == kept.parse::<f64>().ok();
            assert!(same, "{path}: {kept} became {back}");
        }
        for changed in ["12345678901234567890123", "18446744073709551616", "123456789012345678.123"]
        {
            let faults = post(&server, path, &body(changed)).faults();
            assert_eq!(faults, [("/metadata".to_owned(), "out_of_range".to_owned())], "{changed}");
        }
    }
}

#[test]
fn a_whole_number_may_be_written_with_a_zero_fraction() {
    let server = TestServer::start();
    let key = server.key(&["orders:read"]);
    let rotate = |grace: &str| {
        let body = format!(r#"{{"gracePeriodSeconds": {grace}}}"#);
        post(&server, &format!("{}/rotate", key.path()), &body)
    };
    for whole in ["0", "-0", "0.0", "3e1", "30.0"] {
        rotate(whole).expect(200);
    }
    for (other, code) in
        [("0.5", "invalid_type"), ("1e300", "invalid_type"), ("-1.0", "out_of_range")]
    {
        let faults = rotate(other).faults();
        assert_eq!(faults, [("/gracePeriodSeconds".to_owned(), code.to_owned())], "{other}");
    }
}

#[test]
fn a_name_has_visible_characters_and_no_hidden_ones() {
    let server = TestServer::start();
    let name = |path: &str, name: &str| {
        let mut body = json!({ "name": name });
        if path == KEYS {
            body["scopes"] = json!(["orders:read"]);
        }
        server.post(&server.root.text, path, &body)
    };
    for path in [KEYS, "/api/v1/accounts"] {
        for bad in [
            "\u{200b}",
            "Root key\u{200b}",
            "\u{200f}abc",
            "\u{61c}abc",
            "evil\u{e0041}",
            "\u{feff}a",
            "\u{2800}",
            "\u{301}",
            "\u{fe0f}",
            "a\u{200d}",
        ] {
            let faults = name(path, bad).faults();
            assert_eq!(faults, [("/name".to_owned(), "invalid_format".to_owned())], "{bad:?}");
        }
        for good in ["\u{1F468}\u{200D}\u{1F469}\u{200D}\u{1F467}", "\u{2764}\u{FE0F}", "J\u{f6}rg"]
        {
            assert_eq!(name(path, good).expect(201).json()["name"], good);
        }
    }
}

#[test]
fn a_name_stored_before_these_rules_can_still_be_read() {
    let mut server = TestServer::start();
    let key = server.key(&["orders:read"]);
    server.stop();
    let conn = rusqlite::Connection::open(server.database()).unwrap();
    without_triggers(&conn, || {
        let sql = "UPDATE api_keys SET name = ?1 WHERE id = ?2";
        conn.execute(sql, ["a\u{200b}", &key.id]).unwrap();
    });
    drop(conn);
    server.restart(|_| ());
    let shown: Value = server.get(&server.root.text, &key.path()).expect(200).json();
    assert_eq!(shown["name"], "a\u{200b}");
    assert_eq!(server.code(&key.text), "VALID");
}

#[test]
fn a_search_finds_names_that_look_the_same() {
    let server = TestServer::start();
    let scopes = json!(["orders:read"]);
    for name in ["Jo\u{308}rg", "STRA\u{1E9E}E", "\u{39F}\u{394}\u{39F}\u{3A3}"] {
        server.create(&server.root.text, &json!({ "name": name, "scopes": scopes }));
    }
    for (asked, found) in [
        ("j%C3%B6rg", "Jo\u{308}rg"),
        ("jo%CC%88rg", "Jo\u{308}rg"),
        ("strasse", "STRA\u{1E9E}E"),
        ("%CE%BF%CE%B4%CE%BF%CF%83", "\u{39F}\u{394}\u{39F}\u{3A3}"),
    ] {
        let list = server.get(&server.root.text, &format!("{KEYS}?q={asked}")).expect(200).json();
        let names: Vec<_> = list["data"].as_array().unwrap().iter().map(|it| &it["name"]).collect();
        assert_eq!(names, [found], "{asked}");
    }
}

#[test]
fn both_spellings_of_the_charset_are_accepted() {
    let server = TestServer::start();
    let ask = |charset: &str| {
        let request = Request::new("POST", "/api/v1/accounts").body(r#"{"name": "x"}"#);
        let request =
            request.header("Content-Type", &format!("application/json; charset={charset}"));
        server.send(&request.key(&server.root.text))
    };
    for good in ["utf-8", "UTF8", "\"utf8\""] {
        ask(good).expect(201);
    }
    let refused = ask("latin1").expect(415);
    assert!(refused.text().contains("in UTF-8"), "{}", refused.text());
}

#[test]
fn an_external_id_in_the_form_of_our_ids_is_stored_unchanged() {
    let server = TestServer::start();
    let ask = |id: &str| {
        let request = Request::new("GET", "/livez").header("X-Request-Id", id);
        server.send(&request).header("x-request-id").unwrap().to_owned()
    };
    let ours = ask("_");
    assert_eq!(ask(&ours), ours);
    for other in ["req_", "req_5F3A9C0100000000002A", "req_5f3a9c0100000000002a0", "a_b"] {
        assert_ne!(ask(other), other);
    }
}

/// A name that an earlier keyward accepted, or that another program wrote into the file.
const STEERING: &str = "a\u{9b}31m\u{202e}b\u{1b}[2Jc\u{2066}\n\u{e0041}";

#[test]
fn no_command_lets_a_stored_text_control_the_terminal() {
    let dir = tempfile::tempdir().unwrap();
    let server = Binary::serve(dir.path());
    let root = server.root_key();
    let ask = |path: &str, body: &Value| {
        let request = Request::new("POST", path).key(&root).json(body);
        request.send(server.address).expect(201).json()
    };
    let made = ask(
        KEYS,
        &json!({ "name": "k", "scopes": ["orders:read"], "metadata": { STEERING: STEERING } }),
    );
    let account = json!({ "name": "k", "externalId": "ext", "metadata": { "x": STEERING } });
    let account = ask("/api/v1/accounts", &account);
    assert!(server.terminate().status.success());
    let database = rusqlite::Connection::open(dir.path().join("keyward.db")).unwrap();
    without_triggers(&database, || {
        for table in ["api_keys", "accounts"] {
            let sql = format!("UPDATE {table} SET name = ?1 WHERE name = 'k'");
            assert_ne!(database.execute(&sql, [STEERING]).unwrap(), 0);
        }
    });
    drop(database);
    let rows = dir.path().join("rows.jsonl");
    let row = json!({ "name": "x", "scopes": [STEERING], "account": STEERING, "sha256": STEERING });
    fs::write(&rows, row.to_string()).unwrap();

    let (key, own) = (made["id"].as_str().unwrap(), account["id"].as_str().unwrap());
    let way = Way::Here(dir.path());
    for (arguments, shows) in [
        (&["keys", "list"][..], true),
        (&["keys", "show", key], true),
        (&["keys", "show", STEERING], true),
        (&["keys", "revoke", key], true),
        (&["keys", "unused", "--all"], false),
        (&["keys", "unused", "--scopes", "--all"], true),
        (&["keys", "addresses", STEERING], true),
        (&["accounts", "list"], true),
        (&["accounts", "show", own], true),
        (&["accounts", "show", STEERING], false),
        (&["keys", "list", "--status", STEERING], true),
        (&["run-job", STEERING], true),
        (&[STEERING], true),
        (&["accounts", "suspend", own], true),
        (&["accounts", "delete", own], true),
        (&["verify", "-"], true),
        (&["scopes"], false),
        (&["events", "tail", "-n", "100"], true),
        (&["import", rows.to_str().unwrap()], false),
        (&["doctor"], false),
    ] {
        // The other commands read no input, and may have ended before it is written.
        let input = if arguments[0] == "verify" { made["key"].as_str().unwrap() } else { "" };
        let output = way.try_run(arguments, input);
        let said = [&output.stdout[..], &output.stderr].map(String::from_utf8_lossy).concat();
        let steers = |line: &&str| hides_something(line);
        assert_eq!(said.lines().find(steers), None, "{arguments:?}: {said:?}");
        assert!(!shows || said.contains("\\u{9b}31m"), "{arguments:?} shows it: {said}");
    }
}

#[test]
fn a_number_that_would_change_is_refused_on_the_command_line_and_in_files() {
    let dir = tempfile::tempdir().unwrap();
    let server = Binary::serve(dir.path());
    let way = Way::Here(dir.path());
    let (exact, changed) = (r#"{"a":1546130668394913822}"#, r#"{"a":12345678901234567890123}"#);
    let create = ["keys", "create", "--name", "x", "--scope", "orders:read", "--metadata"];
    assert_eq!(way.json(&[&create[..], &[exact]].concat())["metadata"].to_string(), exact);
    let said = way.refused(&[&create[..], &[changed]].concat(), 2);
    assert!(said.contains("would not be kept exactly"), "{said}");

    let digest = |last: char| format!("{}{last}", "0123456789abcdef".repeat(4)[1..].to_owned());
    let json_lines = |metadata: &str, last| {
        let digest = digest(last);
        format!(
            r#"{{"name":"x","scopes":["orders:read"],"sha256":"{digest}","metadata":{metadata}}}"#
        )
    };
    let csv = |metadata: &str, last| {
        let (quoted, digest) = (metadata.replace('"', "\"\""), digest(last));
        format!("name,scopes,sha256,metadata\nx,orders:read,{digest},\"{quoted}\"\n")
    };
    for (name, good, bad) in [
        ("a.jsonl", json_lines(exact, '0'), json_lines(changed, '1')),
        ("b.csv", csv(exact, '2'), csv(changed, '3')),
    ] {
        let file = dir.path().join(name);
        let run = |text: &str| {
            fs::write(&file, text).unwrap();
            let output = way.try_run(&["import", file.to_str().unwrap(), "-o", "json"], "");
            let report: Value = serde_json::from_slice(&output.stdout).unwrap();
            (output.status.code(), report)
        };
        assert_eq!(run(&good).0, Some(0), "{name}");
        let (code, report) = run(&bad);
        assert_eq!(
            (code, &report["refusals"][0]["code"]),
            (Some(3), &json!("out_of_range")),
            "{report}"
        );
    }
    assert!(server.terminate().status.success());
}

/// Returns whether a configuration may have scopes with these descriptions.
fn may_be_described(descriptions: &[String]) -> bool {
    let scope = |(i, it): (usize, &String)| {
        let it = it.replace('\\', "\\\\").replace('"', "\\\"");
        format!("[[scopes]]\nname = \"s{i}:x\"\ndescription = \"{it}\"\n")
    };
    let text: String = descriptions.iter().enumerate().map(scope).collect();
    let file = ConfigFile { path: Path::new("keyward.toml"), text: &text };
    Config::assemble(&Flags::default(), Some(file), &[]).is_ok()
}

#[test]
fn the_configuration_and_the_domain_agree_on_which_characters_hide() {
    let inside = |c: char| format!("a{c}b");
    let (hidden, shown): (Vec<char>, Vec<char>) =
        ('\0'..=char::MAX).partition(|it| hides_something(&inside(*it)));
    for c in hidden {
        assert!(!may_be_described(&[inside(c)]), "{c:?} hides something");
    }
    for many in shown.chunks(60 * 100) {
        let text = |some: &[char]| some.iter().map(|it| inside(*it)).collect::<String>();
        let descriptions: Vec<_> = many.chunks(60).map(text).collect();
        assert!(may_be_described(&descriptions), "{:?} to {:?}", many.first(), many.last());
    }
}
