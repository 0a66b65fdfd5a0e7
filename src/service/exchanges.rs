//! Exchanges of keys for tokens. They are recorded as events in groups, as a key may be exchanged every
//! few minutes.

use std::{
    cmp::Reverse,
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use serde_json::json;

use crate::{
    domain::{
        event::{Actor, EventSource, EventType, NewEvent, Subject},
        id::KeyId,
    },
    env::Timestamp,
    service::{Error, Keyward, verify::actor_of},
    store::IndexedCredential,
};

/// The number of keys with an event of their own in a window. Those that were exchanged most have one;
/// the others share one event, so that the log does not grow with the number of keys.
const ROWS: usize = 64;
/// The number of keys in memory.
const KEYS: usize = 10_000;
const WINDOW: Duration = Duration::from_hours(1);

/// The exchanges that are not in the log yet.
#[derive(Debug, Default)]
pub(super) struct ExchangeRecorder(Mutex<Pending>);

#[derive(Debug, Default)]
struct Pending {
    keys: HashMap<KeyId, Tally>,
    /// Exchanges of other keys than these.
    others: u64,
    window_ends: Option<Timestamp>,
}

#[derive(Clone, Copy, Debug)]
struct Tally {
    /// The key, with the credential that was exchanged first.
    actor: Actor,
    count: u64,
    first: Timestamp,
    last: Timestamp,
}

impl Pending {
    fn add(&mut self, key: KeyId, tally: Tally) {
        if KEYS <= self.keys.len() && !self.keys.contains_key(&key) {
            self.others += tally.count;
            return;
        }
        let more = |it: &mut Tally| {
            it.count += tally.count;
            it.first = it.first.min(tally.first);
            it.last = it.last.max(tally.last);
        };
        self.keys.entry(key).and_modify(more).or_insert(tally);
    }

    /// Returns the exchanges to record now, if the window is over, and with `all` in any case.
    fn take(&mut self, now: Timestamp, all: bool) -> Option<Self> {
        let is_over = self.window_ends.is_some_and(|it| it <= now);
        (all || is_over).then(|| std::mem::take(self)).filter(|it| it.window_ends.is_some())
    }
}

impl Keyward {
    /// Counts an exchange until the next [`Keyward::record_exchanges`].
    pub(super) fn count_exchange(&self, entry: &IndexedCredential, now: Timestamp) {
        let mut pending = self.exchanges.0.lock().unwrap_or_else(PoisonError::into_inner);
        pending.window_ends.get_or_insert_with(|| now.after(WINDOW));
        let tally = Tally { actor: actor_of(entry), count: 1, first: now, last: now };
        pending.add(entry.key.id, tally);
    }

    /// Records the exchanges of each hour: at most 65 events, whose counts include every exchange. Returns
    /// the number of events. With `all`, nothing waits.
    pub fn record_exchanges(&self, all: bool) -> Result<u64, Error> {
        let pending = || self.exchanges.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(due) = pending().take(self.env.time.now(), all) else { return Ok(0) };
        let events = events(&due);
        let written = self.system_change(move |tx| {
            for (source, event) in &events {
                tx.record(source, event)?;
            }
            Ok::<_, Error>(events.len() as u64)
        });
        if written.is_err() {
            let mut pending = pending();
            pending.window_ends = due.window_ends;
            pending.others += due.others;
            for (key, tally) in due.keys {
                pending.add(key, tally);
            }
        }
        written
    }
}

fn events(due: &Pending) -> Vec<(EventSource, NewEvent)> {
    let mut tallies: Vec<_> = due.keys.iter().collect();
    tallies.sort_by_key(|(key, it)| (Reverse(it.count), it.first, **key));
    let rest = tallies.split_off(tallies.len().min(ROWS));
    let of_key = |(key, tally): (&KeyId, &Tally)| {
        let Tally { actor, count, first, last } = *tally;
        let account = match actor {
            Actor::Key { account, .. } => Some(account),
            Actor::Cli | Actor::Scheduler => None,
        };
        let data = json!({
            "count": count, "firstAt": first.to_string(), "lastAt": last.to_string(),
        });
        let (event_type, subject) = (EventType::ApiKeyExchanged, Subject::Key(*key));
        let source = EventSource { actor, request_id: None, client_ip: None };
        (source, NewEvent { event_type, account, subject, data })
    };
    let mut events: Vec<_> = tallies.into_iter().map(of_key).collect();
    let others = rest.iter().map(|(_, it)| it.count).sum::<u64>() + due.others;
    if others != 0 {
        let data = json!({ "count": others, "keys": "several" });
        let event = NewEvent::about_server(EventType::ApiKeyExchanged, data);
        events.push((EventSource::SCHEDULER, event));
    }
    events
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{id::AccountId, plaintext_key::KeyPrefix};

    #[test]
    fn the_log_gets_few_events_and_every_exchange_is_in_one() {
        let now = Timestamp::from_millis(0);
        let mut pending = Pending { window_ends: Some(now), ..Pending::default() };
        let prefix = KeyPrefix::from_stored("rg_8fK2mQ9zT").unwrap();
        for raw in 0..KEYS as u128 + 5 {
            let (id, account) = (KeyId::from_raw(raw), AccountId::from_raw(1));
            let actor = Actor::Key { id, prefix, account };
            let count = if raw == 77 { 2 } else { 1 };
            pending.add(id, Tally { actor, count, first: now, last: now });
        }
        let events = events(&pending);
        assert_eq!(events.len(), ROWS + 1);
        assert_eq!(events[0].1.subject, Subject::Key(KeyId::from_raw(77)));
        let counts = events.iter().map(|(_, it)| it.data["count"].as_u64().unwrap());
        assert_eq!(counts.sum::<u64>(), KEYS as u64 + 6);
        assert_eq!(events[ROWS].1.subject, Subject::Server);
    }
}
