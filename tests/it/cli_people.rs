//! The command line as people use it: short names, short lists, clear errors.

use std::process::Stdio;

use serde_json::Value;

use crate::{
    cli_keys::Way,
    support::{Binary, keyward},
};

#[test]
fn a_prefix_stands_for_its_key_in_every_command() {
    let dir = tempfile::tempdir().unwrap();
    let server = Binary::serve(dir.path());
    let root = server.root_key();
    let here = Way::Here(dir.path());
    here.run(&["accounts", "create", "--name", "Acme", "--external-id", "acme"]);
    for way in [here, Way::Network { server: &server, key: &root }] {
        let create =
            ["keys", "create", "--account", "acme", "--name", "x", "--scope", "orders:read"];
        let made = way.json(&create);
        let old = made["keyPrefix"].as_str().unwrap();
        assert_eq!(way.json(&["keys", "show", old])["id"], made["id"]);
        assert_eq!(way.json(&["keys", "update", old, "--name", "y"])["name"], "y");
        let rotated = way.json(&["keys", "rotate", old, "--grace", "1h"]);
        assert_eq!(rotated["id"], made["id"]);
        let new = rotated["keyPrefix"].as_str().unwrap();
        assert_eq!(way.json(&["keys", "show", old])["id"], made["id"], "in its grace period");
        way.run(&["keys", "rotate", new, "--complete"]);
        way.refused(&["keys", "show", old], 1);
        way.run(&["keys", "revoke", new, "--yes"]);
        way.refused(&["keys", "show", new], 1);
    }
    // A prefix gives access to no more than the id does.
    let create = ["keys", "create", "--name", "z", "--scope", "orders:read"];
    let other = here.json(&create)["keyPrefix"].as_str().unwrap().to_owned();
    let weak = here.json(&["accounts", "create", "--name", "B"]);
    let weak = weak["apiKey"]["key"].as_str().unwrap();
    Way::Network { server: &server, key: weak }.refused(&["keys", "show", &other], 1);
}

/// A surplus argument may be a key of any shape. A path is none, and the message must name what is wrong.
#[test]
fn a_surplus_argument_is_shown_if_it_is_a_path() {
    let dir = tempfile::tempdir().unwrap();
    let way = Way::Here(dir.path());
    let path = dir.path().join("backup.db");
    let said = way.refused(&["backup", "create", path.to_str().unwrap()], 2);
    let expected = format!("unexpected argument '{}' found", path.display());
    assert!(said.contains(&expected) && said.contains("write '--to FILE'"), "{said}");
    for no_path in ["/51Habcdefghijklmnop", "51Habcdefg/hijklmnopqrs", "nowhere/51Habcdefgh"] {
        let said = way.refused(&["keys", "list", no_path], 2);
        assert!(said.contains("unexpected argument '…' found"), "{said}");
    }
}

#[test]
fn an_unknown_object_is_reported_with_the_way_to_find_it() {
    let dir = tempfile::tempdir().unwrap();
    let server = Binary::serve(dir.path());
    let root = server.root_key();
    for way in [Way::Here(dir.path()), Way::Network { server: &server, key: &root }] {
        for arguments in [
            &["keys", "show", "gateway"][..],
            &["keys", "show", "key_x"],
            &["keys", "update", "gateway", "--name", "x"],
            &["keys", "rotate", "rg_BJxeT6hot"],
            &["keys", "rotate", "gateway", "--complete"],
            &["keys", "revoke", "gateway", "--yes"],
        ] {
            let said = way.refused(arguments, 1);
            let expected = format!("there is no key {}; `keyward keys list` shows", arguments[2]);
            assert!(said.contains(&expected), "{said}");
        }
        let account = ["--account", "acct_none"];
        for (name, arguments) in [
            ("acct_none", &["accounts", "show", "acct_none"][..]),
            ("acme", &["accounts", "show", "acme"]),
            ("acct_none", &["accounts", "update", "acct_none", "--name", "x"]),
            ("acct_none", &["accounts", "suspend", "acct_none", "--yes"]),
            ("acct_none", &["accounts", "resume", "acct_none"]),
            ("acme", &["accounts", "delete", "acme", "--yes"]),
            ("acct_none", &[&["keys", "list"], &account[..]].concat()),
            ("acct_none", &[&["keys", "unused"], &account[..]].concat()),
            (
                "acct_none",
                &[&["keys", "create", "--name", "x", "--scope", "orders:read"], &account[..]]
                    .concat(),
            ),
        ] {
            let said = way.refused(arguments, 1);
            let expected = format!("there is no account {name}; `keyward accounts list` shows");
            assert!(said.contains(&expected), "{arguments:?}: {said}");
        }
    }
}

