//! The writer thread: group commit.
//!
//! SQLite has one writer, so write requests wait in a queue here instead of in `SQLITE_BUSY`. The
//! thread runs the waiting requests in one transaction, each in a savepoint, so that the refusal or
//! panic of one leaves the others. It commits once, brings the index up to date, and then answers all
//! of them. So an answered change is on the disk and in the index.
//!
//! After an I/O error the outcome of the last commit is unknown. The thread then refuses changes, and
//! tries to open the file again with growing pauses; see [`recovery`].

mod recovery;

use std::{
    collections::HashSet,
    mem,
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use rusqlite::Connection;
use tokio::sync::watch;

use crate::{
    env::{Env, Monotonic},
    store::{
        Divergence, KeyIndex, ReadTx, StorageFault, StoreError, WriteTx,
        outage::{FilesBeside, Identity, Outage, StorageState},
        readers::Readers,
        schema,
        tx::{Marks, Touched},
    },
};

/// How many changes may wait. Further ones are refused as busy: a long queue does not help.
const QUEUE: usize = 1024;
/// How many changes share a commit at most.
const BATCH: usize = 256;
/// How often an idle thread checks that the files are in their place.
const PLACE_CHECK: Duration = Duration::from_secs(1);
/// How long the thread adds changes to one commit: the first caller waits for all of them.
const BATCH_TIME: Duration = Duration::from_millis(10);

#[derive(Debug)]
pub(super) struct Writer {
    queue: Option<SyncSender<Work>>,
    state: Arc<StorageState>,
    committed: watch::Receiver<i64>,
    thread: Option<JoinHandle<()>>,
}

enum Work {
    Change(Box<dyn WriteRequest>),
    Upkeep(SyncSender<Result<bool, StoreError>>),
}

/// A change without the type of its answer.
trait WriteRequest: Send {
    /// Runs the body. Returns whether its changes stay. The request is `first` if the transaction has no
    /// change before it.
    fn run(&mut self, tx: &WriteTx<'_>, first: bool) -> bool;
    /// Answers the caller. `failed` is set if the commit failed. Then a refusal fails as well, because
    /// it may rest on a change before it.
    fn answer(self: Box<Self>, failed: Option<StoreError>);
}

struct Change<T, E, F> {
    body: Option<F>,
    outcome: Option<Result<T, E>>,
    /// The outcome rests only on what is on the disk.
    first: bool,
    reply: SyncSender<Result<T, E>>,
}

/// The resources of the writer thread besides its connection.
pub(super) struct Opened {
    pub path: PathBuf,
    pub env: Env,
    pub index: Arc<KeyIndex>,
    pub readers: Arc<Readers>,
}

impl Writer {
    /// Starts the thread. With a `fault`, `conn` only reads, and the thread opens the file for writing as
    /// soon as that works.
    pub fn start(
        opened: Opened,
        conn: Connection,
        fault: Option<StorageFault>,
    ) -> Result<Self, StoreError> {
        let (queue, waiting) = sync_channel(QUEUE);
        let state = Arc::new(StorageState::default());
        let read = ReadTx::new(&conn);
        let marks = Marks { head: read.audit_head()?, last_id: read.last_id()? };
        let (announce, committed) = watch::channel(marks.head.seq);
        #[cfg(test)]
        super::steps::count(&conn);
        let identity = Identity::of(&opened.path)?;
        let mut worker = WriterThread {
            opened,
            identity,
            beside: FilesBeside::default(),
            conn: None,
            outage: None,
            marks,
            announce,
            state: Arc::clone(&state),
        };
        match fault {
            None => worker.conn = Some(conn),
            Some(fault) => worker.begin_outage(fault, HashSet::new()),
        }
        let panicked = Arc::clone(&state);
        let thread = thread::Builder::new()
            .name("keyward-writer".to_owned())
            .spawn(move || {
                if catch_unwind(AssertUnwindSafe(|| worker.work(&waiting))).is_err() {
                    // The file may hold changes that the index lacks.
                    panicked.part(Divergence::WriterPanicked);
                }
            })
            .map_err(StoreError::File)?;
        Ok(Self { queue: Some(queue), state, committed, thread: Some(thread) })
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
        let change = Change { body: Some(body), outcome: None, first: false, reply };
        self.enqueue(Work::Change(Box::new(change)))?;
        answer.recv().unwrap_or_else(|_| Err(StoreError::Halted.into()))
    }

    pub fn upkeep(&self) -> Result<bool, StoreError> {
        let (reply, answer) = sync_channel(1);
        self.enqueue(Work::Upkeep(reply))?;
        answer.recv().unwrap_or(Err(StoreError::Halted))
    }

    pub fn state(&self) -> &StorageState {
        &self.state
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
    /// Lets the thread finish what is queued, and waits for it. After this the file is closed.
    fn drop(&mut self) {
        self.queue = None;
        // `StorageState::divergence` reports a panic.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

impl<T, E, F> WriteRequest for Change<T, E, F>
where
    T: Send,
    E: From<StoreError> + Send,
    F: for<'tx> FnOnce(&'tx WriteTx<'_>) -> Result<T, E> + Send,
{
    fn run(&mut self, tx: &WriteTx<'_>, first: bool) -> bool {
        let Some(body) = self.body.take() else { return false };
        let outcome = catch_unwind(AssertUnwindSafe(|| body(tx)))
            .unwrap_or_else(|_| Err(StoreError::Panicked.into()));
        let stays = outcome.is_ok();
        self.outcome = Some(outcome);
        self.first = first;
        stays
    }

    fn answer(self: Box<Self>, failed: Option<StoreError>) {
        let outcome = match (self.outcome, failed) {
            (Some(Err(refusal)), _) if self.first => Err(refusal),
            (_, Some(failure)) => Err(failure.into()),
            (Some(outcome), None) => outcome,
            (None, None) => Err(StoreError::Halted.into()),
        };
        // The caller may no longer wait.
        let _ = self.reply.send(outcome);
    }
}

/// The state of the writer thread.
pub(super) struct WriterThread {
    pub opened: Opened,
    /// The file that was opened first; no other file is opened in its place.
    pub identity: Identity,
    pub beside: FilesBeside,
    /// `None` during an outage.
    pub conn: Option<Connection>,
    pub outage: Option<Outage>,
    pub marks: Marks,
    /// Tells streams the number of the newest event. The writer waits for none of them.
    announce: watch::Sender<i64>,
    pub state: Arc<StorageState>,
}

impl WriterThread {
    fn work(mut self, waiting: &Receiver<Work>) {
        loop {
            let left = self.outage.as_ref().map(|it| it.left(self.now()));
            match waiting.recv_timeout(left.unwrap_or(PLACE_CHECK)) {
                Ok(first) => {
                    if self.outage.as_ref().is_some_and(|it| it.left(self.now()).is_zero()) {
                        self.end_outage();
                    }
                    self.serve(first, waiting);
                }
                Err(RecvTimeoutError::Timeout) if left.is_none() => self.check_while_idle(),
                Err(RecvTimeoutError::Timeout) => self.end_outage(),
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    pub fn now(&self) -> Monotonic {
        self.opened.env.time.monotonic()
    }

    fn serve(&mut self, first: Work, waiting: &Receiver<Work>) {
        let mut batch = Batch::default();
        let failure = match first {
            Work::Change(request) => self.commit(request, waiting, &mut batch).err(),
            Work::Upkeep(reply) => {
                batch.upkeeps.push(reply);
                None
            }
        };
        for request in batch.requests {
            request.answer(failure.as_ref().map(again));
        }
        for reply in batch.upkeeps {
            // The caller may no longer wait.
            let _ = reply.send(self.upkeep());
        }
    }

    /// Runs `first` and the requests that already wait in one transaction, and brings the index up to
    /// date. Waits for no further request, so a single one is not delayed.
    fn commit(
        &mut self,
        first: Box<dyn WriteRequest>,
        waiting: &Receiver<Work>,
        batch: &mut Batch,
    ) -> Result<(), StoreError> {
        let Some(conn) = self.conn.take() else {
            batch.requests.push(first);
            return Err(self.refusal());
        };
        if let Err(err) = self.check_place(&conn) {
            batch.requests.push(first);
            self.undo(conn, &err, HashSet::new());
            return Err(err);
        }
        let (before, rows) = (self.marks, conn.total_changes());
        let outcome = self.run_all(&conn, first, waiting, batch);
        match &outcome {
            Ok(()) => {
                // A commit without changes does not show that the disk works.
                if rows != conn.total_changes()
                    && let Some(fault) = self.state.works()
                {
                    tracing::info!("changes are accepted again; before: {fault}");
                }
                self.conn = Some(conn);
            }
            Err(err) => {
                self.marks = before;
                self.undo(conn, err, mem::take(&mut batch.touched));
            }
        }
        outcome
    }

    fn run_all(
        &mut self,
        conn: &Connection,
        first: Box<dyn WriteRequest>,
        waiting: &Receiver<Work>,
        batch: &mut Batch,
    ) -> Result<(), StoreError> {
        let started = self.now();
        let begun = conn.prepare_cached("BEGIN IMMEDIATE").and_then(|mut it| it.execute([]));
        let mut next = Some(first);
        while let Some(mut request) = next.take() {
            // A request is in the batch before anything can fail, so that it gets an answer.
            let ran = if begun.is_ok() { self.run_one(conn, &mut *request, batch) } else { Ok(()) };
            batch.requests.push(request);
            ran?;
            let room = batch.requests.len() < BATCH && self.now().since(started) < BATCH_TIME;
            while room && begun.is_ok() && next.is_none() {
                match waiting.try_recv() {
                    Ok(Work::Change(request)) => next = Some(request),
                    Ok(Work::Upkeep(reply)) => batch.upkeeps.push(reply),
                    Err(_) => break,
                }
            }
        }
        begun?;
        let index = &self.opened.index;
        // Inside the transaction, so that an unreadable row undoes the change.
        let images = index.images(&ReadTx::new(conn), &mut batch.touched)?;
        conn.prepare_cached("COMMIT")?.execute([])?;
        index.apply(images);
        self.announce();
        // The file was accepted, so what is in its log may go into it.
        schema::complete_opening(conn);
        Ok(())
    }

    /// Wakes the streams. Called last, when the event is in the file and its effect is in the index.
    pub fn announce(&self) {
        let newest = self.marks.head.seq;
        self.announce.send_if_modified(|seq| mem::replace(seq, newest) != newest);
    }

    fn run_one(
        &mut self,
        conn: &Connection,
        request: &mut dyn WriteRequest,
        batch: &mut Batch,
    ) -> Result<(), StoreError> {
        conn.prepare_cached("SAVEPOINT body")?.execute([])?;
        let now = self.opened.env.time.now();
        let tx = WriteTx::new(conn, now, &*self.opened.env.entropy, self.marks);
        if request.run(&tx, !batch.changed) {
            self.marks = tx.marks.get();
            batch.changed = true;
            batch.touched.extend(tx.touched.take());
        } else if !conn.is_autocommit() {
            conn.prepare_cached("ROLLBACK TO body")?.execute([])?;
        }
        if conn.is_autocommit() {
            // SQLite has ended the transaction, so further statements would commit on their own.
            return Err(StoreError::RolledBack);
        }
        conn.prepare_cached("RELEASE body")?.execute([])?;
        Ok(())
    }
}

/// The requests that share one commit.
#[derive(Default)]
struct Batch {
    requests: Vec<Box<dyn WriteRequest>>,
    /// Whether a request has made changes that stay.
    changed: bool,
    /// The rows that the index must read again.
    touched: HashSet<Touched>,
    /// Requests to fold the log back, which the thread does after the transaction.
    upkeeps: Vec<SyncSender<Result<bool, StoreError>>>,
}

/// Returns the same failure once more, for another caller that shares it.
fn again(err: &StoreError) -> StoreError {
    // The failure itself is logged; the callers only need to know whether they may retry.
    if let Some(fault) = err.storage_fault() {
        StoreError::Unavailable(fault)
    } else if let StoreError::Halted = err {
        StoreError::Halted
    } else if err.is_temporary() {
        StoreError::RolledBack
    } else {
        StoreError::CommitFailed(err.to_string())
    }
}

#[cfg(test)]
mod tests;
