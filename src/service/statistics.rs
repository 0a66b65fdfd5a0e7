//! What somebody who watches over the service wants to know, found out seldom.

use std::{collections::BTreeMap, sync::PoisonError, time::Duration};

use crate::{
    env::{Monotonic, Timestamp},
    service::{Error, Keyward},
    store::{KeyStates, PoolState},
};

/// Looking at a million keys takes a while; whoever asks twice in a moment is told the same.
const MEMORY: Duration = Duration::from_secs(15);

#[derive(Clone, Debug, Default)]
pub struct Statistics {
    pub keys: KeyStates,
    pub events: BTreeMap<String, u64>,
    /// The number of the newest event.
    pub last_event: i64,
    pub last_backup: Option<Timestamp>,
    pub pool: PoolState,
}

/// The last statistics, and when they were made.
#[derive(Debug, Default)]
pub(super) struct Remembered(Option<(Monotonic, Statistics)>);

impl Keyward {
    /// As of now, or of a few seconds ago.
    pub fn statistics(&self) -> Result<Statistics, Error> {
        let now = self.env.time.monotonic();
        let mut memory = self.statistics.lock().unwrap_or_else(PoisonError::into_inner);
        let mut found = match memory.0.take() {
            Some((at, found)) if now.since(at) < MEMORY => {
                memory.0 = Some((at, found.clone()));
                return Ok(found);
            }
            // Of the log, which only grows, no more than what is new has to be counted.
            Some((_, found)) => found,
            None => Statistics::default(),
        };
        let wall = self.env.time.now();
        self.store.read::<_, Error>(|tx| {
            found.keys = tx.key_states(wall)?;
            let (counts, newest) = tx.event_counts(found.last_event)?;
            for (event_type, count) in counts {
                *found.events.entry(event_type).or_default() += count;
            }
            found.last_event = newest;
            found.last_backup = tx.last_backup()?;
            Ok(())
        })?;
        found.pool = self.store.pool_state();
        memory.0 = Some((now, found.clone()));
        Ok(found)
    }
}
