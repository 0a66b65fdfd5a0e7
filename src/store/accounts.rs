//! Statements about accounts.

use rusqlite::{OptionalExtension, Row, ToSql, params};

use crate::{
    domain::{
        account::{Account, AccountKind, AccountStatus},
        id::AccountId,
        scope::ScopeSet,
        text::{ExternalId, Metadata, Name},
    },
    env::Timestamp,
    store::{AuditReceipt, ReadTx, StoreError, WriteTx, records::instant, tx::Touched},
};

const COLUMNS: &str = "id, kind, name, external_id, status, allowed_scopes, max_keys, metadata,
    created_at_ms, updated_at_ms, deleted_at_ms, revision";

/// Where a page begins, and how long it is.
#[derive(Clone, Copy, Debug)]
pub struct AccountPage {
    pub after: Option<(Timestamp, AccountId)>,
    pub limit: u32,
}

impl ReadTx<'_> {
    /// One account, tombstones included.
    pub fn account(&self, id: AccountId) -> Result<Option<Account>, StoreError> {
        self.one_account("id = ?1", &id.to_string())
    }

    /// The account that runs keyward; none before the first start is through.
    pub fn operator_account(&self) -> Result<Option<Account>, StoreError> {
        // Written out as well, or the partial index could not be used.
        self.one_account("kind = 'operator' AND kind = ?1", &AccountKind::Operator.as_str())
    }

    /// The account that has this identifier of the operator's now.
    pub fn account_with_external_id(
        &self,
        external_id: &ExternalId,
    ) -> Result<Option<Account>, StoreError> {
        self.one_account("external_id = ?1 AND deleted_at_ms IS NULL", &external_id.as_str())
    }

    /// The accounts by age, only those with `text` in their name or external identifier if it is given;
    /// tombstones never are among them.
    pub fn accounts(
        &self,
        page: AccountPage,
        text: Option<&str>,
    ) -> Result<Vec<Account>, StoreError> {
        let (created_at, id) = page
            .after
            .map_or((i64::MIN, String::new()), |(at, id)| (at.as_millis(), id.to_string()));
        let sql = format!(
            "SELECT {COLUMNS} FROM accounts
             WHERE deleted_at_ms IS NULL AND (created_at_ms, id) > (?1, ?2)
               AND (?4 IS NULL OR instr(folded(name), folded(?4)) > 0 OR instr(external_id, ?4) > 0)
             ORDER BY created_at_ms, id LIMIT ?3"
        );
        let mut statement = self.sql.prepare_cached(&sql)?;
        let rows = statement
            .query_map(params![created_at, id, page.limit, text], |row| Ok(account(row)))?;
        rows.map(|row| row?).collect()
    }

    /// Accounts that were deleted before `cutoff` and have no key left.
    pub fn purgeable_accounts(
        &self,
        cutoff: Timestamp,
        limit: u32,
    ) -> Result<Vec<AccountId>, StoreError> {
        let mut statement = self.sql.prepare_cached(
            "SELECT id FROM accounts AS a
             WHERE deleted_at_ms < ?1
               AND NOT EXISTS (SELECT 1 FROM api_keys AS k WHERE k.account_id = a.id)
             LIMIT ?2",
        )?;
        let rows = statement
            .query_map(params![cutoff.as_millis(), limit], |row| row.get::<_, String>(0))?;
        rows.map(|id| account_id(id?)).collect()
    }

    /// Streams every account, tombstones included.
    pub(super) fn for_each_account(&self, mut take: impl FnMut(Account)) -> Result<(), StoreError> {
        let mut statement = self.sql.prepare(&format!("SELECT {COLUMNS} FROM accounts"))?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            take(account(row)?);
        }
        Ok(())
    }

    fn one_account(&self, filter: &str, value: &dyn ToSql) -> Result<Option<Account>, StoreError> {
        self.sql
            .prepare_cached(&format!("SELECT {COLUMNS} FROM accounts WHERE {filter}"))?
            .query_row([value], |row| Ok(account(row)))
            .optional()?
            .transpose()
    }
}

