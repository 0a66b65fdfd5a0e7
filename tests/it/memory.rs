//! What memory holds of a key: its text once, however many credentials it has, and no metadata once no
//! verification shows it.

use std::time::Duration;

use keyward::service::Identity;
use serde_json::{Value, json};

use crate::support::{Key, TestServer};

/// Returns the name and the metadata that memory holds for this credential, and the address of each.
fn held(server: &TestServer, text: &str) -> (String, Option<String>, [usize; 2]) {
    server.code(text);
    let Identity::Known(entry) = server.app.identify(text.as_bytes()) else {
        panic!("the credential was used")
    };
    let (name, metadata) = (entry.key.name(), entry.key.metadata());
    let address = |it: &str| it.as_ptr() as usize;
    let addresses = [address(name), metadata.map_or(0, address)];
    (name.to_owned(), metadata.map(str::to_owned), addresses)
}

fn key(server: &TestServer, more: &Value) -> Key {
    let mut body = json!({
        "name": "Production",
        "scopes": ["orders:read"],
        "metadata": { "text": "x".repeat(4_000) },
    });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    server.create(&server.root.text, &body)
}

#[test]
fn the_credentials_of_a_key_share_its_name_and_metadata() {
    let mut server = TestServer::start();
    let first = key(&server, &json!({}));
    let mut texts = vec![first.text.clone()];
    for grace in [0, 0, 600, 600] {
        let body = json!({ "gracePeriodSeconds": grace });
        let made = server.rotate(&server.root.text, &first.id, &body);
        server.code(&made.text);
        texts.push(made.text);
    }
    let assert_shared = |server: &TestServer| {
        let all: Vec<_> = texts.iter().map(|it| held(server, it)).collect();
        assert_eq!(all[0].0, "Production");
        assert!(all[0].1.as_ref().is_some_and(|it| 4_000 < it.len()));
        assert!(all.iter().all(|it| *it == all[0]), "{:?}", all.iter().map(|it| it.2));
    };
    assert_shared(&server);
    server.put(&server.root.text, &first.path(), &json!({ "enabled": false })).expect(200);
    assert_shared(&server);
    server.restart(|_| ());
    assert_shared(&server);
}

#[test]
fn memory_and_verify_have_no_metadata_of_an_expired_key() {
    let mut server = TestServer::start();
    let key = key(&server, &json!({ "expiresIn": 60 }));
    assert!(held(&server, &key.text).1.is_some());
    let assert_hidden = |server: &TestServer, name: &str| {
        let answer = server.verify(&key.text, &[]);
        assert_eq!([&answer["code"], &answer["name"]], ["EXPIRED", name]);
        assert_eq!(answer["metadata"], json!({}));
    };
    server.advance(Duration::from_mins(1));
    assert_hidden(&server, "Production");
    assert_eq!(server.run_job("expire_keys"), 1);
    assert_hidden(&server, "Production");
    assert_eq!(held(&server, &key.text).1, None);
    // The entry is read again from the file after a change.
    server.put(&server.root.text, &key.path(), &json!({ "name": "Old" })).expect(200);
    assert_eq!(held(&server, &key.text).1, None);
    server.restart(|_| ());
    assert_hidden(&server, "Old");
    assert_eq!(held(&server, &key.text).1, None);
    let shown = server.get(&server.root.text, &key.path()).expect(200).json();
    assert_eq!(shown["metadata"]["text"].as_str().map(str::len), Some(4_000));
}

#[test]
fn an_event_about_a_change_of_everything_has_at_most_7_kib() {
    let server = TestServer::start();
    let key = server.key(&["orders:read"]);
    let settings = |mark: char, host: u16, len: usize| {
        let network =
            |i: u16| format!("ffff:ffff:ffff:ffff:ffff:ffff:{:x}:{:x}/128", 0xF000 + i, host);
        json!({
            "name": "\u{1F511}".repeat(99) + &mark.to_string(),
            "scopes": ["orders:write"],
            "expiresAt": format!("2030-01-31T12:00:0{}Z", host & 1),
            "metadata": { "x": mark.to_string().repeat(len) },
            "allowedIps": (0..50).map(network).collect::<Vec<_>>(),
            "rateLimit": { "limit": 1_000_000_000 - u32::from(host), "windowSeconds": 2_592_000 },
        })
    };
    let mut longest = 0;
    // {"x":""} is 8 bytes, and metadata of more than 256 bytes is not in the log.
    for (mark, host, len) in [('a', 0xFFFF, 248), ('b', 0xFFFE, 248), ('c', 0xFFFF, 4_000)] {
        server.put(&server.root.text, &key.path(), &settings(mark, host, len)).expect(200);
        longest = server.events().last().unwrap()["data"].to_string().len().max(longest);
    }
    assert!((5_000..7 * 1024).contains(&longest), "{longest}");
}
