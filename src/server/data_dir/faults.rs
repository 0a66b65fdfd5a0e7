//! Checks of the files in the data directory. `serve` refuses the first fault, and `doctor` lists all.

use std::{
    fs::{self, Metadata},
    io,
    os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt},
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
    let database = fault(dir, &found, layout.database(), fs::metadata);
    let beside = [layout.wal(), layout.shm()];
    let beside = beside.into_iter().filter_map(|it| fault(dir, &found, it, fs::symlink_metadata));
    let main = directory.into_iter().chain(lock).chain(database).chain(beside);
    main.chain(wrong_kinds(&layout)).collect()
}

/// Returns the names that something else has taken. To read a pipe would block, and to replace what is
/// there would destroy it.
fn wrong_kinds(layout: &DataLayout) -> impl Iterator<Item = DataDirError> {
    let files = [
        layout.journal(),
        layout.checkpoint(),
        layout.checkpoint_key(),
        layout.checkpoint_public_key(),
        layout.token_keys(),
        layout.initial_root_key(),
    ];
    let files = files.into_iter().filter_map(|path| match fs::metadata(&path) {
        Ok(found) if !found.is_file() => Some(DataDirError::NoFile { path }),
        Ok(_) | Err(_) => None,
    });
    let sockets = [layout.control_socket(), layout.command_socket()];
    let sockets = sockets.into_iter().filter_map(|path| match fs::symlink_metadata(&path) {
        Ok(found) if !found.file_type().is_socket() => Some(DataDirError::NoSocket { path }),
        Ok(_) | Err(_) => None,
    });
    files.chain(sockets)
}

/// Returns the fault if the database is gone and another file shows that there was one. A start would
/// make a new database, and SQLite would remove the write-ahead log of the old one.
pub fn lost_database(layout: &DataLayout) -> Option<DataDirError> {
    let has_content = |path: &Path| fs::metadata(path).is_ok_and(|it| 0 < it.len());
    let path = layout.database();
    let is_there = match fs::metadata(&path) {
        Ok(found) => 0 < found.len() || !found.is_file(),
        Err(err) => err.kind() != io::ErrorKind::NotFound,
    };
    let signs = [layout.wal(), layout.checkpoint()];
    let sign = signs.into_iter().find(|it| !is_there && has_content(it))?;
    Some(DataDirError::NoDatabase { path, sign })
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
