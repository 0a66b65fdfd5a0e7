//! The pauses of a job.

use std::{thread, time::Duration};

use crate::{
    env::{Monotonic, Timekeeper},
    service::Error,
};

/// The pauses of a job: between two batches it leaves the writer and the processors to others.
pub(super) struct Pace<'a> {
    time: &'a Timekeeper,
    batch_started: Monotonic,
    stop: &'a dyn Fn() -> bool,
}

impl<'a> Pace<'a> {
    /// How many times as long as a batch took the job pauses before the next.
    const PAUSE: u32 = 3;
    const LONGEST_PAUSE: Duration = Duration::from_millis(200);

    pub fn new(time: &'a Timekeeper, stop: &'a dyn Fn() -> bool) -> Self {
        Self { time, batch_started: time.monotonic(), stop }
    }

    /// Pauses before the next batch. Returns `false`, without a pause, if the job must stop.
    pub fn continues(&mut self) -> bool {
        if (self.stop)() {
            return false;
        }
        let busy = self.time.monotonic().since(self.batch_started);
        thread::sleep(busy.saturating_mul(Self::PAUSE).min(Self::LONGEST_PAUSE));
        self.batch_started = self.time.monotonic();
        true
    }

    /// Runs batches until one says that no more is left. Returns the sum of what they changed.
    pub fn run(&mut self, batch: impl Fn() -> Result<(u64, bool), Error>) -> Result<u64, Error> {
        let mut total = 0;
        loop {
            let (done, more) = batch()?;
            total += done;
            if !more || !self.continues() {
                return Ok(total);
            }
        }
    }
}
