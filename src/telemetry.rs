//! What the program says about itself: a log for people, metrics for machines.
//!
//! Fields have dotted names (`request.id`, `http.status`); units come last (`elapsed_ms`). Never in
//! a log line or a label: a key, a hash, a body, a header.

mod journal;

use std::{
    io,
    path::Path,
    sync::atomic::{AtomicU64, AtomicUsize, Ordering},
    time::Duration,
};

use metrics::{Counter, Gauge, Key, KeyName, Label, Level, Metadata, Recorder, Unit};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle, PrometheusRecorder};
use tracing_subscriber::{
    EnvFilter, Layer,
    fmt::{self, MakeWriter},
    prelude::*,
    reload,
};

use self::journal::Journal;

use crate::{
    config::{LogConfig, LogFormat, LogLevel},
    domain::{text::masked, verdict::Verdict},
    service::{Job, Keyward},
};

/// Sets another level while the program runs.
pub type SetLevel = Box<dyn Fn(LogLevel) + Send + Sync>;

/// What standard error leads to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LogTarget {
    Terminal,
    Journal,
    Other,
}

/// Starts the log, on standard error or in the journal. At most once in a process; a second call
/// changes nothing.
pub fn start_log(config: &LogConfig, target: LogTarget) -> SetLevel {
    let (filter, handle) = reload::Layer::new(filter(config.level));
    let format = match (config.format, target) {
        (LogFormat::Auto, LogTarget::Terminal) => LogFormat::Text,
        (LogFormat::Auto, LogTarget::Journal) => LogFormat::Journal,
        (LogFormat::Auto, LogTarget::Other) => LogFormat::Json,
        (format, _) => format,
    };
    let layer = fmt::layer().with_writer(MaskedStderr).with_target(false);
    let json = || layer.json().flatten_event(true).boxed();
    let (layer, failure) = match format {
        LogFormat::Journal => match Journal::at(Path::new(journal::SOCKET)) {
            Ok(journal) => (journal.boxed(), None),
            Err(err) => (json(), Some(err)),
        },
        LogFormat::Text => {
            let layer = fmt::layer().with_writer(MaskedStderr).with_target(false);
            (layer.with_ansi(target == LogTarget::Terminal).boxed(), None)
        }
        LogFormat::Json | LogFormat::Auto => (json(), None),
    };
    // An error means that somebody else (a test) started a log before.
    let _ = tracing_subscriber::registry().with(filter).with(layer).try_init();
    if let Some(err) = failure {
        tracing::warn!(error = &err as &dyn std::error::Error, "the journal cannot be reached");
    }
    Box::new(move |level| {
        if let Err(err) = handle.reload(self::filter(level)) {
            tracing::warn!(error = &err as &dyn std::error::Error, "the log level stays");
        }
    })
}

fn filter(level: LogLevel) -> EnvFilter {
    // The scheduler's own chatter is of no use to an operator.
    EnvFilter::new(format!("{},tokio_cron_scheduler=warn,actix_server=warn", level.as_str()))
}

/// Standard error, with whatever has the shape of a key cut short: the last net under all the
/// places that take care not to log one.
#[derive(Clone, Copy, Debug)]
struct MaskedStderr;

impl<'a> MakeWriter<'a> for MaskedStderr {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        Self
    }
}

