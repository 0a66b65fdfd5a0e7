//! The operations of the API. Each handler parses its input, runs one use case and answers.

pub(super) mod accounts;
pub(super) mod checkpoints;
pub(super) mod console_links;
pub(crate) mod events;
pub(super) mod keys;
pub(super) mod leaked_keys;
pub(super) mod rotation;
pub(super) mod scopes;
pub mod stream;
pub(super) mod tokens;
pub(super) mod usage;

mod idempotency;
mod key_request;
pub(crate) mod revision;
