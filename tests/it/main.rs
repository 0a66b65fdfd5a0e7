//! The integration suite: one binary, the real server, a real SQLite file.

#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::string_slice,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

mod support;

mod accounts;
mod accounts_apart;
mod bad_input;
mod envelope;
mod events;
mod keys_create;
mod keys_list;
mod keys_revoke;
mod keys_update;
mod verify;
