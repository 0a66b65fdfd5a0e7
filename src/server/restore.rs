//! A backup in place of the database.

use std::{
    fs::{self, DirBuilder, File},
    io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use serde_json::json;

use super::{DataDir, DataDirError, Error, Site};
use crate::{
    config::Config,
    domain::event::EventType,
    env::{Clock, Entropy},
    service::{Census, LogFile, check_backup},
};

/// What came of it.
#[derive(Debug)]
pub struct Restored {
    pub census: Census,
    /// Where the files are that were in its place.
    pub aside: Option<PathBuf>,
    /// What was there before, if it could be read.
    pub replaced: Option<Census>,
}

/// Puts the backup in place of the database, and what was there aside. Refused under a running
/// server. Whatever interrupts it, the data directory holds the old database or the new one, whole.
pub fn restore(
    config: &Config,
    backup: &Path,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    progress: &mut dyn FnMut(u64),
) -> Result<Restored, Error> {
    let census = check_backup(backup, progress)?;
    let dir = DataDir::take(&config.data_dir)?;
    let database = dir.database();
    let fresh = database.with_extension("restored");
    if_there(&fresh, fs::remove_file(&fresh))?;
    LogFile::open(backup)?.copy_to(&fresh, |_, _| ())?;

    let mut aside = None;
    let mut replaced = None;
    if database.exists() {
        replaced = fold(&database);
        let instant = clock.wall().to_string().replace(['-', ':', '.'], "");
        let place = config.data_dir.join(format!("replaced-{instant}"));
        let unusable = |source| DataDirError::Unusable { path: place.clone(), source };
        DirBuilder::new().mode(0o700).create(&place).map_err(unusable)?;
        // First whatever would make the new database a lie: a log of the old one, and the promise
        // that nothing is missing.
        for name in ["keyward.db-wal", "keyward.db-shm", "checkpoint"] {
            let from = config.data_dir.join(name);
            if_there(&from, fs::rename(&from, place.join(name)))?;
        }
        // Both names exist at every moment.
        renameat_with(CWD, &fresh, CWD, &database, RenameFlags::EXCHANGE)
            .map_err(|err| unusable(err.into()))?;
        fs::rename(&fresh, place.join("keyward.db")).map_err(unusable)?;
        aside = Some(place);
    } else {
        let unusable = |source| DataDirError::Unusable { path: database.clone(), source };
        // A checkpoint without a database is of one that is gone.
        let orphan = dir.checkpoint();
        if_there(&orphan, fs::rename(&orphan, orphan.with_extension("replaced")))?;
        fs::rename(&fresh, &database).map_err(unusable)?;
    }
    sync(&config.data_dir)?;

    let site = Site::open_in(dir, config, clock, entropy)?;
    site.app.record_server_event(
        EventType::BackupRestored,
        json!({
            "file": backup.file_name().map(|it| it.to_string_lossy()),
            "events": census.events,
            "replacedEvents": replaced.as_ref().map(|it| it.events),
        }),
    )?;
    site.close()?;
    Ok(Restored { census, aside, replaced })
}

/// Folds the old database's log back into it, so that it lies aside as one file. One that is
/// damaged is moved as it is.
fn fold(database: &Path) -> Option<Census> {
    let found = LogFile::open(database).and_then(|it| it.census()).ok();
    if let Err(err) = crate::store::fold(database) {
        tracing::warn!(error = &err as &dyn std::error::Error, "the old database is damaged");
    }
    found
}

/// What is not there need not be moved or removed.
fn if_there(path: &Path, outcome: Result<(), io::Error>) -> Result<(), DataDirError> {
    match outcome {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(DataDirError::Unusable { path: path.to_owned(), source })
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

fn sync(dir: &Path) -> Result<(), DataDirError> {
    let unusable = |source| DataDirError::Unusable { path: dir.to_owned(), source };
    File::open(dir).and_then(|it| it.sync_all()).map_err(unusable)
}
