//! `keyward events export`: writes the audit log for other systems, from its file or over the network.

mod forms;

use std::{
    fs,
    io::{self, BufWriter, Write},
    os::unix::fs::OpenOptionsExt,
    path::PathBuf,
};

use clap::{Args, ValueEnum};
use indicatif::ProgressBar;
use serde_json::Value;

use super::log::{LogSource, STRIDE, start};
use crate::{
    cli::{
        api::client::{Client, Target},
        error::Error,
    },
    server,
    service::ActorNames,
    store::StoreError,
};

/// The source of the events of a log without a checkpoint.
const NO_ORIGIN: &str = "keyward";

#[derive(Args, Debug)]
pub(crate) struct Options {
    /// A copy of the database; without it, the one in the data directory
    #[arg(long, value_name = "FILE", conflicts_with = "url")]
    db: Option<PathBuf>,
    /// The form of each line
    #[arg(long, value_enum, default_value_t = Format::Jsonl)]
    format: Format,
    /// The first event to export
    #[arg(long, value_name = "SEQ", default_value_t = 1, value_parser = clap::value_parser!(i64).range(1..))]
    since_seq: i64,
    /// Where to write, readable by its owner only; without it, standard output
    #[arg(long, short, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    target: Target,
}

/// The forms. Each has one JSON object per line.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    /// Events as the API returns them
    Jsonl,
    /// CloudEvents 1.0
    Cloudevents,
    /// OCSF, class 6003 (API Activity)
    Ocsf,
}

impl Options {
    pub(super) fn run(&self) -> Result<(), Error> {
        let out: Box<dyn Write> = match &self.out {
            Some(path) => {
                let mut options = fs::OpenOptions::new();
                options.write(true).create(true).truncate(true).mode(0o600);
                let unwritable = |source| Error::File { path: path.clone(), source };
                Box::new(BufWriter::new(options.open(path).map_err(unwritable)?))
            }
            None => Box::new(BufWriter::new(io::stdout().lock())),
        };
        let mut sink = Sink { format: self.format, source: NO_ORIGIN.to_owned(), out };
        if self.db.is_none() && self.target.url().is_some() {
            from_network(self, &mut sink)?;
        } else {
            from_file(self, &mut sink)?;
        }
        Ok(sink.out.flush()?)
    }
}

/// The output, and the form of its lines.
struct Sink {
    format: Format,
    /// The name of the log.
    source: String,
    out: Box<dyn Write>,
}

impl Sink {
    /// Writes an event, given as the API answers it.
    fn write(&mut self, event: &Value) -> Result<(), io::Error> {
        match self.format {
            Format::Jsonl => writeln!(self.out, "{event}"),
            Format::Cloudevents => {
                writeln!(self.out, "{}", forms::cloud_event(event, &self.source))
            }
            Format::Ocsf => writeln!(self.out, "{}", forms::ocsf(event)),
        }
    }
}

fn from_network(it: &Options, sink: &mut Sink) -> Result<(), Error> {
    let client = it.target.open()?;
    if let Some(origin) = origin(&client)? {
        sink.source = origin;
    }
    client.pages(&format!("/events?after={}", it.since_seq - 1), |events| {
        events.iter().try_for_each(|event| sink.write(event))?;
        Ok(true)
    })
}

/// Returns the first line of the last checkpoint, if there is one.
fn origin(client: &Client) -> Result<Option<String>, Error> {
    match client.ask_for::<Value>("GET", "/checkpoints/last", None) {
        Ok(it) => Ok(it["note"].as_str().and_then(|it| it.lines().next()).map(str::to_owned)),
        Err(Error::Absent(_)) => Ok(None),
        Err(err) => Err(err),
    }
}

fn from_file(it: &Options, sink: &mut Sink) -> Result<(), Error> {
    let mut log = LogSource::of(it.db.as_deref(), &it.target.location)?.open()?;
    let bar = ProgressBar::hidden();
    let mut written = Ok(());
    let mut names = ActorNames::default();
    log.read::<_, StoreError>(|tx| {
        let after = it.since_seq - 1;
        let total = (tx.audit_head()?.seq - after).max(0).unsigned_abs();
        if it.out.is_some() {
            start(&bar, total);
        }
        if let Some(last) = tx.last_checkpoint()? {
            sink.source = last.origin();
        }
        let mut unnamed = Ok(());
        tx.for_each_event(after, |event| {
            let done = (event.seq - after).unsigned_abs();
            if done.is_multiple_of(STRIDE) {
                bar.set_position(done);
            }
            match names.of(tx, &event) {
                Ok(name) => written = sink.write(&forms::plain(event, name)),
                Err(err) => unnamed = Err(err),
            }
            written.is_ok() && unnamed.is_ok()
        })?;
        unnamed
    })
    .map_err(server::Error::Store)?;
    bar.finish_and_clear();
    Ok(written?)
}
