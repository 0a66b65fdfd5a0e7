//! The addresses from which keys are used: the last few of each key, and an event about a new one.

use std::time::Duration;

use serde_json::{Value, json};

use crate::{
    domain::{
        client_address::AddressRecording,
        event::{EventSource, EventType, NewEvent},
        id::KeyId,
    },
    service::{Error, KeyAccess, Keyward, Principal},
    store::{CredentialUses, SeenAddress, StoreError, WriteTx},
};

/// The shortest time between two events about new addresses of a key.
const EVENT_INTERVAL: Duration = Duration::from_hours(1);

impl Keyward {
    /// Returns the last addresses from which the key was used, the newest first.
    pub fn addresses_of(&self, caller: &Principal, id: KeyId) -> Result<Vec<SeenAddress>, Error> {
        let (record, stored) = self.store.read::<_, Error>(|tx| {
            let record = self.authorizer.accessible_key(tx, caller, id, KeyAccess::Read)?;
            Ok((record, tx.addresses_of(id)?))
        })?;
        if self.settings.client_addresses == AddressRecording::Off {
            return Ok(Vec::new());
        }
        let index = self.store.index();
        let found = record.credentials.iter().filter_map(|it| index.find(it.credential.prefix));
        let known: Vec<_> = found.filter_map(|it| Some(it.live()?.addresses().collect())).collect();
        let known = known.into_iter().flat_map(|it: Vec<SeenAddress>| it);
        Ok(SeenAddress::newest(stored.into_iter().chain(known)))
    }

    /// Records events about the addresses that are due, one for each key. They are recorded here, off
    /// the path of the answers. An address that waited is announced also if its key is not used again.
    pub(super) fn announce_new_addresses(
        &self,
        mut continues: impl FnMut() -> bool,
    ) -> Result<(), Error> {
        if self.settings.client_addresses != AddressRecording::Announce {
            return Ok(());
        }
        loop {
            let (now, batch) = (self.env.time.now(), self.settings.batch);
            let keys = self.store.read(|tx| tx.keys_with_new_addresses(now, batch))?;
            if keys.is_empty() {
                return Ok(());
            }
            self.system_change(move |tx| keys.iter().try_for_each(|it| announce(tx, *it)))?;
            if !continues() {
                return Ok(());
            }
        }
    }
}

/// Stores the addresses of these uses, which are in the order of their keys.
pub(super) fn store_addresses(
    tx: &WriteTx<'_>,
    uses: &[CredentialUses],
    recording: AddressRecording,
) -> Result<(), StoreError> {
    for of_key in uses.chunk_by(|a, b| a.key == b.key) {
        let seen: Vec<_> = of_key.iter().flat_map(|it| it.uses.addresses.clone()).collect();
        let Some(CredentialUses { key, .. }) = of_key.first().filter(|_| !seen.is_empty()) else {
            continue;
        };
        tx.add_addresses(*key, seen, || match recording {
            AddressRecording::Off | AddressRecording::Store => Ok(None),
            AddressRecording::Announce => {
                let last = tx.last_new_address(*key)?;
                let due = last.map_or(tx.now(), |it| it.after(EVENT_INTERVAL));
                Ok(Some(due.max(tx.now())))
            }
        })?;
    }
    Ok(())
}

fn announce(tx: &WriteTx<'_>, id: KeyId) -> Result<(), Error> {
    let new = tx.take_new_addresses(id)?;
    let Some(record) = tx.key(id)?.filter(|_| !new.is_empty()) else { return Ok(()) };
    let shown = |it: &SeenAddress| {
        json!({
            "address": it.address.to_string(),
            "firstUsedAt": it.first_used_at.to_string(),
        })
    };
    let addresses: Vec<Value> = new.iter().map(shown).collect();
    let data = json!({ "addresses": addresses });
    let event = NewEvent::about_key(EventType::ApiKeyNewAddress, &record.key, data);
    tx.record(&EventSource::SCHEDULER, &event)?;
    Ok(())
}
