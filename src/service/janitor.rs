//! What is done by the clock. Janitors, not gatekeepers: verification goes by the time itself, so
//! each of these may be late, may fail, may run twice.

use std::{thread, time::Duration};

use serde_json::json;

use crate::{
    domain::{
        account::AccountKind,
        event::{EventSource, EventType, NewEvent, Subject},
        id::KeyId,
        plaintext_key::KeyPrefix,
    },
    env::{ClockStep, StepKind, Timestamp},
    service::{Error, Keyward, ended_credentials::delete_oldest, events::server_event},
    store::{Day, KeyRecord, WriteTx},
};

/// The jobs of the scheduler, by the names under which they are configured and run by hand.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Job {
    EndGraces,
    ExpireKeys,
    Purge,
    FlushUsage,
    KeepTime,
    RecordDenials,
    Checkpoint,
    Backup,
    Upkeep,
}

impl Job {
    pub const ALL: [Self; 9] = [
        Self::EndGraces,
        Self::ExpireKeys,
        Self::Purge,
        Self::FlushUsage,
        Self::KeepTime,
        Self::RecordDenials,
        Self::Checkpoint,
        Self::Backup,
        Self::Upkeep,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::EndGraces => "end_graces",
            Self::ExpireKeys => "expire_keys",
            Self::Purge => "purge",
            Self::FlushUsage => "flush_usage",
            Self::KeepTime => "keep_time",
            Self::RecordDenials => "record_denials",
            Self::Checkpoint => "checkpoint",
            Self::Backup => "backup",
            Self::Upkeep => "upkeep",
        }
    }

    /// Whether it also runs at each start, whatever its cron line says.
    pub fn runs_at_start(self) -> bool {
        self != Self::Backup // A server that is started over and over would fill the disk.
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.as_str() == text)
    }
}

impl Keyward {
    /// Does what the job is for, batch by batch, until nothing is left or `stop` says so between
    /// two batches. Returns how many things it changed.
    pub fn run_job(&self, job: Job, stop: &dyn Fn() -> bool) -> Result<u64, Error> {
        let mut total = 0;
        loop {
            let started = self.env.time.monotonic();
            let (done, more) = self.run_batch(job)?;
            total += done;
            if !more || stop() {
                return Ok(total);
            }
            // Other changes, and verification on the same processors, come first: a job with much to
            // do leaves them most of the time.
            let busy = self.env.time.monotonic().since(started);
            thread::sleep(busy.saturating_mul(Self::PAUSE).min(Self::LONGEST_PAUSE));
        }
    }

    /// How many times as long as a batch took its job pauses before the next.
    const PAUSE: u32 = 3;
    const LONGEST_PAUSE: Duration = Duration::from_millis(200);
    /// A batch of the purge is so many times smaller: it deletes rows of many tables for each key.
    const PURGE_SHARE: u32 = 4;

    /// One batch: how many things it changed, and whether there may be more.
    fn run_batch(&self, job: Job) -> Result<(u64, bool), Error> {
        let full = |done: u64| (done, u64::from(self.settings.batch) <= done);
        match job {
            Job::EndGraces => Ok((self.end_graces()?, false)),
            Job::ExpireKeys => Ok(full(self.record_expiries()?)),
            Job::Purge => match self.bound_ended_credentials()? {
                (_, true) => self.purge(),
                (deleted, false) => Ok((deleted, true)),
            },
            Job::FlushUsage => Ok((self.flush_usage()?, false)),
            Job::KeepTime => Ok((self.keep_time()?, false)),
            Job::RecordDenials => Ok((self.record_denials(false)?, false)),
            Job::Checkpoint => Ok((self.make_checkpoint()?, false)),
            Job::Backup => Ok((self.scheduled_backup()?, false)),
            Job::Upkeep => Ok((self.upkeep()?, false)),
        }
    }

    /// Folds the write-ahead log back: 1, or 0 if a reader holds it.
    fn upkeep(&self) -> Result<u64, Error> {
        let folded = self.store.upkeep()?;
        if !folded {
            let (_, size) = self.store.file_sizes();
            tracing::warn!(
                wal.bytes = size,
                "the write-ahead log was not folded: a reader holds it"
            );
        }
        Ok(folded.into())
    }

    /// Records the end of the graces that are over.
    ///
    /// While the wall clock is in doubt nothing is recorded that could not be taken back.
    fn end_graces(&self) -> Result<u64, Error> {
        if !self.env.time.is_settled() {
            return Ok(0);
        }
        let (mut after, mut ended) = (None, 0);
        loop {
            let batch = self.settings.batch;
            let page = self.store.read(|tx| tx.credentials_in_grace(after, batch))?;
            let Some((_, last_prefix, last_deadline)) = page.last().copied() else {
                return Ok(ended);
            };
            after = Some((last_deadline, last_prefix));
            let (now, monotonic) = (self.env.time.now(), self.env.time.monotonic());
            let over: Vec<(KeyId, KeyPrefix)> = page
                .into_iter()
                .filter(|(_, prefix, _)| {
                    let entry = self.store.index().find(*prefix);
                    entry.and_then(|it| it.grace()).is_some_and(|it| it.is_over(now, monotonic))
                })
                .map(|(id, prefix, _)| (id, prefix))
                .collect();
            ended += self.system_change(move |tx| {
                let mut ended = 0;
                for (id, prefix) in over {
                    ended += u64::from(end_grace(tx, id, prefix, batch)?);
                }
                Ok::<_, Error>(ended)
            })?;
        }
    }

