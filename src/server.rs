//! The composition root: builds the whole from its parts, starts it, stops it in order.

mod backend;
mod connection;
mod data_dir;
mod data_files;
mod error;
mod files;
mod http_servers;
mod in_process_server;
mod limits;
mod listen;
mod policy;
mod requests;
mod restore;
mod tls;
mod users;
mod workers;

use std::{io, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use actix_web::{
    dev::ServerHandle,
    rt::{self, task::JoinHandle},
};
use serde_json::json;

pub use self::{
    backend::{Backend, open_or_connect},
    data_dir::{DataDir, DataDirError, IMPORT_KEY, find_signer},
    data_files::faults as data_file_faults,
    error::Error,
    files::{catalogue, check_files, file_faults},
    in_process_server::InProcessServer,
    listen::{Listener, bind},
    policy::{PolicyError, PolicyFile, load_policy},
    restore::{Restored, restore},
    tls::{KeyPair, TlsError},
    users::{user_name, user_of},
    workers::Workers,
};
use self::{
    files::{configured_policy, report_certificate},
    http_servers::{PublicServer, control_server, public_server},
    listen::SocketFile,
    tls::Certificate,
};
use crate::{
    config::{Config, JobsConfig},
    domain::{
        event::EventType,
        plaintext_key::{PlaintextKey, PrefixLabel},
        policy::Policy,
    },
    env::{Clock, Entropy, Env, Timekeeper},
    http::{
        TrustedProxies,
        control::JobRunner,
        stream_limits::{StreamLimits, Streams},
    },
    jobs::Jobs,
    service::{
        self, BackupRules, ChangeRate, Job, Keyward, RootKey, Settings, keep_before_migration,
    },
    store::{self, Store},
    telemetry::Metrics,
};

/// How long a stop takes at most, also while the network, the disk or a job hangs.
pub const STOP_LIMIT: Duration = Duration::from_secs(10);
/// How long running requests may take once the server is to stop. The rest of [`STOP_LIMIT`] is for
/// what is only in memory.
const DRAIN: Duration = Duration::from_secs(7);
/// Rows that a job changes in one transaction.
const JOB_BATCH: u32 = 100;
/// What [`Running::reload`] puts into force; what is not here needs a restart.
const LIVE_SETTINGS: [&str; 6] = [
    "trusted_proxies",
    "tls.certificate",
    "tls.key",
    "log.level",
    "authz.policy_file",
    "authz.allow_preflight",
];
const HALT_CHECK: Duration = Duration::from_millis(200);

/// The application with the directory that it owns, before it listens anywhere.
#[derive(Debug)]
pub struct Instance {
    pub app: Arc<Keyward>,
    pub streams: Arc<Streams>,
    pub dir: DataDir,
}

/// What an instance is opened for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Purpose {
    Serve,
    /// One command, which can do without the key that signs checkpoints.
    Command,
}

impl Instance {
    /// Takes the data directory and opens what is in it, to serve it.
    pub fn open(
        config: &Config,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
    ) -> Result<Self, Error> {
        let dir = DataDir::take(&config.data_dir)?;
        Self::open_in(dir, config, clock, entropy, Purpose::Serve)
    }

    /// Opens what is in a directory that was taken already. If the storage can be read and takes no
    /// changes, it verifies and refuses them until it does.
    pub fn open_in(
        dir: DataDir,
        config: &Config,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
        purpose: Purpose,
    ) -> Result<Self, Error> {
        Self::assemble(dir, config, clock, entropy, purpose)
            .map_err(|err| err.on_the_disk_of(&config.data_dir))
    }

    fn assemble(
        dir: DataDir,
        config: &Config,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
        purpose: Purpose,
    ) -> Result<Self, Error> {
        let floor = store::stored_time_floor(&dir.database())?;
        let env = Env { time: Arc::new(Timekeeper::start(clock, floor)), entropy };
        let catalogue = Arc::new(catalogue(config));
        keep_before_migration(&dir.database()).map_err(Error::Migration)?;
        let store = Store::open(&dir.database(), &env, &catalogue)?;
        let prefix_label =
            PrefixLabel::parse(&config.keys.prefix).map_err(|_| DataDirError::KeyPrefix)?;
        let policy = configured_policy(config, &catalogue)?;
        let settings = Settings {
            prefix_label,
            rotation_grace: config.keys.rotation_grace,
            hash_iterations: config.keys.hash_iterations,
            max_keys: config.keys.max_keys_per_account,
            change_rate: ChangeRate {
                at_once: config.keys.max_changes_at_once,
                per_second: config.keys.max_changes_per_second,
            },
            retention: config.keys.retention,
            batch: JOB_BATCH,
            backup: BackupRules { dir: backup_dir(config), keep: config.backup.keep },
            import_key_file: dir.import_key(),
        };
        let key_file = config.audit.checkpoint_key.as_deref();
        let checkpointer = match purpose {
            Purpose::Serve => dir.checkpointer(key_file, &env),
            Purpose::Command => dir.checkpointer_at_hand(key_file, &env),
        }?;
        let app = Arc::new(Keyward::new(store, env, catalogue, settings, checkpointer)?);
        app.load_import_secrets()?;
        app.use_policy(policy);
        app.set_allow_preflight(config.authz.allow_preflight);
        app.check_against_checkpoints()?;
        app.watch_initial_key(&dir.initial_key());
        let streams = Arc::new(Streams::new(StreamLimits::default()));
        Ok(Self { app, streams, dir })
    }

