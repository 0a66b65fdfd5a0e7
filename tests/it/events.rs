//! Reading the audit log: who did what, in one unbroken chain, each event only for its readers.

use std::time::Duration;

use pbkdf2::sha2::{Digest, Sha256};
use serde_json::{Value, json};

use crate::support::{Key, Request, Response, TestServer};

const EVENTS: &str = "/api/v1/events";
const KEYS: &str = "/api/v1/api-keys";
const ACCOUNTS: &str = "/api/v1/accounts";

fn list(server: &TestServer, caller: &str, query: &str) -> Vec<Value> {
    let answer = server.get(caller, &format!("{EVENTS}?{query}")).expect(200).json();
    answer["data"].as_array().expect("a list").clone()
}

fn each<'a>(events: &'a [Value], member: &str) -> Vec<&'a Value> {
    events.iter().map(|it| &it[member]).collect()
}

fn seqs(events: &[Value]) -> Vec<i64> {
    events.iter().map(|it| it["seq"].as_i64().expect("a number")).collect()
}

/// Makes a few events of most kinds: a customer, its keys and the operator's, a rotation, a
/// revocation.
fn busy() -> (TestServer, String, Key) {
    let server = TestServer::start();
    let (account, owner) = server.account(&json!({ "name": "Acme" }));
    let key = server.create(&owner.text, &json!({ "name": "k", "scopes": ["orders:read"] }));
    server.advance(Duration::from_secs(1));
    server.rotate(&owner.text, &key.id, &json!({}));
    server.put(&server.root.text, &key.path(), &json!({ "name": "ours" })).expect(200);
    server.delete(&owner.text, &key.path()).expect(204);
    server.key(&["orders:read"]);
    (server, account, owner)
}

#[test]
fn every_change_has_an_event_with_actor_subject_and_source() {
    let server = TestServer::start();
    let root = &server.root;
    let (account, _) = server.account(&json!({ "name": "Acme" }));
    let key = server.key(&["orders:read"]);
    let path = format!("{ACCOUNTS}/{account}");
    let ask = |method: &str, target: &str, body: Value| {
        server.send(&Request::new(method, target).key(&root.text).json(&body))
    };
    let (rotate, complete) =
        (format!("{}/rotate", key.path()), format!("{}/rotate/complete", key.path()));
    let made = json!({ "name": "n", "scopes": ["orders:read"] });
    let cases: [(Response, &[&str], Option<&str>); 8] = [
        (ask("POST", KEYS, made.clone()), &["api_key.created"], None),
        (ask("POST", &format!("{path}/api-keys"), made), &["api_key.created"], None),
        (ask("PUT", &key.path(), json!({ "name": "x" })), &["api_key.updated"], Some(&key.id)),
        (ask("PATCH", &key.path(), json!({ "name": "y" })), &["api_key.updated"], Some(&key.id)),
        (ask("POST", &rotate, json!({})), &["api_key.rotated"], Some(&key.id)),
        (ask("POST", &complete, json!({})), &["api_key.grace_ended"], Some(&key.id)),
        (ask("DELETE", &key.path(), json!({})), &["api_key.revoked"], Some(&key.id)),
        (ask("PUT", &path, json!({ "name": "B" })), &["account.updated"], Some(&account)),
    ];
    let operator = server.get(&root.text, "/api/v1/api-keys/self").expect(200).json();
    let operator = &operator["accountId"];
    let actor = json!({
        "type": "key", "keyId": root.id, "keyName": "Root key", "keyPrefix": root.text[..12], "accountId": operator,
    });
    let caused_by = |answer: &Response| -> Vec<Value> {
        let request = answer.header("x-request-id").expect("an identifier");
        server.events().into_iter().filter(|it| it["requestId"] == request).collect()
    };
    for (answer, types, subject) in cases {
        assert!(answer.status < 300, "{}", answer.text());
        let events = caused_by(&answer);
        assert_eq!(each(&events, "type"), types);
        let body = answer.json();
        let subject = subject.map_or_else(|| body["id"].clone(), Value::from);
        for event in events {
            assert_eq!((&event["subject"], &event["actor"]), (&subject, &actor), "{types:?}");
            assert_eq!(event["clientIp"], "127.0.0.1");
        }
    }
    let made = ask("POST", ACCOUNTS, json!({ "name": "C" })).expect(201);
    assert_eq!(each(&caused_by(&made), "type"), ["account.created", "api_key.created"]);
    let gone = server.delete(&root.text, &path).expect(204);
    let types = ["api_key.revoked", "api_key.revoked", "account.deleted"];
    assert_eq!(each(&caused_by(&gone), "type"), types);
}

