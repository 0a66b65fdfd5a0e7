//! The work of the scheduled jobs.
//!
//! Verification compares times itself. So each job may be late, may fail, and may run twice.

use serde_json::json;

use crate::{
    domain::{
        account::AccountKind,
        client_address::AddressRecording,
        event::{EventSource, EventType, NewEvent},
        id::KeyId,
        job::Job,
        plaintext_key::KeyPrefix,
    },
    env::{ClockStep, StepKind, Timestamp},
    service::{Error, Keyward, ended_credentials::delete_oldest, pace::Pace},
    store::{Day, KeyRecord, WriteTx},
};

impl Keyward {
    /// How many times smaller a batch of the purge is: it deletes rows of many tables for each key.
    const PURGE_SHARE: u32 = 4;

    /// Runs the job until nothing is left, or until `stop` returns `true` between two batches.
    /// Returns how many things it changed.
    pub fn run_job(&self, job: Job, stop: &dyn Fn() -> bool) -> Result<u64, Error> {
        let mut pace = Pace::new(&self.env.time, stop);
        match job {
            Job::EndGraces => self.end_graces(&mut pace),
            Job::ExpireKeys => pace.run(|| self.record_expiries()),
            Job::Notices => pace.run(|| self.give_notices()),
            Job::Purge => match self.bound_ended_credentials(&mut pace)? {
                (deleted, true) => Ok(deleted + pace.run(|| self.purge())?),
                (deleted, false) => Ok(deleted),
            },
            Job::FlushUsage => self.flush_usage_while(|| pace.continues()),
            Job::KeepTime => self.keep_time(),
            Job::RecordDenials => self.record_denials(false),
            Job::Tokens => self.keep_tokens(&mut pace),
            Job::Checkpoint => self.make_checkpoint(),
            Job::Backup => self.scheduled_backup(),
            Job::Upkeep => self.upkeep(),
        }
    }

    /// Folds the write-ahead log back. Returns 1, or 0 if a reader holds the log.
    fn upkeep(&self) -> Result<u64, Error> {
        let folded = self.store.upkeep()?;
        if !folded {
            let (_, size) = self.store.file_sizes();
            tracing::warn!(
                wal.bytes = size,
                "the write-ahead log was not emptied: a reader holds it"
            );
        }
        Ok(folded.into())
    }

    /// Records the end of the grace periods that are over.
    ///
    /// While the wall clock is in doubt, the job records nothing that cannot be taken back.
    fn end_graces(&self, pace: &mut Pace<'_>) -> Result<u64, Error> {
        if !self.env.time.is_settled() {
            return Ok(0);
        }
        let (batch, mut after, mut ended) = (self.settings.batch, None, 0);
        loop {
            let found = self.store.read(|tx| tx.credentials_in_grace(after, batch))?;
            after = found.last().map(|(_, prefix, deadline)| (*deadline, *prefix));
            let is_last = found.len() < batch as usize;
            let over: Vec<(KeyId, KeyPrefix)> = found
                .into_iter()
                .filter(|(_, prefix, _)| self.store.index().grace_is_over(*prefix))
                .map(|(id, prefix, _)| (id, prefix))
                .collect();
            if !over.is_empty() {
                ended += self.system_change(move |tx| {
                    let mut ended = 0;
                    for (id, prefix) in over {
                        ended += u64::from(end_grace(tx, id, prefix, batch)?);
                    }
                    Ok::<_, Error>(ended)
                })?;
            }
            if is_last || !pace.continues() {
                return Ok(ended);
            }
        }
    }

