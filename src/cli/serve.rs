//! `keyward serve`: runs the server until a signal stops it.

mod greeting;
pub(super) mod supervisor;

use std::{
    io::{self, IsTerminal, Write},
    sync::{
        Arc,
        mpsc::{self, Receiver, Sender},
    },
    thread,
    time::Duration,
};

use tokio::signal::unix::{Signal, SignalKind, signal};

use self::{greeting::greeting, supervisor::Supervisor};
use crate::{
    cli::{
        api::machine::patience,
        error::Error,
        output,
        settings::{NO_FILE, Settings, load_strictly},
    },
    config::Config,
    server::{
        self, DataDir, DataDirError, Instance, Listener, Purpose, Running, STOP_LIMIT, Sources,
    },
    service::{Job, RootKey, write_key_file},
    telemetry::{self, Log},
};

/// How long the server waits for commands that hold the data directory.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often `systemctl status` gets new figures.
const STATUS_INTERVAL: Duration = Duration::from_mins(1);

pub(super) fn run(settings: &Settings) -> Result<(), Error> {
    let (config, file) = load_strictly(settings)?;
    let log = telemetry::start_log(&config.log, supervisor::log_target());
    let log = Arc::new(log.map_err(server::Error::Run)?);
    if let Some(file) = file {
        tracing::info!(config.file = %file.display(), "the configuration was read");
    } else {
        tracing::info!("{}", NO_FILE);
    }
    let outcome = serve_until_stopped(settings, config, &log);
    log.flush();
    outcome
}

fn serve_until_stopped(settings: &Settings, config: Config, log: &Arc<Log>) -> Result<(), Error> {
    server::check_files(&config)?;
    let listeners = match supervisor::sockets().map_err(server::Error::Run)? {
        given if given.is_empty() => server::bind(&config).map_err(|err| in_use(&config, err))?,
        given => given,
    };
    // A command soon releases the directory; another server that answers does not.
    let dir = DataDir::take_in_turn(&config.data_dir, &mut patience(PATIENCE));
    let dir = dir.map_err(server::Error::DataDir)?;
    let instance = Instance::open_in(dir, &config, Sources::system(), Purpose::Serve)?;
    let key_file = instance.dir.layout().initial_root_key();
    let terminal = io::stdout().is_terminal();
    let root_key = if let Some(file) = &config.root_key_file {
        instance.provide_root_key(file)?;
        None
    } else {
        instance
            .first_start(|key| if terminal { Ok(()) } else { write_key_file(&key_file, key) })?
    };
    let supervisor = Arc::new(Supervisor::of_environment().map_err(server::Error::Run)?);
    let (progress, reports) = mpsc::channel();
    let server = Server {
        settings: settings.clone(),
        log: Arc::clone(log),
        supervisor: Arc::clone(&supervisor),
        config,
        terminal,
        progress,
    };
    let thread = thread::Builder::new().name("server".to_owned());
    thread.spawn(move || server.run(instance, listeners, root_key)).map_err(server::Error::Run)?;
    let outcome = wait_for_end(&reports);
    supervisor.finish();
    Ok(outcome?)
}

/// A report of the server's thread to the main thread.
enum Progress {
    Stopping,
    Ended(Result<(), server::Error>),
}

/// Waits for the thread of the server, which has [`STOP_LIMIT`] to stop. The main thread waits for no
/// lock, no disk and no other thread, so its return ends the process.
fn wait_for_end(reports: &Receiver<Progress>) -> Result<(), server::Error> {
    let gone = || Err(server::Error::Run(io::Error::other("its thread has ended")));
    match reports.recv() {
        Ok(Progress::Ended(outcome)) => return outcome,
        Ok(Progress::Stopping) => (),
        Err(_) => return gone(),
    }
    match reports.recv_timeout(STOP_LIMIT) {
        Ok(Progress::Ended(outcome)) => outcome,
        Ok(Progress::Stopping) | Err(mpsc::RecvTimeoutError::Timeout) => {
            Err(server::Error::CutShort)
        }
        Err(mpsc::RecvTimeoutError::Disconnected) => gone(),
    }
}

/// The state of the server's thread.
struct Server {
    settings: Settings,
    log: Arc<Log>,
    supervisor: Arc<Supervisor>,
    config: Config,
    terminal: bool,
    progress: Sender<Progress>,
}

