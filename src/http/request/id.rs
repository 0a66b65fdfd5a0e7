//! The identifier of a request, in its answer, in the log and in the events that it causes.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use actix_web::{
    HttpMessage, HttpRequest,
    http::header::{HeaderName, HeaderValue},
};

use crate::service::Keyward;

pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The identifier of one request.
#[derive(Clone, Debug)]
pub struct RequestId(Arc<str>);

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl RequestId {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn to_header(&self) -> HeaderValue {
        // An identifier holds only letters, digits, hyphens and underscores.
        HeaderValue::from_str(&self.0).unwrap_or_else(|_| HeaderValue::from_static("-"))
    }
}

impl From<RequestId> for Arc<str> {
    fn from(id: RequestId) -> Self {
        id.0
    }
}

/// Makes identifiers: a random number of the process, and a count. They are too short to be taken for
/// a key.
#[derive(Debug)]
pub struct RequestIds {
    process: String,
    next: AtomicU64,
}

impl RequestIds {
    pub fn new(app: &Keyward) -> Self {
        let mut random = [0; 4];
        app.env().entropy.fill(&mut random);
        let process = format!("req_{:08x}", u32::from_be_bytes(random));
        Self { process, next: AtomicU64::new(1) }
    }

    /// Returns the client's own identifier if it is short and plain, so that both logs can be joined; else
    /// a new one. A plain identifier holds letters, digits and hyphens, or has our own form. A key is
    /// neither.
    pub fn identify(&self, given: Option<&HeaderValue>) -> RequestId {
        let plain = |it: &&str| {
            (1..=64).contains(&it.len())
                && (it.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') || is_ours(it))
        };
        if let Some(theirs) = given.and_then(|it| it.to_str().ok()).filter(plain) {
            return RequestId(theirs.into());
        }
        let count = self.next.fetch_add(1, Ordering::Relaxed);
        let mut digits = [b'0'; 12];
        for (place, digit) in digits.iter_mut().rev().enumerate() {
            *digit = b"0123456789abcdef"[(count >> (4 * place) & 0xF) as usize];
        }
        let count = std::str::from_utf8(&digits).unwrap_or_default();
        RequestId([&*self.process, count].concat().into())
    }
}

/// Returns whether keyward made the identifier: `req_` and 20 hexadecimal digits.
fn is_ours(text: &str) -> bool {
    let hex =
        |it: &str| it.len() == 20 && it.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    text.strip_prefix("req_").is_some_and(hex)
}

/// Returns the identifier that [`wrap`](crate::http::wrap) gave to this request.
pub fn request_id(req: &HttpRequest) -> RequestId {
    req.extensions().get::<RequestId>().cloned().unwrap_or_else(|| RequestId("".into()))
}
