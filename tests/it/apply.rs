//! Accounts and keys that a file declares.

use std::{io::Write, process::Stdio, time::Duration};

use keyward::env::{Entropy, SeededEntropy};
use serde_json::{Value, json};

use crate::support::{
    Binary, Process, Request, TestServer,
    apply::{TEXTS, applied, apply, count, generated, nothing, rehearsed, small, summary, told},
    import::sha256,
    keyward,
};

const EXAMPLE: &str = include_str!("../../packaging/examples/apply.toml");

const SMALL_SAID: &str = "created account cust_42\n\
                          created key \"Gateway\" of the operator\n\
                          created key \"Shop\" of cust_42\n";

#[test]
fn a_file_makes_accounts_and_keys_and_a_second_run_changes_nothing() {
    let server = TestServer::start();
    let (code, said) = rehearsed(&server, &small(), &[]);
    assert_eq!((code, said), (0, format!("{SMALL_SAID}{}", summary(3, 0, 0, 0, 0))));
    assert_eq!(server.code(TEXTS[1]), "VALID");
    let asked = Request::new("POST", "/api/v1/api-keys/verify").key(TEXTS[0]);
    let asked = asked.json(&json!({ "key": TEXTS[1] }));
    assert_eq!(server.send(&asked).expect(200).json()["name"], "Shop");
    let made = server.events();
    let of = |kind: &str| made.iter().filter(|it| it["type"] == kind).count();
    assert_eq!(
        (of("account.created"), of("api_key.created")),
        (2, 3),
        "with those of the first start"
    );
    let before = count(&server);
    assert_eq!(rehearsed(&server, &small(), &["--prune"]), (0, nothing()));
    assert_eq!(count(&server), before);
}

#[test]
fn it_works_without_a_server_and_from_standard_input() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let server = Binary::serve(&data);
    let root = server.root_key();
    assert_eq!(Request::new("GET", "/api/v1/scopes").key(&root).send(server.address).status, 200);
    assert!(server.terminate().status.success());
    let dry = apply(&data, &small(), &["--dry-run"]);
    let expected = format!("{SMALL_SAID}{}", summary(3, 0, 0, 0, 0));
    assert_eq!((dry.0, &dry.1), (3, &expected), "{}", dry.2);
    let mut command = keyward();
    command.args(["apply", "-", "--data-dir"]).arg(&data);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = Process::start(&mut command);
    child.stdin.take().unwrap().write_all(small().as_bytes()).unwrap();
    let (code, said, errors) = told(&child.wait_with_output());
    assert_eq!((code, said), (0, expected), "{errors}");
    assert_eq!(applied(&data, &small(), &[]), nothing());
    let server = Binary::serve(&data);
    assert_eq!(
        Request::new("GET", "/api/v1/api-keys/self").key(TEXTS[1]).send(server.address).status,
        200
    );
}

#[test]
fn a_key_of_keywards_own_shape_is_declared_by_its_digest() {
    let server = TestServer::start();
    let (key, digest) = generated();
    let file =
        format!("[[keys]]\nname = \"ci\"\nsha256 = \"{digest}\"\nscopes = [\"accounts:read\"]\n");
    applied(&server.data_dir(), &file, &[]);
    assert_eq!(server.code(&key), "VALID");
    assert_eq!(server.get(&key, "/api/v1/accounts").status, 200);
    let (other, _) = generated();
    assert_eq!(server.code(&other), "NOT_FOUND");
}

#[test]
fn a_key_that_this_server_issued_gets_no_second_life_from_a_file() {
    let server = TestServer::start();
    let data = server.data_dir();
    let own = server.key(&["orders:read"]);
    let file = format!(
        "[[keys]]\nname = \"copy\"\nsha256 = \"{}\"\nscopes = [\"orders:write\"]\n",
        sha256(&own.text)
    );
    applied(&data, &file, &[]);
    // The first use of the key shows that both have the same text.
    assert_eq!(server.verify(&own.text, &["orders:read"])["name"], "test");
    let (code, said) = rehearsed(&server, &file, &[]);
    let left = "left key \"copy\" of the operator: it was revoked or has expired, and is not created again\n";
    assert_eq!((code, said), (3, format!("{left}{}", summary(0, 0, 0, 0, 1))));
    server.delete(&server.root.text, &own.path());
    server.advance(Duration::from_hours(24 * 31));
    server.advance(Duration::from_mins(20));
    server.run_job("purge");
    assert_eq!(server.code(&own.text), "NOT_FOUND");
}

