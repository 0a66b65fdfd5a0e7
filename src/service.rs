//! The use cases: what the program does.
//!
//! All functions are plain and blocking, except the look-ups that touch no disk. Callers on an async
//! runtime run the others on a thread of their own.

mod accounts;
mod apply;
mod audit;
mod authorizer;
mod backup;
mod bootstrap;
mod change;
mod change_budget;
mod checkpoints;
mod client_addresses;
mod console_links;
mod deferred_events;
mod denials;
mod development;
mod ended_credentials;
mod error;
mod events;
mod exchanges;
mod faults;
mod files;
mod forward_auth;
mod idempotency;
mod identify;
mod import;
mod janitor;
mod kdf_pool;
mod keys;
mod leak_reports;
mod limits;
mod mint;
mod notices;
mod pace;
mod principal;
mod readiness;
mod rotate;
mod settings;
mod statistics;
mod status_list;
#[cfg(test)]
mod tests;
mod token_keys;
mod tokens;
mod usage;
mod verify;
mod view;
mod webhooks;

use std::sync::{Arc, Mutex, OnceLock, atomic::AtomicBool};

use arc_swap::ArcSwapOption;

pub use self::{
    accounts::{AccountDraft, AccountPatch, NewAccount},
    apply::{
        Applied, AppliedAction, AppliedChange, ApplyMode, DeclaredAccount, DeclaredKey, Section,
    },
    audit::{Audit, Finding, Sound},
    backup::{
        BackupError, BackupRules, MadeBackup, check_backup, compare_digest, is_backup,
        keep_before_migration, own_backups,
    },
    bootstrap::{RootKey, RootKeyReset, write_key_file},
    change::CallerSource,
    change_budget::{ChangePermit, ChangeRate},
    checkpoints::{Checkpointer, EventProof, Mismatch, check_against_checkpoints},
    console_links::ConsoleLinkDraft,
    denials::DeniedCall,
    development::SampleKey,
    error::{Conflict, Denial, Error, TokenRefusal, with_causes},
    events::{ActorNames, EventPage, EventView, OPERATOR, Viewer},
    faults::{Fault, Faults},
    files::{parent, read_text, replace_file},
    forward_auth::OriginalRequest,
    idempotency::{Answer, AnswerKeeper, Attempt, FirstAttempt, IdempotentCall},
    identify::{Identity, Rehashed, SecretVerification, Unverified, Upgrade},
    import::{DryRunCounts, ImportOutcome, ImportRow, Imported},
    kdf_pool::QueueFull,
    keys::{
        IssuedKey, KeyPatch, NewKey,
        expiry::{Expiry, Gain},
    },
    leak_reports::LeakEffects,
    limits::Question,
    mint::Minted,
    principal::{KeyAccess, KeyChange, Presented, Principal},
    readiness::LEAST_FREE,
    settings::{Settings, TokenRules},
    statistics::Statistics,
    status_list::{ListTurn, StatusList},
    token_keys::TokenKeyRing,
    tokens::{IssuedToken, TokenTerms},
    verify::{KeyOwner, Verification},
    view::{KeyView, PreviousCredential},
    webhooks::{Webhook, WebhookStatus},
};
use self::{
    authorizer::Authorizer,
    bootstrap::InitialKeyFile,
    change::{Change, Checks, Writes},
    change_budget::ChangeBudget,
    deferred_events::DeferredEvents,
    denials::DenialRecorder,
    exchanges::ExchangeRecorder,
    idempotency::RunningRequests,
    kdf_pool::KdfPool,
    leak_reports::ReportLimit,
    status_list::StatusLists,
    usage::UsageRecorder,
    webhooks::WebhookReports,
};
pub use crate::domain::job::Job;
/// Types of the store that other layers may use as they are.
pub use crate::store::{
    AccountFilter, AccountPage, Census, Creator, DayOfUse, EventFilter, KeyFilter, KeyPage,
    LogFile, SeenAddress, StoredCheckpoint,
};
use crate::{
    domain::{
        imported_key::PrefixMaker,
        policy::Policy,
        scope::{Catalogue, ScopeBits},
    },
    env::Env,
    store::{Divergence, StorageFault, Store, StoreError, StoreWriter},
};

