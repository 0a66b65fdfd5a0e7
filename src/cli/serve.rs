//! `keyward serve`

use std::{
    io::{self, IsTerminal, Write},
    sync::Arc,
};

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::{
    cli::{Error, Settings, config},
    config::Config,
    env::{SystemClock, SystemEntropy},
    server::{self, Running, Site},
    service::{RootKey, write_key_file},
    telemetry,
};

pub(super) fn serve(settings: &Settings) -> Result<(), Error> {
    let config = config::load(settings)?;
    let terminal = io::stdout().is_terminal();
    telemetry::start_log(&config.log, io::stderr().is_terminal());
    let site = Site::open(&config, Arc::new(SystemClock::new()), Arc::new(SystemEntropy))?;
    let listener = server::bind(&config)?;
    let key_file = site.dir.initial_key();
    let made =
        site.first_start(|key| if terminal { Ok(()) } else { write_key_file(&key_file, key) })?;
    let outcome = actix_web::rt::System::new().block_on(async {
        // Before anybody can know that it runs, so that no signal is lost.
        let signals = Signals::watch()?;
        let running = server::start(site, listener, &config).await?;
        greet(&running, &config, made.as_ref(), terminal)?;
        drop(made);
        wait(running, signals).await
    });
    Ok(outcome?)
}

/// The ways to be told to stop, and to read again what may change.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    reload: Signal,
}

impl Signals {
    fn watch() -> Result<Self, server::Error> {
        let watch = |kind| signal(kind).map_err(server::Error::Run);
        let terminate = watch(SignalKind::terminate())?;
        let interrupt = watch(SignalKind::interrupt())?;
        Ok(Self { terminate, interrupt, reload: watch(SignalKind::hangup())? })
    }

    async fn next(&mut self) -> Told {
        tokio::select! {
            _ = self.terminate.recv() => Told::Stop,
            _ = self.interrupt.recv() => Told::Stop,
            _ = self.reload.recv() => Told::Reload,
        }
    }

    async fn stop(&mut self) {
        while self.next().await == Told::Reload {}
    }
}

/// What a signal says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Told {
    Stop,
    Reload,
}

fn reload(running: &Running) {
    if let Err(err) = running.reload() {
        tracing::error!(error = %err, "not reloaded; what was in force stays");
    }
}

/// Serves until a signal says stop, or until the disk has failed.
async fn wait(running: Running, mut signals: Signals) -> Result<(), server::Error> {
    let halted = loop {
        tokio::select! {
            told = signals.next() => match told {
                Told::Stop => break false,
                Told::Reload => reload(&running),
            },
            () = running.halted() => break true,
        }
    };
    tracing::info!("stopping");
    tokio::select! {
        stopped = running.stop() => stopped?,
        // Whoever asks twice does not want to wait for slow clients.
        () = signals.stop() => tracing::warn!("stopped without waiting"),
    }
    if halted { Err(server::Error::Halted) } else { Ok(()) }
}

/// Says what to do next. The root key is shown on a terminal and nowhere else.
fn greet(
    running: &Running,
    config: &Config,
    made: Option<&RootKey>,
    terminal: bool,
) -> Result<(), server::Error> {
    let address = running.address;
    let dir = config.data_dir.display();
    let mut out = io::stdout().lock();
    let mut say = |line: &str| writeln!(out, "{line}").map_err(server::Error::Run);
    say(&format!("keyward {} · http://{address} · data in {dir}", env!("CARGO_PKG_VERSION")))?;
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
            return say(&format!("  Swagger UI      http://{address}/docs/"));
        }
    }
    say(&format!("      curl -H \"X-API-Key: $KEYWARD_KEY\" http://{address}/api/v1/api-keys\n"))?;
    say(&format!("  Swagger UI  http://{address}/docs/"))?;
    say(&format!("  Audit log   signed with {} (also in", running.app().checkpoint_key()))?;
    say(&format!("              {dir}/checkpoint.pub); keep that key elsewhere, for auditors"))
}
