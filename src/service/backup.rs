//! Backups: copies of the database that were read back and opened.

mod error;
mod verify;

use std::{
    fs, io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::PoisonError,
};

use serde_json::json;

pub use self::error::BackupError;
pub use self::verify::{check_backup, compare_digest, is_backup};
use self::verify::{digest, digest_file, read_whole, rehearse_copy, write_digest};
use crate::{
    domain::{data_layout::DataLayout, event::EventType},
    service::{
        Audit, Error, Keyward,
        files::{parent, sync_parent},
    },
    store::{Census, LogFile},
};

/// The room in bytes that a backup leaves free: the server needs the disk, too.
const RESERVE: u64 = 64 * 1024 * 1024;
/// The beginning and the end of the name of a backup. Between them is the instant.
const NAME: (&str, &str) = ("keyward-", ".db");

/// The directory of backups that name no other place, and how many it keeps.
#[derive(Clone, Debug)]
pub struct BackupRules {
    pub dir: PathBuf,
    /// 0 turns scheduled backups off.
    pub keep: u32,
}

/// A backup that was made and read back.
#[derive(Clone, Debug)]
pub struct MadeBackup {
    pub path: PathBuf,
    pub bytes: u64,
    pub sha256: String,
    pub census: Census,
}

impl Keyward {
    /// Copies the database while it is in use, reads the copy back, and opens a copy of it as a
    /// start does. Only then does the backup get its name; after a failure everything is removed.
    /// In the configured directory the oldest backups make room.
    pub fn create_backup(&self, to: Option<&Path>) -> Result<MadeBackup, Error> {
        let _turn = self.backup_turn.lock().unwrap_or_else(PoisonError::into_inner);
        self.flush_usage()?;
        let path = to.map_or_else(|| self.usual_place(), |it| Ok(it.to_owned()))?;
        let made = self.checked_copy(&path)?;
        self.record_server_event(
            EventType::BackupCreated,
            json!({
                "file": path.file_name().map(|it| it.to_string_lossy()),
                "bytes": made.bytes,
                "sha256": made.sha256,
                "events": made.census.events,
            }),
        )?;
        if to.is_none() {
            self.remove_old_backups()?;
        }
        Ok(made)
    }

    /// Makes the scheduled backup. Returns how many it made.
    pub(super) fn scheduled_backup(&self) -> Result<u64, Error> {
        if self.settings.backup.keep == 0 {
            return Ok(0);
        }
        self.create_backup(None).map(|_| 1)
    }

    fn usual_place(&self) -> Result<PathBuf, BackupError> {
        let dir = &self.settings.backup.dir;
        let unusable = |source| BackupError::File { path: dir.clone(), source };
        fs::DirBuilder::new().recursive(true).create(dir).map_err(unusable)?;
        remove_leftovers(dir).map_err(unusable)?;
        Ok(dir.join(self.backup_name()))
    }

    /// Returns the name of a backup that is made now.
    fn backup_name(&self) -> String {
        let instant = self.env.time.now().to_string().replace(['-', ':', '.'], "");
        [NAME.0, &instant, NAME.1].concat()
    }

    fn checked_copy(&self, path: &Path) -> Result<MadeBackup, BackupError> {
        refuse_existing(path)?;
        let (size, wal) = self.store.file_sizes();
        refuse_full_disk(path, 2 * (size + wal))?;
        let partial = Partial::beside(path, "partial");
        let copied = self.store.copy_to(&partial.0, |_, _| ()).map_err(BackupError::from);
        copied.and_then(|()| seal(&partial, path)).map_err(|err| err.about_copy(path))
    }

    fn remove_old_backups(&self) -> Result<(), BackupError> {
        let dir = &self.settings.backup.dir;
        let unusable = |source| BackupError::File { path: dir.clone(), source };
        let mut ours = own_backups(dir).map_err(unusable)?;
        // Backups with a later name were made while the clock was wrong. They go first.
        let end = self.backup_name();
        let early = ours.partition_point(|it| it.file_name().is_some_and(|it| *it <= *end));
        ours.rotate_left(early);
        // A backup that was asked for by hand stays, even if the schedule keeps none.
        let keep = usize::try_from(self.settings.backup.keep.max(1)).unwrap_or(usize::MAX);
        let surplus = ours.len().saturating_sub(keep);
        for path in ours.into_iter().take(surplus) {
            fs::remove_file(&path).map_err(unusable)?;
            // It may have been removed by hand.
            let _ = fs::remove_file(digest_file(&path));
        }
        Ok(())
    }
}