/// The application. One for each process, shared by the server, the jobs and the command line.
#[derive(Debug)]
pub struct Keyward {
    /// Reads only; see [`Writes`].
    store: Store,
    writes: Writes,
    env: Env,
    settings: Arc<Settings>,
    authorizer: Arc<Authorizer>,
    kdf_pool: KdfPool,
    usage: UsageRecorder,
    denials: DenialRecorder,
    exchanges: ExchangeRecorder,
    deferred_events: DeferredEvents,
    checkpointer: Checkpointer,
    token_keys: TokenKeyRing,
    status_lists: Arc<StatusLists>,
    initial_key_file: InitialKeyFile,
    policy: ArcSwapOption<Policy>,
    /// Whether a CORS preflight request needs no key.
    allow_preflight: AtomicBool,
    /// Allows one backup at a time.
    backup_turn: Mutex<()>,
    statistics: Mutex<statistics::Remembered>,
    readiness: Mutex<readiness::Remembered>,
    draining: AtomicBool,
    /// Set once any key was imported.
    imported_prefixes: OnceLock<PrefixMaker>,
    /// Whether no key has more ended credentials than are kept: see `ended_credentials`.
    ended_bounded: AtomicBool,
    change_budget: ChangeBudget,
    running_requests: RunningRequests,
    webhook_reports: WebhookReports,
    report_limit: ReportLimit,
}

impl Keyward {
    pub fn new(
        (store, writer): (Store, StoreWriter),
        env: Env,
        catalogue: Arc<Catalogue>,
        settings: Settings,
        (checkpointer, token_keys): (Checkpointer, TokenKeyRing),
    ) -> Result<Self, Error> {
        let label = settings.prefix_label;
        let (mut labels, import_secret) =
            store.read::<_, Error>(|tx| Ok((tx.prefix_labels()?, tx.import_secret()?)))?;
        let is_new = !labels.contains(&label);
        if is_new {
            labels.push(label);
        }
        let kdf_pool = KdfPool::new(&*env.entropy, labels, settings.hash_iterations);
        let app = Self {
            store,
            writes: Writes::new(writer),
            env,
            settings: Arc::new(settings),
            authorizer: Arc::new(Authorizer { catalogue }),
            kdf_pool,
            usage: UsageRecorder::default(),
            denials: DenialRecorder::default(),
            exchanges: ExchangeRecorder::default(),
            deferred_events: DeferredEvents::default(),
            checkpointer,
            token_keys,
            status_lists: Arc::default(),
            initial_key_file: InitialKeyFile::default(),
            policy: ArcSwapOption::empty(),
            allow_preflight: AtomicBool::new(false),
            backup_turn: Mutex::default(),
            statistics: Mutex::default(),
            readiness: Mutex::default(),
            draining: AtomicBool::new(false),
            imported_prefixes: import_secret
                .map_or_else(OnceLock::new, |it| OnceLock::from(PrefixMaker::new(it))),
            ended_bounded: AtomicBool::new(false),
            change_budget: ChangeBudget::default(),
            running_requests: RunningRequests::default(),
            webhook_reports: WebhookReports::default(),
            report_limit: ReportLimit::default(),
        };
        // A start with a known label writes nothing: the storage may take no changes.
        if is_new {
            app.system_change(move |tx| tx.remember_prefix_label(label))?;
        }
        Ok(app)
    }

    /// The scopes that keys may have.
    pub fn catalogue(&self) -> &Catalogue {
        &self.authorizer.catalogue
    }

    /// Returns whether `powers` include one of the scopes `any_of`.
    pub fn permits(&self, powers: ScopeBits, any_of: &[&'static str]) -> bool {
        self.authorizer.permits(powers, any_of)
    }

    pub fn env(&self) -> &Env {
        &self.env
    }

    /// Returns why no change can be stored any more; the process must end then.
    pub fn divergence(&self) -> Option<&Divergence> {
        self.store.divergence()
    }

    /// Checks that a change would reach the disk now.
    pub fn probe(&self) -> Result<(), Error> {
        Ok(self.system_change(|tx| {
            tx.touch_disk()?;
            Ok::<_, StoreError>(())
        })?)
    }

    /// Returns why changes are refused at the moment, and how often the storage has failed.
    pub fn storage(&self) -> (Option<StorageFault>, u64) {
        (self.store.storage_fault(), self.store.storage_failures())
    }

    /// Returns how many first uses of keys wait for the verification of their secret.
    pub fn waiting_verifications(&self) -> usize {
        self.kdf_pool.waiting()
    }

    /// Returns the number of credentials in the index.
    pub fn credential_count(&self) -> usize {
        self.store.index().len()
    }

    /// Returns the sizes of the database and of its write-ahead log, in bytes.
    pub fn file_sizes(&self) -> (u64, u64) {
        self.store.file_sizes()
    }

    /// Recomputes the audit chain. Returns the first event that does not fit.
    pub fn first_broken_event(&self) -> Result<Option<i64>, Error> {
        Ok(self.store.read::<_, StoreError>(|tx| tx.first_broken_event(0))?)
    }
}