#[test]
fn each_member_is_updated_and_an_absent_one_is_left_alone() {
    let server = TestServer::start();
    let data = server.data_dir();
    applied(&data, &small(), &[]);
    let full = small()
        .replace("name = \"Acme\"", "name = \"Acme Corp\"\nallowed_scopes = [\"orders:read\", \"orders:write\"]\nmax_keys = 5\nmax_key_lifetime = \"90d\"\nrate_limit = \"9/m\"\nmetadata = { plan = \"pro\" }")
        .replace("[\"orders:read\"]\n", "[\"orders:write\"]\nexpires_at = 2026-01-31T12:00:00Z\nallowed_ips = [\"10.0.0.0/8\"]\nenabled = false\n")
        .replace("[\"api-keys:verify\"]", "[\"api-keys:verify\"]\nrate_limit = \"5/1h\"\nmetadata = { at = 2026-01-01T00:00:00Z, n = [1, 2.5] }");
    let (_, said) = rehearsed(&server, &full, &["--prune"]);
    let expected = "\
updated account cust_42: name Acme -> Acme Corp, allowed_scopes all -> [\"orders:read\",\"orders:write\"], \
max_keys server -> 5, max_key_lifetime server -> 90d, rate_limit none -> 9/60s, metadata changed\n\
updated key \"Gateway\" of the operator: rate_limit none -> 5/3600s, metadata changed\n\
updated key \"Shop\" of cust_42: scopes +orders:write -orders:read, enabled true -> false, \
expires_at never -> 2026-01-31T12:00:00.000Z, allowed_ips any -> [\"10.0.0.0/8\"]\n";
    assert_eq!(said, format!("{expected}{}", summary(0, 3, 0, 0, 0)));
    let (_, said) = rehearsed(&server, &small().replace("\nscopes = [\"orders:read\"]", ""), &[]);
    assert_eq!(
        said,
        format!("updated account cust_42: name Acme Corp -> Acme\n{}", summary(0, 1, 0, 0, 0))
    );
    let shop = server.get(&server.root.text, "/api/v1/api-keys?account=all&q=Shop").json();
    let shop = &shop["data"][0];
    assert_eq!((&shop["enabled"], &shop["scopes"]), (&json!(false), &json!(["orders:write"])));
    let back = full
        .replace("[\"orders:read\", \"orders:write\"]", "\"all\"")
        .replace("max_keys = 5", "max_keys = \"server\"")
        .replace("\"90d\"", "\"server\"")
        .replace("\"9/m\"", "\"none\"")
        .replace("2026-01-31T12:00:00Z", "\"never\"")
        .replace("[\"10.0.0.0/8\"]", "\"any\"");
    let (_, said) = rehearsed(&server, &back, &[]);
    let expected = "\
updated account cust_42: name Acme -> Acme Corp, allowed_scopes [\"orders:read\",\"orders:write\"] -> all, \
max_keys 5 -> server, max_key_lifetime 90d -> server, rate_limit 9/60s -> none\n\
updated key \"Shop\" of cust_42: expires_at 2026-01-31T12:00:00.000Z -> never, \
allowed_ips [\"10.0.0.0/8\"] -> any\n";
    assert_eq!(said, format!("{expected}{}", summary(0, 2, 0, 0, 0)));
}

