//! Notices: each key is announced 30, 7 and 1 days before it expires.

use serde_json::json;

use crate::{
    domain::{
        api_key::ApiKey,
        event::{EventSource, EventType, NewEvent},
        notice::{self, NOTICE_DAYS},
    },
    service::{Change, Error, Keyward, janitor::prefixes},
    store::{KeyRecord, StoreError, WriteTx},
};

impl Keyward {
    /// Records the notices that are due, one batch. Returns how many, and whether there may be more.
    ///
    /// While the wall clock is in doubt, the job records nothing that cannot be taken back. A key that
    /// passed several notices since the last run gets the newest only.
    pub(super) fn give_notices(&self) -> Result<(u64, bool), Error> {
        if !self.env.time.is_settled() {
            return Ok((0, false));
        }
        let batch = self.settings.batch;
        self.system_change(move |tx| {
            let (now, mut given) = (tx.now(), 0);
            // A key without a notice waits for the first, and a key with one for the next.
            let before = [None].into_iter().chain(NOTICE_DAYS.map(Some));
            for (announced, days) in before.zip(NOTICE_DAYS) {
                let window = (now, now.after(notice::time_left(days)));
                for record in tx.keys_to_announce(announced, window, batch - given)? {
                    given += u32::from(give_notice(tx, &EventSource::SCHEDULER, &record)?);
                }
            }
            Ok((given.into(), batch <= given))
        })
    }
}

impl Change<'_> {
    /// Announces the expiry of a key that this change made or moved, if a notice is due at once. While
    /// the wall clock is in doubt, the job gives the notice later.
    pub fn announce(&self, record: &KeyRecord) -> Result<(), Error> {
        if self.clock_is_settled {
            give_notice(self, self.source(), record)?;
        }
        Ok(())
    }

    /// Returns the newest notice of a key whose settings change. It stays unless the expiry moves.
    pub fn announced_days(&self, before: &ApiKey, after: &ApiKey) -> Option<u32> {
        if before.expires_at == after.expires_at {
            return before.announced_days;
        }
        // While the wall clock is in doubt, what is due is unknown. Then a notice may be repeated, but
        // none is lost.
        let known = after.expires_at.filter(|_| self.clock_is_settled);
        let due = known.and_then(|it| notice::due(it, self.now()));
        notice::after_move(before.announced_days, due)
    }
}

/// Records the notice that a key is due, unless it was given. Returns whether it did.
fn give_notice(
    tx: &WriteTx<'_>,
    source: &EventSource,
    record: &KeyRecord,
) -> Result<bool, StoreError> {
    let key = &record.key;
    let Some(end) = key.expires_at else { return Ok(false) };
    let Some(days) =
        notice::due(end, tx.now()).filter(|it| key.announced_days.is_none_or(|given| *it < given))
    else {
        return Ok(false);
    };
    let data = json!({
        "name": key.name.as_str(),
        "keyPrefixes": prefixes(record),
        "days": days,
        "expiresAt": end.to_string(),
    });
    let event = NewEvent::about_key(EventType::ApiKeyExpiring, key, data);
    tx.mark_announced(days, &tx.record(source, &event)?)?;
    Ok(true)
}
