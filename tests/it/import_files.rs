//! Which files of keys can be imported, and how faulty rows are reported.

use std::fs;

use serde_json::{Value, json};

use crate::support::{
    Binary, Logged, Request,
    import::{OLD, code, import, place, rows, sha256, verify},
    keyward_in,
};

#[test]
fn a_csv_file_can_be_imported_and_a_dry_run_changes_nothing() {
    let (_dir, data) = place();
    let server = Binary::serve(&data);
    let root = server.root_key();
    let made = keyward_in(&data, &["accounts", "create", "--name", "A", "--external-id", "cust_1"]);
    assert!(made.status.success());
    let table = format!(
        "name,scopes,sha256,expiresAt,metadata,account,enabled\n\
         \"One, and only\",orders:read products:read,{},2099-01-01T00:00:00Z,\"{{\"\"a\"\":1}}\",,\n\
         Two,orders:read,{},,,cust_1,false\n",
        sha256(OLD),
        sha256(&format!("{OLD}2")),
    );
    let count = || {
        let events = Request::new("GET", "/api/v1/events").key(&root);
        let events = events.send(server.address).expect(200).json();
        events["data"].as_array().unwrap().len()
    };
    let before = count();
    let (exit, report) = import(&data, "keys.csv", &table, &["--dry-run"]);
    assert_eq!((exit, &report["accepted"], &report["dryRun"]), (0, &json!(2), &json!(true)));
    assert_eq!(count(), before);
    assert_eq!(code(&server, &root, OLD), "MALFORMED");
    let (exit, report) = import(&data, "keys.csv", &table, &[]);
    assert_eq!(exit, 0, "{report}");
    let found = verify(&server, &root, OLD);
    assert_eq!(found["name"], "One, and only");
    assert_eq!(found["scopes"], json!(["orders:read", "products:read"]));
    assert_eq!(found["metadata"], json!({ "a": 1 }));
    assert_eq!(found["expiresAt"], "2099-01-01T00:00:00.000Z");
    let second = verify(&server, &root, &format!("{OLD}2"));
    assert_eq!((&second["code"], &second["externalId"]), (&json!("DISABLED"), &json!("cust_1")));
}

fn row(more: Value) -> Value {
    let mut row = json!({ "name": "x", "scopes": ["orders:read"] });
    if let Value::Object(more) = more {
        row.as_object_mut().unwrap().extend(more);
    }
    row
}

/// A row, and the field and code of its fault.
type Case = (Value, Option<(&'static str, &'static str)>);

fn good_and_bad_rows() -> Vec<Case> {
    let own = "rg_8fK2mQ9zTabcdefghijklmnopqrstuvwxyz0123453bAXzK";
    vec![
        (row(json!({ "key": format!("{OLD}-good") })), None),
        (row(json!({ "key": "too short" })), Some(("key", "invalid_format"))),
        (row(json!({ "key": own })), Some(("key", "invalid_format"))),
        (row(json!({ "sha256": "00ff" })), Some(("sha256", "invalid_format"))),
        (row(json!({ "sha512": sha256(OLD) })), Some(("sha512", "invalid_format"))),
        (row(json!({})), Some(("key", "invalid_combination"))),
        (row(json!({ "key": OLD, "sha256": sha256(OLD) })), Some(("key", "invalid_combination"))),
        (row(json!({ "key": format!("{OLD}-good") })), Some(("key", "duplicate"))),
        (
            row(json!({ "key": format!("{OLD}1"), "scopes": ["order:read"] })),
            Some(("scopes/0", "unknown_scope")),
        ),
        (
            row(json!({ "key": format!("{OLD}2"), "expiresAt": "2001-01-01T00:00:00Z" })),
            Some(("expiresAt", "in_the_past")),
        ),
        (
            row(json!({ "key": format!("{OLD}3"), "account": "absent" })),
            Some(("account", "not_found")),
        ),
        (
            row(json!({ "key": format!("{OLD}4"), "colour": "red" })),
            Some(("colour", "unknown_field")),
        ),
        (row(json!({ "key": format!("{OLD}5"), "name": "" })), Some(("name", "out_of_range"))),
        (
            row(json!({ "key": format!("{OLD}8"), "name": format!("is {OLD}8") })),
            Some(("name", "contains_api_key")),
        ),
        (
            row(json!({ "key": format!("{OLD}9"), "metadata": { "old": format!("{OLD}9") } })),
            Some(("metadata", "contains_api_key")),
        ),
    ]
}

