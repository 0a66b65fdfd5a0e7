//! What all event streams and long answers share: how many there may be at the same time, how often
//! streams show signs of life, when they all end.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::{Semaphore, watch};

use crate::{domain::id::AccountId, service::Principal};

/// How many streams read the file at the same moment; other requests read it as well.
const READING: usize = 2;
/// How many lists are written at the same moment: each takes some megabytes until it is done.
const WRITING: usize = 4;
/// Long answers that may wait for their clients to take them.
const LONG_ANSWERS: PlaceLimits = PlaceLimits { in_all: 48, of_account: 8, for_operator: 16 };

#[derive(Clone, Copy, Debug)]
pub struct StreamLimits {
    pub places: PlaceLimits,
    /// A sign of life is sent after so long a silence. Shorter than proxies wait.
    pub heartbeat: Duration,
}

/// How many places there are, and who may take them.
#[derive(Clone, Copy, Debug)]
pub struct PlaceLimits {
    /// Places of all callers together.
    pub in_all: usize,
    /// Places of one account other than the operator's.
    pub of_account: usize,
    /// Places that only the operator may take, so that accounts together do not shut it out.
    pub for_operator: usize,
}

impl Default for StreamLimits {
    fn default() -> Self {
        let places = PlaceLimits { in_all: 256, of_account: 32, for_operator: 32 };
        Self { places, heartbeat: Duration::from_secs(15) }
    }
}

#[derive(Debug)]
pub struct Streams {
    pub(in crate::http) heartbeat: Duration,
    pub(in crate::http) reading: Semaphore,
    pub(in crate::http) places: Arc<StreamPermits>,
    pub(in crate::http) writing: Semaphore,
    pub(in crate::http) long_answers: Arc<StreamPermits>,
    closing: watch::Sender<bool>,
}

/// Places that callers take and give back.
#[derive(Debug)]
pub(in crate::http) struct StreamPermits {
    limits: PlaceLimits,
    /// `None` is the machine itself, which presents no key.
    taken: Mutex<HashMap<Option<AccountId>, usize>>,
}

/// One place, given back when this is dropped.
#[derive(Debug)]
pub(in crate::http) struct StreamPermit {
    places: Arc<StreamPermits>,
    account: Option<AccountId>,
}

impl Streams {
    pub fn new(limits: StreamLimits) -> Self {
        Self {
            heartbeat: limits.heartbeat,
            reading: Semaphore::new(READING),
            places: Arc::new(StreamPermits::new(limits.places)),
            writing: Semaphore::new(WRITING),
            long_answers: Arc::new(StreamPermits::new(LONG_ANSWERS)),
            closing: watch::Sender::new(false),
        }
    }

    /// Ends all streams, those too that are still to come: the server stops.
    pub fn close(&self) {
        self.closing.send_replace(true);
    }

    pub(in crate::http) fn watch_closing(&self) -> watch::Receiver<bool> {
        self.closing.subscribe()
    }
}

impl StreamPermits {
    fn new(limits: PlaceLimits) -> Self {
        Self { limits, taken: Mutex::default() }
    }

    /// Returns `None` if too many places are taken already. Without a caller, the request came from
    /// the machine itself.
    pub fn take(self: &Arc<Self>, caller: Option<&Principal>) -> Option<StreamPermit> {
        let mut taken = self.taken();
        self.is_free(&taken, caller).then(|| {
            let account = caller.map(|it| it.account);
            *taken.entry(account).or_default() += 1;
            StreamPermit { places: Arc::clone(self), account }
        })
    }

    /// Whether [`StreamPermits::take`] would give a place now.
    pub fn has_place(&self, caller: Option<&Principal>) -> bool {
        self.is_free(&self.taken(), caller)
    }

    fn is_free(
        &self,
        taken: &HashMap<Option<AccountId>, usize>,
        caller: Option<&Principal>,
    ) -> bool {
        let PlaceLimits { in_all, of_account, for_operator } = self.limits;
        let all: usize = taken.values().sum();
        match caller {
            Some(caller) if !caller.operator => {
                let own = taken.get(&Some(caller.account)).copied().unwrap_or(0);
                all < in_all.saturating_sub(for_operator) && own < of_account
            }
            Some(_) | None => all < in_all,
        }
    }

    fn taken(&self) -> MutexGuard<'_, HashMap<Option<AccountId>, usize>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for StreamPermit {
    fn drop(&mut self) {
        let mut taken = self.places.taken();
        let left = taken.get(&self.account).map_or(0, |it| it.saturating_sub(1));
        if left == 0 {
            taken.remove(&self.account);
        } else {
            taken.insert(self.account, left);
        }
    }
}