impl WriteTx<'_> {
    pub fn insert_account<'tx>(
        &'tx self,
        account: &Account,
        receipt: &AuditReceipt<'tx>,
    ) -> Result<(), StoreError> {
        let id = receipt.account()?;
        self.sql
            .prepare_cached(
                "INSERT INTO accounts (id, kind, name, external_id, status, allowed_scopes,
                                       max_keys, metadata, created_at_ms, updated_at_ms,
                                       revision, audit_seq)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
            )?
            .execute(params![
                id.to_string(),
                account.kind.as_str(),
                account.name.as_str(),
                account.external_id.as_ref().map(ExternalId::as_str),
                account.status.as_str(),
                account.allowed_scopes.as_ref().map(ToString::to_string),
                account.max_keys,
                account.metadata.as_json(),
                account.created_at.as_millis(),
                account.updated_at.as_millis(),
                account.revision,
                receipt.seq(),
            ])?;
        self.touch(Touched::Account(id));
        Ok(())
    }

    /// Writes everything about the account that can change, as the next revision.
    pub fn update_account<'tx>(
        &'tx self,
        account: &Account,
        receipt: &AuditReceipt<'tx>,
    ) -> Result<(), StoreError> {
        let id = receipt.account()?;
        let changed = self
            .sql
            .prepare_cached(
                "UPDATE accounts
                 SET name = ?2, external_id = ?3, status = ?4, allowed_scopes = ?5, max_keys = ?6,
                     metadata = ?7, updated_at_ms = ?8, deleted_at_ms = ?9,
                     revision = revision + 1, audit_seq = ?10
                 WHERE id = ?1",
            )?
            .execute(params![
                id.to_string(),
                account.name.as_str(),
                account.external_id.as_ref().map(ExternalId::as_str),
                account.status.as_str(),
                account.allowed_scopes.as_ref().map(ToString::to_string),
                account.max_keys,
                account.metadata.as_json(),
                self.now().as_millis(),
                account.deleted_at.map(Timestamp::as_millis),
                receipt.seq(),
            ])?;
        self.touch(Touched::Account(id));
        StoreError::unless_one(changed)
    }

    /// Removes the tombstone of an account that has no key left.
    pub fn delete_account<'tx>(&'tx self, receipt: &AuditReceipt<'tx>) -> Result<(), StoreError> {
        let id = receipt.account()?;
        let deleted = self
            .sql
            .prepare_cached("DELETE FROM accounts WHERE id = ?1 AND deleted_at_ms IS NOT NULL")?
            .execute([id.to_string()])?;
        self.touch(Touched::Account(id));
        StoreError::unless_one(deleted)
    }
}

fn account(row: &Row<'_>) -> Result<Account, StoreError> {
    let id: String = row.get(0)?;
    let bad = |column| StoreError::Corrupt { table: "accounts", column, row: id.clone() };
    let (kind, name, status): (String, String, String) = (row.get(1)?, row.get(2)?, row.get(4)?);
    let external_id: Option<String> = row.get(3)?;
    let allowed_scopes: Option<String> = row.get(5)?;
    Ok(Account {
        id: account_id(id.clone())?,
        kind: AccountKind::parse(&kind).ok_or_else(|| bad("kind"))?,
        name: Name::from_stored(name),
        external_id: external_id
            .map(|it| ExternalId::parse(&it).map_err(|_| bad("external_id")))
            .transpose()?,
        status: AccountStatus::parse(&status).ok_or_else(|| bad("status"))?,
        allowed_scopes: allowed_scopes
            .map(|it| ScopeSet::from_stored(&it).ok_or_else(|| bad("allowed_scopes")))
            .transpose()?,
        max_keys: row.get(6)?,
        metadata: Metadata::from_stored(row.get(7)?).ok_or_else(|| bad("metadata"))?,
        created_at: Timestamp::from_millis(row.get(8)?),
        updated_at: Timestamp::from_millis(row.get(9)?),
        deleted_at: instant(row, 10)?,
        revision: row.get(11)?,
    })
}

pub(super) fn account_id(text: String) -> Result<AccountId, StoreError> {
    let unreadable = |row| StoreError::Corrupt { table: "accounts", column: "id", row };
    AccountId::parse(&text).map_err(|_| unreadable(text))
}
