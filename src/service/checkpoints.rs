//! Signed checkpoints: made, kept where an auditor finds them, and compared with the log.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use crate::{
    domain::{
        checkpoint::{Checkpoint, CheckpointError, CheckpointKey, CheckpointSigner},
        merkle::TreeHash,
    },
    env::Timestamp,
    service::{Conflict, Error, Keyward, Viewer, files::replace_file},
    store::{ReadTx, StoreError, StoredCheckpoint},
};

/// The signer, and the file with the newest checkpoint, outside of the database.
#[derive(Debug)]
pub struct Checkpointer {
    key: CheckpointKey,
    /// A local command may have none: the key can be a credential that only the service gets. The
    /// next start of the server signs what such a command records.
    signer: Option<CheckpointSigner>,
    file: PathBuf,
    /// Serialises writers, so that the file never gets an older checkpoint.
    turn: Mutex<()>,
}

/// The difference between a checkpoint and the log.
#[derive(Debug, thiserror::Error)]
pub enum Mismatch {
    #[error(
        "the audit log was cut or changed: the checkpoint of {time} in {place} says that it had \
         {size} events, and it is not the same now. Keep a copy of everything as it is; `keyward \
         events verify` tells more. If an older copy of the database was put here on purpose, \
         remove the file `checkpoint`"
    )]
    Log { place: String, size: u64, time: Timestamp },
    #[error(
        "{place} is not what our key signed ({why}). Keep a copy of everything as it is; `keyward \
         events verify` tells more"
    )]
    Note { place: String, why: CheckpointError },
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{place} cannot be read")]
    File { place: String, source: io::Error },
}

/// The proof that an event is in the log of a checkpoint.
#[derive(Clone, Debug)]
pub struct EventProof {
    pub leaf: TreeHash,
    pub size: u64,
    pub root: TreeHash,
    /// From the leaf upwards.
    pub path: Vec<TreeHash>,
    /// The signed checkpoint of this size, if there is one.
    pub note: Option<String>,
}

impl Checkpointer {
    pub fn new(signer: CheckpointSigner, file: PathBuf) -> Self {
        let key = signer.public().clone();
        Self { key, signer: Some(signer), file, turn: Mutex::default() }
    }

    /// Builds a checkpointer that checks and signs nothing.
    pub fn without_signer(key: CheckpointKey, file: PathBuf) -> Self {
        Self { key, signer: None, file, turn: Mutex::default() }
    }

    /// The public key, with which anyone can check our checkpoints.
    pub fn key(&self) -> &CheckpointKey {
        &self.key
    }
}

impl Keyward {
    pub fn checkpoint_key(&self) -> &CheckpointKey {
        self.checkpointer.key()
    }

    /// Signs the log as it is now, into the file and the journal. Returns how many checkpoints it
    /// made: none if nothing happened since the last one, or without a signer.
    pub fn make_checkpoint(&self) -> Result<u64, Error> {
        let mine = &self.checkpointer;
        let Some(signer) = mine.signer.clone() else { return Ok(0) };
        let _turn = mine.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let made = self.system_change::<_, Error>(move |tx| Ok(tx.checkpoint(&signer)?))?;
        let Some(made) = made else { return Ok(0) };
        // The journal is often sent elsewhere, where no program of this machine can change it.
        tracing::info!(checkpoint.size = made.size, checkpoint.note = made.note, "checkpoint");
        // Any user may read it, within the limits of the directory.
        replace_file(&mine.file, 0o666, &made.note)
            .map_err(|source| StoreError::Beside { path: mine.file.clone(), source })?;
        Ok(1)
    }

    /// Compares the log with the checkpoints; see [`check_against_checkpoints`].
    pub fn check_against_checkpoints(&self) -> Result<(), Mismatch> {
        let file = &self.checkpointer.file;
        self.store.read(|tx| check_against_checkpoints(tx, self.checkpoint_key(), file))
    }

    pub fn last_checkpoint(&self) -> Result<StoredCheckpoint, Error> {
        let last = self.store.read::<_, Error>(|tx| Ok(tx.last_checkpoint()?))?;
        last.ok_or(Error::NoCheckpoint)
    }

