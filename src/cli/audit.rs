//! `keyward events verify`: the audit log without its server.

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use crate::{
    cli::{
        Error, Location, config,
        output::{self, Format, Output},
    },
    domain::{checkpoint::CheckpointKey, data_layout::DataLayout, visible::escaped},
    server,
    service::{Audit, Finding, LogFile, Sound},
    store::StoreError,
};

/// How often the bar is told: each time costs more than checking an event.
pub(super) const STRIDE: u64 = 1_000;
/// What is verified and found wrong.
const BROKEN: u8 = 3;

#[derive(Args, Debug)]
pub(super) struct Verify {
    /// A copy of the database. Without it, the database in the data directory
    #[arg(long, value_name = "FILE")]
    db: Option<PathBuf>,
    /// The file of the public key that signed the log, as `checkpoint.pub`. Without it, the key of the
    /// data directory, or no key with `--db`
    #[arg(long, value_name = "FILE")]
    public_key: Option<PathBuf>,
    /// A checkpoint that was kept elsewhere; repeatable
    #[arg(long, value_name = "FILE")]
    checkpoint: Vec<PathBuf>,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    place: Location,
}

pub(super) fn verify(arguments: &Verify) -> Result<ExitCode, Error> {
    let place = Place::of(arguments.db.as_deref(), &arguments.place)?;
    let key_file = match (&arguments.public_key, &place.data_dir) {
        (Some(file), _) => Some(file.clone()),
        (None, Some(dir)) => {
            Some(DataLayout::new(dir).checkpoint_public_key()).filter(|it| it.exists())
        }
        (None, None) => None,
    };
    let key = key_file.map(|file| {
        let wrong = |source| Error::PublicKey { path: file.clone(), source };
        CheckpointKey::parse(&read(&file)?).map_err(wrong)
    });
    let mut audit = Audit { key: key.transpose()?, kept: Vec::new() };
    let beside = place.data_dir.as_ref().map(|it| DataLayout::new(it).checkpoint());
    let beside = beside.filter(|it| it.exists() && arguments.checkpoint.is_empty());
    for file in arguments.checkpoint.iter().chain(&beside) {
        // Whoever kept it may have kept a line too many.
        let note = format!("{}\n", read(file)?.trim_end());
        audit.kept.push((file.display().to_string(), note));
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
    let outcome = outcome.map_err(server::Error::Store)?;
    if arguments.output.output == Format::Json {
        output::json(&verdict(&outcome, audit.key.as_ref()))?;
        return Ok(outcome.map_or(ExitCode::from(BROKEN), |_| ExitCode::SUCCESS));
    }
    let mut out = io::stdout().lock();
    match outcome {
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
            writeln!(out, "{}", escaped(&finding.to_string()))?;
            Ok(ExitCode::from(BROKEN))
        }
    }
}

fn verdict(outcome: &Result<Sound, Finding>, key: Option<&CheckpointKey>) -> Value {
    match outcome {
        Ok(it) => json!({
            "sound": true,
            "events": it.events,
            "checkpoints": it.checkpoints,
            "signed": key.map(|_| it.checkpoints - it.unsigned),
            "signer": key.map(CheckpointKey::name),
            "head": it.head.to_string(),
            "root": it.root.to_string(),
        }),
        Err(it) => json!({ "sound": false, "seq": it.seq, "detail": it.what }),
    }
}

/// Where the log is.
pub(super) struct Place {
    database: PathBuf,
    /// Unless it is a copy.
    data_dir: Option<PathBuf>,
}

impl Place {
    pub(super) fn of(copy: Option<&Path>, place: &Location) -> Result<Self, Error> {
        if let Some(copy) = copy {
            return Ok(Self { database: copy.to_owned(), data_dir: None });
        }
        config::insist_on_this_machine(place, "--db, --data-dir or --config")?;
        let dir = config::load(place)?.data_dir;
        Ok(Self { database: config::database(&dir)?, data_dir: Some(dir) })
    }

    pub(super) fn open(&self) -> Result<LogFile, Error> {
        if self.data_dir.is_some() && !self.database.exists() {
            return Err(Error::NoDatabase { path: self.database.clone() });
        }
        readable(&self.database)?;
        Ok(LogFile::open(&self.database).map_err(server::Error::Store)?)
    }
}

/// That a file which somebody has named is there, said of the file and not of a database.
pub(super) fn readable(path: &Path) -> Result<(), Error> {
    let Err(source) = fs::File::open(path) else { return Ok(()) };
    Err(Error::File { path: path.to_owned(), source })
}

/// Shows the bar, on a terminal.
pub(super) fn start(bar: &ProgressBar, total: u64) {
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
