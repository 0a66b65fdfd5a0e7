//! Which texts are known to be secrets, and where the first proof of each is made.

use std::{
    collections::HashMap,
    num::NonZero,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
};

use hmac::{Hmac, KeyInit, Mac};
use pbkdf2::sha2::Sha256;

use crate::{
    domain::{
        credential::{Brand, KeyPrefix, PlaintextKey},
        id::KeyId,
    },
    env::{Entropy, Timestamp},
};

type Task = Box<dyn FnOnce() + Send>;

/// Recognises secrets that were proved before, by a digest under a key that this process made and
/// nobody else ever sees.
#[derive(Debug)]
pub(super) struct Prover {
    mac: Hmac<Sha256>,
    pub brands: Vec<Brand>,
    /// When the use of a retired value was last recorded, for each key.
    pub retired_uses: Mutex<HashMap<KeyId, Timestamp>>,
    /// To the threads that derive. A key always goes to the same one, so concurrent first uses of
    /// it wait for one run.
    queues: Box<[SyncSender<Task>]>,
    waiting: Arc<AtomicUsize>,
}

/// More secrets wait to be proved than anybody would wait for.
#[derive(Debug, thiserror::Error)]
#[error("too many keys are presented for the first time")]
pub struct Crowded;

impl Prover {
    /// # Panics
    ///
    /// Never: a MAC takes a key of any length.
    #[expect(clippy::expect_used, reason = "HMAC is defined for keys of every length")]
    pub fn new(entropy: &dyn Entropy, brands: Vec<Brand>) -> Self {
        let mut key = zeroize::Zeroizing::new([0; 32]);
        entropy.fill(&mut *key);
        let mac = Hmac::new_from_slice(&*key).expect("a key of 32 bytes is a key");
        let processors = thread::available_parallelism().map_or(1, NonZero::get);
        let queues = (0..processors).filter_map(|_| start_thread()).collect();
        let (retired_uses, waiting) = (Mutex::default(), Arc::default());
        Self { mac, brands, retired_uses, queues, waiting }
    }

    pub fn digest(&self, presented: &PlaintextKey) -> [u8; 32] {
        let mut mac = self.mac.clone();
        mac.update(presented.expose().as_bytes());
        mac.finalize().into_bytes().into()
    }

    /// Has the task done on the thread for this prefix.
    pub fn run(
        &self,
        prefix: KeyPrefix,
        task: impl FnOnce() + Send + 'static,
    ) -> Result<(), Crowded> {
        // The last characters of a prefix are random.
        let pick: usize = prefix.as_str().bytes().map(usize::from).sum();
        let queue = self.queues.get(pick % self.queues.len().max(1)).ok_or(Crowded)?;
        let waiting = Arc::clone(&self.waiting);
        waiting.fetch_add(1, Ordering::Relaxed);
        let task = move || {
            waiting.fetch_sub(1, Ordering::Relaxed);
            task();
        };
        queue.try_send(Box::new(task)).map_err(|_| {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            Crowded
        })
    }

    /// How many tasks nobody has begun yet.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }
}

/// Ends with the queue. `None` if the system has no thread left.
fn start_thread() -> Option<SyncSender<Task>> {
    /// At 0.1 ms each, the last of them waits for a second.
    const MOST_WAITING: usize = 10_000;
    let (queue, tasks) = sync_channel(MOST_WAITING);
    let thread = thread::Builder::new().name("keyward-prover".to_owned());
    thread.spawn(|| work(tasks)).ok().map(|_| queue)
}

fn work(tasks: Receiver<Task>) {
    /// A tenth of what another thread gets, where both want all.
    const GIVE_WAY: i32 = 10;
    // Whoever has a proved key must not wait for those who have not. Where the system does not let
    // us, they wait a little.
    let _ = rustix::process::nice(GIVE_WAY);
    for task in tasks {
        // Who waits for it hears of a panic by the end of its channel; the next one is not to blame.
        let _ = catch_unwind(AssertUnwindSafe(task));
    }
}
