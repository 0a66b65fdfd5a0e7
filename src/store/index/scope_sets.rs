//! The scope sets that credentials share.

use std::{collections::HashSet, sync::Arc};

use crate::domain::scope::ScopeBits;

/// The scope sets in use, each once. A set that no credential uses any more is dropped when the number
/// of sets has doubled.
#[derive(Debug, Default)]
pub(super) struct ScopeSets {
    sets: HashSet<Arc<ScopeBits>>,
    /// How many sets were in use when the unused ones were last dropped.
    were_used: usize,
}

impl ScopeSets {
    /// A search for unused sets with fewer sets is not worth its time.
    const FEW: usize = 64;

    /// Returns the one copy of this set.
    pub fn shared(&mut self, bits: ScopeBits) -> Arc<ScopeBits> {
        if let Some(known) = self.sets.get(&bits) {
            return Arc::clone(known);
        }
        if 2 * self.were_used.max(Self::FEW) <= self.sets.len() {
            self.sets.retain(|it| 1 < Arc::strong_count(it));
            self.were_used = self.sets.len();
        }
        let fresh = Arc::new(bits);
        self.sets.insert(Arc::clone(&fresh));
        fresh
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(number: u64) -> ScopeBits {
        ScopeBits::of_group(0, number)
    }

    #[test]
    fn sets_that_no_credential_uses_are_dropped() {
        let mut sets = ScopeSets::default();
        let kept: Vec<_> = (1..=100).map(|i| sets.shared(set(i))).collect();
        for i in 1..=10_000 {
            sets.shared(set(i));
            assert!(sets.sets.len() <= 2 * kept.len(), "{}", sets.sets.len());
        }
        for (i, known) in (1..).zip(&kept) {
            assert!(Arc::ptr_eq(known, &sets.shared(set(i))));
        }
    }
}
