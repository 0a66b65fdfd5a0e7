//! The operations of the API: parse, run, answer.

pub(super) mod accounts;
pub(super) mod checkpoints;
pub(super) mod events;
pub(super) mod keys;
pub(super) mod rotation;
pub(super) mod scopes;
pub mod stream;
pub(super) mod usage;

mod revision;
