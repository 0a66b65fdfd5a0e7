//! Files that `keyward apply` refuses, and changes of others while it runs.

use std::{
    fs,
    sync::atomic::{AtomicBool, Ordering},
};

use serde_json::{Value, json};

use crate::support::{
    Binary, Request, TestServer,
    apply::{TEXTS, applied, apply, count, generated, nothing, small},
    import::sha256,
};

#[test]
fn every_mistake_is_told_with_its_line_and_nothing_is_applied() {
    let server = TestServer::start();
    let before = count(&server);
    let digest = sha256(TEXTS[0]);
    let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    let file = format!(
        "acounts = 1\n\
         [[keys]]\nnmae = \"a\"\nsha256 = \"{digest}\"\n\
         [[keys]]\nname = \"b\"\nsha256 = \"{digest}\"\nscopes = [\"orders:raed\"]\n\
         [[keys]]\nname = \"c\"\nkey = \"hunter2\"\nscopes = [\"*\"]\n\
         [[accounts]]\nexternal_id = \"cust_1\"\n\
         [[accounts]]\nexternal_id = \"cust_1\"\nname = \"again\"\nrate_limit = \"often\"\n\
         [[accounts]]\nname = 7\n\
         [[accounts]]\nexternal_id = \"cust_2\"\nname = \"two\"\nallowed_scopes = [\"orders:read\"]\n\
         [[accounts.keys]]\nname = \"d\"\nsha256 = \"{empty}\"\nscopes = [\"orders:read\"]\n\
         [[accounts.keys]]\nname = \"e\"\nsha256 = \"{}\"\nscopes = [\"orders:write\"]\nexpires_at = 2020-01-01T00:00:00Z\n\
         [[accounts.keys]]\nsha256 = \"{}\"\nexpires_at = 2020-01-01\n",
        sha256(TEXTS[1]),
        sha256(TEXTS[2]),
    );
    for arguments in [&[][..], &["--dry-run"], &["--prune"]] {
        let (code, said, errors) = apply(&server.data_dir(), &file, arguments);
        assert_eq!((code, &*said), (78, ""), "{errors}");
        for expected in [
            ":1: unknown `acounts`; did you mean `accounts`?",
            ":3: unknown `nmae`; did you mean `name`?",
            ":2: `name` is required, because there is no such key yet",
            ":7: `sha256` is the digest of a key that an earlier section has",
            ":8: `scopes`: there is no scope `orders:raed`; did you mean orders:read",
            ":11: unknown `key`: the file holds no text of a key, write its `sha256`",
            ":9: `key`: exactly one of",
            ":13: `name` is required, because there is no such account yet",
            ":16: `external_id` names an account that an earlier section has",
            ":18: `rate_limit` must be a number, a slash and a window",
            ":20: `name` must be a string, not `7`",
            ":19: `external_id` is required, because it identifies the account",
            ":27: `sha256` is the digest of a text that is publicly known",
            ":32: `scopes`: this account cannot have orders:write",
            ":36: `expires_at` must be a date with a time and an offset",
        ] {
            assert!(errors.contains(expected), "{expected}\n{errors}");
        }
        assert!(!errors.contains("hunter2"), "{errors}");
        assert_eq!(errors.matches(":20: ").count(), 1, "a fault is told once: {errors}");
        let lines: Vec<usize> = errors
            .lines()
            .filter_map(|it| it.split("apply.toml:").nth(1)?.split(':').next()?.parse().ok())
            .collect();
        assert!(lines.is_sorted() && 13 < lines.len(), "{errors}");
    }
    assert_eq!(count(&server), before);
    let (code, _, errors) = apply(&server.data_dir(), "keys = [", &[]);
    assert!(code == 78 && errors.contains(":1: not TOML"), "{errors}");
}

