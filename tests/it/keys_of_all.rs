//! Finding keys and accounts: over all accounts, in both orders, by their creator, with their number.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Key, Response, TestServer};

const KEYS: &str = "/api/v1/api-keys";
const MILLISECOND: Duration = Duration::from_millis(1);

fn each(list: &Value, member: &str) -> Vec<String> {
    let data = list["data"].as_array().expect("a list");
    data.iter().map(|it| it[member].as_str().expect(member).to_owned()).collect()
}

#[track_caller]
fn found(server: &TestServer, caller: &str, query: &str) -> Vec<String> {
    each(&server.get(caller, &format!("{KEYS}?{query}")).expect(200).json(), "name")
}

fn named(server: &TestServer, caller: &str, name: &str) -> Key {
    server.create(caller, &json!({ "name": name, "scopes": ["orders:read"] }))
}

fn with_scope(server: &TestServer, scope: &str) -> String {
    server.create(&server.root.text, &json!({ "name": scope, "scopes": [scope] })).text
}

fn next_page(answer: &Response) -> Option<String> {
    let link = answer.header("link")?;
    Some(link.strip_prefix('<')?.strip_suffix(">; rel=\"next\"")?.to_owned())
}

#[test]
fn all_means_the_keys_of_all_accounts_by_age() {
    let server = TestServer::start();
    let reader = with_scope(&server, "accounts:read");
    let (_, one) = server.account(&json!({ "name": "one" }));
    server.advance(MILLISECOND);
    let (gone, _) = server.account(&json!({ "name": "gone" }));
    let (_, two) = server.account(&json!({ "name": "two" }));
    named(&server, &two.text, "second");
    server.advance(MILLISECOND);
    named(&server, &one.text, "first");
    server.delete(&server.root.text, &format!("/api/v1/accounts/{gone}")).expect(204);
    let mut names = Vec::new();
    let mut next = Some(format!("{KEYS}?account=all&limit=2"));
    while let Some(target) = next {
        let answer = server.get(&reader, &target).expect(200);
        names.extend(each(&answer.json(), "name"));
        next = next_page(&answer);
    }
    let root = &server.get(&server.root.text, &format!("{KEYS}/self")).json()["name"];
    let root = root.as_str().unwrap();
    assert_eq!(names, [root, "accounts:read", "one", "two", "second", "first"]);
    assert_eq!(found(&server, &reader, "account=all&q=SECOND"), ["second"]);
}

#[test]
fn only_accounts_read_shows_the_keys_of_others() {
    let server = TestServer::start();
    let (account, owner) = server.account(&json!({ "name": "owner" }));
    let (other, _) = server.account(&json!({ "name": "other" }));
    let operator = with_scope(&server, "api-keys:read");
    for caller in [&owner.text, &operator] {
        for query in ["account=all", &format!("account={other}"), "account=all&q=owner&total=true"]
        {
            let answer = server.get(caller, &format!("{KEYS}?{query}"));
            assert_eq!(answer.expect(403).problem(), "missing_scope", "{query}");
        }
    }
    assert_eq!(found(&server, &owner.text, &format!("account={account}")), ["owner"]);
    let reader = with_scope(&server, "accounts:read");
    assert_eq!(found(&server, &reader, &format!("account={other}")), ["other"]);
    assert_eq!(server.get(&reader, KEYS).expect(403).problem(), "missing_scope");
    for bad in ["", "ALL", "self", &account[..20]] {
        let faults = server.get(&reader, &format!("{KEYS}?account={bad}")).faults();
        assert_eq!(faults, [("/account".to_owned(), "invalid_format".to_owned())], "{bad}");
    }
    let absent = format!("{KEYS}?account=acct_0000000000000000000042");
    server.get(&reader, &absent).expect(404);
    let twice = format!("/api/v1/accounts/{account}/api-keys?account=all");
    assert_eq!(server.get(&reader, &twice).faults()[0].1, "unknown_parameter");
}

