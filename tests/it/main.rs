//! The integration suite: one binary, the real server, a real SQLite file.

mod support;

mod accounts;
mod accounts_apart;
mod audit_log;
mod authorization;
mod bad_input;
mod cli;
mod envelope;
mod events;
mod janitor;
mod keys_create;
mod keys_list;
mod keys_revoke;
mod keys_update;
mod model;
mod openapi;
mod rotation;
mod rotation_self;
mod secrets;
mod storage;
mod tidy;
mod time;
mod usage;
mod verify;
mod writer;