impl io::Write for MaskedStderr {
    /// Called with a whole line at a time.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(line);
        io::stderr().lock().write_all(masked(&text).as_bytes())?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// Counters and gauges, in the text format of Prometheus. No label says anything about one key.
pub struct Metrics {
    handle: PrometheusHandle,
    verifications: [Counter; Verdict::ALL.len()],
    tallies: [Tally; TALLIES],
    jobs: Vec<JobMetrics>,
    values: Gauge,
    db_size: Gauge,
    wal_size: Gauge,
}

/// Verifications by outcome, as counted by some of the threads. Apart from the others in memory:
/// a counter that all threads share would cost each of them more than all the rest of counting.
#[derive(Default)]
#[repr(align(128))]
struct Tally([AtomicU64; Verdict::ALL.len()]);

const TALLIES: usize = 16;

thread_local! {
    /// Which tally this thread counts in.
    static TALLY: usize = {
        static THREADS: AtomicUsize = AtomicUsize::new(0);
        THREADS.fetch_add(1, Ordering::Relaxed) % TALLIES
    };
}

struct JobMetrics {
    job: Job,
    ok: Counter,
    failed: Counter,
    last_success: Gauge,
    last_duration: Gauge,
}

impl Metrics {
    pub fn new() -> Self {
        let recorder = PrometheusBuilder::new().build_recorder();
        let verifications = "keyward_verifications_total";
        let runs = "keyward_job_runs_total";
        let success = "keyward_job_last_success_timestamp_seconds";
        let duration = "keyward_job_last_duration_seconds";
        let (values, db, wal) =
            ("keyward_key_values", "keyward_db_size_bytes", "keyward_db_wal_size_bytes");
        let describe = |name: &'static str, text: &'static str, counter: bool| {
            let name = KeyName::from_const_str(name);
            if counter {
                recorder.describe_counter(name, None::<Unit>, text.into());
            } else {
                recorder.describe_gauge(name, None::<Unit>, text.into());
            }
        };
        describe(verifications, "Key verifications by outcome.", true);
        describe(runs, "Scheduler runs by job and result.", true);
        describe(success, "Unix time of the last good run.", false);
        describe(duration, "How long the last run took.", false);
        describe(values, "Key values known, tombstones included.", false);
        describe(db, "Size of the database file.", false);
        describe(wal, "Size of the write-ahead log.", false);
        let jobs = Job::ALL.into_iter().map(|job| {
            let result = |it| counter(&recorder, runs, &[("job", job.as_str()), ("result", it)]);
            JobMetrics {
                job,
                ok: result("ok"),
                failed: result("failed"),
                last_success: gauge(&recorder, success, &[("job", job.as_str())]),
                last_duration: gauge(&recorder, duration, &[("job", job.as_str())]),
            }
        });
        Self {
            jobs: jobs.collect(),
            verifications: Verdict::ALL
                .map(|it| counter(&recorder, verifications, &[("outcome", it.as_str())])),
            tallies: Default::default(),
            values: gauge(&recorder, values, &[]),
            db_size: gauge(&recorder, db, &[]),
            wal_size: gauge(&recorder, wal, &[]),
            handle: recorder.handle(),
        }
    }

    pub fn count_verification(&self, verdict: Verdict) {
        let position = Verdict::ALL.iter().position(|it| *it == verdict);
        let tally = TALLY.with(|it| self.tallies.get(*it));
        if let Some(count) = tally.zip(position).and_then(|(tally, at)| tally.0.get(at)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// One run of a job: how long it took, and, if it went well, when it ended (unix seconds).
    #[expect(clippy::cast_precision_loss, reason = "gauges are floating point numbers")]
    pub fn count_job(&self, job: Job, elapsed: Duration, success_at_ms: Option<i64>) {
        let Some(metrics) = self.jobs.iter().find(|it| it.job == job) else { return };
        metrics.last_duration.set(elapsed.as_secs_f64());
        match success_at_ms {
            Some(millis) => {
                metrics.ok.increment(1);
                metrics.last_success.set(millis as f64 / 1e3);
            }
            None => metrics.failed.increment(1),
        }
    }

    /// Brings up to date what is only looked at when somebody asks.
    #[expect(clippy::cast_precision_loss, reason = "gauges are floating point numbers")]
    pub fn observe(&self, app: &Keyward) {
        for (at, counter) in self.verifications.iter().enumerate() {
            let counts = self.tallies.iter().filter_map(|it| it.0.get(at));
            counter.absolute(counts.map(|it| it.load(Ordering::Relaxed)).sum());
        }
        let (db, wal) = app.file_sizes();
        self.values.set(app.value_count() as f64);
        self.db_size.set(db as f64);
        self.wal_size.set(wal as f64);
    }

    pub fn render(&self) -> String {
        self.handle.render()
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Metrics")
    }
}

const META: Metadata<'static> = Metadata::new("keyward", Level::INFO, None);

fn key(name: &'static str, labels: &[(&'static str, &'static str)]) -> Key {
    Key::from_parts(name, labels.iter().map(Label::from).collect::<Vec<_>>())
}

fn counter(
    recorder: &PrometheusRecorder,
    name: &'static str,
    labels: &[(&'static str, &'static str)],
) -> Counter {
    let counter = recorder.register_counter(&key(name, labels), &META);
    counter.absolute(0); // So that it is there before the first time.
    counter
}

fn gauge(
    recorder: &PrometheusRecorder,
    name: &'static str,
    labels: &[(&'static str, &'static str)],
) -> Gauge {
    recorder.register_gauge(&key(name, labels), &META)
}
