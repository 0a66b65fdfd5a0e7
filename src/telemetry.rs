//! What the program says about itself: a log for people, metrics for machines.
//!
//! Fields have dotted names (`request.id`, `http.status`); units come last (`elapsed_ms`). Never in
//! a log line or a label: a key, a hash, a body, a header.

mod journal;
mod metrics;
mod tally;

use std::{io, path::Path};

use anstream::{AutoStream, ColorChoice};
use tracing_subscriber::{
    EnvFilter, Layer,
    fmt::{self, MakeWriter},
    prelude::*,
    reload,
};

use self::journal::Journal;
pub use self::{
    metrics::Metrics,
    tally::{Entry, Outcome},
};

use crate::{
    config::{LogConfig, LogFormat, LogLevel},
    domain::text::masked,
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
    let format = match (config.format, target) {
        (LogFormat::Auto, LogTarget::Terminal) => LogFormat::Text,
        (LogFormat::Auto, LogTarget::Journal) => LogFormat::Journal,
        (LogFormat::Auto, LogTarget::Other) => LogFormat::Json,
        (format, _) => format,
    };
    let for_a_person = target == LogTarget::Terminal && format == LogFormat::Text;
    let (filter, handle) = reload::Layer::new(filter(config.level, for_a_person));
    let layer = fmt::layer().with_writer(MaskedStderr).with_target(false);
    let json = || layer.json().flatten_event(true).boxed();
    let (layer, failure) = match format {
        LogFormat::Journal => match Journal::at(Path::new(journal::SOCKET)) {
            Ok(journal) => (journal.boxed(), None),
            Err(err) => (json(), Some(err)),
        },
        LogFormat::Text => {
            let layer = fmt::layer().with_writer(MaskedStderr).with_target(false);
            // `NO_COLOR` and terminals without colours, by the rules of the commands' own output.
            let wanted = AutoStream::choice(&io::stderr()) != ColorChoice::Never;
            (layer.with_ansi(target == LogTarget::Terminal && wanted).boxed(), None)
        }
        LogFormat::Json | LogFormat::Auto => (json(), None),
    };
    // An error means that somebody else (a test) started a log before.
    let _ = tracing_subscriber::registry().with(filter).with(layer).try_init();
    if let Some(err) = failure {
        tracing::warn!(error = &err as &dyn std::error::Error, "the journal cannot be reached");
    }
    Box::new(move |level| {
        if let Err(err) = handle.reload(self::filter(level, for_a_person)) {
            tracing::warn!(error = &err as &dyn std::error::Error, "the log level stays");
        }
    })
}

/// A person who looks at a terminal has no use for the signed note of each checkpoint, unless at a
/// level for debugging. Every other place is often kept elsewhere, as evidence.
fn filter(level: LogLevel, for_a_person: bool) -> EnvFilter {
    // The scheduler's own chatter is of no use to an operator.
    let quiet = "tokio_cron_scheduler=warn,actix_server=warn";
    let unwanted = for_a_person && level == LogLevel::Info;
    let notes = if unwanted { ",keyward::service::checkpoints=warn" } else { "" };
    EnvFilter::new(format!("{},{quiet}{notes}", level.as_str()))
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
