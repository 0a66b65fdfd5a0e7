//! What is true of keys, whoever asks and wherever they are kept. Pure: no I/O, no SQL, no HTTP.

pub mod api_key;

pub mod credential;

pub mod key_hash;

pub mod scope;

pub mod request_path;

pub mod policy;

pub mod account;

pub mod event;

pub mod merkle;

pub mod checkpoint;

pub mod verdict;

pub mod imported_key;

pub mod job;

pub mod data_layout;

pub mod id;

pub mod text;

pub mod visible;

mod base62;
