//! The keys that sign tokens.

use std::{fs, io, os::unix::fs::PermissionsExt};

use super::{DataDir, DataDirError};
use crate::{
    domain::{
        data_layout::DataLayout,
        token_keys::{InvalidTokenKeys, TokenKeys},
    },
    service::{TokenKeyRing, read_text},
};

impl DataDir {
    /// Reads the keys that sign tokens. If there are none, the server makes the first one when it needs it.
    pub fn token_keys(&self) -> Result<TokenKeyRing, DataDirError> {
        read_token_keys(&self.layout)
    }
}

/// Fails if a start would refuse the keys that sign tokens.
pub fn check_token_keys(layout: &DataLayout) -> Result<(), DataDirError> {
    read_token_keys(layout).map(drop)
}

fn read_token_keys(layout: &DataLayout) -> Result<TokenKeyRing, DataDirError> {
    let path = layout.token_keys();
    let keys = match read_text(&path) {
        Err(err) if err.kind() == io::ErrorKind::NotFound => TokenKeys::default(),
        Err(source) => return Err(DataDirError::TokenKeyFile { path, source }),
        Ok(text) => {
            let unreadable = |source| DataDirError::TokenKeyFile { path: path.clone(), source };
            let found = fs::metadata(&path).map_err(unreadable)?;
            if found.permissions().mode() & 0o077 != 0 {
                return Err(DataDirError::ExposedTokenKeys { path });
            }
            let wrong = |source| DataDirError::TokenKeys { path: path.clone(), source };
            // keyward never writes an empty file, so the keys are lost.
            let keys =
                if text.is_empty() { Err(InvalidTokenKeys) } else { TokenKeys::parse(&text) };
            keys.map_err(wrong)?
        }
    };
    Ok(TokenKeyRing::new(keys, path))
}
