//! The state that all event streams and long answers share: their permits, the interval of
//! heartbeats, and the signal that ends all streams.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::{Semaphore, watch};

use crate::{domain::id::AccountId, service::Principal};

/// Streams that may read the file at the same time; other requests read it as well.
const READING: usize = 2;
/// Lists that may be written at the same time: each takes some megabytes until it is done.
const WRITING: usize = 4;
/// Long answers that may wait for their clients to take them.
const LONG_ANSWERS: PermitLimits =
    PermitLimits { total: 48, per_account: 8, reserved_for_operator: 16 };

/// The limits of event streams.
#[derive(Clone, Copy, Debug)]
pub struct StreamLimits {
    pub permits: PermitLimits,
    /// After this long without an event, a heartbeat is sent. Proxies wait longer than this.
    pub heartbeat: Duration,
}

/// The number of permits, and who may take them.
#[derive(Clone, Copy, Debug)]
pub struct PermitLimits {
    /// For all callers together.
    pub total: usize,
    /// For one account other than the operator's.
    pub per_account: usize,
    /// For the operator only, so that the accounts together cannot shut it out.
    pub reserved_for_operator: usize,
}

impl Default for StreamLimits {
    fn default() -> Self {
        let permits = PermitLimits { total: 256, per_account: 32, reserved_for_operator: 32 };
        Self { permits, heartbeat: Duration::from_secs(15) }
    }
}

/// The state that all event streams and long answers share.
#[derive(Debug)]
pub struct Streams {
    pub(in crate::http) heartbeat: Duration,
    pub(in crate::http) reading: Semaphore,
    pub(in crate::http) permits: Arc<StreamPermits>,
    pub(in crate::http) writing: Semaphore,
    pub(in crate::http) long_answers: Arc<StreamPermits>,
    closing: watch::Sender<bool>,
}

/// Permits that callers take and give back.
#[derive(Debug)]
pub(in crate::http) struct StreamPermits {
    limits: PermitLimits,
    /// `None` stands for a local request, which presents no key.
    taken: Mutex<HashMap<Option<AccountId>, usize>>,
}

/// One permit, given back when this is dropped.
#[derive(Debug)]
pub(in crate::http) struct StreamPermit {
    permits: Arc<StreamPermits>,
    account: Option<AccountId>,
}

impl Streams {
    pub fn new(limits: StreamLimits) -> Self {
        Self {
            heartbeat: limits.heartbeat,
            reading: Semaphore::new(READING),
            permits: Arc::new(StreamPermits::new(limits.permits)),
            writing: Semaphore::new(WRITING),
            long_answers: Arc::new(StreamPermits::new(LONG_ANSWERS)),
            closing: watch::Sender::new(false),
        }
    }

    /// Ends all streams, and those that are opened later: the server stops.
    pub fn close(&self) {
        self.closing.send_replace(true);
    }

    pub(in crate::http) fn watch_closing(&self) -> watch::Receiver<bool> {
        self.closing.subscribe()
    }
}

impl StreamPermits {
    fn new(limits: PermitLimits) -> Self {
        Self { limits, taken: Mutex::default() }
    }

    /// Takes a permit; `None` if too many are taken already. A local request has no caller.
    pub fn take(self: &Arc<Self>, caller: Option<&Principal>) -> Option<StreamPermit> {
        let mut taken = self.taken();
        self.is_free(&taken, caller).then(|| {
            let account = caller.map(|it| it.account);
            *taken.entry(account).or_default() += 1;
            StreamPermit { permits: Arc::clone(self), account }
        })
    }

    /// Returns whether [`StreamPermits::take`] would give a permit now.
    pub fn has_permit(&self, caller: Option<&Principal>) -> bool {
        self.is_free(&self.taken(), caller)
    }

    fn is_free(
        &self,
        taken: &HashMap<Option<AccountId>, usize>,
        caller: Option<&Principal>,
    ) -> bool {
        let PermitLimits { total, per_account, reserved_for_operator } = self.limits;
        let all: usize = taken.values().sum();
        match caller {
            Some(caller) if !caller.operator => {
                let own = taken.get(&Some(caller.account)).copied().unwrap_or(0);
                all < total.saturating_sub(reserved_for_operator) && own < per_account
            }
            Some(_) | None => all < total,
        }
    }

    fn taken(&self) -> MutexGuard<'_, HashMap<Option<AccountId>, usize>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for StreamPermit {
    fn drop(&mut self) {
        let mut taken = self.permits.taken();
        let left = taken.get(&self.account).map_or(0, |it| it.saturating_sub(1));
        if left == 0 {
            taken.remove(&self.account);
        } else {
            taken.insert(self.account, left);
        }
    }
}
