//! The integration suite: one binary, the real server, a real SQLite file.

#![expect(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::format_collect,
    clippy::panic,
    clippy::print_stderr,
    clippy::string_slice,
    clippy::unchecked_time_subtraction,
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a test that panics has said what it had to say; and it looks behind the curtain"
)]

mod support;

mod accounts;
mod accounts_apart;
mod audit_cli;
mod audit_log;
mod authorization;
mod authz;
mod authz_keys;
mod backup;
mod bad_input;
mod checkpoints;
mod cli;
mod cli_json;
mod cli_keys;
mod crash;
mod denials;
mod doctor;
mod envelope;
mod events;
mod import;
mod import_files;
mod janitor;
mod keys_create;
mod keys_list;
mod keys_revoke;
mod keys_update;
mod listen;
mod manual;
mod metrics;
mod migrations;
mod model;
mod openapi;
mod outage;
mod proxies;
mod remote;
mod rotation;
mod rotation_self;
mod routes;
mod secrets;
mod storage;
mod stream;
mod stream_ends;
mod supervised;
mod tail;
mod terminal;
mod tidy;
mod time;
mod traefik;
mod turns;
mod usage;
mod verify;
mod writer;
