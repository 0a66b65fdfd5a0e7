//! What tells of a link: its address, its events and the command that prints it.

use serde_json::{Value, json};

use super::{Link, MINUTE, ROTATE, SELF, ask, assert_refused, link, path, rotated};
use crate::{
    cli_keys::Way,
    support::{Binary, Key, Request, TestServer},
};

#[test]
fn events_name_the_link_and_the_person_who_made_it() {
    let server = TestServer::start();
    let (account, first) = server.account(&json!({ "name": "Acme" }));
    let body =
        json!({ "name": "alice", "scopes": ["accounts:write", "events:read", "api-keys:write"] });
    let alice = server.create(&server.root.text, &body);
    let made = Link::of(ask(&server, &alice.text, &account, &json!({})).expect(201).json());
    let browser = rotated(&server, &made.key);
    let key = server.create(&browser, &json!({ "name": "shop", "scopes": ["orders:read"] }));
    let find = |caller: &str, event_type: &str, subject: &str| {
        let list =
            server.get(caller, &format!("/api/v1/events?type={event_type}&subject={subject}"));
        let list = list.expect(200).json();
        let list = list["data"].as_array().unwrap();
        assert_eq!(list.len(), 1, "{list:?}");
        list[0].clone()
    };
    let created = find(&server.root.text, "api_key.created", &made.id);
    assert_eq!(created["data"]["consoleLink"], true);
    assert_eq!(
        (&created["actor"]["keyId"], &created["actor"]["keyName"]),
        (&json!(alice.id), &json!("alice"))
    );
    assert!(!created.to_string().contains(&made.key[12..]));
    // No notice that the link ends: its end is always near.
    server.run_job("notices");
    assert_eq!(server.story_of(&made.id), ["api_key.created", "api_key.rotated"]);
    // The account sees what the link did, but not who of the operator made it.
    let created = find(&first.text, "api_key.created", &made.id);
    assert_eq!(created["data"]["consoleLink"], true);
    let hidden = json!({ "type": "operator", "keyId": null, "keyName": null, "keyPrefix": null, "accountId": null });
    assert_eq!(created["actor"], hidden);
    for (event_type, subject) in [("api_key.rotated", &made.id), ("api_key.created", &key.id)] {
        let event = find(&first.text, event_type, subject);
        assert_eq!(event["actor"]["keyId"], made.id);
        assert_eq!(event["actor"]["keyName"], "Console link");
    }
    assert!(find(&first.text, "api_key.created", &key.id)["data"].get("consoleLink").is_none());
}

#[test]
fn an_event_shows_the_name_of_its_actor_now_and_after_the_purge() {
    let server = TestServer::start();
    let alice = server.create(&server.root.text, &json!({ "name": "alice", "scopes": ["*"] }));
    let key = server.create(&alice.text, &json!({ "name": "x", "scopes": ["orders:read"] }));
    let name = |caller: &Key| {
        let path = format!("/api/v1/events?type=api_key.created&subject={}", key.id);
        let list = server.get(&caller.text, &path).expect(200).json();
        let seq = list["data"][0]["seq"].as_i64().unwrap();
        let one = server.get(&caller.text, &format!("/api/v1/events/{seq}")).expect(200).json();
        assert_eq!(one, list["data"][0]);
        one["actor"]["keyName"].clone()
    };
    assert_eq!(name(&server.root), "alice");
    server.put(&server.root.text, &alice.path(), &json!({ "name": "Alice Example" })).expect(200);
    assert_eq!(name(&server.root), "Alice Example");
    server.delete(&server.root.text, &alice.path()).expect(204);
    assert_eq!(name(&server.root), "Alice Example");
    server.advance(31 * 24 * 60 * MINUTE);
    server.run_job("purge");
    assert_eq!(server.story_of(&alice.id).last().unwrap(), "api_key.purged");
    assert_eq!(name(&server.root), "alice", "as the log says that it was created");
    // Jobs and commands are no keys.
    let events = server.events();
    let scheduler = events.iter().find(|it| it["actor"]["type"] == "scheduler").unwrap();
    assert_eq!(scheduler["actor"]["keyName"], Value::Null);
}

