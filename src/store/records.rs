//! A key with all its values, as the file holds it. The one reading of those rows.

use rusqlite::{Row, ToSql};

use crate::{
    domain::{
        api_key::ApiKey,
        credential::Credential,
        id::{AccountId, KeyId},
        key_hash::KeyHash,
        plaintext_key::KeyPrefix,
        scope::ScopeSet,
        text::{Metadata, Name},
    },
    env::Timestamp,
    store::{KeyIndex, ReadTx, StoreError},
};

/// A key and every value it has had that is still remembered.
#[derive(Clone, Debug)]
pub struct KeyRecord {
    pub key: ApiKey,
    /// Oldest first; the last is the current one.
    pub credentials: Vec<StoredCredential>,
    /// When the scheduler recorded that the key had expired.
    pub expiry_recorded_at: Option<Timestamp>,
    /// When any of its values, deleted ones included, was last accepted, as far as the file knows.
    pub last_used_at: Option<Timestamp>,
}

#[derive(Clone, Debug)]
pub struct StoredCredential {
    pub credential: Credential,
    /// When the end of its grace was recorded.
    pub ended_at: Option<Timestamp>,
    pub last_used_at: Option<Timestamp>,
}

/// A row for each value of each key.
macro_rules! rows {
    () => {
        "
    SELECT k.id, k.account_id, k.name, k.scopes, k.enabled, k.expires_at_ms, k.metadata,
           k.created_at_ms, k.created_by, k.updated_at_ms, k.rotated_at_ms,
           k.revoked_at_ms, k.expiry_recorded_at_ms, k.revision,
           c.prefix, c.phc, c.issued_at_ms, c.valid_until_ms, c.ended_at_ms,
           u.last_used_at_ms,
           (SELECT o.last_used_at_ms FROM credential_usage AS o
            WHERE o.key_id = k.id AND o.prefix = '')
    FROM api_keys AS k
    LEFT JOIN credentials AS c ON c.key_id = k.id
    LEFT JOIN credential_usage AS u ON u.key_id = c.key_id AND u.prefix = c.prefix"
    };
}

/// The values of a key: the oldest first, the current one last.
macro_rules! by_age {
    () => {
        "c.valid_until_ms IS NULL, c.issued_at_ms, c.valid_until_ms"
    };
}

const ONE: &str = concat!(rows!(), " WHERE k.id = ?1 ORDER BY ", by_age!());

/// Which keys to read: `filter` is the inside of a WHERE over `api_keys AS k`, its parameters
/// counted from 1; `order` says which come first and how many.
#[derive(Clone, Copy)]
pub(super) struct Selection<'a> {
    /// The index that finds them; `None` is the primary key. Named, because a planner that chooses
    /// another one reads what is not asked for.
    pub index: Option<&'static str>,
    pub filter: &'a str,
    pub order: &'a str,
    pub params: &'a [&'a dyn ToSql],
}

impl KeyRecord {
    /// The value that the key has now.
    pub fn current(&self) -> Option<&StoredCredential> {
        self.credentials.iter().rev().find(|it| it.credential.valid_until.is_none())
    }

    pub fn find(&self, prefix: KeyPrefix) -> Option<&StoredCredential> {
        self.credentials.iter().find(|it| it.credential.prefix == prefix)
    }

    /// Old values whose grace has not ended at `now`, nor by the monotonic clock, oldest first.
    pub fn in_grace<'a>(
        &'a self,
        now: Timestamp,
        index: &'a KeyIndex,
    ) -> impl Iterator<Item = &'a StoredCredential> {
        self.credentials.iter().filter(move |it| {
            it.ended_at.is_none()
                && it.credential.valid_until.is_some_and(|until| now < until)
                && !index.grace_is_over(it.credential.prefix)
        })
    }
}

