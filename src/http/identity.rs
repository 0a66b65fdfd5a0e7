//! The answer that lets a request pass: whose key it came with, in headers for the API behind.
//!
//! Every header stands in every such answer and is never empty. Some proxies copy only those that
//! are there, and would let a client's own pass in the place of one that is not.

use std::{
    borrow::Cow,
    time::{Duration, UNIX_EPOCH},
};

use actix_web::{
    HttpResponse,
    http::header::{HeaderName, HeaderValue, HttpDate, TryIntoHeaderValue},
};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use crate::{domain::scope::Catalogue, env::Timestamp, service::Verification};

/// Key id, key name, account id, external id, scopes.
static IDENTITY: [HeaderName; 5] = [
    HeaderName::from_static("x-keyward-key-id"),
    HeaderName::from_static("x-keyward-key-name"),
    HeaderName::from_static("x-keyward-account-id"),
    HeaderName::from_static("x-keyward-external-id"),
    HeaderName::from_static("x-keyward-scopes"),
];
static DEPRECATION: HeaderName = HeaderName::from_static("deprecation");
static SUNSET: HeaderName = HeaderName::from_static("sunset");

/// All but visible ASCII; and `%`, so that what is decoded is what was encoded.
const HIDDEN: &AsciiSet = &CONTROLS.add(b' ').add(b'%');
const NONE: &str = "-";

/// Whom the request that may pass comes from.
pub(super) enum Pass<'a> {
    /// It needs no key.
    Anybody,
    Key(&'a Catalogue, Verification),
}

impl Pass<'_> {
    /// 200 without a body.
    pub fn respond(&self) -> HttpResponse {
        let mut response = HttpResponse::Ok().finish();
        let headers = response.headers_mut();
        let none = || HeaderValue::from_static(NONE);
        let mut values = [none(), none(), none(), none(), none()];
        if let Self::Key(catalogue, Verification { entry: Some(entry), account, .. }) = self {
            let external_id = account.as_deref().and_then(|it| it.external_id.as_deref());
            let names: Vec<_> = catalogue.names(entry.key.scopes()).collect();
            values = [
                ours(entry.key.id.to_string()),
                value(Some(entry.key.name())),
                ours(entry.key.account.to_string()),
                value(external_id),
                ours(names.join(" ")),
            ];
            if let Some(grace) = entry.grace() {
                // A value that was replaced: since when, and until when it works.
                let since = grace.rotated_at.unwrap_or(grace.valid_until).as_millis() / 1_000;
                headers.insert(DEPRECATION.clone(), ours(format!("@{since}")));
                headers.insert(SUNSET.clone(), http_date(grace.valid_until));
            }
        }
        for (name, value) in IDENTITY.iter().zip(values) {
            headers.insert(name.clone(), value);
        }
        response
    }
}

/// Free text, as a header can carry it; `-` for none, so that a literal one is encoded.
fn value(text: Option<&str>) -> HeaderValue {
    let encoded = match text {
        None | Some("") => Cow::Borrowed(NONE),
        Some(NONE) => Cow::Borrowed("%2D"),
        Some(text) => utf8_percent_encode(text, HIDDEN).into(),
    };
    HeaderValue::from_str(&encoded).unwrap_or_else(|_| HeaderValue::from_static(NONE))
}

/// Of our own making, so visible ASCII, and blanks between scopes.
fn ours(text: String) -> HeaderValue {
    let value = Some(text).filter(|it| !it.is_empty());
    let value = value.and_then(|it| HeaderValue::from_maybe_shared(it).ok());
    value.unwrap_or_else(|| HeaderValue::from_static(NONE))
}

fn http_date(at: Timestamp) -> HeaderValue {
    let since = Duration::from_millis(u64::try_from(at.as_millis()).unwrap_or_default());
    let date = HttpDate::from(UNIX_EPOCH + since).try_into_value();
    date.unwrap_or_else(|_| HeaderValue::from_static(NONE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_text_becomes_visible_ascii_that_can_be_read_back() {
        for (given, expected) in [
            (None, "-"),
            (Some(""), "-"),
            (Some("-"), "%2D"),
            (Some("--"), "--"),
            (Some("cust_42"), "cust_42"),
            (Some("Production (EU)"), "Production%20(EU)"),
            (Some("100%"), "100%25"),
            (Some("Bücher\r\nX-Evil: 1"), "B%C3%BCcher%0D%0AX-Evil:%201"),
        ] {
            assert_eq!(value(given), expected, "{given:?}");
        }
    }
}