#[test]
fn a_walk_from_the_newest_loses_and_repeats_nothing_while_keys_come_and_go() {
    let server = TestServer::start();
    let (_, owner) = server.account(&json!({ "name": "owner" }));
    let (_, other) = server.account(&json!({ "name": "other" }));
    let mut keys = Vec::new();
    for i in 0..20 {
        let caller = if i % 2 == 0 { &owner } else { &other };
        keys.push(named(&server, &caller.text, &format!("walk{i:02}")));
        if i % 3 == 0 {
            server.advance(MILLISECOND);
        }
    }
    let root = &server.root.text;
    let mut names = Vec::new();
    let mut next = Some(format!("{KEYS}?account=all&order=desc&limit=6&q=walk&total=true"));
    while let Some(target) = next {
        let answer = server.get(root, &target).expect(200);
        let page = answer.json();
        names.push(each(&page, "name"));
        next = next_page(&answer);
        if let Some(next) = &next {
            for kept in ["account=all", "order=desc", "limit=6", "q=walk", "total=true"] {
                assert!(next.contains(kept), "{next}");
            }
        }
        let total = [20, 19, 19, 19][names.len() - 1];
        assert_eq!(page["total"], total, "{}", names.len());
        if names.len() == 1 {
            // The last that was shown, and the next to be shown; and a new one before all.
            server.delete(root, &keys[14].path()).expect(204);
            server.delete(root, &keys[13].path()).expect(204);
            named(&server, &owner.text, "walk20");
        }
    }
    let expected = (0..20).rev().filter(|i| *i != 13).map(|i| format!("walk{i:02}"));
    assert_eq!(names.concat(), expected.collect::<Vec<_>>());
}

#[test]
fn a_cursor_is_for_one_order() {
    let server = TestServer::start();
    named(&server, &server.root.text, "second");
    let root = &server.root.text;
    for (order, opposite) in [("asc", "desc"), ("desc", "asc")] {
        let first = server.get(root, &format!("{KEYS}?order={order}&limit=1")).expect(200).json();
        let cursor = first["nextCursor"].as_str().unwrap();
        let same = format!("{KEYS}?order={order}&cursor={cursor}");
        assert_eq!(each(&server.get(root, &same).expect(200).json(), "id").len(), 1);
        let answer = server.get(root, &format!("{KEYS}?order={opposite}&cursor={cursor}"));
        assert_eq!(answer.faults(), [("/cursor".to_owned(), "invalid_format".to_owned())]);
    }
    for bad in ["order=DESC", "order=", "total=1", "total=", "createdBy=cli", "createdBy="] {
        let faults = server.get(root, &format!("{KEYS}?{bad}")).faults();
        assert_eq!((faults.len(), &*faults[0].1), (1, "invalid_format"), "{bad}");
    }
}

#[test]
fn q_finds_an_identifier_and_its_beginning() {
    let server = TestServer::start();
    let (account, owner) = server.account(&json!({ "name": "owner" }));
    server.advance(Duration::from_hours(24));
    let key = named(&server, &owner.text, "wanted");
    for (q, names) in [
        (&*key.id, &["wanted"][..]),
        (&key.id[..16], &["wanted"]),
        (&key.id[1..], &[]),
        ("key_", &[]),
        ("KEY_0", &[]),
    ] {
        assert_eq!(found(&server, &owner.text, &format!("q={q}")), names, "{q}");
    }
    assert_eq!(found(&server, &server.root.text, &format!("q={}&account=all", key.id)), ["wanted"]);
    let accounts = |query: &str| {
        let path = format!("/api/v1/accounts?{query}");
        each(&server.get(&server.root.text, &path).expect(200).json(), "id")
    };
    assert_eq!(accounts(&format!("q={account}")), [&*account]);
    assert_eq!(accounts(&format!("q={}", &account[1..])), [""; 0]);
    assert_eq!(accounts("q=acct_"), [""; 0]);
}