#[test]
fn a_refused_row_is_reported_by_line_and_the_import_continues() {
    let (_dir, data) = place();
    let server = Logged::serve(&data, &[]);
    let root = server.binary.root_key();
    let cases = good_and_bad_rows();
    let made = ["accounts", "create", "--name", "A", "--external-id", "small", "--max-keys", "1"];
    let made = keyward_in(&data, &[&made[..], &["--allow", "orders:read"]].concat());
    assert!(made.status.success());
    let mut text = rows(&cases.iter().map(|(row, _)| row.clone()).collect::<Vec<_>>());
    text.push_str("not JSON\n\n");
    text += &row(json!({ "key": format!("{OLD}6"), "account": "small" })).to_string();
    text.push('\n');
    let mut wide = row(json!({ "key": format!("{OLD}7"), "account": "small" }));
    wide["scopes"] = json!(["*"]);
    text += &wide.to_string();
    let (exit, report) = import(&data, "keys.jsonl", &text, &[]);
    assert_eq!((exit, &report["accepted"]), (3, &json!(1)), "{report}");
    let refusals = report["refusals"].as_array().unwrap();
    let of = |line: usize| {
        let found = refusals.iter().filter(|it| it["line"] == line);
        found.map(|it| (it["field"].as_str().unwrap(), it["code"].as_str().unwrap())).collect()
    };
    for (place, (row, expected)) in cases.iter().enumerate() {
        let found: Vec<_> = of(place + 1);
        assert_eq!(found, expected.iter().copied().collect::<Vec<_>>(), "{row}");
    }
    let last = cases.len();
    assert_eq!(of(last + 1), vec![("", "invalid_json")]);
    assert_eq!(of(last + 3), vec![("account", "too_many_keys")]);
    assert_eq!(of(last + 4), vec![("scopes", "scope_escalation")]);
    let found = verify(&server.binary, &root, &format!("{OLD}-good"));
    assert_eq!(found["code"], "VALID");
    let short = refusals.iter().find(|it| it["line"] == 2).unwrap();
    assert!(short["detail"].as_str().unwrap().contains("fewer than 20 characters"), "{short}");
    let everything = format!("{report}{}{found}", server.said());
    assert!(!everything.contains("too short"), "no short text is repeated");
    assert!(!everything.contains("HabcdefGHIJKL"), "no key is repeated");
    assert!(!everything.contains(&sha256(OLD)[..20]), "and no digest");
}

#[test]
fn a_broken_csv_file_is_reported_and_standard_input_can_be_imported() {
    let (_dir, data) = place();
    assert!(Binary::serve(&data).terminate().status.success());
    let table = format!("name,scopes,key\nOne,orders:read,{OLD}\nTwo,orders:read\n");
    let (exit, report) = import(&data, "keys.csv", &table, &["--account", "absent"]);
    assert_eq!(exit, 3);
    let codes: Vec<_> = report["refusals"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| (&it["line"], &it["code"]))
        .collect();
    assert_eq!(codes, [(&json!(2), &json!("not_found")), (&json!(3), &json!("invalid_csv"))]);
    let missing = keyward_in(&data, &["import", "/nowhere.jsonl"]);
    assert_eq!(missing.status.code(), Some(1));
    let nothing = keyward_in(&data, &["import", "-"]);
    assert_eq!(String::from_utf8_lossy(&nothing.stdout), "0 imported, 0 refused\n");
}

#[test]
fn a_dry_run_counts_as_the_import_does_over_several_batches() {
    let (_dir, data) = place();
    let server = Binary::serve(&data);
    let made = ["accounts", "create", "--name", "A", "--external-id", "small", "--max-keys", "120"];
    assert!(keyward_in(&data, &made).status.success());
    let all: Vec<_> = (0..150)
        .map(|n| {
            json!({ "name": "x", "scopes": ["orders:read"], "account": "small",
            "sha256": sha256(&format!("{OLD}{n}")) })
        })
        .collect();
    let (_, rehearsed) = import(&data, "keys.jsonl", &rows(&all), &["--dry-run"]);
    let (exit, mut done) = import(&data, "keys.jsonl", &rows(&all), &[]);
    assert_eq!((exit, &done["accepted"], &done["refused"]), (3, &json!(119), &json!(31)));
    let keys = done.as_object_mut().unwrap().remove("keys").unwrap();
    assert_eq!(keys[118]["line"], 119);
    let root = server.root_key();
    let found = verify(&server, &root, &format!("{OLD}118"));
    assert_eq!(keys[118]["keyId"], found["keyId"]);
    done["dryRun"] = json!(true);
    assert_eq!(done, rehearsed);
}

#[test]
fn the_output_of_common_programs_is_read_and_dangerous_rows_are_refused() {
    let (_dir, data) = place();
    let server = Binary::serve(&data);
    let root = server.root_key();
    let short = "short-one";
    let marked = format!(
        "\u{feff}{}\r\n",
        json!({ "name": "x", "scopes": ["orders:read"], "sha256": sha256(short) })
    );
    let (exit, report) = import(&data, "marked.jsonl", &marked, &[]);
    assert_eq!(exit, 0, "{report}");
    assert_eq!(code(&server, &root, short), "VALID", "a short key is accepted too");
    let twice = format!("{{\"name\":\"a\",\"name\":\"b\",\"sha256\":\"{}\"}}\n", sha256(OLD));
    let way_in = json!({ "name": "x", "scopes": ["*"], "sha256": sha256(OLD) });
    let (exit, report) = import(&data, "bad.jsonl", &format!("{twice}{way_in}"), &[]);
    let codes: Vec<_> =
        report["refusals"].as_array().unwrap().iter().map(|it| it["code"].clone()).collect();
    assert_eq!((exit, codes), (3, vec![json!("invalid_json"), json!("scope_escalation")]));
    for names in ["name,scopes,digest", "name,scopes,sha256,name", "Name,scopes,key"] {
        let path = data.with_file_name("keys.csv");
        fs::write(&path, format!("{names}\n")).unwrap();
        let output = keyward_in(&data, &["import", path.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(2), "{names}");
    }
}
