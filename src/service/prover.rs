//! Which texts are known to be secrets, and where the first proof of each is made.

use std::{
    collections::HashMap,
    num::NonZero,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
    time::Duration,
};

use hmac::{Hmac, KeyInit, Mac};
use pbkdf2::sha2::Sha256;

use crate::{
    domain::{
        credential::{Brand, KeyPrefix},
        id::KeyId,
    },
    env::{Entropy, Monotonic, Timestamp},
};

/// At 0.1 ms each, the last of them waits for a second.
const MOST_WAITING: usize = 10_000;
/// Of those that take long: some four seconds' worth.
const MOST_WAITING_LONG: usize = 64;
const MOST_GUESSES: u32 = 10;
const GUESS_INTERVAL: Duration = Duration::from_mins(1);

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
    /// To the one thread for derivations that take long.
    slow: Option<SyncSender<Task>>,
    waiting: Arc<AtomicUsize>,
    /// Wrong texts for values whose derivation takes long: since when, and how many.
    guesses: Mutex<HashMap<KeyPrefix, (Monotonic, u32)>>,
}

/// Which thread does it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Lane {
    /// The one of this key, so that concurrent first uses of it wait for one run.
    Of(KeyPrefix),
    /// One for all that takes long, so that nothing else waits behind it.
    Slow,
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
        let queues = (0..processors).filter_map(|_| start_thread(MOST_WAITING)).collect();
        let slow = start_thread(MOST_WAITING_LONG);
        let (retired_uses, waiting) = (Mutex::default(), Arc::default());
        Self { mac, brands, retired_uses, queues, slow, waiting, guesses: Mutex::default() }
    }

    pub fn digest(&self, presented: &[u8]) -> [u8; 32] {
        let mut mac = self.mac.clone();
        mac.update(presented);
        mac.finalize().into_bytes().into()
    }

    /// Whether so many wrong texts were held against this value in the last minute that no more
    /// are.
    pub fn was_guessed_at(&self, prefix: KeyPrefix, now: Monotonic) -> bool {
        let guesses = self.guesses.lock().unwrap_or_else(PoisonError::into_inner);
        guesses.get(&prefix).is_some_and(|(since, count)| {
            MOST_GUESSES <= *count && now.since(*since) < GUESS_INTERVAL
        })
    }

    pub fn note_guess(&self, prefix: KeyPrefix, now: Monotonic) {
        const MOST_VALUES: usize = 10_000;
        let mut guesses = self.guesses.lock().unwrap_or_else(PoisonError::into_inner);
        if MOST_VALUES <= guesses.len() {
            guesses.retain(|_, (since, _)| now.since(*since) < GUESS_INTERVAL);
        }
        let (since, count) = guesses.entry(prefix).or_insert((now, 0));
        if GUESS_INTERVAL <= now.since(*since) {
            (*since, *count) = (now, 0);
        }
        *count += 1;
    }

    /// Has the task done on the thread of this lane.
    pub fn run(&self, lane: Lane, task: impl FnOnce() + Send + 'static) -> Result<(), Crowded> {
        let queue = match lane {
            Lane::Slow => self.slow.as_ref(),
            Lane::Of(prefix) => {
                // The last characters of a prefix are random.
                let pick: usize = prefix.as_str().bytes().map(usize::from).sum();
                self.queues.get(pick % self.queues.len().max(1))
            }
        };
        let queue = queue.ok_or(Crowded)?;
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
fn start_thread(room: usize) -> Option<SyncSender<Task>> {
    let (queue, tasks) = sync_channel(room);
    let thread = thread::Builder::new().name("keyward-prover".to_owned());
    thread.spawn(|| work(tasks)).ok().map(|_| queue)
}

fn work(tasks: Receiver<Task>) {
    give_way();
    for task in tasks {
        // Who waits for it hears of a panic by the end of its channel; the next one is not to blame.
        let _ = catch_unwind(AssertUnwindSafe(task));
    }
}

/// This thread gets a tenth of what another gets, where both want all: whoever has a proved key must
/// not wait for those who have not. Where the system does not let us, they wait a little.
pub(super) fn give_way() {
    const NICENESS: i32 = 10;
    let _ = rustix::process::nice(NICENESS);
}