    /// Records of keys that have expired that they have.
    fn record_expiries(&self) -> Result<u64, Error> {
        if !self.env.time.is_settled() {
            return Ok(0);
        }
        let batch = self.settings.batch;
        self.system_change(move |tx| {
            let expired = tx.unrecorded_expiries(tx.now(), batch)?;
            for record in &expired {
                let event = about(
                    record,
                    EventType::ApiKeyExpired,
                    json!({
                        "name": record.key.name.as_str(),
                        "keyPrefixes": prefixes(record),
                        "expiresAt": record.key.expires_at.map(|it| it.to_string()),
                    }),
                );
                let receipt = tx.record(&EventSource::SCHEDULER, &event)?;
                tx.mark_expiry_recorded(&receipt)?;
            }
            Ok(expired.len() as u64)
        })
    }

    /// Removes what has been dead for longer than it is to be remembered.
    ///
    /// After a start, and after a leap of the clock, it waits until both clocks have agreed for a
    /// while: nothing else here cannot be undone.
    fn purge(&self) -> Result<(u64, bool), Error> {
        if !self.env.time.is_settled_since_start() {
            return Ok((0, false));
        }
        let (retention, batch) = (self.settings.retention, self.settings.batch / Self::PURGE_SHARE);
        self.system_change(move |tx| {
            let cutoff = tx.now().before(retention);
            let mut purged = 0;
            for record in tx.purgeable_keys(cutoff, batch)? {
                let reason = if record.key.revoked_at.is_some() { "revoked" } else { "expired" };
                let data = json!({ "keyPrefixes": prefixes(&record), "reason": reason });
                let event = about(&record, EventType::ApiKeyPurged, data);
                tx.delete_key(&tx.record(&EventSource::SCHEDULER, &event)?)?;
                purged += 1;
            }
            purged += purge_credentials(tx, cutoff, batch)?;
            let first_day = Day::of(tx.now().before(Keyward::USAGE_KEPT));
            let forgotten = tx.delete_usage_before(first_day, batch)?;
            for id in tx.purgeable_accounts(cutoff, batch)? {
                let event = NewEvent {
                    event_type: EventType::AccountPurged,
                    account: Some(id),
                    subject: Subject::Account(id),
                    data: json!({ "kind": AccountKind::Customer.as_str() }),
                };
                tx.delete_account(&tx.record(&EventSource::SCHEDULER, &event)?)?;
                purged += 1;
            }
            let batch = u64::from(batch);
            Ok((purged, batch <= purged || batch <= forgotten as u64))
        })
    }

    /// Lets the timekeeper look at the clocks, records what it noticed, and keeps its floor.
    pub fn keep_time(&self) -> Result<u64, Error> {
        self.env.time.tick();
        let steps = self.env.time.take_steps();
        let steps = steps.into_iter().map(|it| (EventSource::SCHEDULER, clock_event(it))).collect();
        let floor = self.env.time.floor();
        self.record_with_put_off(steps, move |tx| Ok(tx.keep_time_floor(floor)?))
    }
}

fn end_grace(tx: &WriteTx<'_>, id: KeyId, prefix: KeyPrefix, batch: u32) -> Result<bool, Error> {
    let Some(record) = tx.key(id)? else { return Ok(false) };
    let Some(value) = record.find(prefix).filter(|it| it.ended_at.is_none()) else {
        return Ok(false);
    };
    let data = json!({
        "keyPrefixes": [prefix.as_str()],
        "reason": "elapsed",
        "validUntil": value.credential.valid_until.map(|it| it.to_string()),
    });
    let event = about(&record, EventType::ApiKeyGraceEnded, data);
    tx.end_grace(prefix, &tx.record(&EventSource::SCHEDULER, &event)?)?;
    let record = tx.key(id)?.ok_or(Error::NotFound)?;
    delete_oldest(tx, &EventSource::SCHEDULER, record, batch)?;
    Ok(true)
}

fn purge_credentials(tx: &WriteTx<'_>, cutoff: Timestamp, batch: u32) -> Result<u64, Error> {
    let mut purged = 0;
    for (id, prefix) in tx.purgeable_credentials(cutoff, batch)? {
        let Some(record) = tx.key(id)? else { continue };
        let data = json!({ "keyPrefixes": [prefix.as_str()], "reason": "rotated" });
        let event = about(&record, EventType::ApiKeyPurged, data);
        tx.delete_credential(prefix, &tx.record(&EventSource::SCHEDULER, &event)?)?;
        purged += 1;
    }
    Ok(purged)
}

fn about(record: &KeyRecord, event_type: EventType, data: serde_json::Value) -> NewEvent {
    NewEvent {
        event_type,
        account: Some(record.key.account_id),
        subject: Subject::Key(record.key.id),
        data,
    }
}

fn prefixes(record: &KeyRecord) -> Vec<&str> {
    record.credentials.iter().map(|it| it.credential.prefix.as_str()).collect()
}

fn clock_event(step: ClockStep) -> NewEvent {
    let direction = match step.kind {
        StepKind::Back => "back",
        StepKind::Ahead => "ahead",
    };
    let data = json!({
        "direction": direction,
        "wall": step.wall.to_string(),
        "expected": step.expected.to_string(),
    });
    server_event(EventType::ClockStepped, data)
}
