//! The state of a credential that changes without the writer: its cached digest and its uses.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicBool, AtomicI64, AtomicU8, AtomicU32, Ordering},
};

use crate::{
    domain::{client_address::ClientAddress, scope::ScopeBits, verdict::Verdict},
    env::Timestamp,
    store::{
        Day, RateWindow, SeenAddress, recent_addresses::RecentAddresses, used_scopes::UsedScopes,
    },
};

/// Exists for each credential that was verified since the start. It moves from an index entry to the
/// entry that replaces it.
#[derive(Debug)]
pub struct RuntimeState {
    /// The keyed digest of the plaintext key. No change of the key makes it wrong.
    cached_digest: [u8; 32],
    last_used_ms: AtomicI64,
    counts: [AtomicU32; Verdict::COUNTED.len()],
    queued: AtomicBool,
    used_scopes: UsedScopes,
    /// Empty until the first use from a known address.
    addresses: OnceLock<Box<RecentAddresses>>,
    /// What has to be stored of the two above: a bit for each slot of the addresses, and from
    /// [`SCOPES_BIT`] on for each place of the scopes.
    unstored: AtomicU8,
    /// The use of the rate limit, which all credentials of the key share. Empty until the first limited
    /// use.
    rate_window: OnceLock<Arc<RateWindow>>,
}

const SCOPES_BIT: usize = RecentAddresses::MOST;

/// The uses of a credential since they were last stored.
#[derive(Clone, Debug, Default)]
pub struct Uses {
    pub last_used: Option<Timestamp>,
    pub counts: Counts,
    /// The scopes that were used, by day.
    pub scopes: Vec<(Day, ScopeBits)>,
    pub addresses: Vec<SeenAddress>,
    unstored: u8,
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
            used_scopes: UsedScopes::default(),
            addresses: OnceLock::new(),
            unstored: AtomicU8::new(0),
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

    /// Returns the scopes that were used on `first` or later, since the start and as far as memory keeps
    /// them: those of the newest two days of use.
    pub fn scopes_since(&self, first: Day, today: Day) -> ScopeBits {
        self.used_scopes.since(first, today)
    }

    /// Returns the last addresses since the start.
    pub fn addresses(&self) -> impl Iterator<Item = SeenAddress> {
        self.addresses.get().into_iter().flat_map(|it| it.all())
    }

    /// Counts a verdict. Returns whether this is the first use since the start.
    pub fn count(&self, verdict: Verdict, now: Timestamp) -> bool {
        let counted = Verdict::COUNTED.iter().position(|it| *it == verdict);
        if let Some(count) = counted.and_then(|at| self.counts.get(at)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        let now = now.as_millis();
        verdict == Verdict::Valid
            && self.last_used_ms.load(Ordering::Relaxed) < now
            && self.last_used_ms.fetch_max(now, Ordering::AcqRel) == i64::MIN
    }

    /// Records the scopes that a request used. Returns whether one of them was not used before on this
    /// day, so that it has to be stored.
    pub fn use_scopes(&self, used: ScopeBits, now: Timestamp) -> bool {
        let today = Day::of(now);
        let bit = 1 << (SCOPES_BIT + UsedScopes::place(today));
        let unstored = self.unstored.load(Ordering::Relaxed) & bit != 0;
        let is_new = self.used_scopes.record(today, used, unstored);
        if is_new {
            self.unstored.fetch_or(bit, Ordering::AcqRel);
        }
        is_new
    }

    /// Records the address of the client.
    pub fn use_address(&self, address: ClientAddress, now: Timestamp) {
        let recent = self.addresses.get_or_init(|| Box::new(RecentAddresses::new()));
        let Some(bit) = recent.record(address, now).map(|at| 1 << at) else { return };
        if self.unstored.load(Ordering::Relaxed) & bit == 0 {
            self.unstored.fetch_or(bit, Ordering::AcqRel);
        }
    }

    /// Returns `true` once after [`RuntimeState::take`]: the caller must queue the credential for
    /// storing. Call it after each use.
    pub fn is_to_be_queued(&self) -> bool {
        !self.queued.load(Ordering::Relaxed) && !self.queued.swap(true, Ordering::AcqRel)
    }

    /// Takes what has to be stored. The next use after this is queued again.
    pub fn take(&self, now: Timestamp) -> Uses {
        self.queued.store(false, Ordering::Release);
        let counts = std::array::from_fn(|i| {
            self.counts.get(i).map_or(0, |it| it.swap(0, Ordering::AcqRel))
        });
        let unstored = self.unstored.swap(0, Ordering::AcqRel);
        let has = |bit: usize| unstored >> bit & 1 == 1;
        let places = [0, 1].into_iter().filter(|place| has(SCOPES_BIT + place));
        let today = Day::of(now);
        let slots = (0..RecentAddresses::MOST).filter(|at| has(*at));
        let recent = self.addresses.get();
        Uses {
            last_used: self.last_used(),
            counts,
            scopes: places.flat_map(|place| self.used_scopes.in_place(place, today)).collect(),
            addresses: slots.filter_map(|at| recent?.in_slot(at)).collect(),
            unstored,
        }
    }

    /// Takes back uses that could not be stored.
    pub fn give_back(&self, uses: &Uses) {
        for (count, more) in self.counts.iter().zip(uses.counts) {
            count.fetch_add(more, Ordering::AcqRel);
        }
        self.unstored.fetch_or(uses.unstored, Ordering::AcqRel);
    }
}