#[test]
fn a_lost_link_is_repeated_with_its_idempotency_key() {
    let mut server = TestServer::start();
    let (account, _) = server.account(&json!({ "name": "Acme" }));
    let request = Request::new("POST", &path(&account))
        .key(&server.root.text)
        .header("Idempotency-Key", "a")
        .json(&json!({ "expiresIn": 120 }));
    let first = server.send(&request).expect(201);
    server.restart(|_| ());
    let again = server.send(&request).expect(201);
    assert_eq!(again.body, first.body);
    assert_eq!(again.header("idempotency-replayed"), Some("true"));
    let made = Link::of(first.json());
    rotated(&server, &made.key);
    assert_refused(&server.send(&request), 409, "idempotent_result_revoked");
    // A rotation without a grace period cannot be repeated: the link asks for it once.
    let made = link(&server, &account, &json!({}));
    let rotate = Request::new("POST", ROTATE).key(&made.key).header("Idempotency-Key", "b");
    server.send(&rotate).expect(200);
    assert_refused(&server.send(&rotate), 401, "key_rotated");
}

#[test]
fn the_address_of_a_link_is_the_configured_one_or_that_of_the_request() {
    let server = TestServer::start();
    let (account, _) = server.account(&json!({ "name": "Acme" }));
    let url = |server: &TestServer, headers: &[(&str, &str)]| {
        let request = Request::new("POST", &path(&account)).key(&server.root.text);
        let request = headers.iter().fold(request, |it, (name, value)| it.header(name, value));
        let url = server.send(&request).expect(201).json()["url"].as_str().unwrap().to_owned();
        url.split_once("/console/#key=rg_").expect("the console").0.to_owned()
    };
    assert_eq!(url(&server, &[("Host", "k.example:8080")]), "http://k.example:8080");
    // The proxy that ends TLS is on this machine, so it is trusted.
    let behind = [("Host", "k.example"), ("X-Forwarded-Proto", "https")];
    assert_eq!(url(&server, &behind), "https://k.example");
    let elsewhere = Request::new("POST", &path(&account)).header("Host", "user@evil.example");
    server.send(&elsewhere.key(&server.root.text)).expect(400);
    let mut server = server;
    server.restart(|config| config.trusted_proxies.clear());
    assert_eq!(url(&server, &behind), "http://k.example");
    server.restart(|config| config.public_url = Some("https://keys.example.com".to_owned()));
    assert_eq!(url(&server, &behind), "https://keys.example.com");
}

#[test]
fn the_command_prints_only_the_link() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let server = Binary::serve(&data);
    let (root, address) = (server.root_key(), server.address);
    for way in [Way::Here(&data), Way::Network { server: &server, key: &root }] {
        let account = way.json(&["accounts", "create", "--name", "Acme"]);
        let id = account["id"].as_str().unwrap();
        let options = ["--scope", "api-keys:read", "--expires-in", "2m", "--name", "Ticket 7"];
        let output = way.try_run(&[&["accounts", "link", id], &options[..]].concat(), "");
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(0), "{said}");
        assert!(said.contains("works for one browser, until 20"), "{said}");
        let url = String::from_utf8(output.stdout).unwrap();
        let key = url.strip_prefix(&format!("http://{address}/console/#key="));
        let key = key.unwrap_or_else(|| panic!("{url}")).trim_end();
        assert!(!said.contains(&key[12..]));
        let shown = Request::new("GET", SELF).key(key).send(address).expect(200).json();
        assert_eq!((&shown["accountId"], &shown["name"]), (&json!(id), &json!("Ticket 7")));
        assert_eq!(shown["scopes"], json!(["api-keys:read", "api-keys:rotate"]));
        let made = Link::of(way.json(&["accounts", "link", id]));
        assert!(made.body["apiKey"]["scopes"].as_array().unwrap().len() > 3);
        let page = Request::new("GET", "/console/").send(address).expect(200);
        assert!(page.text().contains("<script"));
        assert!(way.run(&["keys", "show", &made.id]).contains("console link"));
        way.refused(&["accounts", "link", id, "--expires-in", "2d"], 2);
        way.refused(&["accounts", "link", "cust_unknown"], 1);
        way.refused(&["accounts", "link", "self"], 1);
    }
    drop(server);
    // Without a server, the configured address of the server is in the link.
    let way = Way::Here(&data);
    let account = way.json(&["accounts", "create", "--name", "Acme"]);
    let url = way.run(&["accounts", "link", account["id"].as_str().unwrap()]);
    assert!(url.starts_with("http://127.0.0.1:8080/console/#key=rg_"), "{url}");
}
