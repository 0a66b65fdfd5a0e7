//! The requests of one connection, from their heads until their answers were handed over.

use std::{
    cell::RefCell,
    mem,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
};

use actix_web::{
    body::{BodySize, BoxBody, MessageBody},
    web::Bytes,
};

/// The requests of a connection that are being answered.
#[derive(Clone, Debug, Default)]
pub(super) struct Requests(Rc<RefCell<Running>>);

#[derive(Debug, Default)]
struct Running {
    count: usize,
    /// How many of them came with a body and have no answer yet.
    with_body: usize,
    waker: Option<Waker>,
}

/// One request, until its answer was handed over or given up.
#[derive(Debug)]
pub(super) struct Request {
    requests: Requests,
    with_body: bool,
}

/// A body that ends its request.
pub(super) struct Answer {
    body: BoxBody,
    _request: Option<Request>,
}

impl Request {
    /// Nothing is read for it any more: what comes now are further requests.
    pub fn has_its_answer(&mut self) {
        let was_reading = mem::take(&mut self.with_body);
        self.requests.0.borrow_mut().with_body -= usize::from(was_reading);
    }
}

impl Requests {
    pub fn begin(&self, with_body: bool) -> Request {
        let mut running = self.0.borrow_mut();
        running.count += 1;
        running.with_body += usize::from(with_body);
        Request { requests: self.clone(), with_body }
    }

    /// Whether a body may still be read.
    pub fn are_reading(&self) -> bool {
        self.0.borrow().with_body != 0
    }

    pub fn are_answered(&self) -> bool {
        self.0.borrow().count == 0
    }

    pub fn wake_when_answered(&self, waker: &Waker) {
        self.0.borrow_mut().waker = Some(waker.clone());
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        let mut running = self.requests.0.borrow_mut();
        running.count -= 1;
        running.with_body -= usize::from(self.with_body);
        if running.count == 0
            && let Some(waker) = running.waker.take()
        {
            waker.wake();
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
