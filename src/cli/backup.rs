//! `keyward backup`: creates, checks and restores backups.

use std::{
    io::{self, IsTerminal, Write},
    path::{self, PathBuf},
    process::ExitCode,
    time::Duration,
};

use clap::{Args, Subcommand};
use indicatif::ProgressBar;
use serde_json::json;

use crate::{
    cli::{
        api::machine::{control, patience},
        appendix::{examples_of, help},
        error::{Error, readable},
        exit_code::{self, done},
        output::{self, Confirmation, Format, Output, holds},
        settings::{self, Location},
    },
    env::SystemEntropy,
    http::control::{BackupAnswer, BackupRequest},
    server::{self, Sources},
    service::{Audit, check_backup, compare_digest, is_backup},
};

/// How long a checked restore waits for other commands that hold the data directory.
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Copy the database, even while it is in use, and check the copy
    #[command(after_long_help = help(&examples_of("backup create")))]
    Create(Create),
    /// Check that a backup is complete and unchanged; exit 3 if it is not
    Verify(Verify),
    /// Replace the database by a backup, and keep the old database; the server must be stopped
    Restore(Restore),
}

#[derive(Args, Debug)]
pub(super) struct Create {
    /// The file to create. Without it, a file named after the time, in the directory of backups. A
    /// running server creates it, with the server's own rights
    #[arg(long, value_name = "FILE")]
    to: Option<PathBuf>,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    location: Location,
}

#[derive(Args, Debug)]
pub(super) struct Verify {
    /// The backup
    file: PathBuf,
    #[command(flatten)]
    output: Output,
}

#[derive(Args, Debug)]
pub(super) struct Restore {
    /// The backup
    file: PathBuf,
    #[command(flatten)]
    confirmation: Confirmation,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    location: Location,
}

impl Command {
    pub(super) fn run(&self) -> Result<ExitCode, Error> {
        match self {
            Self::Create(it) => create(it).map(done),
            Self::Verify(it) => verify(it),
            Self::Restore(it) => restore(it).map(done),
        }
    }
}

fn create(it: &Create) -> Result<(), Error> {
    let config = settings::load_here(&it.location)?;
    let request = BackupRequest { to: it.to.as_ref().map(path::absolute).transpose()? };
    let bar = spinner("copying and checking");
    let made: BackupAnswer = control(&config, "/backups", &request)?;
    // A service may see other files under this name than this process does.
    if !is_backup(&made.path, made.bytes, &made.sha256).map_err(server::Error::Backup)? {
        return Err(Error::OutOfSight { path: made.path });
    }
    bar.finish_and_clear();
    if it.output.output == Format::Json {
        return Ok(output::json(&json!(made))?);
    }
    Ok(output::facts(&[
        ("file", Some(made.path.display().to_string())),
        ("size", Some(format!("{} bytes", made.bytes))),
        ("sha256", Some(made.sha256)),
        ("holds", Some(holds(made.events, made.accounts, made.keys))),
    ])?)
}

fn verify(it: &Verify) -> Result<ExitCode, Error> {
    readable(&it.file)?;
    let bar = spinner("reading");
    let compared = compare_digest(&it.file);
    let has_digest = !matches!(compared, Ok(false));
    let outcome = compared.and_then(|_| {
        let mut progress = |events| bar.set_position(events);
        check_backup(&it.file, &Audit::default(), None, &SystemEntropy, &mut progress)
    });
    bar.finish_and_clear();
    let (sound, says) = match outcome {
        Ok(found) => (true, holds(found.events, found.accounts, found.keys)),
        Err(err) if err.is_verdict() => (false, err.to_string()),
        Err(err) => return Err(server::Error::Backup(err).into()),
    };
    if it.output.output == Format::Json {
        let answer = json!({ "sound": sound, "detail": says, "digestCompared": has_digest });
        writeln!(io::stdout(), "{answer}")?;
    } else {
        let verdict = if sound { "ok" } else { "failed" };
        let digest = if has_digest {
            "compared with the file beside it"
        } else {
            "not compared: there is no .sha256 beside it"
        };
        output::facts(&[
            ("backup", Some(verdict.to_owned())),
            ("holds", Some(says)),
            ("sha256", Some(digest.to_owned())),
        ])?;
    }
    Ok(exit_code::answer(sound))
}

fn restore(it: &Restore) -> Result<(), Error> {
    readable(&it.file)?;
    let config = settings::load_here(&it.location)?;
    let (file, dir) = (it.file.display(), config.data_dir.display());
    it.confirmation.ask(&format!("Put {file} in place of the database in {dir}?"))?;
    let bar = spinner("checking and copying");
    let mut wait = patience(PATIENCE);
    let mut progress = |events| bar.set_position(events);
    let done = server::restore(&config, &it.file, Sources::system(), &mut wait, &mut progress);
    bar.finish_and_clear();
    let done = done?;
    let found = done.census;
    let lost = done.replaced.map_or(0, |it| (it.events - found.events).max(0));
    if it.output.output == Format::Json {
        return Ok(output::json(&json!({
            "events": found.events,
            "accounts": found.accounts,
            "keys": found.keys,
            "aside": done.aside,
            "lostEvents": lost,
        }))?);
    }
    let mut out = io::stdout();
    writeln!(out, "Restored: {}.", holds(found.events, found.accounts, found.keys))?;
    if let Some(aside) = &done.aside {
        writeln!(out, "The earlier files are in {}.", aside.display())?;
    }
    if 0 < lost {
        writeln!(
            out,
            "The old log had {lost} more events. Their changes are undone: a key that was revoked \
             since is valid again. List them with `keyward events export --db` on the old database."
        )?;
    }
    Ok(())
}

/// Returns a spinner, hidden unless standard error is a terminal.
fn spinner(says: &'static str) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new_spinner().with_message(says);
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}
