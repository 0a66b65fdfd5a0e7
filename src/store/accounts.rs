//! Statements about accounts.

use std::collections::HashSet;

use rusqlite::{ToSql, params};

use crate::{
    domain::{
        account::{Account, AccountKind, AccountStatus},
        event::Subject,
        id::AccountId,
        lifetime::Lifetimes,
        text::ExternalId,
    },
    env::Timestamp,
    store::{
        AuditReceipt, ReadTx, StoreError, WriteTx,
        rows::{Column, ColumnList, Fields, Table, limit_of, window_of},
        tx::Touched,
    },
};

/// The columns of an account. A further one is a line here, a line in [`account`], and a line in
/// `schema.sql`.
const COLUMNS: ColumnList<Account> = ColumnList {
    table: Table { name: "accounts", key: "id" },
    columns: &[
        Column::fixed("kind", |it| &it.kind),
        Column::new("name", |it| &it.name),
        Column::new("external_id", |it| &it.external_id),
        Column::new("status", |it| &it.status),
        Column::new("allowed_scopes", |it| &it.allowed_scopes),
        Column::new("max_keys", |it| &it.max_keys),
        Column::new("max_lifetime_s", |it| &it.lifetimes.max),
        Column::new("default_lifetime_s", |it| &it.lifetimes.default),
        Column::new("rate_limit", |it| limit_of(it.rate_limit.as_ref())),
        Column::new("rate_window_s", |it| window_of(it.rate_limit.as_ref())),
        Column::new("key_rate_limit", |it| limit_of(it.key_rate_limit.as_ref())),
        Column::new("key_rate_window_s", |it| window_of(it.key_rate_limit.as_ref())),
        Column::new("token_exchange", |it| &it.token_exchange),
        Column::new("metadata", |it| &it.metadata),
        Column::fixed("created_at_ms", |it| &it.created_at),
        Column::fixed("updated_at_ms", |it| &it.updated_at),
        Column::new("deleted_at_ms", |it| &it.deleted_at),
        Column::fixed("revision", |it| &it.revision),
    ],
};

/// Where a page begins, and how long it is.
#[derive(Clone, Copy, Debug)]
pub struct AccountPage {
    pub after: Option<(Timestamp, AccountId)>,
    pub limit: u32,
}

/// Which accounts to list. Deleted ones are never listed.
#[derive(Clone, Debug, Default)]
pub struct AccountFilter {
    pub status: Option<AccountStatus>,
    /// See [`Account::has_text`].
    pub text: Option<String>,
}

