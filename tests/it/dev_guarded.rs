//! `keyward dev`: its configuration file, pages of other sites, unknown input and tokens.

use std::fs;

use base64ct::{Base64UrlUnpadded, Encoding};
use keyward::domain::development_key::DevelopmentKey as Key;
use serde_json::{Value, json};

use crate::support::{Request, Response, dev::Dev, form};

#[test]
fn limits_of_a_configuration_file_do_not_change_the_samples() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("keyward.toml");
    let text = "[keys]\nprefix = \"acme\"\nmax_keys_per_account = 1\nmax_lifetime = \"1h\"\n\
                default_lifetime = \"30m\"\nretention = \"1d\"\nrotation_grace = \"7m\"\n";
    fs::write(&file, text).unwrap();
    let server = Dev::with(&["--listen", "127.0.0.1:0", "--config", file.to_str().unwrap()]);
    // The jobs run now, and the purge with them.
    server.advance(1);
    for sample in server.samples() {
        let found = server.verify(&sample["request"]);
        assert_eq!(found["code"], sample["code"], "{sample}");
    }
    let body = json!({ "name": "x", "scopes": ["orders:read"] });
    let made = server.post("/api/v1/api-keys", &body).expect(201).json();
    assert!(made["key"].as_str().unwrap().starts_with("rg_"), "{made}");
}

#[test]
fn unknown_parameters_are_refused_below_dev() {
    let server = Dev::start();
    for path in ["/dev/clock", "/dev/keys"] {
        let answer = server.get(&format!("{path}?verbose=1"));
        assert_eq!(answer.faults(), [("/verbose".to_owned(), "unknown_parameter".to_owned())]);
        server.get(path).expect(200);
    }
    let before = server.get("/dev/clock").json()["now"].clone();
    let answer = server.post("/dev/clock?advanceSeconds=60", &json!({ "advanceSeconds": 3600 }));
    assert_eq!(answer.faults(), [("/advanceSeconds".to_owned(), "unknown_parameter".to_owned())]);
    let after = server.get("/dev/clock").json()["now"].clone();
    assert_eq!(before.as_str().unwrap()[..16], after.as_str().unwrap()[..16], "it did not move");
}

#[test]
fn a_name_of_another_site_reads_no_keys_and_moves_no_clock() {
    let server = Dev::start();
    let ask = |host: &str, request: Request| request.header("Host", host).send(server.address);
    for (host, is_local) in [
        ("127.0.0.1:8080", true),
        ("[::1]:8080", true),
        ("192.0.2.7", true),
        ("localhost:8080", true),
        ("api.localhost", true),
        ("keyward:8080", true),
        ("evil.example:8080", false),
        ("127.0.0.1.evil.example", false),
        ("localhost.evil.example", false),
        ("evil.example.", false),
    ] {
        for path in ["/dev/keys", "/dev/clock"] {
            let answer = ask(host, Request::new("GET", path));
            assert_eq!(answer.status, if is_local { 200 } else { 403 }, "{host}");
            assert_eq!(answer.header("x-keyward-mode"), Some("development"));
        }
        let moved = Request::new("POST", "/dev/clock").json(&json!({ "advanceSeconds": 1 }));
        let answer = ask(host, moved);
        assert_eq!(answer.status, if is_local { 200 } else { 403 }, "{host}");
    }
    let answer = ask("evil.example", Request::new("GET", "/dev/keys"));
    assert_eq!(answer.problem(), "host_not_allowed");
    // This is no host at all, so every path refuses it.
    assert_eq!(ask("evil.example@localhost", Request::new("GET", "/dev/keys")).status, 400);
}

fn exchanged(server: &Dev, key: Key) -> Response {
    let members = [
        ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"),
        ("subject_token", &key.text()),
        ("subject_token_type", "urn:keyward:params:oauth:token-type:api-key"),
    ];
    form(&members).send(server.address)
}

/// Returns the claims of the token in an answer.
fn claims(answer: &Response) -> Value {
    let body = answer.json();
    let token = body["access_token"].as_str().unwrap();
    let part = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&Base64UrlUnpadded::decode_vec(part).unwrap()).unwrap()
}

#[test]
fn the_issuer_may_be_the_address_at_which_other_containers_reach_the_server() {
    let server = Dev::with(&["--listen", "127.0.0.1:0", "--public-url", "http://keyward:8080/"]);
    let token = claims(&exchanged(&server, Key::Valid).expect(200));
    assert_eq!(token["iss"], "http://keyward:8080");
    assert_eq!(token["status"]["status_list"]["uri"], "http://keyward:8080/token-status/1");
}

#[test]
fn tokens_follow_the_clock_and_every_start_has_keys_of_its_own() {
    let server = Dev::start();
    let first = claims(&exchanged(&server, Key::Valid).expect(200));
    assert_eq!(first["iss"], format!("http://{}", server.address));
    // 2027-01-01T00:00:00Z
    let start = 1_798_761_600;
    let issued = first["iat"].as_i64().unwrap();
    assert!((start..start + 60).contains(&issued), "{first}");
    server.advance(3_600);
    let second = claims(&exchanged(&server, Key::Valid).expect(200));
    assert!(issued + 3_600 <= second["iat"].as_i64().unwrap(), "{second}");
    assert_eq!(exchanged(&server, Key::Expiring).status, 400, "it has expired");
    let list = first["status"]["status_list"]["uri"].as_str().unwrap();
    let path = list.strip_prefix(first["iss"].as_str().unwrap()).unwrap().to_owned();
    server.get(&path).expect(200);
    let kid = |server: &Dev| {
        let keys = server.get("/.well-known/jwks.json").expect(200).json();
        keys["keys"][0]["kid"].clone()
    };
    assert_ne!(kid(&server), kid(&Dev::start()));
}
