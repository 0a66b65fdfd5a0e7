//! When the use cases of the clock run. No rules here: a job only says *when*.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use tokio::sync::Mutex;
use tokio_cron_scheduler::{Job as CronJob, JobScheduler, JobSchedulerError};

use crate::{
    service::{Job, Keyward},
    telemetry::Metrics,
};

/// The running scheduler.
pub struct Jobs {
    scheduler: JobScheduler,
    shared: Arc<Shared>,
}

struct Shared {
    app: Arc<Keyward>,
    metrics: Arc<Metrics>,
    /// The scheduler starts jobs even after it was told to stop; they look here first.
    stopping: AtomicBool,
    /// One for each job: it never runs beside itself.
    turns: Vec<(Job, Mutex<()>)>,
}

impl Jobs {
    /// Runs nearly every job once and then by its cron line (six fields, seconds first, UTC).
    pub async fn start(
        app: Arc<Keyward>,
        metrics: Arc<Metrics>,
        cron: impl Fn(Job) -> String,
    ) -> Result<Self, JobSchedulerError> {
        let turns = Job::ALL.into_iter().map(|it| (it, Mutex::new(()))).collect();
        let shared = Arc::new(Shared { app, metrics, stopping: AtomicBool::new(false), turns });
        let scheduler = JobScheduler::new().await?;
        for job in Job::ALL {
            if job.runs_at_start() {
                run_once(&shared, job).await;
            }
            let shared = Arc::clone(&shared);
            let tick = CronJob::new_async(cron(job).as_str(), move |_, _| {
                let shared = Arc::clone(&shared);
                Box::pin(async move { run_once(&shared, job).await })
            })?;
            scheduler.add(tick).await?;
        }
        scheduler.start().await?;
        Ok(Self { scheduler, shared })
    }

    /// Stops, between two batches, and waits for what is running.
    pub async fn stop(mut self) {
        self.shared.stopping.store(true, Ordering::Release);
        if let Err(err) = self.scheduler.shutdown().await {
            tracing::warn!(error = &err as &dyn std::error::Error, "the scheduler did not stop");
        }
        for (_, turn) in &self.shared.turns {
            drop(turn.lock().await);
        }
    }
}

/// One run, unless the last one is still going on.
async fn run_once(shared: &Arc<Shared>, job: Job) {
    let Some((_, turn)) = shared.turns.iter().find(|(it, _)| *it == job) else { return };
    let Ok(_turn) = turn.try_lock() else { return };
    if shared.stopping.load(Ordering::Acquire) {
        return;
    }
    let time = Arc::clone(&shared.app.env().time);
    let started = time.monotonic();
    let inside = Arc::clone(shared);
    let outcome = tokio::task::spawn_blocking(move || {
        inside.app.run_job(job, &|| inside.stopping.load(Ordering::Acquire))
    })
    .await;
    let elapsed = time.monotonic().since(started);
    let elapsed_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
    let name = job.as_str();
    let success = match outcome {
        Ok(Ok(0)) => true,
        Ok(Ok(changed)) => {
            tracing::debug!(job.name = name, job.changed = changed, elapsed_ms, "a job ran");
            true
        }
        Ok(Err(err)) => {
            let error = &err as &dyn std::error::Error;
            tracing::warn!(job.name = name, error, cause = error.source(), "a job failed");
            false
        }
        Err(_) => {
            tracing::error!(job.name = name, "a job panicked");
            false
        }
    };
    let success_at = success.then(|| time.now());
    shared.metrics.count_job(job, elapsed, success_at);
}
