//! A key with all its credentials, as the file holds it.

use rusqlite::ToSql;

use crate::{
    domain::{api_key::ApiKey, credential::Credential, id::KeyId, plaintext_key::KeyPrefix},
    env::Timestamp,
    store::{
        KeyIndex, ReadTx, ScopeDays, StoreError,
        rows::{Column, ColumnList, Fields, Table, is_link, limit_of, link_end, window_of},
    },
};

/// A key with every credential that is still stored.
#[derive(Clone, Debug)]
pub struct KeyRecord {
    pub key: ApiKey,
    /// Oldest first; the last is the current one.
    pub credentials: Vec<StoredCredential>,
    /// When the scheduler recorded that the key had expired.
    pub expiry_recorded_at: Option<Timestamp>,
    /// When a credential of the key, deleted ones included, was last accepted, as stored.
    pub last_used_at: Option<Timestamp>,
    /// When its scopes were last used, as stored.
    pub scope_days: ScopeDays,
}

#[derive(Clone, Debug)]
pub struct StoredCredential {
    pub credential: Credential,
    /// When the end of its grace was recorded.
    pub ended_at: Option<Timestamp>,
    pub last_used_at: Option<Timestamp>,
}

/// The columns of a key. A further one is a line here, a line in [`api_key`], and a line in `schema.sql`.
pub(super) const KEYS: ColumnList<ApiKey> = ColumnList {
    table: Table::KEYS,
    columns: &[
        Column::fixed("account_id", |it| &it.account_id),
        Column::new("name", |it| &it.name),
        Column::new("scopes", |it| &it.scopes),
        Column::new("enabled", |it| &it.enabled),
        Column::new("expires_at_ms", |it| &it.expires_at),
        Column::new("metadata", |it| &it.metadata),
        Column::new("allowed_ips", |it| &it.allowed_ips),
        Column::new("rate_limit", |it| limit_of(it.rate_limit.as_ref())),
        Column::new("rate_window_s", |it| window_of(it.rate_limit.as_ref())),
        Column::fixed("created_at_ms", |it| &it.created_at),
        Column::fixed("created_by", |it| &it.created_by),
        Column::fixed("updated_at_ms", |it| &it.updated_at),
        Column::new("rotated_at_ms", |it| &it.rotated_at),
        Column::new("revoked_at_ms", |it| &it.revoked_at),
        Column::new("announced_days", |it| &it.announced_days),
        Column::fixed("console_link", |it| is_link(it.console_link.as_ref())),
        Column::fixed("gives_until_ms", |it| link_end(it.console_link.as_ref())),
        Column::fixed("revision", |it| &it.revision),
    ],
};

/// The credentials of a key: the oldest first, the current one last.
const BY_AGE: &str = "c.valid_until_ms IS NULL, c.issued_at_ms, c.valid_until_ms";

/// Which keys to read: `filter` is the condition of a WHERE over `api_keys AS k`, `order` its ORDER BY
/// and LIMIT; their parameters count from 1.
#[derive(Clone, Copy)]
pub(super) struct Selection<'a> {
    /// The index that finds them; `None` is the primary key. It is named, because with another index
    /// SQLite would read rows that are not wanted.
    pub index: Option<&'static str>,
    pub filter: &'a str,
    pub order: &'a str,
    pub params: &'a [&'a dyn ToSql],
}

impl KeyRecord {
    /// Returns the current credential; `None` if all are purged.
    pub fn current(&self) -> Option<&StoredCredential> {
        self.credentials.iter().rev().find(|it| it.credential.valid_until.is_none())
    }

    /// Returns the credential with this prefix.
    pub fn find(&self, prefix: KeyPrefix) -> Option<&StoredCredential> {
        self.credentials.iter().find(|it| it.credential.prefix == prefix)
    }

    /// Returns rotated credentials still in grace by both clocks, the oldest first.
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
    /// Returns one key; a revoked one as well, until it is purged.
    pub fn key(&self, id: KeyId) -> Result<Option<KeyRecord>, StoreError> {
        let mut found = None;
        let one = format!("{} WHERE k.id = ?1 ORDER BY {BY_AGE}", selected());
        self.stream_records(&one, &[&id], |record| found = Some(record))?;
        Ok(found)
    }

