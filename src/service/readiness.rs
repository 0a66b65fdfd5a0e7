//! Whether the server can do its work, found out by doing some.

use std::{
    sync::{PoisonError, atomic::Ordering},
    time::Duration,
};

use crate::{
    env::Monotonic,
    service::{Error, Keyward},
};

/// Anybody may ask, and each probe is a write: whoever asks meanwhile is told the same.
const MEMORY: Duration = Duration::from_secs(1);
/// With less, changes will soon be refused.
const LEAST_FREE: u64 = 64 * 1024 * 1024;

/// What was looked at, and whether it was well.
pub type Checks = [(&'static str, bool); 4];

/// The last checks, and when they were made.
#[derive(Debug, Default)]
pub(super) struct Remembered(Option<(Monotonic, Checks)>);

impl Keyward {
    /// Whether a change would reach the disk, a question would be answered, and there is room.
    pub fn readiness(&self) -> Checks {
        let draining = ("accepting", !self.draining.load(Ordering::Relaxed));
        let mut memory = self.readiness.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.env.time.monotonic();
        if let Some((at, [_, checks @ ..])) = memory.0
            && now.since(at) < MEMORY
        {
            let [writer, reader, disk] = checks;
            return [draining, writer, reader, disk];
        }
        let reads = self.store.read::<_, Error>(|tx| Ok(tx.time_floor()?)).is_ok();
        let free = self.store.free_space().is_none_or(|it| LEAST_FREE <= it);
        let checks =
            [draining, ("writer", self.probe().is_ok()), ("reader", reads), ("disk", free)];
        memory.0 = Some((now, checks));
        checks
    }

    /// From now on it is not ready: it is about to stop.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }
}