/// Copies a database of an earlier version to the directory of backups, before a start changes it.
/// An earlier copy, of a start that failed, is replaced only by a complete one.
pub fn keep_before_migration(layout: &DataLayout) -> Result<(), BackupError> {
    let database = &layout.database();
    let size = |path: &Path| fs::metadata(path).map_or(0, |it| it.len());
    if size(database) == 0 {
        return Ok(());
    }
    let file = LogFile::open(database)?;
    let Some(version) = file.outdated()? else { return Ok(()) };
    let dir = layout.backups();
    let unusable = |source| BackupError::File { path: dir.clone(), source };
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir).map_err(unusable)?;
    let path = dir.join(format!("before-migration-from-{version}.db"));
    refuse_full_disk(&path, 2 * (size(database) + size(&layout.wal())))?;
    let partial = Partial::beside(&path, "partial");
    let copied = file.copy_to(&partial.0, |_, _| ()).map_err(BackupError::from);
    copied.and_then(|()| seal(&partial, &path)).map_err(|err| err.about_copy(&path))?;
    tracing::info!(backup = %path.display(), version, "the database was copied before its migration");
    Ok(())
}

/// Reads a copy back, and opens a copy of it as a start does. Only then does it get its name, with
/// its digest beside it.
fn seal(partial: &Partial, path: &Path) -> Result<MadeBackup, BackupError> {
    let census = read_whole(&partial.0, &Audit::default(), &mut |_| ())?;
    let scratch = Partial::beside(path, "scratch");
    if rehearse_copy(&partial.0, &scratch.0)? != census {
        return Err(BackupError::Differs);
    }
    drop(scratch);
    let unusable = |source| BackupError::File { path: path.to_owned(), source };
    let (sha256, bytes) = digest(&partial.0).map_err(unusable)?;
    let beside = Partial::beside(&digest_file(path), "partial");
    write_digest(&beside.0, path, &sha256).map_err(unusable)?;
    // An existing file with this name stays complete until the end, and never has the digest of
    // another file beside it: rather none.
    match fs::remove_file(digest_file(path)) {
        Err(err) if err.kind() != io::ErrorKind::NotFound => return Err(unusable(err)),
        Ok(()) | Err(_) => (),
    }
    fs::rename(&partial.0, path).map_err(unusable)?;
    fs::rename(&beside.0, digest_file(path)).map_err(unusable)?;
    sync_parent(path).map_err(unusable)?;
    Ok(MadeBackup { path: path.to_owned(), bytes, sha256, census })
}

/// Returns the backups in `dir`, the oldest first. Files with other names belong to others.
pub fn own_backups(dir: &Path) -> Result<Vec<PathBuf>, io::Error> {
    let mut ours = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if is_ours(&path) {
            ours.push(path);
        }
    }
    ours.sort();
    Ok(ours)
}

/// Removes the remains of backups that were interrupted. The caller holds the turn, so no backup is
/// being made.
fn remove_leftovers(dir: &Path) -> Result<(), io::Error> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let whole = [".partial", ".scratch"].iter().find_map(|what| {
            let name = path.file_name()?.to_str()?;
            name.split_once(what).map(|(whole, _)| path.with_file_name(whole))
        });
        let digested = |it: &PathBuf| it.extension().is_some_and(|it| it == "sha256");
        let whole = whole.map(|it| if digested(&it) { it.with_extension("") } else { it });
        if whole.is_some_and(|it| is_ours(&it)) {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}

/// A file that becomes a backup. Removed with the files that SQLite puts beside it, unless it was
/// renamed.
struct Partial(PathBuf);

impl Partial {
    fn beside(path: &Path, what: &str) -> Self {
        let it = Self(suffixed(path, &format!(".{what}")));
        it.remove(); // The remains of a machine that crashed.
        it
    }

    fn remove(&self) {
        for path in ["", "-wal", "-shm", "-journal"].map(|it| suffixed(&self.0, it)) {
            // It is usually missing.
            let _ = fs::remove_file(path);
        }
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        self.remove();
    }
}

fn suffixed(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn is_ours(path: &Path) -> bool {
    let name = path.file_name().and_then(|it| it.to_str());
    let instant = name.and_then(|it| it.strip_prefix(NAME.0)?.strip_suffix(NAME.1));
    instant.is_some_and(|it| {
        it.ends_with('Z') && it.bytes().all(|it| it.is_ascii_digit() || b"TZ".contains(&it))
    })
}

fn refuse_existing(path: &Path) -> Result<(), BackupError> {
    if path.exists() {
        let source = io::ErrorKind::AlreadyExists.into();
        return Err(BackupError::File { path: path.to_owned(), source });
    }
    Ok(())
}

fn refuse_full_disk(path: &Path, size: u64) -> Result<(), BackupError> {
    let dir = parent(path);
    let unusable = |source| BackupError::File { path: dir.to_owned(), source };
    let disk = rustix::fs::statvfs(dir).map_err(|err| unusable(err.into()))?;
    let (free, needed) = (disk.f_bavail.saturating_mul(disk.f_frsize), size + RESERVE);
    if free < needed {
        return Err(BackupError::Space { dir: dir.to_owned(), free, needed });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_we_give_are_ours() {
        assert!(is_ours(Path::new("/b/keyward-20261124T161500123Z.db")));
        for other in [
            "keyward.db",
            "keyward-old.db",
            "keyward-oldZ.db",
            "keyward-20261124.db",
            "keyward-20261124T161500123Z.db.sha256",
        ] {
            assert!(!is_ours(Path::new(other)), "{other}");
        }
    }
}
