//! The delivery of one webhook, on a thread of its own.

use std::{
    collections::VecDeque,
    panic::{self, AssertUnwindSafe},
    sync::Arc,
    time::Duration,
};

use serde::Serialize;
use tokio::{runtime::Runtime, sync::watch};

use super::{
    access::Access,
    client::{Client, Message, Outcome},
};
use crate::{
    domain::webhook::WebhookCursor,
    http::wire::EventBody,
    service::{Error, EventFilter, EventView, Keyward, Viewer, Webhook},
    telemetry::DeliveryResult,
};

/// Events that are read at a time.
const PAGE: u32 = 64;
/// How often a webhook that waits for its next attempt looks at the clock, which may leap.
const CLOCK_CHECK: Duration = Duration::from_millis(200);

/// The delivery of one webhook.
pub(super) struct Delivery {
    webhook: Arc<Webhook>,
    client: Client,
    access: Arc<Access>,
    runtime: Runtime,
    stopping: watch::Receiver<bool>,
    committed: watch::Receiver<i64>,
    /// `None` until the stored position was read.
    cursor: Option<WebhookCursor>,
    /// The newest event when the cursor was last looked at.
    newest: i64,
    /// What is stored.
    stored: WebhookCursor,
    /// Events after the cursor.
    backlog: VecDeque<EventView>,
    last_error: Option<String>,
    reads: FailureLog,
    writes: FailureLog,
}

/// Tells which of many failures in a row is to be logged: the first.
#[derive(Debug, Default)]
struct FailureLog {
    is_failing: bool,
}

enum Step {
    Send(Box<EventView>),
    /// Nothing to do until the log grows, or until this time has passed.
    Wait(Option<Duration>),
}

/// The body of a message (Standard Webhooks, "Payload structure").
#[derive(Serialize)]
struct Payload {
    r#type: String,
    timestamp: String,
    data: EventBody,
}

impl FailureLog {
    /// Returns whether this outcome is a failure after a success, or the first of all.
    fn is_news(&mut self, fails: bool) -> bool {
        !std::mem::replace(&mut self.is_failing, fails) && fails
    }
}

impl Delivery {
    pub fn new(
        webhook: Webhook,
        access: Arc<Access>,
        stopping: watch::Receiver<bool>,
        committed: watch::Receiver<i64>,
    ) -> Result<Self, std::io::Error> {
        let webhook = Arc::new(webhook);
        Ok(Self {
            client: Client::new(Arc::clone(&webhook)),
            webhook,
            access,
            runtime: tokio::runtime::Builder::new_current_thread().enable_time().build()?,
            stopping,
            committed,
            cursor: None,
            newest: 0,
            stored: WebhookCursor::default(),
            backlog: VecDeque::new(),
            last_error: None,
            reads: FailureLog::default(),
            writes: FailureLog::default(),
        })
    }

    /// Delivers until the server stops.
    pub fn run(mut self) {
        let access = Arc::clone(&self.access);
        while !*self.stopping.borrow() {
            let Some(step) = access.with(|app| self.step(app)) else { return };
            let is_news = self.reads.is_news(step.is_err());
            match step {
                Ok(Step::Send(event)) => {
                    if self.send(*event).is_none() {
                        return;
                    }
                }
                Ok(Step::Wait(limit)) => self.wait(limit),
                Err(err) => {
                    if is_news {
                        self.warn(&err, "the audit log cannot be read for a webhook");
                    }
                    self.wait(Some(CLOCK_CHECK));
                }
            }
        }
    }

    /// Returns what to do now.
    fn step(&mut self, app: &Keyward) -> Result<Step, Error> {
        let cursor = self.current_cursor(app)?;
        if cursor.disabled_at.is_some() {
            return Ok(Step::Wait(None));
        }
        let wait = cursor.wait(app.env().time.now());
        if !wait.is_zero() {
            return Ok(Step::Wait(Some(wait.min(CLOCK_CHECK))));
        }
        if self.backlog.is_empty() {
            self.read(app, cursor)?;
        }
        Ok(self.backlog.pop_front().map_or(Step::Wait(None), |it| Step::Send(Box::new(it))))
    }

    /// Returns the cursor. While the webhook waits for an attempt or is disabled, a new event may mean
    /// that an operator has enabled it.
    fn current_cursor(&mut self, app: &Keyward) -> Result<WebhookCursor, Error> {
        let newest = *self.committed.borrow_and_update();
        let grown = std::mem::replace(&mut self.newest, newest) != newest;
        let mut known = self.cursor;
        let waits = |it: WebhookCursor| it.next_attempt.is_some() || it.disabled_at.is_some();
        if known.is_none_or(|it| grown && waits(it)) {
            let mut found = app.webhook_cursor(&self.webhook)?;
            self.stored = found;
            // What was delivered while the storage took no changes is not delivered again.
            found.seq = found.seq.max(known.map_or(0, |it| it.seq));
            known = Some(found);
            app.report_webhook(&self.webhook.name, found.seq, self.last_error.clone());
        }
        self.cursor = known;
        Ok(known.unwrap_or_default())
    }

