//! The limits of one accepted connection that actix-web does not set.
//!
//! Without these limits, an HTTP/1 connection of actix-web reads pipelined requests before it has
//! answered the earlier ones. It then answers a request with the version, and with or without the body,
//! that the newest request asks for (RFC 9112, 9.3.2), and runs requests behind one that ends the
//! connection (RFC 9112, 9.6). Answers without a body fill the write buffer without end if the client
//! reads none of them. It also waits for ever for a client to read an answer, or to complete the head of
//! a second request.

use std::{
    io, mem,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use actix_web::rt::net::{ActixStream, Ready};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Interval, MissedTickBehavior, interval},
};

use super::{
    input::{Chunks, Input, Lines},
    requests::{Framing, Requests},
    slots::{Slot, Standby},
};

/// How long a connection may wait for its next request. Long, because a gateway keeps its connections, and
/// each new one costs a handshake. The keep-alive of the framework begins again with each tick.
const KEEP_ALIVE: Duration = Duration::from_secs(75);

/// How often a connection is checked.
const TICK: Duration = Duration::from_secs(10);
/// Ticks in which a client may leave an answer unread: 20 to 30 seconds.
const STALLED_TICKS: u8 = 3;
/// Ticks in which the head of a request may be incomplete: 10 to 20 seconds. The framework limits only the
/// first head.
const HEAD_TICKS: u8 = 2;
/// Ticks in which no byte moves in either direction during a request. Longer than the heartbeat of an event
/// stream (15 s).
const QUIET_TICKS: u8 = 9;
/// Bytes of a body in chunks that are forwarded before the dispatcher parses them. A chunk of one byte costs
/// more memory than its 6 bytes, until the handler takes it.
const CHUNKS_A_TURN: usize = 16 * 1024;
/// Pieces of further input that are dropped at the end. Closing a socket with unread input could lose the
/// end of the answer.
const LAST_PIECES: usize = 32;

/// A socket that forwards one request at a time, and the next one when the answer is complete. It fails if
/// its client reads no answer.
#[derive(Debug)]
pub(super) struct Connection<IO> {
    io: IO,
    pub peer: Option<SocketAddr>,
    pub requests: Requests,
    input: Input,
    next: Next,
    /// Bytes of chunks that may still be forwarded in this turn.
    chunks_left: usize,
    /// Whether the next read begins a turn. Then the dispatcher has parsed all earlier input.
    new_turn: bool,
    /// Whether the last write found the socket full.
    blocked: bool,
    /// Whether a read was refused while the socket was full.
    refused: bool,
    progress: Progress,
}

/// What the next bytes of the client are.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Next {
    /// The head of a request.
    Head(Lines),
    /// What the head says. `woken` says that the dispatcher had a turn to parse it.
    Begun { woken: bool },
    /// So many bytes of a body.
    Body(u64),
    /// A body in chunks.
    Chunks(Chunks),
    /// The next request, when this one has its answer.
    AfterAnswer,
    /// Bytes after the last request. They are dropped.
    Nothing,
}

/// The progress since the last tick, and the number of ticks without progress.
#[derive(Debug)]
struct Progress {
    ticks: Interval,
    keep_alive: Duration,
    /// Whether the client read something.
    taken: bool,
    /// Whether a byte moved in either direction.
    moved: bool,
    stalled: u8,
    quiet: u8,
    /// The ticks since the head of a request began.
    head: u8,
}

impl<IO> Connection<IO> {
    pub fn new(io: IO, peer: Option<SocketAddr>, slot: Slot) -> Self {
        Self {
            io,
            peer,
            requests: Requests::of(slot),
            input: Input::new(),
            next: Next::Head(Lines::NONE),
            chunks_left: CHUNKS_A_TURN,
            new_turn: true,
            blocked: false,
            refused: false,
            progress: Progress::new(),
        }
    }

