//! The schedule of the jobs. `service` does their work.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use futures_core::future::BoxFuture;
use tokio::{
    runtime::Handle,
    sync::{Mutex, Notify, OwnedMutexGuard},
    task::JoinHandle,
};
use tokio_cron_scheduler::{Job as CronJob, JobScheduler, JobSchedulerError};

use crate::{
    service::{Error, Job, Keyward},
    telemetry::Metrics,
};

/// The running scheduler.
pub struct Jobs {
    scheduler: JobScheduler,
    shared: Arc<Shared>,
    /// Stores uses that cannot wait for the schedule.
    flusher: JoinHandle<()>,
}

struct Shared {
    app: Arc<Keyward>,
    metrics: Arc<Metrics>,
    /// Each run checks this, because the scheduler starts jobs even after it was told to stop.
    stopping: AtomicBool,
    turns: Turns,
}

/// A lock for each job, so that a job never runs twice at the same time.
struct Turns(BTreeMap<Job, Arc<Mutex<()>>>);

impl Jobs {
    /// Runs nearly every job once, and then by its cron line (six fields, seconds first, UTC).
    pub async fn start(
        app: Arc<Keyward>,
        metrics: Arc<Metrics>,
        cron_lines: &BTreeMap<Job, String>,
    ) -> Result<Self, JobSchedulerError> {
        let (stopping, turns) = (AtomicBool::new(false), Turns::new());
        let shared = Arc::new(Shared { app, metrics, stopping, turns });
        let scheduler = JobScheduler::new().await?;
        for (&job, line) in cron_lines {
            if job.runs_at_start() {
                run_once(&shared, job).await;
            }
            let shared = Arc::clone(&shared);
            let tick = CronJob::new_async(line.as_str(), move |_, _| {
                let shared = Arc::clone(&shared);
                Box::pin(async move { run_once(&shared, job).await })
            })?;
            scheduler.add(tick).await?;
        }
        scheduler.start().await?;
        let flusher = flush_on_request(&shared);
        Ok(Self { scheduler, shared, flusher })
    }

    /// Returns a function that runs a job now and counts the run. If the job is running, it waits and
    /// runs the job again, because the running one may have begun too early for the caller. The result
    /// is `None` if the job panicked.
    pub fn by_hand(
        &self,
    ) -> impl Fn(Job) -> BoxFuture<'static, Option<Result<u64, Error>>> + Send + Sync + 'static
    {
        let (shared, runtime) = (Arc::clone(&self.shared), Handle::current());
        move |job| {
            let shared = Arc::clone(&shared);
            // On the scheduler's runtime the run ends and is counted even if the caller has gone.
            let run = runtime.spawn(async move {
                let turn = shared.turns.wait(job).await?;
                run_in_turn(&shared, job, turn).await
            });
            Box::pin(async move { run.await.ok().flatten() })
        }
    }

    /// Stops the scheduler, and waits for the current batch of each running job.
    pub async fn stop(mut self) {
        self.shared.stopping.store(true, Ordering::Release);
        if let Err(err) = self.scheduler.shutdown().await {
            tracing::warn!(error = &err as &dyn std::error::Error, "the scheduler did not stop");
        }
        self.flusher.abort();
        for turn in self.shared.turns.0.values() {
            drop(turn.lock().await);
        }
    }
}

impl Turns {
    fn new() -> Self {
        Self(Job::ALL.map(|it| (it, Arc::default())).into())
    }

    fn of(&self, job: Job) -> Option<Arc<Mutex<()>>> {
        self.0.get(&job).cloned()
    }

    /// Returns `None` if the job is running.
    fn take(&self, job: Job) -> Option<OwnedMutexGuard<()>> {
        self.of(job)?.try_lock_owned().ok()
    }

    /// Waits until the job is not running.
    async fn wait(&self, job: Job) -> Option<OwnedMutexGuard<()>> {
        Some(self.of(job)?.lock_owned().await)
    }
}

/// Starts a task that stores uses whenever a verification asks for it.
fn flush_on_request(shared: &Arc<Shared>) -> JoinHandle<()> {
    let requested = Arc::new(Notify::new());
    let request = Arc::clone(&requested);
    shared.app.on_flush_request(move || request.notify_one());
    let shared = Arc::clone(shared);
    tokio::spawn(async move {
        loop {
            requested.notified().await;
            // The running flush may have passed the credential already.
            let Some(turn) = shared.turns.wait(Job::FlushUsage).await else { return };
            run_in_turn(&shared, Job::FlushUsage, turn).await;
        }
    })
}

/// Runs the job unless it is running.
async fn run_once(shared: &Arc<Shared>, job: Job) {
    let Some(turn) = shared.turns.take(job) else { return };
    run_in_turn(shared, job, turn).await;
}

/// Runs the job and counts the run. Returns the number of changes, or `None` if it panicked.
async fn run_in_turn(
    shared: &Arc<Shared>,
    job: Job,
    turn: OwnedMutexGuard<()>,
) -> Option<Result<u64, Error>> {
    if shared.stopping.load(Ordering::Acquire) {
        // No caller waits for this answer, because the control socket closes before.
        return Some(Ok(0));
    }
    let time = Arc::clone(&shared.app.env().time);
    let started = time.monotonic();
    let inside = Arc::clone(shared);
    let work = move || inside.app.run_job(job, &|| inside.stopping.load(Ordering::Acquire));
    let outcome = blocking(turn, work).await;
    let elapsed = time.monotonic().since(started);
    let elapsed_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
    let name = job.as_str();
    let success = match &outcome {
        Some(Ok(0)) => true,
        Some(Ok(changed)) => {
            tracing::debug!(job.name = name, job.changed = changed, elapsed_ms, "a job ran");
            true
        }
        Some(Err(err)) => {
            let error = err as &dyn std::error::Error;
            tracing::warn!(job.name = name, error, cause = error.source(), "a job failed");
            false
        }
        None => {
            tracing::error!(job.name = name, "a job panicked");
            false
        }
    };
    let success_at = success.then(|| time.now());
    shared.metrics.count_job(job, elapsed, success_at);
    outcome
}

/// Does the work on a thread that may block. The turn ends with the work, even if the caller stops
/// waiting.
async fn blocking<T: Send + 'static>(
    turn: OwnedMutexGuard<()>,
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let work = tokio::task::spawn_blocking(move || {
        let _turn = turn;
        work()
    });
    work.await.ok()
}

#[cfg(test)]
mod tests {
    use std::{
        pin::pin,
        sync::mpsc,
        task::{Context, Poll, Waker},
    };

    use super::*;

    #[test]
    fn a_job_never_runs_twice_at_a_time_and_a_run_by_hand_waits() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let turns = Turns::new();
            let (go, told) = mpsc::channel();
            let turn = turns.take(Job::Purge).unwrap();
            let first = tokio::spawn(blocking(turn, move || told.recv()));
            tokio::task::yield_now().await;
            // The caller has gone, but the work goes on.
            first.abort();
            assert!(first.await.is_err());
            assert!(turns.take(Job::Purge).is_none(), "the scheduler passes it over");
            assert!(turns.take(Job::Backup).is_some(), "others have turns of their own");
            let mut second = pin!(turns.wait(Job::Purge));
            let mut context = Context::from_waker(Waker::noop());
            assert!(matches!(second.as_mut().poll(&mut context), Poll::Pending));
            go.send(()).unwrap();
            assert!(second.await.is_some());
        });
    }
}
