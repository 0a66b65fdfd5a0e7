//! The members of a section: their names in the file and in the API, and their values.

use std::time::Duration;

use serde_json::{Value, json};
use toml::de::DeValue;

use crate::{
    config::{
        faults::quoted,
        read::{self, Raw},
    },
    domain::{
        json::{INEXACT, MAX_DEPTH, is_exact},
        lifetime::LONGEST_SECONDS,
        rate_limit::RateLimit,
    },
};

/// The kind of a member.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    Text,
    Texts,
    Number,
    Flag,
    Instant,
    Lifetime,
    Rate,
    Data,
}

/// A member of a section.
pub(super) struct Member {
    /// Its name in the file.
    pub name: &'static str,
    /// Its name in the API.
    pub api: &'static str,
    pub kind: Kind,
    /// The word for the absence of a value, if a value can be absent.
    none: Option<&'static str>,
}

const fn member(
    name: &'static str,
    api: &'static str,
    kind: Kind,
    none: Option<&'static str>,
) -> Member {
    Member { name, api, kind, none }
}

pub(super) const ACCOUNT_MEMBERS: [Member; 11] = [
    member("external_id", "externalId", Kind::Text, None),
    member("name", "name", Kind::Text, None),
    member("status", "status", Kind::Text, None),
    member("allowed_scopes", "allowedScopes", Kind::Texts, Some("all")),
    member("max_keys", "maxKeys", Kind::Number, Some("server")),
    member("max_key_lifetime", "maxKeyLifetimeSeconds", Kind::Lifetime, Some("server")),
    member("default_key_lifetime", "defaultKeyLifetimeSeconds", Kind::Lifetime, Some("server")),
    member("rate_limit", "rateLimit", Kind::Rate, Some("none")),
    member("key_rate_limit", "keyRateLimit", Kind::Rate, Some("none")),
    member("token_exchange", "tokenExchange", Kind::Flag, None),
    member("metadata", "metadata", Kind::Data, None),
];

pub(super) const KEY_MEMBERS: [Member; 9] = [
    member("sha256", "sha256", Kind::Text, None),
    member("sha512", "sha512", Kind::Text, None),
    member("name", "name", Kind::Text, None),
    member("scopes", "scopes", Kind::Texts, None),
    member("enabled", "enabled", Kind::Flag, None),
    member("expires_at", "expiresAt", Kind::Instant, Some("never")),
    member("allowed_ips", "allowedIps", Kind::Texts, Some("any")),
    member("rate_limit", "rateLimit", Kind::Rate, Some("none")),
    member("metadata", "metadata", Kind::Data, None),
];

/// Returns the name that a member of the API has in the file.
pub fn declared_name(api: &str) -> &str {
    by_api_name(api).map_or(api, |it| it.name)
}

/// Returns how the file writes a value of the API.
pub fn declared_value(api: &str, value: &Value) -> String {
    let Some(member) = by_api_name(api) else { return "changed".to_owned() };
    if value.is_null() {
        return member.none.unwrap_or("none").to_owned();
    }
    match member.kind {
        Kind::Lifetime => {
            let seconds = value.as_u64().unwrap_or_default();
            read::duration_text(Duration::from_secs(seconds))
        }
        Kind::Rate => {
            let number = |name: &str| value[name].as_u64().unwrap_or_default();
            format!("{}/{}s", number("limit"), number("windowSeconds"))
        }
        Kind::Text | Kind::Texts | Kind::Number | Kind::Flag | Kind::Instant | Kind::Data => {
            value.as_str().map_or_else(|| value.to_string(), str::to_owned)
        }
    }
}

pub(super) fn by_api_name(api: &str) -> Option<&'static Member> {
    ACCOUNT_MEMBERS.iter().chain(&KEY_MEMBERS).find(|it| it.api == api)
}

