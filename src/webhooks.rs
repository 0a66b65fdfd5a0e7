//! Webhooks: sends events of the audit log to receivers, as Standard Webhooks 1.0.0 specifies.
//!
//! Each webhook has a thread. It reads the log after its stored cursor, and moves the cursor on once
//! the receiver has taken an event. Events are therefore delivered in order and at least once, and no
//! request waits for a receiver.

mod access;
mod client;
mod delivery;

use std::{
    io,
    sync::{
        Arc,
        mpsc::{self, Receiver},
    },
    thread,
    time::Duration,
};

use tokio::sync::watch;

use self::{access::Access, delivery::Delivery};
use crate::{
    service::{Keyward, Webhook},
    telemetry::Metrics,
};

/// The running deliveries.
pub struct Webhooks {
    configured: Vec<Webhook>,
    access: Arc<Access>,
    stopping: watch::Sender<bool>,
    /// Disconnected when every thread has ended.
    running: Receiver<()>,
}

impl Webhooks {
    /// Starts the delivery of each webhook, and forgets the positions of all others.
    pub fn start(
        app: &Arc<Keyward>,
        metrics: &Arc<Metrics>,
        webhooks: Vec<Webhook>,
    ) -> Result<Self, io::Error> {
        if let Err(err) = app.forget_other_webhooks(&webhooks) {
            let error = &err as &dyn std::error::Error;
            tracing::warn!(error, "the positions of removed webhooks are still stored");
        }
        let access = Arc::new(Access::new(Arc::clone(app), Arc::clone(metrics)));
        let (stopping, _) = watch::channel(false);
        let (alive, running) = mpsc::channel();
        let it = Self { configured: webhooks, access, stopping, running };
        for webhook in it.configured.iter().cloned() {
            metrics.declare_webhook(&webhook.name);
            let name = format!("webhook-{}", webhook.name);
            let (access, stopping) = (Arc::clone(&it.access), it.stopping.subscribe());
            let delivery = Delivery::new(webhook, access, stopping, app.watch_events())?;
            let alive = alive.clone();
            thread::Builder::new().name(name).spawn(move || {
                let _alive = alive;
                delivery.run();
            })?;
        }
        Ok(it)
    }

    /// Delivers to these webhooks from now on. An attempt that is under way is made again.
    pub fn replace(&mut self, app: &Arc<Keyward>, webhooks: Vec<Webhook>) -> Result<(), io::Error> {
        if self.configured == webhooks {
            return Ok(());
        }
        self.stop_sending();
        self.access.end();
        // If the start fails, the next reload starts them, also with the same configuration.
        self.configured.clear();
        let metrics = Arc::clone(&self.access.metrics);
        *self = Self::start(app, &metrics, webhooks)?;
        Ok(())
    }

    /// Lets no further attempt begin.
    pub fn stop_sending(&self) {
        self.stopping.send_replace(true);
    }

    /// Waits for the running attempts, but at most `limit`. After this no delivery uses the
    /// application. What was not answered yet is sent again after the next start.
    pub fn close(self, limit: Duration) {
        self.stop_sending();
        // Nothing is ever sent: an error means that all have ended, or that the time is over.
        let _ = self.running.recv_timeout(limit);
    }
}

impl Drop for Webhooks {
    fn drop(&mut self) {
        self.stop_sending();
        self.access.end();
    }
}
