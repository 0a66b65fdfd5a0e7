//! The answers to requests with an invalid `Host`, and to requests whose handler panicked.

use std::{
    future::poll_fn,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    task::Poll,
};

use actix_http::Request;
use actix_web::{
    HttpResponse,
    http::{
        ConnectionType,
        header::{self, HeaderValue},
    },
};

use crate::http::{REQUEST_ID, RequestIds, Unread, problem::Problem};

/// Returns the refusal of a request whose `Host` is not a host with a port (RFC 9112, 3.2): a proxy before
/// keyward may understand it differently. In a question of forward auth, `Host` is that of another request,
/// and the route policy judges it.
pub(super) fn refuse_host(request: &mut Request, ids: &RequestIds) -> Option<HttpResponse> {
    let headers = &request.head().headers;
    let is_question = request.path().starts_with("/authz");
    if is_question || headers.get(header::HOST).is_none_or(|it| is_host(it.as_bytes())) {
        return None;
    }
    let detail = "the header Host must be a host, and a port if there is one";
    let refusal = Problem::bad_request("bad_request", detail);
    let refusal = ending(&refusal, headers.get(REQUEST_ID), ids);
    let unread = Unread::new(request.take_payload());
    Some(refusal.map_body(|_, body| unread.held_by(body)))
}

/// Returns the answer of a request whose handler panicked. `given` is the identifier that the client chose.
pub(super) fn of_panic(given: Option<&HeaderValue>, ids: &RequestIds) -> HttpResponse {
    ending(&Problem::internal(), given, ids)
}

/// Runs a handler. Returns `None` if it panics: the log says why, and other requests go on.
pub(super) async fn unless_panicked<T>(handler: impl Future<Output = T>) -> Option<T> {
    let mut handler = pin!(handler);
    poll_fn(|cx| {
        let polled = catch_unwind(AssertUnwindSafe(|| handler.as_mut().poll(cx)));
        polled.map_or(Poll::Ready(None), |it| it.map(Some))
    })
    .await
}

/// Returns an answer that ends its connection, because a body may follow that nothing reads.
fn ending(problem: &Problem, given: Option<&HeaderValue>, ids: &RequestIds) -> HttpResponse {
    let id = ids.identify(given);
    let mut response = problem.respond(id.as_str());
    let headers = response.headers_mut();
    headers.insert(REQUEST_ID, id.to_header());
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response.head_mut().set_connection_type(ConnectionType::Close);
    response
}

/// Returns whether the text is `uri-host [ ":" port ]` (RFC 3986, 3.2.2). It may be empty.
fn is_host(text: &[u8]) -> bool {
    let (is_name, rest) = if let Some(literal) = text.strip_prefix(b"[") {
        let Some(end) = literal.iter().position(|it| *it == b']') else { return false };
        let (address, rest) = literal.split_at(end);
        let is_address = |it: &u8| it.is_ascii_alphanumeric() || b":._~-".contains(it);
        (!address.is_empty() && address.iter().all(is_address), &rest[1..])
    } else {
        let end = text.iter().position(|it| *it == b':').unwrap_or(text.len());
        let (name, rest) = text.split_at(end);
        let is_part = |it: &u8| it.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=".contains(it);
        (name.iter().all(is_part), rest)
    };
    let is_port = |it: &[u8]| it.iter().all(u8::is_ascii_digit);
    is_name && (rest.is_empty() || rest.strip_prefix(b":").is_some_and(is_port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_has_at_most_a_port_behind_it() {
        for good in [
            "",
            "a",
            "a.example",
            "a.example.",
            "a_b",
            "A-1:8080",
            "a:",
            "127.0.0.1:1",
            "[::1]",
            "[::1]:80",
            "[::ffff:1.2.3.4]:",
            "[v1.a:b]",
            "%41",
        ] {
            assert!(is_host(good.as_bytes()), "{good}");
        }
        for bad in [
            "a/b", "u@b", "a, b", "a b", "a:b", "a:80:80", "::1", "[::1", "[::1]a", "[]",
            "[::1]:x", "a?b", "a#b", "a\\b", "\u{e9}", "<a>", "a:-1", "\"a\"", "[::1%lo]",
        ] {
            assert!(!is_host(bad.as_bytes()), "{bad}");
        }
    }

    #[test]
    fn a_panic_of_a_handler_ends_its_request_only() {
        actix_web::rt::System::new().block_on(async {
            assert_eq!(unless_panicked(async { 1 }).await, Some(1));
            let panics = async { [1].get(1).copied().unwrap() };
            assert_eq!(unless_panicked(panics).await, None);
        });
    }
}
