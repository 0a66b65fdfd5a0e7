//! The loop of the fuzzer: runs inputs, keeps those that reach new code, and mutates them.
//!
//! The compiler counts in each branch (LLVM's SanitizerCoverage, inline 8-bit counters). An input is kept if a branch
//! was taken that no earlier input took, or taken in another order of magnitude.

use std::{
    fs::{self, File},
    os::unix::fs::FileExt,
    panic::{self, AssertUnwindSafe},
    path::PathBuf,
    sync::{
        Mutex,
        atomic::{AtomicPtr, AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use crate::{
    mutate::{Random, mutated},
    targets::Target,
};

/// The longest input that a mutation makes, in bytes.
pub const MAX_LEN: usize = 8 * 1024;
/// How long a failing input is shortened.
const SHORTENING: Duration = Duration::from_secs(3);

static COUNTERS: AtomicPtr<u8> = AtomicPtr::new(std::ptr::null_mut());
static COUNTERS_LEN: AtomicUsize = AtomicUsize::new(0);
static LAST_PANIC: Mutex<String> = Mutex::new(String::new());

/// Takes the array of counters. The instrumented code calls this before `main`, each module with the same array.
#[unsafe(no_mangle)]
extern "C" fn __sanitizer_cov_8bit_counters_init(start: *mut u8, stop: *mut u8) {
    COUNTERS.store(start, Relaxed);
    COUNTERS_LEN.store(stop as usize - start as usize, Relaxed);
}

/// Returns the counters of all branches.
#[expect(clippy::mut_from_ref, reason = "the array is a static of the linker")]
fn counters<'a>() -> &'a mut [u8] {
    let (start, len) = (COUNTERS.load(Relaxed), COUNTERS_LEN.load(Relaxed));
    assert!(!start.is_null(), "build with run.sh: its flags make the compiler count");
    // SAFETY: the linker made this array, and it lives as long as the program. Increments by code that runs at the
    // same time are single bytes, of which any value is good.
    unsafe { std::slice::from_raw_parts_mut(start, len) }
}

pub struct Fuzzer {
    target: &'static Target,
    findings: PathBuf,
    random: Random,
    corpus: Vec<Vec<u8>>,
    /// For each branch the orders of magnitude that were seen.
    seen: Vec<u8>,
    executions: u64,
    /// Holds the input that runs, for the case that the process dies with it.
    current: File,
}

impl Fuzzer {
    pub fn new(target: &'static Target, seed: u64, findings: PathBuf) -> Self {
        fs::create_dir_all(&findings).expect("the folder of findings cannot be made");
        let current = File::create(findings.join(format!("{}.current", target.name)));
        panic::set_hook(Box::new(|it| {
            if let Ok(mut last) = LAST_PANIC.lock() {
                *last = it.to_string();
            }
        }));
        Self {
            target,
            findings,
            random: Random::new(seed),
            corpus: vec![Vec::new()],
            seen: vec![0; counters().len()],
            executions: 0,
            current: current.expect("the current input cannot be stored"),
        }
    }

    /// Runs the corpus and then mutations for `time`. Returns whether no invariant failed. New inputs go into the
    /// last folder, unless there is only one: the first is that of the source tree.
    pub fn run(&mut self, folders: &[PathBuf], time: Duration) -> bool {
        let started = Instant::now();
        for folder in folders {
            let files = fs::read_dir(folder).into_iter().flatten().flatten();
            let mut files: Vec<_> = files.map(|it| it.path()).collect();
            files.sort();
            for file in files {
                let input = fs::read(&file).expect("a file of the corpus cannot be read");
                if !self.examine(input) {
                    return false;
                }
            }
        }
        let seeds = self.corpus.len();
        while started.elapsed() < time {
            for _ in 0..64 {
                let input = mutated(&self.corpus, self.target.tokens, &mut self.random);
                if !self.examine(input) {
                    return false;
                }
            }
        }
        if let [_, .., own] = folders {
            self.store(&self.corpus[seeds..], own);
        }
        let branches = self.seen.iter().filter(|it| **it != 0).count();
        let per_second = self.executions as f64 / started.elapsed().as_secs_f64();
        println!(
            "{:<10} {:>9} executions, {:>6.0}/s, {:>6} branches, {:>4} inputs kept",
            self.target.name,
            self.executions,
            per_second,
            branches,
            self.corpus.len() - seeds,
        );
        true
    }

    fn store(&self, inputs: &[Vec<u8>], folder: &PathBuf) {
        fs::create_dir_all(folder).expect("the folder of the corpus cannot be made");
        for input in inputs {
            let _ = fs::write(folder.join(name_of(input)), input);
        }
    }

    /// Runs an input, and keeps it if it reaches new code. Returns whether the invariants hold.
    fn examine(&mut self, input: Vec<u8>) -> bool {
        let failure = self.execute(&input);
        if let Some(failure) = failure {
            let short = self.shortened(input, &failure);
            let path = self.findings.join(format!("{}-{}", self.target.name, name_of(&short)));
            fs::write(&path, &short).expect("the finding cannot be stored");
            println!("{}: FAILED\n{failure}", self.target.name);
            println!("input: {:?}\nin {}", String::from_utf8_lossy(&short), path.display());
            return false;
        }
        if self.reached_something_new() {
            self.corpus.push(input);
        }
        true
    }

    /// Returns the message of the panic, if the target panics.
    fn execute(&mut self, input: &[u8]) -> Option<String> {
        self.executions += 1;
        self.current.write_all_at(input, 0).expect("the current input cannot be stored");
        self.current.set_len(input.len() as u64).expect("the current input cannot be stored");
        counters().fill(0);
        let run = self.target.run;
        let failed = panic::catch_unwind(AssertUnwindSafe(|| run(input))).is_err();
        failed.then(|| LAST_PANIC.lock().map_or_else(|_| String::new(), |it| it.clone()))
    }

    fn reached_something_new(&mut self) -> bool {
        let mut new = false;
        let words = counters().chunks(8).zip(self.seen.chunks_mut(8));
        for (counts, seen) in words.filter(|(counts, _)| counts.iter().any(|it| *it != 0)) {
            for (count, seen) in counts.iter().zip(seen) {
                let magnitude = match count {
                    0 => 0,
                    1 => 1,
                    2 => 2,
                    3 => 4,
                    4..8 => 8,
                    8..16 => 16,
                    16..32 => 32,
                    32..128 => 64,
                    128.. => 128,
                };
                new |= *seen & magnitude != magnitude;
                *seen |= magnitude;
            }
        }
        new
    }

    /// Removes parts of a failing input as long as it fails at the same place.
    fn shortened(&mut self, mut input: Vec<u8>, failure: &str) -> Vec<u8> {
        let place = |it: &str| it.lines().next().map(str::to_owned);
        let started = Instant::now();
        let mut size = input.len() / 2;
        while 0 < size && started.elapsed() < SHORTENING {
            let mut at = 0;
            while at < input.len() {
                let end = input.len().min(at + size);
                let shorter = [&input[..at], &input[end..]].concat();
                if self.execute(&shorter).is_some_and(|it| place(&it) == place(failure)) {
                    input = shorter;
                } else {
                    at += size;
                }
            }
            size /= 2;
        }
        input
    }
}

/// Returns the name of the file of an input (FNV-1a).
fn name_of(input: &[u8]) -> String {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    format!("{:016x}.txt", input.iter().fold(0xcbf2_9ce4_8422_2325, step))
}