#[test]
fn created_by_finds_keys_by_their_creator_and_betrays_no_key_of_the_operator() {
    let server = TestServer::start();
    let (account, owner) = server.account(&json!({ "name": "owner" }));
    named(&server, &owner.text, "own");
    let body = json!({ "name": "given", "scopes": ["orders:read"] });
    let path = format!("/api/v1/accounts/{account}/api-keys");
    server.post(&server.root.text, &path, &body).expect(201);
    let (root, by_root) = (&server.root.text, format!("createdBy={}", server.root.id));
    let by_owner = format!("createdBy={}", owner.id);
    assert_eq!(found(&server, &owner.text, &by_owner), ["own"]);
    assert_eq!(found(&server, &owner.text, "createdBy=operator"), ["owner", "given"]);
    assert_eq!(found(&server, &owner.text, &by_root), [""; 0], "a guess");
    assert_eq!(found(&server, root, &format!("account=all&{by_owner}")), ["own"]);
    assert_eq!(found(&server, root, &format!("account=all&{by_root}")), ["owner", "given"]);
    let operator = format!("account={account}&createdBy=operator");
    assert_eq!(found(&server, root, &operator), ["owner", "given"]);
    // The creator is known after it was purged.
    server.delete(root, &owner.path()).expect(204);
    assert_eq!(found(&server, root, &format!("account=all&{by_owner}")), ["own"]);
}

#[test]
fn total_counts_the_matches_only_on_request() {
    let server = TestServer::start();
    let (account, owner) = server.account(&json!({ "name": "owner" }));
    for i in 0..3 {
        named(&server, &owner.text, &format!("k{i}"));
    }
    let gone = named(&server, &owner.text, "k3");
    server.delete(&owner.text, &gone.path()).expect(204);
    let total =
        |caller: &str, path: &str| server.get(caller, path).expect(200).json()["total"].clone();
    let own = |query: &str| total(&owner.text, &format!("{KEYS}?{query}"));
    assert_eq!(own("total=true"), 4);
    assert_eq!(own("total=true&limit=1&q=k"), 3);
    assert_eq!(own("total=true&q=nothing"), 0);
    for without in ["limit=1", "total=false"] {
        let answer = server.get(&owner.text, &format!("{KEYS}?{without}")).expect(200).json();
        assert!(answer.get("total").is_none(), "{answer}");
    }
    let of_account = format!("/api/v1/accounts/{account}/api-keys?total=true&limit=1");
    assert_eq!(total(&server.root.text, &of_account), 4);
    assert_eq!(total(&server.root.text, &format!("{KEYS}?account=all&total=true")), 5);
}

#[test]
fn accounts_are_found_by_their_status() {
    let server = TestServer::start();
    let (stopped, _) = server.account(&json!({ "name": "Acme", "externalId": "cust_1" }));
    server.account(&json!({ "name": "Acme two" }));
    let path = format!("/api/v1/accounts/{stopped}");
    server.put(&server.root.text, &path, &json!({ "status": "suspended" })).expect(200);
    let names = |query: &str| {
        let path = format!("/api/v1/accounts?{query}");
        each(&server.get(&server.root.text, &path).expect(200).json(), "name")
    };
    assert_eq!(names("status=suspended"), ["Acme"]);
    assert_eq!(names("status=active&q=acme"), ["Acme two"]);
    assert_eq!(names("externalId=cust_1&status=suspended"), ["Acme"]);
    assert_eq!(names("externalId=cust_1&status=active"), [""; 0]);
    let faults = server.get(&server.root.text, "/api/v1/accounts?status=deleted").faults();
    assert_eq!(faults, [("/status".to_owned(), "invalid_format".to_owned())]);
}

