//! The log lines of the HTTP framework about requests that are not valid HTTP.
//!
//! The framework writes an ERROR line for each of them, so a stranger could fill the log. This layer
//! holds the lines back. The connection that caused a line takes its text, counts it and reports it
//! once a minute.

use std::{cell::RefCell, fmt};

use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{Layer, layer::Context};

const FRAMEWORK: &str = "actix_http";

thread_local! {
    /// The last line that was held back on this thread. A connection belongs to one thread, and ends
    /// directly after the line about it.
    static LAST: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Keeps the framework's own warnings and errors out of the log.
pub(super) struct HoldBack;

impl<S: Subscriber> Layer<S> for HoldBack {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        let metadata = event.metadata();
        if !metadata.target().starts_with(FRAMEWORK) || Level::WARN < *metadata.level() {
            return true;
        }
        let mut message = Message::default();
        event.record(&mut message);
        LAST.set(Some(message.0));
        false
    }
}

/// Takes the line that was held back on this thread.
pub fn take_protocol_error() -> Option<String> {
    LAST.take()
}

#[derive(Default)]
struct Message(String);

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.0 = format!("{value:?}");
        }
    }
}
