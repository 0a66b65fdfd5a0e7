//! Reading the audit log, as much of it as the reader may see.

use std::time::Duration;

use serde_json::Value;
use tokio::sync::watch;

use crate::{
    domain::{
        event::{Event, EventSource, EventType, NewEvent, Subject},
        id::{AccountId, KeyId},
    },
    service::{Error, Keyward, Principal},
    store::{EventFilter, StoreError},
};

/// Stands for every key of the operator account, in filters and in an account's view.
pub const OPERATOR: &str = "operator";

/// Who reads: the operator sees everything, an account its own events only.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Viewer {
    Operator,
    Account(AccountId),
}

/// An event as this reader sees it.
#[derive(Clone, Debug)]
pub struct EventView {
    pub event: Event,
    /// The actor is the operator, whose keys and addresses are nobody else's business.
    pub operator_hidden: bool,
}

/// What there is to see after a point of the log.
#[derive(Debug)]
pub struct EventPage {
    pub views: Vec<EventView>,
    /// As many as were asked for, so there may be more.
    pub is_full: bool,
    /// Up to here the log was looked through: where the next page begins, however few of the
    /// events were for this reader.
    pub reached: i64,
}

impl Principal {
    pub fn viewer(&self) -> Viewer {
        if self.operator { Viewer::Operator } else { Viewer::Account(self.account) }
    }
}

impl Keyward {
    pub fn list_events(
        &self,
        viewer: Viewer,
        filter: EventFilter,
    ) -> Result<Vec<EventView>, Error> {
        Ok(self.event_page(viewer, filter)?.views)
    }

    /// The next events for this reader, and how far that brings it, both of one snapshot.
    pub fn event_page(&self, viewer: Viewer, mut filter: EventFilter) -> Result<EventPage, Error> {
        if filter.actor.as_deref() == Some(OPERATOR) {
            filter.actor = None;
            let operator = self.store.read::<_, Error>(|tx| Ok(tx.operator_account()?))?;
            filter.actor_account = operator.map(|it| it.id);
        } else if let Viewer::Account(id) = viewer {
            // Else a guess at the key behind `operator` could be tried out.
            let by_key = filter.actor.as_deref().is_some_and(|it| it.starts_with(KeyId::PREFIX));
            filter.actor_account = by_key.then_some(id);
        }
        if let Viewer::Account(id) = viewer {
            filter.account = Some(id);
        }
        let (events, head) = self
            .store
            .read::<_, StoreError>(|tx| Ok((tx.events(&filter)?, tx.audit_head()?.seq)))?;
        let is_full = filter.limit as usize <= events.len();
        let reached = events.last().filter(|_| is_full).map_or(head, |it| it.seq);
        let views = events.into_iter().map(|it| self.event_view(viewer, it)).collect();
        Ok(EventPage { views, is_full, reached: reached.max(filter.after) })
    }

    /// The `seq` of the newest event in the file; 0 if there is none.
    pub fn newest_event(&self) -> Result<i64, Error> {
        self.store.read(|tx| Ok(tx.audit_head()?.seq))
    }

    /// Follows [`Keyward::newest_event`], for whoever waits for the next one. By the time that an
    /// event is told here, verification knows its effect.
    pub fn watch_events(&self) -> watch::Receiver<i64> {
        self.store.committed()
    }

    pub fn find_event(&self, viewer: Viewer, seq: i64) -> Result<EventView, Error> {
        let event = self.store.read(|tx| tx.event(seq))?.ok_or(Error::NO_EVENT)?;
        match viewer {
            Viewer::Account(id) if event.account_id != Some(id.to_string()) => Err(Error::NO_EVENT),
            Viewer::Account(_) | Viewer::Operator => Ok(self.event_view(viewer, event)),
        }
    }

    /// Records something about keyward itself.
    pub fn record_server_event(&self, event_type: EventType, data: Value) -> Result<(), Error> {
        self.record_with_put_off(Vec::new(), |_| Ok(()))?;
        let event = server_event(event_type, data);
        self.system_change(move |tx| {
            tx.record(&EventSource::CLI, &event)?;
            Ok(())
        })
    }

    fn event_view(&self, viewer: Viewer, event: Event) -> EventView {
        let by_operator = event
            .actor_account_id
            .as_deref()
            .and_then(|it| AccountId::parse(it).ok())
            .and_then(|it| self.store.index().account(it, |it| it.operator))
            .unwrap_or(false);
        EventView { operator_hidden: by_operator && viewer != Viewer::Operator, event }
    }

    /// Takes the wall clock for right, whatever the floor says. Time may go backwards by this.
    pub fn accept_clock(&self) -> Result<Duration, Error> {
        let (before, after) = self.env.time.accept_wall();
        let floor = self.env.time.floor();
        let data = serde_json::json!({ "before": before.to_string(), "after": after.to_string() });
        let event = server_event(EventType::ClockAccepted, data);
        self.system_change(move |tx| {
            tx.record(&EventSource::CLI, &event)?;
            tx.keep_time_floor(floor)
        })?;
        Ok(before.since(after))
    }
}

pub(super) fn server_event(event_type: EventType, data: Value) -> NewEvent {
    NewEvent { event_type, account: None, subject: Subject::Server, data }
}
