//! `keyward apply --prune`, accounts and keys that others removed, and the limits of a file.

use std::time::Duration;

use serde_json::json;

use crate::support::{
    TestServer,
    apply::{TEXTS, applied, apply, apply_as_it_stands, count, nothing, rehearsed, small, summary},
    import::{import, rows, sha256},
};

const OTHER: &str = "[[accounts]]\nexternal_id = \"cust_1\"\nname = \"Other\"\n";

fn account_of(server: &TestServer, external_id: &str) -> serde_json::Value {
    let path = format!("/api/v1/accounts?externalId={external_id}");
    server.get(&server.root.text, &path).expect(200).json()["data"][0].clone()
}

#[test]
fn prune_refuses_a_file_that_was_cut_off() {
    let server = TestServer::start();
    let data = server.data_dir();
    let file = format!("{}\n[end]\n", small());
    applied(&data, &file, &["--prune"]);
    let before = count(&server);
    let cuts = file.match_indices("\n[[").map(|(at, _)| &file[..=at]);
    for cut in cuts.chain([&*small()]) {
        for arguments in [&["--prune"][..], &["--prune", "--dry-run"]] {
            let (code, said, errors) = apply_as_it_stands(&data, cut, arguments);
            assert_eq!((code, &*said), (78, ""), "{cut}");
            assert!(errors.contains("`--prune` needs `[end]` as the last line"), "{errors}");
        }
    }
    assert_eq!(count(&server), before);
    let (code, _, errors) = apply_as_it_stands(&data, "[end]\n", &["--prune"]);
    assert!(code == 78 && errors.contains("nothing is declared here"), "{errors}");
    let (code, said, errors) = apply_as_it_stands(&data, &small(), &[]);
    assert_eq!((code, said), (0, nothing()), "without --prune no end is needed: {errors}");
}

#[test]
fn prune_suspends_an_account_once() {
    let server = TestServer::start();
    applied(&server.data_dir(), &small(), &[]);
    let (_, said) = rehearsed(&server, OTHER, &["--prune"]);
    assert!(said.ends_with(&summary(1, 0, 2, 1, 0)), "{said}");
    let path =
        format!("/api/v1/accounts/{}", account_of(&server, "cust_42")["id"].as_str().unwrap());
    let resume = json!({ "status": "active" });
    let request = crate::support::Request::new("PATCH", &path).key(&server.root.text);
    server.send(&request.json(&resume)).expect(200);
    assert_eq!(rehearsed(&server, OTHER, &["--prune"]).1, nothing());
    assert_eq!(account_of(&server, "cust_42")["status"], "active");
}

#[test]
fn an_account_that_a_file_resumes_is_suspended_again_when_the_file_drops_it() {
    let server = TestServer::start();
    let data = server.data_dir();
    let declared =
        |more: &str| format!("[[accounts]]\nexternal_id = \"cust_42\"\nname = \"Acme\"\n{more}");
    let status = || account_of(&server, "cust_42")["status"].clone();
    applied(&data, &declared(""), &[]);
    for _ in 0..2 {
        applied(&data, &format!("{OTHER}\n[end]\n"), &["--prune"]);
        assert_eq!(status(), "suspended");
        applied(&data, &declared(""), &[]);
        assert_eq!(status(), "suspended", "a file that does not name the status changes none");
        applied(&data, &declared("status = \"active\"\n"), &[]);
        assert_eq!(status(), "active");
        // Again, as every run of a pipeline.
        applied(&data, &declared("status = \"active\"\n"), &[]);
    }
}

#[test]
fn a_deleted_account_is_told_as_created_again() {
    let server = TestServer::start();
    let data = server.data_dir();
    applied(&data, &small(), &[]);
    let path =
        format!("/api/v1/accounts/{}", account_of(&server, "cust_42")["id"].as_str().unwrap());
    server.delete(&server.root.text, &path).expect(204);
    let (code, said) = rehearsed(&server, &small(), &["--prune"]);
    let expected = "\
created account cust_42 again: the one before it was deleted, and its keys stay revoked\n\
left key \"Shop\" of cust_42: it was revoked or has expired, and is not created again\n";
    assert_eq!((code, said), (3, format!("{expected}{}", summary(1, 0, 0, 0, 1))));
    let path =
        format!("/api/v1/accounts/{}", account_of(&server, "cust_42")["id"].as_str().unwrap());
    server.delete(&server.root.text, &path).expect(204);
    let (_, said, _) = apply(&data, &small(), &["-o", "json"]);
    let report: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!(report["changes"][0]["action"], "recreated", "{report}");
}

