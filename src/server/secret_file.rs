//! The file of a secret: what it is, and who else may read it.

use std::{
    fs::{self, File, Metadata, OpenOptions},
    io::{self, Read},
    os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Component, Path, PathBuf},
};

use rustix::fs::OFlags;
use zeroize::Zeroizing;

/// Where Docker, its Compose and Podman put secrets. Only the container sees this directory.
const CONTAINER_SECRETS: &str = "/run/secrets";

/// An open file. All questions are about the file that is read, also if another one gets its name.
pub(super) struct SecretFile {
    path: PathBuf,
    file: File,
    facts: Metadata,
}

impl SecretFile {
    /// Opens the file. Links are followed, because Kubernetes provides secrets through them.
    ///
    /// # Errors
    ///
    /// If this is no regular file, besides what the system reports. To open a pipe does not block.
    pub fn open(path: &Path) -> Result<Self, io::Error> {
        let mut reading = OpenOptions::new();
        let no_wait = OFlags::NONBLOCK.bits().cast_signed();
        let file = reading.read(true).custom_flags(no_wait).open(path)?;
        let facts = file.metadata()?;
        if !facts.is_file() {
            let says = "it is not a regular file";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, says));
        }
        Ok(Self { path: path.to_owned(), file, facts })
    }

    /// Returns whether other users may read or change the file.
    ///
    /// In a container, the mode of a secret is no sign: Kubernetes and Docker Swarm give every user of the
    /// container the right to read it, and Compose shows the file with its mode on the host. The file of
    /// such a secret only must not be writable.
    pub fn is_exposed(&self) -> Result<bool, io::Error> {
        let others = if self.is_container_secret()? { 0o002 } else { 0o007 };
        Ok(self.facts.permissions().mode() & others != 0)
    }

    /// Returns whether other users may change the file.
    pub fn is_writable_by_others(&self) -> bool {
        self.facts.permissions().mode() & 0o002 != 0
    }

    /// Returns whether the file is below `/run/secrets`, or in a volume of Kubernetes. There, each name is
    /// a link into a directory such as `..2026_01_20_10_00_00.123456789`.
    fn is_container_secret(&self) -> Result<bool, io::Error> {
        let path = self.path.canonicalize()?;
        let named = fs::metadata(&path)?;
        // The name may be that of another file by now, whose place says nothing of this one.
        let is_same = (named.dev(), named.ino()) == (self.facts.dev(), self.facts.ino());
        let of_volume = |it: Component<'_>| it.as_os_str().as_encoded_bytes().starts_with(b"..2");
        let is_secret = path.starts_with(CONTAINER_SECRETS) || path.components().any(of_volume);
        Ok(is_same && is_secret)
    }

    /// Reads the file.
    ///
    /// # Errors
    ///
    /// If it has more than `most` bytes, besides what the system reports.
    pub fn read(self, most: usize) -> Result<Zeroizing<Vec<u8>>, io::Error> {
        // Never grown, so no copy of the secret stays in memory.
        let mut text = Zeroizing::new(Vec::with_capacity(2 * most.max(32)));
        self.file.take(most as u64 + 1).read_to_end(&mut text)?;
        if most < text.len() {
            let says = format!("it is larger than {most} bytes");
            return Err(io::Error::new(io::ErrorKind::InvalidData, says));
        }
        Ok(text)
    }
}