    pub(super) fn records(&self, wanted: &Selection<'_>) -> Result<Vec<KeyRecord>, StoreError> {
        let Selection { index, filter, order, params } = *wanted;
        let indexed = index.map_or_else(String::new, |it| format!("INDEXED BY {it}"));
        let sql = format!(
            "{} WHERE k.id IN (SELECT k.id FROM api_keys AS k {indexed} WHERE {filter} {order})
             ORDER BY k.created_at_ms, k.id, {BY_AGE}",
            selected()
        );
        let mut found = Vec::new();
        self.stream_records(&sql, params, |record| found.push(record))?;
        Ok(found)
    }

    /// Gives every key that `sql` finds to `take`, once its last credential is read.
    fn stream_records(
        &self,
        sql: &str,
        params: &[&dyn ToSql],
        mut take: impl FnMut(KeyRecord),
    ) -> Result<(), StoreError> {
        let mut open: Option<KeyRecord> = None;
        KEYS.table.each(&mut *self.sql.prepare_cached(sql)?, params, |row| {
            let id: KeyId = row.get("id")?;
            let mut record = match open.take() {
                Some(record) if record.key.id == id => record,
                finished => {
                    finished.into_iter().for_each(&mut take);
                    new_record(row)?
                }
            };
            if let Some(credential) = credential(row.of(Table::CREDENTIALS))? {
                record.last_used_at = record.last_used_at.max(credential.last_used_at);
                record.credentials.push(credential);
            }
            open = Some(record);
            Ok(true)
        })?;
        open.into_iter().for_each(take);
        Ok(())
    }
}

/// The beginning of a SELECT that finds a row for each credential of each key.
fn selected() -> String {
    let scope_days = ScopeDays::COLUMN;
    format!(
        "SELECT {KEYS}, expiry_recorded_at_ms,
                c.prefix, phc, issued_at_ms, valid_until_ms, ended_at_ms, u.last_used_at_ms,
                (SELECT o.last_used_at_ms FROM credential_usage AS o
                 WHERE o.key_id = k.id AND o.prefix = '') AS earlier_last_used_at_ms,
                {scope_days} AS scope_days
         FROM api_keys AS k
         LEFT JOIN credentials AS c ON c.key_id = k.id
         LEFT JOIN credential_usage AS u ON u.key_id = c.key_id AND u.prefix = c.prefix"
    )
}

fn new_record(row: Fields<'_>) -> Result<KeyRecord, StoreError> {
    Ok(KeyRecord {
        key: api_key(row)?,
        credentials: Vec::new(),
        expiry_recorded_at: row.get("expiry_recorded_at_ms")?,
        last_used_at: row.get("earlier_last_used_at_ms")?,
        scope_days: scope_days(row)?,
    })
}

fn scope_days(row: Fields<'_>) -> Result<ScopeDays, StoreError> {
    let Some(text) = row.get::<Option<String>>("scope_days")? else {
        return Ok(ScopeDays::default());
    };
    ScopeDays::from_stored(&text).ok_or_else(|| row.unreadable("scope_days"))
}

fn api_key(row: Fields<'_>) -> Result<ApiKey, StoreError> {
    Ok(ApiKey {
        id: row.get("id")?,
        account_id: row.get("account_id")?,
        name: row.get("name")?,
        scopes: row.get("scopes")?,
        enabled: row.get("enabled")?,
        expires_at: row.get("expires_at_ms")?,
        metadata: row.get("metadata")?,
        allowed_ips: row.get("allowed_ips")?,
        rate_limit: row.rate_limit("rate_limit", "rate_window_s")?,
        created_at: row.get("created_at_ms")?,
        created_by: row.get("created_by")?,
        updated_at: row.get("updated_at_ms")?,
        rotated_at: row.get("rotated_at_ms")?,
        revoked_at: row.get("revoked_at_ms")?,
        announced_days: row.get("announced_days")?,
        console_link: row.console_link()?,
        revision: row.get("revision")?,
    })
}

/// Returns the credential in this row; `None` for a key whose credentials are all purged.
fn credential(row: Fields<'_>) -> Result<Option<StoredCredential>, StoreError> {
    let Some(prefix) = row.get("prefix")? else { return Ok(None) };
    Ok(Some(StoredCredential {
        credential: Credential {
            prefix,
            hash: row.get("phc")?,
            issued_at: row.get("issued_at_ms")?,
            valid_until: row.get("valid_until_ms")?,
        },
        ended_at: row.get("ended_at_ms")?,
        last_used_at: row.get("last_used_at_ms")?,
    }))
}
