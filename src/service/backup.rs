//! Backups: a file counts as one only once it was read back whole.

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::PoisonError,
};

use pbkdf2::sha2::{Digest, Sha256};
use serde_json::json;

use crate::{
    domain::event::{ChainHash, EventType},
    service::{Audit, Error, Finding, Keyward},
    store::{Census, LogFile, StoreError, rehearse},
};

/// What stays free beside a backup: the server needs the disk, too.
const RESERVE: u64 = 64 * 1024 * 1024;
/// What the names of backups begin with, and end with; between them is the instant.
const NAME: (&str, &str) = ("keyward-", ".db");

/// Where backups go unless a place is named, and how many stay there.
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

#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    #[error("{path} cannot be used")]
    File { path: PathBuf, source: io::Error },
    #[error("{dir} has {free} bytes free, and the backup with its check needs {needed}")]
    Space { dir: PathBuf, free: u64, needed: u64 },
    #[error("{path} is not what its .sha256 says")]
    Digest { path: PathBuf },
    #[error("the copy holds something else when it is opened again")]
    Differs,
    #[error("{0}")]
    Log(#[from] Finding),
    #[error("{0}")]
    Store(#[from] StoreError),
}

impl Keyward {
    /// Copies the database while it is in use, reads the copy back, and opens a copy of the copy as
    /// a start would. Only then does it get its name; anything else is removed. In the usual place
    /// the oldest backups make room.
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

    /// What the scheduler does: how many backups it made.
    pub(super) fn scheduled_backup(&self) -> Result<u64, Error> {
        if self.rules.backup.keep == 0 {
            return Ok(0);
        }
        self.create_backup(None).map(|_| 1)
    }

    fn usual_place(&self) -> Result<PathBuf, BackupError> {
        let dir = &self.rules.backup.dir;
        let unusable = |source| BackupError::File { path: dir.clone(), source };
        fs::DirBuilder::new().recursive(true).create(dir).map_err(unusable)?;
        let instant = self.env.time.now().to_string().replace(['-', ':', '.'], "");
        Ok(dir.join([NAME.0, &instant, NAME.1].concat()))
    }

    fn checked_copy(&self, path: &Path) -> Result<MadeBackup, BackupError> {
        refuse_existing(path)?;
        let (size, wal) = self.store.file_sizes();
        refuse_crowded(path, 2 * (size + wal))?;
        let partial = Partial::beside(path, "partial");
        self.store.copy_to(&partial.0, |_, _| ())?;
        let census = check(&partial.0, &mut |_| ())?;
        let scratch = Partial::beside(path, "scratch");
        LogFile::open(&partial.0)?.copy_to(&scratch.0, |_, _| ())?;
        if rehearse(&scratch.0)? != census {
            return Err(BackupError::Differs);
        }
        drop(scratch);
        let unusable = |source| BackupError::File { path: path.to_owned(), source };
        let (sha256, bytes) = digest(&partial.0).map_err(unusable)?;
        write_digest(path, &sha256).map_err(unusable)?;
        fs::rename(&partial.0, path).map_err(unusable)?;
        Ok(MadeBackup { path: path.to_owned(), bytes, sha256, census })
    }

    /// Files of other names are somebody else's.
    fn remove_old_backups(&self) -> Result<(), BackupError> {
        let dir = &self.rules.backup.dir;
        let unusable = |source| BackupError::File { path: dir.clone(), source };
        let mut ours = Vec::new();
        for entry in fs::read_dir(dir).map_err(unusable)? {
            let path = entry.map_err(unusable)?.path();
            if is_ours(&path) {
                ours.push(path);
            }
        }
        ours.sort();
        // Somebody who asks for one backup by hand wants to have it, whatever the schedule keeps.
        let keep = usize::try_from(self.rules.backup.keep.max(1)).unwrap_or(usize::MAX);
        let surplus = ours.len().saturating_sub(keep);
        for path in ours.into_iter().take(surplus) {
            fs::remove_file(&path).map_err(unusable)?;
            // One that was taken away by hand is no fault.
            let _ = fs::remove_file(digest_file(&path));
        }
        Ok(())
    }
}

/// Reads all of a backup: its digest if that is beside it, the file, the audit log. `progress` is
/// told of each event.
pub fn check_backup(path: &Path, progress: &mut dyn FnMut(u64)) -> Result<Census, BackupError> {
    let beside = digest_file(path);
    if let Ok(text) = fs::read_to_string(&beside) {
        let unusable = |source| BackupError::File { path: path.to_owned(), source };
        let (found, _) = digest(path).map_err(unusable)?;
        if text.split_whitespace().next() != Some(&*found) {
            return Err(BackupError::Digest { path: path.to_owned() });
        }
    }
    check(path, progress)
}

fn check(path: &Path, progress: &mut dyn FnMut(u64)) -> Result<Census, BackupError> {
    let mut file = LogFile::open(path)?;
    file.inspect()?;
    let audit = Audit::default();
    file.read::<_, BackupError>(|tx| {
        audit.run(tx, progress)??;
        Ok(tx.census()?)
    })
}

/// A file on the way to a backup; removed, with whatever SQLite put beside it, unless it got
/// another name.
struct Partial(PathBuf);

impl Partial {
    fn beside(path: &Path, what: &str) -> Self {
        let it = Self(suffixed(path, &format!(".{what}")));
        it.remove(); // What was left behind when a machine went down.
        it
    }

    fn remove(&self) {
        for path in ["", "-wal", "-shm", "-journal"].map(|it| suffixed(&self.0, it)) {
            // Mostly it is not there.
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

fn digest_file(path: &Path) -> PathBuf {
    suffixed(path, ".sha256")
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

fn refuse_crowded(path: &Path, size: u64) -> Result<(), BackupError> {
    let dir = path.parent().filter(|it| !it.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let unusable = |source| BackupError::File { path: dir.to_owned(), source };
    let disk = rustix::fs::statvfs(dir).map_err(|err| unusable(err.into()))?;
    let (free, needed) = (disk.f_bavail.saturating_mul(disk.f_frsize), size + RESERVE);
    if free < needed {
        return Err(BackupError::Space { dir: dir.to_owned(), free, needed });
    }
    Ok(())
}

/// The SHA-256 in hexadecimal, and the length.
fn digest(path: &Path) -> Result<(String, u64), io::Error> {
    let mut file = File::open(path)?;
    let (mut hash, mut buffer, mut length) = (Sha256::new(), vec![0; 64 * 1024], 0);
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            break;
        }
        hash.update(&buffer[..read]);
        length += read as u64;
    }
    Ok((ChainHash(hash.finalize().into()).to_string(), length))
}

/// As `sha256sum` writes and reads it.
fn write_digest(path: &Path, sha256: &str) -> Result<(), io::Error> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let mut file = options.open(digest_file(path))?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    writeln!(file, "{sha256}  {name}")?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_we_give_are_ours() {
        assert!(is_ours(Path::new("/b/keyward-20261124T161500123Z.db")));
        for other in ["keyward.db", "keyward-old.db", "keyward-20261124T161500123Z.db.sha256"] {
            assert!(!is_ours(Path::new(other)), "{other}");
        }
    }
}
