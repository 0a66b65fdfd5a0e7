//! The bodies of requests.

use keyward::{
    domain::{lifetime::Lifetimes, text::Metadata},
    env::Timestamp,
    http::{
        request::json::{self, Members},
        wire,
    },
    service::{Expiry, Faults},
};
use serde_json::{Map, Value};

use super::{APPLICATION, CATALOGUE, KEY, keeps_the_secret};

pub const TOKENS: &[&str] = &[
    KEY,
    "\"name\":\"a\"",
    "\"scopes\":[\"orders:read\"]",
    "\"anyScopes\":[\"orders:read\"]",
    "\"key\":\"k\"",
    "\"clientIp\":\"203.0.113.7\"",
    "\"cost\":1",
    "\"expiresAt\":\"2099-01-20T00:00:00Z\"",
    "\"expiresIn\":60",
    "\"allowedIps\":[\"10.0.0.0/8\"]",
    "\"rateLimit\":{\"limit\":1,\"windowSeconds\":60}",
    "\"metadata\":{\"a\":1}",
    "\"externalId\":\"a\"",
    "\"allowedScopes\":null",
    "\"maxKeys\":5",
    "\"gracePeriodSeconds\":300",
    "\"keys\":[\"a\"]",
    "\"location\":\"a\"",
    "null",
    ",",
    "1.0",
    "*",
];

type Reader = fn(Members) -> Result<Option<Metadata>, Faults>;

const READERS: [Reader; 8] = [
    |it| {
        let now = Timestamp::from_millis(1_767_225_600_000);
        let (caller, lifetimes) = (&APPLICATION.operator, Lifetimes::default());
        let expiry = Expiry { now, caller, lifetimes, existing: None };
        wire::read_new_key(it, &CATALOGUE, expiry).map(|it| it.settings.metadata)
    },
    |it| wire::read_declared_key(it, &CATALOGUE).map(|it| it.metadata),
    |it| wire::read_account_draft(it, &CATALOGUE).map(|it| Some(it.metadata)),
    |it| wire::read_account_patch(it, &CATALOGUE, None).map(|it| it.metadata),
    |it| wire::read_grace(it).map(|_| None),
    |it| wire::read_leak_report(it).map(|_| None),
    |it| wire::read_console_link(it, &CATALOGUE).map(|_| None),
    |it| wire::read_question(it, &CATALOGUE).map(|_| None),
];

pub fn run(input: &[u8]) {
    let parsed = json::parse(input).ok();
    question(input, parsed.as_ref());
    let Some(Value::Object(body)) = parsed else { return };
    let members = |it: &Map<String, Value>| Members::new(Value::Object(it.clone()));
    for read in READERS {
        match read(members(&body)) {
            Ok(metadata) => {
                if let (Some(metadata), Some(Value::Object(given))) =
                    (metadata, body.get("metadata"))
                {
                    assert_eq!(
                        metadata.to_value(),
                        Value::Object(given.clone()),
                        "metadata survives"
                    );
                }
                let mut more = body.clone();
                more.insert("unknown!".to_owned(), Value::Null);
                let faults = read(members(&more)).expect_err("an unknown member is refused");
                assert!(faults.iter().any(|it| it.code == "unknown_field"));
                let reversed: Map<_, _> = body.clone().into_iter().rev().collect();
                assert!(read(members(&reversed)).is_ok(), "the order of members says nothing");
            }
            Err(faults) => {
                assert!(!faults.is_empty());
                for fault in faults {
                    assert!(
                        fault.pointer.is_empty() || fault.pointer.starts_with('/'),
                        "{fault:?}"
                    );
                    keeps_the_secret(&fault.detail);
                    keeps_the_secret(&fault.pointer);
                }
            }
        }
    }
}

/// Checks that the fast reader of a verification accepts only what the other one accepts, as the same.
fn question(input: &[u8], body: Option<&Value>) {
    let Some(plain) = wire::read_plain_question(input, &CATALOGUE) else { return };
    let body = body.expect("the fast reader accepts what is not strict JSON").clone();
    let other = wire::read_question(Members::new(body), &CATALOGUE);
    let other = other.unwrap_or_else(|it| panic!("only the fast reader accepts it: {it:?}"));
    assert_eq!(*plain.key, *other.key);
    assert_eq!(plain.required, other.required);
    assert_eq!((plain.client_ip, plain.cost), (other.client_ip, other.cost));
}
