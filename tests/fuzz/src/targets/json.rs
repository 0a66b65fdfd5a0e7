//! Strict JSON: no member twice, no number that changes.

use keyward::{domain::json::is_inexact, http::request::json};
use serde_json::Value;

use super::{KEY, keeps_the_secret};

pub const TOKENS: &[&str] = &[
    KEY,
    "{\"a\":1}",
    "{\"a\":1,\"a\":2}",
    "\"\\u0061\"",
    "[[[[[[[[[[[[[[[[",
    "]]]]]]]]]]]]]]]]",
    "null",
    "true",
    "1e5",
    "-0.0",
    "0.1",
    "123456789.12345678",
    "5e-324",
    "1.7976931348623157e308",
    "9007199254740993",
    "18446744073709551615",
    "\\ud800",
    "\\\"",
    ",",
    ":",
];

pub fn run(input: &[u8]) {
    let value = match json::parse(input) {
        Ok(value) => value,
        Err(json::NotJson(why)) => return keeps_the_secret(&why),
    };
    let text = std::str::from_utf8(input).expect("JSON is UTF-8");
    twice(&value);
    // Every reader of keyward refuses other numbers.
    if is_inexact(text) {
        return;
    }
    let printed = value.to_string();
    assert!(numbers(text).eq(numbers(&printed)), "a number changes: {text} becomes {printed}");
    let again = json::parse(printed.as_bytes()).expect("what is printed is read");
    assert_eq!(again, value, "a value survives");
    assert_eq!(again.to_string(), printed);
}

/// Checks that every object of the value is refused if one of its members comes twice.
fn twice(value: &Value) {
    match value {
        Value::Object(members) => {
            if let Some((name, first)) = members.iter().next() {
                let escaped: String =
                    name.encode_utf16().map(|it| format!("\\u{it:04x}")).collect();
                let printed = value.to_string();
                let open = printed.strip_suffix('}').expect("an object ends");
                for name in [Value::from(name.as_str()).to_string(), format!("\"{escaped}\"")] {
                    let text = format!("[{{\"x\":{open},{name}:{first}}}}}]");
                    assert!(json::parse(text.as_bytes()).is_err(), "{text}");
                }
            }
            members.values().for_each(twice);
        }
        Value::Array(items) => items.iter().for_each(twice),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => (),
    }
}

/// Returns the numbers of a JSON text, each as its sign, its digits without zeros around, and its exponent.
fn numbers(text: &str) -> impl Iterator<Item = (bool, String, i64)> {
    let (mut found, mut rest) = (Vec::new(), text);
    while let Some(at) = rest.find(|c: char| c == '"' || c == '-' || c.is_ascii_digit()) {
        rest = &rest[at..];
        let end = match rest.strip_prefix('"') {
            Some(inside) => {
                let mut escaped = false;
                let closes = |c: char| {
                    let closes = c == '"' && !escaped;
                    escaped = c == '\\' && !escaped;
                    closes
                };
                inside.find(closes).map_or(rest.len(), |it| it + 2)
            }
            None => {
                let end = rest
                    .find(|c: char| !c.is_ascii_digit() && !"+-.eE".contains(c))
                    .unwrap_or(rest.len());
                found.push(decimal(&rest[..end]));
                end
            }
        };
        rest = &rest[end..];
    }
    found.into_iter()
}

fn decimal(number: &str) -> (bool, String, i64) {
    let number = number.to_ascii_lowercase();
    let (mantissa, exponent) = number.split_once('e').unwrap_or((&number, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{}{fraction}", whole.trim_start_matches('-'));
    let trimmed = digits.trim_end_matches('0');
    let dropped = (digits.len() - trimmed.len()) as i64;
    let significant = trimmed.trim_start_matches('0').to_owned();
    if significant.is_empty() {
        return (false, significant, 0);
    }
    let exponent: i64 = exponent.parse().unwrap_or(i64::MIN / 2);
    (number.starts_with('-'), significant, exponent + dropped - fraction.len() as i64)
}
