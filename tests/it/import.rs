//! Keys of another system, imported without new plaintext keys.

use std::{
    fs,
    io::{Read, Write},
    os::unix::net::UnixStream,
    time::{Duration, Instant},
};

use keyward::{
    domain::{
        imported_key::{ImportedDigest, ImportedKey},
        scope::{Scope, ScopeSet},
        text::Name,
    },
    service::{ImportRow, Job, NewKey},
};
use serde_json::{Value, json};

use crate::support::{
    Binary, Request, TestServer,
    import::{OLD, code, import, place, rows, sha256, sha512, verify},
};

fn three_kinds() -> (String, [String; 3]) {
    let keys = ["a", "b", "c"].map(|it| format!("{OLD}{it}"));
    let rows = rows(&[
        json!({ "name": "text", "scopes": ["orders:read"], "key": keys[0] }),
        json!({ "name": "sha256", "scopes": ["orders:read"], "sha256": sha256(&keys[1]) }),
        json!({ "name": "sha512", "scopes": ["orders:read"], "sha512": sha512(&keys[2]) }),
    ]);
    (rows, keys)
}

/// Waits for three events. Rehashing runs after the answer, on threads of low priority.
fn rehashed(server: &Binary, root: &str) -> Vec<Value> {
    let rehashed = Request::new("GET", "/api/v1/events?type=api_key.rehashed").key(root);
    let deadline = Instant::now() + Duration::from_mins(1);
    loop {
        let events = rehashed.send(server.address).expect(200).json();
        let events = events["data"].as_array().unwrap().clone();
        if 3 <= events.len() {
            return events;
        }
        assert!(Instant::now() < deadline, "{events:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn imported_keys_of_every_kind_work_at_once_and_after_a_restart() {
    let (_dir, data) = place();
    let server = Binary::serve(&data);
    let root = server.root_key();
    let (rows, keys) = three_kinds();
    assert_eq!(code(&server, &root, &keys[0]), "MALFORMED", "before the first import");
    let (exit, report) = import(&data, "keys.jsonl", &rows, &[]);
    assert_eq!((exit, &report["accepted"]), (0, &json!(3)), "{report}");
    for (key, name) in keys.iter().zip(["text", "sha256", "sha512"]) {
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
    assert_eq!(origins, [Value::Null, json!("sha256"), json!("sha256"), json!("sha512")]);
    let summary = Request::new("GET", "/api/v1/events?type=api_keys.imported").key(&root);
    let summary = summary.send(server.address).expect(200).json();
    let summary = &summary["data"][0]["data"];
    assert_eq!((&summary["accepted"], &summary["complete"]), (&json!(3), &json!(true)));
    assert_eq!(summary["fileSha256"], Value::Null, "of a file with a key in it");
    assert!(server.terminate().status.success());

    let server = Binary::serve(&data);
    for key in &keys {
        assert_eq!(code(&server, &root, key), "VALID");
    }
    // The digests were replaced by hashes of the plaintext keys, which cost no more than keyward's
    // own.
    let rehashed = rehashed(&server, &root);
    assert_eq!(rehashed.len(), 3);
    for (input, count) in [("sha256", 2), ("sha512", 1)] {
        let before = json!({ "iterations": 1_000, "input": input });
        let events = rehashed.iter().filter(|it| it["data"]["before"] == before);
        let after: Vec<_> = events.map(|it| &it["data"]["after"]).collect();
        assert_eq!(after, vec![&json!({ "iterations": 1_000 }); count]);
    }
    let (exit, report) = import(&data, "keys.jsonl", &rows, &[]);
    assert_eq!((exit, &report["accepted"]), (3, &json!(0)), "no key is imported twice: {report}");
    let codes = report["refusals"].as_array().unwrap().iter().map(|it| &it["code"]);
    assert!(codes.into_iter().all(|it| it == "already_imported"), "{report}");
}

#[test]
fn a_plaintext_key_and_its_sha256_are_imported_as_the_same_key() {
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
    assert_eq!((&refusal["line"], &refusal["code"]), (&json!(2), &json!("duplicate")));
    let second = rows(&[row(json!({ "key": other }))]);
    let (_, report) = import(&data, "second.jsonl", &second, &[]);
    for refusal in report["refusals"].as_array().unwrap() {
        assert_eq!(refusal["code"], "already_imported");
    }
    assert_eq!(report["refused"], 1);
}

#[test]
fn an_imported_key_behaves_like_any_other() {
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
fn a_revoked_key_cannot_be_imported_again_in_any_form() {
    let (_dir, data) = place();
    let server = Binary::serve(&data);
    let root = server.root_key();
    let row = |more: Value| {
        let mut row = json!({ "name": "x", "scopes": ["orders:read"] });
        row.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        rows(&[row])
    };
    let (_, report) = import(&data, "text.jsonl", &row(json!({ "key": OLD })), &[]);
    let id = report["keys"][0]["keyId"].as_str().unwrap();
    assert_eq!(code(&server, &root, OLD), "VALID");
    Request::new("DELETE", &format!("/api/v1/api-keys/{id}"))
        .key(&root)
        .send(server.address)
        .expect(204);
    for more in [json!({ "sha256": sha256(OLD) }), json!({ "key": OLD })] {
        let (exit, report) = import(&data, "again.jsonl", &row(more), &[]);
        assert_eq!((exit, &report["refusals"][0]["code"]), (3, &json!("already_imported")));
    }
    assert_eq!(code(&server, &root, OLD), "REVOKED");
    let (exit, _) = import(&data, "other.jsonl", &row(json!({ "sha512": sha512(OLD) })), &[]);
    assert_eq!((exit, code(&server, &root, OLD)), (0, json!("REVOKED")), "the other digest");
}

#[test]
fn a_purged_key_cannot_be_imported_again() {
    let server = TestServer::start();
    let caller = server.app.local_operator(keyward::domain::event::EventSource::CLI).unwrap();
    let import = || {
        let row =
            ImportRow { digest: ImportedDigest::Sha256([7; 32]), account: None, new: new_key() };
        server.app.import_keys(&caller, vec![row], None).unwrap().remove(0)
    };
    let id = import().unwrap().key;
    assert_eq!(import().unwrap_err().code, "already_imported");
    let delete = Request::new("DELETE", &format!("/api/v1/api-keys/{id}")).key(&server.root.text);
    server.send(&delete).expect(204);
    server.advance(Duration::from_mins(11));
    server.advance(Duration::from_hours(24 * 31));
    server.advance(Duration::from_mins(11));
    server.app.run_job(Job::Purge, &|| true).unwrap();
    assert_eq!(import().unwrap_err().code, "was_imported");
}

#[test]
fn a_key_imported_by_both_digests_is_revoked_through_either() {
    let server = TestServer::start();
    let caller = server.app.local_operator(keyward::domain::event::EventSource::CLI).unwrap();
    let import = |text: &str| {
        let key = ImportedKey::parse(text.as_bytes()).unwrap();
        let digests =
            [ImportedDigest::Sha256(key.sha256()), ImportedDigest::Sha512(Box::new(key.sha512()))];
        let rows = digests.map(|digest| ImportRow { digest, account: None, new: new_key() });
        let made = server.app.import_keys(&caller, rows.into(), None).unwrap();
        made.into_iter().map(|it| it.unwrap().key.to_string()).collect::<Vec<_>>()
    };
    let code = |text: &str| {
        let request = Request::new("POST", "/api/v1/api-keys/verify").key(&server.root.text);
        server.send(&request.json(&json!({ "key": text }))).expect(200).json()["code"].clone()
    };
    let send = |method: &str, id: &str, body: Option<Value>| {
        let request = Request::new(method, &format!("/api/v1/api-keys/{id}"));
        let request = request.key(&server.root.text);
        server.send(&body.map_or(request.clone(), |it| request.json(&it)))
    };
    for form in [0, 1] {
        let text = format!("{OLD}-{form}");
        let ids = import(&text);
        assert_eq!(code(&text), "VALID");
        send("PATCH", &ids[form], Some(json!({ "enabled": false }))).expect(200);
        assert_eq!(code(&text), "DISABLED");
        send("PATCH", &ids[form], Some(json!({ "enabled": true }))).expect(200);
        assert_eq!(code(&text), "VALID");
    }
    // The key is not presented until one of the two is purged.
    let ids = import(OLD);
    send("DELETE", &ids[0], None).expect(204);
    server.advance(Duration::from_mins(11));
    server.advance(Duration::from_hours(24 * 31));
    server.advance(Duration::from_mins(11));
    server.app.run_job(Job::Purge, &|| true).unwrap();
    assert_eq!(code(OLD), "REVOKED");
    send("GET", &ids[1], None).expect(404);
}

#[test]
fn two_simultaneous_imports_of_a_file_make_each_key_once() {
    let server = TestServer::start();
    let caller = server.app.local_operator(keyward::domain::event::EventSource::CLI).unwrap();
    let import = || {
        let row = || {
            let key = ImportedKey::parse(OLD.as_bytes()).unwrap();
            ImportRow {
                digest: ImportedDigest::Sha256(key.sha256()),
                account: None,
                new: new_key(),
            }
        };
        server.app.import_keys(&caller, vec![row(), row()], None).unwrap()
    };
    let made = std::thread::scope(|scope| {
        let both = [scope.spawn(import), scope.spawn(import)];
        both.map(|it| it.join().unwrap()).concat()
    });
    assert_eq!(made.iter().filter(|it| it.is_ok()).count(), 1, "{made:?}");
}

fn new_key() -> NewKey {
    let scopes = ScopeSet::new([Scope::parse("orders:read").unwrap()]).unwrap();
    NewKey::new(Name::parse("old").unwrap(), scopes)
}

#[test]
fn the_server_accepts_no_plaintext_keys_for_import() {
    let (_dir, data) = place();
    let server = Binary::serve(&data);
    let root = server.root_key();
    for key in [json!(OLD), Value::Null] {
        let row =
            json!({ "name": "x", "scopes": ["orders:read"], "key": key, "sha256": sha256(OLD) });
        let body = json!({ "rows": [row] }).to_string();
        let mut socket = UnixStream::connect(data.join("control.sock")).unwrap();
        write!(
            socket,
            "POST /imports HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n\
             content-length: {}\r\nconnection: close\r\n\r\n{body}",
            body.len()
        )
        .unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        let answer: Value = serde_json::from_str(answer.split("\r\n\r\n").nth(1).unwrap()).unwrap();
        let outcome = &answer["outcomes"][0];
        assert_eq!(outcome["key_id"], Value::Null);
        let fault = &outcome["faults"][0];
        assert_eq!((&fault["field"], &fault["code"]), (&json!("key"), &json!("unknown_field")));
        assert!(fault["detail"].as_str().unwrap().contains("SHA-256"), "{fault}");
    }
    assert_eq!(code(&server, &root, OLD), "MALFORMED");
}

#[test]
fn the_plaintext_of_an_imported_key_is_in_no_file_of_the_server() {
    let (_dir, data) = place();
    let server = Binary::serve(&data);
    let root = server.root_key();
    let row = json!({ "name": "x", "scopes": ["orders:read"], "key": OLD });
    assert_eq!(import(&data, "keys.jsonl", &rows(&[row]), &[]).0, 0);
    assert_eq!(code(&server, &root, OLD), "VALID");
    assert!(server.terminate().status.success());
    for entry in fs::read_dir(&data).unwrap() {
        let path = entry.unwrap().path();
        let bytes = fs::read(&path).unwrap_or_default();
        let hay = String::from_utf8_lossy(&bytes);
        assert!(!hay.contains(OLD) && !hay.contains(&sha256(OLD)), "{}", path.display());
    }
    assert!(!data.join("import.key").exists());
}

#[test]
fn concurrent_first_uses_of_an_imported_key_are_all_valid() {
    let (_dir, data) = place();
    assert!(Binary::serve(&data).terminate().status.success());
    let row = json!({ "name": "x", "scopes": ["orders:read"], "key": OLD });
    assert_eq!(import(&data, "keys.jsonl", &rows(&[row]), &[]).0, 0);
    let server = Binary::serve(&data);
    let root = server.root_key();
    std::thread::scope(|scope| {
        let uses: Vec<_> = (0..100).map(|_| scope.spawn(|| code(&server, &root, OLD))).collect();
        assert!(uses.into_iter().all(|it| it.join().unwrap() == "VALID"));
    });
}