impl ReadTx<'_> {
    /// Returns one account; a deleted one as well, until it is purged.
    pub fn account(&self, id: AccountId) -> Result<Option<Account>, StoreError> {
        self.one_account("id = ?1", &id)
    }

    /// Returns the operator account; `None` until the first start has created it.
    pub fn operator_account(&self) -> Result<Option<Account>, StoreError> {
        // The literal is needed as well: without it SQLite cannot use the partial index.
        self.one_account("kind = 'operator' AND kind = ?1", &AccountKind::Operator)
    }

    /// Returns the account that has this external identifier now.
    pub fn account_with_external_id(
        &self,
        external_id: &ExternalId,
    ) -> Result<Option<Account>, StoreError> {
        self.one_account("external_id = ?1 AND deleted_at_ms IS NULL", external_id)
    }

    /// Returns whether keys of any account can be exchanged for tokens.
    pub fn has_token_exchange(&self) -> Result<bool, StoreError> {
        let sql = "SELECT EXISTS (SELECT 1 FROM accounts WHERE token_exchange = 1 AND deleted_at_ms IS NULL)";
        Ok(self.sql.query_row(sql, [], |row| row.get(0))?)
    }

    /// Returns the external identifiers of all deleted accounts that were not purged yet.
    pub fn deleted_external_ids(&self) -> Result<HashSet<String>, StoreError> {
        let mut statement = self.sql.prepare_cached(
            "SELECT id, external_id FROM accounts
             WHERE 0 <= deleted_at_ms AND external_id IS NOT NULL",
        )?;
        let found = COLUMNS.table.all(&mut statement, [], |row| row.get("external_id"))?;
        Ok(found.into_iter().collect())
    }

    /// Returns the accounts that the filter selects, the oldest first.
    pub fn accounts(
        &self,
        page: AccountPage,
        filter: &AccountFilter,
    ) -> Result<Vec<Account>, StoreError> {
        let first = || (Timestamp::MIN, String::new());
        let (created_at, id) = page.after.map_or_else(first, |(at, id)| (at, id.to_string()));
        let sql = format!(
            "SELECT {COLUMNS} FROM accounts
             WHERE deleted_at_ms IS NULL AND (created_at_ms, id) > (?1, ?2)
               AND (?4 IS NULL OR instr(folded(name), folded(?4)) > 0 OR instr(external_id, ?4) > 0
                    OR instr(id, ?5) = 1)
               AND (?6 IS NULL OR status = ?6)
             ORDER BY created_at_ms, id LIMIT ?3"
        );
        let mut statement = self.sql.prepare_cached(&sql)?;
        let AccountFilter { status, text } = filter;
        let start = text.as_deref().filter(|it| AccountId::is_start(it));
        let params = params![created_at, id, page.limit, text, start, status];
        COLUMNS.table.all(&mut statement, params, account)
    }

    /// Returns accounts that were deleted before `cutoff` and have no key left.
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
        COLUMNS.table.all(&mut statement, params![cutoff, limit], |row| row.get("id"))
    }

    /// Gives every account to `take`, deleted ones included.
    pub(super) fn for_each_account(&self, mut take: impl FnMut(Account)) -> Result<(), StoreError> {
        let mut statement = self.sql.prepare(&format!("SELECT {COLUMNS} FROM accounts"))?;
        COLUMNS.table.each(&mut statement, [], |row| {
            take(account(row)?);
            Ok(true)
        })
    }

    fn one_account(&self, filter: &str, value: &dyn ToSql) -> Result<Option<Account>, StoreError> {
        let mut statement =
            self.sql.prepare_cached(&format!("SELECT {COLUMNS} FROM accounts WHERE {filter}"))?;
        COLUMNS.table.first(&mut statement, [value], account)
    }
}

impl WriteTx<'_> {
    /// Adds an account.
    pub fn insert_account<'tx>(
        &'tx self,
        account: &Account,
        receipt: &AuditReceipt<'tx>,
    ) -> Result<(), StoreError> {
        let id = receipt.account()?;
        COLUMNS.insert(self, &id, account, receipt.seq())?;
        self.touch(Touched::Account(id));
        Ok(())
    }

    /// Writes all changeable columns of the account as its next revision.
    pub fn update_account<'tx>(
        &'tx self,
        account: &Account,
        receipt: &AuditReceipt<'tx>,
    ) -> Result<(), StoreError> {
        let id = receipt.account()?;
        self.touch(Touched::Account(id));
        COLUMNS.update(self, &id, account, receipt.seq())
    }

    /// Purges a deleted account that has no key left.
    pub fn delete_account<'tx>(&'tx self, receipt: &AuditReceipt<'tx>) -> Result<(), StoreError> {
        let id = receipt.account()?;
        let deleted = self
            .sql
            .prepare_cached("DELETE FROM accounts WHERE id = ?1 AND deleted_at_ms IS NOT NULL")?
            .execute([id])?;
        self.delete_rate_window(Subject::Account(id))?;
        self.touch(Touched::Account(id));
        StoreError::unless_one(deleted)
    }
}

fn account(row: Fields<'_>) -> Result<Account, StoreError> {
    Ok(Account {
        id: row.get("id")?,
        kind: row.get("kind")?,
        name: row.get("name")?,
        external_id: row.get("external_id")?,
        status: row.get("status")?,
        allowed_scopes: row.get("allowed_scopes")?,
        max_keys: row.get("max_keys")?,
        lifetimes: Lifetimes {
            max: row.get("max_lifetime_s")?,
            default: row.get("default_lifetime_s")?,
        },
        rate_limit: row.rate_limit("rate_limit", "rate_window_s")?,
        key_rate_limit: row.rate_limit("key_rate_limit", "key_rate_window_s")?,
        token_exchange: row.get("token_exchange")?,
        metadata: row.get("metadata")?,
        created_at: row.get("created_at_ms")?,
        updated_at: row.get("updated_at_ms")?,
        deleted_at: row.get("deleted_at_ms")?,
        revision: row.get("revision")?,
    })
}
