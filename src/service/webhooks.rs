//! Webhooks: their positions in the audit log, and how the last attempts ended.
//!
//! The positions are stored without events, see `store::webhooks`. Only a change of what a webhook
//! does, disabling and enabling it, is an event.

use std::{
    collections::BTreeMap,
    fmt::Write,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use pbkdf2::sha2::{Digest, Sha256};
use serde_json::json;

use crate::{
    domain::{
        event::{EventSource, EventType, NewEvent},
        webhook::{EventPattern, WebhookCursor},
        webhook_secret::WebhookSecret,
    },
    service::{Error, Keyward},
};

/// A webhook of the configuration.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Webhook {
    pub name: String,
    pub url: String,
    /// At least one. Each signs every message, so that a secret can be replaced.
    pub secrets: Vec<WebhookSecret>,
    pub events: Vec<EventPattern>,
    /// Whether the receiver may have an address that is not public.
    pub allow_private: bool,
    /// How long one attempt may take in all.
    pub timeout: Duration,
}

/// A webhook as an operator sees it.
#[derive(Clone, Debug)]
pub struct WebhookStatus {
    pub name: String,
    pub cursor: WebhookCursor,
    /// How many events of the log are behind the cursor.
    pub lag: i64,
    /// Why the last attempt failed. Kept in memory only.
    pub last_error: Option<String>,
}

/// What the running deliveries report, by the name of the webhook.
#[derive(Debug, Default)]
pub(super) struct WebhookReports(Mutex<BTreeMap<String, Report>>);

#[derive(Clone, Debug)]
struct Report {
    seq: i64,
    last_error: Option<String>,
}

impl Webhook {
    /// Returns whether the webhook subscribes to this event type.
    pub fn wants(&self, event_type: &str) -> bool {
        self.events.iter().any(|it| it.matches(event_type))
    }

    /// Returns what identifies the receiver. A URL may hold a secret, so this is its digest.
    fn target(&self) -> String {
        Sha256::digest(&self.url).iter().fold(String::new(), |mut text, byte| {
            // Writing to a String cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
    }
}

impl WebhookReports {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Report>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Keyward {
    /// Returns the position of a webhook. A new webhook begins after the newest event. A webhook with
    /// another URL keeps its position and is enabled.
    pub fn webhook_cursor(&self, webhook: &Webhook) -> Result<WebhookCursor, Error> {
        let (name, target) = (webhook.name.clone(), webhook.target());
        if let Some(found) = self.store.read(|tx| tx.webhook_cursor(&name, &target))? {
            return Ok(found);
        }
        self.system_change(move |tx| {
            let known = tx.webhook_cursors()?.into_iter().find(|(it, _)| *it == name);
            let seq = match known {
                Some((_, cursor)) => cursor.seq,
                None => tx.audit_head()?.seq,
            };
            let cursor = WebhookCursor::at(seq);
            tx.keep_webhook_cursor(&name, &target, cursor)?;
            Ok(cursor)
        })
    }

    /// Stores where a webhook is after an attempt that began with the stored cursor `before`, and
    /// records it if the webhook is disabled now. Returns the stored cursor.
    ///
    /// If an operator enabled the webhook during the attempt, the stored cursor is another. Then a
    /// failure of the attempt changes nothing, and only what was delivered counts.
    pub fn move_webhook_cursor(
        &self,
        webhook: &Webhook,
        before: WebhookCursor,
        after: WebhookCursor,
    ) -> Result<WebhookCursor, Error> {
        let (name, target) = (webhook.name.clone(), webhook.target());
        let event = NewEvent::about_server(
            EventType::WebhookDisabled,
            json!({ "name": name, "status": 410 }),
        );
        self.system_change(move |tx| {
            let Some(stored) = tx.webhook_cursor(&name, &target)? else { return Ok(after) };
            let seq = stored.seq.max(after.seq);
            let is_unchanged = WebhookCursor { seq, ..stored } == WebhookCursor { seq, ..before };
            let next = WebhookCursor { seq, ..if is_unchanged { after } else { stored } };
            if stored.disabled_at.is_none() && next.disabled_at.is_some() {
                tx.record(&EventSource::SCHEDULER, &event)?;
            }
            tx.keep_webhook_cursor(&name, &target, next)?;
            Ok(next)
        })
    }

    /// Makes the next attempt of a webhook due at once, also if it is disabled, and records that.
    pub fn enable_webhook(&self, name: &str) -> Result<(), Error> {
        let name = name.to_owned();
        let event = NewEvent::about_server(EventType::WebhookEnabled, json!({ "name": name }));
        self.system_change(move |tx| {
            if !tx.reset_webhook(&name)? {
                return Err(Error::UnknownId("webhook"));
            }
            tx.record(&EventSource::CLI, &event)?;
            Ok(())
        })
    }

    /// Removes the positions of all webhooks that the configuration no longer has.
    pub fn forget_other_webhooks(&self, configured: &[Webhook]) -> Result<(), Error> {
        let other = |name: &str| configured.iter().all(|it| it.name != name);
        let mut names: Vec<_> = self
            .store
            .read::<_, Error>(|tx| Ok(tx.webhook_cursors()?))?
            .into_iter()
            .map(|(it, _)| it)
            .collect();
        names.retain(|it| other(it));
        if names.is_empty() {
            return Ok(());
        }
        self.system_change(move |tx| {
            Ok(names.iter().try_for_each(|it| tx.delete_webhook_cursor(it))?)
        })
    }

    /// Keeps in memory how far a webhook is, and why its last attempt failed, if it did.
    pub fn report_webhook(&self, name: &str, seq: i64, last_error: Option<String>) {
        self.webhook_reports.lock().insert(name.to_owned(), Report { seq, last_error });
    }

    /// Returns how many events each running webhook is behind the log.
    pub fn webhook_lags(&self) -> Vec<(String, i64)> {
        let newest = *self.watch_events().borrow();
        let reports = self.webhook_reports.lock();
        reports.iter().map(|(name, it)| (name.clone(), newest.saturating_sub(it.seq))).collect()
    }

    /// Returns every webhook, in the order of the names.
    pub fn list_webhooks(&self) -> Result<Vec<WebhookStatus>, Error> {
        let (cursors, newest) =
            self.store.read::<_, Error>(|tx| Ok((tx.webhook_cursors()?, tx.audit_head()?.seq)))?;
        let reports = self.webhook_reports.lock();
        let status = |(name, mut cursor): (String, WebhookCursor)| {
            let report = reports.get(&name);
            // What a webhook does not subscribe to is passed over in memory first.
            cursor.seq = report.map_or(cursor.seq, |it| it.seq.max(cursor.seq));
            let last_error = report.and_then(|it| it.last_error.clone());
            WebhookStatus { lag: (newest - cursor.seq).max(0), name, cursor, last_error }
        };
        Ok(cursors.into_iter().map(status).collect())
    }
}
