//! Files that must be there after a crash.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

/// Replaces the file atomically: a reader, and the start after a crash, find the old text or the new one.
pub fn replace_file(path: &Path, mode: u32, text: &str) -> Result<(), io::Error> {
    let fresh = path.with_extension("new");
    // A file that an interrupted change left may have another mode.
    match fs::remove_file(&fresh) {
        Err(err) if err.kind() != io::ErrorKind::NotFound => return Err(err),
        Ok(()) | Err(_) => (),
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&fresh)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(fresh, path)?;
    sync_parent(path)
}

/// Makes the name of the file durable.
pub fn sync_parent(path: &Path) -> Result<(), io::Error> {
    File::open(parent(path)).and_then(|it| it.sync_all())
}

/// Returns the directory of the file.
pub fn parent(path: &Path) -> &Path {
    path.parent().filter(|it| !it.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
