//! The state of a credential that changes without the writer: its cached digest and its uses.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicBool, AtomicI64, AtomicU32, Ordering},
};

use crate::{domain::verdict::Verdict, env::Timestamp, store::RateWindow};

/// Exists for each credential that was verified since the start. It moves from an index entry to the
/// entry that replaces it.
#[derive(Debug)]
pub struct RuntimeState {
    /// The keyed digest of the plaintext key. No change of the key makes it wrong.
    cached_digest: [u8; 32],
    last_used_ms: AtomicI64,
    counts: [AtomicU32; Verdict::COUNTED.len()],
    queued: AtomicBool,
    /// The use of the rate limit, which all credentials of the key share. Empty until the first limited
    /// use.
    rate_window: OnceLock<Arc<RateWindow>>,
}

/// A count for each verdict of [`Verdict::COUNTED`], in that order.
pub type Counts = [u32; Verdict::COUNTED.len()];

impl RuntimeState {
    pub(super) fn new(cached_digest: [u8; 32]) -> Self {
        Self {
            cached_digest,
            last_used_ms: AtomicI64::new(i64::MIN),
            counts: Default::default(),
            queued: AtomicBool::new(false),
            rate_window: OnceLock::new(),
        }
    }

    /// Returns the digest of the right plaintext key.
    pub fn cached_digest(&self) -> &[u8; 32] {
        &self.cached_digest
    }

    pub(super) fn rate_window(&self, find: impl FnOnce() -> Arc<RateWindow>) -> &RateWindow {
        self.rate_window.get_or_init(find)
    }

    /// Returns the last use since the start.
    pub fn last_used(&self) -> Option<Timestamp> {
        let millis = self.last_used_ms.load(Ordering::Acquire);
        (millis != i64::MIN).then(|| Timestamp::from_millis(millis))
    }

    /// Counts a verdict. Returns `true` if it is the first since [`RuntimeState::take`], so that the
    /// caller must queue the credential for storing.
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

    /// Takes what has to be stored. The next verdict after this is queued again.
    pub fn take(&self) -> (Option<Timestamp>, Counts) {
        self.queued.store(false, Ordering::Release);
        let counts = std::array::from_fn(|i| {
            self.counts.get(i).map_or(0, |it| it.swap(0, Ordering::AcqRel))
        });
        (self.last_used(), counts)
    }

    /// Adds counts again that could not be stored.
    pub fn give_back(&self, counts: Counts) {
        for (count, more) in self.counts.iter().zip(counts) {
            count.fetch_add(more, Ordering::AcqRel);
        }
    }
}
