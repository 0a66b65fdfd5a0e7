//! The messages to systemd, and the sockets from it (`sd_notify(3)`, `sd_listen_fds(3)`). Without
//! systemd, nothing here has an effect.

use std::{
    io::{self, IsTerminal},
    os::{
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr, UnixDatagram},
    },
    sync::Arc,
    time::Duration,
};

use listenfd::ListenFd;
use sd_notify::NotifyState;

use crate::{
    cli::settings::environment,
    server::{Listener, Workers},
    service::Keyward,
    telemetry::{LogTarget, Outlet},
};

/// The most bytes of messages that wait for the supervisor.
const WAITING_BYTES: usize = 1 << 14;
/// How long the end of the process waits until the last message is sent.
const LAST_MESSAGE: Duration = Duration::from_secs(1);

/// Returns the sockets that systemd opened, which replace those of the configuration.
pub(super) fn sockets() -> Result<Vec<Listener>, io::Error> {
    let mut given = ListenFd::from_env();
    let mut listeners = Vec::new();
    for index in 0..given.len() {
        // Each is one or the other; taking the wrong kind leaves it in place.
        match given.take_tcp_listener(index) {
            Ok(Some(it)) => listeners.push(Listener::of_tcp(it)?),
            Ok(None) => (),
            Err(_) => {
                if let Some(it) = given.take_unix_listener(index)? {
                    listeners.push(Listener::of_unix(it)?);
                }
            }
        }
    }
    Ok(listeners)
}

/// Tells whether systemd connected standard error to the journal (`$JOURNAL_STREAM`, systemd.exec(5)).
pub(in crate::cli) fn log_target() -> LogTarget {
    if io::stderr().is_terminal() {
        return LogTarget::Terminal;
    }
    let stream = environment().find(|(name, _)| name == "JOURNAL_STREAM");
    let here = rustix::fs::fstat(io::stderr()).map(|it| format!("{}:{}", it.st_dev, it.st_ino));
    match (stream, here) {
        (Some((_, stream)), Ok(here)) if stream == here => LogTarget::Journal,
        _ => LogTarget::Other,
    }
}

/// The program that started this one and receives its state, if there is one.
///
/// Messages go through a queue, so a supervisor that does not read delays nothing.
pub(super) struct Supervisor(Option<Outlet>);

impl Supervisor {
    /// Returns the supervisor that `$NOTIFY_SOCKET` names: a path, or `@` and an abstract name.
    pub(super) fn of_environment() -> Result<Self, io::Error> {
        let Some((_, socket)) = environment().find(|(name, _)| name == "NOTIFY_SOCKET") else {
            return Ok(Self(None));
        };
        let address = match socket.strip_prefix('@') {
            Some(name) => SocketAddr::from_abstract_name(name),
            None => SocketAddr::from_pathname(&socket),
        }?;
        let sender = UnixDatagram::unbound()?;
        let mut reachable = true;
        let outlet = Outlet::start("notify", WAITING_BYTES, move |message, _| {
            let sent = sender.send_to_addr(message, &address);
            // One warning each time the supervisor goes away, not one for each message.
            if let Err(err) = &sent
                && reachable
            {
                tracing::warn!(
                    error = err as &dyn std::error::Error,
                    "messages cannot be sent to systemd"
                );
            }
            reachable = sent.is_ok();
        })?;
        Ok(Self(Some(outlet)))
    }

    /// Reports that every listener accepts.
    pub(super) fn ready(&self, status: &str) {
        self.tell(&[NotifyState::Ready, NotifyState::Status(status)]);
    }

    pub(super) fn status(&self, status: &str) {
        self.tell(&[NotifyState::Status(status)]);
    }

    pub(super) fn reloading(&self) {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => self.tell(&[NotifyState::Reloading, now]),
            Err(_) => self.tell(&[NotifyState::Reloading]),
        }
    }

    pub(super) fn stopping(&self) {
        self.tell(&[NotifyState::Stopping]);
    }

    /// Sends the messages that still wait, within a second.
    pub(super) fn finish(&self) {
        if let Some(outlet) = &self.0 {
            outlet.flush(LAST_MESSAGE);
        }
    }

    fn sign_of_life(&self) {
        self.tell(&[NotifyState::Watchdog]);
    }

    fn tell(&self, states: &[NotifyState<'_>]) {
        if let Some(outlet) = &self.0 {
            let lines: Vec<_> = states.iter().map(ToString::to_string).collect();
            outlet.offer(lines.join("\n").into_bytes());
        }
    }
}

/// Returns how often systemd expects a watchdog message; `None` if it expects none.
pub(super) fn watchdog_interval() -> Option<Duration> {
    sd_notify::watchdog_enabled().filter(|it| !it.is_zero())
}

/// Sends watchdog messages as long as the writer and every worker answer. systemd restarts a
/// process whose writer or workers are stuck. A refusal is an answer.
pub(super) async fn watch(
    supervisor: Arc<Supervisor>,
    interval: Option<Duration>,
    app: Arc<Keyward>,
    workers: Arc<Workers>,
) {
    let Some(interval) = interval else { return };
    let mut ticks = tokio::time::interval(interval / 3);
    loop {
        ticks.tick().await;
        let probed = Arc::clone(&app);
        let writer = tokio::task::spawn_blocking(move || probed.probe());
        workers.all_answer().await;
        if writer.await.is_ok() {
            supervisor.sign_of_life();
        }
    }
}