#[test]
fn one_of_any_scopes_is_enough_beside_all_of_scopes() {
    let server = TestServer::start();
    let key = server.key(&["orders:read", "products:read"]);
    let verified = |all: &[&str], any: &[&str]| {
        let question = json!({ "key": key.text, "scopes": all, "anyScopes": any });
        let answer = server.post(&server.root.text, "/api/v1/api-keys/verify", &question);
        let answer = answer.expect(200).json();
        (answer["code"].as_str().unwrap().to_owned(), answer["missingScopes"].clone())
    };
    let valid = ("VALID".to_owned(), json!([]));
    let lacks = |missing: &[&str]| ("INSUFFICIENT_SCOPES".to_owned(), json!(missing));
    assert_eq!(verified(&[], &["orders:read"]), valid);
    assert_eq!(verified(&[], &["orders:write", "orders:read"]), valid);
    assert_eq!(verified(&["products:read"], &["orders:write", "orders:read"]), valid);
    assert_eq!(verified(&[], &["orders:write"]), lacks(&["orders:write"]));
    let both = lacks(&["orders:write", "webhooks:read"]);
    assert_eq!(verified(&["orders:read"], &["orders:write", "webhooks:read"]), both);
    assert_eq!(verified(&["orders:write"], &["orders:read"]), lacks(&["orders:write"]));
    for (any, code) in [
        (json!(["nope:x"]), "unknown_scope"),
        (json!([]), "out_of_range"),
        (json!("orders:read"), "invalid_type"),
        (json!([1]), "invalid_type"),
        (json!(null), "not_nullable"),
    ] {
        let question = json!({ "key": key.text, "anyScopes": any });
        let faults = server.post(&server.root.text, "/api/v1/api-keys/verify", &question).faults();
        assert_eq!(faults.len(), 1, "{any}");
        assert!(faults[0].0.starts_with("/anyScopes"), "{faults:?}");
        assert_eq!(faults[0].1, code, "{any}");
    }
}

#[test]
fn a_reason_stands_in_the_event_of_a_revocation() {
    let server = TestServer::start();
    let root = &server.root.text;
    let (account, owner) = server.account(&json!({ "name": "Acme" }));
    let (plain, leaked) = (named(&server, root, "plain"), named(&server, root, "leaked"));
    let itself = named(&server, root, "itself");
    server.delete(root, &plain.path()).expect(204);
    server
        .delete(root, &format!("{}?reason=%20leaked%20in%20a%20log%20", leaked.path()))
        .expect(204);
    server.delete(&itself.text, &format!("{KEYS}/self?reason=moved")).expect(204);
    let of_account = format!("/api/v1/accounts/{account}");
    server.delete(root, &format!("{of_account}?reason=unpaid")).expect(204);
    let events = server.events();
    let data = |subject: &str| {
        let about = events.iter().rev().find(|it| it["subject"] == subject).unwrap();
        about["data"].clone()
    };
    assert!(data(&plain.id).get("reasonText").is_none());
    assert_eq!(data(&leaked.id)["reasonText"], "leaked in a log");
    assert_eq!(data(&leaked.id)["reason"], "requested");
    assert_eq!(data(&itself.id)["reasonText"], "moved");
    assert_eq!(data(&account)["reasonText"], "unpaid");
    assert_eq!(data(&owner.id)["reason"], "account_deleted");
}

#[test]
fn a_reason_that_cannot_be_kept_revokes_nothing() {
    let server = TestServer::start();
    let root = &server.root.text;
    let key = named(&server, root, "key");
    let (account, _) = server.account(&json!({ "name": "Acme" }));
    let secret = server.key(&["orders:read"]).text;
    for path in [key.path(), format!("/api/v1/accounts/{account}")] {
        for (query, code) in [
            ("reason=", "out_of_range"),
            ("reason=%20", "out_of_range"),
            (&format!("reason={}", "x".repeat(201)), "out_of_range"),
            ("reason=a%0Ab", "invalid_format"),
            ("reason=a&reason=b", "duplicate"),
            ("why=a", "unknown_parameter"),
        ] {
            let answer = server.delete(root, &format!("{path}?{query}"));
            assert!(!answer.text().contains(&secret[12..]));
            let faults = answer.faults();
            assert_eq!((faults.len(), &*faults[0].1), (1, code), "{path} {query}");
        }
    }
    let leak = server.delete(root, &format!("{}?reason={secret}", key.path()));
    assert_eq!(leak.expect(400).problem(), "key_in_query");
    assert_eq!(server.code(&key.text), "VALID");
    let longest = format!("{}?reason={}", key.path(), "%C3%BC".repeat(200));
    server.delete(root, &longest).expect(204);
    assert_eq!(server.code(&key.text), "REVOKED");
}
