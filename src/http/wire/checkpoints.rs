//! Checkpoints and proofs on the wire.

use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    domain::{checkpoint::CheckpointKey, merkle::TreeHash},
    service::{EventProof, StoredCheckpoint},
};

pub(super) const EXAMPLE_HASH: &str =
    "6f5902ac237024bdd0c176cb93063dc4f9b4b2c6b8a6a2f1c2f3d6e0a7c1b2d3";
const EXAMPLE_NOTE: &str = "keyward-5a17c0ffee15600d\n2\nb1kCrCNwJL3QwXbLkwY9xPm0tmy4pqLxwvPW4KfBstM=\nhead 6f5902ac237024bdd0c176cb93063dc4f9b4b2c6b8a6a2f1c2f3d6e0a7c1b2d3\ntime 2026-01-20T10:00:30.000Z\n\n\u{2014} keyward-5a17c0ffee15600d ChssPQAAAAAAAAAA\n";

/// A signed statement of the size and the hashes of the audit log at one time.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Checkpoint)]
pub struct CheckpointBody {
    /// The number of events.
    #[schema(example = 2, minimum = 1)]
    size: i64,
    /// When the checkpoint was made.
    #[schema(format = DateTime, example = "2026-01-20T10:00:30.000Z")]
    time: String,
    /// The hash of the newest of these events, in hexadecimal.
    #[schema(pattern = "^[0-9a-f]{64}$", example = json!(EXAMPLE_HASH))]
    head: String,
    /// The signed note: origin, size, root of the Merkle tree, `head`, `time`, signature.
    #[schema(example = json!(EXAMPLE_NOTE))]
    note: String,
}

/// A page of checkpoints.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = CheckpointList)]
pub struct CheckpointListBody {
    /// The checkpoints of this page.
    pub data: Vec<CheckpointBody>,
    /// The `cursor` of the next page; `null` on the last page.
    #[schema(required)]
    pub next_cursor: Option<String>,
}

/// The public key that verifies checkpoints.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = CheckpointKey)]
pub struct CheckpointKeyBody {
    /// The origin in every checkpoint.
    #[schema(example = "keyward-5a17c0ffee15600d")]
    name: String,
    /// The Ed25519 key in the text form of C2SP signed-note.
    #[schema(
        example = "keyward-5a17c0ffee15600d+0a1b2c3d+AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
    )]
    public_key: String,
}

/// A proof that an event is in the log of `size` events. Hashes are in hexadecimal.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = EventProof)]
pub struct EventProofBody {
    /// The number of the event. The event is leaf `seq - 1` of the tree.
    #[schema(example = 1, minimum = 1)]
    seq: u64,
    /// The size of the log that the proof is about.
    #[schema(example = 2, minimum = 1)]
    size: u64,
    /// SHA-256 over a zero byte and the event's `hash`.
    #[schema(pattern = "^[0-9a-f]{64}$", example = json!(EXAMPLE_HASH))]
    leaf_hash: String,
    /// The root of the tree of `size` leaves.
    #[schema(pattern = "^[0-9a-f]{64}$", example = json!(EXAMPLE_HASH))]
    root_hash: String,
    /// The audit path of RFC 6962, section 2.1.1, from the leaf upwards.
    #[schema(example = json!([EXAMPLE_HASH]))]
    path: Vec<String>,
    /// The signed checkpoint of this size; `null` if there is none of exactly this size.
    #[schema(required, example = json!(EXAMPLE_NOTE))]
    note: Option<String>,
}

/// A proof that the first `to` events start with the first `from` events. Hashes are in
/// hexadecimal.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = ConsistencyProof)]
pub struct ConsistencyProofBody {
    /// The older size.
    #[schema(example = 1, minimum = 1)]
    from: u64,
    /// The newer size.
    #[schema(example = 2, minimum = 1)]
    to: u64,
    /// The root of the tree of `from` leaves.
    #[schema(pattern = "^[0-9a-f]{64}$", example = json!(EXAMPLE_HASH))]
    from_root_hash: String,
    /// The root of the tree of `to` leaves.
    #[schema(pattern = "^[0-9a-f]{64}$", example = json!(EXAMPLE_HASH))]
    to_root_hash: String,
    /// The proof of RFC 6962, section 2.1.2; empty if both sizes are the same.
    #[schema(example = json!([EXAMPLE_HASH]))]
    path: Vec<String>,
}

impl From<StoredCheckpoint> for CheckpointBody {
    fn from(it: StoredCheckpoint) -> Self {
        let (time, head) = (it.time.to_string(), it.head.to_string());
        Self { size: it.size, time, head, note: it.note }
    }
}

impl From<&CheckpointKey> for CheckpointKeyBody {
    fn from(key: &CheckpointKey) -> Self {
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