    /// Reads the next events, and passes over those that the webhook does not subscribe to.
    fn read(&mut self, app: &Keyward, cursor: WebhookCursor) -> Result<(), Error> {
        let mut after = cursor.seq;
        loop {
            let filter = EventFilter { after, limit: PAGE, ..EventFilter::default() };
            let page = app.event_page(Viewer::Operator, filter)?;
            after = page.reached;
            self.backlog.extend(
                page.views.into_iter().filter(|it| self.webhook.wants(&it.event.event_type)),
            );
            if !self.backlog.is_empty() {
                return Ok(());
            }
            let cursor = WebhookCursor { seq: after, ..cursor };
            self.cursor = Some(cursor);
            app.report_webhook(&self.webhook.name, after, self.last_error.clone());
            // So that a start reads little again, without a change for each event.
            if self.stored.seq + i64::from(PAGE) <= after {
                self.stored = app.move_webhook_cursor(&self.webhook, self.stored, cursor)?;
                self.cursor = Some(self.stored);
            }
            if !page.is_full || *self.stopping.borrow() {
                return Ok(());
            }
        }
    }

    /// Makes one attempt and stores how it ended. Returns `None` if the server has stopped meanwhile.
    fn send(&mut self, view: EventView) -> Option<()> {
        let access = Arc::clone(&self.access);
        let now = access.with(|app| app.env().time.now())?;
        let seq = view.event.seq;
        let id = message_id(&view);
        let payload = Payload {
            r#type: view.event.event_type.clone(),
            timestamp: view.event.time.to_string(),
            data: view.into(),
        };
        let body = serde_json::to_vec(&payload).unwrap_or_default();
        let message = Message { id: &id, body: &body, now };
        // The library panics if the system refuses it a thread. The attempt fails then, and not the
        // webhook.
        let attempt = panic::catch_unwind(AssertUnwindSafe(|| self.client.post(&message)));
        let outcome = attempt.unwrap_or_else(|_| Outcome::Failed {
            why: "the attempt ended with an internal error".to_owned(),
            asked: None,
        });
        access.with(|app| self.conclude(app, seq, outcome))
    }

    fn conclude(&mut self, app: &Keyward, seq: i64, outcome: Outcome) {
        let (before, now) = (self.cursor.unwrap_or_default(), app.env().time.now());
        let name = &self.webhook.name;
        let (cursor, result, error) = match outcome {
            Outcome::Delivered => (WebhookCursor::at(seq), DeliveryResult::Delivered, None),
            Outcome::Gone => {
                let why = "the receiver answered 410 Gone".to_owned();
                tracing::warn!(webhook = name, "disabled: {why}");
                (before.disabled(now), DeliveryResult::Gone, Some(why))
            }
            Outcome::Failed { why, asked } => {
                let cursor = before.failed(now, asked, &*app.env().entropy);
                let next = cursor.next_attempt.map(|it| it.to_string());
                tracing::warn!(webhook = name, event.seq = seq, next, "not delivered: {why}");
                (cursor, DeliveryResult::Failed, Some(why))
            }
        };
        self.access.metrics.count_delivery(name, result);
        if error.is_some() {
            self.backlog.clear();
        }
        self.cursor = Some(cursor);
        self.last_error = error;
        // Before the position is stored, so that no stored failure is without its reason.
        app.report_webhook(&self.webhook.name, cursor.seq, self.last_error.clone());
        let kept = app.move_webhook_cursor(&self.webhook, self.stored, cursor);
        let is_news = self.writes.is_news(kept.is_err());
        match kept {
            Ok(stored) => {
                self.stored = stored;
                self.cursor = Some(stored);
            }
            // After a crash, what was delivered since is delivered again.
            Err(err) if is_news => self.warn(&err, "the position of a webhook was not stored"),
            Err(_) => (),
        }
    }

    fn wait(&mut self, limit: Option<Duration>) {
        let Self { runtime, stopping, committed, .. } = self;
        runtime.block_on(async {
            let pause = async {
                match limit {
                    Some(limit) => tokio::time::sleep(limit).await,
                    None => std::future::pending().await,
                }
            };
            let growth = async {
                // An error means that the store changes nothing any more.
                if committed.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            };
            tokio::select! {
                // An error means that the server is gone.
                _ = stopping.wait_for(|it| *it) => (),
                () = growth => (),
                () = pause => (),
            }
        });
    }

    fn warn(&self, err: &Error, what: &str) {
        let error = err as &dyn std::error::Error;
        tracing::warn!(webhook = self.webhook.name, error, "{what}");
    }
}

/// Returns the id of a message: the same in each attempt, and of no other event, also not of an event
/// with the same number after a backup was restored.
fn message_id(view: &EventView) -> String {
    format!("evt_{:.32}", view.event.hash.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_failures_in_a_row_the_first_is_logged() {
        let mut log = FailureLog::default();
        let told = [true, true, true, false, false, true, true].map(|fails| log.is_news(fails));
        assert_eq!(told, [true, false, false, false, false, true, false]);
    }
}
