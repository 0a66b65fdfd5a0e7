//! Metrics in the text format of Prometheus. No label is about a single key.

use std::{sync::OnceLock, time::Duration};

use metrics::{Counter, Gauge, Histogram, Key, KeyName, Label, Level, Metadata, Recorder, Unit};
use metrics_exporter_prometheus::{
    Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder,
};

use super::{
    outlet::Outlet,
    verification_counts::{EntryPoint, Outcome, Tallies},
};
use crate::{
    domain::named_enum,
    env::Timestamp,
    service::{Job, Keyward, Statistics},
};

const REQUESTS: &str = "http_server_request_duration_seconds";
const REQUEST_COUNT: &str = "http_server_requests_total";
const JOB_RUNS: &str = "keyward_job_runs_total";
const JOB_DURATION: &str = "keyward_job_duration_seconds";
const JOB_SUCCESS: &str = "keyward_job_last_success_timestamp_seconds";
const KEYS: &str = "keyward_keys";
const EVENTS: &str = "keyward_audit_events_total";
const CERTIFICATE_END: &str = "keyward_tls_certificate_not_after_timestamp_seconds";
const DERIVATIONS: &str = "keyward_derivations_total";
const LOG_LINES_DROPPED: &str = "keyward_log_lines_dropped_total";
const LEAKED_KEYS: &str = "keyward_leaked_keys_total";
const EXCHANGES: &str = "keyward_token_exchanges_total";
const STATUS_LISTS: &str = "keyward_token_status_lists_total";
const TOKEN_KEY_AGE: &str = "keyward_token_key_age_seconds";
const STATUS_ENTRIES: &str = "keyward_token_status_entries";
const MALFORMED: &str = "keyward_malformed_requests_total";
const STORAGE_FAILURES: &str = "keyward_storage_failures_total";
const POOL: &str = "keyward_db_pool_connections";
const DELIVERIES: &str = "keyward_webhook_deliveries_total";
const WEBHOOK_LAG: &str = "keyward_webhook_lag_events";

const GAUGES: [(&str, &str); 17] = [
    ("keyward_build_info", "Always 1; the version and the commit are in the labels."),
    (JOB_SUCCESS, "Unix time of the last successful run."),
    (KEYS, "Keys by state; a key that rotates also counts in its other state."),
    ("keyward_key_values", "Credentials in the index, with those of revoked keys."),
    (CERTIFICATE_END, "Unix time at which the TLS certificate expires; 0 without TLS."),
    ("keyward_keys_expiring", "Keys that expire within 7 days."),
    ("keyward_key_next_expiry_timestamp_seconds", "Unix time of the next expiry; 0 if none."),
    ("keyward_audit_last_sequence", "The number of the newest event."),
    ("keyward_backup_last_success_timestamp_seconds", "Unix time of the last backup; 0 if none."),
    ("keyward_db_size_bytes", "Size of the database file."),
    ("keyward_db_wal_size_bytes", "Size of the write-ahead log."),
    ("keyward_storage_available", "1 if the last change reached the disk, 0 if it failed."),
    (POOL, "Connections that read, by state."),
    (WEBHOOK_LAG, "Events of the log that a webhook has not delivered or passed over yet."),
    (TOKEN_KEY_AGE, "Age of the key that signs tokens; 0 if there is none."),
    (STATUS_ENTRIES, "Credentials in the newest token status list."),
    ("keyward_first_proofs_waiting", "First uses of keys that wait for their secret verification."),
];
const COUNTERS: [(&str, &str); 11] = [
    (REQUEST_COUNT, "Requests by status, without verification and forward auth."),
    (JOB_RUNS, "Runs of jobs by result."),
    (STORAGE_FAILURES, "Commits that failed because the storage failed."),
    (EVENTS, "Events by type."),
    (DERIVATIONS, "Derivations of hashes since the start."),
    (LOG_LINES_DROPPED, "Log lines that were dropped because their reader was too slow."),
    (DELIVERIES, "Attempts to deliver an event to a webhook, by result."),
    (LEAKED_KEYS, "Keys in reports of leaks by outcome."),
    (
        EXCHANGES,
        "Requests to exchange a key for a token, by outcome: issued, or the code of the refusal.",
    ),
    (STATUS_LISTS, "Token status lists that were made."),
    (MALFORMED, "Requests refused because they are not valid HTTP."),
];
const HISTOGRAMS: [(&str, &str); 2] = [
    (REQUESTS, "Duration of requests, without verification and forward auth."),
    (JOB_DURATION, "Duration of runs of jobs."),
];

/// Buckets of the OpenTelemetry convention for HTTP servers, in seconds.
const HTTP_BOUNDS: [f64; 14] =
    [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];
const JOB_BOUNDS: [f64; 8] = [0.001, 0.01, 0.1, 0.5, 1.0, 10.0, 60.0, 600.0];

