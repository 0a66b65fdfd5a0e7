//! Reading the audit log, as far as the reader may see it.

use std::{collections::HashMap, time::Duration};

use serde_json::Value;
use tokio::sync::watch;

use crate::{
    domain::{
        event::{Event, EventSource, EventType, NewEvent},
        id::{AccountId, KeyId},
    },
    service::{Error, Keyward, Principal},
    store::{EventFilter, ReadTx, StoreError},
};

/// The name of every key of the operator account, in filters and for other accounts.
pub const OPERATOR: &str = "operator";

/// The reader: the operator sees all events, an account only its own.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Viewer {
    Operator,
    Account(AccountId),
}

/// An event as the reader sees it.
#[derive(Clone, Debug)]
pub struct EventView {
    pub event: Event,
    /// Whether the actor is the operator, whose key and address are hidden from this reader.
    pub operator_hidden: bool,
    /// The name of the key that caused the event; `None` if no key did.
    pub actor_name: Option<String>,
}

/// The names of the keys that caused some events, each looked up once.
#[derive(Debug, Default)]
pub struct ActorNames(HashMap<String, Option<String>>);

/// A page of events.
#[derive(Debug)]
pub struct EventPage {
    pub views: Vec<EventView>,
    /// Whether the page has as many events as were asked for, so that there may be more.
    pub is_full: bool,
    /// The number of the last event that was looked at: the next page begins after it, even if few
    /// events were for this reader.
    pub reached: i64,
}

impl ActorNames {
    /// Returns the name of the key that caused the event.
    pub fn of(&mut self, tx: &ReadTx<'_>, event: &Event) -> Result<Option<String>, StoreError> {
        if !event.actor.starts_with(KeyId::PREFIX) {
            return Ok(None);
        }
        if let Some(known) = self.0.get(&event.actor) {
            return Ok(known.clone());
        }
        let name = tx.actor_name(&event.actor)?;
        self.0.insert(event.actor.clone(), name.clone());
        Ok(name)
    }
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

    /// Returns the next events for this reader, and how far they reach, from one snapshot.
    pub fn event_page(&self, viewer: Viewer, mut filter: EventFilter) -> Result<EventPage, Error> {
        if filter.actor.as_deref() == Some(OPERATOR) {
            filter.actor = None;
            let operator = self.store.read::<_, Error>(|tx| Ok(tx.operator_account()?))?;
            filter.actor_account = operator.map(|it| it.id);
        } else if let Viewer::Account(id) = viewer {
            // Otherwise an account could guess the key behind `operator`.
            let by_key = filter.actor.as_deref().is_some_and(|it| it.starts_with(KeyId::PREFIX));
            filter.actor_account = by_key.then_some(id);
        }
        if let Viewer::Account(id) = viewer
            && filter.account.replace(id).is_some_and(|it| it != id)
        {
            let reached = self.newest_event()?.max(filter.after);
            return Ok(EventPage { views: Vec::new(), is_full: false, reached });
        }
        let (events, head) = self.store.read::<_, StoreError>(|tx| {
            let mut names = ActorNames::default();
            let with_name = |it: Event| Ok((names.of(tx, &it)?, it));
            let events = tx.events(&filter)?.into_iter().map(with_name);
            Ok((events.collect::<Result<Vec<_>, StoreError>>()?, tx.audit_head()?.seq))
        })?;
        let is_full = filter.limit as usize <= events.len();
        let reached = events.last().filter(|_| is_full).map_or(head, |it| it.1.seq);
        let views = events.into_iter();
        let views = views.map(|(name, it)| self.event_view(viewer, it, name)).collect();
        Ok(EventPage { views, is_full, reached: reached.max(filter.after) })
    }

    /// Returns the `seq` of the newest event in the file; 0 if there is none.
    pub fn newest_event(&self) -> Result<i64, Error> {
        self.store.read(|tx| Ok(tx.audit_head()?.seq))
    }

    /// Returns a channel with the number of the newest event. When it changes, the effect of that
    /// event is in the index already.
    pub fn watch_events(&self) -> watch::Receiver<i64> {
        self.store.committed()
    }

    pub fn find_event(&self, viewer: Viewer, seq: i64) -> Result<EventView, Error> {
        let found = self.store.read::<_, StoreError>(|tx| {
            let Some(event) = tx.event(seq)? else { return Ok(None) };
            Ok(Some((ActorNames::default().of(tx, &event)?, event)))
        })?;
        let (name, event) = found.ok_or(Error::NO_EVENT)?;
        match viewer {
            Viewer::Account(id) if event.account_id != Some(id.to_string()) => Err(Error::NO_EVENT),
            Viewer::Account(_) | Viewer::Operator => Ok(self.event_view(viewer, event, name)),
        }
    }

    /// Records an event about keyward itself.
    pub fn record_server_event(&self, event_type: EventType, data: Value) -> Result<(), Error> {
        let event = NewEvent::about_server(event_type, data);
        self.record_with_deferred(Vec::new(), move |tx| {
            tx.record(&EventSource::CLI, &event)?;
            Ok(())
        })?;
        Ok(())
    }

    fn event_view(&self, viewer: Viewer, event: Event, name: Option<String>) -> EventView {
        let by_operator = event
            .actor_account_id
            .as_deref()
            .and_then(|it| AccountId::parse(it).ok())
            .and_then(|it| self.store.index().account(it, |it| it.operator))
            .unwrap_or(false);
        let operator_hidden = by_operator && viewer != Viewer::Operator;
        let actor_name = name.filter(|_| !operator_hidden);
        EventView { event, operator_hidden, actor_name }
    }

    /// Accepts the wall clock in place of the floor. Time may go back by this. Returns by how much. Tokens
    /// that would end late by this clock are no longer good.
    pub fn accept_clock(&self) -> Result<Duration, Error> {
        let (before, after) = self.env.time.accept_wall();
        let floor = self.env.time.floor();
        let data = serde_json::json!({ "before": before.to_string(), "after": after.to_string() });
        let event = NewEvent::about_server(EventType::ClockAccepted, data);
        self.system_change(move |tx| {
            tx.record(&EventSource::CLI, &event)?;
            tx.keep_time_floor(floor)
        })?;
        self.refuse_late_tokens()?;
        Ok(before.since(after))
    }
}
