//! The limits of one accepted connection that actix-web does not set.
//!
//! Left to itself, an HTTP/1 connection of actix-web reads pipelined requests although the client
//! takes no answer: answers without a body then fill the write buffer without end, and up to
//! 128 KiB of requests are taken apart at once, at some 700 bytes of memory for 18 bytes of input.
//! It also waits for ever for the client to take an answer.

use std::{
    cell::RefCell,
    io,
    net::SocketAddr,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use actix_web::{
    body::{BodySize, BoxBody, MessageBody},
    rt::net::{ActixStream, Ready},
    web::Bytes,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Interval, MissedTickBehavior, interval},
};

/// How often a connection is looked at.
const TICK: Duration = Duration::from_secs(10);
/// Ticks for which a client may leave an answer untaken: 20 to 30 seconds.
const STALLED_TICKS: u8 = 3;
/// Ticks in which no byte moves, either way. Longer than keep-alive (75 s) and than the signs of
/// life of an event stream (15 s): it ends what these do not, such as half a second request.
const QUIET_TICKS: u8 = 9;
/// Bytes that are read at a time.
const PIECE: usize = 2048;
/// Bytes that are read without a look at what they are.
const FREELY: usize = 1024;
/// Further requests that are read before the ones before them are answered.
const MOST_PIPELINED: usize = 32;
/// Stands once in each request line (RFC 9112, 3).
const MARK: &[u8] = b"HTTP/1.";

/// A socket that reads no further requests while answers wait, and fails when its client takes
/// none.
#[derive(Debug)]
pub(super) struct Connection<IO> {
    io: IO,
    pub peer: Option<SocketAddr>,
    pub requests: Requests,
    pipelined: Pipelined,
    /// The next read begins a turn: the dispatcher has seen all that was read before.
    new_turn: bool,
    /// The socket took no more.
    blocked: bool,
    /// A read was refused meanwhile.
    refused: bool,
    ticks: Interval,
    /// Since the last tick the client took something; a byte moved.
    taken: bool,
    moved: bool,
    stalled: u8,
    quiet: u8,
}

/// Counts the requests in what is read.
#[derive(Debug, Default)]
struct Pipelined {
    bytes: usize,
    /// Characters of [`MARK`] seen last.
    matched: usize,
    count: usize,
}

/// The requests of a connection that are being answered.
#[derive(Clone, Debug, Default)]
pub(super) struct Requests(Rc<RefCell<Running>>);

#[derive(Debug, Default)]
struct Running {
    count: usize,
    waker: Option<Waker>,
}

/// One request, until its answer was handed over or given up.
#[derive(Debug)]
pub(super) struct Request(Requests);

/// A body that ends its request.
pub(super) struct Answer {
    body: BoxBody,
    _request: Option<Request>,
}

impl<IO> Connection<IO> {
    pub fn new(io: IO, peer: Option<SocketAddr>) -> Self {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            io,
            peer,
            requests: Requests::default(),
            pipelined: Pipelined::default(),
            new_turn: true,
            blocked: false,
            refused: false,
            ticks,
            taken: false,
            moved: false,
            stalled: 0,
            quiet: 0,
        }
    }

    /// Fails once the client took nothing, or nothing moved, for too long.
    fn watch(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        while self.ticks.poll_tick(cx).is_ready() {
            let (taken, moved) = (std::mem::take(&mut self.taken), std::mem::take(&mut self.moved));
            self.stalled = if self.blocked && !taken { self.stalled + 1 } else { 0 };
            self.quiet = if moved { 0 } else { self.quiet + 1 };
            if STALLED_TICKS <= self.stalled || QUIET_TICKS <= self.quiet {
                return Err(io::ErrorKind::TimedOut.into());
            }
        }
        Ok(())
    }

    /// Whether nothing is to be read now. Sees to it that the task is woken when it may be.
    fn must_wait(&mut self, cx: &mut Context<'_>) -> bool {
        let idle = !self.blocked && self.requests.are_answered();
        if std::mem::take(&mut self.new_turn) && idle {
            self.pipelined = Pipelined::default();
        }
        if self.blocked {
            self.refused = true;
        } else if self.pipelined.count < MOST_PIPELINED {
            return false;
        } else if idle {
            cx.waker().wake_by_ref(); // To be read on when these were taken apart.
        } else {
            self.requests.wake_when_answered(cx.waker());
        }
        self.new_turn = true;
        true
    }

    fn wrote(&mut self, cx: &mut Context<'_>, outcome: &Poll<io::Result<usize>>) -> io::Result<()> {
        match outcome {
            Poll::Ready(Ok(_)) => {
                (self.taken, self.moved, self.blocked) = (true, true, false);
                if std::mem::take(&mut self.refused) {
                    cx.waker().wake_by_ref();
                }
                Ok(())
            }
            Poll::Ready(Err(_)) => Ok(()),
            Poll::Pending => {
                self.blocked = true;
                self.watch(cx)
            }
        }
    }
}

impl Pipelined {
    fn note(&mut self, read: &[u8]) {
        let free = FREELY.saturating_sub(self.bytes);
        self.bytes += read.len();
        for byte in read.get(free..).unwrap_or_default() {
            let goes_on = MARK.get(self.matched) == Some(byte);
            self.matched = if goes_on { self.matched + 1 } else { usize::from(*byte == MARK[0]) };
            if self.matched == MARK.len() {
                (self.matched, self.count) = (0, self.count + 1);
            }
        }
    }
}

impl Requests {
    pub fn begin(&self) -> Request {
        self.0.borrow_mut().count += 1;
        Request(self.clone())
    }

    fn are_answered(&self) -> bool {
        self.0.borrow().count == 0
    }

    fn wake_when_answered(&self, waker: &Waker) {
        self.0.borrow_mut().waker = Some(waker.clone());
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        let mut running = self.0.0.borrow_mut();
        running.count -= 1;
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

impl<IO: AsyncRead + Unpin> AsyncRead for Connection<IO> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.must_wait(cx) {
            this.watch(cx)?;
            return Poll::Pending;
        }
        let room = buf.remaining().min(PIECE);
        let mut piece = ReadBuf::new(buf.initialize_unfilled_to(room));
        let outcome = Pin::new(&mut this.io).poll_read(cx, &mut piece);
        if outcome.is_pending() {
            this.new_turn = true;
            this.watch(cx)?;
            return Poll::Pending;
        }
        this.pipelined.note(piece.filled());
        this.moved |= !piece.filled().is_empty();
        let read = piece.filled().len();
        buf.advance(read);
        outcome
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Connection<IO> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let outcome = Pin::new(&mut this.io).poll_write(cx, buf);
        this.wrote(cx, &outcome)?;
        outcome
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let outcome = Pin::new(&mut this.io).poll_write_vectored(cx, bufs);
        this.wrote(cx, &outcome)?;
        outcome
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

impl<IO: ActixStream> ActixStream for Connection<IO> {
    fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<Ready>> {
        self.io.poll_read_ready(cx)
    }

    fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<Ready>> {
        self.io.poll_write_ready(cx)
    }
}