#[test]
fn prune_ends_what_a_file_made_and_nothing_else() {
    let server = TestServer::start();
    let data = server.data_dir();
    // Neither this account nor its key, nor this key of the declared account, was made by a file.
    let (own, own_key) = server.account(&json!({ "name": "By hand", "externalId": "cust_1" }));
    applied(&data, &small(), &[]);
    let listed = server.get(&server.root.text, "/api/v1/accounts?externalId=cust_42").json();
    let declared = listed["data"][0]["id"].as_str().unwrap().to_owned();
    let body = json!({ "name": "theirs", "scopes": ["orders:read"], "accountId": declared });
    let path = format!("/api/v1/accounts/{declared}/api-keys");
    let theirs = server.post(&server.root.text, &path, &body_of(&body)).json();
    let theirs = theirs["key"].as_str().unwrap().to_owned();
    assert_eq!(applied(&data, "", &[]), nothing(), "without --prune nothing is removed");
    // As from a program that failed and wrote nothing.
    let (code, said, errors) = apply(&data, "", &["--prune"]);
    assert_eq!((code, said.as_str()), (78, ""), "{errors}");
    assert!(errors.contains("nothing is declared here"), "{errors}");

    // A named account is no account that a file made.
    let (_, said) = rehearsed(&server, "[[accounts]]\nexternal_id = \"cust_1\"\n", &["--prune"]);
    let expected = "revoked key \"Gateway\" of the operator\nrevoked key \"Shop\" of cust_42\n\
                    suspended account cust_42\n";
    assert_eq!(said, format!("{expected}{}", summary(0, 0, 2, 1, 0)));
    assert_eq!(server.code(TEXTS[1]), "REVOKED");
    assert_eq!(server.code(&theirs), "ACCOUNT_SUSPENDED", "its keys are not revoked");
    assert_eq!(server.code(&own_key.text), "VALID");
    assert_eq!(server.code(&server.root.text), "VALID");
    let (_, said) = rehearsed(&server, "[[accounts]]\nexternal_id = \"cust_1\"\n", &["--prune"]);
    assert_eq!(said, nothing(), "neither the account by hand nor anything twice");
    assert_eq!(
        server.get(&server.root.text, &format!("/api/v1/accounts/{own}")).json()["status"],
        "active"
    );

    let file = small().replace("name = \"Acme\"", "name = \"Acme\"\nstatus = \"active\"");
    let (code, said) = rehearsed(&server, &file, &["--prune"]);
    let expected = "\
updated account cust_42: status suspended -> active\n\
left key \"Gateway\" of the operator: it was revoked or has expired, and is not created again\n\
left key \"Shop\" of cust_42: it was revoked or has expired, and is not created again\n";
    assert_eq!((code, said), (3, format!("{expected}{}", summary(0, 1, 0, 0, 2))));
    assert_eq!((server.code(TEXTS[1]), server.code(&theirs)), ("REVOKED".into(), "VALID".into()));
}

fn body_of(body: &Value) -> Value {
    json!({ "name": body["name"], "scopes": body["scopes"] })
}

#[test]
fn a_rotated_key_keeps_its_identity_and_a_revoked_one_does_not_come_back() {
    let server = TestServer::start();
    let data = server.data_dir();
    applied(&data, &small(), &[]);
    let found = server.get(&server.root.text, "/api/v1/api-keys?account=all&q=Shop").json();
    let id = found["data"][0]["id"].as_str().unwrap().to_owned();
    let fresh = server.rotate(&server.root.text, &id, &json!({ "gracePeriodSeconds": 0 }));
    let renamed = small().replace("Shop", "Store");
    let updated =
        format!("updated key \"Shop\" of cust_42: name Shop -> Store\n{}", summary(0, 1, 0, 0, 0));
    assert_eq!(rehearsed(&server, &renamed, &["--prune"]).1, updated);
    // The retention of the ended credential is over, so the digest is that of no credential.
    server.advance(Duration::from_hours(24 * 31));
    server.advance(Duration::from_mins(20));
    server.run_job("purge");
    assert_eq!(server.code(TEXTS[1]), "MALFORMED");
    assert_eq!(rehearsed(&server, &renamed, &["--prune"]).1, nothing());
    assert_eq!(server.code(&fresh.text), "VALID");

    server.delete(&server.root.text, &format!("/api/v1/api-keys/{id}"));
    let left =
        "left key \"Store\" of cust_42: it was revoked or has expired, and is not created again\n";
    let left = (3, format!("{left}{}", summary(0, 0, 0, 0, 1)));
    assert_eq!(rehearsed(&server, &renamed, &["--prune"]), left);
    server.advance(Duration::from_hours(24 * 31));
    server.run_job("purge");
    let (code, said) = rehearsed(&server, &renamed, &["--prune"]);
    assert_eq!(code, 3, "also after the purge");
    assert!(
        said.ends_with(&summary(0, 0, 0, 0, 1)) && said.contains("not created again"),
        "{said}"
    );
    assert_eq!(server.code(TEXTS[1]), "MALFORMED");
}

