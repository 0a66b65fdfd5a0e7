//! What a start needs of the files in the data directory: `serve` refuses for the first fault, and
//! `doctor` lists all of them.

use std::{
    fs::{self, Metadata},
    io,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};

use super::data_dir::{DataDirError, LOCK};

/// Every file that the server writes in place.
const FILES: [&str; 4] = [LOCK, "keyward.db", "keyward.db-wal", "keyward.db-shm"];

/// Everything that keeps the owner of the data directory from using what is in it.
pub fn faults(dir: &Path) -> Vec<DataDirError> {
    let found = match fs::metadata(dir) {
        Ok(found) => found,
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Vec::new(),
        Err(source) => return vec![DataDirError::Unusable { path: dir.to_owned(), source }],
    };
    let open = found.permissions().mode() & 0o022 != 0;
    let directory = open.then(|| DataDirError::OpenToOthers { path: dir.to_owned() });
    let files = FILES.iter().filter_map(|name| fault(dir, &found, dir.join(name)));
    directory.into_iter().chain(files).collect()
}

fn fault(dir: &Path, directory: &Metadata, path: PathBuf) -> Option<DataDirError> {
    // The lock is not followed anywhere; a database may lie elsewhere.
    let is_lock = path.ends_with(LOCK);
    let found = if is_lock { fs::symlink_metadata(&path) } else { fs::metadata(&path) };
    let found = match found {
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
            owner: user(found.uid()),
            dir: dir.to_owned(),
            wanted: user(directory.uid()),
        });
    }
    let mode = found.permissions().mode();
    (mode & 0o600 != 0o600).then_some(DataDirError::Closed { path })
}

/// The name of a user, or the number of one without a name here.
fn user(id: u32) -> String {
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let named = users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(id)).then_some(name)
    });
    named.map_or_else(|| id.to_string(), str::to_owned)
}
