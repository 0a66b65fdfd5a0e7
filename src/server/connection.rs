//! The limits of one accepted connection that actix-web does not set.
//!
//! Left to itself, an HTTP/1 connection of actix-web reads pipelined requests although the client
//! takes no answer: answers without a body then fill the write buffer without end. Up to 128 KiB of
//! requests are taken apart at once, and 18 bytes of input cost 5 KiB of memory. And the connection
//! waits for ever for its client to take an answer.

use std::{
    io, mem,
    net::SocketAddr,
    pin::Pin,
    sync::LazyLock,
    task::{Context, Poll},
    time::Duration,
};

use actix_web::rt::net::{ActixStream, Ready};
use memchr::memmem::Finder;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Interval, MissedTickBehavior, interval},
};

use super::requests::Requests;

/// How often a connection is looked at.
const TICK: Duration = Duration::from_secs(10);
/// Ticks for which a client may leave an answer untaken: 20 to 30 seconds.
const STALLED_TICKS: u8 = 3;
/// Ticks in which no byte moves, either way. Longer than keep-alive (75 s) and than the signs of
/// life of an event stream (15 s): it ends what these do not, such as half a second request.
const QUIET_TICKS: u8 = 9;
/// Bytes that are read at a time.
const PIECE: usize = 2048;
/// Requests that are handed on before those before them are answered.
const MOST_PIPELINED: usize = 16;
/// Stands once in each request line (RFC 9112, 3).
const MARK: &[u8] = b"HTTP/1.";
/// Made once: making it costs more than to search a request.
static MARKS: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(MARK));
/// Bytes of a mark that may lie before the piece in which it ends.
const OVERLAP: usize = MARK.len() - 1;

/// A socket that reads no further requests while answers wait, and fails when its client takes
/// none.
#[derive(Debug)]
pub(super) struct Connection<IO> {
    io: IO,
    pub peer: Option<SocketAddr>,
    pub requests: Requests,
    input: Input,
    /// The next read begins a turn: the dispatcher has seen all that was read before.
    new_turn: bool,
    /// The socket took no more.
    blocked: bool,
    /// A read was refused meanwhile.
    refused: bool,
    progress: Progress,
}

/// What moved since the last tick, and for how many ticks nothing did.
#[derive(Debug)]
struct Progress {
    ticks: Interval,
    /// The client took something.
    taken: bool,
    /// A byte moved, either way.
    moved: bool,
    stalled: u8,
    quiet: u8,
}

/// What was read of the socket and not yet handed on.
#[derive(Debug)]
struct Input {
    /// The last piece, after the last bytes of the one before it.
    bytes: Box<[u8]>,
    /// Where what is to be handed on begins and ends.
    start: usize,
    end: usize,
    /// Requests that were handed on since all of them were answered.
    handed_on: usize,
}

impl<IO> Connection<IO> {
    pub fn new(io: IO, peer: Option<SocketAddr>) -> Self {
        Self {
            io,
            peer,
            requests: Requests::default(),
            input: Input::new(),
            new_turn: true,
            blocked: false,
            refused: false,
            progress: Progress::new(),
        }
    }

    /// Whether nothing is to be read now. Sees to it that the task is woken when it may be.
    fn must_wait(&mut self, cx: &mut Context<'_>) -> bool {
        let idle = !self.blocked && self.requests.are_answered();
        if mem::take(&mut self.new_turn) && idle {
            self.input.handed_on = 0;
        }
        if self.blocked {
            self.refused = true;
        } else if self.input.handed_on < MOST_PIPELINED {
            return false;
        } else if idle {
            cx.waker().wake_by_ref(); // To be read on when these were taken apart.
        } else if self.requests.are_reading() {
            // What looks like another request may be a part of this one's body. So one more is
            // handed on in each turn; HTTP itself stops at 16 whole requests that wait.
            self.input.handed_on = MOST_PIPELINED - 1;
            cx.waker().wake_by_ref();
        } else {
            self.requests.wake_when_answered(cx.waker());
        }
        self.new_turn = true;
        true
    }

    fn wrote<T>(&mut self, cx: &mut Context<'_>, outcome: &Poll<io::Result<T>>) -> io::Result<()> {
        match outcome {
            Poll::Ready(Ok(_)) => {
                (self.progress.taken, self.progress.moved) = (true, true);
                self.blocked = false;
                if mem::take(&mut self.refused) {
                    cx.waker().wake_by_ref();
                }
                Ok(())
            }
            Poll::Ready(Err(_)) => Ok(()),
            Poll::Pending => {
                self.blocked = true;
                self.progress.watch(cx, true)
            }
        }
    }
}