    /// Makes the root key if there is none; see [`Keyward::first_start`].
    pub fn first_start(
        &self,
        deliver: impl FnOnce(&PlaintextKey) -> Result<(), io::Error>,
    ) -> Result<Option<RootKey>, Error> {
        let made = self.app.first_start(deliver);
        let made = made.map_err(|err| Error::from(err).on_the_disk_of(self.dir.path()))?;
        self.app.watch_initial_key(&self.dir.initial_key());
        Ok(made)
    }

    /// Writes what is only in memory, and folds the log back: the file is complete after this.
    pub fn close(&self) -> Result<(), Error> {
        self.app.flush_usage()?;
        self.app.keep_time()?;
        self.app.make_checkpoint()?;
        self.app.run_job(Job::Upkeep, &|| true)?;
        Ok(())
    }
}

/// A keyward that answers.
pub struct Running {
    /// The first TCP address at which it listens; the real port if 0 was asked for.
    pub address: Option<SocketAddr>,
    /// How people reach it, at least one way.
    pub urls: Vec<String>,
    pub metrics: Arc<Metrics>,
    pub workers: Arc<Workers>,
    instance: Instance,
    jobs: Jobs,
    config: Config,
    proxies: Arc<TrustedProxies>,
    certificate: Option<Arc<Certificate>>,
    servers: Vec<(ServerHandle, JoinHandle<io::Result<()>>)>,
    /// Removed when it stops.
    _sockets: Vec<SocketFile>,
}

/// Starts everything. Must be called inside an actix system.
pub async fn start(
    instance: Instance,
    listeners: Vec<Listener>,
    config: &Config,
) -> Result<Running, Error> {
    let metrics = Arc::new(Metrics::new());
    let pair = KeyPair::load(&config.tls)?;
    report_certificate(pair.as_ref(), &instance.app, &metrics);
    let certificate = pair.map(|it| Arc::new(Certificate::new(it)));
    instance.app.record_start(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "keyPrefix": config.keys.prefix,
        "checkpointKey": instance.app.checkpoint_key().to_string(),
        "scopes": config.scopes.iter().map(|it| it.name.as_str()).collect::<Vec<_>>(),
    }))?;
    let cron = |job| cron_line(&config.jobs, job).to_owned();
    let jobs = Jobs::start(Arc::clone(&instance.app), Arc::clone(&metrics), cron).await?;
    let urls: Vec<_> = listeners.iter().map(|it| it.url(certificate.is_some())).collect();
    for it in listeners.iter().filter(|it| certificate.is_none() && it.faces_the_network()) {
        tracing::warn!(
            server.address = it.url(false),
            "keys cross the network in the clear: set `tls.certificate` and `tls.key`, or listen \
             on this machine only and let a proxy that ends TLS stand in front"
        );
    }
    let address = listeners.iter().find_map(|it| match it {
        Listener::Tcp(it) => it.local_addr().ok(),
        Listener::Unix(..) => None,
    });
    let proxies = Arc::new(TrustedProxies::new(config.trusted_proxies.clone()));
    let workers = Arc::new(Workers::default());
    let shared = PublicServer {
        instance: &instance,
        config,
        metrics: &metrics,
        proxies: &proxies,
        workers: &workers,
    };
    let (public, sockets) = public_server(&shared, listeners, certificate.as_ref())?;
    let socket = instance.dir.control_socket();
    let control = match control_server(&instance, &socket, JobRunner(Box::new(jobs.by_hand()))) {
        Ok(server) => Some(server),
        Err(err) if instance.app.storage().0.is_some() => {
            let error = &err as &dyn std::error::Error;
            tracing::error!(error, "commands on this machine cannot ask this server: no socket");
            None
        }
        Err(source) => {
            return Err(Error::Listen { address: socket.display().to_string(), source });
        }
    };
    let servers = [Some(public), control].into_iter().flatten();
    let servers: Vec<_> = servers.map(|server| (server.handle(), rt::spawn(server))).collect();
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        server.address = urls.join(" "),
        data_dir = %config.data_dir.display(),
        "keyward is ready"
    );
    let config = config.clone();
    Ok(Running {
        address,
        urls,
        metrics,
        workers,
        instance,
        jobs,
        config,
        proxies,
        certificate,
        servers,
        _sockets: sockets,
    })
}

