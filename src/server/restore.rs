//! Restoring a backup.

use std::{
    fs::{self, DirBuilder, File},
    io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use serde_json::json;

use super::{DataDir, DataDirError, Error, Instance, Purpose, Sources, check_files};
use crate::{
    config::Config,
    domain::{
        checkpoint::CheckpointKey, data_layout::DataLayout, event::EventType,
        plaintext_key::PlaintextKey,
    },
    env::Timestamp,
    service::{
        self, Audit, BackupError, Census, Keyward, LogFile, check_backup, compare_digest, read_text,
    },
    store::StoreError,
};

/// The result of a restore.
#[derive(Debug)]
pub struct Restored {
    pub census: Census,
    /// The directory with the files that were replaced.
    pub aside: Option<PathBuf>,
    /// The contents of the replaced database, if it could be read.
    pub replaced: Option<Census>,
}

/// Replaces the database with the backup, and moves the replaced files to another directory. An
/// interrupted restore leaves the complete old database or the complete new one.
///
/// # Errors
///
/// A running server, or a backup that a start would refuse.
pub fn restore(
    config: &Config,
    backup: &Path,
    sources: Sources,
    wait: &mut dyn FnMut() -> bool,
    progress: &mut dyn FnMut(u64),
) -> Result<Restored, Error> {
    check_files(config)?;
    compare_digest(backup)?;
    let layout = config.layout();
    // A checkpoint with a false signature of this installation's key would prevent a start.
    let key = read_text(&layout.checkpoint_public_key()).ok();
    let key = key.and_then(|it| CheckpointKey::parse(&it).ok());
    let audit = Audit { key, kept: Vec::new() };
    let room = Some(layout.root()).filter(|it| it.is_dir());
    let census = check_backup(backup, &audit, room, &*sources.entropy, progress)?;
    let dir = DataDir::take_in_turn(layout.root(), wait)?;
    let outdated = copy(backup, &layout, &census)?;

    let (mut aside, mut replaced) = (None, None);
    if layout.database().exists() {
        replaced = fold(&layout.database());
        aside = Some(exchange(&layout, &outdated, sources.clock.wall())?);
    } else {
        for orphan in outdated {
            if_there(&orphan, fs::rename(&orphan, orphan.with_extension("replaced")))?;
        }
        let path = layout.database();
        fs::rename(layout.restored_database(), &path)
            .map_err(|source| DataDirError::Unusable { path, source })?;
    }

    let outcome = open_restored(dir, config, sources, |app| {
        let file = backup.file_name().map(|it| it.to_string_lossy());
        let replaced = replaced.as_ref().map(|it| it.events);
        let data = json!({ "file": file, "events": census.events, "replacedEvents": replaced });
        app.record_server_event(EventType::BackupRestored, data)
    });
    match (outcome, &aside) {
        (Err(err), Some(place)) => return Err(after_exchange(err, place)),
        (outcome, _) => outcome?,
    }
    Ok(Restored { census, aside, replaced })
}

/// Copies the backup into the data directory. Returns the files that do not fit the new database.
fn copy(backup: &Path, layout: &DataLayout, census: &Census) -> Result<Vec<PathBuf>, Error> {
    let fresh = layout.restored_database();
    if_there(&fresh, fs::remove_file(&fresh))?;
    LogFile::open(backup)?.copy_to(&fresh, |_, _| ())?;
    let mut copied = LogFile::open(&fresh)?;
    if copied.census()? != *census {
        return Err(BackupError::Differs.into());
    }
    // A backup does not know the places in the token status list that were given after it. With other keys,
    // no token from before is good.
    let mut outdated = vec![layout.checkpoint(), layout.token_keys()];
    if !has_initial_key(&mut copied, &layout.initial_root_key())? {
        outdated.push(layout.initial_root_key());
    }
    Ok(outdated)
}

/// Exchanges the database and its copy. Moves the old database and all `outdated` files to a directory,
/// which is returned.
fn exchange(layout: &DataLayout, outdated: &[PathBuf], now: Timestamp) -> Result<PathBuf, Error> {
    let place = layout.replaced(&now.to_string().replace(['-', ':', '.'], ""));
    let unusable = |source| DataDirError::Unusable { path: place.clone(), source };
    DirBuilder::new().mode(0o700).create(&place).map_err(unusable)?;
    let moved = |from: &Path| place.join(from.file_name().unwrap_or_default());
    let (database, fresh) = (layout.database(), layout.restored_database());
    let exchanged = || {
        // These go first: a log of the old database, a checkpoint with more events than the new one
        // has, and a key that the new one does not know.
        for from in outdated.iter().chain(&[layout.wal(), layout.shm()]) {
            if_there(from, fs::rename(from, moved(from)))?;
        }
        // Both names exist at every moment.
        renameat_with(CWD, &fresh, CWD, &database, RenameFlags::EXCHANGE)
            .map_err(|err| unusable(err.into()))?;
        fs::rename(&fresh, moved(&database)).map_err(unusable)
    };
    exchanged().map_err(|err| after_exchange(err.into(), &place))?;
    Ok(place)
}

/// Opens the restored database for the first time.
fn open_restored(
    dir: DataDir,
    config: &Config,
    sources: Sources,
    record: impl FnOnce(&Keyward) -> Result<(), service::Error>,
) -> Result<(), Error> {
    sync(&config.data_dir)?;
    let instance = Instance::open_in(dir, config, sources, Purpose::Command)?;
    record(&instance.app)?;
    instance.close()
}

/// Names the directory with the files that were replaced.
fn after_exchange(source: Error, place: &Path) -> Error {
    Error::AfterExchange { place: place.to_owned(), source: Box::new(source) }
}

/// Whether the database has the key in `file`. Also true if there is no such file.
fn has_initial_key(database: &mut LogFile, file: &Path) -> Result<bool, Error> {
    let Ok(text) = read_text(file) else { return Ok(true) };
    let Ok(key) = PlaintextKey::parse(text.trim().as_bytes()) else { return Ok(false) };
    // The file may be of an earlier version, so this reads no more than it needs.
    let hash = database.read::<_, StoreError>(|tx| tx.hash_of(key.prefix()))?;
    Ok(hash.is_some_and(|it| it.matches(&key)))
}

/// Folds the write-ahead log of the old database, so that it becomes one file. A damaged database
/// stays as it is. Returns its contents, if it can be read.
fn fold(database: &Path) -> Option<Census> {
    let found = LogFile::open(database).and_then(|it| it.census()).ok();
    if let Err(err) = crate::store::fold(database) {
        tracing::warn!(error = &err as &dyn std::error::Error, "the old database is damaged");
    }
    found
}

/// Ignores the error that the file does not exist.
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
