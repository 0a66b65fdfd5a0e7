//! Signed checkpoints: the state of the log in a form that other tools can check.
//!
//! A checkpoint is the text of [C2SP tlog-checkpoint](https://c2sp.org/tlog-checkpoint): origin,
//! size and tree hash on a line each, then two lines of our own: the hash of the newest event and
//! the time. It is a [C2SP signed-note](https://c2sp.org/signed-note), signed with Ed25519 (RFC
//! 8032). Keys have the text form of signed-note.

use std::fmt;

use base64ct::{Base64, Encoding};
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use pbkdf2::sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::{
    domain::{event::ChainHash, merkle::TreeHash},
    env::{Entropy, Timestamp},
};

/// The number of Ed25519 in signed-note.
const ED25519: u8 = 1;
const PRIVATE: &str = "PRIVATE+KEY+";

/// The state of the log when it had `size` events.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Checkpoint {
    /// The origin: the name of the key that signs.
    pub origin: String,
    pub size: u64,
    /// The root of the Merkle tree over the events.
    pub root: TreeHash,
    /// The hash of the newest event.
    pub head: ChainHash,
    pub time: Timestamp,
}

/// Signs checkpoints. The key is wiped from memory on drop.
#[derive(Clone)]
pub struct CheckpointSigner {
    public: CheckpointKey,
    key: SigningKey,
}

/// Checks the signatures of one key.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CheckpointKey {
    name: String,
    id: [u8; 4],
    key: VerifyingKey,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum CheckpointError {
    #[error("this is not a key of the form name+hash+base64")]
    Key,
    #[error("this is not a signed note with a checkpoint of keyward's in it")]
    Form,
    #[error("the key did not sign this note")]
    Unsigned,
    #[error("the signature is wrong")]
    Forged,
}

impl CheckpointSigner {
    /// Generates a key with this name.
    pub fn generate(name: &str, entropy: &dyn Entropy) -> Self {
        let mut seed = Zeroizing::new([0; 32]);
        entropy.fill(&mut *seed);
        Self::new(name, &seed)
    }

    fn new(name: &str, seed: &[u8; 32]) -> Self {
        let key = SigningKey::from_bytes(seed);
        Self { public: CheckpointKey::new(name, key.verifying_key()), key }
    }

    /// Reads the output of [`CheckpointSigner::expose`].
    pub fn parse(text: &str) -> Result<Self, CheckpointError> {
        let rest = text.trim_end().strip_prefix(PRIVATE).ok_or(CheckpointError::Key)?;
        let (name, id, encoded) = fields(rest)?;
        let decoded =
            Zeroizing::new(Base64::decode_vec(encoded).map_err(|_| CheckpointError::Key)?);
        let Some((&ED25519, seed)) = decoded.split_first() else {
            return Err(CheckpointError::Key);
        };
        let signer = Self::new(name, seed.try_into().map_err(|_| CheckpointError::Key)?);
        if signer.public.id == id { Ok(signer) } else { Err(CheckpointError::Key) }
    }

    /// Returns the private key as text.
    pub fn expose(&self) -> Zeroizing<String> {
        let mut secret = Zeroizing::new(vec![ED25519]);
        secret.extend_from_slice(self.key.as_bytes());
        let encoded = Zeroizing::new(Base64::encode_string(&secret));
        let CheckpointKey { name, id, .. } = &self.public;
        Zeroizing::new(format!("{PRIVATE}{name}+{:08x}+{}", u32::from_be_bytes(*id), *encoded))
    }

    pub fn public(&self) -> &CheckpointKey {
        &self.public
    }

    /// Returns the checkpoint as a signed note.
    pub fn sign(&self, checkpoint: &Checkpoint) -> String {
        let text = checkpoint.to_string();
        let mut signature = self.public.id.to_vec();
        signature.extend_from_slice(&self.key.sign(text.as_bytes()).to_bytes());
        let encoded = Base64::encode_string(&signature);
        format!("{text}\n\u{2014} {} {encoded}\n", self.public.name)
    }
}

impl fmt::Debug for CheckpointSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CheckpointSigner").field("public", &self.public).finish_non_exhaustive()
    }
}

impl CheckpointKey {
    fn new(name: &str, key: VerifyingKey) -> Self {
        let mut hasher = Sha256::new();
        hasher.update(name);
        hasher.update([b'\n', ED25519]);
        hasher.update(key.as_bytes());
        let [a, b, c, d, ..]: [u8; 32] = hasher.finalize().into();
        Self { name: name.to_owned(), id: [a, b, c, d], key }
    }

