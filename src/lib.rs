//! keyward: a self-hosted API-key server.
//!
//! The layers from bottom to top; each names only layers below it (`tests/it/tidy.rs`).
//! [`mod@env`]: time and randomness. [`domain`]: the rules about keys. [`store`]: all SQL, and the
//! key index in memory. [`service`]: the use cases. [`http`]: the HTTP interface. [`jobs`]: the
//! schedule. [`server`]: builds, starts and stops the program. [`cli`]: the command line. See
//! `docs/architecture.md`.

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

#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
