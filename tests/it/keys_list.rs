//! Listing keys: all of them, in order, page by page, and never a plaintext key.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Key, Response, TestServer};

const KEYS: &str = "/api/v1/api-keys";
const DAY: Duration = Duration::from_hours(24);
const MILLISECOND: Duration = Duration::from_millis(1);

fn each(list: &Value, member: &str) -> Vec<String> {
    let data = list["data"].as_array().expect("a list");
    data.iter().map(|it| it[member].as_str().expect(member).to_owned()).collect()
}

/// Returns the names of the keys that this query finds.
#[track_caller]
fn found(server: &TestServer, caller: &str, query: &str) -> Vec<String> {
    each(&server.get(caller, &format!("{KEYS}?{query}")).expect(200).json(), "name")
}

/// Returns the address of the next page, as the answer gives it.
fn next_page(answer: &Response) -> Option<String> {
    let link = answer.header("link")?;
    let target = link.strip_prefix('<').and_then(|it| it.strip_suffix(">; rel=\"next\""));
    Some(target.unwrap_or_else(|| panic!("an unexpected link: {link}")).to_owned())
}

fn named(server: &TestServer, caller: &str, name: &str) -> Key {
    server.create(caller, &json!({ "name": name, "scopes": ["orders:read"] }))
}

fn expiring(server: &TestServer, caller: &str, name: &str, after: Duration) -> Key {
    let at = TestServer::EPOCH.after(after).to_string();
    server.create(caller, &json!({ "name": name, "scopes": ["orders:read"], "expiresAt": at }))
}

fn acme(server: &TestServer) -> String {
    server.account(&json!({ "name": "owner" })).1.text
}

#[test]
fn keys_are_listed_by_age_and_without_plaintext_keys() {
    let server = TestServer::start();
    let owner = acme(&server);
    let mut keys = vec![owner.clone()];
    for name in ["zebra", "ant", "moth"] {
        keys.push(named(&server, &owner, name).text);
        server.advance(MILLISECOND);
    }
    let answer = server.get(&owner, KEYS).expect(200);
    assert_eq!(each(&answer.json(), "name"), ["owner", "zebra", "ant", "moth"]);
    assert_eq!(answer.json()["nextCursor"], Value::Null);
    assert_eq!(answer.header("link"), None);
    assert!(keys.iter().all(|it| !answer.text().contains(&it[12..])), "{}", answer.text());
    assert!(answer.json()["data"].as_array().unwrap().iter().all(|it| it.get("key").is_none()));
}

#[test]
fn paging_loses_and_repeats_no_key_while_keys_are_made_and_revoked() {
    let server = TestServer::start();
    let owner = acme(&server);
    let keys: Vec<Key> = (0..25).map(|i| named(&server, &owner, &format!("k{i:02}"))).collect();
    let mut pages = Vec::new();
    let mut next = Some(format!("{KEYS}?limit=7&q=k"));
    while let Some(target) = next {
        let answer = server.get(&owner, &target).expect(200);
        pages.push(each(&answer.json(), "name"));
        next = next_page(&answer);
        let cursor = answer.json()["nextCursor"].as_str().map(str::to_owned);
        assert_eq!(cursor.is_some(), next.is_some());
        if let (Some(target), Some(cursor)) = (&next, cursor) {
            let plain = server.get(&owner, &format!("{KEYS}?limit=7&q=k&cursor={cursor}"));
            assert_eq!(plain.json(), server.get(&owner, target).expect(200).json());
        }
        if pages.len() == 1 {
            // The first key, the last one that was shown, the next one, and a later one.
            for gone in [0, 6, 7, 20] {
                server.delete(&owner, &keys[gone].path()).expect(204);
            }
            named(&server, &owner, "k25");
        }
        if pages.len() == 2 {
            server.advance(DAY);
            named(&server, &owner, "k26");
            server.put(&owner, &keys[22].path(), &json!({ "name": "k22 anew" })).expect(200);
        }
    }
    let lens: Vec<_> = pages.iter().map(Vec::len).collect();
    assert_eq!(lens, [7, 7, 7, 4]);
    let expected = (0..27).filter(|i| ![7, 20].contains(i)).map(|i| match i {
        22 => "k22 anew".to_owned(),
        i => format!("k{i:02}"),
    });
    assert_eq!(pages.concat(), expected.collect::<Vec<_>>());
}

#[test]
fn a_page_that_ends_exactly_at_the_last_key_is_the_last() {
    let server = TestServer::start();
    let owner = acme(&server);
    named(&server, &owner, "one");
    let answer = server.get(&owner, &format!("{KEYS}?limit=2")).expect(200);
    assert_eq!(each(&answer.json(), "name"), ["owner", "one"]);
    assert_eq!((&answer.json()["nextCursor"], answer.header("link")), (&Value::Null, None));
}

