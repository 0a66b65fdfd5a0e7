//! Checkpoints and proofs on the wire.

use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    domain::{merkle::TreeHash, note::NoteKey},
    service::{EventProof, StoredCheckpoint},
};

/// What the audit log was at some time, signed.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Checkpoint)]
pub struct CheckpointBody {
    /// How many events there were.
    #[schema(example = 4711, minimum = 1)]
    size: i64,
    #[schema(format = DateTime, example = "2026-01-20T10:00:30.000Z")]
    time: String,
    /// The hash of the newest of them, in hexadecimal.
    #[schema(pattern = "^[0-9a-f]{64}$")]
    head: String,
    /// The signed note: origin, size, root of the Merkle tree, `head`, `time`, signature.
    note: String,
}

/// A page of checkpoints.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = CheckpointList)]
pub struct CheckpointListBody {
    pub data: Vec<CheckpointBody>,
    /// Ask again with `cursor` set to this for the next page; `null` on the last one.
    #[schema(required)]
    pub next_cursor: Option<String>,
}

/// What checkpoints are checked with.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = CheckpointKey)]
pub struct CheckpointKeyBody {
    /// The origin that stands in every checkpoint.
    #[schema(example = "keyward-5a17c0ffee15600d")]
    name: String,
    /// An Ed25519 key in the text form of C2SP's signed-note.
    #[schema(
        example = "keyward-5a17c0ffee15600d+0a1b2c3d+AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
    )]
    public_key: String,
}

/// That an event is in the log of `size` events. Hashes are in hexadecimal.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = EventProof)]
pub struct EventProofBody {
    /// The event; it is leaf `seq - 1` of the tree.
    #[schema(example = 1, minimum = 1)]
    seq: u64,
    #[schema(example = 4711, minimum = 1)]
    size: u64,
    /// SHA-256 over a zero byte and the event's `hash`.
    #[schema(pattern = "^[0-9a-f]{64}$")]
    leaf_hash: String,
    /// The root of the tree of `size` leaves.
    #[schema(pattern = "^[0-9a-f]{64}$")]
    root_hash: String,
    /// The audit path of RFC 6962, section 2.1.1, from the leaf upwards.
    path: Vec<String>,
    /// The signed checkpoint of this size; `null` if there is none of exactly this size.
    #[schema(required)]
    note: Option<String>,
}

/// That the first `from` events are the beginning of the first `to`. Hashes are in hexadecimal.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = ConsistencyProof)]
pub struct ConsistencyProofBody {
    #[schema(example = 1, minimum = 1)]
    from: u64,
    #[schema(example = 4711, minimum = 1)]
    to: u64,
    /// The root of the tree of `from` leaves.
    #[schema(pattern = "^[0-9a-f]{64}$")]
    from_root_hash: String,
    /// The root of the tree of `to` leaves.
    #[schema(pattern = "^[0-9a-f]{64}$")]
    to_root_hash: String,
    /// The proof of RFC 6962, section 2.1.2; empty if both are the same.
    path: Vec<String>,
}

impl From<StoredCheckpoint> for CheckpointBody {
    fn from(it: StoredCheckpoint) -> Self {
        let (time, head) = (it.time.to_string(), it.head.to_string());
        Self { size: it.size, time, head, note: it.note }
    }
}

impl From<&NoteKey> for CheckpointKeyBody {
    fn from(key: &NoteKey) -> Self {
        Self { name: key.name().to_owned(), public_key: key.to_string() }
    }
}

impl EventProofBody {
    pub fn new(seq: u64, proof: EventProof) -> Self {
        Self {
            seq,
            size: proof.size,
            leaf_hash: proof.leaf.to_string(),
            root_hash: proof.root.to_string(),
            path: printed(&proof.path),
            note: proof.note,
        }
    }
}

impl ConsistencyProofBody {
    pub fn new(
        (from, from_root): (u64, TreeHash),
        (to, to_root): (u64, TreeHash),
        path: &[TreeHash],
    ) -> Self {
        let (from_root_hash, to_root_hash) = (from_root.to_string(), to_root.to_string());
        Self { from, to, from_root_hash, to_root_hash, path: printed(path) }
    }
}

fn printed(path: &[TreeHash]) -> Vec<String> {
    path.iter().map(ToString::to_string).collect()
}
