//! What stands around the exchange of keys for tokens: the keys that sign, metadata, events and metrics.

use std::{fs, os::unix::fs::PermissionsExt, time::Duration};

use keyward::domain::token_key::TokenAlgorithm;
use serde_json::{Value, json};

use crate::support::{
    Binary, ISSUER, Request, TestServer, Token, exchange, form, issuing, keyward_in,
};

#[test]
fn without_an_address_of_its_own_a_server_issues_nothing_and_says_why() {
    let server = TestServer::start();
    let (_, manager) = server.account(&json!({ "name": "shop", "tokenExchange": true }));
    let answer = exchange(&server, &manager.text, &[]).expect(400);
    let told = (&answer.json()["error"], &answer.json()["code"]);
    assert_eq!(told, (&json!("unsupported_grant_type"), &json!("no_public_url")));
    assert!(answer.text().contains("`public_url`"), "{}", answer.text());
    for path in
        ["/.well-known/jwks.json", "/.well-known/oauth-authorization-server", "/token-status/1"]
    {
        let answer = server.send(&Request::new("GET", path)).expect(404);
        assert_eq!(answer.problem(), "no_public_url");
    }
    assert!(!server.data_dir().join("token.keys").exists());
}

#[test]
fn gateways_find_everything_at_the_addresses_of_the_standards() {
    let (mut server, manager) = issuing(|_| ());
    let fetch =
        |server: &TestServer, path: &str| server.send(&Request::new("GET", path)).expect(200);
    let metadata = fetch(&server, "/.well-known/oauth-authorization-server");
    assert_eq!(metadata.header("content-type"), Some("application/json"));
    let scopes = server.get(&manager.text, "/api/v1/scopes").expect(200).json();
    let scopes: Vec<_> =
        scopes["data"].as_array().unwrap().iter().take(9).map(|it| it["name"].clone()).collect();
    let expected = json!({
        "issuer": ISSUER,
        "token_endpoint": format!("{ISSUER}/api/v1/token"),
        "jwks_uri": format!("{ISSUER}/.well-known/jwks.json"),
        "scopes_supported": scopes,
        "response_types_supported": [],
        "grant_types_supported": ["urn:ietf:params:oauth:grant-type:token-exchange"],
        "token_endpoint_auth_methods_supported": ["none"],
    });
    assert_eq!(metadata.json(), expected);
    let jwks = fetch(&server, "/.well-known/jwks.json");
    assert_eq!(jwks.header("content-type"), Some("application/jwk-set+json"));
    let keys = jwks.json()["keys"].as_array().unwrap().clone();
    let members: Vec<_> = keys[0].as_object().unwrap().keys().cloned().collect();
    assert_eq!((keys.len(), members.join(" ")), (1, "kid use alg crv kty x".to_owned()));
    for answer in [&metadata, &jwks] {
        assert_eq!(answer.header("cache-control"), Some("public, max-age=600"));
    }
    let known = Request::new("GET", "/.well-known/jwks.json")
        .header("If-None-Match", jwks.header("etag").unwrap());
    let answer = server.send(&known).expect(304);
    assert_eq!((answer.header("etag"), answer.body.len()), (jwks.header("etag"), 0));
    assert_eq!(answer.header("cache-control"), Some("public, max-age=600"));

    // A key of another algorithm is published for a day before it signs.
    server.restart(|it| it.tokens.algorithm = TokenAlgorithm::Es256);
    let before = Token::of(&server, &manager.text);
    server.advance(Duration::from_hours(24));
    let after = Token::of(&server, &manager.text);
    assert_eq!((&before.header["alg"], &after.header["alg"]), (&json!("EdDSA"), &json!("ES256")));
    let jwks = fetch(&server, "/.well-known/jwks.json").json();
    let kids: Vec<_> =
        jwks["keys"].as_array().unwrap().iter().map(|it| it["kid"].clone()).collect();
    assert_eq!(kids, [before.header["kid"].clone(), after.header["kid"].clone()]);
    assert_eq!(jwks["keys"][1]["crv"], "P-256");
}

