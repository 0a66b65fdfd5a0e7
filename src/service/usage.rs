//! When keys were last used: gathered in memory, stored every few seconds and at shutdown.

use std::sync::{Arc, Mutex, PoisonError};

use crate::{
    domain::credential::KeyPrefix,
    env::Timestamp,
    service::{Error, Keyward},
    store::Entry,
};

/// Values used since the last flush, each once.
#[derive(Debug, Default)]
pub(super) struct UsageRecorder {
    used: Mutex<Vec<Arc<Entry>>>,
}

impl UsageRecorder {
    /// Costs an atomic, and a lock only for the first use of a value since the last flush.
    pub fn note(&self, entry: &Arc<Entry>, now: Timestamp) {
        if entry.live.note_use(now) {
            self.used.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(entry));
        }
    }

    fn take(&self) -> Vec<Arc<Entry>> {
        std::mem::take(&mut *self.used.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn put_back(&self, entries: Vec<Arc<Entry>>) {
        self.used.lock().unwrap_or_else(PoisonError::into_inner).extend(entries);
    }
}

impl Keyward {
    /// Stores what was gathered, in batches so that other writes never wait long. Returns how many
    /// values were used since the last time. What cannot be stored is kept for the next time.
    pub fn flush_usage(&self) -> Result<u64, Error> {
        let mut left = self.usage.take();
        let mut stored = 0;
        while !left.is_empty() {
            let batch_len = left.len().min(self.rules.batch as usize);
            let batch: Vec<_> = left.drain(..batch_len).collect();
            let uses: Vec<(KeyPrefix, Timestamp)> = batch
                .iter()
                .filter_map(|it| it.live.take_use().map(|at| (it.prefix, at)))
                .collect();
            let written = self.store.write(move |tx| tx.note_usage(&uses));
            if let Err(err) = written {
                self.usage.put_back(batch);
                self.usage.put_back(left);
                return Err(err.into());
            }
            stored += batch_len as u64;
        }
        Ok(stored)
    }
}
