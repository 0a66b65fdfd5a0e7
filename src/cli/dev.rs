//! `keyward dev`: runs a server for the tests of other programs, in a directory that it removes.

mod greeting;
mod temporary_dir;

use std::{
    io::{self, Write},
    path::PathBuf,
};

use clap::Args;
use tokio::signal::unix::{Signal, SignalKind, signal};

pub(super) use self::temporary_dir::existing as data_dirs;
use self::{greeting::greet, temporary_dir::TemporaryDir};
use crate::{
    cli::{error::Error, serve::supervisor::log_target, settings},
    config::{
        BackupConfig, Config, ConfigFile, Flags, KeysConfig, ListenAddress, TlsConfig,
        WebhookSetting,
    },
    domain::key_hash::KeyHash,
    env::{SettableClock, Timestamp},
    server, telemetry,
};

#[derive(Args, Debug)]
pub(super) struct Options {
    /// The address to listen on; with port 0, on a free port
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    listen: String,
    /// The time at the start, such as 2027-01-01T00:00:00Z. Without it, the time of this machine
    #[arg(long, value_name = "TIME", value_parser = start_time)]
    now: Option<Timestamp>,
    /// A configuration file, for its scopes, route policy and tokens. Variables, other configuration files
    /// and limits of keys have no effect
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The address at which clients reach the server, such as `http://keyward:8080`: the issuer of tokens. Without
    /// it, the address on which the server listens
    #[arg(long, value_name = "URL")]
    public_url: Option<String>,
    /// The log level: error, warn, info, debug or trace
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,
    /// The log format: auto, text or json
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<String>,
}

fn start_time(text: &str) -> Result<Timestamp, String> {
    let time = Timestamp::parse(text).map_err(|err| err.to_string())?;
    let fits = SettableClock::RANGE.contains(&time);
    if fits { Ok(time) } else { Err("the clock shows only the years 2000 to 2499".to_owned()) }
}

impl Options {
    pub(super) fn run(&self) -> Result<(), Error> {
        let dir = TemporaryDir::make()?;
        let config = self.config(&dir)?;
        let log = telemetry::start_log(&config.log, log_target()).map_err(server::Error::Run)?;
        let outcome = actix_web::rt::System::new().block_on(self.serve(&config));
        log.flush();
        Ok(outcome?)
    }

    /// Returns the configuration without the parts that belong to one installation.
    fn config(&self, dir: &TemporaryDir) -> Result<Config, Error> {
        let text = self.config.as_ref().map(settings::read).transpose()?;
        let file = self.config.as_deref().zip(text.as_deref());
        let flags = Flags {
            listen: Some(self.listen.clone()),
            data_dir: None,
            log_level: self.log_level.clone(),
            log_format: self.log_format.clone(),
            public_url: self.public_url.clone(),
        };
        let file = file.map(|(path, text)| ConfigFile { path, text });
        let mut config = Config::assemble(&flags, file, &[])?;
        dir.path().clone_into(&mut config.data_dir);
        config.public_url = config.public_url.filter(|_| self.public_url.is_some());
        config.root_key_file = None;
        config.tls = TlsConfig::default();
        config.audit.checkpoint_key = None;
        config.backup = BackupConfig { dir: None, keep: 0 };
        config.keys.hash_iterations = KeyHash::MIN_ITERATIONS;
        // The samples are what the list says only with these.
        let KeysConfig {
            prefix,
            max_keys_per_account,
            max_lifetime,
            default_lifetime,
            retention,
            ..
        } = Config::default().keys;
        config.keys = KeysConfig {
            prefix,
            max_keys_per_account,
            max_lifetime,
            default_lifetime,
            retention,
            ..config.keys
        };
        // No event of a sample reaches a receiver of a real installation.
        config.webhooks.retain(WebhookSetting::is_local);
        Ok(config)
    }

    async fn serve(&self, config: &Config) -> Result<(), server::Error> {
        // Before the directory has files, so that no signal leaves them behind.
        let mut signals = Signals::watch()?;
        server::check_files(config)?;
        let listeners = server::bind(config)?;
        tracing::warn!(
            "development mode: not for production. Every key is public, and the data are removed at the end"
        );
        if config.listen.iter().any(ListenAddress::faces_the_network) {
            tracing::warn!("every machine that reaches this server can use its public keys");
        }
        let instance = server::open_for_development(config, &listeners, self.now)?;
        let samples = instance.development.clone();
        let running = server::start(instance, listeners, config).await?;
        // The server works without a reader of its output.
        let _ =
            greet(&running.urls, config, samples.as_deref()).and_then(|()| io::stdout().flush());
        tokio::select! {
            () = signals.next() => (),
            () = running.halted() => (),
        }
        tracing::info!("stopping");
        tokio::select! {
            stopped = running.stop() => stopped,
            // A second signal: do not wait for slow clients.
            () = signals.next() => Ok(()),
        }
    }
}

/// The signals that stop the server. One of them comes when the terminal is closed.
struct Signals([Signal; 3]);

impl Signals {
    fn watch() -> Result<Self, server::Error> {
        let watch = |kind| signal(kind).map_err(server::Error::Run);
        let terminate = watch(SignalKind::terminate())?;
        let interrupt = watch(SignalKind::interrupt())?;
        Ok(Self([terminate, interrupt, watch(SignalKind::hangup())?]))
    }

    async fn next(&mut self) {
        let [terminate, interrupt, hangup] = &mut self.0;
        tokio::select! {
            _ = terminate.recv() => (),
            _ = interrupt.recv() => (),
            _ = hangup.recv() => (),
        }
    }
}
