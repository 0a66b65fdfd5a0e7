//! Which texts are known to be secrets, and where the first proof of each is made.

use std::{
    collections::HashMap,
    fmt,
    num::NonZero,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
        mpsc::{Receiver, Sender, channel},
    },
    thread,
};

use hmac::{Hmac, KeyInit, Mac};
use pbkdf2::sha2::Sha256;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{
    domain::{
        id::KeyId,
        plaintext_key::{KeyPrefix, PrefixLabel},
    },
    env::{Entropy, Timestamp},
};

/// At 0.1 ms each, the last of them waits for a second.
const MOST_WAITING: usize = 10_000;
/// New hashes that may wait, at the least cost, and the seconds' worth that may wait at any.
const MOST_NEW: usize = 1024;
const MOST_NEW_ITERATIONS: usize = 10_000_000;
/// Of those that take long: some four seconds' worth.
const MOST_WAITING_LONG: usize = 64;

type Task = Box<dyn FnOnce() + Send>;

/// Recognises secrets that were proved before, by a digest under a key that this process made and
/// nobody else ever sees.
#[derive(Debug)]
pub(super) struct KdfPool {
    mac: Hmac<Sha256>,
    pub prefix_labels: Vec<PrefixLabel>,
    /// When the use of a retired value was last recorded, for each key.
    pub retired_uses: Mutex<HashMap<KeyId, Timestamp>>,
    /// To the threads that derive. A key always goes to the same one, so concurrent first uses of
    /// it wait for one run.
    queues: Box<[Queue]>,
    /// To the one thread for derivations that take long.
    slow: Option<Queue>,
    waiting: Arc<AtomicUsize>,
    /// For each new hash that is still to be derived. Proofs need none.
    tickets: Arc<Semaphore>,
    derivations: AtomicU64,
    /// Those that wait for a long derivation which somebody else has asked for.
    joined: Arc<Joined>,
}

/// To one of the threads. Bounded by a count: a bounded channel takes the memory for all that it may
/// hold from the start.
#[derive(Debug)]
struct Queue {
    tasks: Sender<Task>,
    waiting: Arc<AtomicUsize>,
    /// Tasks that may wait.
    room: usize,
}

/// For each value that is being derived, those who wait for the same.
#[derive(Default)]
struct Joined(Mutex<HashMap<KeyPrefix, Vec<Task>>>);

impl fmt::Debug for Joined {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Joined(…)")
    }
}

/// Which threads do it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Lane {
    /// As many as there are processors.
    Quick,
    /// One for all that takes long, so that nothing else waits behind it.
    Slow,
}

/// More hashes wait to be derived than any client would wait for.
#[derive(Debug, thiserror::Error)]
#[error("too many hashes wait to be derived")]
pub struct QueueFull;

impl KdfPool {
    /// # Panics
    ///
    /// Never: a MAC takes a key of any length.
    #[expect(clippy::expect_used, reason = "HMAC is defined for keys of every length")]
    pub fn new(entropy: &dyn Entropy, prefix_labels: Vec<PrefixLabel>, iterations: u32) -> Self {
        let mut key = zeroize::Zeroizing::new([0; 32]);
        entropy.fill(&mut *key);
        let mac = Hmac::new_from_slice(&*key).expect("a key of 32 bytes is a key");
        let processors = thread::available_parallelism().map_or(1, NonZero::get);
        let queues = (0..processors).filter_map(|_| start_thread(MOST_WAITING)).collect();
        let slow = start_thread(MOST_WAITING_LONG);
        let most_new = MOST_NEW_ITERATIONS / usize::try_from(iterations).unwrap_or(usize::MAX);
        Self {
            mac,
            prefix_labels,
            retired_uses: Mutex::default(),
            queues,
            slow,
            waiting: Arc::default(),
            tickets: Arc::new(Semaphore::new(most_new.clamp(1, MOST_NEW))),
            derivations: AtomicU64::new(0),
            joined: Arc::default(),
        }
    }

