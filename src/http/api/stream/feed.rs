//! One open stream: its position in the log, and the body that actix-web sends.
//!
//! A piece is made when the connection has room for it. A client that does not read therefore costs one
//! page of memory, and no more.

use std::{
    convert::Infallible,
    fmt::Write,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use actix_web::web::{self, Bytes};
use futures_core::Stream;
use tokio::{
    sync::watch,
    time::{Interval, MissedTickBehavior, interval},
};

use super::reader::Reader;
use crate::{
    http::{
        authn::{Permission, ReadEvents},
        blocking::run,
        problem::Problem,
        stream_limits::Streams,
        wire::EventBody,
    },
    service::{EventFilter, EventPage, EventView, Keyward},
};

/// Events in memory at a time.
const PAGE: u32 = 64;
/// The least time between two reads of the file while there is no backlog: the events of a busy
/// moment share one read.
const PACE: Duration = Duration::from_millis(50);
/// How long a browser waits before it reconnects, in milliseconds.
const RETRY: u32 = 2000;
const HEARTBEAT: &str = ":\n\n";

/// An open stream, between two pieces.
pub(super) struct Feed {
    app: web::Data<Keyward>,
    streams: Arc<Streams>,
    reader: Reader,
    /// `after` is the last event that was sent or filtered out.
    filter: EventFilter,
    /// The last event to be sent; `None` if the stream has no end.
    until: Option<i64>,
    state: State,
    committed: watch::Receiver<i64>,
    closing: watch::Receiver<bool>,
    heartbeat: Interval,
    pace: Interval,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    New,
    /// The last page was full: the next can be read at once.
    Behind,
    Waiting,
    Over,
}

enum Turn {
    Closing,
    Silence,
    More,
}

impl Feed {
    pub fn new(
        app: web::Data<Keyward>,
        streams: &Arc<Streams>,
        reader: Reader,
        filter: EventFilter,
    ) -> Self {
        let every = |span| {
            let mut ticks = interval(span);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            ticks
        };
        Self {
            committed: app.watch_events(),
            closing: streams.watch_closing(),
            heartbeat: every(streams.heartbeat),
            pace: every(PACE),
            app,
            streams: Arc::clone(streams),
            reader,
            filter: EventFilter { limit: PAGE, ..filter },
            until: None,
            state: State::New,
        }
    }

    /// Makes the stream end after this event.
    pub fn end_at(&mut self, seq: i64) {
        self.until = Some(seq);
    }

    /// Returns the next piece; `None` when the stream is over.
    async fn next(&mut self) -> Option<Bytes> {
        let piece = match self.state {
            State::Over => None,
            State::New => {
                self.state = State::Behind;
                // The `id` is the start, so that a client can come back there even if the connection
                // breaks before the first event.
                Some(format!("retry: {RETRY}\nid: {}\n\n", self.filter.after))
            }
            State::Behind | State::Waiting => self.follow().await,
        };
        self.heartbeat.reset();
        piece.map(Bytes::from)
    }

    async fn follow(&mut self) -> Option<String> {
        loop {
            if self.until.is_some_and(|it| it <= self.filter.after) {
                return Some(self.end("complete"));
            }
            match self.turn().await {
                Turn::Closing => return None,
                Turn::Silence => {
                    return Some(match self.refusal() {
                        Some(reason) => self.end(reason),
                        None => HEARTBEAT.to_owned(),
                    });
                }
                Turn::More => {
                    let page = self.read().await?;
                    // After the page was read and before it is sent: once a revocation was answered,
                    // the revoked key receives no event.
                    if let Some(reason) = self.refusal() {
                        return Some(self.end(reason));
                    }
                    if let Some(piece) = self.take(page) {
                        return Some(piece);
                    }
                }
            }
        }
    }

    async fn turn(&mut self) -> Turn {
        let (after, behind) = (self.filter.after, self.state == State::Behind);
        let (committed, pace) = (&mut self.committed, &mut self.pace);
        let more = async {
            if !behind {
                // An error means that the store is gone, and with it the server.
                let _ = committed.wait_for(|newest| after < *newest).await;
                pace.tick().await;
            }
        };
        let closing = async {
            let _ = self.closing.wait_for(|it| *it).await;
        };
        tokio::select! {
            biased;
            () = closing => Turn::Closing,
            _ = self.heartbeat.tick() => Turn::Silence,
            () = more => Turn::More,
        }
    }

    /// Reads the next page; `None` if the file cannot be read now. The client then reconnects and
    /// continues where it was.
    async fn read(&self) -> Option<EventPage> {
        let _turn = self.streams.reading.acquire().await.ok()?;
        let (viewer, filter) = (self.reader.viewer(), self.filter.clone());
        run(&self.app, move |app| app.event_page(viewer, filter)).await.ok()
    }

    /// Returns why the reader is no longer accepted, as the code of a problem.
    fn refusal(&self) -> Option<&'static str> {
        let Reader::Caller { principal, .. } = &self.reader else { return None };
        let refused = self.app.review(principal, ReadEvents::ANY_OF).err()?;
        Some(Problem::from(refused).code())
    }

    /// Moves past a page, and returns its events as text if there are any.
    fn take(&mut self, mut page: EventPage) -> Option<String> {
        self.state = if page.is_full { State::Behind } else { State::Waiting };
        self.filter.after = page.reached;
        page.views.retain(|it| self.until.is_none_or(|until| it.event.seq <= until));
        let mut text = String::new();
        page.views.into_iter().for_each(|it| write_event(&mut text, it));
        (!text.is_empty()).then_some(text)
    }

    fn end(&mut self, reason: &str) -> String {
        self.state = State::Over;
        format!("event: end\ndata: {{\"reason\":\"{reason}\"}}\n\n")
    }
}

fn write_event(text: &mut String, view: EventView) {
    let (seq, event_type) = (view.event.seq, view.event.event_type.clone());
    // The JSON holds no line break, so one line of `data` is enough.
    let data = serde_json::to_string(&EventBody::from(view)).unwrap_or_default();
    // Writing to a String cannot fail.
    let _ = write!(text, "id: {seq}\nevent: {event_type}\ndata: {data}\n\n");
}

type Step = Pin<Box<dyn Future<Output = (Feed, Option<Bytes>)>>>;

/// The body of a stream. actix-web asks for a piece when it has sent the one before.
pub(super) struct EventStream(Step);

impl EventStream {
    pub fn of(feed: Feed) -> Self {
        Self(step(feed))
    }
}

fn step(mut feed: Feed) -> Step {
    Box::pin(async move {
        let piece = feed.next().await;
        (feed, piece)
    })
}

impl Stream for EventStream {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let (mut feed, piece) = ready!(self.0.as_mut().poll(cx));
        if piece.is_none() {
            feed.state = State::Over;
        }
        self.0 = step(feed);
        Poll::Ready(piece.map(Ok))
    }
}
