//! The append-only, hash-chained audit log.

use std::marker::PhantomData;

use rusqlite::{OptionalExtension, ToSql, params};

use crate::{
    domain::{
        event::{Actor, ChainHash, Event, EventSource, NewEvent, Subject},
        id::{AccountId, KeyId},
    },
    env::Timestamp,
    store::{
        AuditHead, ReadTx, StoreError, WriteTx,
        rows::{Fields, Table},
    },
};

const EVENTS: Table = Table { name: "events", key: "seq" };
const COLUMNS: &str = "seq, time_ms, type, account_id, actor, actor_prefix, actor_account_id,
    subject, request_id, client_ip, data, prev_hash, hash";

/// Shows that a change to `subject` has its event in the same transaction.
///
/// Only [`WriteTx::record`] creates a receipt. The lifetime `'tx` binds it to its transaction, and it
/// cannot be copied, so it can neither be kept for a later transaction nor forged. It names the row
/// to change, so the recorded row is the changed row.
///
/// In its own transaction, a receipt allows the change:
/// ```
/// use keyward::{domain::event::{NewEvent, EventSource}, service::Error, store::{AuditReceipt, StoreWriter}};
/// fn honest(writer: &StoreWriter, it: NewEvent) -> Result<(), Error> {
///     writer.write(move |tx| {
///         let receipt: AuditReceipt<'_> = tx.record(&EventSource::CLI, &it)?;
///         Ok(tx.delete_key(&receipt)?)
///     })
/// }
/// ```
/// A receipt cannot be built by hand:
/// ```compile_fail
/// use keyward::{domain::event::Subject, store::AuditReceipt};
/// fn forge() -> AuditReceipt<'static> {
///     AuditReceipt { seq: 1, subject: Subject::Server, tx: std::marker::PhantomData }
/// }
/// ```
/// It cannot be stored outside its transaction:
/// ```compile_fail
/// use keyward::{domain::event::{NewEvent, EventSource}, store::{AuditReceipt, WriteTx}};
/// fn smuggle(tx: &WriteTx<'_>, kept: &mut Option<AuditReceipt<'static>>, it: NewEvent) {
///     *kept = tx.record(&EventSource::CLI, &it).ok();
/// }
/// ```
/// It cannot be returned from its transaction:
/// ```compile_fail
/// use keyward::{domain::event::{NewEvent, EventSource}, service::Error, store::StoreWriter};
/// fn give_back(writer: &StoreWriter, it: NewEvent) {
///     let _ = writer.write(move |tx| Ok::<_, Error>(tx.record(&EventSource::CLI, &it)?));
/// }
/// ```
/// It cannot be used in another transaction:
/// ```compile_fail
/// use keyward::store::{AuditReceipt, WriteTx};
/// fn cross<'one>(_: &'one WriteTx<'_>, other: &WriteTx<'_>, receipt: &AuditReceipt<'one>) {
///     let _ = other.delete_key(receipt);
/// }
/// ```
/// A reading transaction has no method that takes one:
/// ```compile_fail
/// use keyward::store::{AuditReceipt, ReadTx};
/// fn change(tx: &ReadTx<'_>, receipt: &AuditReceipt<'_>) {
///     let _ = tx.delete_key(receipt);
/// }
/// ```
#[derive(Debug)]
pub struct AuditReceipt<'tx> {
    seq: i64,
    subject: Subject,
    tx: PhantomData<fn(&'tx ()) -> &'tx ()>,
}

/// Which events to read; an absent field selects all.
#[derive(Clone, Debug, Default)]
pub struct EventFilter {
    /// Only events of this account.
    pub account: Option<AccountId>,
    pub event_type: Option<String>,
    pub subject: Option<String>,
    pub actor: Option<String>,
    /// Only events that keys of this account caused.
    pub actor_account: Option<AccountId>,
    /// Only events with a greater `seq`.
    pub after: i64,
    /// Only events with a smaller `seq`.
    pub before: Option<i64>,
    pub since: Option<Timestamp>,
    /// Half open: excludes events of this instant.
    pub until: Option<Timestamp>,
    pub newest_first: bool,
    pub limit: u32,
}

