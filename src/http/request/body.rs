//! The body of a request: read whole, up to a limit, before the request is examined.

use std::{
    future::{Future, Ready, poll_fn, ready},
    pin::{Pin, pin},
    task::Poll,
    time::Duration,
};

use actix_web::{
    Error, FromRequest, HttpMessage, HttpRequest,
    body::MessageBody,
    dev::{Payload, ServiceRequest, ServiceResponse},
    http::{
        StatusCode,
        header::{self, HeaderMap},
    },
    middleware::Next,
    web::{Bytes, BytesMut},
};
use futures_core::Stream;
use serde_json::Value;
use tokio::time::timeout;

use crate::{
    domain::json::{INEXACT, inexact_members},
    http::{
        connection::Unread,
        problem::Problem,
        request::{
            json::{self, Members, NotJson},
            query::{KnownParameters, Query},
        },
    },
    service::Faults,
};

/// The greatest length of a body, in bytes.
pub const MAX_LEN: usize = 64 * 1024;
/// The part of a longer body that is read and dropped, so that its sender receives the answer.
const MAX_DRAINED: usize = 4 * 1024 * 1024;
/// The longest time for a body: a slow sender would hold its connection for ever.
const PATIENCE: Duration = Duration::from_secs(10);

/// The result of reading a body.
#[derive(Clone, Debug)]
pub enum Body {
    Complete(Bytes),
    TooLarge,
    TooSlow,
    Broken,
}

/// Reads at most [`MAX_LEN`] of the body, in at most [`PATIENCE`]. Pass the unread rest with the
/// response to [`settle`](crate::http::connection::settle).
///
/// A request with neither `Content-Length` nor `Transfer-Encoding` has no body (RFC 9112, 6.3), even if
/// it asks for another protocol. The framework then offers an endless body.
pub async fn collect(headers: &HeaderMap, mut payload: Payload) -> (Body, Option<Unread>) {
    if let Payload::None = payload {
        return (Body::Complete(Bytes::new()), None);
    }
    let limit = match announced(headers) {
        Announced::Nothing => return (Body::Complete(Bytes::new()), Some(Unread::new(payload))),
        // Refused before the client sends it (RFC 9110, 15.5.14).
        Announced::Length(len) if MAX_LEN < len => {
            return (Body::TooLarge, Some(Unread::new(payload)));
        }
        Announced::Length(len) if headers.contains_key(header::UPGRADE) => len,
        Announced::Length(_) | Announced::Chunks => usize::MAX,
    };
    let body = {
        let mut drained = pin!(drain(&mut payload, limit));
        // A body that has arrived already needs no timer, and neither does a request without one. On the public
        // server a body arrives one turn after its head.
        match poll_fn(|cx| Poll::Ready(drained.as_mut().poll(cx))).await {
            Poll::Ready(body) => body,
            Poll::Pending => timeout(PATIENCE, drained).await.unwrap_or(Body::TooSlow),
        }
    };
    let unread = !matches!(body, Body::Complete(_)) || limit < usize::MAX;
    (body, unread.then(|| Unread::new(payload)))
}

/// The body that the headers announce.
enum Announced {
    Nothing,
    Length(usize),
    Chunks,
}

fn announced(headers: &HeaderMap) -> Announced {
    if headers.contains_key(header::TRANSFER_ENCODING) {
        return Announced::Chunks;
    }
    let Some(length) = headers.get(header::CONTENT_LENGTH) else { return Announced::Nothing };
    // The framework has refused a length that is not a number.
    let length = length.to_str().ok().and_then(|it| it.trim().parse().ok());
    Announced::Length(length.unwrap_or(usize::MAX))
}

