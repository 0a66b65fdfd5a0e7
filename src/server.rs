//! The composition root: builds the application from its parts, starts it and stops it.

mod backend;
mod connection;
mod data_dir;
mod development;
mod error;
mod files;
mod http_servers;
mod in_process_server;
mod input;
mod instance;
mod limits;
mod listen;
mod outermost;
mod policy;
mod requests;
mod restore;
mod root_key_file;
mod secret_file;
mod slots;
mod tls;
mod users;
mod webhook_secrets;
mod workers;

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use actix_web::{
    dev::{Server, ServerHandle},
    rt::{self, task::JoinHandle},
};
use serde_json::json;

pub use self::{
    backend::{Backend, open_or_connect},
    data_dir::{
        DataDir, DataDirError, check_token_keys, data_file_faults, find_signer, lost_database,
    },
    development::open_for_development,
    error::Error,
    files::{catalogue, check_files, file_faults},
    in_process_server::InProcessServer,
    instance::{Instance, Purpose, Sources},
    listen::{Listener, bind},
    policy::{PolicyError, PolicyFile, load_policy},
    restore::{Restored, restore},
    root_key_file::RootKeyFileError,
    tls::{KeyPair, TlsError},
    users::{user_name, user_of},
    webhook_secrets::WebhookError,
    workers::Workers,
};
use self::{
    files::{configured_policy, report_certificate},
    http_servers::{Parts, control_server, public_server},
    listen::SocketFile,
    tls::Certificate,
    webhook_secrets::configured_webhooks,
};
use crate::{
    config::Config,
    domain::{event::EventType, policy::Policy},
    http::{TrustedProxies, control::JobRunner, development::MODE, own_address::local_url},
    jobs::Jobs,
    service::{self, Job, Keyward},
    telemetry::Metrics,
    webhooks::Webhooks,
};

/// How long a stop takes at most, even if the network, the disk or a job hangs.
pub const STOP_LIMIT: Duration = Duration::from_secs(10);
/// How long running requests may take after the server is told to stop. The rest of [`STOP_LIMIT`] is
/// for storing what is only in memory.
const DRAIN: Duration = Duration::from_secs(7);
/// The settings that [`Running::reload`] applies. All others need a restart.
const LIVE_SETTINGS: [&str; 7] = [
    "trusted_proxies",
    "tls.certificate",
    "tls.key",
    "log.level",
    "authz.policy_file",
    "authz.allow_preflight",
    "webhooks",
];
/// How long a stop waits for attempts to deliver events to webhooks.
const DELIVERY_DRAIN: Duration = Duration::from_secs(1);
const HALT_CHECK: Duration = Duration::from_millis(200);

/// A running server.
pub struct Running {
    /// The first TCP address at which it listens, with the real port.
    pub address: Option<SocketAddr>,
    /// The URLs at which it listens: at least one.
    pub urls: Vec<String>,
    pub metrics: Arc<Metrics>,
    pub workers: Arc<Workers>,
    instance: Instance,
    jobs: Jobs,
    webhooks: Webhooks,
    config: Config,
    proxies: Arc<TrustedProxies>,
    certificate: Option<Arc<Certificate>>,
    servers: Vec<(ServerHandle, JoinHandle<io::Result<()>>)>,
    /// Removed when the server stops.
    _sockets: Vec<SocketFile>,
}

/// Starts the server. Must be called inside an actix system.
pub async fn start(
    instance: Instance,
    listeners: Vec<Listener>,
    config: &Config,
) -> Result<Running, Error> {
    let metrics = Arc::new(Metrics::new());
    let pair = KeyPair::load(&config.tls)?;
    let webhooks = configured_webhooks(config)?;
    report_certificate(pair.as_ref(), &instance.app, &metrics);
    let certificate = pair.map(|it| Arc::new(Certificate::new(it)));
    instance.app.record_start(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "commit": env!("BUILD_COMMIT"),
        "keyPrefix": config.keys.prefix.as_str(),
        "checkpointKey": instance.app.checkpoint_key().to_string(),
        "scopes": config.scopes.iter().map(|it| it.name.as_str()).collect::<Vec<_>>(),
    }))?;
    let jobs = Jobs::start(Arc::clone(&instance.app), Arc::clone(&metrics), &config.jobs).await?;
    if certificate.is_none() {
        warn_about_plain_text(&listeners);
    }
    let urls: Vec<_> = listeners.iter().map(|it| it.url(certificate.is_some())).collect();
    let address = listeners.iter().find_map(Listener::tcp_address);
    let by_hand = || JobRunner(Box::new(jobs.by_hand()));
    let parts = Parts::new(&instance, config, &metrics, by_hand());
    let (public, sockets) = public_server(&parts, config, listeners, certificate.as_ref())?;
    let url = urls.first().map(|it| local_url(it));
    let url = config.public_url.clone().or(url).unwrap_or_else(|| instance.url.clone());
    let control = control_server_if_possible(&instance, by_hand(), &url)?;
    let webhooks =
        Webhooks::start(&instance.app, &metrics, webhooks).map_err(WebhookError::Start)?;
    let servers = [Some(public), control].into_iter().flatten();
    let servers = servers.map(|server| (server.handle(), rt::spawn(server))).collect();
    tracing::info!(
        version = env!("BUILD_VERSION"),
        server.address = urls.join(" "),
        data_dir = %config.data_dir.display(),
        mode = instance.development.as_ref().map(|_| MODE),
        "keyward is ready"
    );
    Ok(Running {
        address,
        urls,
        metrics,
        workers: parts.workers,
        instance,
        jobs,
        webhooks,
        config: config.clone(),
        proxies: parts.proxies.into_inner(),
        certificate,
        servers,
        _sockets: sockets,
    })
}