impl EventFilter {
    /// Returns the filter of the page that follows the event `seq` in the order of this filter.
    #[must_use]
    pub fn beyond(self, seq: i64) -> Self {
        if self.newest_first {
            Self { before: Some(seq), ..self }
        } else {
            Self { after: self.after.max(seq), ..self }
        }
    }

    /// Returns the statement for these events, and its parameters.
    fn to_sql(&self) -> (String, Vec<Box<dyn ToSql>>) {
        let mut conditions = vec!["seq > ?"];
        let mut values: Vec<Box<dyn ToSql>> = vec![Box::new(self.after)];
        let mut add = |condition, value| {
            conditions.push(condition);
            values.push(value);
        };
        if let Some(before) = self.before {
            add("seq < ?", Box::new(before));
        }
        if let Some(account) = self.account {
            add("account_id = ?", Box::new(account));
        }
        if let Some(event_type) = &self.event_type {
            add("type = ?", Box::new(event_type.clone()));
        }
        if let Some(subject) = &self.subject {
            add("subject = ?", Box::new(subject.clone()));
        }
        if let Some(actor) = &self.actor {
            add("actor = ?", Box::new(actor.clone()));
        }
        if let Some(account) = self.actor_account {
            add("actor_account_id = ?", Box::new(account));
        }
        if let Some(since) = self.since {
            add("time_ms >= ?", Box::new(since));
        }
        if let Some(until) = self.until {
            add("time_ms < ?", Box::new(until));
        }
        let end = if self.newest_first {
            "1 = 1 ORDER BY seq DESC LIMIT ?"
        } else {
            "1 = 1 ORDER BY seq LIMIT ?"
        };
        add(end, Box::new(self.limit));
        let (index, conditions) = (self.index(), conditions.join(" AND "));
        (format!("SELECT {COLUMNS} FROM events {index} WHERE {conditions}"), values)
    }

    /// Returns which index to read. SQLite does not know that an account has few of all events, so an
    /// account could make the server read the log of all accounts.
    fn index(&self) -> &'static str {
        if self.subject.is_some() {
            "INDEXED BY events_by_subject"
        } else if self.account.is_some() {
            "INDEXED BY events_by_account"
        } else if self.actor.is_some() {
            "INDEXED BY events_by_actor"
        } else if self.event_type.is_some() {
            "INDEXED BY events_by_type"
        } else {
            ""
        }
    }
}

impl AuditReceipt<'_> {
    pub(super) fn seq(&self) -> i64 {
        self.seq
    }

    pub(super) fn key(&self) -> Result<KeyId, StoreError> {
        match self.subject {
            Subject::Key(id) => Ok(id),
            Subject::Account(_) | Subject::Server => Err(StoreError::WrongReceipt),
        }
    }

    pub(super) fn account(&self) -> Result<AccountId, StoreError> {
        match self.subject {
            Subject::Account(id) => Ok(id),
            Subject::Key(_) | Subject::Server => Err(StoreError::WrongReceipt),
        }
    }
}

