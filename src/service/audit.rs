//! The audit of a log, which trusts neither its operator nor its disk.

use std::collections::HashMap;

use crate::{
    domain::{
        checkpoint::{Checkpoint, CheckpointError, CheckpointKey},
        event::ChainHash,
        merkle::{Frontier, TreeHash},
    },
    store::{AuditHead, ReadTx, StoreError},
};

/// The auditor's own evidence. The audit is only as good as the place where it was kept.
#[derive(Debug, Default)]
pub struct Audit {
    /// The key that must have signed the checkpoints. `None`: signatures are not checked.
    pub key: Option<CheckpointKey>,
    /// Checkpoints that were kept elsewhere: a name for the report, and the signed note.
    pub kept: Vec<(String, String)>,
}

/// The summary of a log without a fault.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Sound {
    /// The number of events.
    pub events: u64,
    /// The hash of the newest event.
    pub head: ChainHash,
    /// The root of the Merkle tree over the events.
    pub root: TreeHash,
    /// The number of checkpoints that the log agrees with.
    pub checkpoints: u64,
    /// The number of these that the auditor's key did not sign.
    pub unsigned: u64,
}

/// The first fault of a log.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("event {seq}: {what}")]
pub struct Finding {
    /// The first event that was changed or removed.
    pub seq: i64,
    pub what: String,
}

/// A checkpoint, and where it was found.
struct Promise {
    place: String,
    checkpoint: Checkpoint,
    signed: bool,
}

/// A pass over the log, event by event.
struct Walk {
    last: AuditHead,
    tree: Frontier,
    /// The subtrees that the file keeps, by length and first leaf.
    kept: HashMap<(u64, u64), TreeHash>,
    /// Ordered by size, the smallest last.
    promises: Vec<Promise>,
    /// The number of events that a checkpoint has confirmed.
    confirmed: u64,
    sound: Sound,
}

impl Audit {
    /// Recomputes the whole log: the chain, the tree and every checkpoint. Calls `progress` after
    /// each event.
    pub fn run(
        &self,
        log: &ReadTx<'_>,
        mut progress: impl FnMut(u64),
    ) -> Result<Result<Sound, Finding>, StoreError> {
        let mut promises = match self.promises(log)? {
            Ok(promises) => promises,
            Err(finding) => return Ok(Err(finding)),
        };
        promises.sort_by_key(|it| std::cmp::Reverse(it.checkpoint.size));
        let kept = log.kept_subtrees()?;
        let kept = kept.into_iter().map(|(len, first, hash)| ((len, first), hash)).collect();
        let (head, root) = (AuditHead::NONE.hash, TreeHash::empty());
        let sound = Sound { events: 0, head, root, checkpoints: 0, unsigned: 0 };
        let mut walk = Walk {
            last: AuditHead::NONE,
            tree: Frontier::default(),
            kept,
            promises,
            confirmed: 0,
            sound,
        };
        let mut finding = walk.check_promises().err();
        let read = log.for_each_event(i64::MIN, |event| {
            if finding.is_none() {
                finding = walk.step(&event).err();
                progress(walk.tree.size());
            }
            finding.is_none()
        });
        if let Some(finding) = finding {
            return Ok(Err(finding));
        }
        match read {
            Err(err) if err.is_temporary() => Err(err),
            Err(err) => Ok(Err(walk.at_next(format!("cannot be read: {err}")))),
            Ok(()) => Ok(walk.end()),
        }
    }