impl Member {
    /// Returns the value as the API takes it. The error completes a sentence.
    pub fn read(&self, value: &DeValue<'_>) -> Result<Value, String> {
        let raw = Raw::Toml(value);
        if let Some(word) = self.none
            && value.as_str() == Some(word)
        {
            return Ok(Value::Null);
        }
        let or = self.none.map_or_else(String::new, |it| format!(", or \"{it}\""));
        let read = match self.kind {
            Kind::Text => raw.text("a string").map(Value::from),
            Kind::Texts => read::texts(raw).map(Value::from),
            Kind::Number => read::number(raw, 0..=u32::MAX).map(Value::from),
            Kind::Flag => read::boolean(raw).map(Value::from),
            Kind::Instant => instant(value).map(Value::from),
            Kind::Lifetime => {
                let range = Duration::from_secs(1)..=Duration::from_secs(LONGEST_SECONDS.into());
                read::duration(raw, range).map(|it| it.as_secs().into())
            }
            Kind::Rate => rate(raw),
            Kind::Data => data(value),
        };
        read.map_err(|why| format!("{why}{or}"))
    }
}

/// Reads a date with a time and an offset, as TOML writes it or as a string.
fn instant(value: &DeValue<'_>) -> Result<String, String> {
    match value {
        DeValue::String(text) => Ok(text.to_string()),
        DeValue::Datetime(it) if it.date.is_some() && it.time.is_some() && it.offset.is_some() => {
            Ok(it.to_string())
        }
        DeValue::Integer(_)
        | DeValue::Float(_)
        | DeValue::Boolean(_)
        | DeValue::Datetime(_)
        | DeValue::Array(_)
        | DeValue::Table(_) => {
            Err("must be a date with a time and an offset, such as 2027-01-20T12:00:00Z".to_owned())
        }
    }
}

fn rate(raw: Raw<'_>) -> Result<Value, String> {
    const WHAT: &str = "a number, a slash and a window in s, m, h or d, such as \"100/60s\"";
    let text = raw.text(WHAT)?;
    let (limit, window) =
        RateLimit::parts(text).ok_or_else(|| format!("must be {WHAT}, not {}", quoted(text)))?;
    if RateLimit::new(limit, window).is_none() {
        let (most, longest) = (RateLimit::MAX_LIMIT, RateLimit::MAX_WINDOW_SECS);
        let longest = read::duration_text(Duration::from_secs(longest.into()));
        return Err(format!(
            "must have a limit from 1 to {most} and a window from 1s to {longest}, not {}",
            quoted(text)
        ));
    }
    Ok(json!({ "limit": limit, "windowSeconds": window }))
}

/// Returns a table as a JSON object, with the rules of a body. A date becomes a string.
fn data(value: &DeValue<'_>) -> Result<Value, String> {
    if value.is_table() { json_of(value, 1) } else { Err("must be a table".to_owned()) }
}

/// Returns a value that is `depth` levels inside the body of a request.
fn json_of(value: &DeValue<'_>, depth: usize) -> Result<Value, String> {
    if MAX_DEPTH < depth {
        return Err(format!("nests deeper than {} levels", MAX_DEPTH - 1));
    }
    Ok(match value {
        DeValue::String(text) => Value::from(&**text),
        DeValue::Boolean(it) => Value::from(*it),
        DeValue::Datetime(it) => Value::from(it.to_string()),
        DeValue::Integer(it) => {
            let (digits, radix) = (it.as_str(), it.radix());
            let negative = || i64::from_str_radix(digits, radix).map(Value::from);
            let number = u64::from_str_radix(digits, radix).map(Value::from);
            number.or_else(|_| negative()).map_err(|_| INEXACT)?
        }
        DeValue::Float(it) => {
            let text = it.as_str().trim_start_matches('+');
            if text.ends_with("nan") || text.ends_with("inf") {
                return Err(format!("holds `{text}`, and JSON has no such number"));
            }
            let number = text.parse().ok().and_then(serde_json::Number::from_f64);
            Value::from(number.filter(|_| is_exact(text)).ok_or(INEXACT)?)
        }
        DeValue::Array(items) => {
            let items = items.iter().map(|it| json_of(it.get_ref(), depth + 1));
            Value::Array(items.collect::<Result<_, _>>()?)
        }
        DeValue::Table(members) => {
            let members = members.iter().map(|(name, it)| {
                Ok((name.get_ref().to_string(), json_of(it.get_ref(), depth + 1)?))
            });
            Value::Object(members.collect::<Result<_, String>>()?)
        }
    })
}