#[test]
fn output_for_programs_names_each_change() {
    let server = TestServer::start();
    let data = server.data_dir();
    let (_, said, _) = apply(&data, &small(), &["--dry-run", "-o", "json"]);
    let dry: Value = serde_json::from_str(&said).unwrap();
    let run: Value = serde_json::from_str(&applied(&data, &small(), &["-o", "json"])).unwrap();
    assert_eq!((&dry["dryRun"], &run["dryRun"]), (&json!(true), &json!(false)));
    assert_eq!(dry["changes"], run["changes"]);
    assert_eq!(run["changes"][2]["action"], "created");
    let file = small().replace("orders:read", "orders:write");
    let run: Value = serde_json::from_str(&applied(&data, &file, &["-o", "json"])).unwrap();
    let [change] = &run["changes"].as_array().unwrap()[..] else { panic!("{run}") };
    assert_eq!(
        (&change["action"], &change["account"], &change["key"]),
        (&json!("updated"), &json!("cust_42"), &json!("Shop"))
    );
    assert!(change["keyId"].as_str().unwrap().starts_with("key_"));
    assert_eq!(change["before"], json!({ "scopes": ["orders:read"] }));
    assert_eq!(change["after"], json!({ "scopes": ["orders:write"] }));
}

#[test]
fn the_example_is_applied_as_it_stands() {
    let server = TestServer::start();
    let (code, said) = rehearsed(&server, EXAMPLE, &["--prune"]);
    assert_eq!(code, 0);
    assert!(said.ends_with(&summary(5, 1, 0, 0, 0)), "{said}");
    assert_eq!(rehearsed(&server, EXAMPLE, &["--prune"]).1, nothing());
}

/// Returns a file of accounts and keys at random, some of them absent.
fn random_file(entropy: &dyn Entropy) -> String {
    let pick = |below: u8| {
        let mut byte = [0];
        entropy.fill(&mut byte);
        byte[0] % below
    };
    let one = |of: &[&str]| of[usize::from(pick(u8::try_from(of.len()).unwrap()))].to_owned();
    let key = |table: &str, text: String| {
        let scopes =
            one(&["\"orders:read\"", "\"orders:write\"", "\"orders:read\", \"orders:write\""]);
        let more = one(&[
            "",
            "enabled = false",
            "enabled = true",
            "rate_limit = \"7/m\"",
            "rate_limit = \"none\"",
            "allowed_ips = [\"::1\"]",
            "allowed_ips = \"any\"",
            "expires_at = 2027-01-01T00:00:00Z",
            "expires_at = \"never\"",
            "metadata = { a = 1 }",
        ]);
        format!(
            "[[{table}]]\nname = \"{}\"\nsha256 = \"{}\"\nscopes = [{scopes}]\n{more}\n",
            one(&["x", "y"]),
            sha256(&text)
        )
    };
    let mut file = Vec::new();
    for number in 0..3 {
        if number == 0 || pick(3) != 0 {
            file.push(key("keys", format!("sk_live_operator_key_{number}")));
        }
    }
    for account in 0..3 {
        if pick(4) == 0 {
            continue;
        }
        let more = one(&[
            "",
            "status = \"active\"",
            "status = \"suspended\"",
            "max_keys = 9",
            "max_keys = \"server\"",
            "key_rate_limit = \"5/h\"",
            "default_key_lifetime = \"30d\"",
            "token_exchange = true",
            "metadata = { b = [] }",
        ]);
        file.push(format!(
            "[[accounts]]\nexternal_id = \"c{account}\"\nname = \"{}\"\n{more}\n",
            one(&["A", "B"])
        ));
        for number in 0..3 {
            if pick(3) != 0 {
                file.push(key("accounts.keys", format!("sk_live_account_key_{account}_{number}")));
            }
        }
    }
    file.concat()
}

#[test]
fn a_dry_run_says_what_the_run_does_and_a_second_run_does_nothing() {
    let server = TestServer::start();
    for seed in 0..12 {
        let file = random_file(&SeededEntropy::new(seed));
        let arguments: &[&str] = if seed % 2 == 0 { &["--prune"] } else { &[] };
        rehearsed(&server, &file, arguments);
        let (_, said) = rehearsed(&server, &file, arguments);
        let changes = said.lines().filter(|it| !it.starts_with("left ")).count();
        assert_eq!(changes, 1, "seed {seed}: {said}\n{file}");
    }
}
