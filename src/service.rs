//! The use cases: what the program does.
//!
//! All functions are plain and blocking, except the look-ups that touch no disk. Callers on an async
//! runtime run the others on a thread of their own.

mod accounts;
mod audit;
mod authorizer;
mod backup;
mod bootstrap;
mod change;
mod change_budget;
mod checkpoints;
mod deferred_events;
mod denials;
mod ended_credentials;
mod error;
mod events;
mod expiry;
mod forward_auth;
mod idempotency;
mod identify;
mod import;
mod janitor;
mod kdf_pool;
mod keys;
mod keyward;
mod mint;
mod principal;
mod readiness;
mod rotate;
mod settings;
mod statistics;
#[cfg(test)]
mod tests;
mod usage;
mod verify;
mod view;

pub use self::{
    accounts::{AccountDraft, AccountPatch, NewAccount},
    audit::{Audit, Finding, Sound},
    backup::{
        BackupError, BackupRules, MadeBackup, check_backup, compare_digest, is_backup,
        keep_before_migration, own_backups,
    },
    bootstrap::{RootKey, RootKeyReset, write_key_file},
    change::CallerSource,
    change_budget::{ChangePermit, ChangeRate},
    checkpoints::{Checkpointer, EventProof, Mismatch, check_against_checkpoints},
    denials::DeniedCall,
    error::{Conflict, Denial, Error, Fault},
    events::{EventPage, EventView, OPERATOR, Viewer},
    expiry::{Expiry, Gain},
    forward_auth::OriginalRequest,
    idempotency::{Answer, AnswerKeeper, Attempt, FirstAttempt, IdempotentCall},
    identify::{Identity, Rehashed, SecretVerification, Unverified, Upgrade},
    import::{DryRunCounts, ImportOutcome, ImportRow, Imported},
    kdf_pool::QueueFull,
    keys::{IssuedKey, KeyPatch, NewKey},
    keyward::Keyward,
    mint::Minted,
    principal::{KeyAccess, KeyChange, Presented, Principal},
    readiness::LEAST_FREE,
    settings::Settings,
    statistics::Statistics,
    verify::{KeyOwner, Verification},
    view::{KeyView, PreviousCredential},
};
use self::{
    authorizer::Authorizer,
    change::{Change, Checks},
};
pub use crate::domain::job::Job;
/// Types of the store that other layers may use as they are.
pub use crate::store::{
    AccountPage, Census, DayOfUse, EventFilter, KeyFilter, KeyPage, LogFile, StoredCheckpoint,
};