#[test]
fn a_request_id_from_the_client_is_in_the_event() {
    let server = TestServer::start();
    let request = Request::new("PUT", &server.root.path()).key(&server.root.text);
    let request = request.header("X-Request-Id", "build-7").json(&json!({ "name": "mine" }));
    server.send(&request).expect(200);
    assert_eq!(server.events().pop().unwrap()["requestId"], "build-7");
}

#[test]
fn an_event_without_an_actor_comes_from_the_command_line_or_the_scheduler() {
    let server = TestServer::start();
    let body =
        json!({ "name": "k", "scopes": ["orders:read"], "expiresAt": "2026-01-01T01:00:00Z" });
    let key = server.create(&server.root.text, &body);
    server.advance(Duration::from_hours(1));
    assert_eq!(server.run_job("expire_keys"), 1);
    assert_eq!(server.run_job("expire_keys"), 0, "once");
    let events = server.events();
    let keyless = |kind: &str| json!({ "type": kind, "keyId": null, "keyName": null, "keyPrefix": null, "accountId": null });
    for (event, kind) in [(&events[0], "cli"), (events.last().unwrap(), "scheduler")] {
        assert_eq!(event["actor"], keyless(kind));
        assert_eq!((&event["requestId"], &event["clientIp"]), (&Value::Null, &Value::Null));
    }
    let last = events.last().unwrap();
    assert_eq!((&last["type"], &last["subject"]), (&json!("api_key.expired"), &json!(key.id)));
    assert_eq!(last["time"], "2026-01-01T01:00:00.000Z");
}

#[test]
fn event_numbers_have_no_gap_even_over_a_restart() {
    let (mut server, ..) = busy();
    server.put(&server.root.text, &server.root.path(), &json!({ "name": 1 })).expect(422);
    server.restart(|_| ());
    let events = server.events();
    assert_eq!(seqs(&events), (1..=i64::try_from(events.len()).unwrap()).collect::<Vec<_>>());
    let types = each(&events, "type");
    assert_eq!(types[..3], ["account.created", "api_key.created", "server.started"]);
    assert_eq!(types[types.len() - 2..], ["server.stopped", "server.started"]);
}

#[test]
fn every_filter_selects_the_right_events() {
    let (server, account, owner) = busy();
    let root = &server.root;
    let all = server.events();
    let check = |query: String, wanted: &dyn Fn(&Value) -> bool| {
        let expected: Vec<_> = all.iter().filter(|it| wanted(it)).cloned().collect();
        assert!(
            !expected.is_empty() && expected.len() < all.len(),
            "{query} must select some and not all"
        );
        assert_eq!(list(&server, &root.text, &query), expected, "{query}");
        let mut newest_first = list(&server, &root.text, &format!("{query}&order=desc"));
        newest_first.reverse();
        assert_eq!(newest_first, expected, "{query}");
    };
    let text = |it: &Value, member: &str| it[member].as_str().unwrap_or_default().to_owned();
    let later = "2026-01-01T00:00:01.000Z";
    check("type=api_key.created".into(), &|it| it["type"] == "api_key.created");
    check(format!("subject={account}"), &|it| it["subject"] == account);
    check("subject=keyward".into(), &|it| it["subject"] == "keyward");
    check(format!("subject={}", owner.id), &|it| it["subject"] == owner.id);
    check(format!("actor={}", root.id), &|it| it["actor"]["keyId"] == root.id);
    check("actor=cli".into(), &|it| it["actor"]["type"] == "cli");
    check("after=3".into(), &|it| 3 < it["seq"].as_i64().unwrap());
    check(format!("since={later}"), &|it| *later <= *text(it, "time"));
    check(format!("until={later}"), &|it| *text(it, "time") < *later);
    check(format!("account={account}"), &|it| it["accountId"] == account);
    assert_eq!(list(&server, &root.text, "account=all"), all);
    check(format!("type=api_key.created&actor={}&after=2", root.id), &|it| {
        it["type"] == "api_key.created" && it["actor"]["keyId"] == root.id
    });
    for nothing in ["type=api_key.purged", "actor=scheduler", "after=999999"] {
        assert_eq!(list(&server, &root.text, nothing), [Value::Null; 0]);
    }
    let query = "account=me&limit=0&cursor=x&after=-1&type=key.made&subject=me&actor=you&since=now&until=&order=new&x=1";
    let mut faults = server.get(&root.text, &format!("{EVENTS}?{query}")).faults();
    faults.sort();
    let names = [
        "account", "actor", "after", "cursor", "limit", "order", "since", "subject", "type",
        "until",
    ];
    let mut expected = names.map(|it| (format!("/{it}"), "invalid_format".to_owned())).to_vec();
    expected.push(("/x".to_owned(), "unknown_parameter".to_owned()));
    assert_eq!(faults, expected);
}

