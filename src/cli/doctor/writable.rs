//! Whether the server can write to a directory, as far as another process can tell.

use std::{
    fs, io,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{Access, StatVfsMountFlags, access, statvfs},
    process::geteuid,
};

/// Why the server that has this data directory cannot write to `place`, or `None`. A place that does
/// not exist is made by the server, so its nearest parent counts. `running` says that the server
/// answers; then the place is looked at as the server sees it, because a unit can close what is open
/// to everything else.
pub(super) fn obstacle(data_dir: &Path, place: &Path, running: bool) -> Option<String> {
    let place = std::path::absolute(place).ok()?;
    let root = if running { root_of_server(data_dir) } else { None };
    let seen = |path: &Path| match &root {
        Some(root) => root.join(path.strip_prefix("/").unwrap_or(path)),
        None => path.to_owned(),
    };
    for path in place.ancestors() {
        let shown = path.display();
        match fs::metadata(seen(path)) {
            Ok(found) if !found.is_dir() => return Some(format!("{shown} is no directory")),
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
    (!may).then(|| format!("is closed to user {}, which the server runs as", server.uid()))
}

/// The root directory of the process that holds the data directory, if this user may look into it
/// and it is the same machine's: the number in the lock may be of another container.
fn root_of_server(data_dir: &Path) -> Option<PathBuf> {
    let lock = std::path::absolute(data_dir.join("keyward.lock")).ok()?;
    let holder: u32 = fs::read_to_string(&lock).ok()?.trim().parse().ok()?;
    let root = PathBuf::from(format!("/proc/{holder}/root"));
    let its = fs::metadata(root.join(lock.strip_prefix("/").ok()?)).ok()?;
    let ours = fs::metadata(&lock).ok()?;
    ((its.dev(), its.ino()) == (ours.dev(), ours.ino())).then_some(root)
}