#[test]
fn exchanges_are_counted_and_recorded_once_an_hour_for_each_key() {
    let (mut server, manager) = issuing(|_| ());
    let scopes = json!({ "name": "x", "scopes": ["orders:read"] });
    let other = server.create(&manager.text, &scopes);
    for _ in 0..3 {
        exchange(&server, &other.text, &[]).expect(200);
        server.advance(Duration::from_mins(10));
    }
    exchange(&server, &manager.text, &[]).expect(200);
    exchange(&server, &manager.text, &[("scope", "x")]).expect(400);
    let recorded = |server: &TestServer| -> Vec<Value> {
        let events = server.events().into_iter();
        events.filter(|it| it["type"] == "api_key.exchanged").collect()
    };
    server.run_job("tokens");
    assert_eq!(recorded(&server), Vec::<Value>::new(), "the hour is not over");
    server.advance(Duration::from_mins(30));
    server.run_job("tokens");
    let events = recorded(&server);
    assert_eq!(events.len(), 2, "{events:?}");
    assert_eq!(
        (&events[0]["subject"], &events[1]["subject"]),
        (&json!(other.id), &json!(manager.id))
    );
    let after = |minutes| TestServer::EPOCH.after(Duration::from_mins(minutes)).to_string();
    assert_eq!(events[0]["data"], json!({ "count": 3, "firstAt": after(0), "lastAt": after(20) }));
    assert_eq!(events[0]["accountId"], other.body["accountId"]);
    assert_eq!(events[0]["actor"]["keyPrefix"], other.body["keyPrefix"]);
    server.run_job("tokens");
    assert_eq!(recorded(&server).len(), 2);
    exchange(&server, &other.text, &[]).expect(200);
    let metrics = server.send(&Request::new("GET", "/metrics")).expect(200).text();
    for line in [
        "keyward_token_exchanges_total{outcome=\"issued\"} 5",
        "keyward_token_exchanges_total{outcome=\"unknown_scope\"} 1",
        "keyward_token_status_lists_total 0",
        "keyward_token_key_age_seconds 3600",
    ] {
        assert!(metrics.lines().any(|it| it == line), "{line}\n{metrics}");
    }
    server.restart(|_| ());
    assert_eq!(recorded(&server).len(), 3, "a stop records what is only in memory");
}

#[test]
fn keys_turn_with_an_overlap_and_survive_a_restart() {
    const DAY: Duration = Duration::from_hours(24);
    let (mut server, manager) = issuing(|_| ());
    let kids = |server: &TestServer| {
        let jwks = server.send(&Request::new("GET", "/.well-known/jwks.json")).expect(200).json();
        let keys = jwks["keys"].as_array().unwrap().iter();
        keys.map(|it| it["kid"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let signer = |server: &TestServer| {
        Token::of(server, &manager.text).header["kid"].as_str().unwrap().to_owned()
    };
    let first = signer(&server);
    let file = server.data_dir().join("token.keys");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    server.restart(|_| ());
    assert_eq!((signer(&server), kids(&server)), (first.clone(), vec![first.clone()]));
    server.advance(30 * DAY);
    server.run_job("tokens");
    let second = kids(&server)[1].clone();
    assert_eq!(signer(&server), first, "the new key is published before it signs");
    server.advance(DAY);
    assert_eq!(signer(&server), second);
    server.run_job("tokens");
    server.restart(|_| ());
    assert_eq!(
        kids(&server),
        [first, second.clone()],
        "the tokens of the first may be outstanding"
    );
    server.advance(Duration::from_hours(1));
    server.run_job("tokens");
    assert_eq!((kids(&server), signer(&server)), (vec![second.clone()], second));
}

#[test]
fn the_operator_allows_the_exchange_in_one_line_and_a_restore_brings_new_keys() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let variables = [("KEYWARD_PUBLIC_URL", ISSUER)];
    let server = Binary::serve_with(&data, &variables);
    let said = |arguments: &[&str]| {
        let output = keyward_in(&data, arguments);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {text}");
        text
    };
    let name = ["--name", "shop", "--external-id", "cust_42"];
    let key = said(&[&["accounts", "create", "-q"], &name[..]].concat());
    let grant = ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange");
    let ask = |server: &Binary| form(&[grant]).key(key.trim()).send(server.address);
    assert_eq!(ask(&server).expect(400).json()["code"], "token_exchange_off");
    let shown = said(&["accounts", "update", "cust_42", "--token-exchange", "on"]);
    let line = |text: &str| {
        text.lines().find_map(|it| it.strip_prefix("token exchange")).map(|it| it.trim().to_owned())
    };
    assert_eq!(line(&shown), Some("on".to_owned()), "{shown}");
    ask(&server).expect(200);
    assert_eq!(line(&said(&["accounts", "show", "cust_42"])), Some("on".to_owned()));
    assert_eq!(line(&said(&["keys", "show", &key[..12]])), Some("on".to_owned()));
    let listed = said(&["accounts", "list"]);
    assert!(listed.lines().any(|it| it.contains("cust_42") && it.contains(" on ")), "{listed}");
    let backup = dir.path().join("a.db");
    said(&["backup", "create", "--to", backup.to_str().unwrap()]);
    let jwks = Request::new("GET", "/.well-known/jwks.json");
    let before = jwks.send(server.address).expect(200).json();
    assert!(server.terminate().status.success());

    said(&["backup", "restore", backup.to_str().unwrap(), "--yes"]);
    assert!(
        !data.join("token.keys").exists(),
        "places that were given after the backup are unknown"
    );
    let server = Binary::serve_with(&data, &variables);
    assert_ne!(jwks.send(server.address).expect(200).json(), before);
    ask(&server).expect(200);
    assert!(server.terminate().status.success());
    fs::set_permissions(data.join("token.keys"), fs::Permissions::from_mode(0o644)).unwrap();
    let refused = keyward_in(&data, &["keys", "list"]);
    let why = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && why.contains("chmod 600"), "{why}");
}
