//! The key that signs checkpoints.

use std::{fs, io, os::unix::fs::PermissionsExt, path::Path};

use super::{DataDir, DataDirError};
use crate::{
    domain::{
        checkpoint::{CheckpointKey, CheckpointSigner},
        data_layout::DataLayout,
    },
    env::Env,
    service::{Checkpointer, read_text, replace_file},
};

impl DataDir {
    /// Returns the checkpointer with the key in `file`, or else in this directory. Makes the key if
    /// there never was one. Writes the public key for those who check signatures.
    pub fn checkpointer(
        &self,
        file: Option<&Path>,
        env: &Env,
    ) -> Result<Checkpointer, DataDirError> {
        let public = self.layout.checkpoint_public_key();
        let signer = match find_signer(&self.layout, file) {
            Err(DataDirError::KeyFile { path, source })
                if source.kind() == io::ErrorKind::NotFound && file.is_none() =>
            {
                if public.exists() {
                    return Err(DataDirError::NoCheckpointKey { path, public });
                }
                let signer = CheckpointSigner::generate(&log_name(env), &*env.entropy);
                let unusable = |source| DataDirError::Unusable { path: path.clone(), source };
                // A link to a file that is not there, as of a disk that is not mounted yet.
                if fs::symlink_metadata(&path).is_ok() {
                    return Err(DataDirError::KeyFile { path, source });
                }
                replace_file(&path, 0o600, &signer.expose()).map_err(unusable)?;
                signer
            }
            outcome => outcome?,
        };
        let text = format!("{}\n", signer.public());
        if read_text(&public).ok().as_deref() != Some(&text) {
            let unusable = |source| DataDirError::Unusable { path: public.clone(), source };
            fs::write(&public, &text).map_err(unusable)?;
        }
        Ok(Checkpointer::new(signer, self.layout.checkpoint()))
    }

    /// As [`DataDir::checkpointer`], for a command. Its user may not see the key, or may see another
    /// key than the server's. Then the checkpointer signs nothing, and the server signs later. Only the
    /// server writes the public key if there is one.
    pub fn checkpointer_of_command(
        &self,
        file: Option<&Path>,
        env: &Env,
    ) -> Result<Checkpointer, DataDirError> {
        let public = read_text(&self.layout.checkpoint_public_key()).ok();
        let Some(public) = public.and_then(|it| CheckpointKey::parse(&it).ok()) else {
            return self.checkpointer(file, env);
        };
        match find_signer(&self.layout, file) {
            Ok(signer) if *signer.public() == public => {
                Ok(Checkpointer::new(signer, self.layout.checkpoint()))
            }
            Err(err) if !err.is_out_of_sight() => Err(err),
            Ok(_) | Err(_) => Ok(Checkpointer::without_signer(public, self.layout.checkpoint())),
        }
    }
}

/// Reads the key that signs checkpoints from `file`, or else from the data directory.
pub fn find_signer(
    layout: &DataLayout,
    file: Option<&Path>,
) -> Result<CheckpointSigner, DataDirError> {
    let own = layout.checkpoint_key();
    let path = file.unwrap_or(&own);
    let unreadable = |source| DataDirError::KeyFile { path: path.to_owned(), source };
    let text = read_text(path).map_err(unreadable)?;
    if fs::metadata(path).map_err(unreadable)?.permissions().mode() & 0o007 != 0 {
        return Err(DataDirError::Exposed { path: path.to_owned() });
    }
    let public = layout.checkpoint_public_key();
    let wrong = |source| DataDirError::CheckpointKey { path: path.to_owned(), public, source };
    CheckpointSigner::parse(&text).map_err(wrong)
}

/// Returns a name that no other log has.
fn log_name(env: &Env) -> String {
    let mut random = [0; 8];
    env.entropy.fill(&mut random);
    format!("keyward-{:016x}", u64::from_be_bytes(random))
}