    /// Returns every checkpoint in the file and outside of it, with its signature checked.
    fn promises(&self, log: &ReadTx<'_>) -> Result<Result<Vec<Promise>, Finding>, StoreError> {
        let mut promises = Vec::new();
        let stored = log.checkpoints(i64::MIN, u32::MAX)?;
        for it in &stored {
            let place = format!("the checkpoint of {} events in the database", it.size);
            match self.open(&place, &it.note) {
                Ok(promise)
                    if promise.checkpoint.size == it.size.unsigned_abs()
                        && promise.checkpoint.head == it.head
                        && promise.checkpoint.time == it.time =>
                {
                    promises.push(promise);
                }
                Ok(_) => {
                    let what = format!("{place} does not match its signed note");
                    return Ok(Err(Finding { seq: it.size, what }));
                }
                Err(why) => {
                    return Ok(Err(Finding { seq: it.size, what: format!("{place}: {why}") }));
                }
            }
        }
        for (place, note) in &self.kept {
            match self.open(place, note) {
                // The auditor kept it as one of ours, so the signature of another key proves
                // nothing.
                Ok(promise) if promise.signed || self.key.is_none() => promises.push(promise),
                Ok(promise) => {
                    let seq = promise.checkpoint.size.cast_signed();
                    let what = format!("{place}: {}", CheckpointError::Unsigned);
                    return Ok(Err(Finding { seq, what }));
                }
                Err(why) => {
                    return Ok(Err(Finding { seq: 0, what: format!("{place}: {why}") }));
                }
            }
        }
        Ok(Ok(promises))
    }

    fn open(&self, place: &str, note: &str) -> Result<Promise, CheckpointError> {
        let opened = self.key.as_ref().map(|it| it.open(note));
        let (checkpoint, signed) = match opened {
            Some(Ok(checkpoint)) => (checkpoint, true),
            // Signed with a key that was replaced since, as the log itself tells.
            Some(Err(CheckpointError::Unsigned)) | None => (Checkpoint::unverified(note)?, false),
            Some(Err(why)) => return Err(why),
        };
        Ok(Promise { place: place.to_owned(), checkpoint, signed })
    }
}

impl Walk {
    fn step(&mut self, event: &crate::domain::event::Event) -> Result<(), Finding> {
        if !self.last.is_followed_by(event) {
            let what = match event.seq {
                seq if seq == self.last.seq + 1 => "was changed, or what was before it".to_owned(),
                seq => format!("is not there; the next is {seq}"),
            };
            return Err(self.at_next(what));
        }
        let before = self.tree.size();
        let (kept, mut wrong) = (&mut self.kept, false);
        self.tree.push(TreeHash::leaf(event.hash), |len, hash| {
            // The file keeps the subtrees of 256 leaves and of powers of that.
            if len.ilog2().is_multiple_of(8) {
                wrong |= kept.remove(&(len, before + 1 - len)) != Some(hash);
            }
        });
        if wrong {
            return Err(
                self.at_next("the tree kept beside the log is not that of its events".to_owned())
            );
        }
        self.last = AuditHead { seq: event.seq, hash: event.hash };
        self.check_promises()
    }

    /// Compares the log so far with the checkpoints of this size.
    fn check_promises(&mut self) -> Result<(), Finding> {
        let size = self.tree.size();
        while let Some(promise) = self.promises.pop_if(|it| it.checkpoint.size <= size) {
            let Checkpoint { root, head, .. } = promise.checkpoint;
            if self.last.hash != head || self.tree.root() != root {
                let seq = self.confirmed.cast_signed() + 1;
                let what = format!(
                    "from here to {size} the log was rewritten: {} says otherwise",
                    promise.place
                );
                return Err(Finding { seq, what });
            }
            self.confirmed = size;
            self.sound.checkpoints += 1;
            self.sound.unsigned += u64::from(!promise.signed);
        }
        Ok(())
    }

    fn end(self) -> Result<Sound, Finding> {
        if let Some(promise) = self.promises.last() {
            let size = promise.checkpoint.size;
            let what = format!(
                "is not there: the log was cut; {} says that it had {size} events",
                promise.place
            );
            return Err(self.at_next(what));
        }
        if !self.kept.is_empty() {
            return Err(
                self.at_next("the tree kept beside the log has more than its events".to_owned())
            );
        }
        let (events, root) = (self.tree.size(), self.tree.root());
        Ok(Sound { events, head: self.last.hash, root, ..self.sound })
    }

    fn at_next(&self, what: String) -> Finding {
        Finding { seq: self.last.seq + 1, what }
    }
}
