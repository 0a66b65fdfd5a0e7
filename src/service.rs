//! The use cases: what the program does.
//!
//! All functions are plain and blocking, except the look-ups that touch no disk. Callers on an async
//! runtime run the others on a thread of their own.

mod accounts;
mod audit;
mod authorize;
mod authorizer;
mod backup;
mod bootstrap;
mod change;
mod change_budget;
mod checkpoints;
mod denials;
mod ended_credentials;
mod error;
mod events;
mod expiry;
mod identify;
mod import;
mod janitor;
mod kdf_pool;
mod keys;
mod keyward;
mod mint;
mod principal;
mod put_off;
mod readiness;
mod rotate;
mod settings;
mod statistics;
#[cfg(test)]
mod tests;
mod usage;
mod verify;
mod view;
mod webhooks;

pub use self::{
    accounts::{AccountDraft, AccountPatch, NewAccount},
    audit::{Audit, Finding, Sound},
    authorize::OriginalRequest,
    backup::{
        BackupError, BackupRules, MadeBackup, check_backup, compare_digest, is_backup,
        keep_before_migration, own_backups,
    },
    bootstrap::{RootKey, RootKeyReset, write_key_file},
    change::CallerSource,
    change_budget::{ChangePermit, ChangeRate},
    checkpoints::{Checkpointer, EventProof, Mismatch, hold_to_checkpoints},
    denials::DeniedCall,
    error::{Conflict, Denial, Error, Fault},
    events::{EventPage, EventView, OPERATOR, Viewer},
    expiry::{Expiry, Gain},
    identify::{Identity, Rehashed, SecretVerification, Unverified, Upgrade},
    import::{DryRunCounts, ImportOutcome, ImportRow, Imported},
    kdf_pool::QueueFull,
    keys::{IssuedKey, KeyPatch, NewKey},
    keyward::Keyward,
    mint::Minted,
    principal::{KeyAccess, KeyChange, Presented, Principal},
    settings::Settings,
    statistics::Statistics,
    verify::{KeyOwner, Verification},
    view::{KeyView, PreviousCredential},
    webhooks::{Webhook, WebhookStatus},
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
