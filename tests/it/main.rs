//! The integration tests: one binary, the real server, a real SQLite file.

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
mod address_lists;
mod answer_sizes;
mod apply;
mod apply_prune;
mod apply_refused;
mod audit_cli;
mod audit_log;
mod authorization;
mod authz;
mod authz_keys;
mod authz_rules;
mod backup;
mod bad_input;
mod blocks;
mod budgets;
mod checkpoints;
mod cli;
mod cli_json;
mod cli_keys;
mod cli_limits;
mod cli_people;
mod client_addresses;
mod connections;
mod console;
mod console_links;
mod crash;
mod damaged;
mod declarative;
mod denials;
mod dev;
mod dev_guarded;
mod doctor;
mod document;
mod envelope;
mod events;
mod expiring_caller;
mod faulty_disk;
mod first_steps;
mod framing;
mod idempotency;
mod import;
mod import_files;
mod imported_copies;
mod janitor;
mod keys_create;
mod keys_list;
mod keys_of_all;
mod keys_revoke;
mod keys_update;
mod leaked_keys;
mod least_privilege;
mod lifetimes;
mod listen;
mod litestream;
mod manual;
mod memory;
mod metrics;
mod migrations;
mod minting;
mod model;
mod moved_files;
mod notices;
mod openapi;
mod outage;
mod outage_calls;
mod plain_text;
mod plans;
mod processes;
mod proxies;
mod rate_limits;
mod rate_limits_kept;
mod recipes;
mod remote;
mod root_key_file;
mod rotation;
mod rotation_self;
mod routes;
mod scan;
mod secrets;
mod slow_neighbours;
mod storage;
mod stream;
mod stream_ends;
mod strict_input;
mod structure;
mod supervised;
mod tail;
mod terminal;
mod tidy;
mod time;
mod token_clock;
mod token_histories;
mod token_keys;
mod token_status;
mod tokens;
mod turns;
mod unread;
mod usage;
mod verify;
mod versions;
mod webhooks;
mod webhooks_operated;
mod writer;
