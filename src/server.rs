//! The composition root: builds the whole from its parts, starts it, stops it in order.

mod at_hand;
mod data_dir;
mod policy;
mod restore;

use std::{
    io,
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use actix_web::{
    App, HttpServer,
    dev::ServerHandle,
    http::KeepAlive,
    middleware::from_fn,
    rt::{self, task::JoinHandle},
    web,
};
use serde_json::json;
use utoipa_actix_web::service_config::ServiceConfig;

pub use self::{
    at_hand::AtHand,
    data_dir::{DataDir, DataDirError},
    policy::{PolicyError, PolicyFile, load_policy},
    restore::{Restored, restore},
};
use crate::{
    config::{Config, JobsConfig},
    domain::{
        credential::{Brand, PlaintextKey},
        event::EventType,
        policy::Policy,
        scope::Catalogue,
    },
    env::{Clock, Entropy, Env, Timekeeper},
    http::{
        self, Gate, control,
        openapi::RouteTable,
        pages::Documents,
        stream::{StreamLimits, Streams},
    },
    jobs::Jobs,
    service::{
        self, BackupError, BackupRules, Checkpointer, Job, Keyward, Mismatch, RootKey, Rules,
    },
    store::{self, Store, StoreError},
    telemetry::Metrics,
};

/// How long running requests may take once the server is to stop.
const DRAIN: Duration = Duration::from_secs(10);
/// A gateway keeps its connections; closing them early would cost it a handshake each.
const KEEP_ALIVE: Duration = Duration::from_secs(75);
/// Threads for each worker that wait for the disk; group commit is what they wait for together.
const BLOCKING_THREADS: usize = 64;
/// Rows that a job changes in one transaction.
const JOB_BATCH: u32 = 100;
const HALT_CHECK: Duration = Duration::from_millis(200);

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    #[error("{0}")]
    Store(#[from] StoreError),
    #[error("{0}")]
    Service(#[from] service::Error),
    #[error("cannot listen on {address}")]
    Listen { address: String, source: io::Error },
    #[error("{0}")]
    Backup(#[from] BackupError),
    #[error(transparent)]
    Policy(#[from] PolicyError),
    #[error(transparent)]
    Mismatch(#[from] Mismatch),
    #[error("the scheduler cannot be started")]
    Jobs(#[from] tokio_cron_scheduler::JobSchedulerError),
    #[error("the server failed")]
    Run(#[source] io::Error),
    #[error("the disk failed; what was answered is safe, start again")]
    Halted,
}

/// The application with the directory that it owns, before it listens anywhere.
#[derive(Debug)]
pub struct Site {
    pub app: Arc<Keyward>,
    pub streams: Arc<Streams>,
    pub dir: DataDir,
}

impl Site {
    /// Takes the data directory and opens what is in it.
    pub fn open(
        config: &Config,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
    ) -> Result<Self, Error> {
        Self::open_in(DataDir::take(&config.data_dir)?, config, clock, entropy)
    }

    /// Opens what is in a directory that was taken already.
    fn open_in(
        dir: DataDir,
        config: &Config,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
    ) -> Result<Self, Error> {
        let floor = store::stored_time_floor(&dir.database())?;
        let env = Env { time: Arc::new(Timekeeper::start(clock, floor)), entropy };
        let catalogue = Arc::new(catalogue(config));
        let store = Store::open(&dir.database(), &env, &catalogue)?;
        let brand = Brand::parse(&config.keys.prefix).map_err(|_| DataDirError::KeyPrefix)?;
        let policy = configured_policy(config, &catalogue)?;
        let rules = Rules {
            catalogue,
            brand,
            rotation_grace: config.keys.rotation_grace,
            hash_iterations: config.keys.hash_iterations,
            max_keys: config.keys.max_keys_per_account,
            retention: config.keys.retention,
            allow_preflight: config.authz.allow_preflight,
            batch: JOB_BATCH,
            backup: BackupRules { dir: backup_dir(config), keep: config.backup.keep },
        };
        let signer = dir.checkpoint_signer(config.audit.checkpoint_key.as_deref(), &env)?;
        let checkpointer = Checkpointer::new(signer, dir.checkpoint());
        let app = Arc::new(Keyward::new(store, env, rules, checkpointer)?);
        app.use_policy(policy);
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
        let made = self.app.first_start(deliver)?;
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
    /// Where it listens; the real port if 0 was asked for.
    pub address: SocketAddr,
    pub metrics: Arc<Metrics>,
    site: Site,
    jobs: Jobs,
    config: Config,
    servers: Vec<(ServerHandle, JoinHandle<io::Result<()>>)>,
}

/// Takes the address to listen on, before anything is done that cannot be done again.
pub fn bind(config: &Config) -> Result<TcpListener, Error> {
    let listen = |source| Error::Listen { address: config.listen.to_string(), source };
    let listener = TcpListener::bind(config.listen).map_err(listen)?;
    listener.set_nonblocking(true).map_err(listen)?;
    Ok(listener)
}

/// Starts everything. Must be called inside an actix system.
pub async fn start(site: Site, listener: TcpListener, config: &Config) -> Result<Running, Error> {
    let metrics = Arc::new(Metrics::new());
    site.app.record_server_event(
        EventType::ServerStarted,
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "keyPrefix": config.keys.prefix,
            "checkpointKey": site.app.checkpoint_key().to_string(),
            "scopes": config.scopes.iter().map(|it| it.name.as_str()).collect::<Vec<_>>(),
        }),
    )?;
    let cron = |job| cron_line(&config.jobs, job).to_owned();
    let jobs = Jobs::start(Arc::clone(&site.app), Arc::clone(&metrics), cron).await?;
    let listen = |source| Error::Listen { address: config.listen.to_string(), source };
    let (address, public) = public_server(&site, listener, config, &metrics).map_err(listen)?;
    let socket = site.dir.control_socket();
    let listen = |source| Error::Listen { address: socket.display().to_string(), source };
    let control = control_server(&site).map_err(listen)?;
    let servers = [public, control].map(|server| (server.handle(), rt::spawn(server)));
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        server.address = %address,
        data_dir = %config.data_dir.display(),
        "keyward is ready"
    );
    let config = config.clone();
    Ok(Running { address, metrics, site, jobs, config, servers: servers.into() })
}

impl Running {
    pub fn app(&self) -> &Arc<Keyward> {
        &self.site.app
    }

    /// Reads again what may change while it runs: the route policy. On an error the old one stays.
    pub fn reload(&self) -> Result<(), Error> {
        let policy = configured_policy(&self.config, &self.site.app.rules().catalogue)?;
        let routes = policy.as_ref().map(Policy::len);
        self.site.app.use_policy(policy);
        tracing::info!(routes, "reloaded");
        Ok(())
    }

    /// Waits until writing has halted, which nothing but a new start can mend.
    pub async fn halted(&self) {
        while !self.site.app.has_halted() {
            tokio::time::sleep(HALT_CHECK).await;
        }
    }

    /// Stops accepting, ends the streams, lets requests finish, stops the jobs, writes what is only
    /// in memory.
    pub async fn stop(self) -> Result<(), Error> {
        self.site.streams.close();
        for (handle, server) in self.servers {
            handle.stop(true).await;
            server.await.map_err(|err| Error::Run(io::Error::other(err)))?.map_err(Error::Run)?;
        }
        self.jobs.stop().await;
        let site = self.site;
        let closed = tokio::task::spawn_blocking(move || {
            if site.app.has_halted() {
                return Err(Error::Halted);
            }
            site.app.record_denials(true)?;
            site.app.record_server_event(EventType::ServerStopped, json!({}))?;
            site.close()
        });
        closed.await.map_err(|err| Error::Run(io::Error::other(err)))?
    }
}

fn public_server(
    site: &Site,
    listener: TcpListener,
    config: &Config,
    metrics: &Arc<Metrics>,
) -> Result<(SocketAddr, actix_web::dev::Server), io::Error> {
    // Made once, out here: the closure runs for each worker.
    let app = web::Data::from(Arc::clone(&site.app));
    let metrics = web::Data::from(Arc::clone(metrics));
    let streams = web::Data::from(Arc::clone(&site.streams));
    let proxies = web::Data::new(http::TrustedProxies::new(config.trusted_proxies.clone()));
    let document = http::openapi::document();
    let documents = web::Data::new(Documents::of(&document));
    let table = web::Data::new(RouteTable::of(&document));
    drop(document);
    let docs = config.docs;
    let server = HttpServer::new(move || {
        let ids = web::Data::new(http::RequestIds::new(&app));
        let gate = Gate::new(app.clone(), metrics.clone(), ids.clone(), proxies.clone());
        let gate = web::Data::new(gate);
        App::new()
            .app_data(app.clone())
            .app_data(ids)
            .app_data(metrics.clone())
            .app_data(streams.clone())
            .app_data(documents.clone())
            .app_data(table.clone())
            .app_data(proxies.clone())
            .app_data(gate.clone())
            .configure(|cfg| Gate::mount(&gate, cfg))
            .configure(|cfg| http::hot_routes(&mut ServiceConfig::new(cfg)))
            .service(
                web::scope("")
                    .wrap(from_fn(http::wrap))
                    .configure(|cfg| http::routes(&mut ServiceConfig::new(cfg)))
                    .configure(|cfg| {
                        if docs {
                            http::pages::docs(cfg);
                        }
                    })
                    .default_service(web::to(http::openapi::no_such_operation)),
            )
    });
    let server = server
        .workers(workers(config))
        .worker_max_blocking_threads(BLOCKING_THREADS)
        .keep_alive(KeepAlive::Timeout(KEEP_ALIVE))
        .shutdown_timeout(DRAIN.as_secs())
        .disable_signals()
        .listen(listener)?;
    let address = server.addrs().first().copied().unwrap_or(config.listen);
    Ok((address, server.run()))
}

fn control_server(site: &Site) -> Result<actix_web::dev::Server, io::Error> {
    let app = web::Data::from(Arc::clone(&site.app));
    let streams = web::Data::from(Arc::clone(&site.streams));
    let table = web::Data::new(RouteTable::of(&http::openapi::document()));
    let server = HttpServer::new(move || control::app(app.clone(), streams.clone(), table.clone()))
        .workers(1)
        .shutdown_timeout(DRAIN.as_secs())
        .disable_signals()
        .listen_uds(site.dir.listen_control()?)?;
    Ok(server.run())
}

fn workers(config: &Config) -> usize {
    match config.workers {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        workers => workers,
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

/// The scopes that there are.
pub fn catalogue(config: &Config) -> Catalogue {
    Catalogue::new(config.scopes.iter().map(|it| (it.name.clone(), it.description.clone())))
}

/// Whether the policy that the configuration names is sound.
pub fn check_policy(config: &Config) -> Result<(), Error> {
    configured_policy(config, &catalogue(config)).map(drop)
}

fn configured_policy(config: &Config, catalogue: &Catalogue) -> Result<Option<Policy>, Error> {
    let file = config.authz.policy_file.as_deref();
    Ok(file.map(|it| load_policy(it, catalogue)).transpose()?.map(|it| it.policy))
}