/// Reads to `limit`, to the end of the body, or past [`MAX_DRAINED`].
async fn drain(payload: &mut Payload, limit: usize) -> Body {
    let (mut first, mut rest) = (Bytes::new(), BytesMut::new());
    let mut seen = 0;
    while seen < limit
        && let Some(chunk) = poll_fn(|cx| Pin::new(&mut *payload).poll_next(cx)).await
    {
        let Ok(mut chunk) = chunk else { return Body::Broken };
        chunk.truncate(limit - seen);
        seen += chunk.len();
        if seen <= MAX_LEN {
            // Most bodies arrive in one piece, which need not be copied.
            if first.is_empty() {
                first = chunk;
            } else {
                rest.extend_from_slice(&chunk);
            }
        } else if MAX_DRAINED < seen {
            break;
        }
    }
    if MAX_LEN < seen {
        return Body::TooLarge;
    }
    if rest.is_empty() {
        return Body::Complete(first);
    }
    Body::Complete([first, rest.freeze()].concat().into())
}

/// Reads the body before the request is examined, and stores it with the request: an answer that leaves
/// the body unread ends the connection.
pub async fn read_body<B: MessageBody>(
    mut req: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<B>, Error> {
    let payload = req.take_payload();
    let (body, unread) = collect(req.headers(), payload).await;
    req.extensions_mut().insert(body);
    if let Some(unread) = unread {
        req.extensions_mut().insert(unread);
    }
    next.call(req).await
}

/// The body as a handler takes it, with its media type.
#[derive(Debug)]
pub struct RequestBody {
    body: Body,
    media_type: MediaType,
    /// The faults of the query, which are reported together with those of the body.
    query_faults: Faults,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum MediaType {
    Missing,
    Json,
    /// That of HTML forms, which OAuth uses.
    Form,
    Other,
}

impl RequestBody {
    /// Returns the members of the body, which must be a JSON object.
    pub fn members(self) -> Result<Members, Problem> {
        let missing = || Problem::bad_request("invalid_json", "the body must be a JSON object");
        Ok(self.read()?.ok_or_else(missing)?.with(self.query_faults))
    }

    /// Returns the members of the body; none if there is no body.
    pub fn optional_members(self) -> Result<Members, Problem> {
        Ok(self.read()?.unwrap_or_default().with(self.query_faults))
    }

    /// Refuses a body, for an operation that takes none. An empty object, which some clients send, counts
    /// as none. The members that are returned hold only the faults of the query.
    pub fn none(self) -> Result<Members, Problem> {
        let bytes = self.bytes()?.trim_ascii();
        let empty = |it| matches!(it, Value::Object(members) if members.is_empty());
        if !bytes.is_empty() && !json::parse(bytes).is_ok_and(empty) {
            let detail = "this operation takes no body";
            return Err(Problem::bad_request("unexpected_body", detail));
        }
        Ok(Members::default().with(self.query_faults))
    }

    /// Returns the bytes of a complete body of the media type JSON, if the query has no fault.
    pub fn json_bytes(&self) -> Option<&Bytes> {
        match (&self.body, self.media_type) {
            (Body::Complete(bytes), MediaType::Json) if self.query_faults.is_empty() => Some(bytes),
            (Body::Complete(_) | Body::TooLarge | Body::TooSlow | Body::Broken, _) => None,
        }
    }

    /// Returns the bytes of the body.
    pub fn bytes(&self) -> Result<&Bytes, Problem> {
        match &self.body {
            Body::Complete(bytes) => Ok(bytes),
            Body::TooLarge => {
                let detail = format!("the body is larger than the maximum of {MAX_LEN} bytes");
                let status = StatusCode::PAYLOAD_TOO_LARGE;
                Err(Problem::new(status, "payload_too_large", detail))
            }
            Body::TooSlow => {
                let detail =
                    format!("the body did not arrive within {} seconds", PATIENCE.as_secs());
                let status = StatusCode::REQUEST_TIMEOUT;
                Err(Problem::new(status, "request_timeout", detail))
            }
            Body::Broken => Err(Problem::bad_request("broken_body", "the body could not be read")),
        }
    }

    /// Returns the bytes of a form, whose operation has no query parameters.
    pub fn form(&self) -> Result<&Bytes, Problem> {
        if let Some(fault) = self.query_faults.iter().next() {
            return Err(Problem::bad_request(fault.code, "this address takes no query"));
        }
        let bytes = self.bytes()?;
        match self.media_type {
            MediaType::Form => Ok(bytes),
            MediaType::Missing if bytes.is_empty() => Ok(bytes),
            MediaType::Missing | MediaType::Json | MediaType::Other => Err(Problem::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "unsupported_media_type",
                "the body must be sent as application/x-www-form-urlencoded in UTF-8, not compressed",
            )),
        }
    }

    fn read(&self) -> Result<Option<Members>, Problem> {
        let bytes = self.bytes()?;
        match self.media_type {
            MediaType::Json => (),
            MediaType::Missing if bytes.is_empty() => return Ok(None),
            MediaType::Missing | MediaType::Form | MediaType::Other => {
                return Err(Problem::new(
                    StatusCode::UNSUPPORTED_MEDIA_TYPE,
                    "unsupported_media_type",
                    "the body must be sent as application/json in UTF-8, not compressed",
                ));
            }
        }
        if bytes.is_empty() {
            return Ok(None);
        }
        let value = json::parse(bytes);
        let value = value.map_err(|NotJson(why)| Problem::bad_request("invalid_json", why))?;
        let mut members = Members::new(value);
        for name in inexact_members(std::str::from_utf8(bytes).unwrap_or_default()) {
            members.fault(&name, "out_of_range", INEXACT);
        }
        Ok(Some(members))
    }
}

impl RequestBody {
    /// Reads the body where no middleware did, for an operation without query parameters. Returns its
    /// unread rest, too.
    pub async fn collect(req: &HttpRequest, payload: Payload) -> (Self, Option<Unread>) {
        let (body, unread) = collect(req.headers(), payload).await;
        let query = req.query_string();
        let query_faults =
            if query.is_empty() { Faults::default() } else { Query::faults_beyond(query, &[]) };
        (Self { body, media_type: media_type(req), query_faults }, unread)
    }

    /// Takes the body and the faults of the query that no handler has taken.
    pub(super) fn left_in(req: &HttpRequest) -> Self {
        let mut extensions = req.extensions_mut();
        let body = extensions.remove::<Body>().unwrap_or(Body::Complete(Bytes::new()));
        let known = extensions.remove::<KnownParameters>();
        drop(extensions);
        let faults = |it: KnownParameters| Query::faults_beyond(req.query_string(), &it.0);
        let query_faults = known.map(faults).unwrap_or_default();
        Self { body, media_type: media_type(req), query_faults }
    }
}

impl FromRequest for RequestBody {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(req: &HttpRequest, _: &mut Payload) -> Self::Future {
        let collected = req.extensions().contains::<Body>();
        ready(if collected { Ok(Self::left_in(req)) } else { Err(Problem::internal()) })
    }
}

/// The name that RFC 3629 registers, and another that decoders accept (WHATWG Encoding, 4.2).
const UTF_8: [&str; 2] = ["utf-8", "utf8"];

fn media_type(req: &HttpRequest) -> MediaType {
    let encoded = req.headers().get(header::CONTENT_ENCODING);
    if encoded.is_some_and(|it| !it.as_bytes().eq_ignore_ascii_case(b"identity")) {
        return MediaType::Other;
    }
    let Some(value) = req.headers().get(header::CONTENT_TYPE) else { return MediaType::Missing };
    if value == "application/json" {
        return MediaType::Json;
    }
    let Ok(text) = value.to_str() else { return MediaType::Other };
    let mut parts = text.split(';').map(str::trim);
    let essence = parts.next().unwrap_or_default();
    let json = essence.eq_ignore_ascii_case("application/json");
    let form = essence.eq_ignore_ascii_case("application/x-www-form-urlencoded");
    let utf8 = parts.all(|it| {
        it.split_once('=').is_none_or(|(name, value)| {
            !name.eq_ignore_ascii_case("charset")
                || UTF_8.iter().any(|it| value.trim_matches('"').eq_ignore_ascii_case(it))
        })
    });
    match (json, form) {
        (true, _) if utf8 => MediaType::Json,
        (_, true) if utf8 => MediaType::Form,
        (_, _) => MediaType::Other,
    }
}
