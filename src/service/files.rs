//! Files that must be there after a crash.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use rustix::fs::OFlags;
use zeroize::Zeroizing;

/// Replaces the file atomically, or makes it: a reader, and the start after a crash, find the old text or
/// the new one, and never a part.
pub fn replace_file(path: &Path, mode: u32, text: &str) -> Result<(), io::Error> {
    let mut fresh = path.as_os_str().to_owned();
    fresh.push(".new");
    let fresh = PathBuf::from(fresh);
    // A file that an interrupted change left may have another mode.
    match fs::remove_file(&fresh) {
        Err(err) if err.kind() != io::ErrorKind::NotFound => return Err(err),
        Ok(()) | Err(_) => (),
    }
    let written = write_new(&fresh, mode, text).and_then(|()| fs::rename(&fresh, path));
    if let Err(err) = written {
        // It may hold a part of a secret. What stays is removed by the next change.
        let _ = fs::remove_file(&fresh);
        return Err(err);
    }
    sync_parent(path)
}

fn write_new(path: &Path, mode: u32, text: &str) -> Result<(), io::Error> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

/// Reads a small file. Bytes that are no text become the replacement character, so that the reader of the
/// text refuses it.
///
/// # Errors
///
/// If this is no regular file, besides what the system reports. To open a pipe does not block.
pub fn read_text(path: &Path) -> Result<Zeroizing<String>, io::Error> {
    const MOST: u64 = 1024 * 1024;
    let no_wait = OFlags::NONBLOCK.bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(no_wait).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"));
    }
    let mut bytes = Zeroizing::new(Vec::new());
    file.take(MOST).read_to_end(&mut bytes)?;
    Ok(Zeroizing::new(String::from_utf8_lossy(&bytes).into_owned()))
}

/// Makes the name of the file durable.
pub fn sync_parent(path: &Path) -> Result<(), io::Error> {
    File::open(parent(path)).and_then(|it| it.sync_all())
}

/// Returns the directory of the file.
pub fn parent(path: &Path) -> &Path {
    path.parent().filter(|it| !it.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
