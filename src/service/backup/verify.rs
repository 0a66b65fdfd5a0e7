//! Whether a file is a backup: it is what its digest says, whole, and a start would take it.

use std::{
    env,
    fs::{self, DirBuilder, File},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use pbkdf2::sha2::{Digest, Sha256};

use super::{BackupError, refuse_crowded, suffixed};
use crate::{
    domain::event::ChainHash,
    env::Entropy,
    service::Audit,
    store::{Census, LogFile, try_start},
};

/// Whether there is a digest beside the file at `path`; refused if it is another file's.
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

/// Whether the file at `path`, as it is seen from this process, has this length and this SHA-256.
pub fn is_backup(path: &Path, bytes: u64, sha256: &str) -> Result<bool, BackupError> {
    let unusable = |source| BackupError::File { path: path.to_owned(), source };
    match fs::metadata(path) {
        Ok(found) if found.len() == bytes => Ok(digest(path).map_err(unusable)?.0 == sha256),
        Ok(_) => Ok(false),
        Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(err) => Err(unusable(err)),
    }
}

/// Reads all of a backup, the audit log among it, and does what a start would do with it. Room that
/// this needs is taken in `scratch`; without one, where temporary files go. `progress` is told of
/// each event.
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
        // What is brought up to date meanwhile must not be the backup itself.
        let temporary = env::temp_dir();
        let scratch = Scratch::within(scratch.unwrap_or(&temporary), entropy)?;
        rehearse_copy(path, &scratch.0.join("rehearsal.db"))?
    };
    if opened == census { Ok(census) } else { Err(BackupError::Differs) }
}

/// Whether SQLite finds all of it sound, and whether the audit log is.
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

/// Copies the file at `path` to `copy`, and opens the copy as a start would.
pub(super) fn rehearse_copy(path: &Path, copy: &Path) -> Result<Census, BackupError> {
    let unusable = |source| BackupError::File { path: path.to_owned(), source };
    refuse_crowded(copy, fs::metadata(path).map_err(unusable)?.len())?;
    LogFile::open(path)?.copy_to(copy, |_, _| ())?;
    Ok(try_start(copy)?)
}

/// A directory for its owner alone, which goes with all that is in it.
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
        // Nobody could do anything about it.
        let _ = fs::remove_dir_all(&self.0);
    }
}

pub(super) fn digest_file(path: &Path) -> PathBuf {
    suffixed(path, ".sha256")
}

/// The SHA-256 in hexadecimal, and the length.
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

/// As `sha256sum` writes and reads it, to the file at `to`, about the one at `path`.
pub(super) fn write_digest(to: &Path, path: &Path, sha256: &str) -> Result<(), io::Error> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let mut file = options.open(to)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    writeln!(file, "{sha256}  {name}")?;
    file.sync_all()
}