named_enum! {
    /// How an attempt to deliver an event ended.
    pub enum DeliveryResult {
        Delivered => "delivered",
        Failed => "failed",
        /// The receiver answered 410.
        Gone => "gone",
    }
}

/// Counters, gauges and histograms.
pub struct Metrics {
    recorder: PrometheusRecorder,
    handle: PrometheusHandle,
    tallies: Tallies,
    log: OnceLock<Outlet>,
}

impl Metrics {
    pub fn new() -> Self {
        let exact = |it: &str| Matcher::Full(it.to_owned());
        let builder = PrometheusBuilder::new();
        // This fails only for an empty or unsorted list.
        let builder = builder
            .set_buckets_for_metric(exact(REQUESTS), &HTTP_BOUNDS)
            .and_then(|it| it.set_buckets_for_metric(exact(JOB_DURATION), &JOB_BOUNDS))
            .unwrap_or_else(|_| PrometheusBuilder::new());
        let recorder = builder.build_recorder();
        let handle = recorder.handle();
        let name = KeyName::from_const_str;
        for (gauge, text) in GAUGES {
            recorder.describe_gauge(name(gauge), None::<Unit>, text.into());
        }
        for (counter, text) in COUNTERS {
            recorder.describe_counter(name(counter), None::<Unit>, text.into());
        }
        for (histogram, text) in HISTOGRAMS {
            recorder.describe_histogram(name(histogram), None::<Unit>, text.into());
        }
        let it = Self { recorder, handle, tallies: Tallies::default(), log: OnceLock::new() };
        let build = [("version", env!("CARGO_PKG_VERSION")), ("commit", env!("BUILD_COMMIT"))];
        it.gauge("keyward_build_info", &build).set(1.0);
        it.gauge(CERTIFICATE_END, &[]).set(0.0);
        // These series exist before their first event.
        it.count_malformed_requests(0);
        it.count_exchange("issued", 0);
        for outcome in ["revoked", "grace_ended", "kept"] {
            it.count_leaked_keys(outcome, 0);
        }
        for job in Job::ALL {
            it.gauge(JOB_SUCCESS, &[("job", job.as_str())]).set(0.0);
            for result in ["ok", "failed"] {
                it.count_run(job, result, 0);
            }
        }
        it
    }

    /// Adds the dropped lines of this log to the metrics.
    pub fn watch_log(&self, outlet: &Outlet) {
        // A process has one log and calls this once.
        let _ = self.log.set(outlet.clone());
    }

    /// Sets the expiry of the TLS certificate of new connections.
    pub fn set_certificate_end(&self, at: Timestamp) {
        self.gauge(CERTIFICATE_END, &[]).set(seconds(at));
    }

    /// Counts one verification.
    pub fn count_verification(&self, entry: EntryPoint, outcome: Outcome, took: Duration) {
        self.tallies.count(entry, outcome, took);
    }

    /// Counts one request of any other kind. `route` is a pattern, never text of a client.
    ///
    /// Only the counter has the status. A histogram for each status would be megabytes of text.
    pub fn count_request(&self, method: &'static str, route: String, status: u16, took: Duration) {
        let mut labels = vec![
            Label::from_static_parts("http_request_method", method),
            Label::new("http_route", route),
        ];
        self.histogram(REQUESTS, labels.clone()).record(took.as_secs_f64());
        labels.push(Label::new("http_response_status_code", status.to_string()));
        let key = Key::from_parts(REQUEST_COUNT, labels);
        self.recorder.register_counter(&key, &META).increment(1);
    }

    /// Makes the counters of a webhook appear before its first attempt.
    pub fn declare_webhook(&self, name: &str) {
        for result in DeliveryResult::ALL {
            self.deliveries(name, result).increment(0);
        }
    }

    /// Counts one attempt to deliver an event. `webhook` is a name of the configuration.
    pub fn count_delivery(&self, webhook: &str, result: DeliveryResult) {
        self.deliveries(webhook, result).increment(1);
    }

    /// Counts requests that are not valid HTTP.
    pub fn count_malformed_requests(&self, by: u64) {
        let key = Key::from_static_name(MALFORMED);
        self.recorder.register_counter(&key, &META).increment(by);
    }

    /// Counts a request for a token. `outcome` is `issued`, or the code of the refusal.
    pub fn count_exchange(&self, outcome: &'static str, by: u64) {
        let label = vec![Label::from_static_parts("outcome", outcome)];
        let key = Key::from_parts(EXCHANGES, label);
        self.recorder.register_counter(&key, &META).increment(by);
    }

    /// Counts keys that were reported as leaked, by what the report did with them.
    pub fn count_leaked_keys(&self, outcome: &'static str, by: u64) {
        let label = vec![Label::from_static_parts("outcome", outcome)];
        let key = Key::from_parts(LEAKED_KEYS, label);
        self.recorder.register_counter(&key, &META).increment(by);
    }

