//! The writer thread: group commit.
//!
//! SQLite has one writer, so we queue here and not in `SQLITE_BUSY`. The thread runs whatever is
//! waiting in one transaction, a savepoint each, so that one refusal or panic leaves the others;
//! commits once; brings the index up to date; and only then answers all of them. Nobody hears of a
//! change that is not on the disk, or that verification does not know yet.

use std::{
    collections::HashSet,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    thread::{self, JoinHandle},
};

use rusqlite::Connection;

use crate::{
    env::Env,
    store::{
        KeyIndex, ReadTx, StoreError, WriteTx,
        index::Image,
        tx::{Marks, Touched},
    },
};

/// How many changes may wait. More are told to come back: a queue only helps while it is short.
const QUEUE: usize = 1024;
/// How many changes share a commit at most.
const BATCH: usize = 256;

#[derive(Debug)]
pub(super) struct Writer {
    queue: Option<SyncSender<Work>>,
    halted: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

enum Work {
    Change(Box<dyn Job>),
    Upkeep(SyncSender<Result<(), StoreError>>),
}

/// A change, without the types of its answer.
trait Job: Send {
    /// Runs the body. Whether its changes are to stay.
    fn run(&mut self, tx: &WriteTx<'_>) -> bool;
    /// Tells the caller, who may have gone. `failed` if what ran is not on the disk after all.
    fn answer(self: Box<Self>, failed: Option<StoreError>);
}

struct Change<T, E, F> {
    body: Option<F>,
    outcome: Option<Result<T, E>>,
    reply: SyncSender<Result<T, E>>,
}

impl Writer {
    pub fn start(conn: Connection, env: Env, index: Arc<KeyIndex>) -> Result<Self, StoreError> {
        let (queue, waiting) = sync_channel(QUEUE);
        let halted = Arc::new(AtomicBool::new(false));
        let read = ReadTx::new(&conn);
        let marks = Marks { head: read.audit_head()?, last_id: read.last_id()? };
        let desk = Desk { conn, env, index, marks, halted: Arc::clone(&halted) };
        let thread = thread::Builder::new()
            .name("keyward-writer".to_owned())
            .spawn(move || desk.work(&waiting))
            .map_err(StoreError::File)?;
        Ok(Self { queue: Some(queue), halted, thread: Some(thread) })
    }

    pub fn write<T, E>(
        &self,
        body: impl for<'tx> FnOnce(&'tx WriteTx<'_>) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        let (reply, answer) = sync_channel(1);
        let change = Change { body: Some(body), outcome: None, reply };
        self.enqueue(Work::Change(Box::new(change)))?;
        answer.recv().unwrap_or_else(|_| Err(StoreError::Halted.into()))
    }

    pub fn upkeep(&self) -> Result<(), StoreError> {
        let (reply, answer) = sync_channel(1);
        self.enqueue(Work::Upkeep(reply))?;
        answer.recv().unwrap_or(Err(StoreError::Halted))
    }

    pub fn halted(&self) -> bool {
        self.halted.load(Ordering::Acquire)
    }

    fn enqueue(&self, work: Work) -> Result<(), StoreError> {
        let queue = self.queue.as_ref().ok_or(StoreError::Halted)?;
        queue.try_send(work).map_err(|err| match err {
            TrySendError::Full(_) => StoreError::Busy(None),
            TrySendError::Disconnected(_) => StoreError::Halted,
        })
    }
}

impl Drop for Writer {
    /// Lets the thread finish what is queued, and waits for it: the file is closed after this.
    fn drop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the writer thread panicked");
        }
    }
}

impl<T, E, F> Job for Change<T, E, F>
where
    T: Send,
    E: From<StoreError> + Send,
    F: for<'tx> FnOnce(&'tx WriteTx<'_>) -> Result<T, E> + Send,
{
    fn run(&mut self, tx: &WriteTx<'_>) -> bool {
        let Some(body) = self.body.take() else { return false };
        let outcome = catch_unwind(AssertUnwindSafe(|| body(tx)))
            .unwrap_or_else(|_| Err(StoreError::Panicked.into()));
        let stays = outcome.is_ok();
        self.outcome = Some(outcome);
        stays
    }

    fn answer(self: Box<Self>, failed: Option<StoreError>) {
        let outcome = match (self.outcome, failed) {
            (Some(Err(refusal)), _) => Err(refusal),
            (_, Some(failure)) => Err(failure.into()),
            (Some(Ok(value)), None) => Ok(value),
            (None, None) => Err(StoreError::Halted.into()),
        };
        // A caller who no longer waits has no use for the answer.
        let _ = self.reply.send(outcome);
    }
}

