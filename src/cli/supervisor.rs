//! What is said to systemd, and what it hands over (`sd_notify(3)`, `sd_listen_fds(3)`).
//! Elsewhere all of it does nothing.

use std::{
    io::{self, IsTerminal},
    sync::Arc,
    time::Duration,
};

use listenfd::ListenFd;
use sd_notify::NotifyState;

use crate::{cli::environment, server::Listener, service::Keyward, telemetry::LogTarget};

/// Sockets that were opened for us, in place of those of the configuration.
pub(super) fn sockets() -> Result<Vec<Listener>, io::Error> {
    let mut given = ListenFd::from_env();
    let mut listeners = Vec::new();
    for place in 0..given.len() {
        // Each is one or the other; asking for the wrong kind leaves it there.
        match given.take_tcp_listener(place) {
            Ok(Some(it)) => listeners.push(Listener::of_tcp(it)?),
            Ok(None) => (),
            Err(_) => {
                if let Some(it) = given.take_unix_listener(place)? {
                    listeners.push(Listener::of_unix(it)?);
                }
            }
        }
    }
    Ok(listeners)
}

/// Whether systemd connected standard error to the journal (`$JOURNAL_STREAM`, systemd.exec(5)).
pub(super) fn log_target() -> LogTarget {
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

/// Every listener accepts.
pub(super) fn ready(status: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(status)]);
}

pub(super) fn status(status: &str) {
    tell(&[NotifyState::Status(status)]);
}

pub(super) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(_) => tell(&[NotifyState::Reloading]),
    }
}

pub(super) fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// How often a sign of life is wanted, if at all.
pub(super) fn watchdog_interval() -> Option<Duration> {
    sd_notify::watchdog_enabled().filter(|it| !it.is_zero())
}

/// Gives signs of life for as long as the writer answers: a process that cannot change anything any
/// more is better started again. An answer that says no is one.
pub(super) async fn watch(interval: Option<Duration>, app: Arc<Keyward>) {
    let Some(interval) = interval else { return };
    let mut ticks = tokio::time::interval(interval / 3);
    loop {
        ticks.tick().await;
        let probed = Arc::clone(&app);
        if tokio::task::spawn_blocking(move || probed.probe()).await.is_ok() {
            tell(&[NotifyState::Watchdog]);
        }
    }
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(err) = sd_notify::notify(states) {
        tracing::warn!(error = &err as &dyn std::error::Error, "systemd cannot be told");
    }
}
