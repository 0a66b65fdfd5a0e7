//! The log for people and the metrics for machines.
//!
//! Fields have dotted names (`request.id`, `http.status`). A unit comes last (`elapsed_ms`). A log line
//! or a label never contains a key, a hash, a body or a header.

mod fields;
mod journal;
mod metrics;
mod outlet;
mod protocol_errors;
mod verification_counts;

use std::{
    io::{self, Write},
    path::Path,
    time::Duration,
};

use anstream::{AutoStream, ColorChoice};
use tracing::{Subscriber, level_filters::LevelFilter};
use tracing_subscriber::{
    Layer,
    filter::Targets,
    fmt::{self, MakeWriter},
    prelude::*,
    registry::LookupSpan,
    reload,
};

use self::{
    fields::EscapedFields,
    journal::{Journal, JournalLayer},
    protocol_errors::HoldBack,
};
pub use self::{
    metrics::{DeliveryResult, Metrics},
    outlet::Outlet,
    protocol_errors::take_protocol_error,
    verification_counts::{EntryPoint, Outcome},
};

use crate::{
    config::{LogConfig, LogFormat, LogLevel},
    domain::text::masked,
};

/// The most bytes of log lines that wait for a reader.
const WAITING_BYTES: usize = 1 << 20;
/// How long [`Log::flush`] waits for the reader of the log.
const FLUSH_LIMIT: Duration = Duration::from_secs(1);

/// The log of this process.
///
/// No thread waits for the reader of the log. Lines that a slow reader leaves no room for are
/// dropped and counted.
pub struct Log {
    set_level: Box<dyn Fn(LogLevel) + Send + Sync>,
    outlet: Outlet,
}

impl Log {
    /// Sets another level while the program runs.
    pub fn set_level(&self, level: LogLevel) {
        (self.set_level)(level);
    }

    /// Waits until the lines so far are written, but at most a second.
    ///
    /// Only a thread that answers no requests may call this.
    pub fn flush(&self) {
        self.outlet.flush(FLUSH_LIMIT);
    }

    /// The queue of lines, for the metric that counts the dropped ones.
    pub fn outlet(&self) -> &Outlet {
        &self.outlet
    }
}

/// Where standard error goes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LogTarget {
    Terminal,
    Journal,
    Other,
}

/// Starts the log on standard error or in the journal. A second call in a process starts a log that
/// no event reaches. From then on, a panic is also a line of the log.
///
/// # Errors
///
/// The operating system refuses a new thread.
pub fn start_log(config: &LogConfig, target: LogTarget) -> Result<Log, io::Error> {
    let format = match (config.format, target) {
        (LogFormat::Auto, LogTarget::Terminal) => LogFormat::Text,
        (LogFormat::Auto, LogTarget::Journal) => LogFormat::Journal,
        (LogFormat::Auto, LogTarget::Other) => LogFormat::Json,
        (format, _) => format,
    };
    let for_a_person = target == LogTarget::Terminal && format == LogFormat::Text;
    let (filter, handle) = reload::Layer::new(filter(config.level, for_a_person));
    let journal = match format {
        LogFormat::Journal => Journal::at(Path::new(journal::SOCKET)).map(Some),
        LogFormat::Text | LogFormat::Json | LogFormat::Auto => Ok(None),
    };
    let (journal, failure) = journal.map_or_else(|err| (None, Some(err)), |it| (it, None));
    let to_journal = journal.is_some();
    let outlet = Outlet::start("log", WAITING_BYTES, move |line, dropped| {
        if dropped > 0 {
            // This line joins the end of the queue. It is never written from here directly, so that
            // it has the same form as all others.
            tracing::warn!(lines = dropped, "log lines were dropped: their reader was too slow");
        }
        match &journal {
            Some(journal) => journal.write(line),
            // This error has no further place to go.
            None => drop(io::stderr().write_all(line)),
        }
    })?;
    let lines = MaskedLines(outlet.clone());
    let layer = match format {
        LogFormat::Journal if to_journal => JournalLayer(outlet.clone()).boxed(),
        LogFormat::Text => {
            // `NO_COLOR` and terminals without colours, by the rules of the commands' own output.
            let wanted = AutoStream::choice(&io::stderr()) != ColorChoice::Never;
            text_lines(lines, target == LogTarget::Terminal && wanted)
        }
        LogFormat::Json | LogFormat::Auto | LogFormat::Journal => {
            let json = fmt::layer().with_writer(lines).with_target(false).json();
            json.flatten_event(true).boxed()
        }
    };
    // An error means that a test started a log before.
    let _ = tracing_subscriber::registry().with(filter).with(layer).with(HoldBack).try_init();
    // The default hook writes to standard error directly and waits for its reader.
    std::panic::set_hook(Box::new(|panic| tracing::error!(%panic, "a thread panicked")));
    if let Some(err) = failure {
        tracing::warn!(error = &err as &dyn std::error::Error, "the journal cannot be reached");
    }
    let set_level = Box::new(move |level| {
        if let Err(err) = handle.reload(self::filter(level, for_a_person)) {
            tracing::warn!(error = &err as &dyn std::error::Error, "the log level was not changed");
        }
    });
    Ok(Log { set_level, outlet })
}

/// Returns the layer that writes lines for people.
fn text_lines<S, W>(to: W, colours: bool) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let lines = fmt::layer().with_writer(to).with_target(false).fmt_fields(EscapedFields);
    lines.with_ansi(colours).boxed()
}

/// Returns the filter for a level. On a terminal, the signed note of each checkpoint appears only at a
/// level for debugging. Other logs keep the notes as evidence.
fn filter(level: LogLevel, for_a_person: bool) -> Targets {
    let most = match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    let unwanted = for_a_person && level == LogLevel::Info;
    let notes = unwanted.then_some("keyward::service::checkpoints");
    // Most lines of the scheduler and the framework are of no use to an operator.
    let quiet = ["tokio_cron_scheduler", "actix_server"].into_iter().chain(notes);
    Targets::new().with_default(most).with_targets(quiet.map(|it| (it, LevelFilter::WARN)))
}

/// Lines for standard error. This cuts text with the shape of a key short, in case other code logs a
/// key by mistake.
#[derive(Clone, Debug)]
struct MaskedLines(Outlet);

impl<'a> MakeWriter<'a> for MaskedLines {
    type Writer = &'a Self;

    fn make_writer(&'a self) -> Self::Writer {
        self
    }
}

impl Write for &MaskedLines {
    /// Called with a whole line at a time.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(line);
        self.0.offer(masked(&text).into_owned().into_bytes());
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
