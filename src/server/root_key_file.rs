//! The file that provides the root key for the first start.

use std::{
    io,
    path::{Path, PathBuf},
};

use super::secret_file::SecretFile;
use crate::{
    config::Config,
    domain::root_key::{InvalidRootKey, ProvidedRootKey},
};

/// Longer than each form of the file.
const LONGEST: usize = 4096;

#[derive(Debug, thiserror::Error)]
pub enum RootKeyFileError {
    #[error("{path}, which is to provide the root key, cannot be read")]
    File { path: PathBuf, source: io::Error },
    #[error(
        "{path} can be read by other users; allow its owner, or its group, only (chmod 640), or write \
         `sha256:` and the digest of the key into it"
    )]
    Exposed { path: PathBuf },
    #[error("other users may write to {path}, and so choose the root key (chmod 640)")]
    Writable { path: PathBuf },
    #[error("{path} provides no root key: {source}")]
    Invalid { path: PathBuf, source: InvalidRootKey },
}

/// Reads the file. A digest is not secret, so other users may read it.
pub(super) fn read(path: &Path) -> Result<ProvidedRootKey, RootKeyFileError> {
    let unreadable = |source| RootKeyFileError::File { path: path.to_owned(), source };
    let file = SecretFile::open(path).map_err(unreadable)?;
    if file.is_writable_by_others() {
        return Err(RootKeyFileError::Writable { path: path.to_owned() });
    }
    let is_exposed = file.is_exposed().map_err(unreadable)?;
    let text = file.read(LONGEST).map_err(unreadable)?;
    let provided = ProvidedRootKey::parse(&text)
        .map_err(|source| RootKeyFileError::Invalid { path: path.to_owned(), source })?;
    if matches!(provided, ProvidedRootKey::Text(_)) && is_exposed {
        return Err(RootKeyFileError::Exposed { path: path.to_owned() });
    }
    Ok(provided)
}

/// Returns the fault of the file, if the next start is the first one. No later start reads the file.
pub(super) fn fault(config: &Config) -> Option<RootKeyFileError> {
    let path = config.root_key_file.as_deref()?;
    if config.layout().database().exists() { None } else { read(path).err() }
}