    /// Returns checkpoints of more than `after` events, the smallest first.
    pub fn list_checkpoints(&self, after: i64, limit: u32) -> Result<Vec<StoredCheckpoint>, Error> {
        Ok(self.store.read::<_, StoreError>(|tx| tx.checkpoints(after, limit))?)
    }

    /// Proves that event `seq` is in the log of the first `size` events. Without a size, uses the
    /// last checkpoint.
    pub fn prove_event(
        &self,
        viewer: Viewer,
        seq: u64,
        size: Option<u64>,
    ) -> Result<EventProof, Error> {
        let event = self.find_event(viewer, seq.cast_signed())?.event;
        self.store.read(|tx| {
            let head = tx.audit_head()?.seq.unsigned_abs();
            let last = tx.last_checkpoint()?;
            let size = match (size, &last) {
                (Some(size), _) if (seq..=head).contains(&size) => size,
                (Some(_), _) => {
                    let detail =
                        format!("must be from {seq} to {head}: the log has no more events");
                    return Err(Error::invalid("/size", "out_of_range", detail));
                }
                (None, Some(last)) if seq <= last.size.unsigned_abs() => last.size.unsigned_abs(),
                (None, _) => return Err(Conflict::NotCheckpointed.into()),
            };
            let path = tx.inclusion_proof(seq, size)?.ok_or(Error::NO_EVENT)?;
            let note = tx.checkpoint_of(size.cast_signed())?.map(|it| it.note);
            let leaf = TreeHash::leaf(event.hash);
            Ok(EventProof { leaf, size, root: tx.tree_root(size)?, path, note })
        })
    }

    /// Proves that the first `old` events are the beginning of the first `new`: nothing was changed
    /// or removed between two checkpoints. Returns both roots and the proof.
    pub fn prove_consistency(
        &self,
        old: u64,
        new: u64,
    ) -> Result<(TreeHash, TreeHash, Vec<TreeHash>), Error> {
        self.store.read(|tx| {
            let head = tx.audit_head()?.seq.unsigned_abs();
            let path = if new <= head { tx.consistency_proof(old, new)? } else { None };
            let path = path.ok_or_else(|| {
                let detail = format!("must be 0 < from <= to <= {head}, the size of the log");
                Error::invalid("/to", "out_of_range", detail)
            })?;
            Ok((tx.tree_root(old)?, tx.tree_root(new)?, path))
        })
    }
}

/// Compares the log with the last checkpoint in the database, and with the one in the file beside
/// it.
///
/// A checkpoint of another key is skipped with a warning: keys can be replaced. Must be the first
/// read of `log`: otherwise its snapshot may be older than a file that a server writes at the same
/// time.
pub fn check_against_checkpoints(
    log: &ReadTx<'_>,
    key: &CheckpointKey,
    file: &Path,
) -> Result<(), Mismatch> {
    let place = file.display().to_string();
    // A start and `doctor` have checked that this is no pipe.
    let beside = match fs::read(file) {
        Ok(note) => Some(String::from_utf8_lossy(&note).into_owned()),
        Err(err) if err.kind() == io::ErrorKind::NotFound => None,
        Err(source) => return Err(Mismatch::File { place, source }),
    };
    if let Some(stored) = log.last_checkpoint()? {
        check_note(log, key, "the database", &stored.note)?;
    }
    beside.map_or(Ok(()), |note| check_note(log, key, &place, &note))
}

fn check_note(
    log: &ReadTx<'_>,
    key: &CheckpointKey,
    place: &str,
    note: &str,
) -> Result<(), Mismatch> {
    let Checkpoint { size, root, head, time, .. } = match key.open(note) {
        Ok(checkpoint) => checkpoint,
        Err(CheckpointError::Unsigned) => {
            tracing::warn!(place, "a checkpoint was signed with another key, so it is not checked");
            return Ok(());
        }
        Err(why) => return Err(Mismatch::Note { place: place.to_owned(), why }),
    };
    if log.is_as_checkpointed(size.cast_signed(), head)? && log.tree_root(size)? == root {
        return Ok(());
    }
    Err(Mismatch::Log { place: place.to_owned(), size, time })
}
