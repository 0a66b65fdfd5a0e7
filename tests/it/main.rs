//! The integration suite: one binary, the real server, a real SQLite file.

mod support;

mod audit_log;
mod authorization;
mod cli;
mod janitor;
mod keys_create;
mod model;
mod openapi;
mod rotation;
mod rotation_self;
mod secrets;
mod storage;
mod tidy;
mod time;
mod usage;
mod writer;
