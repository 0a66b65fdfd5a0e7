//! The answer that lets a request pass: headers that describe its key to the API behind.
//!
//! Every such answer has every header, and none is empty. Some proxies copy only the headers that are
//! there, and would pass on a header of the client in place of a missing one.

use std::time::{Duration, UNIX_EPOCH};

use actix_web::{
    HttpResponse,
    http::header::{HeaderName, HeaderValue, HttpDate, TryIntoHeaderValue},
    web,
};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use crate::{
    domain::scope::Catalogue, env::Timestamp, http::rate_fields::RateFields, service::Verification,
};

/// Key id, key name, account id, external id, scopes, expiry.
static IDENTITY: [HeaderName; 6] = [
    HeaderName::from_static("x-keyward-key-id"),
    HeaderName::from_static("x-keyward-key-name"),
    HeaderName::from_static("x-keyward-account-id"),
    HeaderName::from_static("x-keyward-external-id"),
    HeaderName::from_static("x-keyward-scopes"),
    HeaderName::from_static("x-keyward-key-expires-at"),
];
static DEPRECATION: HeaderName = HeaderName::from_static("deprecation");
static SUNSET: HeaderName = HeaderName::from_static("sunset");

/// Everything but visible ASCII; and `%`, so that decoding returns the original text.
const HIDDEN: &AsciiSet = &CONTROLS.add(b' ').add(b'%');
const NONE: &str = "-";

/// A request that may pass.
pub(super) enum Allowed<'a> {
    /// The route is public: the request needs no key.
    Public,
    /// The key of the request, the catalogue that names its scopes, and the fields about its rate
    /// limits, which the proxy may hand on.
    Key(&'a Catalogue, Verification, Option<Box<RateFields>>),
}

impl Allowed<'_> {
    /// Returns 200 without a body.
    pub fn respond(&self) -> HttpResponse {
        let mut response = HttpResponse::Ok().finish();
        let headers = response.headers_mut();
        let mut values = Values::new();
        if let Self::Key(_, _, Some(fields)) = self {
            fields.add_to(headers);
        }
        if let Self::Key(catalogue, Verification { entry: Some(entry), account, .. }, _) = self {
            let external_id = account.as_ref().and_then(|it| it.external_id.as_deref());
            values.add(|text| entry.key.id.push_to(text));
            values.add(|text| push_visible(entry.key.name(), text));
            values.add(|text| entry.key.account.push_to(text));
            values.add(|text| push_visible(external_id.unwrap_or_default(), text));
            values.add(|text| {
                for (i, name) in catalogue.names(entry.key.scopes()).enumerate() {
                    text.push_str(if i == 0 { "" } else { " " });
                    text.push_str(name);
                }
            });
            values.add(|text| {
                if let Some(end) = entry.key.expires_at() {
                    end.push_to(text);
                }
            });
            if let Some(grace) = entry.grace() {
                // The credential was replaced: since when, and until when it is accepted.
                let since = grace.rotated_at.unwrap_or(grace.valid_until).as_millis() / 1_000;
                if let Ok(since) = HeaderValue::try_from(format!("@{since}")) {
                    headers.insert(DEPRECATION.clone(), since);
                }
                let end = entry
                    .key
                    .expires_at()
                    .map_or(grace.valid_until, |it| it.min(grace.valid_until));
                headers.insert(SUNSET.clone(), http_date(end));
            }
        }
        for (name, value) in IDENTITY.iter().zip(values.finish()) {
            headers.insert(name.clone(), value);
        }
        response
    }
}

/// The values of [`IDENTITY`] in one allocation: they are made for each request to the protected API.
struct Values {
    text: String,
    ends: [usize; IDENTITY.len()],
    added: usize,
}

impl Values {
    fn new() -> Self {
        Self { text: String::with_capacity(256), ends: [0; IDENTITY.len()], added: 0 }
    }

    fn add(&mut self, push: impl FnOnce(&mut String)) {
        push(&mut self.text);
        if let Some(end) = self.ends.get_mut(self.added) {
            *end = self.text.len();
        }
        self.added += 1;
    }

    /// Returns each value in its place; [`NONE`] for one that is empty or was not added.
    fn finish(self) -> [HeaderValue; IDENTITY.len()] {
        let text = web::Bytes::from(self.text);
        let mut start = 0;
        self.ends.map(|end| {
            let value = (start < end)
                .then(|| text.slice(start..end))
                .and_then(|it| HeaderValue::from_maybe_shared(it).ok());
            start = start.max(end);
            value.unwrap_or_else(|| HeaderValue::from_static(NONE))
        })
    }
}

/// Encodes free text for a header. A literal `-` is encoded, too, because it stands for no value.
fn push_visible(value: &str, text: &mut String) {
    if value == NONE {
        text.push_str("%2D");
    } else if value.bytes().all(|it| it.is_ascii_graphic() && it != b'%') {
        text.push_str(value);
    } else {
        text.extend(utf8_percent_encode(value, HIDDEN));
    }
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
            ("", "-"),
            ("-", "%2D"),
            ("--", "--"),
            ("cust_42", "cust_42"),
            ("Production (EU)", "Production%20(EU)"),
            ("100%", "100%25"),
            ("Bücher\r\nX-Evil: 1", "B%C3%BCcher%0D%0AX-Evil:%201"),
        ] {
            let mut values = Values::new();
            values.add(|text| push_visible(given, text));
            values.add(|text| text.push_str("next"));
            let [first, second, third, ..] = values.finish();
            assert_eq!((first, second, third), (h(expected), h("next"), h("-")), "{given:?}");
        }
    }

    fn h(text: &'static str) -> HeaderValue {
        HeaderValue::from_static(text)
    }
}