#[test]
fn a_list_has_no_more_lines_than_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let _server = Binary::serve(dir.path());
    let way = Way::Here(dir.path());
    for name in ["a", "b", "c"] {
        way.run(&["accounts", "create", "--name", name, "--external-id", name]);
    }
    let found = way.json(&["accounts", "list", "--query", "B"]);
    assert_eq!((&found["data"][0]["name"], &found["data"][1]), (&"b".into(), &Value::Null));
    for list in [&["keys", "list", "--all"][..], &["accounts", "list"]] {
        for (limit, expected) in [("1", 1), ("3", 3), ("4", 4), ("9", 4)] {
            let output = way.try_run(&[list, &["--limit", limit, "-o", "json"]].concat(), "");
            let found: Value = serde_json::from_slice(&output.stdout).unwrap();
            assert_eq!(found["data"].as_array().map(Vec::len), Some(expected), "{list:?} {limit}");
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(said.contains("there are more"), expected < 4, "{list:?} {limit}: {said}");
        }
        way.refused(&[list, &["--limit", "0"]].concat(), 2);
    }
}

#[test]
fn a_key_that_cannot_be_printed_is_a_failure_that_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let _server = Binary::serve(dir.path());
    let way = Way::Here(dir.path());
    let create = ["keys", "create", "--name", "x", "--scope", "orders:read"];
    let id = way.json(&create)["id"].as_str().unwrap().to_owned();
    let account = ["accounts", "create", "--name", "x"];
    for command in [&create[..], &["keys", "rotate", &id], &account] {
        for form in [&["-q"][..], &["-o", "json"], &[]] {
            let run = |out: Stdio| {
                let mut it = keyward();
                it.args(command).args(form).arg("--data-dir").arg(dir.path()).stdout(out);
                let output = it.stderr(Stdio::piped()).output().unwrap();
                (output.status.code(), String::from_utf8(output.stderr).unwrap())
            };
            let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
            let (_, deaf) = std::io::pipe().unwrap();
            for out in [deaf.into(), full.into()] {
                let (code, said) = run(out);
                assert_eq!(code, Some(1), "{command:?}: {said}");
                let next = said.lines().last().unwrap();
                assert!(next.contains("keys rotate key_") && next.contains("--data-dir"), "{said}");
                // The suggested command works.
                let id = next.split("rotate ").nth(1).unwrap().split(' ').next().unwrap();
                way.run(&["keys", "rotate", id, "--grace", "0s", "-q"]);
            }
            let (code, said) = run(Stdio::null());
            assert_eq!(code, Some(1), "{said}");
            assert!(said.contains("nothing was done"), "{said}");
        }
    }
}

#[test]
fn a_command_that_will_be_refused_asks_for_no_confirmation() {
    let dir = tempfile::tempdir().unwrap();
    let _server = Binary::serve(dir.path());
    let way = Way::Here(dir.path());
    let own = way.json(&["accounts", "show", "self"])["id"].as_str().unwrap().to_owned();
    for account in [&*own, "self"] {
        for verb in ["suspend", "delete"] {
            let said = way.refused(&["accounts", verb, account], 1);
            assert!(said.contains("the operator account cannot be"), "{said}");
        }
    }
    let said = way.refused(&["keys", "rotate", "self", "--grace", "8d"], 2);
    assert!(said.contains("from 0s to 7d"), "{said}");
}

#[test]
fn a_command_offers_only_options_that_it_uses() {
    let page = |arguments: &[&str]| keyward().args(arguments).output().unwrap();
    for command in [
        &["root-key", "reset"][..],
        &["run-job"],
        &["import"],
        &["apply"],
        &["backup", "create"],
        &["backup", "restore"],
        &["clock", "accept"],
        &["doctor"],
        &["events", "verify"],
        &["routes", "check"],
    ] {
        let help = page(&[command, &["--help"]].concat());
        let help = String::from_utf8(help.stdout).unwrap();
        assert!(help.contains("--data-dir") && !help.contains("--listen"), "{command:?}: {help}");
        let output = page(&[command, &["--log-level", "info"]].concat());
        assert_eq!(output.status.code(), Some(2), "{command:?}");
    }
}

#[test]
fn one_object_is_reported_in_the_singular() {
    let dir = tempfile::tempdir().unwrap();
    let _server = Binary::serve(dir.path());
    let way = Way::Here(dir.path());
    for command in [["doctor"].as_slice(), &["backup", "create"]] {
        let said = way.run(command);
        assert!(said.contains(" 1 account, 1 key"), "{said}");
    }
}

#[test]
fn help_and_manual_have_examples() {
    let dir = tempfile::tempdir().unwrap();
    let output = keyward().args(["man", "--out"]).arg(dir.path()).output().unwrap();
    assert!(output.status.success());
    for command in ["serve", "keys list", "keys create", "keys rotate", "accounts create", "verify"]
    {
        let words: Vec<_> = command.split(' ').collect();
        let help = |flag| {
            let output = keyward().args(&words).arg(flag).output().unwrap();
            String::from_utf8(output.stdout).unwrap()
        };
        let example = format!("  keyward {command}");
        assert!(help("--help").contains("Examples:") && help("--help").contains(&example));
        assert!(!help("-h").contains("Examples:"), "the short one stays short");
        let page = dir.path().join(format!("keyward-{}.1", command.replace(' ', "-")));
        let page = std::fs::read_to_string(page).unwrap();
        assert!(page.contains(".SH \"EXAMPLES\""), "{page}");
    }
}
