//! What changes under an index entry without the writer: the cached digest of its secret, its uses.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, Ordering};

use crate::{domain::verdict::Verdict, env::Timestamp};

/// Belongs to one secret that was presented since the start, and follows it from one index entry
/// to the next.
#[derive(Debug)]
pub struct RuntimeState {
    /// A keyed digest of the secret: a fact that no change can make untrue.
    cached_digest: [u8; 32],
    last_used_ms: AtomicI64,
    counts: [AtomicU32; Verdict::COUNTED.len()],
    queued: AtomicBool,
}

/// How often each outcome of [`Verdict::COUNTED`] came, in that order.
pub type Counts = [u32; Verdict::COUNTED.len()];

impl RuntimeState {
    pub(super) fn new(cached_digest: [u8; 32]) -> Self {
        Self {
            cached_digest,
            last_used_ms: AtomicI64::new(i64::MIN),
            counts: Default::default(),
            queued: AtomicBool::new(false),
        }
    }

    /// The digest of the right secret.
    pub fn cached_digest(&self) -> &[u8; 32] {
        &self.cached_digest
    }

    /// The last use since the start.
    pub fn last_used(&self) -> Option<Timestamp> {
        let millis = self.last_used_ms.load(Ordering::Acquire);
        (millis != i64::MIN).then(|| Timestamp::from_millis(millis))
    }

    /// Counts an outcome. Whether this is the first since [`RuntimeState::take`], so that it must be
    /// queued to be stored.
    pub fn count(&self, verdict: Verdict, now: Timestamp) -> bool {
        let counted = Verdict::COUNTED.iter().position(|it| *it == verdict);
        if let Some(count) = counted.and_then(|at| self.counts.get(at)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        let now = now.as_millis();
        if verdict == Verdict::Valid && self.last_used_ms.load(Ordering::Relaxed) < now {
            self.last_used_ms.fetch_max(now, Ordering::AcqRel);
        }
        !self.queued.load(Ordering::Relaxed) && !self.queued.swap(true, Ordering::AcqRel)
    }

    /// What is to be stored; from now on the next outcome is queued again.
    pub fn take(&self) -> (Option<Timestamp>, Counts) {
        self.queued.store(false, Ordering::Release);
        let counts = std::array::from_fn(|i| {
            self.counts.get(i).map_or(0, |it| it.swap(0, Ordering::AcqRel))
        });
        (self.last_used(), counts)
    }

    /// Gives back what could not be stored.
    pub fn give_back(&self, counts: Counts) {
        for (count, more) in self.counts.iter().zip(counts) {
            count.fetch_add(more, Ordering::AcqRel);
        }
    }
}
