//! Deferred events: events about the server that are recorded once the storage works again.

use std::sync::{Mutex, PoisonError};

use serde_json::Value;

use crate::{
    domain::event::{EventSource, EventType, NewEvent},
    service::{Error, Keyward},
    store::WriteTx,
};

/// The most events that wait: a flapping clock must not fill the memory during an outage.
const MAX_EVENTS: usize = 64;

/// The events that are not in the log yet, the oldest first.
#[derive(Debug, Default)]
pub(super) struct DeferredEvents(Mutex<Vec<(EventSource, NewEvent)>>);

impl DeferredEvents {
    fn take(&self) -> Vec<(EventSource, NewEvent)> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn put_back(&self, mut events: Vec<(EventSource, NewEvent)>) {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        events.append(&mut waiting);
        events.truncate(MAX_EVENTS);
        *waiting = events;
    }
}

impl Keyward {
    /// Records that the server started: now, or later if the storage takes no changes.
    pub fn record_start(&self, data: Value) -> Result<(), Error> {
        let event = NewEvent::about_server(EventType::ServerStarted, data);
        match self.record_with_deferred(vec![(EventSource::CLI, event)], |_| Ok(())) {
            Err(Error::Unavailable(_)) | Ok(_) => Ok(()),
            Err(err) => Err(err),
        }
    }

    /// Records the deferred events, then `fresh`, then runs `body`, all in one transaction. Returns
    /// the number of these events. On an error they are deferred.
    pub(super) fn record_with_deferred(
        &self,
        fresh: Vec<(EventSource, NewEvent)>,
        body: impl FnOnce(&WriteTx<'_>) -> Result<(), Error> + Send + 'static,
    ) -> Result<u64, Error> {
        let mut events = self.deferred_events.take();
        events.extend(fresh);
        let due = events.clone();
        let written = self.system_change(move |tx| {
            for (source, event) in &due {
                tx.record(source, event)?;
            }
            body(tx)?;
            Ok::<_, Error>(due.len() as u64)
        });
        if written.is_err() {
            self.deferred_events.put_back(events);
        }
        written
    }
}