    /// Reads the output of [`fmt::Display`].
    pub fn parse(text: &str) -> Result<Self, CheckpointError> {
        let (name, id, encoded) = fields(text.trim_end())?;
        let decoded = Base64::decode_vec(encoded).map_err(|_| CheckpointError::Key)?;
        let Some((&ED25519, key)) = decoded.split_first() else { return Err(CheckpointError::Key) };
        let key = key.try_into().map_err(|_| CheckpointError::Key)?;
        let key = VerifyingKey::from_bytes(key).map_err(|_| CheckpointError::Key)?;
        let public = Self::new(name, key);
        if public.id == id { Ok(public) } else { Err(CheckpointError::Key) }
    }

    /// Returns the name of the log whose checkpoints this key signs.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the checkpoint in this signed note, if this key signed it. Ignores other signatures.
    pub fn open(&self, note: &str) -> Result<Checkpoint, CheckpointError> {
        let (text, signatures) = parts(note)?;
        for line in signatures.lines() {
            let rest = line.strip_prefix("\u{2014} ").ok_or(CheckpointError::Form)?;
            let (name, encoded) = rest.split_once(' ').ok_or(CheckpointError::Form)?;
            let decoded = Base64::decode_vec(encoded).map_err(|_| CheckpointError::Form)?;
            let (id, signature) = decoded.split_at_checked(4).ok_or(CheckpointError::Form)?;
            if name != self.name || id != self.id {
                continue;
            }
            let signature =
                Signature::from_slice(signature).map_err(|_| CheckpointError::Forged)?;
            let genuine = self.key.verify_strict(text.as_bytes(), &signature);
            genuine.map_err(|_| CheckpointError::Forged)?;
            return Checkpoint::parse(text)
                .filter(|it| it.origin == self.name)
                .ok_or(CheckpointError::Form);
        }
        Err(CheckpointError::Unsigned)
    }
}

impl fmt::Display for CheckpointKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut public = vec![ED25519];
        public.extend_from_slice(self.key.as_bytes());
        let id = u32::from_be_bytes(self.id);
        write!(f, "{}+{id:08x}+{}", self.name, Base64::encode_string(&public))
    }
}

impl Checkpoint {
    /// Reads exactly the output of [`fmt::Display`].
    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        let origin = lines.next()?.to_owned();
        let size = lines.next()?.parse().ok()?;
        let root = TreeHash(hash(lines.next()?)?);
        let head = ChainHash(hash(lines.next()?.strip_prefix("head ")?)?);
        let time = Timestamp::parse(lines.next()?.strip_prefix("time ")?).ok()?;
        let checkpoint = Self { origin, size, root, head, time };
        (checkpoint.to_string() == text).then_some(checkpoint)
    }

    /// Returns the checkpoint in a signed note without a check of its signatures. Trust it only as
    /// much as the disk that it comes from.
    pub fn unverified(note: &str) -> Result<Self, CheckpointError> {
        Self::parse(parts(note)?.0).ok_or(CheckpointError::Form)
    }
}

impl fmt::Display for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (root, head) =
            (Base64::encode_string(&self.root.0), Base64::encode_string(&self.head.0));
        let Self { origin, size, time, .. } = self;
        write!(f, "{origin}\n{size}\n{root}\nhead {head}\ntime {time}\n")
    }
}

/// Splits a signed note into its text, with the last newline, and its signatures.
fn parts(note: &str) -> Result<(&str, &str), CheckpointError> {
    let cut = note.rfind("\n\n").ok_or(CheckpointError::Form)?;
    let (text, signatures) = note.split_at_checked(cut + 1).ok_or(CheckpointError::Form)?;
    Ok((text, signatures.strip_prefix('\n').unwrap_or(signatures)))
}

fn hash(encoded: &str) -> Option<[u8; 32]> {
    Base64::decode_vec(encoded).ok()?.try_into().ok()
}

/// Splits `name+hash+base64`. A name has neither blanks nor a plus.
fn fields(text: &str) -> Result<(&str, [u8; 4], &str), CheckpointError> {
    let mut parts = text.splitn(3, '+');
    let (Some(name), Some(id), Some(encoded)) = (parts.next(), parts.next(), parts.next()) else {
        return Err(CheckpointError::Key);
    };
    let plain = !name.is_empty() && !name.chars().any(|it| it.is_whitespace() || it.is_control());
    let id = u32::from_str_radix(id, 16).ok().filter(|it| format!("{it:08x}") == id);
    let id = id.filter(|_| plain).ok_or(CheckpointError::Key)?;
    Ok((name, id.to_be_bytes(), encoded))
}

#[cfg(test)]
mod tests;
