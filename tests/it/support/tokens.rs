//! Tokens as clients get them and gateways verify them, with other code than the server's.

use base64ct::{Base64UrlUnpadded, Encoding};
use keyward::config::Config;
use ring::signature::{ECDSA_P256_SHA256_FIXED, ED25519, UnparsedPublicKey, VerificationAlgorithm};
use serde_json::{Value, json};

use super::{Key, Request, Response, TestServer};

/// The issuer of the tokens of [`issuing`].
pub const ISSUER: &str = "https://keys.example.com";

/// Starts a server that issues tokens, and makes an account whose keys may be exchanged. Returns the
/// server and the first key of the account.
pub fn issuing(change: impl FnOnce(&mut Config)) -> (TestServer, Key) {
    let server = TestServer::with(|config| {
        config.public_url = Some(ISSUER.to_owned());
        change(config);
    });
    let (_, key) = server.account(&json!({ "name": "shop", "tokenExchange": true }));
    (server, key)
}

/// A token whose signature was verified with a published key.
#[derive(Clone, Debug)]
pub struct Token {
    pub header: Value,
    pub claims: Value,
}

/// Returns a form with these members.
pub fn form(members: &[(&str, &str)]) -> Request {
    let mut body = form_urlencoded::Serializer::new(String::new());
    body.extend_pairs(members);
    Request::new("POST", "/api/v1/token")
        .header("Content-Type", "application/x-www-form-urlencoded")
        .body(body.finish())
}

/// Asks for a token for this key, with more members of the form.
pub fn exchange(server: &TestServer, key: &str, more: &[(&str, &str)]) -> Response {
    let members = [
        ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"),
        ("subject_token", key),
        ("subject_token_type", "urn:keyward:params:oauth:token-type:api-key"),
    ];
    server.send(&form(&[&members, more].concat()))
}

fn bytes(text: &str) -> Vec<u8> {
    Base64UrlUnpadded::decode_vec(text).expect("base64url")
}

impl Token {
    /// Exchanges this key and verifies the token.
    #[track_caller]
    pub fn of(server: &TestServer, key: &str) -> Self {
        Self::in_answer(server, &exchange(server, key, &[]).expect(200))
    }

    #[track_caller]
    pub fn in_answer(server: &TestServer, answer: &Response) -> Self {
        let body = answer.json();
        let token = body["access_token"].as_str().expect("a token");
        Self::verified(server, token).expect("a published key signed it")
    }

    /// Returns the parts of a token, if a key that is published now signed it.
    pub fn verified(server: &TestServer, token: &str) -> Option<Self> {
        let (signed, signature) = token.rsplit_once('.').expect("three parts");
        let (header, claims) = signed.split_once('.').expect("three parts");
        let parse = |it: &str| serde_json::from_slice::<Value>(&bytes(it)).expect("JSON");
        let (header, claims) = (parse(header), parse(claims));
        let jwks = server.send(&Request::new("GET", "/.well-known/jwks.json")).expect(200).json();
        let keys = jwks["keys"].as_array().expect("keys");
        let key = keys.iter().find(|it| it["kid"] == header["kid"])?;
        assert_eq!(key["alg"], header["alg"]);
        let part = |name: &str| bytes(key[name].as_str().expect("a coordinate"));
        let (how, public): (&'static dyn VerificationAlgorithm, _) = match &header["alg"] {
            it if it == "EdDSA" => (&ED25519, part("x")),
            it if it == "ES256" => {
                (&ECDSA_P256_SHA256_FIXED, [vec![4], part("x"), part("y")].concat())
            }
            other => panic!("{other}"),
        };
        let verified = UnparsedPublicKey::new(how, public);
        verified.verify(signed.as_bytes(), &bytes(signature)).expect("a good signature");
        Some(Self { header, claims })
    }

    /// Returns the place of the token in the status list.
    pub fn place(&self) -> u64 {
        self.claims["status"]["status_list"]["idx"].as_u64().expect("a place")
    }

    /// Returns whether a gateway with the newest status list refuses the token.
    #[track_caller]
    pub fn is_refused(&self, server: &TestServer) -> bool {
        StatusList::fetch(server).refuses(self)
    }

    /// Returns the instant at which the token ends, in seconds.
    pub fn ends_at(&self) -> i64 {
        self.claims["exp"].as_i64().expect("exp")
    }
}

/// A status list as a gateway keeps it.
pub struct StatusList {
    pub claims: Value,
    bits: Vec<u8>,
}

impl StatusList {
    #[track_caller]
    pub fn fetch(server: &TestServer) -> Self {
        let answer = server.send(&Request::new("GET", "/token-status/1")).expect(200);
        Self::in_answer(server, &answer)
    }

    #[track_caller]
    pub fn in_answer(server: &TestServer, answer: &Response) -> Self {
        assert_eq!(answer.header("content-type"), Some("application/statuslist+jwt"));
        let list = Token::verified(server, &answer.text()).expect("a published key signed it");
        assert_eq!(list.header["typ"], "statuslist+jwt");
        assert_eq!(list.claims["status_list"]["bits"], 1);
        let zlib = bytes(list.claims["status_list"]["lst"].as_str().expect("a list"));
        let bits = miniz_oxide::inflate::decompress_to_vec_zlib(&zlib).expect("zlib");
        Self { claims: list.claims, bits }
    }

    /// Returns whether the list refuses this token. A place beyond its end is refused, too.
    pub fn refuses(&self, token: &Token) -> bool {
        assert_eq!(self.claims["sub"], token.claims["status"]["status_list"]["uri"]);
        let place = usize::try_from(token.place()).expect("a small number");
        self.bits.get(place / 8).is_none_or(|it| it >> (place % 8) & 1 == 1)
    }
}