#[test]
fn one_fault_keeps_the_whole_file_from_being_applied() {
    let server = TestServer::start();
    let before = count(&server);
    let file = format!("{}\n[[accounts]]\nexternal_id = \"cust_9\"\n", small());
    let (code, _, errors) = apply(&server.data_dir(), &file, &[]);
    assert_eq!(code, 78, "{errors}");
    assert!(errors.contains(":15: `name` is required"), "{errors}");
    assert_eq!(count(&server), before);
    assert_eq!(server.get(TEXTS[0], "/api/v1/scopes").status, 401);
}

#[test]
fn the_last_root_key_is_protected_and_no_file_makes_one() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let (key, digest) = generated();
    let file = dir.path().join("root-key");
    fs::write(&file, format!("sha256:{digest}\n")).unwrap();
    let path = file.to_str().unwrap();
    let server = Binary::serve_with(&data, &[("KEYWARD_ROOT_KEY_FILE", path)]);
    let root = |more: &str| format!("[[keys]]\nsha256 = \"{digest}\"\n{more}\n");
    for more in
        ["enabled = false", "scopes = [\"orders:read\"]", "expires_at = 2099-01-01T00:00:00Z"]
    {
        let (code, _, errors) = apply(&data, &root(more), &["--prune"]);
        assert_eq!(code, 78, "{errors}");
        assert!(errors.contains("must keep an enabled, never-expiring key"), "{errors}");
    }
    let said = applied(&data, &root("name = \"Root of the vault\""), &["--prune"]);
    assert!(said.starts_with("updated key \"Root key\" of the operator: name"), "{said}");
    let other = "[[accounts]]\nexternal_id = \"none\"\nname = \"none\"\n";
    let said = applied(&data, other, &["--prune"]);
    assert!(said.ends_with("1 created, 0 updated, 0 revoked, 0 suspended, 0 left\n"), "{said}");
    let another =
        format!("[[keys]]\nname = \"x\"\nsha256 = \"{}\"\nscopes = [\"*\"]\n", sha256(TEXTS[0]));
    let (code, _, errors) = apply(&data, &another, &[]);
    assert!(code == 78 && errors.contains("`scopes`: `*` makes a root key"), "{errors}");
    // Nor does a second file widen a key that the first one made.
    applied(&data, &another.replace("\"*\"", "\"accounts:read\""), &[]);
    let (code, _, errors) = apply(&data, &another, &[]);
    assert!(code == 78 && errors.contains("use `keyward root-key reset`"), "{errors}");
    assert_eq!(Request::new("GET", "/api/v1/scopes").key(&key).send(server.address).status, 200);
}

#[test]
fn no_key_of_a_customer_becomes_a_root_key() {
    let server = TestServer::start();
    let file = |scope: &str| {
        format!(
            "[[accounts]]\nexternal_id = \"c\"\nname = \"C\"\n[[accounts.keys]]\nname = \"d\"\n\
             sha256 = \"{}\"\nscopes = [\"{scope}\"]\n",
            sha256(TEXTS[0])
        )
    };
    // Neither a new key nor one that is there.
    for _ in 0..2 {
        let (code, _, errors) = apply(&server.data_dir(), &file("*"), &[]);
        assert_eq!(code, 78, "{errors}");
        let expected = ":7: `scopes`: this account cannot have *; only the operator account has";
        assert!(errors.contains(expected), "{errors}");
        assert!(!errors.contains("root-key reset"), "{errors}");
        applied(&server.data_dir(), &file("orders:read"), &[]);
    }
}

#[test]
fn a_date_that_does_not_exist_is_told_in_a_sentence() {
    let server = TestServer::start();
    let file = format!(
        "[[keys]]\nname = \"a\"\nsha256 = \"{}\"\nscopes = []\nexpires_at = \"2030-02-30T00:00:00Z\"\n",
        sha256(TEXTS[0])
    );
    let (code, _, errors) = apply(&server.data_dir(), &file, &[]);
    assert_eq!(code, 78, "{errors}");
    assert!(errors.contains(":5: `expires_at`: the calendar has no such date"), "{errors}");
}

