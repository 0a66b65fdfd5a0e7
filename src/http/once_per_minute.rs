//! Log messages that are written at most once a minute.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use crate::env::Monotonic;

/// A misconfigured proxy causes the same message with every request.
const INTERVAL: Duration = Duration::from_mins(1);

/// Allows a message once a minute, where a message for every request would fill the log.
#[derive(Debug, Default)]
pub struct OncePerMinute {
    last: Mutex<Option<Monotonic>>,
}

impl OncePerMinute {
    pub(super) fn is_due(&self, now: Monotonic) -> bool {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let due = last.is_none_or(|it| INTERVAL <= now.since(it));
        if due {
            *last = Some(now);
        }
        due
    }
}
