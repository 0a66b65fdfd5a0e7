//! The requests of one connection, from their heads to the ends of their answers.

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

/// The requests of a connection whose answers are not complete.
#[derive(Clone, Debug, Default)]
pub(super) struct Requests(Rc<RefCell<Running>>);

#[derive(Debug, Default)]
struct Running {
    count: usize,
    /// How many of them have a body and no answer yet.
    with_body: usize,
    waker: Option<Waker>,
}

/// One request, until its answer is complete or abandoned.
#[derive(Debug)]
pub(super) struct Request {
    requests: Requests,
    with_body: bool,
}

/// The body of an answer. Its end is the end of the request.
pub(super) struct Answer {
    body: BoxBody,
    _request: Option<Request>,
}

impl Request {
    /// Notes that the request has its answer, so that further input belongs to further requests.
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

    /// Whether the body of a request may still be read.
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