#[test]
fn the_link_keeps_every_filter_of_the_request() {
    let server = TestServer::start();
    let owner = acme(&server);
    for i in 0..3 {
        named(&server, &owner, &format!("a b&c={i}"));
        named(&server, &owner, "other");
    }
    let first = format!("{KEYS}?limit=2&q=a%20b%26c%3D&scope=orders:read&status=active");
    let answer = server.get(&owner, &first).expect(200);
    assert_eq!(each(&answer.json(), "name"), ["a b&c=0", "a b&c=1"]);
    let rest = server.get(&owner, &next_page(&answer).unwrap()).expect(200);
    assert_eq!(each(&rest.json(), "name"), ["a b&c=2"]);
}

#[test]
fn a_status_changes_at_the_millisecond() {
    let server = TestServer::start();
    let owner = acme(&server);
    let second = Duration::from_secs(1);
    expiring(&server, &owner, "seven days", second + 7 * DAY);
    expiring(&server, &owner, "under seven days", second + 7 * DAY - MILLISECOND);
    expiring(&server, &owner, "a moment", second + MILLISECOND);
    expiring(&server, &owner, "over", second);
    let off = expiring(&server, &owner, "over and off", second);
    server.put(&owner, &off.path(), &json!({ "enabled": false })).expect(200);
    server.advance(second);
    for (status, names) in [
        ("active", &["owner", "seven days"][..]),
        ("expiring", &["under seven days", "a moment"]),
        ("expired", &["over"]),
        ("disabled", &["over and off"]),
    ] {
        let list = server.get(&owner, &format!("{KEYS}?status={status}")).expect(200).json();
        assert_eq!(each(&list, "name"), names, "{status}");
        assert!(each(&list, "status").iter().all(|it| it == status), "{list}");
    }
}

#[test]
fn a_scope_filter_finds_exactly_the_keys_with_this_scope() {
    let server = TestServer::with(|config| {
        let mut longer = config.scopes[0].clone();
        longer.name = "orders:read-only".to_owned();
        config.scopes.push(longer);
    });
    let root = &server.root.text;
    for scopes in [["orders:read", "orders:write"], ["orders:read-only", "events:read"]] {
        server.create(root, &json!({ "name": scopes[0], "scopes": scopes }));
    }
    assert_eq!(found(&server, root, "scope=orders:read"), ["orders:read"]);
    assert_eq!(found(&server, root, "scope=orders:read-only"), ["orders:read-only"]);
    assert_eq!(found(&server, root, "scope=events:read"), ["orders:read-only"]);
    assert_eq!(found(&server, root, "scope=products:read"), [""; 0]);
}

#[test]
fn unused_since_finds_keys_made_before_it_and_not_used_since() {
    let server = TestServer::start();
    let (owner, hour) = (acme(&server), Duration::from_hours(1));
    named(&server, &owner, "never used");
    let used = named(&server, &owner, "used");
    server.advance(hour);
    assert_eq!(server.code(&used.text), "VALID");
    server.advance(hour);
    named(&server, &owner, "new");
    let since = |after: Duration| {
        let query = format!("unusedSince={}", TestServer::EPOCH.after(after));
        found(&server, &owner, &query)
    };
    assert_eq!(since(Duration::ZERO), [""; 0], "none is older");
    assert_eq!(since(MILLISECOND), ["never used"]);
    assert_eq!(since(hour), ["never used"], "it was used at this very instant");
    assert_eq!(since(hour + MILLISECOND), ["never used", "used"]);
    assert_eq!(since(2 * hour), ["never used", "used"]);
    server.advance(hour);
    assert_eq!(since(3 * hour), ["never used", "used", "new"], "but not the key that asks");
}

#[test]
fn expiring_before_excludes_its_instant_and_keys_that_never_expire() {
    let server = TestServer::start();
    let owner = acme(&server);
    expiring(&server, &owner, "day", DAY);
    expiring(&server, &owner, "later", DAY + MILLISECOND);
    let before = |after: Duration| {
        let query = format!("expiringBefore={}", TestServer::EPOCH.after(after));
        found(&server, &owner, &query)
    };
    assert_eq!(before(DAY), [""; 0]);
    assert_eq!(before(DAY + MILLISECOND), ["day"]);
    assert_eq!(before(9_999 * DAY), ["day", "later"]);
}

