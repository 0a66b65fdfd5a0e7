//! The cached digests of verified secrets, and the threads that run the KDF.

use std::{
    collections::{HashMap, HashSet},
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

/// Tasks that may wait for one thread. At 0.1 ms each, the last of them waits for a second.
const MOST_WAITING: usize = 10_000;
/// New hashes that may wait, however few iterations they have.
const MOST_NEW: usize = 1024;
/// Iterations of all new hashes that may wait.
const MOST_NEW_ITERATIONS: usize = 10_000_000;

type Task = Box<dyn FnOnce() + Send>;

/// Recognises verified secrets by a keyed digest, and verifies the others on threads of low priority.
/// The key of the digests is random and stays in this process.
#[derive(Debug)]
pub(super) struct KdfPool {
    mac: Hmac<Sha256>,
    pub prefix_labels: Vec<PrefixLabel>,
    /// When the use of a retired credential was last recorded, for each key.
    pub retired_uses: Mutex<HashMap<KeyId, Timestamp>>,
    /// The digests of texts that are refused for good, although a credential in its grace period has them.
    refused: Mutex<HashSet<[u8; 32]>>,
    /// One for each thread. A key always goes to the same thread, so concurrent first uses of a key
    /// share one derivation.
    queues: Box<[Queue]>,
    /// One for each new hash that waits or is derived. Verification takes none.
    tickets: Arc<Semaphore>,
    derivations: AtomicU64,
}

/// The tasks of one thread. A count bounds it, because a bounded channel would allocate all its room
/// at the start.
#[derive(Debug)]
struct Queue {
    tasks: Sender<Task>,
    waiting: Arc<AtomicUsize>,
}

/// More hashes wait than a client would wait for.
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
        let queues = (0..processors).filter_map(|_| start_thread()).collect();
        let most_new = MOST_NEW_ITERATIONS / usize::try_from(iterations).unwrap_or(usize::MAX);
        Self {
            mac,
            prefix_labels,
            retired_uses: Mutex::default(),
            refused: Mutex::default(),
            queues,
            tickets: Arc::new(Semaphore::new(most_new.clamp(1, MOST_NEW))),
            derivations: AtomicU64::new(0),
        }
    }

    /// Returns the right to have one new hash derived.
    pub fn take_ticket(&self) -> Result<OwnedSemaphorePermit, QueueFull> {
        Arc::clone(&self.tickets).try_acquire_owned().map_err(|_| QueueFull)
    }

    pub fn count_derivation(&self) {
        self.derivations.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns how many hashes were derived.
    pub fn derivations(&self) -> u64 {
        self.derivations.load(Ordering::Relaxed)
    }

    /// Returns the keyed digest of a presented text.
    pub fn digest(&self, presented: &[u8]) -> [u8; 32] {
        let mut mac = self.mac.clone();
        mac.update(presented);
        mac.finalize().into_bytes().into()
    }

    /// Remembers that the text with this digest is refused.
    pub fn refuse(&self, digest: [u8; 32]) {
        const MOST: usize = 10_000;
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        if MOST <= refused.len() {
            refused.clear(); // The next use of each finds out again.
        }
        refused.insert(digest);
    }

    pub fn is_refused(&self, digest: &[u8; 32]) -> bool {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner).contains(digest)
    }

    /// Runs the task on the thread of this credential.
    pub fn run(
        &self,
        prefix: KeyPrefix,
        task: impl FnOnce() + Send + 'static,
    ) -> Result<(), QueueFull> {
        // The last characters of a prefix are random.
        let pick: usize = prefix.as_str().bytes().map(usize::from).sum();
        let queue = self.queues.get(pick % self.queues.len().max(1)).ok_or(QueueFull)?;
        queue.push(Box::new(task))
    }

    /// Returns how many tasks wait.
    pub fn waiting(&self) -> usize {
        self.queues.iter().map(|it| it.waiting.load(Ordering::Relaxed)).sum()
    }
}

impl Queue {
    fn push(&self, task: Task) -> Result<(), QueueFull> {
        if MOST_WAITING <= self.waiting.fetch_add(1, Ordering::Relaxed) {
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

/// Starts a thread that ends with its queue. Returns `None` if the system has no thread left.
fn start_thread() -> Option<Queue> {
    let (tasks, work) = channel();
    let thread = thread::Builder::new().name("keyward-kdf".to_owned());
    thread.spawn(|| self::work(work)).ok()?;
    Some(Queue { tasks, waiting: Arc::default() })
}

fn work(tasks: Receiver<Task>) {
    lower_priority();
    for task in tasks {
        // A panic ends the task's channel, which tells its caller. The next task must still run.
        let _ = catch_unwind(AssertUnwindSafe(task));
    }
}

/// Lowers the priority of this thread to a tenth of another's share, so that callers with verified keys
/// do not wait for the KDF. Without the right to do so, the thread keeps its priority.
pub(super) fn lower_priority() {
    const NICENESS: i32 = 10;
    let _ = rustix::process::nice(NICENESS);
}