#[test]
fn prune_makes_room_before_keys_are_created() {
    let server = TestServer::start();
    let file = small().replace("name = \"Acme\"", "name = \"Acme\"\nmax_keys = 1");
    applied(&server.data_dir(), &file, &[]);
    let next = file.replace("Shop", "Store").replace(&sha256(TEXTS[1]), &sha256(TEXTS[2]));
    let (code, said) = rehearsed(&server, &next, &["--prune"]);
    let expected = "revoked key \"Shop\" of cust_42\ncreated key \"Store\" of cust_42\n";
    assert_eq!((code, said), (0, format!("{expected}{}", summary(1, 0, 1, 0, 0))));
    assert_eq!([TEXTS[1], TEXTS[2]].map(|it| server.code(it)), ["REVOKED", "VALID"]);
}

#[test]
fn a_key_that_was_imported_and_rotated_is_not_told_as_ended() {
    let server = TestServer::start();
    let row = json!({ "name": "Old", "scopes": ["orders:read"], "sha256": sha256(TEXTS[0]) });
    let (code, report) = import(&server.data_dir(), "keys.jsonl", &rows(&[row]), &[]);
    assert_eq!(code, 0, "{report}");
    let file = format!(
        "[[keys]]\nname = \"Old\"\nsha256 = \"{}\"\nscopes = [\"orders:read\"]\n",
        sha256(TEXTS[0])
    );
    assert_eq!(rehearsed(&server, &file, &[]).1, nothing());
    let id = report["keys"][0]["keyId"].as_str().unwrap();
    let fresh = server.rotate(&server.root.text, id, &json!({ "gracePeriodSeconds": 0 }));
    server.advance(Duration::from_hours(24 * 31));
    server.advance(Duration::from_mins(20));
    server.run_job("purge");
    let (code, said) = rehearsed(&server, &file, &[]);
    let left = "left key \"Old\" of the operator: a key with this digest was here before, and was \
                rotated or has ended; it is not created again\n";
    assert_eq!((code, said), (3, format!("{left}{}", summary(0, 0, 0, 0, 1))));
    assert_eq!(server.code(&fresh.text), "VALID");
}

#[test]
fn a_file_has_a_greatest_size() {
    let server = TestServer::start();
    let comment = format!("# {}\n", "x".repeat(16 * 1024 * 1024));
    let (code, said, errors) = apply(&server.data_dir(), &comment, &[]);
    assert_eq!((code, &*said), (78, ""));
    assert!(errors.contains("the file is larger than 16 MiB"), "{errors}");
    // The JSON of this file is larger than 16 MiB.
    let digests: Vec<_> = (0..4_000).map(|it| sha256(&format!("sk_live_{it}"))).collect();
    let metadata = "\"".repeat(1_900);
    let sections = digests.iter().map(|digest| {
        format!(
            "[[keys]]\nname = \"k\"\nsha256 = \"{digest}\"\nscopes = [\"orders:read\"]\n\
             metadata = {{ a = '{metadata}', b = '{metadata}', c = 1 }}\n"
        )
    });
    let file: String = sections.collect();
    assert!(file.len() < 16 * 1024 * 1024);
    let (code, _, errors) = apply(&server.data_dir(), &file, &["--dry-run"]);
    assert_eq!(code, 78);
    assert_eq!(
        errors.matches("`metadata` must be at most 4096 bytes").count(),
        4_000,
        "{}",
        &errors[..300]
    );
}

/// The same before and after the purge: the declared key is not there, and the run says so.
#[test]
fn a_key_that_has_expired_is_left_and_keeps_no_other_section_from_being_applied() {
    let server = TestServer::start();
    let data = server.data_dir();
    let ends = |at: &str| {
        small().replace("[\"orders:read\"]\n", &format!("[\"orders:read\"]\nexpires_at = {at}\n"))
    };
    let declared = ends("2026-01-02T00:00:00Z");
    applied(&data, &declared, &[]);
    server.advance(Duration::from_hours(24));
    let left =
        "left key \"Shop\" of cust_42: it was revoked or has expired, and is not created again\n";
    // Also if the file gives the key a later end: a key that has expired stays so.
    for file in [&declared, &small(), &ends("2027-01-01T00:00:00Z"), &ends("\"never\"")] {
        assert_eq!(
            rehearsed(&server, file, &["--prune"]),
            (3, format!("{left}{}", summary(0, 0, 0, 0, 1))),
            "{file}"
        );
    }
    let renamed = declared.replace("Acme", "Acme Corp");
    let (code, said) = rehearsed(&server, &renamed, &[]);
    assert_eq!((code, said.ends_with(&summary(0, 1, 0, 0, 1))), (3, true), "{said}");
    server.advance(Duration::from_hours(24 * 31));
    server.advance(Duration::from_mins(20));
    server.run_job("purge");
    let (code, said) = rehearsed(&server, &renamed, &["--prune"]);
    assert_eq!((code, said.ends_with(&summary(0, 0, 0, 0, 1))), (3, true), "{said}");
    // Without its section, the run says no more of it.
    let without = renamed.split("[[accounts.keys]]").next().unwrap();
    assert_eq!(rehearsed(&server, without, &["--prune"]), (0, nothing()));
}
