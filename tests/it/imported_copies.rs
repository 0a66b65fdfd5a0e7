//! Imports of the digest of a key that this server issued itself. The import cannot see that, and the
//! plaintext key must not be accepted again once its own key has ended.

use std::time::Duration;

use keyward::{
    domain::{
        event::EventSource,
        imported_key::{ImportForm, ImportedDigest, ImportedKey},
        scope::{Scope, ScopeSet},
        text::Name,
    },
    service::{ImportRow, NewKey},
};
use rusqlite::Connection;
use serde_json::json;

use crate::support::{
    Key, Request, TestServer,
    apply::{applied, summary},
    import::sha256,
};

/// Imports the digest of this text, and returns the identifier of the copy.
fn copy_of(server: &TestServer, text: &str, form: ImportForm) -> String {
    let caller = server.app.local_operator(EventSource::CLI).unwrap();
    let key = ImportedKey::parse(text.as_bytes()).unwrap();
    let scopes = ScopeSet::new([Scope::parse("orders:write").unwrap()]).unwrap();
    let new = NewKey::new(Name::parse("copy").unwrap(), scopes);
    let row = ImportRow { digest: ImportedDigest::of(&key, form), account: None, new };
    let made = server.app.import_keys(&caller, vec![row], None).unwrap().remove(0);
    made.unwrap().key.to_string()
}

fn purge(server: &TestServer) {
    server.advance(Duration::from_hours(24 * 31));
    server.advance(Duration::from_mins(20));
    server.run_job("purge");
}

/// Checks that the text is refused everywhere, also after a restart, and that the copy was revoked.
#[track_caller]
fn has_no_second_life(server: &mut TestServer, text: &str, copy: &str) {
    assert_eq!(server.code(text), "REVOKED");
    assert_eq!(server.code(text), "REVOKED", "and again");
    assert_eq!(server.get(text, "/api/v1/api-keys/self").status, 401);
    let path = format!("/api/v1/api-keys/{copy}");
    assert_eq!(server.get(&server.root.text, &path).status, 404);
    let about = |it: &&serde_json::Value| it["subject"] == *copy && it["type"] == "api_key.revoked";
    let events = server.events();
    let revoked: Vec<_> = events.iter().filter(about).map(|it| &it["data"]["reason"]).collect();
    assert_eq!(revoked, [&json!("imported_twice")]);
    server.restart(|_| ());
    assert_eq!(server.code(text), "REVOKED", "after a restart");
    purge(server);
    assert_ne!(server.code(text), "VALID", "after the purge of the copy");
}

#[test]
fn a_copy_of_a_key_in_use_is_refused_when_its_own_key_is_gone() {
    for form in ImportForm::ALL {
        let mut server = TestServer::start();
        let own = server.key(&["orders:read"]);
        assert_eq!(server.code(&own.text), "VALID", "cached before the import");
        let copy = copy_of(&server, &own.text, form);
        assert_eq!(server.verify(&own.text, &[])["name"], "test", "the own key decides");
        server.delete(&server.root.text, &own.path());
        assert_eq!(server.code(&own.text), "REVOKED");
        purge(&server);
        has_no_second_life(&mut server, &own.text, &copy);
    }
}

#[test]
fn a_copy_of_a_key_that_was_never_presented_is_refused() {
    let mut server = TestServer::start();
    let own = server.key(&["orders:read"]);
    let copy = copy_of(&server, &own.text, ImportForm::Sha256);
    server.delete(&server.root.text, &own.path());
    purge(&server);
    has_no_second_life(&mut server, &own.text, &copy);
}

#[test]
fn a_copy_that_is_made_after_the_purge_is_refused() {
    let mut server = TestServer::start();
    let own = server.key(&["orders:read"]);
    server.delete(&server.root.text, &own.path());
    purge(&server);
    let copy = copy_of(&server, &own.text, ImportForm::Sha512);
    has_no_second_life(&mut server, &own.text, &copy);
}

#[test]
fn a_copy_of_an_expired_key_is_refused() {
    let mut server = TestServer::start();
    let body = json!({ "name": "x", "scopes": ["orders:read"], "expiresIn": 60 });
    let own = server.create(&server.root.text, &body);
    assert_eq!(server.code(&own.text), "VALID");
    let copy = copy_of(&server, &own.text, ImportForm::Sha256);
    purge(&server);
    has_no_second_life(&mut server, &own.text, &copy);
}

#[test]
fn a_copy_of_an_earlier_credential_is_refused_while_its_key_lives() {
    let mut server = TestServer::start();
    let own = server.key(&["orders:read"]);
    assert_eq!(server.code(&own.text), "VALID");
    let copy = copy_of(&server, &own.text, ImportForm::Sha256);
    let at_once = json!({ "gracePeriodSeconds": 0 });
    let mut current = server.rotate(&server.root.text, &own.id, &at_once);
    assert_eq!(server.code(&own.text), "ROTATED");
    purge(&server);
    has_no_second_life(&mut server, &own.text, &copy);
    assert_eq!(server.code(&current.text), "VALID");

    // Also of one that goes because the key has too many ended credentials.
    let oldest = current.text.clone();
    let copy = copy_of(&server, &oldest, ImportForm::Sha256);
    for _ in 0..21 {
        server.advance(Duration::from_mins(5));
        current = server.rotate(&server.root.text, &own.id, &at_once);
    }
    has_no_second_life(&mut server, &oldest, &copy);
    assert_eq!(server.code(&current.text), "VALID");
}

