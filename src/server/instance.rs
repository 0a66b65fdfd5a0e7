//! The application with its data directory.

use std::{path::Path, sync::Arc};

use super::{
    DataDir, Error, catalogue, data_dir::lost_database, files::configured_policy, root_key_file,
};
use crate::{
    config::Config,
    domain::{
        lifetime::{self, Lifetimes},
        plaintext_key::PlaintextKey,
    },
    env::{Clock, Entropy, Env, SystemClock, SystemEntropy, Timekeeper},
    http::{
        development::Development,
        own_address::local_url,
        stream_limits::{StreamLimits, Streams},
    },
    service::{
        BackupRules, ChangeRate, Job, Keyward, RootKey, Settings, TokenRules,
        check_against_checkpoints, keep_before_migration,
    },
    store::{self, Store, StoreError},
};

/// Rows that a job changes in one transaction.
const JOB_BATCH: u32 = 100;

/// The application with the directory that it owns, before it listens anywhere.
#[derive(Debug)]
pub struct Instance {
    pub app: Arc<Keyward>,
    pub streams: Arc<Streams>,
    pub dir: DataDir,
    /// The URL of the server as it is configured, for links.
    pub url: String,
    /// The parts that only development mode has.
    pub development: Option<Arc<Development>>,
}

/// The purpose for which an instance is opened.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Purpose {
    Serve,
    /// One command, which may work without the key that signs checkpoints.
    Command,
    /// `keyward dev`.
    Development,
}

/// The clock and the randomness of an instance.
pub struct Sources {
    pub clock: Arc<dyn Clock>,
    pub entropy: Arc<dyn Entropy>,
}

impl Sources {
    /// Those of this machine.
    pub fn system() -> Self {
        Self { clock: Arc::new(SystemClock::new()), entropy: Arc::new(SystemEntropy) }
    }
}

impl Instance {
    /// Takes the data directory and opens it for a server.
    pub fn open(config: &Config, sources: Sources) -> Result<Self, Error> {
        let dir = DataDir::take(&config.data_dir)?;
        Self::open_in(dir, config, sources, Purpose::Serve)
    }

    /// Opens a data directory that was taken before. If the storage can be read but accepts no changes,
    /// the instance verifies keys and refuses changes until it does.
    pub fn open_in(
        dir: DataDir,
        config: &Config,
        sources: Sources,
        purpose: Purpose,
    ) -> Result<Self, Error> {
        Self::assemble(dir, config, sources, purpose)
            .map_err(|err| err.in_the_directory(&config.data_dir))
    }

    fn assemble(
        dir: DataDir,
        config: &Config,
        Sources { clock, entropy }: Sources,
        purpose: Purpose,
    ) -> Result<Self, Error> {
        let database = dir.layout().database();
        lost_database(dir.layout()).map_or(Ok(()), Err)?;
        let floor = store::stored_time_floor(&database)?;
        let env = Env { time: Arc::new(Timekeeper::start(clock, floor)), entropy };
        let catalogue = Arc::new(catalogue(config));
        keep_before_migration(dir.layout()).map_err(Error::Migration)?;
        let store = Store::open(&database, &env, &catalogue)?;
        store.0.watch_lock(dir.lock());
        if purpose == Purpose::Serve {
            store.0.read(|tx| {
                tx.refuse_development()?;
                Ok::<_, StoreError>(())
            })?;
        }
        let policy = configured_policy(config, &catalogue)?;
        // Everything that can refuse this start comes before the first change of a file.
        let token_keys = dir.token_keys()?;
        let key_file = config.audit.checkpoint_key.as_deref();
        let checkpointer = match purpose {
            Purpose::Serve | Purpose::Development => dir.checkpointer(key_file, &env),
            Purpose::Command => dir.checkpointer_of_command(key_file, &env),
        }?;
        store.0.read(|tx| {
            check_against_checkpoints(tx, checkpointer.key(), &dir.layout().checkpoint())
        })?;
        let keys = (checkpointer, token_keys);
        let app = Arc::new(Keyward::new(store, env, catalogue, settings(config), keys)?);
        app.use_policy(policy);
        app.set_allow_preflight(config.authz.allow_preflight);
        app.watch_initial_key(&dir.layout().initial_root_key());
        let streams = Arc::new(Streams::new(StreamLimits::default()));
        let url = config.public_url.clone().unwrap_or_else(|| local_url(&config.first_url()));
        Ok(Self { app, streams, dir, url, development: None })
    }

    /// Makes the root key if there is none; see [`Keyward::first_start`].
    pub fn first_start(
        &self,
        deliver: impl FnOnce(&PlaintextKey) -> Result<(), StoreError>,
    ) -> Result<Option<RootKey>, Error> {
        let layout = self.dir.layout();
        let made = self.app.first_start(deliver);
        let made = made.map_err(|err| Error::from(err).in_the_directory(layout.root()))?;
        self.app.watch_initial_key(&layout.initial_root_key());
        Ok(made)
    }

    /// Makes the operator account with the root key in `file`, unless there is one.
    pub fn provide_root_key(&self, file: &Path) -> Result<(), Error> {
        let path = file.display();
        if self.app.has_operator()? {
            tracing::info!(%path, "root_key_file is ignored: there is a root key already");
            return Ok(());
        }
        let provided = root_key_file::read(file)?;
        let made = self.app.provide_root_key(provided);
        let id = made.map_err(|err| Error::from(err).in_the_directory(self.dir.layout().root()))?;
        tracing::info!(%path, key.id = %id, "the file provided the root key");
        Ok(())
    }

    /// Stores what is only in memory and folds the write-ahead log. After this the database file is
    /// complete.
    pub fn close(&self) -> Result<(), Error> {
        self.app.flush_usage()?;
        self.app.keep_time()?;
        self.app.make_checkpoint()?;
        self.app.run_job(Job::Upkeep, &|| true)?;
        Ok(())
    }
}

/// Returns the settings of the application.
fn settings(config: &Config) -> Settings {
    Settings {
        prefix_label: config.keys.prefix,
        rotation_grace: config.keys.rotation_grace,
        hash_iterations: config.keys.hash_iterations,
        max_keys: config.keys.max_keys_per_account,
        lifetimes: Lifetimes {
            max: config.keys.max_lifetime.map(lifetime::whole_seconds),
            default: config.keys.default_lifetime.map(lifetime::whole_seconds),
        },
        console_link_lifetime: config.keys.console_link_lifetime,
        console: config.console,
        change_rate: ChangeRate {
            at_once: config.keys.max_changes_at_once,
            per_second: config.keys.max_changes_per_second,
        },
        retention: config.keys.retention,
        client_addresses: config.keys.client_addresses,
        tokens: TokenRules {
            issuer: config.public_url.clone(),
            lifetime: config.tokens.lifetime,
            algorithm: config.tokens.algorithm,
            audiences: match &*config.tokens.audiences {
                [] => config.public_url.iter().cloned().collect(),
                some => some.to_vec(),
            },
            status_ttl: config.tokens.status_ttl,
        },
        batch: JOB_BATCH,
        backup: BackupRules { dir: config.backup_dir(), keep: config.backup.keep },
    }
}
