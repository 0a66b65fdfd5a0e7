//! Statistics for monitoring, counted at most every few seconds.

use std::{collections::BTreeMap, sync::PoisonError, time::Duration};

use crate::{
    env::{Monotonic, Timestamp},
    service::{Error, Keyward},
    store::{KeyStates, PoolState},
};

/// How long the numbers are repeated: counting a million keys takes a while.
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

/// The last statistics, and when they were counted.
#[derive(Debug, Default)]
pub(super) struct Remembered(Option<(Monotonic, Statistics)>);

impl Keyward {
    /// Returns the statistics of the last seconds. If the file cannot be read, returns the last
    /// ones.
    pub fn statistics(&self) -> Statistics {
        let now = self.env.time.monotonic();
        let mut memory = self.statistics.lock().unwrap_or_else(PoisonError::into_inner);
        let known = memory.0.as_ref();
        if let Some((at, found)) = known
            && now.since(*at) < MEMORY
        {
            return found.clone();
        }
        let known = known.map(|(_, found)| found.clone()).unwrap_or_default();
        match self.count_anew(known.clone()) {
            Ok(found) => {
                memory.0 = Some((now, found.clone()));
                found
            }
            Err(err) => {
                tracing::warn!(
                    error = &err as &dyn std::error::Error,
                    "the statistics cannot be read; the metrics show older ones"
                );
                known
            }
        }
    }

    /// Counts only the new events, because the log only grows.
    fn count_anew(&self, mut found: Statistics) -> Result<Statistics, Error> {
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
        Ok(found)
    }
}
