//! Keys of another system, taken over without reissuing them.

use std::{collections::HashMap, time::Duration};

use keyward::{
    domain::{
        foreign_key::{ForeignKey, Material, Origin, Tagger},
        scope::ScopeSet,
        text::{Metadata, Name},
    },
    service::{ImportRow, NewKey},
};
use serde_json::{Value, json};

use crate::support::{
    Binary, Request, TestServer,
    import::{OLD, code, import, place, rows, sha256, sha512, verify},
};

fn three_kinds() -> (String, [String; 3]) {
    let keys = ["a", "b", "c"].map(|it| format!("{OLD}{it}"));
    let rows = rows(&[
        json!({ "name": "raw", "scopes": ["orders:read"], "key": keys[0] }),
        json!({ "name": "sha256", "scopes": ["orders:read"], "sha256": sha256(&keys[1]) }),
        json!({ "name": "sha512", "scopes": ["orders:read"], "sha512": sha512(&keys[2]) }),
    ]);
    (rows, keys)
}

#[test]
fn keys_of_every_kind_work_at_once_and_after_a_restart() {
    let (_dir, data) = place();
    let server = Binary::serve(&data);
    let root = server.root_key();
    let (rows, keys) = three_kinds();
    assert_eq!(code(&server, &root, &keys[0]), "MALFORMED", "as long as nothing was imported");
    let (exit, report) = import(&data, "keys.jsonl", &rows, &[]);
    assert_eq!((exit, &report["accepted"]), (0, &json!(3)), "{report}");
    for (key, name) in keys.iter().zip(["raw", "sha256", "sha512"]) {
        let found = verify(&server, &root, key);
        assert_eq!((&found["code"], &found["name"]), (&json!("VALID"), &json!(name)));
        assert_eq!(code(&server, &root, key), "VALID", "and again");
        let own = Request::new("GET", "/api/v1/api-keys/self");
        assert_eq!(own.clone().key(key).send(server.address).expect(200).json()["name"], name);
        let bearer = own.header("Authorization", &format!("Bearer {key}"));
        assert_eq!(bearer.send(server.address).expect(200).json()["name"], name);
        let asked = Request::new("GET", "/authz?scope=orders:read").key(key).send(server.address);
        assert_eq!(asked.expect(200).header("x-keyward-key-name"), Some(name));
        assert_eq!(code(&server, &root, &format!("{key}x")), "MALFORMED");
    }
    let other = Request::new("GET", "/api/v1/api-keys").header("Authorization", "Bearer theirs");
    assert_eq!(other.send(server.address).expect(401).problem(), "missing_key", "left alone");
    let events = Request::new("GET", "/api/v1/events?type=api_key.created").key(&root);
    let events = events.send(server.address).expect(200).json();
    let origins: Vec<_> = events["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["data"]["imported"].clone())
        .collect();
    assert_eq!(origins, [Value::Null, json!("raw"), json!("sha256"), json!("sha512")]);
    let summary = Request::new("GET", "/api/v1/events?type=api_keys.imported").key(&root);
    let summary = summary.send(server.address).expect(200).json();
    assert_eq!(summary["data"][0]["data"]["accepted"], 3);
    assert!(server.terminate().status.success());

    let server = Binary::serve(&data);
    for key in &keys {
        assert_eq!(code(&server, &root, key), "VALID");
    }
    // Digests became hashes of the text, and are as quick to prove as our own.
    let rehashed = Request::new("GET", "/api/v1/events?type=api_key.rehashed").key(&root);
    let rehashed = rehashed.send(server.address).expect(200).json();
    assert_eq!(rehashed["data"].as_array().map(Vec::len), Some(2));
    let facts = &rehashed["data"][0]["data"];
    assert_eq!(facts["before"], json!({ "iterations": 1_000, "input": "sha256" }));
    assert_eq!(facts["after"], json!({ "iterations": 1_000 }));
    let (exit, report) = import(&data, "keys.jsonl", &rows, &[]);
    assert_eq!((exit, &report["accepted"]), (3, &json!(0)), "nothing is doubled: {report}");
    let codes = report["refusals"].as_array().unwrap().iter().map(|it| &it["code"]);
    assert!(codes.into_iter().all(|it| it == "already_imported"), "{report}");
}

#[test]
fn what_is_here_by_its_digest_is_not_taken_as_it_is_too() {
    let (_dir, data) = place();
    assert!(Binary::serve(&data).terminate().status.success());
    let row = |more: Value| {
        let mut row = json!({ "name": "x", "scopes": ["orders:read"] });
        row.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        row
    };
    let other = format!("{OLD}-other");
    let first = rows(&[
        row(json!({ "sha512": sha512(OLD) })),
        row(json!({ "key": OLD })),
        row(json!({ "sha256": sha256(&other) })),
    ]);
    let (exit, report) = import(&data, "first.jsonl", &first, &[]);
    assert_eq!((exit, &report["accepted"]), (3, &json!(2)), "{report}");
    let refusal = &report["refusals"][0];
    assert_eq!((&refusal["line"], &refusal["code"]), (&json!(2), &json!("already_imported")));
    let second = rows(&[row(json!({ "key": other }))]);
    let (_, report) = import(&data, "second.jsonl", &second, &[]);
    assert_eq!(report["refusals"][0]["code"], "already_imported", "{report}");
}

#[test]
fn an_imported_key_lives_on_as_every_other() {
    let (_dir, data) = place();
    assert!(Binary::serve(&data).terminate().status.success());
    let (rows, keys) = three_kinds();
    let (exit, _) = import(&data, "keys.jsonl", &rows, &[]);
    assert_eq!(exit, 0, "without a server, too");
    let server = Binary::serve(&data);
    let root = server.root_key();
    for key in &keys {
        let id = verify(&server, &root, key)["keyId"].as_str().unwrap().to_owned();
        let rotate = Request::new("POST", &format!("/api/v1/api-keys/{id}/rotate")).key(&root);
        let rotated = rotate.send(server.address).expect(200).json();
        let fresh = rotated["key"].as_str().unwrap();
        assert!(fresh.starts_with("rg_"), "keyward's own form");
        assert_eq!([code(&server, &root, key), code(&server, &root, fresh)], ["VALID", "VALID"]);
        let complete = format!("/api/v1/api-keys/{id}/rotate/complete");
        Request::new("POST", &complete).key(&root).send(server.address).expect(200);
        assert_eq!([code(&server, &root, key), code(&server, &root, fresh)], ["ROTATED", "VALID"]);
        let delete = Request::new("DELETE", &format!("/api/v1/api-keys/{id}")).key(&root);
        delete.send(server.address).expect(204);
        assert_eq!(
            [code(&server, &root, key), code(&server, &root, fresh)],
            ["REVOKED", "REVOKED"]
        );
    }
}

#[test]
fn guessing_at_a_costly_key_is_soon_in_vain() {
    let server = TestServer::start();
    let caller = server.app.at_the_machine(keyward::domain::event::Origin::CLI).unwrap();
    let row = |text: &str| {
        let key = ForeignKey::parse(text.as_bytes()).unwrap();
        let catalogue = &server.app.rules().catalogue;
        let scopes = catalogue.entries().iter().map(|it| it.scope.clone()).take(1);
        ImportRow {
            material: Material::Raw(key),
            account: None,
            new: NewKey {
                name: Name::parse("old").unwrap(),
                scopes: ScopeSet::new(scopes).unwrap(),
                expires_at: None,
                enabled: true,
                metadata: Metadata::empty(),
                imported: None,
            },
        }
    };
    let import = |text: &str| {
        assert!(server.app.import_keys(&caller, vec![row(text)], None).unwrap()[0].is_ok());
    };
    let code = |text: &str| {
        let request = Request::new("POST", "/api/v1/api-keys/verify").key(&server.root.text);
        server.send(&request.json(&json!({ "key": text }))).expect(200).json()["code"].clone()
    };
    import(OLD);
    // Whoever guesses would have to find them: one text of 65,536.
    let alike = texts_alike(&server, 12);
    let (key, guesses) = alike.split_first().unwrap();
    import(key);
    for text in &guesses[..10] {
        assert_eq!(code(text), "NOT_FOUND");
    }
    assert_eq!(code(key), "NOT_FOUND", "no more is derived in this minute");
    server.advance(Duration::from_mins(1));
    assert_eq!(code(key), "VALID");
    assert_eq!(code(&guesses[10]), "NOT_FOUND", "proved: nothing is derived for another text");
}

/// Texts that share a tag.
fn texts_alike(server: &TestServer, count: usize) -> Vec<String> {
    let database = rusqlite::Connection::open(server.database()).unwrap();
    let secret = "SELECT secret FROM import_secret";
    let tagger = Tagger::new(database.query_row(secret, [], |row| row.get(0)).unwrap());
    let mut by_handle = HashMap::<_, Vec<_>>::new();
    for number in 0.. {
        let text = format!("guess-guess-guess-{number:08}");
        let key = ForeignKey::parse(text.as_bytes()).unwrap();
        let group = by_handle.entry(tagger.handles_of(Origin::Raw, &key).next().unwrap());
        let group = group.or_default();
        group.push(text);
        if group.len() == count {
            return group.clone();
        }
    }
    unreachable!("there is no end of texts")
}