impl Progress {
    fn new() -> Self {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { ticks, taken: false, moved: false, stalled: 0, quiet: 0 }
    }

    /// Fails once the client took nothing of what waits, or nothing moved, for too long.
    fn watch(&mut self, cx: &mut Context<'_>, output_waits: bool) -> io::Result<()> {
        while self.ticks.poll_tick(cx).is_ready() {
            let (taken, moved) = (mem::take(&mut self.taken), mem::take(&mut self.moved));
            self.stalled = if output_waits && !taken { self.stalled + 1 } else { 0 };
            self.quiet = if moved { 0 } else { self.quiet + 1 };
            if STALLED_TICKS <= self.stalled || QUIET_TICKS <= self.quiet {
                return Err(io::ErrorKind::TimedOut.into());
            }
        }
        Ok(())
    }
}

impl Input {
    fn new() -> Self {
        let bytes = vec![0; OVERLAP + PIECE].into_boxed_slice();
        Self { bytes, start: OVERLAP, end: OVERLAP, handed_on: 0 }
    }

    fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Makes room for the next piece.
    fn room(&mut self) -> ReadBuf<'_> {
        self.bytes.copy_within(self.end - OVERLAP..self.end, 0);
        (self.start, self.end) = (OVERLAP, OVERLAP);
        ReadBuf::new(self.bytes.get_mut(OVERLAP..).unwrap_or_default())
    }

    /// Takes what may be handed on, at most `room` bytes: up to the request that is one too many.
    fn take(&mut self, room: usize) -> &[u8] {
        let start = self.start;
        let mut end = self.end.min(start.saturating_add(room));
        let before = start - OVERLAP;
        let seen = self.bytes.get(before..end).unwrap_or_default();
        for mark in MARKS.find_iter(seen) {
            self.handed_on += 1;
            if self.handed_on == MOST_PIPELINED {
                end = before + mark + MARK.len();
                break;
            }
        }
        self.start = end;
        self.bytes.get(start..end).unwrap_or_default()
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
            this.progress.watch(cx, this.blocked)?;
            return Poll::Pending;
        }
        if this.input.is_empty() {
            let mut piece = this.input.room();
            let outcome = Pin::new(&mut this.io).poll_read(cx, &mut piece);
            let length = piece.filled().len();
            if outcome.is_pending() {
                this.new_turn = true;
                this.progress.watch(cx, this.blocked)?;
                return Poll::Pending;
            }
            this.input.end += length;
            this.progress.moved |= length != 0;
            if length == 0 {
                return outcome; // The end, or an error.
            }
        }
        buf.put_slice(this.input.take(buf.remaining()));
        Poll::Ready(Ok(()))
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

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let outcome = Pin::new(&mut this.io).poll_flush(cx);
        // TLS has taken what the socket has not. A flush of nothing moves nothing.
        if outcome.is_pending() || this.blocked {
            this.wrote(cx, &outcome)?;
        }
        outcome
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let outcome = Pin::new(&mut this.io).poll_shutdown(cx);
        this.wrote(cx, &outcome)?;
        outcome
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads `text` in pieces of `length`; returns how many bytes are handed on before it waits.
    fn handed_on(text: &[u8], length: usize) -> usize {
        let mut input = Input::new();
        let mut total = 0;
        for piece in text.chunks(length) {
            input.room().put_slice(piece);
            input.end += piece.len();
            total += input.take(usize::MAX).len();
            if input.handed_on == MOST_PIPELINED {
                break;
            }
        }
        total
    }

    #[test]
    fn so_many_requests_are_handed_on_however_they_arrive() {
        let request = b"GET / HTTP/1.1\r\n\r\n";
        let flood = request.repeat(1000);
        let most = MOST_PIPELINED * request.len();
        for length in 1..=PIECE {
            let total = handed_on(&flood, length);
            assert!((most - request.len()..=most).contains(&total), "{length}: {total}");
        }
    }

    #[test]
    fn a_body_is_handed_on_whole() {
        let request = [b"POST / HTTP/1.1\r\n\r\n".to_vec(), vec![b'x'; 100_000]].concat();
        assert_eq!(handed_on(&request, PIECE), request.len());
        assert_eq!(handed_on(&request, 7), request.len());
    }
}
