//! `If-Match`.

use actix_web::{http::header::HeaderValue, test::TestRequest};
use keyward::fuzzing::expected_revision;

pub const TOKENS: &[&str] =
    &["\"7\"", "W/\"7\"", "*", ",", " ", "\t", "\"", "\"x,*,y\"", "\"70\"", "\"\""];

pub fn run(input: &[u8]) {
    let Ok(value) = HeaderValue::from_bytes(input) else { return };
    let request = TestRequest::get().insert_header(("If-Match", value)).to_http_request();
    let found = expected_revision(&request, 7).ok();
    let expected = match tags(input) {
        Some(Tags::Any) => Some(None),
        Some(Tags::Listed(tags)) => tags.contains(&b"7".to_vec()).then_some(Some(7)),
        None => None,
    };
    assert_eq!(found, expected, "the value means what RFC 9110 says");
}

enum Tags {
    Any,
    /// The strong ones.
    Listed(Vec<Vec<u8>>),
}

/// Reads the value byte by byte (RFC 9110, 8.8.3, 13.1.1 and 5.6.1.2); `None` if it is malformed.
fn tags(value: &[u8]) -> Option<Tags> {
    let blank = |it: &u8| *it == b' ' || *it == b'\t';
    let trimmed = |it: &[u8]| it.iter().take_while(|it| blank(it)).count();
    let mut rest = value.trim_ascii();
    if rest == b"*" {
        return Some(Tags::Any);
    }
    let mut found = Vec::new();
    loop {
        rest = &rest[trimmed(rest)..];
        if let Some(after) = rest.strip_prefix(b",") {
            rest = after;
            continue;
        }
        if rest.is_empty() {
            return Some(Tags::Listed(found));
        }
        let strong = !rest.starts_with(b"W/");
        let quoted = rest.strip_prefix(b"W/").unwrap_or(rest).strip_prefix(b"\"")?;
        let end = quoted.iter().position(|it| *it == b'"')?;
        let good = |it: &u8| *it == 0x21 || (0x23..=0x7e).contains(it) || 0x80 <= *it;
        if !quoted[..end].iter().all(good) {
            return None;
        }
        if strong {
            found.push(quoted[..end].to_vec());
        }
        rest = &quoted[end + 1..];
        rest = &rest[trimmed(rest)..];
        if !rest.is_empty() && !rest.starts_with(b",") {
            return None;
        }
    }
}
