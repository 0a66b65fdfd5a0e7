//! The use cases: what the program does. Plain, blocking functions, save for the look-ups that
//! touch no disk; callers on an async runtime move the others off it.

mod error;

mod principal;

mod expiry;

mod identify;

mod verify;

mod kdf_pool;

mod authorize;

mod keys;

mod mint;

mod put_off;

mod readiness;

mod rotate;

mod change_budget;

mod ended_credentials;

mod statistics;

mod accounts;

mod events;

mod import;

mod checkpoints;

mod audit;

mod backup;

mod view;

mod usage;

mod denials;

mod janitor;

mod bootstrap;

#[cfg(test)]
mod tests;

use std::{
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwapOption;

pub use self::{
    accounts::{AccountDraft, AccountPatch, NewAccount},
    audit::{Audit, Finding, Sound},
    authorize::OriginalRequest,
    backup::{
        BackupError, BackupRules, MadeBackup, check_backup, compare_digest, is_backup,
        keep_before_migration, own_backups,
    },
    bootstrap::{RootKey, RootKeyReset, write_key_file},
    change_budget::{ChangePermit, ChangeRate},
    checkpoints::{Checkpointer, EventProof, Mismatch, hold_to_checkpoints},
    denials::DeniedCall,
    error::{Conflict, Denial, Error, Fault},
    events::{EventPage, EventView, OPERATOR, Viewer},
    expiry::{Expiry, Gain},
    identify::{Identity, Rehashed, SecretVerification, Unverified, Upgrade},
    import::{DryRunCounts, ImportOutcome, ImportRow, Imported},
    janitor::Job,
    kdf_pool::QueueFull,
    keys::{IssuedKey, KeyPatch, NewKey},
    mint::Minted,
    principal::{Change, KeyAccess, Presented, Principal},
    statistics::Statistics,
    verify::{KeyOwner, Verification},
    view::{KeyView, PreviousCredential},
};
use self::{
    bootstrap::InitialKeyFile, change_budget::ChangeBudget, denials::DenialRecorder,
    kdf_pool::KdfPool, put_off::PutOff, statistics::Remembered, usage::UsageRecorder,
};
/// Questions to the store that the outside may ask as they are.
pub use crate::store::{
    AccountPage, Census, DayOfUse, EventFilter, KeyFilter, KeyPage, LogFile, StoredCheckpoint,
};
use crate::{
    domain::{credential::Brand, imported_key::PrefixMaker, policy::Policy, scope::Catalogue},
    env::Env,
    store::{Divergence, StorageFault, Store, StoreError},
};

/// The application, whole. One per process; shared by the server, the jobs and the command line.
#[derive(Debug)]
pub struct Keyward {
    store: Store,
    env: Env,
    rules: Arc<Rules>,
    kdf_pool: KdfPool,
    usage: UsageRecorder,
    denials: DenialRecorder,
    put_off: PutOff,
    checkpointer: Checkpointer,
    initial_key_file: InitialKeyFile,
    policy: ArcSwapOption<Policy>,
    /// One backup at a time.
    backup_turn: Mutex<()>,
    statistics: Mutex<Remembered>,
    readiness: Mutex<readiness::Remembered>,
    draining: AtomicBool,
    /// Set once any key was imported.
    imported_prefixes: OnceLock<PrefixMaker>,
    /// No key has more ended credentials than are kept: see [`ended_credentials`].
    ended_bounded: AtomicBool,
    changes: ChangeBudget,
}

/// What the operator decided.
#[derive(Debug)]
pub struct Rules {
    pub catalogue: Arc<Catalogue>,
    /// What new keys begin with.
    pub brand: Brand,
    /// How long a rotated value stays valid unless the request says otherwise.
    pub rotation_grace: Duration,
    /// What new hashes cost, and older ones are raised to.
    pub hash_iterations: u32,
    /// Live keys of an account that has no limit of its own.
    pub max_keys: u32,
    /// What each account but the operator's may change.
    pub change_rate: ChangeRate,
    /// How long dead keys and values are remembered.
    pub retention: Duration,
    /// Whether a browser's question before a request from another origin needs no key.
    pub allow_preflight: AtomicBool,
    /// How many rows a job changes in one transaction.
    pub batch: u32,
    pub backup: BackupRules,
}

impl Rules {
    /// May change while the server runs.
    pub fn set_allow_preflight(&self, allow: bool) {
        self.allow_preflight.store(allow, Ordering::Relaxed);
    }
}

impl Keyward {
    pub fn new(
        store: Store,
        env: Env,
        rules: Rules,
        checkpointer: Checkpointer,
    ) -> Result<Self, Error> {
        let brand = rules.brand;
        let (mut brands, import_secret) =
            store.read::<_, Error>(|tx| Ok((tx.brands()?, tx.import_secret()?)))?;
        // A start that has nothing new to say writes nothing: the storage may take no changes.
        if !brands.contains(&brand) {
            store.write(move |tx| tx.remember_brand(brand))?;
            brands.push(brand);
        }
        let kdf_pool = KdfPool::new(&*env.entropy, brands, rules.hash_iterations);
        Ok(Self {
            store,
            env,
            rules: Arc::new(rules),
            kdf_pool,
            usage: UsageRecorder::default(),
            denials: DenialRecorder::default(),
            put_off: PutOff::default(),
            checkpointer,
            initial_key_file: InitialKeyFile::default(),
            policy: ArcSwapOption::empty(),
            backup_turn: Mutex::default(),
            statistics: Mutex::default(),
            readiness: Mutex::default(),
            draining: AtomicBool::new(false),
            imported_prefixes: import_secret
                .map_or_else(OnceLock::new, |it| OnceLock::from(PrefixMaker::new(it))),
            ended_bounded: AtomicBool::new(false),
            changes: ChangeBudget::default(),
        })
    }

    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    pub fn env(&self) -> &Env {
        &self.env
    }

    /// Why nothing can be stored any more, if that is so; the process must end.
    pub fn divergence(&self) -> Option<&Divergence> {
        self.store.divergence()
    }

    /// Whether a change would reach the disk now.
    pub fn probe(&self) -> Result<(), Error> {
        Ok(self.store.write(|tx| {
            tx.touch_disk()?;
            Ok::<_, StoreError>(())
        })?)
    }

    /// Why changes are refused at the moment, if they are, and how often that happened.
    pub fn storage(&self) -> (Option<StorageFault>, u64) {
        (self.store.storage_fault(), self.store.storage_failures())
    }

    /// How many first uses of keys wait for their derivation.
    pub fn waiting_verifications(&self) -> usize {
        self.kdf_pool.waiting()
    }

    /// How many key values are known.
    pub fn credential_count(&self) -> usize {
        self.store.index().len()
    }

    /// The sizes of the database and of its write-ahead log, in bytes.
    pub fn file_sizes(&self) -> (u64, u64) {
        self.store.file_sizes()
    }

    /// Recomputes the whole audit chain. Returns the first event that does not fit, if any.
    pub fn first_broken_event(&self) -> Result<Option<i64>, Error> {
        Ok(self.store.read::<_, StoreError>(|tx| tx.first_broken_event(0))?)
    }
}