impl Server {
    fn run(self, instance: Instance, listeners: Vec<Listener>, root_key: Option<RootKey>) {
        let progress = self.progress.clone();
        let outcome = actix_web::rt::System::new().block_on(async {
            // Before other programs can know that the server runs, so that no signal is lost.
            let signals = Signals::watch()?;
            let running = server::start(instance, listeners, &self.config).await?;
            running.metrics.watch_log(self.log.outlet());
            let greeting = greeting(&running, &self.config, root_key.as_ref(), self.terminal);
            drop(root_key);
            // In a thread, because its reader may be slow or gone.
            let print = move || drop(io::stdout().write_all(greeting.as_bytes()));
            thread::Builder::new().spawn(print).map_err(server::Error::Run)?;
            Serving { server: self, running }.wait(signals).await
        });
        // The main thread is gone only after `STOP_LIMIT`.
        let _ = progress.send(Progress::Ended(outcome));
    }
}

/// Prefers the error about the data directory: another keyward at the same address usually has the same
/// directory, and that error names it.
fn in_use(config: &Config, err: server::Error) -> server::Error {
    let server::Error::Listen { source, .. } = &err else { return err };
    if source.kind() != io::ErrorKind::AddrInUse || !config.layout().lock().exists() {
        return err;
    }
    match DataDir::take(&config.data_dir) {
        Err(held @ DataDirError::InUse { .. }) => held.into(),
        Ok(_) | Err(_) => err,
    }
}

/// The signals to stop, to reload and to make a backup.
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

/// The request of a signal.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Told {
    Stop,
    Reload,
    Backup,
}

struct Serving {
    server: Server,
    running: Running,
}

impl Serving {
    /// Reads the configuration and its files again. Applies all changes, or none if anything is wrong.
    fn reload(&mut self) {
        self.server.supervisor.reloading();
        let fresh = load_strictly(&self.server.settings).map(|(config, _)| config);
        let level = fresh.as_ref().map(|it| it.log.level).ok();
        let outcome = fresh.and_then(|it| Ok(self.running.reload(it)?));
        match (outcome, level) {
            (Ok(_), Some(level)) => self.server.log.set_level(level),
            (Ok(_), None) => (),
            (Err(err), _) => {
                tracing::error!(
                    error = err.with_causes(),
                    "not reloaded; the earlier configuration stays in force"
                );
            }
        }
        self.ready();
    }

    /// Reports that every listener accepts, after the log holds all earlier messages.
    fn ready(&self) {
        self.server.log.flush();
        self.server.supervisor.ready(&self.status());
    }

    /// Returns one line for `systemctl status`.
    fn status(&self) -> String {
        let credentials = self.running.app().credential_count();
        let credentials =
            output::count(i64::try_from(credentials).unwrap_or(i64::MAX), "credential");
        format!("{credentials}; {}", self.running.urls.join(" "))
    }

    /// Serves until a signal stops the server, or until the disk fails.
    async fn wait(mut self, mut signals: Signals) -> Result<(), server::Error> {
        self.ready();
        let watchdog = supervisor::watchdog_interval();
        let app = Arc::clone(self.running.app());
        let workers = Arc::clone(&self.running.workers);
        let supervisor = Arc::clone(&self.server.supervisor);
        let watched = supervisor::watch(supervisor, watchdog, Arc::clone(&app), workers);
        let watched = actix_web::rt::spawn(watched);
        let mut minute = tokio::time::interval(STATUS_INTERVAL);
        loop {
            tokio::select! {
                told = signals.next() => match told {
                    Told::Stop => break,
                    Told::Reload => self.reload(),
                    Told::Backup => self.running.start_job(Job::Backup),
                },
                _ = minute.tick() => self.server.supervisor.status(&self.status()),
                () = self.running.halted() => break,
            }
        }
        watched.abort();
        self.server.supervisor.stopping();
        // The main thread lives until the end of this thread is reported.
        let _ = self.server.progress.send(Progress::Stopping);
        tracing::info!("stopping");
        tokio::select! {
            stopped = self.running.stop() => stopped?,
            // A second signal: do not wait for slow clients.
            () = signals.stop() => tracing::warn!("stopped without waiting"),
        }
        app.divergence().map_or(Ok(()), |why| Err(server::Error::Halted(why.clone())))
    }
}
