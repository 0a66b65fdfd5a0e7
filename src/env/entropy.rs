//! Unpredictable bytes.

use std::sync::{Mutex, PoisonError};

use rand::{
    Rng, SeedableRng, TryRng,
    rngs::{StdRng, SysRng},
};

/// A source of unpredictable bytes.
pub trait Entropy: Send + Sync {
    /// Fills `buf` with bytes that an attacker cannot predict.
    ///
    /// # Panics
    ///
    /// Panics if the operating system gives no randomness. No secret made after that could be trusted. The
    /// panic ends the request alone, which is answered with 500.
    fn fill(&self, buf: &mut [u8]);
}

/// The random source of the operating system.
pub struct SystemEntropy;

/// Reproducible bytes, for tests only.
pub struct SeededEntropy(Mutex<StdRng>);

impl Entropy for SystemEntropy {
    #[expect(clippy::expect_used, reason = "see the trait: there is no safe way to go on")]
    fn fill(&self, buf: &mut [u8]) {
        SysRng.try_fill_bytes(buf).expect("the operating system's random source failed");
    }
}

/// Returns the random source of the operating system in the form that `ring` demands: its signatures
/// take no other source.
pub fn ring_random() -> ring::rand::SystemRandom {
    ring::rand::SystemRandom::new()
}

impl SeededEntropy {
    pub fn new(seed: u64) -> Self {
        Self(Mutex::new(StdRng::seed_from_u64(seed)))
    }
}

impl Entropy for SeededEntropy {
    fn fill(&self, buf: &mut [u8]) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).fill_bytes(buf);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken_from(entropy: &dyn Entropy) -> [u8; 32] {
        let mut bytes = [0; 32];
        entropy.fill(&mut bytes);
        bytes
    }

    #[test]
    fn the_same_seed_gives_the_same_bytes_and_another_seed_others() {
        let (first, again, other) =
            (SeededEntropy::new(1), SeededEntropy::new(1), SeededEntropy::new(2));
        let bytes = taken_from(&first);
        assert_eq!(bytes, taken_from(&again));
        assert_ne!(bytes, taken_from(&other));
        assert_ne!(bytes, taken_from(&first), "the stream goes on");
    }

    #[test]
    fn the_system_never_gives_the_same_bytes_twice() {
        assert_ne!(taken_from(&SystemEntropy), taken_from(&SystemEntropy));
    }
}
