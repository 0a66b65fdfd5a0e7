//! A message at most once a minute.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use crate::env::Monotonic;

/// A proxy that is set up wrongly shows it with each request; the log need not say it each time.
const COMPLAINT_INTERVAL: Duration = Duration::from_mins(1);

/// Lets one a minute through, of what would otherwise fill the log.
#[derive(Debug, Default)]
pub struct Seldom {
    last: Mutex<Option<Monotonic>>,
}

impl Seldom {
    pub(super) fn is_due(&self, now: Monotonic) -> bool {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let due = last.is_none_or(|it| COMPLAINT_INTERVAL <= now.since(it));
        if due {
            *last = Some(now);
        }
        due
    }
}
