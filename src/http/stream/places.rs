//! What all open streams share: how many there may be, how often they sign, when they all end.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::{Semaphore, watch};

use crate::{domain::id::AccountId, service::Principal};

/// How many streams read the file at the same moment; other requests read it as well.
const READING: usize = 2;

#[derive(Clone, Copy, Debug)]
pub struct StreamLimits {
    /// Streams of all callers together.
    pub in_all: usize,
    /// Streams of one account other than the operator's, so that none takes all.
    pub of_account: usize,
    /// A sign of life is sent after so long a silence. Shorter than proxies wait.
    pub heartbeat: Duration,
}

impl Default for StreamLimits {
    fn default() -> Self {
        Self { in_all: 256, of_account: 32, heartbeat: Duration::from_secs(15) }
    }
}

#[derive(Debug)]
pub struct Streams {
    pub(super) limits: StreamLimits,
    pub(super) reading: Semaphore,
    open: Mutex<HashMap<AccountId, usize>>,
    closing: watch::Sender<bool>,
}

/// The right to one stream, given back when this is dropped.
pub(in crate::http) struct Place {
    streams: Arc<Streams>,
    account: AccountId,
}

impl Streams {
    pub fn new(limits: StreamLimits) -> Self {
        Self {
            limits,
            reading: Semaphore::new(READING),
            open: Mutex::default(),
            closing: watch::Sender::new(false),
        }
    }

    /// Ends all streams, those too that are still to come: the server stops.
    pub fn close(&self) {
        self.closing.send_replace(true);
    }

    pub(super) fn watch_closing(&self) -> watch::Receiver<bool> {
        self.closing.subscribe()
    }

    /// `None` if there are too many streams already.
    pub(super) fn take_place(self: &Arc<Self>, caller: &Principal) -> Option<Place> {
        let mut open = self.open();
        let of_account = open.get(&caller.account).copied().unwrap_or(0);
        let free = open.values().sum::<usize>() < self.limits.in_all
            && (caller.operator || of_account < self.limits.of_account);
        free.then(|| {
            open.insert(caller.account, of_account + 1);
            Place { streams: Arc::clone(self), account: caller.account }
        })
    }

    fn open(&self) -> MutexGuard<'_, HashMap<AccountId, usize>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.streams.open();
        let left = open.get(&self.account).map_or(0, |it| it.saturating_sub(1));
        if left == 0 {
            open.remove(&self.account);
        } else {
            open.insert(self.account, left);
        }
    }
}