/// What the writer thread owns.
struct Desk {
    conn: Connection,
    env: Env,
    index: Arc<KeyIndex>,
    marks: Marks,
    halted: Arc<AtomicBool>,
}

impl Desk {
    fn work(mut self, waiting: &Receiver<Work>) {
        while let Ok(first) = waiting.recv() {
            let mut jobs = Vec::new();
            let mut next = Some(first);
            // Whatever already waits shares this commit; nobody is waited for.
            let mut batch = Batch::default();
            while let Some(work) = next {
                match work {
                    Work::Change(job) => jobs.push(job),
                    Work::Upkeep(reply) => {
                        let _ = reply.send(self.upkeep());
                    }
                }
                next = if jobs.len() < BATCH { waiting.try_recv().ok() } else { None };
            }
            if jobs.is_empty() {
                continue;
            }
            let failure = self.commit(&mut jobs, &mut batch).err();
            for job in jobs {
                job.answer(failure.as_ref().map(again));
            }
        }
    }

    /// Runs `jobs` in one transaction and brings the index up to date.
    fn commit(&mut self, jobs: &mut [Box<dyn Job>], batch: &mut Batch) -> Result<(), StoreError> {
        if self.halted.load(Ordering::Acquire) {
            return Err(StoreError::Halted);
        }
        let before = self.marks;
        let outcome = self.run_all(jobs, batch);
        if outcome.is_err() {
            self.marks = before;
            if !self.conn.is_autocommit() {
                // Best effort: closing the connection would roll back as well.
                let _ = self.conn.execute_batch("ROLLBACK");
            }
        }
        match &outcome {
            Ok(()) => (),
            Err(err @ StoreError::Io(_)) => {
                // A failed commit may or may not be on the disk. An index that might differ from
                // the file must answer nobody: stop, and let the next process read the file.
                tracing::error!(error = err as &dyn std::error::Error, "the disk failed; stopping");
                self.halted.store(true, Ordering::Release);
            }
            Err(err) => {
                tracing::error!(error = err as &dyn std::error::Error, "a commit failed");
                if let StoreError::Full(_) = err {
                    let _ = self.upkeep();
                }
            }
        }
        outcome
    }

    fn run_all(&mut self, jobs: &mut [Box<dyn Job>], batch: &mut Batch) -> Result<(), StoreError> {
        self.conn.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        for job in jobs.iter_mut() {
            self.conn.prepare_cached("SAVEPOINT body")?.execute([])?;
            let now = self.env.time.now();
            let tx = WriteTx::new(&self.conn, now, &*self.env.entropy, self.marks);
            if job.run(&tx) {
                self.marks = tx.marks.get();
                batch.touched.extend(tx.touched.take());
            } else if !self.conn.is_autocommit() {
                self.conn.prepare_cached("ROLLBACK TO body")?.execute([])?;
            }
            if self.conn.is_autocommit() {
                // A full disk and the like make SQLite roll everything back by itself.
                return Err(StoreError::RolledBack);
            }
            self.conn.prepare_cached("RELEASE body")?.execute([])?;
        }
        let images = batch.images(&self.index, &self.conn)?;
        self.conn.prepare_cached("COMMIT")?.execute([])?;
        self.index.apply(images);
        Ok(())
    }

    fn upkeep(&self) -> Result<(), StoreError> {
        self.conn.execute_batch("PRAGMA optimize;")?;
        self.conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
        Ok(())
    }
}

/// What one commit changes in the index.
#[derive(Default)]
struct Batch {
    touched: HashSet<Touched>,
}

impl Batch {
    /// Read inside the transaction, so that an image that cannot be made undoes the change.
    fn images(&self, index: &KeyIndex, conn: &Connection) -> Result<Vec<Image>, StoreError> {
        let read = ReadTx::new(conn);
        let mut images = Vec::with_capacity(self.touched.len());
        for touched in &self.touched {
            index.image(&read, *touched, &mut images)?;
        }
        Ok(images)
    }
}

/// The same failure, once more for each caller that shares it.
fn again(err: &StoreError) -> StoreError {
    // It is logged where it happened; the callers only need to know whether they may retry.
    if let StoreError::Io(_) | StoreError::Halted = err {
        StoreError::Halted
    } else if err.is_temporary() {
        StoreError::RolledBack
    } else {
        StoreError::CommitFailed(err.to_string())
    }
}