    /// Finds out what the next bytes are, after the dispatcher has parsed all earlier ones.
    fn begin_turn(&mut self) {
        self.chunks_left = CHUNKS_A_TURN;
        if let Next::Begun { woken } = self.next {
            self.next = match self.requests.take_begun() {
                Some(Framing::Length(0)) => Next::AfterAnswer,
                Some(Framing::Length(length)) => Next::Body(length),
                Some(Framing::Chunks) => Next::Chunks(Chunks::START),
                // The dispatcher did not begin this request, and ends the connection.
                None if woken => Next::Nothing,
                None => self.next,
            };
        }
        if self.next == Next::AfterAnswer {
            if self.requests.end_here() {
                self.next = Next::Nothing;
            } else if self.requests.are_answered() {
                self.next = Next::Head(Lines::NONE);
            }
        }
    }

    /// Returns how many of the bytes at hand may be forwarded, and notes what comes after them.
    fn forwardable(&mut self, room: usize) -> usize {
        let bytes = self.input.bytes(room);
        match &mut self.next {
            Next::Head(lines) => lines.end(bytes).map_or(bytes.len(), |end| {
                self.next = Next::Begun { woken: false };
                self.progress.head = 0;
                end
            }),
            Next::Body(left) => {
                let length = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                *left -= length as u64;
                if *left == 0 {
                    self.next = Next::AfterAnswer;
                }
                length
            }
            Next::Chunks(chunks) => {
                let bytes = bytes.get(..self.chunks_left).unwrap_or(bytes);
                let end = chunks.end(bytes);
                if end.is_some() {
                    self.next = Next::AfterAnswer;
                }
                let length = end.unwrap_or(bytes.len());
                self.chunks_left -= length;
                length
            }
            Next::Begun { .. } | Next::AfterAnswer => 0,
            Next::Nothing => {
                self.input.clear();
                0
            }
        }
    }

    /// Arranges that the task is woken when more of the input may be forwarded.
    fn wait(&mut self, cx: &Context<'_>) {
        match &mut self.next {
            Next::Begun { woken: woken @ false } => {
                *woken = true;
                cx.waker().wake_by_ref();
            }
            Next::Begun { woken: true } => (),
            Next::AfterAnswer if !self.requests.are_answered() => {
                self.requests.wake_when_answered(cx.waker());
            }
            Next::AfterAnswer | Next::Chunks(_) | Next::Head(_) | Next::Body(_) | Next::Nothing => {
                cx.waker().wake_by_ref();
            }
        }
    }

    fn wrote<T>(&mut self, cx: &mut Context<'_>, outcome: &Poll<io::Result<T>>) -> io::Result<()> {
        match outcome {
            Poll::Ready(Ok(_)) => {
                (self.progress.taken, self.progress.moved) = (true, true);
                self.progress.stalled = 0;
                self.blocked = false;
                if mem::take(&mut self.refused) {
                    cx.waker().wake_by_ref();
                }
                Ok(())
            }
            Poll::Ready(Err(_)) => Ok(()),
            Poll::Pending => {
                self.blocked = true;
                self.progress.watch(cx, true, None, false).map(drop)
            }
        }
    }

    /// Watches a connection that has no further input now. Returns whether it ends here, without a fault,
    /// because it waits for a request.
    fn watch_input(&mut self, cx: &mut Context<'_>) -> io::Result<bool> {
        let head = if let Next::Head(lines) = self.next { Some(lines) } else { None };
        let has_begun = head.is_some_and(|it| it != Lines::NONE);
        let idle_since = self.requests.idle_since().filter(|_| head == Some(Lines::NONE));
        let has_lapsed = self.progress.watch(cx, self.blocked, idle_since, has_begun)?;
        // The end of an answer may still be in the buffer: a client that reads it is not idle.
        self.requests.stand_by(if self.blocked {
            (0 < self.progress.stalled).then_some(Standby::Unread)
        } else {
            head.map(|_| Standby::Idle)
        });
        // Asked in every state: the end of an answer wakes nothing, and then the connection waits.
        if self.requests.poll_end(cx).is_pending() && !has_lapsed {
            return Ok(false);
        }
        if self.blocked { Err(io::ErrorKind::TimedOut.into()) } else { Ok(true) }
    }
}

impl<IO: AsyncRead + Unpin> Connection<IO> {
    /// Reads a piece if none is at hand. Returns whether there is one: `false` is the end.
    fn poll_input(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        if self.input.is_empty() {
            let mut piece = self.input.room();
            let outcome = Pin::new(&mut self.io).poll_read(cx, &mut piece);
            let length = piece.filled().len();
            ready!(outcome)?;
            self.input.fill(length);
            self.progress.moved |= length != 0;
        }
        Poll::Ready(Ok(!self.input.is_empty()))
    }

