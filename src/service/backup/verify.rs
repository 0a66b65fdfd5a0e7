//! The check of a backup: its digest, its content, and a start from it.

use std::{
    env,
    fs::{self, DirBuilder, File},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use pbkdf2::sha2::{Digest, Sha256};

use super::{BackupError, refuse_full_disk, suffixed};
use crate::{
    domain::event::ChainHash,
    env::Entropy,
    service::Audit,
    store::{Census, LogFile, try_start},
};

/// Compares the file at `path` with the digest beside it. Returns whether there is a digest.
pub fn compare_digest(path: &Path) -> Result<bool, BackupError> {
    let beside = digest_file(path);
    let text = match fs::read_to_string(&beside) {
        Ok(text) => text,
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(source) => return Err(BackupError::File { path: beside, source }),
    };
    let unusable = |source| BackupError::File { path: path.to_owned(), source };
    let (found, _) = digest(path).map_err(unusable)?;
    if text.split_whitespace().next() == Some(&*found) {
        return Ok(true);
    }
    Err(BackupError::Digest { path: path.to_owned() })
}

/// Returns whether the file at `path`, as this process sees it, has this length and this SHA-256.
pub fn is_backup(path: &Path, bytes: u64, sha256: &str) -> Result<bool, BackupError> {
    let unusable = |source| BackupError::File { path: path.to_owned(), source };
    match fs::metadata(path) {
        Ok(found) if found.len() == bytes => Ok(digest(path).map_err(unusable)?.0 == sha256),
        Ok(_) => Ok(false),
        Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(err) => Err(unusable(err)),
    }
}

/// Reads all of a backup, with its audit log, and opens a copy as a start does. The copy is in
/// `scratch`, or else in the directory for temporary files. Calls `progress` after each event.
pub fn check_backup(
    path: &Path,
    audit: &Audit,
    scratch: Option<&Path>,
    entropy: &dyn Entropy,
    progress: &mut dyn FnMut(u64),
) -> Result<Census, BackupError> {
    let census = read_whole(path, audit, progress)?;
    let mut file = LogFile::open(path)?;
    let opened = if file.outdated()?.is_none() {
        file.examine()?
    } else {
        // The migration must not change the backup itself.
        let temporary = env::temp_dir();
        let scratch = Scratch::within(scratch.unwrap_or(&temporary), entropy)?;
        rehearse_copy(path, &scratch.0.join("rehearsal.db"))?
    };
    if opened == census { Ok(census) } else { Err(BackupError::Differs) }
}

/// Checks the file with SQLite, and its audit log.
pub(super) fn read_whole(
    path: &Path,
    audit: &Audit,
    progress: &mut dyn FnMut(u64),
) -> Result<Census, BackupError> {
    let mut file = LogFile::open(path)?;
    file.inspect()?;
    file.read::<_, BackupError>(|tx| {
        audit.run(tx, progress)??;
        Ok(tx.census()?)
    })
}

/// Copies the file at `path` to `copy`, and opens the copy as a start does.
pub(super) fn rehearse_copy(path: &Path, copy: &Path) -> Result<Census, BackupError> {
    let unusable = |source| BackupError::File { path: path.to_owned(), source };
    refuse_full_disk(copy, fs::metadata(path).map_err(unusable)?.len())?;
    LogFile::open(path)?.copy_to(copy, |_, _| ())?;
    Ok(try_start(copy)?)
}

/// A temporary directory for its owner alone, removed on drop.
struct Scratch(PathBuf);

impl Scratch {
    fn within(dir: &Path, entropy: &dyn Entropy) -> Result<Self, BackupError> {
        let mut random = [0; 8];
        entropy.fill(&mut random);
        let path = dir.join(format!("keyward-scratch-{:016x}", u64::from_be_bytes(random)));
        let unusable = |source| BackupError::File { path: path.clone(), source };
        DirBuilder::new().mode(0o700).create(&path).map_err(unusable)?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // There is nothing left to do about a failure.
        let _ = fs::remove_dir_all(&self.0);
    }
}

pub(super) fn digest_file(path: &Path) -> PathBuf {
    suffixed(path, ".sha256")
}

/// Returns the SHA-256 in hexadecimal, and the length.
pub(super) fn digest(path: &Path) -> Result<(String, u64), io::Error> {
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

/// Writes the digest of the file at `path`, in the format of `sha256sum`, to the file at `to`.
pub(super) fn write_digest(to: &Path, path: &Path, sha256: &str) -> Result<(), io::Error> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let mut file = options.open(to)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    writeln!(file, "{sha256}  {name}")?;
    file.sync_all()
}
