//! Checks whether the server can write to a directory, as far as another process can tell.

use std::{
    fs, io,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{Access, StatVfsMountFlags, access, statvfs},
    process::geteuid,
};

use crate::domain::data_layout::DataLayout;

/// Returns why the server that owns this data directory cannot write to `path`, or `None`. The server
/// creates a missing directory, so the nearest parent counts. If the server is `running`, this looks at
/// the path through the server's own root, because a unit can close directories for its service only.
pub(super) fn obstacle(data_dir: &Path, path: &Path, running: bool) -> Option<String> {
    let path = std::path::absolute(path).ok()?;
    let root = if running { root_of_server(data_dir) } else { None };
    let seen = |path: &Path| match &root {
        Some(root) => root.join(path.strip_prefix("/").unwrap_or(path)),
        None => path.to_owned(),
    };
    for path in path.ancestors() {
        let shown = path.display();
        match fs::metadata(seen(path)) {
            Ok(found) if !found.is_dir() => return Some(format!("{shown} is not a directory")),
            Ok(found) => {
                return closed(data_dir, &seen(path), &found).map(|it| format!("{shown} {it}"));
            }
            Err(err) if err.kind() == io::ErrorKind::NotFound => (),
            Err(err) => return Some(format!("{shown}: {err}")),
        }
    }
    None
}

fn closed(data_dir: &Path, seen: &Path, found: &fs::Metadata) -> Option<String> {
    let flags = statvfs(seen).ok()?.f_flag;
    if flags.contains(StatVfsMountFlags::RDONLY) {
        return Some(
            "is read-only for the server; a unit must name it in ReadWritePaths=".to_owned(),
        );
    }
    let server = fs::metadata(data_dir).ok()?;
    let may = if server.uid() == geteuid().as_raw() {
        access(seen, Access::WRITE_OK | Access::EXEC_OK).is_ok()
    } else {
        let shift = match () {
            () if server.uid() == found.uid() => 6,
            () if server.gid() == found.gid() => 3,
            () => 0,
        };
        server.uid() == 0 || found.permissions().mode() >> shift & 0o3 == 0o3
    };
    (!may).then(|| format!("is not writable for user {}, which the server runs as", server.uid()))
}

/// Returns the root directory of the process that holds the data directory, if this user may read it.
/// The process id in the lock may belong to another container, so this compares the lock files.
fn root_of_server(data_dir: &Path) -> Option<PathBuf> {
    let lock = std::path::absolute(DataLayout::new(data_dir).lock()).ok()?;
    let holder: u32 = fs::read_to_string(&lock).ok()?.trim().parse().ok()?;
    let root = PathBuf::from(format!("/proc/{holder}/root"));
    let its = fs::metadata(root.join(lock.strip_prefix("/").ok()?)).ok()?;
    let ours = fs::metadata(&lock).ok()?;
    ((its.dev(), its.ino()) == (ours.dev(), ours.ino())).then_some(root)
}
