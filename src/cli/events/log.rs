//! The file that the audit log is read from: the database, or a copy.

use std::path::{Path, PathBuf};

use indicatif::{ProgressBar, ProgressStyle};

use crate::{
    cli::{
        error::{Error, readable},
        settings::{self, Location},
    },
    server,
    service::LogFile,
};

/// How many events are read between two updates of the progress bar.
pub(super) const STRIDE: u64 = 1_000;

/// The file that holds the log.
pub(super) struct LogSource {
    database: PathBuf,
    /// The data directory of the database; `None` for a copy.
    pub(super) data_dir: Option<PathBuf>,
}

impl LogSource {
    /// Returns the copy, if one is named, and otherwise the database of the data directory.
    pub(super) fn of(copy: Option<&Path>, location: &Location) -> Result<Self, Error> {
        if let Some(copy) = copy {
            return Ok(Self { database: copy.to_owned(), data_dir: None });
        }
        settings::insist_on_this_machine(location, "--db, --data-dir or --config")?;
        let dir = settings::load(location)?.data_dir;
        Ok(Self { database: settings::database(&dir)?, data_dir: Some(dir) })
    }

    pub(super) fn open(&self) -> Result<LogFile, Error> {
        readable(&self.database)?;
        Ok(LogFile::open(&self.database).map_err(server::Error::Store)?)
    }
}

/// Shows the progress bar on a terminal.
pub(super) fn start(bar: &ProgressBar, total: u64) {
    bar.set_length(total);
    let style = ProgressStyle::with_template("{bar:40} {pos} of {len} events, {eta} left");
    if let Ok(style) = style {
        bar.set_style(style);
    }
    bar.set_draw_target(indicatif::ProgressDrawTarget::stderr());
}
