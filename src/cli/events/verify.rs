//! `keyward events verify`: checks the audit log, without its server.

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Args;
use indicatif::ProgressBar;
use serde_json::{Value, json};

use super::log::{LogSource, STRIDE, start};
use crate::{
    cli::{
        error::Error,
        exit_code,
        output::{self, Format, Output},
        settings::Location,
    },
    domain::{checkpoint::CheckpointKey, data_layout::DataLayout, visible::escaped},
    server,
    service::{Audit, Finding, Sound},
    store::StoreError,
};

#[derive(Args, Debug)]
pub(crate) struct Options {
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
    location: Location,
}

impl Options {
    pub(super) fn run(&self) -> Result<ExitCode, Error> {
        let source = LogSource::of(self.db.as_deref(), &self.location)?;
        let audit = self.audit(source.data_dir.as_deref())?;
        let mut log = source.open()?;
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
        match (&outcome, self.output.output) {
            (_, Format::Json) => output::json(&verdict(&outcome, audit.key.as_ref()))?,
            (Ok(sound), Format::Table) => print(sound, audit.key.as_ref())?,
            (Err(finding), Format::Table) => {
                writeln!(io::stdout(), "{}", escaped(&finding.to_string()))?;
            }
        }
        Ok(exit_code::answer(outcome.is_ok()))
    }

    /// Returns the key and the checkpoints to check the log with. Those that no option names are in the
    /// data directory.
    fn audit(&self, data_dir: Option<&Path>) -> Result<Audit, Error> {
        let beside = |file: fn(&DataLayout) -> PathBuf| {
            data_dir.map(|it| file(&DataLayout::new(it))).filter(|it| it.exists())
        };
        let key_file =
            self.public_key.clone().or_else(|| beside(DataLayout::checkpoint_public_key));
        let key = key_file.map(|file| {
            let wrong = |source| Error::PublicKey { path: file.clone(), source };
            CheckpointKey::parse(&read(&file)?).map_err(wrong)
        });
        let last = beside(DataLayout::checkpoint).filter(|_| self.checkpoint.is_empty());
        let kept = self.checkpoint.iter().chain(&last).map(|file| {
            // A copy may have one line break too many.
            let note = format!("{}\n", read(file)?.trim_end());
            Ok((file.display().to_string(), note))
        });
        Ok(Audit { key: key.transpose()?, kept: kept.collect::<Result<_, Error>>()? })
    }
}

fn print(sound: &Sound, key: Option<&CheckpointKey>) -> Result<(), io::Error> {
    let mut out = io::stdout().lock();
    writeln!(out, "events       {}, nothing changed, nothing missing", sound.events)?;
    writeln!(out, "checkpoints  {} agree", sound.checkpoints)?;
    match key {
        Some(key) => {
            let signed = sound.checkpoints - sound.unsigned;
            writeln!(out, "signatures   {signed} of {}", key.name())?;
        }
        None => writeln!(out, "signatures   not checked: no --public-key was given")?,
    }
    writeln!(out, "head         {}\nroot         {}", sound.head, sound.root)
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

fn read(path: &Path) -> Result<String, Error> {
    fs::read_to_string(path).map_err(|source| Error::File { path: path.to_owned(), source })
}