#[test]
fn q_matches_a_part_of_the_name_in_any_case_or_the_start_of_the_prefix() {
    let server = TestServer::start();
    let owner = acme(&server);
    for name in ["Billing agent", "nightly BILLING", "100% _done_"] {
        named(&server, &owner, name);
    }
    let shop = named(&server, &owner, "shop");
    for (q, names) in [
        ("billing", &["Billing agent", "nightly BILLING"][..]),
        ("BILLING%20A", &["Billing agent"]),
        ("%25", &["100% _done_"]),
        ("_done_", &["100% _done_"]),
        ("n_ghtly", &[]),
        ("*", &[]),
        (&shop.text[..12], &["shop"]),
        (&shop.text[..8], &["shop"]),
        (&shop.text[3..12], &[]),
    ] {
        assert_eq!(found(&server, &owner, &format!("q={q}")), names, "{q}");
    }
    assert_eq!(found(&server, &owner, "q=rg_").len(), 5);
}

#[test]
fn q_ignores_the_case_of_every_letter() {
    let server = TestServer::start();
    let owner = acme(&server);
    named(&server, &owner, "Übersicht ÄÖ");
    for q in ["%C3%9Cbersicht", "%C3%BCBERSICHT", "%C3%A4%C3%B6"] {
        assert_eq!(found(&server, &owner, &format!("q={q}")), ["Übersicht ÄÖ"], "{q}");
    }
}

#[test]
fn all_faults_of_a_query_are_reported_at_once() {
    let server = TestServer::start();
    let root = &server.root.text;
    let query = "limit=0&cursor=nope&status=live&scope=Orders&unusedSince=yesterday\
                 &expiringBefore=2025-02-30T00:00:00Z&q=&colour=red&status=live";
    let mut faults = server.get(root, &format!("{KEYS}?{query}")).faults();
    faults.sort();
    let bad = |name: &str| (format!("/{name}"), "invalid_format".to_owned());
    let mut expected = vec![
        ("/colour".to_owned(), "unknown_parameter".to_owned()),
        ("/status".to_owned(), "duplicate".to_owned()),
    ];
    let malformed =
        ["limit", "cursor", "status", "scope", "unusedSince", "expiringBefore", "q"].map(bad);
    expected.extend(malformed);
    expected.sort();
    assert_eq!(faults, expected);
    for limit in ["0", "1001", "-1", "1.5", "%2B5", "", "4294967297", "all", "5%20"] {
        let faults = server.get(root, &format!("{KEYS}?limit={limit}")).faults();
        assert_eq!(faults, [bad("limit")], "{limit}");
    }
    for limit in ["1", "1000"] {
        server.get(root, &format!("{KEYS}?limit={limit}")).expect(200);
    }
}

#[test]
fn a_revoked_key_is_in_no_list() {
    let server = TestServer::start();
    let owner = acme(&server);
    let gone = named(&server, &owner, "gone");
    server.delete(&owner, &gone.path()).expect(204);
    server.advance(MILLISECOND);
    let later = TestServer::EPOCH.after(MILLISECOND);
    for query in [
        "limit=9".to_owned(),
        "q=gone".to_owned(),
        format!("q={}", &gone.text[..12]),
        "scope=orders:read&q=gone".to_owned(),
        "status=active&q=gone".to_owned(),
        "status=disabled".to_owned(),
        format!("unusedSince={later}&q=gone"),
    ] {
        assert!(!found(&server, &owner, &query).contains(&"gone".to_owned()), "{query}");
    }
}

#[test]
fn a_filter_by_an_unknown_scope_is_refused() {
    let mut server = TestServer::start();
    let (account, first) = server.account(&json!({ "name": "x" }));
    let (_, other) = server.account(&json!({ "name": "y", "allowedScopes": ["products:read"] }));
    let ask = |server: &TestServer, caller: &str, path: &str, scope: &str| {
        let answer = server.get(caller, &format!("{path}?scope={scope}"));
        if answer.status == 200 { vec![] } else { answer.faults() }
    };
    let unknown = [("/scope".to_owned(), "unknown_scope".to_owned())];
    let of_account = format!("/api/v1/accounts/{account}/api-keys");
    for (caller, path) in
        [(&server.root.text, KEYS), (&first.text, KEYS), (&server.root.text, &of_account)]
    {
        assert_eq!(ask(&server, caller, path, "nope:x"), unknown);
        assert_eq!(ask(&server, caller, path, "webhooks:read"), []);
    }
    server.restart(|it| it.scopes.retain(|it| it.name != "orders:read"));
    let root = server.root.text.clone();
    assert_eq!(ask(&server, &root, KEYS, "orders:read"), [], "an account's keys have it");
    assert_eq!(ask(&server, &first.text, KEYS, "orders:read"), []);
    assert_eq!(ask(&server, &other.text, KEYS, "orders:read"), unknown);
    // A key of the operator learns no more than the keys that it sees.
    let narrow =
        server.create(&root, &json!({ "name": "n", "scopes": ["api-keys:read"] })).text.clone();
    assert_eq!(ask(&server, &narrow, KEYS, "orders:read"), unknown);
}
