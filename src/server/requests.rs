//! The request of one connection, from its head to the end of its answer.

use std::{
    cell::RefCell,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
};

use actix_http::Request as HttpRequest;
use actix_web::{
    body::{BodySize, BoxBody, MessageBody},
    dev::Payload,
    http::{ConnectionType, header},
    web::Bytes,
};
use tokio::time::Instant;

use super::slots::{Slot, Standby};

/// The requests of a connection whose answers are not complete. There is one at most, because the
/// connection forwards no other.
#[derive(Clone, Debug)]
pub(super) struct Requests(Rc<RefCell<Running>>);

#[derive(Debug)]
struct Running {
    slot: Slot,
    count: usize,
    /// The framing of the newest request, until the connection takes it.
    begun: Option<Framing>,
    /// Whether the connection ends after the newest request.
    is_last: bool,
    waker: Option<Waker>,
}

/// Where the body of a request ends (RFC 9112, 6.3).
#[derive(Clone, Copy, Debug)]
pub(super) enum Framing {
    Length(u64),
    Chunks,
}

/// One request, until its answer is complete or abandoned.
#[derive(Debug)]
pub(super) struct Request(Requests);

/// The body of an answer. Its end is the end of the request.
pub(super) struct Answer {
    body: BoxBody,
    _request: Option<Request>,
}

impl Requests {
    /// The requests of a new connection in this slot.
    pub fn of(slot: Slot) -> Self {
        let running = Running { slot, count: 0, begun: None, is_last: false, waker: None };
        Self(Rc::new(RefCell::new(running)))
    }

    /// Notes that the dispatcher has parsed the head of a request.
    pub fn begin(&self, request: &mut HttpRequest) -> Request {
        let head = request.head();
        let length = head.headers.get(header::CONTENT_LENGTH);
        let length = length.and_then(|it| it.to_str().ok()?.trim().parse().ok());
        let framing = if head.headers.contains_key(header::TRANSFER_ENCODING) {
            Framing::Chunks
        } else {
            Framing::Length(length.unwrap_or(0))
        };
        // The framework offers an endless body to a request for another protocol.
        let is_endless =
            matches!(framing, Framing::Length(0)) && !matches!(request.payload(), Payload::None);
        let is_last = is_endless || request.head().connection_type() != ConnectionType::KeepAlive;
        let mut running = self.0.borrow_mut();
        running.count += 1;
        running.slot.work();
        running.begun = Some(framing);
        running.is_last = is_last;
        Request(self.clone())
    }

    pub fn take_begun(&self) -> Option<Framing> {
        self.0.borrow_mut().begun.take()
    }

    /// Whether no request may follow the newest one (RFC 9112, 9.6).
    pub fn end_here(&self) -> bool {
        self.0.borrow().is_last
    }

    pub fn are_answered(&self) -> bool {
        self.0.borrow().count == 0
    }

    /// Returns since when the connection waits for a request.
    pub fn idle_since(&self) -> Option<Instant> {
        self.0.borrow().slot.idle_since()
    }

    /// Notes why the connection may end for a new one; `None` means that it may not.
    pub fn stand_by(&self, why: Option<Standby>) {
        let slot = &mut self.0.borrow_mut().slot;
        match why {
            Some(why) => slot.stand_by(why),
            None => slot.work(),
        }
    }

    /// Waits until another connection needs the slot of this one.
    pub fn poll_end(&self, cx: &Context<'_>) -> Poll<()> {
        self.0.borrow().slot.poll_end(cx)
    }

    pub fn wake_when_answered(&self, waker: &Waker) {
        self.0.borrow_mut().waker = Some(waker.clone());
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        let mut running = self.0.0.borrow_mut();
        running.count -= 1;
        if running.count == 0 {
            running.slot.stand_by(Standby::Idle);
            if let Some(waker) = running.waker.take() {
                waker.wake();
            }
        }
    }
}

impl Answer {
    pub fn new(body: BoxBody, request: Option<Request>) -> Self {
        Self { body, _request: request }
    }
}

impl MessageBody for Answer {
    type Error = <BoxBody as MessageBody>::Error;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Self::Error>>> {
        Pin::new(&mut self.body).poll_next(cx)
    }
}
