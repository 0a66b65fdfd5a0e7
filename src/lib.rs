//! keyward: a self-hosted API-key server.
//!
//! Read bottom-up, each layer naming only those below it (`tests/it/tidy.rs`): [`mod@env`] asks for
//! time and randomness; [`domain`] knows what is true of keys; [`store`] remembers, and holds all
//! SQL and the in-memory key index; [`service`] does what the program does; [`http`] puts it on the
//! wire and [`jobs`] on the clock; [`server`] builds, starts and stops the whole; [`cli`] is what
//! people type. See `docs/architecture.md`.

pub mod env;

pub mod domain;

pub mod store;

pub mod service;

pub mod telemetry;

pub mod jobs;

pub mod http;

pub mod webhooks;

pub mod config;

pub mod server;

pub mod cli;