fn warn_about_plain_text(listeners: &[Listener]) {
    for it in listeners.iter().filter(|it| it.faces_the_network()) {
        tracing::warn!(
            server.address = it.url(false),
            "keys cross the network without encryption: set `tls.certificate` and `tls.key`, or listen \
             on this machine only, behind a proxy that ends TLS"
        );
    }
}

/// Returns `None` if the storage accepts no changes, so that the socket cannot be made.
fn control_server_if_possible(
    instance: &Instance,
    jobs: JobRunner,
    url: &str,
) -> Result<Option<Server>, Error> {
    let socket = instance.dir.layout().control_socket();
    match control_server(instance, &socket, jobs, url) {
        Ok(server) => Ok(Some(server)),
        Err(err) if instance.app.storage().0.is_some() => {
            let error = &err as &dyn std::error::Error;
            tracing::error!(
                error,
                cause = error.source(),
                "no control socket: commands on this machine cannot reach this server"
            );
            Ok(None)
        }
        Err(err) => Err(err),
    }
}

impl Running {
    pub fn app(&self) -> &Arc<Keyward> {
        &self.instance.app
    }

    /// Applies the settings that may change while the server runs. On an error nothing changes.
    /// Returns the changed settings that need a restart.
    pub fn reload(&mut self, config: Config) -> Result<Vec<String>, Error> {
        let policy = configured_policy(&config, self.instance.app.catalogue())?;
        let pair = KeyPair::load(&config.tls)?;
        let webhooks = configured_webhooks(&config)?;
        report_certificate(pair.as_ref(), &self.instance.app, &self.metrics);
        let routes = policy.as_ref().map(Policy::len);
        let mut waiting = self.config.differences(&config);
        waiting.retain(|it| !LIVE_SETTINGS.contains(&it.as_str()));
        // The last step that can fail.
        self.webhooks.replace(&self.instance.app, webhooks).map_err(WebhookError::Start)?;
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
        self.config.webhooks = config.webhooks;
        self.config.trusted_proxies = config.trusted_proxies;
        tracing::info!(routes, "reloaded");
        if !waiting.is_empty() {
            tracing::warn!(
                settings = waiting.join(", "),
                "changed settings that apply after a restart"
            );
        }
        Ok(waiting)
    }

    /// Starts a job, without waiting for its end. If the job is running, it runs again after that.
    pub fn start_job(&self, job: Job) {
        drop(self.jobs.by_hand()(job));
    }

    /// Waits until writing has halted, which only a restart can repair.
    pub async fn halted(&self) {
        while self.instance.app.divergence().is_none() {
            tokio::time::sleep(HALT_CHECK).await;
        }
    }

    /// Stops accepting, ends the streams, lets requests finish, stops the jobs, and stores what is only
    /// in memory.
    pub async fn stop(self) -> Result<(), Error> {
        self.instance.app.drain();
        self.webhooks.stop_sending();
        self.instance.streams.close();
        // All servers drain at the same time, so that they share one limit.
        let drained: Vec<_> =
            self.servers.iter().map(|(handle, _)| rt::spawn(handle.stop(true))).collect();
        for drained in drained {
            // An error means that the server has ended already. The next loop returns why.
            let _ = drained.await;
        }
        for (_, server) in self.servers {
            server.await.map_err(|err| Error::Run(io::Error::other(err)))?.map_err(Error::Run)?;
        }
        self.jobs.stop().await;
        let (instance, webhooks) = (self.instance, self.webhooks);
        let closed = tokio::task::spawn_blocking(move || {
            webhooks.close(DELIVERY_DRAIN);
            if let Some(why) = instance.app.divergence() {
                return Err(Error::Halted(why.clone()));
            }
            let denials = instance.app.record_denials(true);
            let exchanges = denials.and_then(|_| instance.app.record_exchanges(true));
            let recorded = exchanges.and_then(|_| {
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
