//! The rules about keys, accounts and events. Pure: no I/O, no SQL, no HTTP.

pub mod account;
pub mod address_list;
pub mod api_key;
mod base62;
pub mod checkpoint;
pub mod client_address;
pub mod credential;
pub mod data_layout;
pub mod event;
pub mod id;
pub mod imported_key;
pub mod job;
pub mod key_hash;
pub mod key_scan;
pub mod lifetime;
pub mod list_order;
pub mod mask;
pub mod merkle;
mod named;
pub mod network;
pub mod notice;
pub mod plaintext_key;
pub mod policy;
pub mod rate_limit;
pub mod request_path;
pub mod scope;
pub mod sealed_answer;
pub mod status_list;
pub mod text;
pub mod token_key;
pub mod token_keys;
pub mod verdict;
pub mod visible;
pub mod webhook;
pub mod webhook_secret;

pub(crate) use self::named::named_enum;
