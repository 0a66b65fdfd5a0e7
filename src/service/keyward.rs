//! The application object.

use std::sync::{Arc, Mutex, OnceLock, atomic::AtomicBool};

use arc_swap::ArcSwapOption;

use crate::{
    domain::{
        imported_key::PrefixMaker,
        policy::Policy,
        scope::{Catalogue, ScopeBits},
    },
    env::Env,
    service::{
        Authorizer, Checkpointer, Error, Settings, bootstrap::InitialKeyFile, change::Writes,
        change_budget::ChangeBudget, denials::DenialRecorder, kdf_pool::KdfPool, put_off::PutOff,
        readiness, statistics, usage::UsageRecorder, webhooks::WebhookReports,
    },
    store::{Divergence, StorageFault, Store, StoreError, StoreWriter},
};

/// The application. One for each process, shared by the server, the jobs and the command line.
#[derive(Debug)]
pub struct Keyward {
    /// Reads only; see [`Writes`].
    pub(super) store: Store,
    pub(super) writes: Writes,
    pub(super) env: Env,
    pub(super) settings: Arc<Settings>,
    pub(super) authorizer: Arc<Authorizer>,
    pub(super) kdf_pool: KdfPool,
    pub(super) usage: UsageRecorder,
    pub(super) denials: DenialRecorder,
    pub(super) put_off: PutOff,
    pub(super) checkpointer: Checkpointer,
    pub(super) initial_key_file: InitialKeyFile,
    pub(super) policy: ArcSwapOption<Policy>,
    /// Whether a CORS preflight request needs no key.
    pub(super) allow_preflight: AtomicBool,
    /// Allows one backup at a time.
    pub(super) backup_turn: Mutex<()>,
    pub(super) statistics: Mutex<statistics::Remembered>,
    pub(super) readiness: Mutex<readiness::Remembered>,
    pub(super) draining: AtomicBool,
    /// Set once any key was imported.
    pub(super) imported_prefixes: OnceLock<PrefixMaker>,
    /// Whether no key has more ended credentials than are kept: see `ended_credentials`.
    pub(super) ended_bounded: AtomicBool,
    pub(super) change_budget: ChangeBudget,
    pub(super) webhook_reports: WebhookReports,
}

impl Keyward {
    pub fn new(
        (store, writer): (Store, StoreWriter),
        env: Env,
        catalogue: Arc<Catalogue>,
        settings: Settings,
        checkpointer: Checkpointer,
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
            put_off: PutOff::default(),
            checkpointer,
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
            webhook_reports: WebhookReports::default(),
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