#[test]
fn a_key_cannot_move_to_another_account() {
    let server = TestServer::start();
    applied(&server.data_dir(), &small(), &[]);
    let moved = small().replace("cust_42", "cust_43");
    let (code, _, errors) = apply(&server.data_dir(), &moved, &[]);
    assert_eq!(code, 78);
    assert!(errors.contains("belongs to another account"), "{errors}");
}

#[test]
fn changes_of_others_in_between_are_neither_lost_nor_half_applied() {
    let server = TestServer::start();
    let data = server.data_dir();
    applied(&data, &small(), &[]);
    let found = server.get(&server.root.text, "/api/v1/accounts?externalId=cust_42").json();
    let path = format!("/api/v1/accounts/{}", found["data"][0]["id"].as_str().unwrap());
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in 1_u32.. {
                let body = json!({ "name": format!("Other {number}"), "maxKeys": number });
                let request = Request::new("PATCH", &path).key(&server.root.text).json(&body);
                server.send(&request).expect(200);
                if done.load(Ordering::Relaxed) {
                    break;
                }
            }
        });
        for _ in 0..8 {
            let said = applied(&data, &small(), &[]);
            let expected =
                said == nothing() || said.starts_with("updated account cust_42: name Other");
            assert!(expected, "{said}");
        }
        done.store(true, Ordering::Relaxed);
    });
    applied(&data, &small(), &[]);
    let account = server.get(&server.root.text, &path).json();
    assert_eq!(account["name"], "Acme");
    assert_ne!(account["maxKeys"], Value::Null, "the file does not name it");
}

/// Each file is refused by a new server. A server that has its keys already refuses it as well.
#[test]
fn sections_that_contradict_each_other_are_refused_also_if_nothing_would_change() {
    let server = TestServer::start();
    let file = |account: &str, key: &str| {
        small()
            .replace("[\"orders:read\"]\n", &format!("[\"orders:read\"]\n{key}\n"))
            .replace("name = \"Acme\"\n", &format!("name = \"Acme\"\n{account}\n"))
    };
    applied(&server.data_dir(), &file("", "expires_at = \"never\""), &[]);
    let another = |ends: &str| {
        format!(
            "[[accounts.keys]]\nname = \"b\"\nsha256 = \"{}\"\nscopes = []\n{ends}",
            sha256(TEXTS[2])
        )
    };
    let second = another("").replace("[]", "[\"orders:read\"]");
    applied(&server.data_dir(), &format!("{}{second}", small()), &[]);
    let before = count(&server);
    let two = format!("{}{second}", file("max_keys = 1", ""));
    let refused = [
        (
            file("allowed_scopes = [\"orders:write\"]", ""),
            ":14: `scopes`: this account cannot have orders:read",
        ),
        (
            file("max_key_lifetime = \"30d\"", "expires_at = \"never\""),
            ":15: `expires_at` must not be null",
        ),
        (
            file("max_key_lifetime = \"30d\"", "expires_at = 2026-02-01T00:00:00Z"),
            ":15: `expires_at` must not be later",
        ),
        (two, ":9: `max_keys` is less than the 2 keys"),
    ];
    for (text, expected) in &refused {
        for arguments in [&[][..], &["--dry-run"], &["--prune"]] {
            let (code, said, errors) = apply(&server.data_dir(), text, arguments);
            assert_eq!((code, &*said), (78, ""), "{text}{errors}");
            assert!(errors.contains(expected), "{expected}\n{errors}");
        }
    }
    assert_eq!(count(&server), before);
    for sound in [
        file("allowed_scopes = [\"orders:read\"]\nmax_keys = 2", "expires_at = \"never\""),
        file("max_key_lifetime = \"30d\"", ""),
        file("max_key_lifetime = \"server\"", "expires_at = 2026-01-31T00:00:00Z"),
    ] {
        applied(&server.data_dir(), &sound, &[]);
    }
}
