//! The file that provides the root key for the first start.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use zeroize::Zeroizing;

use super::secret_file::{is_exposed, is_writable_by_others};
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
    // Never grown, so no copy of the key stays in memory.
    let mut text = Zeroizing::new(Vec::with_capacity(2 * LONGEST));
    let file = File::open(path).map_err(unreadable)?;
    file.take(LONGEST as u64).read_to_end(&mut text).map_err(unreadable)?;
    if is_writable_by_others(path).map_err(unreadable)? {
        return Err(RootKeyFileError::Writable { path: path.to_owned() });
    }
    let provided = ProvidedRootKey::parse(&text)
        .map_err(|source| RootKeyFileError::Invalid { path: path.to_owned(), source })?;
    if matches!(provided, ProvidedRootKey::Text(_)) && is_exposed(path).map_err(unreadable)? {
        return Err(RootKeyFileError::Exposed { path: path.to_owned() });
    }
    Ok(provided)
}

/// Returns the fault of the file, if the next start is the first one. No later start reads the file.
pub(super) fn fault(config: &Config) -> Option<RootKeyFileError> {
    let path = config.root_key_file.as_deref()?;
    if config.layout().database().exists() { None } else { read(path).err() }
}