#[test]
fn paging_by_cursor_returns_every_event_once_while_more_are_written() {
    let (server, ..) = busy();
    let root = &server.root.text;
    let (mut seen, mut target) =
        (Vec::new(), format!("{EVENTS}?limit=2&since=2026-01-01T00:00:00Z"));
    loop {
        let page = server.get(root, &target).expect(200);
        seen.extend(page.json()["data"].as_array().unwrap().clone());
        if seen.len() == 4 {
            server.key(&["orders:read"]);
        }
        let Some(link) = page.header("link") else { break };
        let cursor = page.json()["nextCursor"].as_str().unwrap().to_owned();
        link.strip_prefix('<')
            .and_then(|it| it.strip_suffix(">; rel=\"next\""))
            .unwrap()
            .clone_into(&mut target);
        assert!(target.ends_with(&format!("cursor={cursor}")), "{target}");
    }
    assert_eq!(seen, server.events());
}

#[test]
fn pages_of_the_newest_events_first_leave_out_only_those_that_came_since() {
    let (server, ..) = busy();
    let root = &server.root.text;
    let mut expected = server.events();
    expected.retain(|it| 2 < it["seq"].as_i64().unwrap());
    expected.reverse();
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    loop {
        let query = format!("{EVENTS}?order=desc&limit=2&after=2{cursor}");
        let page = server.get(root, &query).expect(200).json();
        seen.extend(page["data"].as_array().unwrap().clone());
        server.key(&["orders:read"]);
        let Some(next) = page["nextCursor"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    assert_eq!(seen, expected);
    for (order, opposite) in [("asc", "desc"), ("desc", "asc")] {
        let first = server.get(root, &format!("{EVENTS}?order={order}&limit=1")).expect(200);
        let cursor = first.json()["nextCursor"].as_str().unwrap().to_owned();
        let answer = server.get(root, &format!("{EVENTS}?order={opposite}&cursor={cursor}"));
        assert_eq!(answer.faults(), [("/cursor".to_owned(), "invalid_format".to_owned())]);
    }
}

#[test]
fn one_event_is_found_only_by_its_number() {
    let (server, _, owner) = busy();
    let root = &server.root.text;
    for event in server.events() {
        assert_eq!(
            server.get(root, &format!("{EVENTS}/{}", event["seq"])).expect(200).json(),
            event
        );
    }
    for own in list(&server, &owner.text, "") {
        let shown = server.get(&owner.text, &format!("{EVENTS}/{}", own["seq"])).expect(200);
        assert_eq!(shown.json(), own);
    }
    let bare = |answer: Response| {
        let id = answer.header("x-request-id").unwrap().to_owned();
        (answer.status, answer.text().replace(&id, "ID"))
    };
    let never = bare(server.get(&owner.text, &format!("{EVENTS}/999999")));
    assert_eq!(never.0, 404);
    // None of the first three is about the account of the caller.
    for seq in ["1", "2", "3", "0", "-1", "+4", "04", "4.0", "x", "99999999999999999999"] {
        assert_eq!(bare(server.get(&owner.text, &format!("{EVENTS}/{seq}"))), never, "{seq}");
    }
}

#[test]
fn an_account_sees_its_own_events_and_no_details_of_the_operator() {
    let (server, account, owner) = busy();
    let answer = server.get(&owner.text, EVENTS).expect(200);
    let own = answer.json()["data"].as_array().unwrap().clone();
    let operator = server.get(&server.root.text, "/api/v1/accounts/self").expect(200).json();
    let others = operator["id"].as_str().unwrap();
    for (selected, expected) in [(&*account, &own[..]), ("all", &own), (others, &[])] {
        assert_eq!(list(&server, &owner.text, &format!("account={selected}")), expected);
    }
    let all = server.events();
    let about: Vec<_> = all.iter().filter(|it| it["accountId"] == account).cloned().collect();
    assert_eq!(seqs(&own), seqs(&about));
    let keyless = json!({ "type": "operator", "keyId": null, "keyName": null, "keyPrefix": null, "accountId": null });
    let mut faceless = 0;
    for (shown, whole) in own.iter().zip(&about) {
        let mut expected = whole.clone();
        if whole["actor"]["keyId"] == server.root.id {
            expected["actor"] = keyless.clone();
            expected["clientIp"] = json!("operator");
            faceless += 1;
        } else {
            assert_eq!(shown["clientIp"], "127.0.0.1");
        }
        assert_eq!(shown, &expected);
    }
    assert_eq!(faceless, 3, "the account, its first key and one change");
    for secret in [&*server.root.id, &server.root.text[..12]] {
        assert!(!answer.text().contains(secret), "{}", answer.text());
    }
}

#[test]
fn a_filter_does_not_reveal_to_an_account_which_key_of_the_operator_acted() {
    let (server, _, owner) = busy();
    let query = format!("actor={}", server.root.id);
    assert_eq!(list(&server, &owner.text, &query), [Value::Null; 0]);
}

#[test]
fn events_are_only_for_callers_with_the_scope() {
    let server = TestServer::start();
    let key = server.key(&["api-keys:read", "accounts:read"]);
    for target in [EVENTS.to_owned(), format!("{EVENTS}/1")] {
        assert_eq!(server.get(&key.text, &target).expect(403).problem(), "missing_scope");
    }
}

#[test]
fn no_key_is_in_any_event() {
    let (server, _, owner) = busy();
    let text = server.get(&server.root.text, EVENTS).expect(200).text();
    for key in [&owner.text, &server.root.text] {
        assert!(!text.contains(&key[12..]) && text.contains(&key[..12]));
    }
    for stored in ["$pbkdf2", "pbkdf2-sha256"] {
        assert!(!text.contains(stored));
    }
}

/// Encodes a text as the hash covers it: its length, then its bytes. An absent text has no length.
fn encoded(text: Option<&str>) -> Vec<u8> {
    let len = text.map_or(u64::MAX, |it| it.len() as u64);
    [&len.to_be_bytes()[..], text.unwrap_or_default().as_bytes()].concat()
}

/// Computes the hash of an event by the documented encoding, only from the members of the answer.
fn hash(event: &Value) -> String {
    let text = |member: &str| event[member].as_str();
    let actor = &event["actor"];
    let key = actor["keyId"].as_str();
    let data = event["data"].to_string();
    let millis = keyward::env::Timestamp::parse(text("time").unwrap()).unwrap().as_millis();
    let previous = text("prevHash").unwrap();
    let bytes = (0..64).step_by(2).map(|i| u8::from_str_radix(&previous[i..i + 2], 16).unwrap());
    let mut hasher = Sha256::new();
    hasher.update(b"keyward event v1\n");
    hasher.update(bytes.collect::<Vec<_>>());
    hasher.update(event["seq"].as_i64().unwrap().to_be_bytes());
    hasher.update(millis.to_be_bytes());
    for field in [
        text("type"),
        text("accountId"),
        Some(key.unwrap_or_else(|| actor["type"].as_str().unwrap())),
        actor["keyPrefix"].as_str(),
        actor["accountId"].as_str(),
        text("subject"),
        text("requestId"),
        text("clientIp"),
        Some(&*data),
    ] {
        hasher.update(encoded(field));
    }
    hasher.finalize().iter().map(|it| format!("{it:02x}")).collect()
}

#[test]
fn the_chain_can_be_recomputed_from_the_answers() {
    let (mut server, _, owner) = busy();
    let metadata = json!({ "z": 1.5, "a": ["ü\"\\\n\u{7f}", null, 1e300], "n": -0.0, "b": {} });
    server.put(&owner.text, &owner.path(), &json!({ "metadata": metadata })).expect(200);
    server.restart(|_| ());
    let events = server.events();
    let text = |it: &Value| it.as_str().unwrap().to_owned();
    let mut previous = "0".repeat(64);
    for event in &events {
        assert_eq!(event["prevHash"], previous, "{event}");
        assert_eq!(event["hash"], hash(event), "{event}");
        previous = text(&event["hash"]);
    }
    assert!(10 < events.len());
}
