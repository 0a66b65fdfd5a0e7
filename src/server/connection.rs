//! The limits of one accepted connection that actix-web does not set.
//!
//! Without these limits, an HTTP/1 connection of actix-web reads pipelined requests even if the client
//! reads no answer. Then answers without a body fill the write buffer without end. It parses up to
//! 128 KiB of requests at once, and 18 bytes of input cost 5 KiB of memory. It also waits for ever for
//! a client to read an answer.

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

/// How often a connection is checked.
const TICK: Duration = Duration::from_secs(10);
/// Ticks in which a client may leave an answer unread: 20 to 30 seconds.
const STALLED_TICKS: u8 = 3;
/// Ticks in which no byte moves in either direction. Longer than keep-alive (75 s) and the heartbeat of
/// an event stream (15 s). It ends connections that these do not end, as with half a second request.
const QUIET_TICKS: u8 = 9;
/// Bytes of one read.
const PIECE: usize = 2048;
/// The most requests that are forwarded to the dispatcher without an answer.
const MOST_PIPELINED: usize = 16;
/// Each request line contains this once (RFC 9112, 3).
const MARK: &[u8] = b"HTTP/1.";
/// Built once, because building it costs more than searching a request.
static MARKS: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(MARK));
/// Bytes of a mark that may be before the piece in which it ends.
const OVERLAP: usize = MARK.len() - 1;

/// A socket that reads no further requests while answers wait. It fails if its client reads no
/// answer.
#[derive(Debug)]
pub(super) struct Connection<IO> {
    io: IO,
    pub peer: Option<SocketAddr>,
    pub requests: Requests,
    input: Input,
    /// Whether the next read begins a turn. Then the dispatcher has parsed all earlier input.
    new_turn: bool,
    /// Whether the last write found the socket full.
    blocked: bool,
    /// Whether a read was refused while the socket was full.
    refused: bool,
    progress: Progress,
}

/// The progress since the last tick, and the number of ticks without progress.
#[derive(Debug)]
struct Progress {
    ticks: Interval,
    /// Whether the client read something.
    taken: bool,
    /// Whether a byte moved in either direction.
    moved: bool,
    stalled: u8,
    quiet: u8,
}

/// Input that was read from the socket and not yet forwarded.
#[derive(Debug)]
struct Input {
    /// The last bytes of the piece before, then the last piece.
    bytes: Box<[u8]>,
    /// The range of the bytes to forward.
    start: usize,
    end: usize,
    /// Requests that were forwarded since all were answered.
    forwarded: usize,
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

    /// Whether reading must wait. If so, arranges that the task is woken when it may read.
    fn must_wait(&mut self, cx: &mut Context<'_>) -> bool {
        let idle = !self.blocked && self.requests.are_answered();
        if mem::take(&mut self.new_turn) && idle {
            self.input.forwarded = 0;
        }
        if self.blocked {
            self.refused = true;
        } else if self.input.forwarded < MOST_PIPELINED {
            return false;
        } else if idle {
            cx.waker().wake_by_ref(); // Reading goes on when the dispatcher has parsed these.
        } else if self.requests.are_reading() {
            // What looks like another request may be a part of this body. So one more is forwarded
            // in each turn. The dispatcher itself stops at 16 complete requests that wait.
            self.input.forwarded = MOST_PIPELINED - 1;
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

    /// Fails if the client read nothing, or if nothing moved, for too long.
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
        Self { bytes, start: OVERLAP, end: OVERLAP, forwarded: 0 }
    }

    fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Returns the room for the next piece.
    fn room(&mut self) -> ReadBuf<'_> {
        self.bytes.copy_within(self.end - OVERLAP..self.end, 0);
        (self.start, self.end) = (OVERLAP, OVERLAP);
        ReadBuf::new(self.bytes.get_mut(OVERLAP..).unwrap_or_default())
    }

    /// Takes the bytes to forward: at most `room`, and not beyond the most pipelined requests.
    fn take(&mut self, room: usize) -> &[u8] {
        let start = self.start;
        let mut end = self.end.min(start.saturating_add(room));
        let before = start - OVERLAP;
        let seen = self.bytes.get(before..end).unwrap_or_default();
        for mark in MARKS.find_iter(seen) {
            self.forwarded += 1;
            if self.forwarded == MOST_PIPELINED {
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
        // Bytes may wait in the TLS layer. A flush without waiting bytes is no progress.
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

    /// Reads `text` in pieces of `length`. Returns how many bytes are forwarded before it waits.
    fn forwarded(text: &[u8], length: usize) -> usize {
        let mut input = Input::new();
        let mut total = 0;
        for piece in text.chunks(length) {
            input.room().put_slice(piece);
            input.end += piece.len();
            total += input.take(usize::MAX).len();
            if input.forwarded == MOST_PIPELINED {
                break;
            }
        }
        total
    }

    #[test]
    fn the_same_requests_are_forwarded_in_pieces_of_every_size() {
        let request = b"GET / HTTP/1.1\r\n\r\n";
        let flood = request.repeat(1000);
        let most = MOST_PIPELINED * request.len();
        for length in 1..=PIECE {
            let total = forwarded(&flood, length);
            assert!((most - request.len()..=most).contains(&total), "{length}: {total}");
        }
    }

    #[test]
    fn a_body_is_forwarded_completely() {
        let request = [b"POST / HTTP/1.1\r\n\r\n".to_vec(), vec![b'x'; 100_000]].concat();
        assert_eq!(forwarded(&request, PIECE), request.len());
        assert_eq!(forwarded(&request, 7), request.len());
    }
}
