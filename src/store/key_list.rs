//! Lists of API keys.

use rusqlite::ToSql;

use crate::{
    domain::{
        api_key::{ApiKey, KeyStatus},
        id::{AccountId, KeyId},
        list_order::ListOrder,
        scope::Scope,
    },
    env::Timestamp,
    store::{KeyRecord, ReadTx, StoreError, records::Selection, scopes_count_since},
};

/// Which keys to list. Revoked keys are never listed.
#[derive(Clone, Debug, Default)]
pub struct KeyFilter {
    /// The account of the keys; `None` means all accounts.
    pub account: Option<AccountId>,
    pub status: Option<KeyStatus>,
    pub scope: Option<Scope>,
    /// Created before this instant and not used since.
    pub unused_since: Option<Timestamp>,
    /// Whether it has a scope that was not used in the last days; see [`scopes_count_since`].
    pub unused_scopes: Option<bool>,
    pub expiring_before: Option<Timestamp>,
    /// A part of the name, in upper or lower case, or the beginning of one of its prefixes or of its
    /// identifier.
    pub text: Option<String>,
    pub created_by: Option<Creator>,
    /// The account of the key that created it. The service derives it from the caller.
    pub creator_account: Option<AccountId>,
}

/// The creator of a key, as answers name it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Creator {
    Key(KeyId),
    /// Any key of the operator account.
    Operator,
}

/// Where a page begins, in which direction it goes, and how long it is.
#[derive(Clone, Copy, Debug)]
pub struct KeyPage {
    pub order: ListOrder,
    pub after: Option<(Timestamp, KeyId)>,
    pub limit: u32,
}

/// The condition of a WHERE over `api_keys AS k`, with an index that finds the rows.
struct Conditions {
    index: &'static str,
    all: Vec<&'static str>,
    values: Vec<Box<dyn ToSql>>,
}

impl ReadTx<'_> {
    /// Returns a page of the keys that the filter selects, by their status at `now`.
    ///
    /// For all accounts, a filter that few keys match reads many keys, so only the operator may ask
    /// for it.
    pub fn key_page(
        &self,
        filter: &KeyFilter,
        page: KeyPage,
        now: Timestamp,
    ) -> Result<Vec<KeyRecord>, StoreError> {
        let mut conditions = Conditions::of(filter, now);
        let descending = page.order == ListOrder::Descending;
        if let Some((created_at, id)) = page.after {
            let beyond = if descending {
                "(k.created_at_ms, k.id) < (?, ?)"
            } else {
                "(k.created_at_ms, k.id) > (?, ?)"
            };
            conditions.add(beyond, [Box::new(created_at), Box::new(id)]);
        }
        conditions.values.push(Box::new(page.limit));
        let mut found = self.records(&Selection {
            index: Some(conditions.index),
            filter: &conditions.text(),
            order: if descending {
                "ORDER BY k.created_at_ms DESC, k.id DESC LIMIT ?"
            } else {
                "ORDER BY k.created_at_ms, k.id LIMIT ?"
            },
            params: &conditions.params(),
        })?;
        if descending {
            found.reverse(); // `records` returns the oldest first.
        }
        Ok(found)
    }

    /// Counts the keys that the filter selects, by their status at `now`. Reads all of them.
    pub fn key_count(&self, filter: &KeyFilter, now: Timestamp) -> Result<u64, StoreError> {
        let conditions = Conditions::of(filter, now);
        let (index, wanted) = (conditions.index, conditions.text());
        let sql = format!("SELECT count(*) FROM api_keys AS k INDEXED BY {index} WHERE {wanted}");
        let mut statement = self.sql.prepare_cached(&sql)?;
        let count: i64 = statement.query_row(&*conditions.params(), |row| row.get(0))?;
        Ok(u64::try_from(count).unwrap_or_default())
    }
}

impl Conditions {
    fn of(filter: &KeyFilter, now: Timestamp) -> Self {
        let index = filter.account.map_or("api_keys_by_age", |_| "api_keys_by_account");
        let mut it = Self { index, all: vec!["k.revoked_at_ms IS NULL"], values: Vec::new() };
        if let Some(account) = filter.account {
            it.add("k.account_id = ?", [Box::new(account)]);
        }
        if let Some(scope) = &filter.scope {
            let padded = format!(" {} ", scope.as_str());
            it.add("instr(' ' || k.scopes || ' ', ?) > 0", [Box::new(padded)]);
        }
        if let Some(before) = filter.expiring_before {
            it.add("k.expires_at_ms < ?", [Box::new(before)]);
        }
        if let Some(since) = filter.unused_since {
            let unused = "k.created_at_ms < ? AND NOT EXISTS (
                 SELECT 1 FROM credential_usage AS u
                 WHERE u.key_id = k.id AND u.last_used_at_ms >= ?)";
            it.add(unused, [Box::new(since), Box::new(since)]);
        }
        if let Some(unused) = filter.unused_scopes {
            let some = "? = (length(k.scopes) - length(replace(k.scopes, ' ', '')) + 1 > (
                 SELECT count(*) FROM scope_usage AS s WHERE s.key_id = k.id AND s.last_day >= ?
                 AND instr(' ' || k.scopes || ' ', ' ' || s.scope || ' ') > 0))";
            it.add(some, [Box::new(unused), Box::new(scopes_count_since(now).0)]);
        }
        if let Some(Creator::Key(id)) = filter.created_by {
            it.add("k.created_by = ?", [Box::new(id)]);
        }
        if let Some(account) = filter.creator_account {
            // The log outlives the key that created this one.
            let created = "(SELECT e.actor_account_id FROM events AS e INDEXED BY events_by_subject
                 WHERE e.subject = k.id AND e.type = 'api_key.created' ORDER BY e.seq LIMIT 1) = ?";
            it.add(created, [Box::new(account)]);
        }
        if let Some(text) = &filter.text {
            it.add_text(text);
        }
        it.add_status(filter.status, now);
        it
    }

    fn add<const N: usize>(&mut self, condition: &'static str, values: [Box<dyn ToSql>; N]) {
        self.all.push(condition);
        self.values.extend(values);
    }

    fn add_text(&mut self, text: &str) {
        let start = KeyId::is_start(text).then(|| text.to_owned());
        let found = "(instr(folded(k.name), folded(?)) > 0 OR instr(k.id, ?) = 1 OR EXISTS (
             SELECT 1 FROM credentials AS c WHERE c.key_id = k.id AND instr(c.prefix, ?) = 1))";
        self.add(found, [Box::new(text.to_owned()), Box::new(start), Box::new(text.to_owned())]);
    }

    fn add_status(&mut self, status: Option<KeyStatus>, now: Timestamp) {
        let soon = now.after(ApiKey::EXPIRING);
        match status {
            None => (),
            Some(KeyStatus::Disabled) => self.add("k.enabled = 0", []),
            Some(KeyStatus::Expired) => {
                self.add("k.enabled = 1 AND k.expires_at_ms <= ?", [Box::new(now)]);
            }
            Some(KeyStatus::Expiring) => {
                let within = "k.enabled = 1 AND k.expires_at_ms > ? AND k.expires_at_ms < ?";
                self.add(within, [Box::new(now), Box::new(soon)]);
            }
            Some(KeyStatus::Active) => {
                let later = "k.enabled = 1 AND coalesce(k.expires_at_ms >= ?, 1)";
                self.add(later, [Box::new(soon)]);
            }
        }
    }

    fn text(&self) -> String {
        self.all.join(" AND ")
    }

    fn params(&self) -> Vec<&dyn ToSql> {
        self.values.iter().map(|it| &**it).collect()
    }
}