#[test]
fn a_copy_of_a_leaked_key_is_refused() {
    let mut server = TestServer::start();
    let report = |server: &TestServer, text: &str| {
        let request = Request::new("POST", "/api/v1/leaked-keys");
        server.send(&request.json(&json!({ "keys": [text] }))).expect(200);
    };
    let own = server.key(&["orders:read"]);
    assert_eq!(server.code(&own.text), "VALID");
    let copy = copy_of(&server, &own.text, ImportForm::Sha256);
    report(&server, &own.text);
    purge(&server);
    // The first use of the copy is a report, too.
    report(&server, &own.text);
    has_no_second_life(&mut server, &own.text, &copy);
}

#[test]
fn a_copy_from_a_file_is_told_as_ended() {
    let server = TestServer::start();
    let own = server.key(&["orders:read"]);
    assert_eq!(server.code(&own.text), "VALID");
    let file = format!(
        "[[keys]]\nname = \"copy\"\nsha256 = \"{}\"\nscopes = [\"orders:write\"]\n",
        sha256(&own.text)
    );
    applied(&server.data_dir(), &file, &[]);
    server.delete(&server.root.text, &own.path());
    purge(&server);
    assert_eq!(server.code(&own.text), "REVOKED");
    let (code, said, errors) = crate::support::apply::apply(&server.data_dir(), &file, &[]);
    assert_eq!(code, 3, "{errors}");
    assert!(said.ends_with(&summary(0, 0, 0, 0, 1)), "{said}");
}

#[test]
fn a_copy_that_was_rotated_is_refused_and_costs_nothing_again() {
    for grace in [0, 604_800] {
        let mut server = TestServer::start();
        let own = server.key(&["orders:read"]);
        let copy = copy_of(&server, &own.text, ImportForm::Sha256);
        server.delete(&server.root.text, &own.path());
        purge(&server);
        let body = json!({ "gracePeriodSeconds": grace });
        let current = server.rotate(&server.root.text, &copy, &body);
        for start in 1..=2 {
            assert_eq!(server.code(&own.text), "NOT_FOUND", "grace {grace}, start {start}");
            // Without a derivation, no row is read and nothing is written.
            let before = server.app.derivations();
            for _ in 0..3 {
                assert_eq!(server.code(&own.text), "NOT_FOUND", "grace {grace}, start {start}");
                assert_eq!(server.get(&own.text, "/api/v1/api-keys/self").status, 401);
            }
            assert_eq!(server.app.derivations(), before, "grace {grace}, start {start}");
            assert_eq!(server.code(&current.text), "VALID", "the secret of its own stays good");
            server.restart(|_| ());
        }
    }
}

/// Makes each revocation fail, as a disk that is full does.
fn refuse_revocations(server: &TestServer) -> Connection {
    let database = Connection::open(server.database()).unwrap();
    database
        .execute_batch(
            "CREATE TRIGGER no_revocation BEFORE UPDATE OF revoked_at_ms ON api_keys
             WHEN NEW.revoked_at_ms IS NOT NULL
             BEGIN SELECT RAISE(ABORT, 'no revocation'); END",
        )
        .unwrap();
    database
}

#[test]
fn a_copy_that_cannot_be_revoked_changes_no_verdict() {
    let mut server = TestServer::start();
    let (own, gone): (Key, Key) = (server.key(&["orders:read"]), server.key(&["orders:read"]));
    let copies = [&own, &gone].map(|it| copy_of(&server, &it.text, ImportForm::Sha256));
    server.delete(&server.root.text, &gone.path());
    purge(&server);
    let database = refuse_revocations(&server);
    assert_eq!(server.code(&own.text), "VALID", "the first use of the own key is not refused");
    assert_eq!(server.code(&gone.text), "NOT_FOUND", "and the copy is not accepted");
    assert_eq!(server.get(&gone.text, "/api/v1/api-keys/self").status, 401);
    database.execute_batch("DROP TRIGGER no_revocation").unwrap();
    has_no_second_life(&mut server, &gone.text, &copies[1]);
}

#[test]
fn an_imported_key_of_keywards_shape_that_this_server_never_issued_is_accepted() {
    let mut server = TestServer::start();
    let (text, _) = crate::support::apply::generated();
    copy_of(&server, &text, ImportForm::Sha256);
    assert_eq!(server.code(&text), "VALID");
    server.restart(|_| ());
    assert_eq!(server.code(&text), "VALID");
}