    /// The right to have one new hash derived.
    pub fn take_ticket(&self) -> Result<OwnedSemaphorePermit, QueueFull> {
        Arc::clone(&self.tickets).try_acquire_owned().map_err(|_| QueueFull)
    }

    pub fn count_derivation(&self) {
        self.derivations.fetch_add(1, Ordering::Relaxed);
    }

    /// How many hashes were derived.
    pub fn derivations(&self) -> u64 {
        self.derivations.load(Ordering::Relaxed)
    }

    pub fn digest(&self, presented: &[u8]) -> [u8; 32] {
        let mut mac = self.mac.clone();
        mac.update(presented);
        mac.finalize().into_bytes().into()
    }

    /// Has the task done, about the value with this prefix.
    pub fn run(
        &self,
        lane: Lane,
        prefix: KeyPrefix,
        task: impl FnOnce() + Send + 'static,
    ) -> Result<(), QueueFull> {
        let waiting = Arc::clone(&self.waiting);
        waiting.fetch_add(1, Ordering::Relaxed);
        let task = Box::new(move || {
            waiting.fetch_sub(1, Ordering::Relaxed);
            task();
        });
        let accepted = match lane {
            Lane::Quick => self.run_quick(prefix, task),
            Lane::Slow => self.run_slow(prefix, task),
        };
        accepted.inspect_err(|_| {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
        })
    }

    fn run_quick(&self, prefix: KeyPrefix, task: Task) -> Result<(), QueueFull> {
        // The last characters of a prefix are random.
        let pick: usize = prefix.as_str().bytes().map(usize::from).sum();
        let queue = self.queues.get(pick % self.queues.len().max(1)).ok_or(QueueFull)?;
        queue.push(task)
    }

    /// A key takes one place in the queue, however many requests carry it: those that join find the
    /// proof that the first one made.
    fn run_slow(&self, prefix: KeyPrefix, task: Task) -> Result<(), QueueFull> {
        let queue = self.slow.as_ref().ok_or(QueueFull)?;
        let mut joined = self.joined.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(others) = joined.get_mut(&prefix) {
            if MOST_WAITING <= others.len() {
                return Err(QueueFull);
            }
            others.push(task);
            return Ok(());
        }
        let all = Arc::clone(&self.joined);
        let first = move || {
            attempt(task);
            let mut joined = all.0.lock().unwrap_or_else(PoisonError::into_inner);
            let others = joined.remove(&prefix);
            drop(joined);
            others.into_iter().flatten().for_each(attempt);
        };
        queue.push(Box::new(first))?;
        joined.insert(prefix, Vec::new());
        Ok(())
    }

    /// How many tasks nobody has begun yet.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }
}

impl Queue {
    fn push(&self, task: Task) -> Result<(), QueueFull> {
        if self.room <= self.waiting.fetch_add(1, Ordering::Relaxed) {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            return Err(QueueFull);
        }
        let waiting = Arc::clone(&self.waiting);
        let task = move || {
            waiting.fetch_sub(1, Ordering::Relaxed);
            task();
        };
        // The thread ends only with the queue.
        self.tasks.send(Box::new(task)).map_err(|_| QueueFull)
    }
}

/// Ends with the queue. `None` if the system has no thread left.
fn start_thread(room: usize) -> Option<Queue> {
    let (tasks, work) = channel();
    let thread = thread::Builder::new().name("keyward-kdf_pool".to_owned());
    thread.spawn(|| self::work(work)).ok()?;
    Some(Queue { tasks, waiting: Arc::default(), room })
}

fn work(tasks: Receiver<Task>) {
    lower_priority();
    tasks.into_iter().for_each(attempt);
}

/// Who waits for it hears of a panic by the end of its channel; the next one is not to blame.
fn attempt(task: Task) {
    let _ = catch_unwind(AssertUnwindSafe(task));
}

/// This thread gets a tenth of what another gets, where both want all: whoever has a proved key must
/// not wait for those who have not. Where the system does not let us, they wait a little.
pub(super) fn lower_priority() {
    const NICENESS: i32 = 10;
    let _ = rustix::process::nice(NICENESS);
}
