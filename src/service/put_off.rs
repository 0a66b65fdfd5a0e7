//! Events about the server that the storage did not take: recorded once it does.

use std::sync::{Mutex, PoisonError};

use serde_json::Value;

use crate::{
    domain::event::{EventSource, EventType, NewEvent},
    service::{Error, Keyward, events::server_event},
    store::WriteTx,
};

/// How many events wait at most; a clock that flaps during an outage must not fill the memory.
const MOST: usize = 64;

/// What is not in the log yet, the oldest first.
#[derive(Debug, Default)]
pub(super) struct PutOff(Mutex<Vec<(EventSource, NewEvent)>>);

impl PutOff {
    fn take(&self) -> Vec<(EventSource, NewEvent)> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn put_back(&self, mut events: Vec<(EventSource, NewEvent)>) {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        events.append(&mut waiting);
        events.truncate(MOST);
        *waiting = events;
    }
}

impl Keyward {
    /// Records that the server started, now or, if the storage takes no changes, later.
    pub fn record_start(&self, data: Value) -> Result<(), Error> {
        let event = server_event(EventType::ServerStarted, data);
        match self.record_with_put_off(vec![(EventSource::CLI, event)], |_| Ok(())) {
            Err(Error::Unavailable(_)) | Ok(_) => Ok(()),
            Err(err) => Err(err),
        }
    }

    /// Records what was put off, then `fresh`, then runs `body`, all in one transaction; how many
    /// events that were. What cannot be recorded is put off.
    pub(super) fn record_with_put_off(
        &self,
        fresh: Vec<(EventSource, NewEvent)>,
        body: impl FnOnce(&WriteTx<'_>) -> Result<(), Error> + Send + 'static,
    ) -> Result<u64, Error> {
        let mut events = self.put_off.take();
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
            self.put_off.put_back(events);
        }
        written
    }
}
