//! The data directory of `keyward dev`.

use std::{
    env,
    fs::{self, DirBuilder},
    io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    process,
};

use crate::cli::error::Error;

/// How many names are tried. A process that was killed leaves a directory, whose name may come again.
const ATTEMPTS: u32 = 100;

/// The beginning of the name of each directory.
const PREFIX: &str = "keyward-dev-";

/// A new directory for the owner only. It is removed when this value is dropped.
pub(super) struct TemporaryDir(PathBuf);

impl TemporaryDir {
    /// Makes a directory `keyward-dev-` and the number of this process.
    pub fn make() -> Result<Self, Error> {
        let stem = env::temp_dir().join(format!("{PREFIX}{}", process::id()));
        let mut path = stem.clone();
        for attempt in 1..=ATTEMPTS {
            match DirBuilder::new().mode(0o700).create(&path) {
                Err(err) if err.kind() == io::ErrorKind::AlreadyExists && attempt < ATTEMPTS => {
                    path = stem.with_extension(attempt.to_string());
                }
                Err(source) => return Err(Error::File { path, source }),
                Ok(()) => break,
            }
        }
        Ok(Self(path))
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

/// Returns the directories of this kind that exist, also those of processes that were killed.
pub(in crate::cli) fn existing() -> Vec<PathBuf> {
    let entries = fs::read_dir(env::temp_dir()).into_iter().flatten().flatten();
    let is_one = |it: &fs::DirEntry| it.file_name().to_string_lossy().starts_with(PREFIX);
    entries.filter(is_one).map(|it| it.path()).collect()
}

impl Drop for TemporaryDir {
    fn drop(&mut self) {
        // A directory that stays is harmless.
        let _ = fs::remove_dir_all(&self.0);
    }
}
