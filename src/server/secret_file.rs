//! Who else may read the file of a secret.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Component, Path},
};

/// Where Docker, its Compose and Podman put secrets. Only the container sees this directory.
const CONTAINER_SECRETS: &str = "/run/secrets";

/// Returns whether other users may read or change the file.
///
/// In a container, the mode of a secret is no sign: Kubernetes and Docker Swarm give every user of the
/// container the right to read it, and Compose shows the file with its mode on the host. The file of such
/// a secret only must not be writable.
pub(super) fn is_exposed(path: &Path) -> Result<bool, io::Error> {
    let others = if is_container_secret(path)? { 0o002 } else { 0o007 };
    Ok(fs::metadata(path)?.permissions().mode() & others != 0)
}

/// Returns whether other users may change the file.
pub(super) fn is_writable_by_others(path: &Path) -> Result<bool, io::Error> {
    Ok(fs::metadata(path)?.permissions().mode() & 0o002 != 0)
}

/// Returns whether the file is below `/run/secrets`, or in a volume of Kubernetes. There, each name is a link
/// into a directory such as `..2026_01_20_10_00_00.123456789`.
fn is_container_secret(path: &Path) -> Result<bool, io::Error> {
    let path = path.canonicalize()?;
    let of_volume = |it: Component<'_>| it.as_os_str().as_encoded_bytes().starts_with(b"..2");
    Ok(path.starts_with(CONTAINER_SECRETS) || path.components().any(of_volume))
}
