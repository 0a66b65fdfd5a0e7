//! The keys that sign tokens.

use std::{fs, io, os::unix::fs::PermissionsExt};

use zeroize::Zeroizing;

use super::{DataDir, DataDirError};
use crate::{domain::token_keys::TokenKeys, service::TokenKeyRing};

impl DataDir {
    /// Reads the keys that sign tokens. If there are none, the server makes the first one when it needs it.
    pub fn token_keys(&self) -> Result<TokenKeyRing, DataDirError> {
        let path = self.layout.token_keys();
        let keys = match fs::read_to_string(&path).map(Zeroizing::new) {
            Err(err) if err.kind() == io::ErrorKind::NotFound => TokenKeys::default(),
            Err(source) => return Err(DataDirError::TokenKeyFile { path, source }),
            Ok(text) => {
                let unreadable = |source| DataDirError::TokenKeyFile { path: path.clone(), source };
                let found = fs::metadata(&path).map_err(unreadable)?;
                if found.permissions().mode() & 0o077 != 0 {
                    return Err(DataDirError::ExposedTokenKeys { path });
                }
                let wrong = |source| DataDirError::TokenKeys { path: path.clone(), source };
                TokenKeys::parse(&text).map_err(wrong)?
            }
        };
        Ok(TokenKeyRing::new(keys, path))
    }
}