    /// Counts one run of a job. `succeeded_at` is its end, or `None` if it failed.
    pub fn count_job(&self, job: Job, took: Duration, succeeded_at: Option<Timestamp>) {
        let label = vec![Label::from_static_parts("job", job.as_str())];
        self.histogram(JOB_DURATION, label).record(took.as_secs_f64());
        match succeeded_at {
            Some(at) => {
                self.count_run(job, "ok", 1);
                self.gauge(JOB_SUCCESS, &[("job", job.as_str())]).set(seconds(at));
            }
            None => self.count_run(job, "failed", 1),
        }
        // This frees the memory of the recorded values if no client asks for the metrics.
        self.handle.run_upkeep();
    }

    /// Returns all metrics as text.
    #[expect(clippy::cast_precision_loss, reason = "gauges are floating point numbers")]
    pub fn render(&self, app: &Keyward, statistics: &Statistics) -> String {
        let set = |name, value: f64| self.gauge(name, &[]).set(value);
        let Statistics { keys, events, last_event, last_backup, pool } = statistics;
        for (state, count) in [
            ("active", keys.active),
            ("expiring", keys.expiring),
            ("expired", keys.expired),
            ("disabled", keys.disabled),
            ("revoked", keys.revoked),
            ("rotating", keys.rotating),
        ] {
            self.gauge(KEYS, &[("state", state)]).set(count as f64);
        }
        set("keyward_keys_expiring", keys.expiring as f64);
        let next = keys.next_expiry.map_or(0.0, seconds);
        set("keyward_key_next_expiry_timestamp_seconds", next);
        for (event_type, count) in events {
            let key = Key::from_parts(EVENTS, vec![Label::new("type", event_type.clone())]);
            self.recorder.register_counter(&key, &META).absolute(*count);
        }
        set("keyward_audit_last_sequence", *last_event as f64);
        let backup = last_backup.map_or(0.0, seconds);
        set("keyward_backup_last_success_timestamp_seconds", backup);
        for (state, count) in [("idle", pool.idle), ("busy", pool.busy)] {
            self.gauge(POOL, &[("state", state)]).set(f64::from(count));
        }
        let (db, wal) = app.file_sizes();
        set("keyward_key_values", app.credential_count() as f64);
        set("keyward_db_size_bytes", db as f64);
        set("keyward_db_wal_size_bytes", wal as f64);
        let (fault, failures) = app.storage();
        set("keyward_storage_available", if fault.is_none() { 1.0 } else { 0.0 });
        let key = Key::from_static_name(STORAGE_FAILURES);
        self.recorder.register_counter(&key, &META).absolute(failures);
        set("keyward_first_proofs_waiting", app.waiting_verifications() as f64);
        for (webhook, lag) in app.webhook_lags() {
            let key = Key::from_parts(WEBHOOK_LAG, vec![Label::new("webhook", webhook)]);
            self.recorder.register_gauge(&key, &META).set(lag as f64);
        }
        let (lists, entries) = app.status_lists();
        set(TOKEN_KEY_AGE, app.token_key_age().map_or(0.0, |it| it.as_secs_f64()));
        set(STATUS_ENTRIES, entries as f64);
        let dropped = self.log.get().map_or(0, Outlet::dropped);
        let counts =
            [(LOG_LINES_DROPPED, dropped), (DERIVATIONS, app.derivations()), (STATUS_LISTS, lists)];
        for (name, count) in counts {
            let key = Key::from_static_name(name);
            self.recorder.register_counter(&key, &META).absolute(count);
        }
        let mut text = self.handle.render();
        self.tallies.render(&mut text);
        text
    }

    fn deliveries(&self, webhook: &str, result: DeliveryResult) -> Counter {
        let labels = vec![
            Label::new("webhook", webhook.to_owned()),
            Label::from_static_parts("result", result.as_str()),
        ];
        self.recorder.register_counter(&Key::from_parts(DELIVERIES, labels), &META)
    }

    fn count_run(&self, job: Job, result: &'static str, by: u64) {
        let labels = vec![
            Label::from_static_parts("job", job.as_str()),
            Label::from_static_parts("result", result),
        ];
        let key = Key::from_parts(JOB_RUNS, labels);
        self.recorder.register_counter(&key, &META).increment(by);
    }

    fn histogram(&self, name: &'static str, labels: Vec<Label>) -> Histogram {
        self.recorder.register_histogram(&Key::from_parts(name, labels), &META)
    }

    fn gauge(&self, name: &'static str, labels: &[(&'static str, &'static str)]) -> Gauge {
        let labels: Vec<_> = labels.iter().map(Label::from).collect();
        self.recorder.register_gauge(&Key::from_parts(name, labels), &META)
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

#[expect(clippy::cast_precision_loss, reason = "gauges are floating point numbers")]
fn seconds(at: Timestamp) -> f64 {
    at.as_millis() as f64 / 1e3
}
