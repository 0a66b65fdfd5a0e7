//! Connections: whether one is kept after an answer, and reports of requests that are not HTTP.

use std::{
    error::Error,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use actix_web::{
    HttpRequest, HttpResponse,
    body::{BodySize, BoxBody, MessageBody},
    dev::{Extensions, Payload, RequestHead, ResponseHead},
    http::ConnectionType,
    web::{self, Bytes},
};

use crate::{
    http::once_per_minute::OncePerMinute,
    service::Keyward,
    telemetry::{Metrics, take_protocol_error},
};

/// The body of a request that was not read to its end.
///
/// The response must hold it until it is sent. The framework closes the connection if the body
/// can still be read. If a chunked body was dropped, the framework waits for the rest of it, without
/// a deadline.
pub struct Unread {
    _payload: Payload,
}

/// A response body that holds the unread rest of the request.
struct Holding {
    body: BoxBody,
    _unread: Unread,
}

impl Unread {
    pub fn new(payload: Payload) -> Self {
        Self { _payload: payload }
    }

    pub fn held_by(self, body: impl MessageBody + 'static) -> BoxBody {
        BoxBody::new(Holding { body: body.boxed(), _unread: self })
    }
}

impl MessageBody for Holding {
    type Error = Box<dyn Error>;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Self::Error>>> {
        Pin::new(&mut self.get_mut().body).poll_next(cx)
    }
}

/// Sets `Connection: close` where the connection ends (RFC 9112, 9.6): after a body that was not read,
/// and after a request for another protocol. The framework closes those connections, but would repeat
/// the `Connection: upgrade` of the request. A client would then send its next request into a
/// connection that is about to close.
pub fn announce_end(request: &RequestHead, unread: bool, response: &mut ResponseHead) {
    if unread || request.connection_type() == ConnectionType::Upgrade {
        response.set_connection_type(ConnectionType::Close);
    }
}

/// Announces the end of the connection and holds the unread body, where no middleware does.
pub fn settle(
    req: &HttpRequest,
    unread: Option<Unread>,
    mut response: HttpResponse,
) -> HttpResponse {
    announce_end(req.head(), unread.is_some(), response.head_mut());
    match unread {
        Some(unread) => response.map_body(|_, body| unread.held_by(body)),
        None => response,
    }
}

/// Counts the requests of all connections that cannot be read as HTTP, and reports them once a
/// minute. No handler ever sees them.
pub struct MalformedRequests {
    app: web::Data<Keyward>,
    metrics: web::Data<Metrics>,
    reports: OncePerMinute,
    unreported: AtomicU64,
}

/// Reports the protocol error of one connection when it is dropped with it.
struct Watch {
    peer: Option<SocketAddr>,
    malformed: Arc<MalformedRequests>,
}

impl MalformedRequests {
    pub fn new(app: web::Data<Keyward>, metrics: web::Data<Metrics>) -> Arc<Self> {
        let (reports, unreported) = (OncePerMinute::default(), AtomicU64::new(0));
        Arc::new(Self { app, metrics, reports, unreported })
    }

    /// Watches a new connection.
    pub fn watch(self: &Arc<Self>, peer: Option<SocketAddr>, connection: &mut Extensions) {
        connection.insert(Watch { peer, malformed: Arc::clone(self) });
    }

    /// Counts a request that cannot be read, and logs it, at most once in a minute.
    pub fn record(&self, peer: Option<SocketAddr>, reason: &str) {
        self.metrics.count_malformed_requests(1);
        let count = self.unreported.fetch_add(1, Ordering::Relaxed) + 1;
        if self.reports.is_due(self.app.env().time.monotonic()) {
            self.unreported.fetch_sub(count, Ordering::Relaxed);
            let address = peer.map(|it| it.ip().to_canonical().to_string());
            tracing::warn!(
                count,
                client.address = address.as_deref().unwrap_or("unknown"),
                reason,
                "requests could not be read as HTTP; this is the last of them"
            );
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // The error is of this connection: the connection ends with it, and this thread runs nothing
        // else in between.
        if let Some(reason) = take_protocol_error() {
            self.malformed.record(self.peer, &reason);
        }
    }
}
