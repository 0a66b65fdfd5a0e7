//! The readiness checks.

use std::{
    sync::{PoisonError, atomic::Ordering},
    time::Duration,
};

use crate::{
    env::Monotonic,
    service::{Error, Keyward},
};

/// How long an answer is repeated: the checks need no key, and each one writes.
const MEMORY: Duration = Duration::from_secs(1);
/// The free space, in bytes, below which changes will soon be refused.
pub const LEAST_FREE: u64 = 64 * 1024 * 1024;

/// The checks by name, each with what is wrong.
pub type Checks = [(&'static str, Result<(), String>); 4];

/// The last checks, and when they ran.
#[derive(Debug, Default)]
pub(super) struct Remembered(Option<(Monotonic, Checks)>);

impl Keyward {
    /// Checks that the server takes changes, answers queries, and has room.
    pub fn readiness(&self) -> Checks {
        let draining = self.draining.load(Ordering::Relaxed);
        let stopping = || Err("the server is stopping".to_owned());
        let accepting = ("accepting", if draining { stopping() } else { Ok(()) });
        let mut memory = self.readiness.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.env.time.monotonic();
        if let Some((at, [_, checks @ ..])) = &memory.0
            && now.since(*at) < MEMORY
        {
            let [writer, reader, disk] = checks.clone();
            return [accepting, writer, reader, disk];
        }
        let why = |err: Error| err.to_string();
        let reads = self.store.read::<_, Error>(|tx| Ok(tx.time_floor()?));
        let room = match self.store.free_space() {
            Some(free) if free < LEAST_FREE => Err(format!("{} MiB are free", free / 1024 / 1024)),
            Some(_) | None => Ok(()),
        };
        let checks = [
            accepting,
            ("writer", self.probe().map_err(why)),
            ("reader", reads.map(|_| ()).map_err(why)),
            ("disk", room),
        ];
        memory.0 = Some((now, checks.clone()));
        checks
    }

    /// Makes the server not ready: it is about to stop.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }
}
