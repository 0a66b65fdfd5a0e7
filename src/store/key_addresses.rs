//! Statements about the addresses from which keys were used. They change without an event, like counts
//! of use.

use rusqlite::params;

use crate::{
    domain::id::KeyId,
    env::Timestamp,
    store::{
        ReadTx, SeenAddress, StoreError, WriteTx,
        rows::{Fields, Table},
    },
};

const KEY_ADDRESSES: Table = Table { name: "key_addresses", key: "key_id" };

/// An address of a key, as it is stored or is to be stored.
#[derive(Clone, Copy, Debug)]
struct StoredAddress {
    seen: SeenAddress,
    announce_at: Option<Timestamp>,
    has_changed: bool,
}

impl ReadTx<'_> {
    /// Returns the addresses of a key, in no order.
    pub fn addresses_of(&self, key: KeyId) -> Result<Vec<SeenAddress>, StoreError> {
        Ok(self.stored_addresses(key)?.into_iter().map(|it| it.seen).collect())
    }

    /// Returns at most `limit` keys with an address that is to be announced now.
    pub fn keys_with_new_addresses(
        &self,
        now: Timestamp,
        limit: u32,
    ) -> Result<Vec<KeyId>, StoreError> {
        let mut statement = self.sql.prepare_cached(
            "SELECT key_id FROM key_addresses INDEXED BY key_addresses_to_announce
             WHERE announce_at_ms <= ?1 ORDER BY announce_at_ms LIMIT ?2",
        )?;
        let params = params![now, limit];
        let mut keys = KEY_ADDRESSES.all(&mut statement, params, |row| row.get("key_id"))?;
        keys.sort_unstable();
        keys.dedup();
        Ok(keys)
    }

    fn stored_addresses(&self, key: KeyId) -> Result<Vec<StoredAddress>, StoreError> {
        let mut statement = self.sql.prepare_cached(
            "SELECT key_id, address, first_used_at_ms, last_used_at_ms, announce_at_ms
             FROM key_addresses WHERE key_id = ?1",
        )?;
        KEY_ADDRESSES.all(&mut statement, [key], stored_address)
    }
}

impl WriteTx<'_> {
    /// Joins uses from addresses to what is stored of the key, and keeps the newest ones. The first
    /// address of a key is nothing new. Each later one is to be announced at the instant that `due`
    /// returns, if any.
    pub fn add_addresses(
        &self,
        key: KeyId,
        mut seen: Vec<SeenAddress>,
        due: impl Fn() -> Result<Option<Timestamp>, StoreError>,
    ) -> Result<(), StoreError> {
        let mut known = self.stored_addresses(key)?;
        seen.sort_by_key(|it| (it.first_used_at, it.last_used_at));
        for it in seen {
            let stored = known.iter_mut().find(|other| other.seen.address == it.address);
            if let Some(StoredAddress { seen, has_changed, .. }) = stored {
                *has_changed |= seen.last_used_at < it.last_used_at;
                seen.last_used_at = seen.last_used_at.max(it.last_used_at);
                continue;
            }
            let announce_at = if known.is_empty() { None } else { due()? };
            known.push(StoredAddress { seen: it, announce_at, has_changed: true });
        }
        let newest = SeenAddress::newest(known.iter().map(|it| it.seen));
        let mut store = self.sql.prepare_cached(
            "INSERT INTO key_addresses
                 (key_id, address, first_used_at_ms, last_used_at_ms, announce_at_ms)
             SELECT id, ?2, ?3, ?4, ?5 FROM api_keys WHERE id = ?1
             ON CONFLICT (key_id, address) DO UPDATE
             SET last_used_at_ms = excluded.last_used_at_ms",
        )?;
        let mut delete = self
            .sql
            .prepare_cached("DELETE FROM key_addresses WHERE key_id = ?1 AND address = ?2")?;
        for StoredAddress { seen, announce_at, has_changed } in known {
            let SeenAddress { address, first_used_at, last_used_at } = seen;
            if !newest.contains(&seen) {
                delete.execute(params![key, address])?;
            } else if has_changed {
                store.execute(params![key, address, first_used_at, last_used_at, announce_at])?;
            }
        }
        Ok(())
    }

    /// Takes the addresses of the key that are to be announced, those that are not yet due included.
    /// The oldest is first.
    pub fn take_new_addresses(&self, key: KeyId) -> Result<Vec<SeenAddress>, StoreError> {
        let stored = self.stored_addresses(key)?;
        let waiting = stored.into_iter().filter(|it| it.announce_at.is_some());
        let mut found: Vec<_> = waiting.map(|it| it.seen).collect();
        found.sort_by_key(|it| (it.first_used_at, it.address));
        self.sql
            .prepare_cached(
                "UPDATE key_addresses SET announce_at_ms = NULL
                 WHERE key_id = ?1 AND announce_at_ms IS NOT NULL",
            )?
            .execute([key])?;
        Ok(found)
    }

    /// Deletes the addresses of at most `limit` keys. Returns of how many.
    pub fn delete_addresses(&self, limit: u32) -> Result<usize, StoreError> {
        let mut statement =
            self.sql.prepare_cached("SELECT DISTINCT key_id FROM key_addresses LIMIT ?1")?;
        let keys: Vec<KeyId> =
            KEY_ADDRESSES.all(&mut statement, [limit], |row| row.get("key_id"))?;
        let mut delete = self.sql.prepare_cached("DELETE FROM key_addresses WHERE key_id = ?1")?;
        keys.iter().try_for_each(|key| delete.execute([key]).map(drop))?;
        Ok(keys.len())
    }
}

fn stored_address(row: Fields<'_>) -> Result<StoredAddress, StoreError> {
    let seen = SeenAddress {
        address: row.get("address")?,
        first_used_at: row.get("first_used_at_ms")?,
        last_used_at: row.get("last_used_at_ms")?,
    };
    Ok(StoredAddress { seen, announce_at: row.get("announce_at_ms")?, has_changed: false })
}