impl WriteTx<'_> {
    /// Appends `event` to the chain. Returns the receipt for the change that it describes.
    pub fn record<'tx>(
        &'tx self,
        source: &EventSource,
        event: &NewEvent,
    ) -> Result<AuditReceipt<'tx>, StoreError> {
        let mut marks = self.marks.get();
        let (actor_prefix, actor_account) = match source.actor {
            Actor::Key { prefix, account, .. } => (Some(prefix), Some(account)),
            Actor::Cli | Actor::Scheduler => (None, None),
        };
        let mut row = Event {
            seq: marks.head.seq + 1,
            time: self.now(),
            event_type: event.event_type.as_str().to_owned(),
            account_id: event.account.map(|it| it.to_string()),
            actor: source.actor.encode(),
            actor_prefix: actor_prefix.map(|it| it.as_str().to_owned()),
            actor_account_id: actor_account.map(|it| it.to_string()),
            subject: event.subject.to_string(),
            request_id: source.request_id.as_deref().map(str::to_owned),
            client_ip: source.client_ip.map(|it| it.to_string()),
            data: event.data.to_string(),
            prev_hash: marks.head.hash,
            hash: ChainHash::GENESIS,
        };
        row.hash = row.expected_hash();
        self.sql
            .prepare_cached(
                "INSERT INTO events (seq, time_ms, type, account_id, actor, actor_prefix,
                                     actor_account_id, subject, request_id, client_ip, data,
                                     prev_hash, hash)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
            )?
            .execute(params![
                row.seq,
                row.time,
                row.event_type,
                row.account_id,
                row.actor,
                row.actor_prefix,
                row.actor_account_id,
                row.subject,
                row.request_id,
                row.client_ip,
                row.data,
                row.prev_hash,
                row.hash,
            ])?;
        marks.head = AuditHead { seq: row.seq, hash: row.hash };
        self.marks.set(marks);
        self.grow_tree(row.seq)?;
        Ok(AuditReceipt { seq: row.seq, subject: event.subject, tx: PhantomData })
    }
}

impl ReadTx<'_> {
    /// Returns the account of the key that created `key`.
    pub fn creator_account(&self, key: KeyId) -> Result<Option<AccountId>, StoreError> {
        let mut statement = self.sql.prepare_cached(
            "SELECT actor_account_id FROM events INDEXED BY events_by_subject
             WHERE subject = ?1 AND type = 'api_key.created' ORDER BY seq LIMIT 1",
        )?;
        let found = statement.query_row([key], |row| row.get::<_, Option<String>>(0));
        Ok(found.optional()?.flatten().and_then(|it| AccountId::parse(&it).ok()))
    }

    /// Returns the name of the key that caused an event: its name now, or that with which a purged key was
    /// created.
    pub fn actor_name(&self, actor: &str) -> Result<Option<String>, StoreError> {
        let mut statement = self.sql.prepare_cached(
            "SELECT coalesce(
                 (SELECT name FROM api_keys WHERE id = ?1),
                 (SELECT json_extract(data, '$.after.name') FROM events INDEXED BY events_by_subject
                  WHERE subject = ?1 AND type = 'api_key.created' ORDER BY seq LIMIT 1))",
        )?;
        Ok(statement.query_row([actor], |row| row.get(0))?)
    }

    /// Returns the end of the log.
    pub fn audit_head(&self) -> Result<AuditHead, StoreError> {
        let head = self
            .sql
            .prepare_cached("SELECT seq, hash FROM events ORDER BY seq DESC LIMIT 1")?
            .query_row([], |row| Ok(AuditHead { seq: row.get("seq")?, hash: row.get("hash")? }))
            .optional()?;
        Ok(head.unwrap_or(AuditHead::NONE))
    }

    /// Returns the event with this number.
    pub fn event(&self, seq: i64) -> Result<Option<Event>, StoreError> {
        let mut statement =
            self.sql.prepare_cached(&format!("SELECT {COLUMNS} FROM events WHERE seq = ?1"))?;
        EVENTS.first(&mut statement, [seq], event)
    }

    /// Returns the selected events in the order of `seq`, or in the opposite order.
    pub fn events(&self, filter: &EventFilter) -> Result<Vec<Event>, StoreError> {
        let (sql, values) = filter.to_sql();
        let params: Vec<&dyn ToSql> = values.iter().map(|it| &**it).collect();
        let mut statement = self.sql.prepare_cached(&sql)?;
        EVENTS.all(&mut statement, &*params, event)
    }

    /// Returns when the use of a retired credential of this key was last recorded.
    pub fn last_retired_use(&self, key: KeyId) -> Result<Option<Timestamp>, StoreError> {
        let mut statement = self.sql.prepare_cached(
            "SELECT time_ms FROM events INDEXED BY events_of_retired_use
             WHERE subject = ?1 AND type = 'api_key.retired_key_used'
             ORDER BY seq DESC LIMIT 1",
        )?;
        Ok(statement.query_row([key], |row| row.get(0)).optional()?)
    }

    /// Returns when new addresses of this key were last recorded.
    pub fn last_new_address(&self, key: KeyId) -> Result<Option<Timestamp>, StoreError> {
        let mut statement = self.sql.prepare_cached(
            "SELECT time_ms FROM events INDEXED BY events_of_new_address
             WHERE subject = ?1 AND type = 'api_key.new_address'
             ORDER BY seq DESC LIMIT 1",
        )?;
        Ok(statement.query_row([key], |row| row.get(0)).optional()?)
    }

    /// Gives every event after the number `after` to `take`, in order, until `take` returns `false`.
    pub fn for_each_event(
        &self,
        after: i64,
        mut take: impl FnMut(Event) -> bool,
    ) -> Result<(), StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM events WHERE seq > ?1 ORDER BY seq");
        let mut statement = self.sql.prepare(&sql)?;
        EVENTS.each(&mut statement, [after], |row| Ok(take(event(row)?)))
    }

    /// Recomputes the chain after the event `after`. Returns the first event that does not follow, if
    /// any.
    pub fn first_broken_event(&self, after: i64) -> Result<Option<i64>, StoreError> {
        let mut last = AuditHead::NONE;
        if 0 < after {
            let Some(start) = self.event(after)? else { return Ok(Some(after)) };
            last = AuditHead { seq: after, hash: start.hash };
        }
        let mut broken = None;
        self.for_each_event(after, |event| {
            if last.is_followed_by(&event) {
                last = AuditHead { seq: event.seq, hash: event.hash };
            } else {
                broken = Some(event.seq);
            }
            broken.is_none()
        })?;
        Ok(broken)
    }
}

