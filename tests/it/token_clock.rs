//! Tokens when the clock steps: none that is refused becomes good again, and none ends late.

use std::time::Duration;

use serde_json::json;

use crate::support::{Key, Request, StatusList, TestServer, Token, exchange, issuing};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_mins(1);
const MINUTE_MS: i64 = 60_000;
const NOW: i64 = TestServer::EPOCH.as_millis() / 1_000;

fn text_of_token(server: &TestServer, key: &Key) -> String {
    let answer = exchange(server, &key.text, &[]).expect(200).json();
    answer["access_token"].as_str().unwrap().to_owned()
}

/// Checks that a gateway with the keys of now does not accept this token, and does accept a new one.
#[track_caller]
fn assert_replaced(server: &TestServer, key: &Key, token: &str) {
    assert!(Token::verified(server, token).is_none(), "its key is still published");
    let list = StatusList::fetch(server).claims;
    let made = list["iat"].as_i64().unwrap();
    let now = server.app.env().time.now().as_millis() / 1_000;
    assert_eq!(made, now, "no list from the time of before");
    let fresh = Token::of(server, &key.text);
    assert_eq!(fresh.claims["iat"], now);
    assert!(!fresh.is_refused(server));
}

#[test]
fn tokens_of_a_clock_that_was_ahead_end_when_the_operator_accepts_the_clock() {
    let (mut server, manager) = issuing(|_| ());
    server.clock.step_wall(50 * MINUTE_MS);
    let late = text_of_token(&server, &manager);
    assert_eq!(Token::verified(&server, &late).unwrap().ends_at(), NOW + 50 * 60 + 300);
    StatusList::fetch(&server);
    server.clock.step_wall(-50 * MINUTE_MS);
    server.advance(MINUTE);
    assert!(Token::verified(&server, &late).is_some(), "time goes on where it was");
    server.app.accept_clock().unwrap();
    assert_replaced(&server, &manager, &late);
    let kids = |server: &TestServer| {
        let jwks = server.send(&Request::new("GET", "/.well-known/jwks.json"));
        jwks.expect(200).json()["keys"].clone()
    };
    let keys = kids(&server);
    server.restart(|_| ());
    assert_eq!(kids(&server), keys);
}

#[test]
fn the_clock_is_accepted_before_any_gateway_asks() {
    let (server, manager) = issuing(|_| ());
    server.clock.step_wall(50 * MINUTE_MS);
    text_of_token(&server, &manager);
    let file = server.data_dir().join("token.keys");
    let before = std::fs::read_to_string(&file).unwrap();
    server.clock.step_wall(-50 * MINUTE_MS);
    server.app.accept_clock().unwrap();
    let after = std::fs::read_to_string(&file).unwrap();
    let secret = |text: &str| text.trim().rsplit(' ').next().unwrap().to_owned();
    assert_ne!(secret(&before), secret(&after));
}

#[test]
fn tokens_of_a_leap_end_when_it_is_taken_back_also_over_a_restart() {
    for restarts in [false, true] {
        let (mut server, manager) = issuing(|_| ());
        let early = text_of_token(&server, &manager);
        server.clock.step_wall(2 * 60 * MINUTE_MS);
        let late = text_of_token(&server, &manager);
        assert!(
            Token::verified(&server, &early).is_some() && Token::verified(&server, &late).is_some()
        );
        // A list of this time is at most a moment old when the clock is back.
        StatusList::fetch(&server);
        if restarts {
            server.stop();
        }
        server.clock.step_wall(-2 * 60 * MINUTE_MS);
        if restarts {
            server.restart(|_| ());
        }
        assert_replaced(&server, &manager, &late);
    }
}

#[test]
fn a_small_step_that_is_accepted_takes_no_token() {
    let (server, manager) = issuing(|_| ());
    server.clock.step_wall(4 * MINUTE_MS);
    let token = text_of_token(&server, &manager);
    server.clock.step_wall(-4 * MINUTE_MS);
    server.app.accept_clock().unwrap();
    assert!(Token::verified(&server, &token).is_some());
    // It ends at most 4 minutes late, and the list remembers it for longer.
    server
        .put(&server.root.text, &manager.path(), &json!({ "allowedIps": ["127.0.0.1"] }))
        .expect(200);
    let token = Token::verified(&server, &token).unwrap();
    for _ in 0..29 {
        server.advance(MINUTE);
        server.run_job("tokens");
        assert!(token.is_refused(&server));
    }
}

#[test]
fn a_clock_that_steps_ahead_makes_no_refused_token_good() {
    let (server, manager) = issuing(|_| ());
    let token = Token::of(&server, &manager.text);
    server
        .put(&server.root.text, &manager.path(), &json!({ "allowedIps": ["127.0.0.1"] }))
        .expect(200);
    assert_eq!(Token::of(&server, &manager.text).place(), 1);
    let other = |server: &TestServer| {
        let body = json!({ "name": "x", "scopes": ["orders:read"] });
        Token::of(server, &server.create(&server.root.text, &body).text).place()
    };
    let own = server.get(&server.root.text, "/api/v1/accounts/self").expect(200).json();
    let path = format!("/api/v1/accounts/{}", own["id"].as_str().unwrap());
    server.put(&server.root.text, &path, &json!({ "tokenExchange": true })).expect(200);
    // The clock is believed at once. A gateway with another clock still accepts the token.
    server.clock.step_wall(59 * MINUTE_MS);
    assert!(token.is_refused(&server));
    server.advance(2 * MINUTE);
    server.run_job("tokens");
    assert!(token.is_refused(&server));
    assert_eq!(other(&server), 2);
    server.advance(28 * MINUTE);
    assert!(!token.is_refused(&server), "30 minutes have passed by both clocks");
    server.run_job("tokens");
    assert_eq!(other(&server), 3, "it rests");
    server.advance(30 * MINUTE);
    server.run_job("tokens");
    assert_eq!(other(&server), 0);
}

#[test]
fn a_place_that_was_retired_ahead_of_the_clock_rests_for_an_hour_only() {
    let (server, manager) = issuing(|_| ());
    server.clock.step_wall(50 * MINUTE_MS);
    text_of_token(&server, &manager);
    server
        .put(&server.root.text, &manager.path(), &json!({ "allowedIps": ["127.0.0.1"] }))
        .expect(200);
    server.clock.step_wall(-50 * MINUTE_MS);
    server.app.accept_clock().unwrap();
    server.run_job("tokens");
    server.advance(60 * MINUTE + SECOND);
    server.run_job("tokens");
    assert_eq!(Token::of(&server, &manager.text).place(), 0);
}
