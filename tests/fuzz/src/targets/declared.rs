//! The file of `keyward apply`.

use std::path::Path;

use keyward::{
    config::{
        ConfigErrors, ConfigFile, DeclaredFile, DeclaredSection, declared_name, declared_value,
    },
    fuzzing::read_digest,
    http::{request::json::Members, wire},
};
use serde_json::Value;

use super::{
    CATALOGUE, KEY, keeps_the_secret,
    policy::{inside, lines},
};

pub const TOKENS: &[&str] = &[
    KEY,
    "[[accounts]]\n",
    "[[keys]]\n",
    "[[accounts.keys]]\n",
    "external_id = \"a\"\n",
    "sha256 = \"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\"\n",
    "rate_limit = \"100/60s\"\n",
    "key_rate_limit = \"5/2h\"\n",
    "max_key_lifetime = \"90d\"\n",
    "max_keys = \"server\"\n",
    "allowed_ips = [\"10.0.0.0/8\"]\n",
    "expires_at = 2027-01-01T00:00:00Z\n",
    "metadata = { a = 1.5, b = [2, { c = \"d\" }] }\n",
    "\"never\"",
    "\"any\"",
    "1979-05-27T07:32:00-07:00",
];

pub fn run(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let (file, faults) = read(text);
    if !faults.is_empty() {
        inside(text, &ConfigErrors(faults.clone()));
    }
    for (account, keys) in &file.accounts {
        section(text, account, "accounts");
        let members = Members::new(Value::Object(account.members.clone()));
        sound(wire::read_account_patch(members, &CATALOGUE, None).err());
        keys.iter().for_each(|it| key(text, it));
    }
    file.keys.iter().for_each(|it| key(text, it));
}

fn read(text: &str) -> (DeclaredFile, Vec<keyward::config::Fault>) {
    DeclaredFile::read(ConfigFile { path: Path::new("apply.toml"), text })
}

fn key(text: &str, it: &DeclaredSection) {
    section(text, it, "keys");
    let mut members = Members::new(Value::Object(it.members.clone()));
    let _ = read_digest(&mut members);
    sound(wire::read_declared_key(members, &CATALOGUE).err());
}

fn sound(faults: Option<keyward::service::Faults>) {
    faults.into_iter().flatten().for_each(|it| keeps_the_secret(&it.detail));
}

/// Checks the lines, and that a value which is shown as the file writes it is read as the same value.
fn section(text: &str, section: &DeclaredSection, kind: &str) {
    for (api, value) in &section.members {
        assert!((1..=lines(text)).contains(&section.line_of(api)));
        assert!(!section.is_malformed(api));
        let shown = declared_value(api, value);
        let shown = match api.as_str() {
            "maxKeys" | "tokenExchange" | "enabled" if !value.is_null() => shown,
            "rateLimit"
            | "keyRateLimit"
            | "maxKeyLifetimeSeconds"
            | "defaultKeyLifetimeSeconds"
            | "maxKeys" => {
                format!("\"{shown}\"")
            }
            _ => continue,
        };
        let (again, faults) = read(&format!("[[{kind}]]\n{} = {shown}\n", declared_name(api)));
        assert!(faults.is_empty(), "{faults:?}");
        let sections = again.keys.iter().chain(again.accounts.iter().map(|(it, _)| it));
        let found: Vec<_> = sections.map(|it| it.members.get(api)).collect();
        assert_eq!(found, [Some(value)], "{api} = {shown}");
    }
}