fn event(row: Fields<'_>) -> Result<Event, StoreError> {
    Ok(Event {
        seq: row.get("seq")?,
        time: row.get("time_ms")?,
        event_type: row.get("type")?,
        account_id: row.get("account_id")?,
        actor: row.get("actor")?,
        actor_prefix: row.get("actor_prefix")?,
        actor_account_id: row.get("actor_account_id")?,
        subject: row.get("subject")?,
        request_id: row.get("request_id")?,
        client_ip: row.get("client_ip")?,
        data: row.get("data")?,
        prev_hash: row.get("prev_hash")?,
        hash: row.get("hash")?,
    })
}

#[cfg(test)]
mod tests {
    use rusqlite::Connection;

    use super::*;
    use crate::store::schema;

    #[test]
    fn the_events_of_an_account_are_found_without_those_of_others() {
        let mut conn = Connection::open_in_memory().unwrap();
        schema::prepare(&mut conn).unwrap();
        let account = AccountId::from_raw(42);
        for bits in 0..1_u32 << 7 {
            let has = |bit: u32| bits & 1 << bit != 0;
            let text = |bit| has(bit).then(String::new);
            let filter = EventFilter {
                account: Some(account),
                event_type: text(0),
                subject: text(1),
                actor: text(2),
                actor_account: has(3).then_some(account),
                since: has(4).then_some(Timestamp::from_millis(0)),
                until: has(5).then_some(Timestamp::from_millis(0)),
                newest_first: has(6),
                ..EventFilter::default()
            };
            let (sql, values) = filter.to_sql();
            let params: Vec<&dyn ToSql> = values.iter().map(|it| &**it).collect();
            let mut statement = conn.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
            let steps = statement.query_map(&*params, |row| row.get::<_, String>(3)).unwrap();
            let steps: Vec<_> = steps.map(Result::unwrap).collect();
            let one = if has(1) { "subject=?" } else { "account_id=?" };
            assert!(matches!(&*steps, [step] if step.contains(one)), "{sql}: {steps:?}");
        }
    }
}
