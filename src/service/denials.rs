//! Refused management calls. They are recorded as events in groups, so that a flood of them fills
//! neither the disk nor the memory.

use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use serde_json::json;

use crate::{
    domain::{
        event::{Actor, EventSource, EventType, NewEvent, Subject},
        id::{AccountId, KeyId},
        plaintext_key::KeyPrefix,
    },
    env::Timestamp,
    service::{Error, Keyward},
};

/// The number of events for new groups in a window, and again at its end.
const ROWS: usize = 64;
/// The number of groups in memory.
const GROUPS: usize = 1_000;
const WINDOW: Duration = Duration::from_hours(1);
/// The reason in the event for all groups beyond these.
const SEVERAL: &str = "several";
/// The reason in the event about a leaked key that is the last root key and so stays accepted. Other
/// groups, which every stranger can make, never take the place of this one.
pub(super) const LAST_ROOT_KEY: &str = "last_root_key";

/// A refused call, with what is known of its caller.
#[derive(Clone, Copy, Debug)]
pub struct DeniedCall {
    /// The code of the problem in the answer.
    pub reason: &'static str,
    /// The prefix of the presented text, if it has the shape of a key.
    pub prefix: Option<KeyPrefix>,
    /// The key and its account, if the whole secret was presented.
    pub key: Option<(KeyId, AccountId)>,
    pub address: Option<IpAddr>,
}

/// The reason, the prefix and the address. The address of a call about a leaked last root key is not
/// part of its group, so that there are few such groups.
type Group = (&'static str, Option<KeyPrefix>, Option<IpAddr>);

#[derive(Clone, Copy, Debug)]
struct Tally {
    key: Option<(KeyId, AccountId)>,
    /// The address of the first call.
    address: Option<IpAddr>,
    count: u64,
    first: Timestamp,
    last: Timestamp,
}

/// The refused calls that are not in the log yet.
#[derive(Debug, Default)]
pub(super) struct DenialRecorder {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    pending: HashMap<Group, Tally>,
    /// Groups with an event in this window. Their further calls wait for its end.
    written: HashSet<Group>,
    window_ends: Option<Timestamp>,
}

impl Tally {
    fn add(&mut self, more: Self) {
        self.count += more.count;
        self.first = self.first.min(more.first);
        self.last = self.last.max(more.last);
    }
}

impl DenialRecorder {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_urgent((reason, ..): &Group) -> bool {
    *reason == LAST_ROOT_KEY
}

impl State {
    fn add(&mut self, group: Group, tally: Tally) {
        let full = GROUPS <= self.pending.len()
            && !self.pending.contains_key(&group)
            && !is_urgent(&group);
        let (group, tally) = if full {
            ((SEVERAL, None, None), Tally { key: None, address: None, ..tally })
        } else {
            (group, tally)
        };
        self.pending.entry(group).and_modify(|it| it.add(tally)).or_insert(tally);
    }

    /// Returns the groups to record now. Within a window: groups without an event, while there is
    /// room. At its end, and with `all`: everything, the most frequent groups each and the rest as
    /// one.
    fn take(&mut self, now: Timestamp, all: bool) -> Vec<(Group, Tally)> {
        let ends = *self.window_ends.get_or_insert_with(|| now.after(WINDOW));
        if all || ends <= now {
            self.window_ends = None;
            self.written.clear();
            let mut due: Vec<_> = self.pending.drain().collect();
            due.sort_by_key(|(group, it)| {
                (std::cmp::Reverse((is_urgent(group), it.count)), it.first)
            });
            let rest = due.split_off(due.len().min(ROWS - 1));
            let rest = rest.into_iter().map(|(_, it)| it).reduce(|mut sum, it| {
                sum.add(it);
                sum
            });
            let several = |it| ((SEVERAL, None, None), Tally { key: None, address: None, ..it });
            due.extend(rest.map(several));
            return due;
        }
        let mut due: Vec<_> = self.pending.iter().map(|(group, it)| (*group, *it)).collect();
        due.retain(|(group, _)| !self.written.contains(group));
        due.sort_by_key(|(group, it)| {
            (std::cmp::Reverse(is_urgent(group)), it.first, std::cmp::Reverse(it.count))
        });
        let urgent = due.iter().take_while(|(group, _)| is_urgent(group)).count();
        due.truncate(ROWS.saturating_sub(self.written.len()).max(urgent));
        for (group, _) in &due {
            self.pending.remove(group);
            self.written.insert(*group);
        }
        due
    }
}

impl Keyward {
    /// Counts a refused call until the next [`Keyward::record_denials`].
    pub fn count_denial(&self, call: DeniedCall) {
        let now = self.env.time.now();
        let DeniedCall { reason, prefix, key, address } = call;
        let tally = Tally { key, address, count: 1, first: now, last: now };
        let group = (reason, prefix, address);
        let group = if is_urgent(&group) { (reason, prefix, None) } else { group };
        self.denials.state().add(group, tally);
    }

    /// Records the refused calls: at most 128 events an hour, whose counts include every call.
    /// Returns the number of events. With `all`, nothing waits.
    pub fn record_denials(&self, all: bool) -> Result<u64, Error> {
        let due = self.denials.state().take(self.env.time.now(), all);
        if due.is_empty() {
            return Ok(0);
        }
        let written = self.system_change({
            let due = due.clone();
            move |tx| {
                for (group, tally) in &due {
                    let (source, event) = event(*group, tally);
                    tx.record(&source, &event)?;
                }
                Ok::<_, Error>(due.len() as u64)
            }
        });
        if written.is_err() {
            let mut state = self.denials.state();
            for (group, tally) in due {
                state.written.remove(&group);
                state.add(group, tally);
            }
        }
        written
    }
}

fn event((reason, prefix, _): Group, tally: &Tally) -> (EventSource, NewEvent) {
    let actor = match (tally.key, prefix) {
        (Some((id, account)), Some(prefix)) => Actor::Key { id, prefix, account },
        // The caller is unknown, so the scheduler is the actor.
        _ => Actor::Scheduler,
    };
    let event = NewEvent {
        event_type: EventType::AuthDenied,
        account: tally.key.map(|(_, account)| account),
        subject: tally.key.map_or(Subject::Server, |(id, _)| Subject::Key(id)),
        data: json!({
            "reason": reason,
            "keyPrefix": prefix.map(|it| it.as_str().to_owned()),
            "count": tally.count,
            "firstAt": tally.first.to_string(),
            "lastAt": tally.last.to_string(),
        }),
    };
    (EventSource { actor, request_id: None, client_ip: tally.address }, event)
}
