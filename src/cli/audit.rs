//! `keyward events verify` and `keyward events export`: the audit log without its server.

use std::{
    fs,
    io::{self, BufWriter, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};

use crate::{
    cli::{Error, Settings, config, export},
    domain::note::NoteKey,
    server,
    service::{Audit, LogFile},
    store::StoreError,
};

/// How often the bar is told: each time costs more than checking an event.
const STRIDE: u64 = 1_000;
/// What is verified and found wrong.
const BROKEN: u8 = 3;

#[derive(Args, Debug)]
pub(super) struct Verify {
    /// A copy of the database; without it, the one in the data directory
    #[arg(long, value_name = "FILE")]
    db: Option<PathBuf>,
    /// The public key that must have signed, as `checkpoint.pub` has it; without it, that of the
    /// data directory, or none with `--db`
    #[arg(long, value_name = "FILE")]
    public_key: Option<PathBuf>,
    /// A checkpoint that was kept elsewhere; may be given more than once
    #[arg(long, value_name = "FILE")]
    checkpoint: Vec<PathBuf>,
    #[command(flatten)]
    settings: Settings,
}

#[derive(Args, Debug)]
pub(super) struct Export {
    /// A copy of the database; without it, the one in the data directory
    #[arg(long, value_name = "FILE")]
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
    settings: Settings,
}

/// Every form is a JSON object on each line.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    /// As the API answers
    Jsonl,
    /// CloudEvents 1.0
    Cloudevents,
    /// OCSF, class 6003 (API Activity)
    Ocsf,
}

pub(super) fn verify(arguments: &Verify) -> Result<ExitCode, Error> {
    let place = Place::of(arguments.db.as_deref(), &arguments.settings)?;
    let key_file = match (&arguments.public_key, &place.data_dir) {
        (Some(file), _) => Some(file.clone()),
        (None, Some(dir)) => Some(dir.join("checkpoint.pub")).filter(|it| it.exists()),
        (None, None) => None,
    };
    let key = key_file.map(|file| {
        let wrong = |source| Error::PublicKey { path: file.clone(), source };
        NoteKey::parse(&read(&file)?).map_err(wrong)
    });
    let mut audit = Audit { key: key.transpose()?, kept: Vec::new() };
    let beside = place.data_dir.as_ref().map(|it| it.join("checkpoint"));
    let beside = beside.filter(|it| it.exists() && arguments.checkpoint.is_empty());
    for file in arguments.checkpoint.iter().chain(&beside) {
        audit.kept.push((file.display().to_string(), read(file)?));
    }

    let mut log = place.open()?;
    let bar = ProgressBar::hidden();
    let outcome = log.read::<_, StoreError>(|tx| {
        start(&bar, tx.audit_head()?.seq.unsigned_abs());
        audit.run(tx, |done| {
            if done.is_multiple_of(STRIDE) {
                bar.set_position(done);
            }
        })
    });
    bar.finish_and_clear();
    let mut out = io::stdout().lock();
    match outcome.map_err(server::Error::Store)? {
        Ok(sound) => {
            writeln!(out, "events       {}, nothing changed, nothing missing", sound.events)?;
            writeln!(out, "checkpoints  {} agree", sound.checkpoints)?;
            match &audit.key {
                Some(key) => {
                    let signed = sound.checkpoints - sound.unsigned;
                    writeln!(out, "signatures   {signed} of {}", key.name())?;
                }
                None => writeln!(out, "signatures   not checked: no --public-key was given")?,
            }
            writeln!(out, "head         {}\nroot         {}", sound.head, sound.root)?;
            Ok(ExitCode::SUCCESS)
        }
        Err(finding) => {
            writeln!(out, "{finding}")?;
            Ok(ExitCode::from(BROKEN))
        }
    }
}

pub(super) fn export(arguments: &Export) -> Result<(), Error> {
    let mut log = Place::of(arguments.db.as_deref(), &arguments.settings)?.open()?;
    let mut out: Box<dyn Write> = match &arguments.out {
        Some(path) => {
            let mut options = fs::OpenOptions::new();
            options.write(true).create(true).truncate(true).mode(0o600);
            let unwritable = |source| Error::File { path: path.clone(), source };
            Box::new(BufWriter::new(options.open(path).map_err(unwritable)?))
        }
        None => Box::new(BufWriter::new(io::stdout().lock())),
    };
    let bar = ProgressBar::hidden();
    let mut written = Ok(());
    log.read::<_, StoreError>(|tx| {
        let after = arguments.since_seq - 1;
        let total = (tx.audit_head()?.seq - after).max(0).unsigned_abs();
        if arguments.out.is_some() {
            start(&bar, total);
        }
        let source = tx.last_checkpoint()?.map_or_else(|| "keyward".to_owned(), |it| it.origin());
        tx.for_each_event(after, |event| {
            let done = (event.seq - after).unsigned_abs();
            if done.is_multiple_of(STRIDE) {
                bar.set_position(done);
            }
            let line = match arguments.format {
                Format::Jsonl => export::plain(event),
                Format::Cloudevents => export::cloud_event(event, &source),
                Format::Ocsf => export::ocsf(event),
            };
            written = writeln!(out, "{line}");
            written.is_ok()
        })
    })
    .map_err(server::Error::Store)?;
    bar.finish_and_clear();
    match written.and_then(|()| out.flush()) {
        // Whoever reads has had enough.
        Err(err) if err.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        outcome => Ok(outcome?),
    }
}

/// Where the log is.
struct Place {
    database: PathBuf,
    /// Unless it is a copy.
    data_dir: Option<PathBuf>,
}

impl Place {
    fn of(copy: Option<&Path>, settings: &Settings) -> Result<Self, Error> {
        if let Some(copy) = copy {
            return Ok(Self { database: copy.to_owned(), data_dir: None });
        }
        let dir = config::load(settings)?.data_dir;
        Ok(Self { database: dir.join("keyward.db"), data_dir: Some(dir) })
    }

    fn open(&self) -> Result<LogFile, Error> {
        if !self.database.exists() {
            return Err(Error::NoDatabase { path: self.database.clone() });
        }
        Ok(LogFile::open(&self.database).map_err(server::Error::Store)?)
    }
}

/// Shows the bar, on a terminal.
fn start(bar: &ProgressBar, total: u64) {
    bar.set_length(total);
    let style = ProgressStyle::with_template("{bar:40} {pos} of {len} events, {eta} left");
    if let Ok(style) = style {
        bar.set_style(style);
    }
    bar.set_draw_target(indicatif::ProgressDrawTarget::stderr());
}

fn read(path: &Path) -> Result<String, Error> {
    fs::read_to_string(path).map_err(|source| Error::File { path: path.to_owned(), source })
}
