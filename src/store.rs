//! The SQLite file: one writer, many readers, and the key index that mirrors part of it.
//!
//! This is the only module with SQL. Other modules see [`ReadTx`] and [`WriteTx`], and a [`WriteTx`]
//! changes an audited row only for an [`AuditReceipt`].

mod accounts;
mod applied;
mod audit;
mod audit_head;
mod checkpoints;
mod connection;
mod copy;
mod credentials;
mod database;
mod day;
mod error;
mod import_secrets;
mod index;
mod kept_answers;
mod key_addresses;
mod key_list;
mod key_prefixes;
mod keys;
mod log_file;
mod outage;
mod rate_window;
mod rate_windows;
mod readers;
mod recent_addresses;
mod records;
mod rows;
mod runtime_state;
mod schema;
mod scope_usage;
mod sql_types;
mod startup_check;
mod statistics;
#[cfg(test)]
pub mod steps;
mod storage_fault;
mod time_floor;
mod token_status;
mod tree;
mod tx;
mod usage;
mod used_scopes;
mod webhooks;
mod writer;

pub use self::{
    accounts::{AccountFilter, AccountPage},
    audit::{AuditReceipt, EventFilter},
    audit_head::AuditHead,
    checkpoints::StoredCheckpoint,
    copy::{Census, fold},
    credentials::ExcessCredential,
    database::{Store, StoreWriter},
    day::Day,
    error::{StoreError, may_pass},
    index::{AccountEntry, IndexedCredential, KeyEntry, KeyIndex, KeyLimits, StatusPlace},
    kept_answers::KeptAnswer,
    key_list::{Creator, KeyFilter, KeyPage},
    log_file::LogFile,
    outage::{DirectoryLock, Divergence, LockHolder},
    rate_window::{RateWindow, WindowUse},
    readers::PoolState,
    recent_addresses::SeenAddress,
    records::{KeyRecord, StoredCredential},
    runtime_state::{Counts, RuntimeState, Uses},
    scope_usage::{ScopeDays, scopes_count_since},
    startup_check::{check_startup, try_start},
    statistics::KeyStates,
    storage_fault::StorageFault,
    time_floor::stored_time_floor,
    tx::{ReadTx, WriteTx},
    usage::{CredentialUses, DayOfUse},
};
