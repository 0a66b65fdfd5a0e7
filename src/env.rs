//! What the program asks of the outside world: the time, and randomness.
//!
//! Nothing else in the crate reads a clock or an entropy source; clippy.toml
//! forbids it. The fakes live here, beside the contracts they honour. Persisting
//! what the timekeeper knows, and recording what it has noticed, is left to others.

mod time;
mod timekeeper;

mod entropy;

use std::{fmt, sync::Arc};

pub use self::{
    entropy::{Entropy, SeededEntropy, SystemEntropy},
    time::{Clock, InvalidTimestamp, ManualClock, Monotonic, SystemClock, Timestamp},
    timekeeper::{ClockStep, StepKind, Timekeeper},
};

/// Handed to every use case; cheap to clone.
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
