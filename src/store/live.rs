//! What changes under an index entry without the writer: the proof of its secret, its uses.

use std::sync::{
    OnceLock,
    atomic::{AtomicBool, AtomicI64, AtomicU32, Ordering},
};

use crate::{domain::verdict::Verdict, env::Timestamp};

/// Belongs to one secret, and follows it from one index entry to the next.
#[derive(Debug)]
pub struct Live {
    last_used_ms: AtomicI64,
    queued: AtomicBool,
    /// Only for secrets that were presented since the start; the others need no room for it.
    presented: OnceLock<Box<Presented>>,
}

#[derive(Debug)]
struct Presented {
    /// A keyed digest of the secret: a fact that no change can make untrue.
    proof: [u8; 32],
    counts: [AtomicU32; Verdict::COUNTED.len()],
}

/// How often each outcome of [`Verdict::COUNTED`] came, in that order.
pub type Counts = [u32; Verdict::COUNTED.len()];

impl Live {
    pub(super) fn new(last_used: Option<Timestamp>) -> Self {
        Self {
            last_used_ms: AtomicI64::new(last_used.map_or(i64::MIN, Timestamp::as_millis)),
            queued: AtomicBool::new(false),
            presented: OnceLock::new(),
        }
    }

    /// The digest of the right secret, if it was proved since the start.
    pub fn proof(&self) -> Option<&[u8; 32]> {
        self.presented.get().map(|it| &it.proof)
    }

    /// Remembers the digest of the text that was proved to be this secret.
    pub fn remember_proof(&self, proof: [u8; 32]) {
        // A second proof of the same secret is the same digest.
        self.presented.get_or_init(|| Box::new(Presented { proof, counts: Default::default() }));
    }

    pub fn last_used(&self) -> Option<Timestamp> {
        let millis = self.last_used_ms.load(Ordering::Acquire);
        (millis != i64::MIN).then(|| Timestamp::from_millis(millis))
    }

    /// Counts an outcome. Whether this is the first since [`Live::take`], so that it must be
    /// queued to be stored.
    pub fn count(&self, verdict: Verdict, now: Timestamp) -> bool {
        let counted = Verdict::COUNTED.iter().position(|it| *it == verdict);
        let counts = self.presented.get().map(|it| &it.counts);
        if let Some(count) = counted.zip(counts).and_then(|(at, counts)| counts.get(at)) {
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
        let counts = self.presented.get().map(|it| {
            std::array::from_fn(|i| it.counts.get(i).map_or(0, |it| it.swap(0, Ordering::AcqRel)))
        });
        (self.last_used(), counts.unwrap_or_default())
    }

    /// Gives back what could not be stored.
    pub fn give_back(&self, counts: Counts) {
        if let Some(presented) = self.presented.get() {
            for (count, more) in presented.counts.iter().zip(counts) {
                count.fetch_add(more, Ordering::AcqRel);
            }
        }
    }
}