impl ReadTx<'_> {
    /// One key, tombstones included.
    pub fn key(&self, id: KeyId) -> Result<Option<KeyRecord>, StoreError> {
        let mut found = None;
        self.stream_records(ONE, &[&id.to_string()], |record| found = Some(record))?;
        Ok(found)
    }

    pub(super) fn records(&self, wanted: &Selection<'_>) -> Result<Vec<KeyRecord>, StoreError> {
        let Selection { index, filter, order, params } = *wanted;
        let indexed = index.map_or_else(String::new, |it| format!("INDEXED BY {it}"));
        let sql = format!(
            "{} WHERE k.id IN (SELECT k.id FROM api_keys AS k {indexed} WHERE {filter} {order})
             ORDER BY k.created_at_ms, k.id, {}",
            rows!(),
            by_age!()
        );
        let mut found = Vec::new();
        self.stream_records(&sql, params, |record| found.push(record))?;
        Ok(found)
    }

    fn stream_records(
        &self,
        sql: &str,
        params: &[&dyn ToSql],
        mut take: impl FnMut(KeyRecord),
    ) -> Result<(), StoreError> {
        let mut statement = self.sql.prepare_cached(sql)?;
        let mut rows = statement.query(params)?;
        let mut open: Option<KeyRecord> = None;
        while let Some(row) = rows.next()? {
            let id: String = row.get(0)?;
            let id = KeyId::parse(&id).map_err(|_| unreadable("id", id))?;
            let mut record = match open.take() {
                Some(record) if record.key.id == id => record,
                finished => {
                    finished.into_iter().for_each(&mut take);
                    new_record(row, id)?
                }
            };
            if let Some(credential) = credential(row)? {
                record.last_used_at = record.last_used_at.max(credential.last_used_at);
                record.credentials.push(credential);
            }
            open = Some(record);
        }
        open.into_iter().for_each(take);
        Ok(())
    }
}

fn new_record(row: &Row<'_>, id: KeyId) -> Result<KeyRecord, StoreError> {
    let bad = |column| unreadable(column, id.to_string());
    let account: String = row.get(1)?;
    let name: String = row.get(2)?;
    let scopes: String = row.get(3)?;
    let created_by: Option<String> = row.get(8)?;
    let key = ApiKey {
        id,
        account_id: AccountId::parse(&account).map_err(|_| bad("account_id"))?,
        name: Name::from_stored(name),
        scopes: ScopeSet::from_stored(&scopes).ok_or_else(|| bad("scopes"))?,
        enabled: row.get(4)?,
        expires_at: instant(row, 5)?,
        metadata: Metadata::from_stored(row.get(6)?).ok_or_else(|| bad("metadata"))?,
        created_at: Timestamp::from_millis(row.get(7)?),
        created_by: created_by
            .map(|it| KeyId::parse(&it).map_err(|_| bad("created_by")))
            .transpose()?,
        updated_at: Timestamp::from_millis(row.get(9)?),
        rotated_at: instant(row, 10)?,
        revoked_at: instant(row, 11)?,
        revision: row.get(13)?,
    };
    Ok(KeyRecord {
        key,
        credentials: Vec::new(),
        expiry_recorded_at: instant(row, 12)?,
        last_used_at: instant(row, 20)?,
    })
}

/// The value in this row; none for a key whose values are all purged.
fn credential(row: &Row<'_>) -> Result<Option<StoredCredential>, StoreError> {
    let Some(prefix) = row.get::<_, Option<String>>(14)? else { return Ok(None) };
    let phc: String = row.get(15)?;
    let bad = |column| StoreError::Corrupt { table: "credentials", column, row: prefix.clone() };
    Ok(Some(StoredCredential {
        credential: Credential {
            prefix: KeyPrefix::from_stored(&prefix).ok_or_else(|| bad("prefix"))?,
            hash: KeyHash::decode(&phc).ok_or_else(|| bad("phc"))?,
            issued_at: Timestamp::from_millis(row.get(16)?),
            valid_until: instant(row, 17)?,
        },
        ended_at: instant(row, 18)?,
        last_used_at: instant(row, 19)?,
    }))
}

pub(super) fn instant(row: &Row<'_>, column: usize) -> Result<Option<Timestamp>, StoreError> {
    Ok(row.get::<_, Option<i64>>(column)?.map(Timestamp::from_millis))
}

pub(super) fn unreadable(column: &'static str, row: String) -> StoreError {
    StoreError::Corrupt { table: "api_keys", column, row }
}