    fn poll_forward(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.blocked {
            self.refused = true;
            return Poll::Pending;
        }
        // It also reads while nothing may be forwarded, to find out that the client is gone.
        while ready!(self.poll_input(cx))? {
            let length = self.forwardable(buf.remaining());
            if length != 0 {
                buf.put_slice(self.input.take(length));
                break;
            }
            if !self.input.is_empty() {
                self.wait(cx);
                return Poll::Pending;
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl Progress {
    fn new() -> Self {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let keep_alive = KEEP_ALIVE;
        Self { ticks, keep_alive, taken: false, moved: false, stalled: 0, quiet: 0, head: 0 }
    }

    /// Fails if the client read nothing, sent no more than a part of a head, or if nothing moved, for too
    /// long. Returns whether an idle connection has reached the end of its keep-alive.
    fn watch(
        &mut self,
        cx: &mut Context<'_>,
        output_waits: bool,
        idle_since: Option<Instant>,
        head_waits: bool,
    ) -> io::Result<bool> {
        while self.ticks.poll_tick(cx).is_ready() {
            let (taken, moved) = (mem::take(&mut self.taken), mem::take(&mut self.moved));
            self.stalled = if output_waits && !taken { self.stalled + 1 } else { 0 };
            self.quiet = if moved { 0 } else { self.quiet + 1 };
            self.head = if head_waits { self.head + 1 } else { 0 };
            if STALLED_TICKS <= self.stalled || QUIET_TICKS <= self.quiet || HEAD_TICKS <= self.head
            {
                return Err(io::ErrorKind::TimedOut.into());
            }
            if let Some(since) = idle_since {
                let left = self.keep_alive.saturating_sub(since.elapsed());
                if left.is_zero() {
                    return Ok(true);
                }
                if left < TICK {
                    self.ticks.reset_after(left);
                }
            }
        }
        Ok(false)
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Connection<IO> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if mem::take(&mut this.new_turn) {
            this.begin_turn();
        }
        let outcome = this.poll_forward(cx, buf);
        if outcome.is_pending() {
            this.new_turn = true;
            if this.watch_input(cx)? {
                return Poll::Ready(Ok(()));
            }
        }
        outcome
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Connection<IO> {
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
        for _ in 0..LAST_PIECES {
            this.input.clear();
            if !matches!(this.poll_input(cx), Poll::Ready(Ok(true))) {
                break;
            }
        }
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
    use std::{
        sync::{
            Arc,
            atomic::{AtomicBool, Ordering},
        },
        task::{Wake, Waker},
    };

    use actix_http::Request;
    use actix_web::rt::System;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
        time::timeout,
    };

    use super::*;

    /// Longer than every time limit of these tests.
    const LONG: Duration = Duration::from_secs(30);
    const SHORT: Duration = Duration::from_millis(50);

    /// Returns a connection with a short keep-alive, and its client.
    fn connection(most: usize) -> (Connection<DuplexStream>, DuplexStream) {
        let (client, io) = duplex(1024);
        let mut connection = Connection::new(io, None, Slot::open(most));
        connection.progress.keep_alive = SHORT;
        (connection, client)
    }

    /// Reads what the connection forwards next. Nothing is its end.
    async fn forwarded(connection: &mut Connection<DuplexStream>) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; 1024];
        let length = timeout(LONG, connection.read(&mut bytes)).await.unwrap()?;
        bytes.truncate(length);
        Ok(bytes)
    }

    #[test]
    fn an_idle_connection_ends_after_its_keep_alive() {
        System::new().block_on(async {
            let (mut connection, _client) = connection(10);
            let begin = Instant::now();
            assert_eq!(forwarded(&mut connection).await.unwrap(), b"");
            assert!(SHORT <= begin.elapsed() && begin.elapsed() < TICK, "{:?}", begin.elapsed());
        });
    }

    #[test]
    fn a_head_that_has_begun_is_not_cut_off_by_keep_alive() {
        System::new().block_on(async {
            let (mut connection, mut client) = connection(10);
            client.write_all(b"GET / ").await.unwrap();
            assert_eq!(forwarded(&mut connection).await.unwrap(), b"GET / ");
            let more = timeout(SHORT * 4, connection.read(&mut [0; 9])).await;
            assert!(more.is_err(), "{more:?}");
        });
    }

    #[test]
    fn a_connection_ends_for_a_new_one_without_a_fault() {
        System::new().block_on(async {
            let (mut connection, _client) = connection(1);
            connection.progress.keep_alive = LONG * 2;
            let (ended, _new) = tokio::join!(forwarded(&mut connection), async { Slot::open(1) });
            assert_eq!(ended.unwrap(), b"");
        });
    }

    /// Fills the socket, and returns how many of the bytes of an answer it took.
    async fn fill(connection: &mut Connection<DuplexStream>) -> usize {
        let mut taken = 0;
        while let Ok(length) = timeout(SHORT, connection.write(&[0; 100])).await {
            taken += length.unwrap();
        }
        taken
    }

    #[test]
    fn a_client_that_reads_its_answer_keeps_its_connection_until_it_has_all_of_it() {
        System::new().block_on(async {
            let (mut connection, mut client) = connection(1);
            connection.progress.keep_alive = SHORT;
            let taken = fill(&mut connection).await;
            let _new = Slot::open(1);
            let early = timeout(SHORT * 4, connection.read(&mut [0; 9])).await;
            assert!(early.is_err(), "{early:?}");
            connection.progress.stalled = 1;
            client.read_exact(&mut vec![0; taken]).await.unwrap();
            connection.write_all(b"the end").await.unwrap();
            assert_eq!(connection.progress.stalled, 0, "it reads again");
            assert_eq!(forwarded(&mut connection).await.unwrap(), b"");
            let mut end = [0; 7];
            client.read_exact(&mut end).await.unwrap();
            assert_eq!(&end, b"the end");
        });
    }

    #[test]
    fn a_connection_whose_answer_is_unread_ends_for_a_new_one_also_within_its_request() {
        for has_request in [false, true] {
            System::new().block_on(async {
                let (mut connection, mut client) = connection(1);
                connection.progress.keep_alive = LONG * 2;
                let mut request = None;
                if has_request {
                    client.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
                    assert!(forwarded(&mut connection).await.unwrap().starts_with(b"GET"));
                    request = Some(connection.requests.begin(&mut Request::new()));
                }
                fill(&mut connection).await;
                connection.progress.stalled = 1;
                let (_new, begin) = (Slot::open(1), Instant::now());
                let ended = forwarded(&mut connection).await.map_err(|it| it.kind());
                assert_eq!(ended, Err(io::ErrorKind::TimedOut), "{has_request}");
                assert!(begin.elapsed() < TICK, "{:?}", begin.elapsed());
                drop(request);
            });
        }
    }

    #[derive(Default)]
    struct Woken(AtomicBool);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_connection_that_answered_in_one_turn_is_woken_when_its_slot_is_needed() {
        System::new().block_on(async {
            let (mut connection, mut client) = connection(1);
            client.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
            let woken = Arc::new(Woken::default());
            let waker = Waker::from(Arc::clone(&woken));
            let (mut cx, mut bytes) = (Context::from_waker(&waker), [0; 64]);
            for is_pending in [false, true] {
                let mut buffer = ReadBuf::new(&mut bytes);
                let outcome = Pin::new(&mut connection).poll_read(&mut cx, &mut buffer);
                assert_eq!(outcome.is_pending(), is_pending);
            }
            drop(connection.requests.begin(&mut Request::new()));
            woken.0.store(false, Ordering::Relaxed);
            let _new = Slot::open(1);
            assert!(woken.0.load(Ordering::Relaxed));
        });
    }

    #[test]
    fn input_behind_a_head_that_did_not_begin_is_dropped() {
        System::new().block_on(async {
            let (mut connection, mut client) = connection(10);
            let head = b"GET / HTTP/1.1\r\n\r\n";
            client.write_all(&[&head[..], b"more"].concat()).await.unwrap();
            assert_eq!(forwarded(&mut connection).await.unwrap(), head);
            drop(client);
            assert_eq!(
                forwarded(&mut connection).await.unwrap(),
                b"",
                "it sees that the client is gone"
            );
        });
    }
}