impl Running {
    pub fn app(&self) -> &Arc<Keyward> {
        &self.instance.app
    }

    /// Puts into force what may change while it runs; on an error everything stays as it was.
    /// Returns the settings that changed and need a restart.
    pub fn reload(&mut self, config: Config) -> Result<Vec<String>, Error> {
        let policy = configured_policy(&config, self.instance.app.catalogue())?;
        let pair = KeyPair::load(&config.tls)?;
        report_certificate(pair.as_ref(), &self.instance.app, &self.metrics);
        let routes = policy.as_ref().map(Policy::len);
        let mut waiting = self.config.differences(&config);
        waiting.retain(|it| !LIVE_SETTINGS.contains(&it.as_str()));
        match (&self.certificate, pair) {
            (Some(certificate), Some(pair)) => certificate.replace(pair),
            (None, None) => (),
            (Some(_), None) | (None, Some(_)) => waiting.push("tls".to_owned()),
        }
        self.instance.app.use_policy(policy);
        self.instance.app.set_allow_preflight(config.authz.allow_preflight);
        self.proxies.replace(config.trusted_proxies.clone());
        self.config.log.clone_from(&config.log);
        self.config.authz = config.authz;
        self.config.trusted_proxies = config.trusted_proxies;
        tracing::info!(routes, "reloaded");
        if !waiting.is_empty() {
            tracing::warn!(settings = waiting.join(", "), "changed, and in force after a restart");
        }
        Ok(waiting)
    }

    /// Has a job run now, or once its run that is going on is over, without waiting for it.
    pub fn start_job(&self, job: Job) {
        drop(self.jobs.by_hand()(job));
    }

    /// Waits until writing has halted, which nothing but a new start can mend.
    pub async fn halted(&self) {
        while self.instance.app.divergence().is_none() {
            tokio::time::sleep(HALT_CHECK).await;
        }
    }

    /// Stops accepting, ends the streams, lets requests finish, stops the jobs, writes what is only
    /// in memory.
    pub async fn stop(self) -> Result<(), Error> {
        self.instance.app.drain();
        self.instance.streams.close();
        // All of them drain at once, so that they share one limit.
        let drained: Vec<_> =
            self.servers.iter().map(|(handle, _)| rt::spawn(handle.stop(true))).collect();
        for drained in drained {
            // An error means that the server was gone already; the next lines say so.
            let _ = drained.await;
        }
        for (_, server) in self.servers {
            server.await.map_err(|err| Error::Run(io::Error::other(err)))?.map_err(Error::Run)?;
        }
        self.jobs.stop().await;
        let instance = self.instance;
        let closed = tokio::task::spawn_blocking(move || {
            if let Some(why) = instance.app.divergence() {
                return Err(Error::Halted(why.clone()));
            }
            let recorded = instance.app.record_denials(true).and_then(|_| {
                instance.app.record_server_event(EventType::ServerStopped, json!({}))
            });
            match recorded.map_err(Error::from).and_then(|()| instance.close()) {
                Err(Error::Service(err @ service::Error::Unavailable(_))) => {
                    Err(Error::NotStored(err))
                }
                outcome => outcome,
            }
        });
        closed.await.map_err(|err| Error::Run(io::Error::other(err)))?
    }
}

fn cron_line(config: &JobsConfig, job: Job) -> &str {
    match job {
        Job::EndGraces => &config.end_graces,
        Job::ExpireKeys => &config.expire_keys,
        Job::Purge => &config.purge,
        Job::FlushUsage => &config.flush_usage,
        Job::KeepTime => &config.keep_time,
        Job::RecordDenials => &config.record_denials,
        Job::Checkpoint => &config.checkpoint,
        Job::Backup => &config.backup,
        Job::Upkeep => &config.upkeep,
    }
}

/// Where backups go unless somebody says otherwise.
fn backup_dir(config: &Config) -> PathBuf {
    config.backup.dir.clone().unwrap_or_else(|| config.data_dir.join("backups"))
}
