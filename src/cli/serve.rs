//! `keyward serve`

use std::{
    io::{self, IsTerminal, Write},
    sync::Arc,
    time::Duration,
};

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::{
    cli::{Error, Settings, config, control, supervisor},
    config::Config,
    env::{SystemClock, SystemEntropy},
    server::{self, DataDir, DataDirError, Purpose, Running, Site},
    service::{Job, RootKey, write_key_file},
    telemetry::{self, SetLevel},
};

/// How long commands may keep it from the data directory.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often `systemctl status` gets new figures.
const STATUS_INTERVAL: Duration = Duration::from_mins(1);

pub(super) fn serve(settings: &Settings) -> Result<(), Error> {
    let (config, file) = config::load_with_file(settings)?;
    let terminal = io::stdout().is_terminal();
    let set_level = telemetry::start_log(&config.log, supervisor::log_target());
    if let Some(file) = file {
        tracing::info!(config.file = %file.display(), "the configuration was read");
    } else {
        tracing::info!("{}", config::NO_FILE);
    }
    server::check_files(&config)?;
    let listeners = match supervisor::sockets().map_err(server::Error::Run)? {
        given if given.is_empty() => server::bind(&config).map_err(|err| in_use(&config, err))?,
        given => given,
    };
    // A command is done in a moment; another server that answers will not make room.
    let dir = DataDir::take_in_turn(&config.data_dir, &mut control::patience(PATIENCE));
    let dir = dir.map_err(server::Error::DataDir)?;
    let (clock, entropy) = (Arc::new(SystemClock::new()), Arc::new(SystemEntropy));
    let site = Site::open_in(dir, &config, clock, entropy, Purpose::Serve)?;
    let key_file = site.dir.initial_key();
    let made =
        site.first_start(|key| if terminal { Ok(()) } else { write_key_file(&key_file, key) })?;
    let outcome = actix_web::rt::System::new().block_on(async {
        // Before anybody can know that it runs, so that no signal is lost.
        let signals = Signals::watch()?;
        let running = server::start(site, listeners, &config).await?;
        match greet(&running, &config, made.as_ref(), terminal) {
            // Whoever started it does not want to read this.
            Err(err) if err.kind() == io::ErrorKind::BrokenPipe => (),
            outcome => outcome.map_err(server::Error::Run)?,
        }
        drop(made);
        let serving = Serving { settings, set_level, running };
        serving.wait(signals).await
    });
    Ok(outcome?)
}

/// Another keyward at the same address has the same directory, mostly, and that says more.
fn in_use(config: &Config, err: server::Error) -> server::Error {
    let server::Error::Listen { source, .. } = &err else { return err };
    if source.kind() != io::ErrorKind::AddrInUse || !config.data_dir.join("keyward.lock").exists() {
        return err;
    }
    match DataDir::take(&config.data_dir) {
        Err(held @ DataDirError::InUse { .. }) => held.into(),
        Ok(_) | Err(_) => err,
    }
}

/// The ways to be told to stop, to read again what may change, and to make a backup.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    reload: Signal,
    backup: Signal,
}

impl Signals {
    fn watch() -> Result<Self, server::Error> {
        let watch = |kind| signal(kind).map_err(server::Error::Run);
        let terminate = watch(SignalKind::terminate())?;
        let interrupt = watch(SignalKind::interrupt())?;
        let (reload, backup) = (watch(SignalKind::hangup())?, watch(SignalKind::user_defined1())?);
        Ok(Self { terminate, interrupt, reload, backup })
    }

    async fn next(&mut self) -> Told {
        tokio::select! {
            _ = self.terminate.recv() => Told::Stop,
            _ = self.interrupt.recv() => Told::Stop,
            _ = self.reload.recv() => Told::Reload,
            _ = self.backup.recv() => Told::Backup,
        }
    }

    async fn stop(&mut self) {
        while self.next().await != Told::Stop {}
    }
}

/// What a signal says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Told {
    Stop,
    Reload,
    Backup,
}

struct Serving<'a> {
    settings: &'a Settings,
    set_level: SetLevel,
    running: Running,
}

