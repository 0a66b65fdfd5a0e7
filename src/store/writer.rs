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
    time::Duration,
};

use rusqlite::Connection;
use tokio::sync::watch;

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
/// How long changes are added to one: those who came first wait for all.
const BATCH_TIME: Duration = Duration::from_millis(10);

#[derive(Debug)]
pub(super) struct Writer {
    queue: Option<SyncSender<Work>>,
    halted: Arc<AtomicBool>,
    committed: watch::Receiver<i64>,
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
        let (announce, committed) = watch::channel(marks.head.seq);
        #[cfg(test)]
        super::steps::count(&conn);
        let desk = Desk { conn, env, index, marks, announce, halted: Arc::clone(&halted) };
        let thread = thread::Builder::new()
            .name("keyward-writer".to_owned())
            .spawn(move || desk.work(&waiting))
            .map_err(StoreError::File)?;
        Ok(Self { queue: Some(queue), halted, committed, thread: Some(thread) })
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

    pub fn committed(&self) -> watch::Receiver<i64> {
        self.committed.clone()
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
    /// Tells the newest event to whoever waits for it. The writer waits for none of them.
    announce: watch::Sender<i64>,
    halted: Arc<AtomicBool>,
}

impl Desk {
    fn work(mut self, waiting: &Receiver<Work>) {
        while let Ok(first) = waiting.recv() {
            let mut batch = Batch::default();
            let failure = match first {
                Work::Change(job) => self.commit(job, waiting, &mut batch).err(),
                Work::Upkeep(reply) => {
                    batch.upkeeps.push(reply);
                    None
                }
            };
            for job in batch.jobs {
                job.answer(failure.as_ref().map(again));
            }
            for reply in batch.upkeeps {
                // Whoever asked may have gone.
                let _ = reply.send(self.upkeep());
            }
        }
    }

    /// Runs `first` and whatever already waits in one transaction, and brings the index up to
    /// date. Nobody is waited for, so a change that comes alone is not delayed.
    fn commit(
        &mut self,
        first: Box<dyn Job>,
        waiting: &Receiver<Work>,
        batch: &mut Batch,
    ) -> Result<(), StoreError> {
        if self.halted.load(Ordering::Acquire) {
            batch.jobs.push(first);
            return Err(StoreError::Halted);
        }
        let before = self.marks;
        let outcome = self.run_all(first, waiting, batch);
        if let Err(err) = &outcome {
            self.marks = before;
            self.undo(err);
        }
        outcome
    }

    fn run_all(
        &mut self,
        first: Box<dyn Job>,
        waiting: &Receiver<Work>,
        batch: &mut Batch,
    ) -> Result<(), StoreError> {
        let started = self.env.time.monotonic();
        let begun = self.conn.prepare_cached("BEGIN IMMEDIATE").and_then(|mut it| it.execute([]));
        let mut next = Some(first);
        while let Some(mut job) = next.take() {
            // A job is in the batch before anything can fail, so that it will be answered.
            let ran = if begun.is_ok() { self.run_one(&mut *job, batch) } else { Ok(()) };
            batch.jobs.push(job);
            ran?;
            let room =
                batch.jobs.len() < BATCH && self.env.time.monotonic().since(started) < BATCH_TIME;
            while room && begun.is_ok() && next.is_none() {
                match waiting.try_recv() {
                    Ok(Work::Change(job)) => next = Some(job),
                    Ok(Work::Upkeep(reply)) => batch.upkeeps.push(reply),
                    Err(_) => break,
                }
            }
        }
        begun?;
        let images = batch.images(&self.index, &self.conn)?;
        self.conn.prepare_cached("COMMIT")?.execute([])?;
        self.index.apply(images);
        // Last, so that who wakes finds the event in the file and its effect in the index.
        let newest = self.marks.head.seq;
        self.announce.send_if_modified(|seq| std::mem::replace(seq, newest) != newest);
        Ok(())
    }

    fn run_one(&mut self, job: &mut dyn Job, batch: &mut Batch) -> Result<(), StoreError> {
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
        Ok(())
    }

    fn undo(&mut self, err: &StoreError) {
        let error = err as &dyn std::error::Error;
        if !self.conn.is_autocommit() {
            // Best effort: closing the connection would roll back as well.
            let _ = self.conn.execute_batch("ROLLBACK");
        }
        if let StoreError::Io(_) = err {
            // A failed commit may or may not be on the disk. An index that might differ from the
            // file must answer nobody: stop, and let the next process read the file.
            tracing::error!(error, cause = error.source(), "the disk failed; writing stops");
            self.halted.store(true, Ordering::Release);
            return;
        }
        tracing::error!(error, cause = error.source(), "a transaction failed");
        if let StoreError::Full(_) | StoreError::RolledBack = err {
            // Folding the log back may make the room that is needed.
            let _ = self.upkeep();
        }
    }

    fn upkeep(&self) -> Result<(), StoreError> {
        self.conn.execute_batch("PRAGMA optimize;")?;
        self.conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
        Ok(())
    }
}

/// What shares one commit.
#[derive(Default)]
struct Batch {
    jobs: Vec<Box<dyn Job>>,
    /// What it changes in the index.
    touched: HashSet<Touched>,
    /// Who waits for the log to be folded back; done once the transaction is over.
    upkeeps: Vec<SyncSender<Result<(), StoreError>>>,
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