    /// Records that keys have expired, one batch. Returns how many, and whether there may be more.
    fn record_expiries(&self) -> Result<(u64, bool), Error> {
        if !self.env.time.is_settled() {
            return Ok((0, false));
        }
        let batch = self.settings.batch;
        self.system_change(move |tx| {
            let expired = tx.unrecorded_expiries(tx.now(), batch)?;
            for record in &expired {
                let event = NewEvent::about_key(
                    EventType::ApiKeyExpired,
                    &record.key,
                    json!({
                        "name": record.key.name.as_str(),
                        "keyPrefixes": prefixes(record),
                        "expiresAt": record.key.expires_at.map(|it| it.to_string()),
                    }),
                );
                let receipt = tx.record(&EventSource::SCHEDULER, &event)?;
                tx.mark_expiry_recorded(&receipt)?;
            }
            Ok((expired.len() as u64, batch as usize <= expired.len()))
        })
    }

    /// Removes what has been dead for longer than the retention, one batch. Returns how many keys,
    /// credentials and accounts it removed, and whether there may be more.
    ///
    /// A purge cannot be undone. So after a start, and after a leap of the clock, it waits until both
    /// clocks have agreed for a while.
    fn purge(&self) -> Result<(u64, bool), Error> {
        if !self.env.time.is_settled_since_start() {
            return Ok((0, false));
        }
        let (retention, batch) = (self.settings.retention, self.settings.batch / Self::PURGE_SHARE);
        let recording = self.settings.client_addresses;
        self.system_change(move |tx| {
            let cutoff = tx.now().before(retention);
            let link_cutoff = tx.now().before(retention.min(Self::LINKS_KEPT));
            let mut purged = 0;
            for record in tx.purgeable_keys(cutoff, link_cutoff, batch)? {
                let reason = if record.key.revoked_at.is_some() { "revoked" } else { "expired" };
                let data = json!({ "keyPrefixes": prefixes(&record), "reason": reason });
                let event = NewEvent::about_key(EventType::ApiKeyPurged, &record.key, data);
                tx.delete_key(&tx.record(&EventSource::SCHEDULER, &event)?)?;
                purged += 1;
            }
            purged += purge_credentials(tx, cutoff, batch)?;
            purged += purge_accounts(tx, cutoff, batch)?;
            let first_day = Day::of(tx.now().before(Keyward::USAGE_KEPT));
            let forgotten = tx.delete_usage_before(first_day, batch)?;
            let wiped = tx.delete_kept_answers(tx.now().before(Keyward::ANSWERS_KEPT), batch)?;
            let off = recording == AddressRecording::Off;
            let addresses = if off { tx.delete_addresses(batch)? } else { 0 };
            let batch = u64::from(batch);
            let most = forgotten.max(wiped).max(addresses) as u64;
            Ok((purged, batch <= purged || batch <= most))
        })
    }

    /// Lets the timekeeper compare the clocks, records the steps that it noticed, and stores its floor.
    pub fn keep_time(&self) -> Result<u64, Error> {
        self.env.time.tick();
        let steps = self.env.time.take_steps();
        let steps = steps.into_iter().map(|it| (EventSource::SCHEDULER, clock_event(it))).collect();
        let floor = self.env.time.floor();
        self.record_with_deferred(steps, move |tx| Ok(tx.keep_time_floor(floor)?))
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
    let event = NewEvent::about_key(EventType::ApiKeyGraceEnded, &record.key, data);
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
        let event = NewEvent::about_key(EventType::ApiKeyPurged, &record.key, data);
        tx.delete_credential(prefix, &tx.record(&EventSource::SCHEDULER, &event)?)?;
        purged += 1;
    }
    Ok(purged)
}

fn purge_accounts(tx: &WriteTx<'_>, cutoff: Timestamp, batch: u32) -> Result<u64, Error> {
    let accounts = tx.purgeable_accounts(cutoff, batch)?;
    for id in &accounts {
        let event = NewEvent::about_account(
            EventType::AccountPurged,
            *id,
            json!({ "kind": AccountKind::Customer.as_str() }),
        );
        tx.delete_account(&tx.record(&EventSource::SCHEDULER, &event)?)?;
    }
    Ok(accounts.len() as u64)
}

pub(super) fn prefixes(record: &KeyRecord) -> Vec<&str> {
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
    NewEvent::about_server(EventType::ClockStepped, data)
}