impl Serving<'_> {
    /// Reads everything again. All that can change does, or, if anything is wrong, nothing.
    fn reload(&mut self) {
        supervisor::reloading();
        let fresh = config::load(self.settings);
        let level = fresh.as_ref().map(|it| it.log.level).ok();
        let outcome = fresh.and_then(|it| Ok(self.running.reload(it)?));
        match (outcome, level) {
            (Ok(_), Some(level)) => (self.set_level)(level),
            (Ok(_), None) => (),
            (Err(err), _) => {
                let cause = std::error::Error::source(&err);
                tracing::error!(error = %err, cause, "not reloaded; what was in force stays");
            }
        }
        supervisor::ready(&self.status());
    }

    /// One line for `systemctl status`.
    fn status(&self) -> String {
        let values = self.running.app().value_count();
        format!("{values} key values; {}", self.running.urls.join(" "))
    }

    /// Serves until a signal says stop, or until the disk has failed.
    async fn wait(mut self, mut signals: Signals) -> Result<(), server::Error> {
        supervisor::ready(&self.status());
        let watchdog = supervisor::watchdog_interval();
        let app = Arc::clone(self.running.app());
        let watched = actix_web::rt::spawn(supervisor::watch(watchdog, Arc::clone(&app)));
        let mut minute = tokio::time::interval(STATUS_INTERVAL);
        loop {
            tokio::select! {
                told = signals.next() => match told {
                    Told::Stop => break,
                    Told::Reload => self.reload(),
                    Told::Backup => self.running.start_job(Job::Backup),
                },
                _ = minute.tick() => supervisor::status(&self.status()),
                () = self.running.halted() => break,
            }
        }
        watched.abort();
        supervisor::stopping();
        tracing::info!("stopping");
        tokio::select! {
            stopped = self.running.stop() => stopped?,
            // Whoever asks twice does not want to wait for slow clients.
            () = signals.stop() => tracing::warn!("stopped without waiting"),
        }
        app.divergence().map_or(Ok(()), |why| Err(server::Error::Halted(why.clone())))
    }
}

/// Says what to do next. The root key is shown on a terminal and nowhere else.
fn greet(
    running: &Running,
    config: &Config,
    made: Option<&RootKey>,
    terminal: bool,
) -> Result<(), io::Error> {
    let Some(url) = running.urls.first() else { return Ok(()) };
    // What curl asks a socket for has a host as well.
    let (curl, host) = match url.strip_prefix("unix:") {
        Some(path) => (format!("curl --unix-socket {path}"), "http://localhost"),
        None => ("curl".to_owned(), url.as_str()),
    };
    let dir = config.data_dir.display();
    let mut out = io::stdout().lock();
    let mut say = |line: &str| writeln!(out, "{line}");
    say(&format!(
        "keyward {} · {} · data in {dir}",
        env!("CARGO_PKG_VERSION"),
        running.urls.join(" ")
    ))?;
    match made {
        Some(root) if terminal => {
            say("\n  A root key was made. It is shown this once; only its hash is kept:\n")?;
            say(&format!("      {}\n", root.plaintext.expose()))?;
            say("  Try it:\n")?;
            say(&format!("      export KEYWARD_KEY='{}'", root.plaintext.expose()))?;
        }
        Some(_) => {
            say(&format!("\n  A root key was made. It waits in {dir}/initial-root-key,"))?;
            say("  which is removed when the key is first used. Try it:\n")?;
            say(&format!("      export KEYWARD_KEY=\"$(cat {dir}/initial-root-key)\""))?;
        }
        None => {
            say("\n  Root key lost?  keyward root-key reset")?;
            return say(&format!("  Swagger UI      {host}/docs/"));
        }
    }
    say(&format!("      {curl} -H \"X-API-Key: $KEYWARD_KEY\" {host}/api/v1/api-keys\n"))?;
    say(&format!("  Swagger UI  {host}/docs/"))?;
    say(&format!("  Audit log   signed with {} (also in", running.app().checkpoint_key()))?;
    say(&format!("              {dir}/checkpoint.pub); keep that key elsewhere, for auditors"))
}
