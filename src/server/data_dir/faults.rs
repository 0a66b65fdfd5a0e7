//! Checks of the files in the data directory. `serve` refuses the first fault, and `doctor` lists all.

use std::{
    fs::{self, Metadata},
    io,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};

use super::DataDirError;
use crate::{domain::data_layout::DataLayout, server::user_name};

/// Returns everything that prevents the owner of the data directory from using it.
pub fn data_file_faults(dir: &Path) -> Vec<DataDirError> {
    let found = match fs::metadata(dir) {
        Ok(found) => found,
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Vec::new(),
        Err(source) => return vec![DataDirError::Unusable { path: dir.to_owned(), source }],
    };
    let open = found.permissions().mode() & 0o022 != 0;
    let directory = open.then(|| DataDirError::OpenToOthers { path: dir.to_owned() });
    let layout = DataLayout::new(dir);
    let lock = fault(dir, &found, layout.lock(), fs::symlink_metadata);
    // The database may be a link to a file elsewhere. The lock may not.
    let database = [layout.database(), layout.wal(), layout.shm()];
    let files = database.into_iter().filter_map(|it| fault(dir, &found, it, fs::metadata));
    directory.into_iter().chain(lock).chain(files).collect()
}

fn fault(
    dir: &Path,
    directory: &Metadata,
    path: PathBuf,
    look: fn(PathBuf) -> io::Result<Metadata>,
) -> Option<DataDirError> {
    let found = match look(path.clone()) {
        Ok(found) => found,
        Err(err) if err.kind() == io::ErrorKind::NotFound => return None,
        Err(source) => return Some(DataDirError::Unusable { path, source }),
    };
    if !found.is_file() {
        return Some(DataDirError::NoFile { path });
    }
    if found.uid() != directory.uid() {
        return Some(DataDirError::WrongOwner {
            path,
            owner: user_name(found.uid()),
            dir: dir.to_owned(),
            wanted: user_name(directory.uid()),
        });
    }
    let mode = found.permissions().mode();
    (mode & 0o600 != 0o600).then_some(DataDirError::Closed { path })
}
