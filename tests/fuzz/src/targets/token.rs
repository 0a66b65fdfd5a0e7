//! The form of the token exchange.

use keyward::http::wire::{TokenRequest, read_token_request};

use super::{KEY, keeps_the_secret};

pub const TOKENS: &[&str] = &[
    KEY,
    "grant_type=urn:ietf:params:oauth:grant-type:token-exchange",
    "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Atoken-exchange",
    "&subject_token=",
    "&subject_token_type=urn:keyward:params:oauth:token-type:api-key",
    "&requested_token_type=urn:ietf:params:oauth:token-type:jwt",
    "&scope=orders:read",
    "&audience=https://api.example.com",
    "&resource=a",
    "&actor_token=a",
    "%00",
    "%",
    "+",
    "&",
    "=",
    "%ff",
];

const ONCE: [&str; 4] = ["grant_type", "subject_token", "subject_token_type", "scope"];

pub fn run(input: &[u8]) {
    let request = match read_token_request(input) {
        Ok(request) => request,
        Err(problem) => {
            assert!(problem.code() != "internal");
            return keeps_the_secret(problem.detail());
        }
    };
    let TokenRequest { key, scope, audiences, .. } = &request;
    assert!(audiences.len() <= 16 && audiences.iter().all(|it| !it.is_empty()));
    for (at, audience) in audiences.iter().enumerate() {
        assert!(!audiences[..at].contains(audience), "each audience once");
    }
    let mut form = form_urlencoded::Serializer::new(String::new());
    form.append_pair("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange");
    if let Some(key) = key {
        form.append_pair("subject_token", key);
        form.append_pair("subject_token_type", "urn:keyward:params:oauth:token-type:api-key");
    }
    if let Some(scope) = scope {
        form.append_pair("scope", scope);
    }
    for audience in audiences {
        form.append_pair("audience", audience);
    }
    same(&request, form.finish().as_bytes());
    same(&request, &[input, b"&unknown=1&scope=&audience="].concat());
    for name in ONCE {
        let value =
            form_urlencoded::parse(input).find(|(it, value)| it == name && !value.is_empty());
        if let Some((_, value)) = value {
            let again =
                form_urlencoded::Serializer::new(String::new()).append_pair(name, &value).finish();
            let twice = [input, b"&", again.as_bytes()].concat();
            assert!(read_token_request(&twice).is_err(), "{name} comes twice");
        }
    }
}

fn same(request: &TokenRequest, form: &[u8]) {
    let Ok(again) = read_token_request(form) else {
        panic!("refused: {}", String::from_utf8_lossy(form));
    };
    assert_eq!(again.key.as_deref(), request.key.as_deref());
    assert_eq!((&again.scope, &again.audiences), (&request.scope, &request.audiences));
}
