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
use zeroize::Zeroizing;

use super::{DataDir, DataDirError, Error, Instance, Purpose, check_files};
use crate::{
    config::Config,
    domain::{checkpoint::CheckpointKey, event::EventType, plaintext_key::PlaintextKey},
    env::{Clock, Entropy},
    service::{
        self, Audit, BackupError, Census, Keyward, LogFile, check_backup, check_import_key,
        compare_digest,
    },
    store::StoreError,
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
/// server, and of a backup that a start would refuse. Whatever interrupts it, the data directory
/// holds the old database or the new one, whole.
pub fn restore(
    config: &Config,
    backup: &Path,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    wait: &mut dyn FnMut() -> bool,
    progress: &mut dyn FnMut(u64),
) -> Result<Restored, Error> {
    check_files(config)?;
    compare_digest(backup)?;
    // What our own key seems to have signed, and did not, would keep the server from starting.
    let key = fs::read_to_string(config.data_dir.join("checkpoint.pub")).ok();
    let key = key.and_then(|it| CheckpointKey::parse(&it).ok());
    let audit = Audit { key, kept: Vec::new() };
    let room = Some(&*config.data_dir).filter(|it| it.is_dir());
    let census = check_backup(backup, &audit, room, &*entropy, progress)?;
    let dir = DataDir::take_in_turn(&config.data_dir, wait)?;
    check_import_key(&dir.import_key(), backup)?;
    let database = dir.database();
    let fresh = database.with_extension("restored");
    if_there(&fresh, fs::remove_file(&fresh))?;
    LogFile::open(backup)?.copy_to(&fresh, |_, _| ())?;
    let mut copied = LogFile::open(&fresh)?;
    if copied.census()? != census {
        return Err(BackupError::Differs.into());
    }
    let mut names = vec!["checkpoint"];
    if !has_initial_key(&mut copied, &dir.initial_key())? {
        names.push("initial-root-key");
    }
    drop(copied);

    let mut aside = None;
    let mut replaced = None;
    if database.exists() {
        replaced = fold(&database);
        let instant = clock.wall().to_string().replace(['-', ':', '.'], "");
        let place = config.data_dir.join(format!("replaced-{instant}"));
        let unusable = |source| DataDirError::Unusable { path: place.clone(), source };
        DirBuilder::new().mode(0o700).create(&place).map_err(unusable)?;
        names.extend(["keyward.db-wal", "keyward.db-shm"]);
        exchange(&dir, &fresh, &names, &place).map_err(|err| after_the_fact(err, &place))?;
        aside = Some(place);
    } else {
        let unusable = |source| DataDirError::Unusable { path: database.clone(), source };
        // A checkpoint without a database is of one that is gone.
        for name in names {
            let orphan = config.data_dir.join(name);
            if_there(&orphan, fs::rename(&orphan, orphan.with_extension("replaced")))?;
        }
        fs::rename(&fresh, &database).map_err(unusable)?;
    }

    let outcome = open_restored(dir, config, clock, entropy, |app| {
        let file = backup.file_name().map(|it| it.to_string_lossy());
        let replaced = replaced.as_ref().map(|it| it.events);
        let data = json!({ "file": file, "events": census.events, "replacedEvents": replaced });
        app.record_server_event(EventType::BackupRestored, data)
    });
    match (outcome, &aside) {
        (Err(err), Some(place)) => return Err(after_the_fact(err, place)),
        (outcome, _) => outcome?,
    }
    Ok(Restored { census, aside, replaced })
}

/// Puts `fresh` in place of the database, which goes to `place` with all that belongs to it.
fn exchange(dir: &DataDir, fresh: &Path, names: &[&str], place: &Path) -> Result<(), Error> {
    let unusable = |source| DataDirError::Unusable { path: place.to_owned(), source };
    let database = dir.database();
    // First whatever would make the new database a lie: a log of the old one, the promise that
    // nothing is missing, a key that the new one does not know.
    for name in names {
        let from = database.with_file_name(name);
        if_there(&from, fs::rename(&from, place.join(name)))?;
    }
    // Both names exist at every moment.
    renameat_with(CWD, fresh, CWD, &database, RenameFlags::EXCHANGE)
        .map_err(|err| unusable(err.into()))?;
    Ok(fs::rename(fresh, place.join("keyward.db")).map_err(unusable)?)
}

/// The first start of what was restored.
fn open_restored(
    dir: DataDir,
    config: &Config,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    record: impl FnOnce(&Keyward) -> Result<(), service::Error>,
) -> Result<(), Error> {
    sync(&config.data_dir)?;
    let instance = Instance::open_in(dir, config, clock, entropy, Purpose::Command)?;
    record(&instance.app)?;
    instance.close()
}

/// Nobody must have to look for what was there before.
fn after_the_fact(source: Error, place: &Path) -> Error {
    Error::AfterExchange { place: place.to_owned(), source: Box::new(source) }
}

/// Whether the key that waits for its first use, if there is one, is one of the database's.
fn has_initial_key(database: &mut LogFile, file: &Path) -> Result<bool, Error> {
    let Ok(text) = fs::read(file).map(Zeroizing::new) else { return Ok(true) };
    let Ok(key) = PlaintextKey::parse(text.trim_ascii()) else { return Ok(false) };
    let record = database.read::<_, StoreError>(|tx| tx.key_with_prefix(key.prefix()))?;
    let value = record.as_ref().and_then(|it| it.find(key.prefix()));
    Ok(value.is_some_and(|it| it.credential.hash.matches(&key)))
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
