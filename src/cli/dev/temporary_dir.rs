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

/// A new directory for the owner only. It is removed when this value is dropped.
pub(super) struct TemporaryDir(PathBuf);

impl TemporaryDir {
    /// Makes a directory `keyward-dev-` and the number of this process.
    pub fn make() -> Result<Self, Error> {
        let stem = env::temp_dir().join(format!("keyward-dev-{}", process::id()));
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

impl Drop for TemporaryDir {
    fn drop(&mut self) {
        // A directory that stays is harmless.
        let _ = fs::remove_dir_all(&self.0);
    }
}
