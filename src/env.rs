//! The time and randomness.
//!
//! No other module reads a clock or an entropy source; `.clippy.toml` forbids it. The fakes for tests
//! are here, beside the traits that they implement. Other modules store the time floor and record the
//! steps of the clock.

mod settable_clock;
mod time;
mod timekeeper;

mod entropy;

use std::{fmt, sync::Arc};

pub use self::{
    entropy::{Entropy, SeededEntropy, SystemEntropy, ring_random},
    settable_clock::SettableClock,
    time::{Clock, InvalidTimestamp, ManualClock, Monotonic, SystemClock, Timestamp},
    timekeeper::{ClockStep, StepKind, Timekeeper},
};

/// The time and randomness that every use case gets; cheap to clone.
#[derive(Clone)]
pub struct Env {
    pub time: Arc<Timekeeper>,
    pub entropy: Arc<dyn Entropy>,
}

impl fmt::Debug for Env {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Env")
    }
}
