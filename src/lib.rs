//! keyward: a self-hosted API-key server.

pub mod env;

pub mod domain;

pub mod store;

pub mod service;

pub mod config;
