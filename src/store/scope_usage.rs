//! Statements about the scopes that keys used. They change without an event, like counts of use.

use rusqlite::params;

use crate::{
    domain::scope::Catalogue,
    env::Timestamp,
    store::{CredentialUses, Day, StoreError, WriteTx},
};

/// For how many days, today included, a use of a scope counts.
const DAYS_OF_USE: u32 = 30;

/// The scopes that a key used, by name, each with the last day.
#[derive(Clone, Debug, Default)]
pub struct ScopeDays(Vec<(String, Day)>);

impl ScopeDays {
    /// Selects the days of the key `k` in one column, which [`ScopeDays::from_stored`] reads.
    pub(super) const COLUMN: &str = "(SELECT group_concat(s.scope || ' ' || s.last_day, ' ')
                 FROM scope_usage AS s WHERE s.key_id = k.id)";

    /// Returns `None` for a text that is not in the form of [`ScopeDays::COLUMN`].
    pub(super) fn from_stored(text: &str) -> Option<Self> {
        let mut words = text.split(' ');
        let mut days = Vec::new();
        while let Some(scope) = words.next() {
            days.push((scope.to_owned(), Day(words.next()?.parse().ok()?)));
        }
        Some(Self(days))
    }

    /// Returns whether the scope was used on this day or later.
    pub fn has_since(&self, scope: &str, first: Day) -> bool {
        self.0.iter().any(|(name, day)| name == scope && first <= *day)
    }
}

/// Returns the first day on which a use of a scope counts: a scope that was not used on this day or
/// later is unused.
pub fn scopes_count_since(now: Timestamp) -> Day {
    Day::of(now).before(DAYS_OF_USE - 1)
}

impl WriteTx<'_> {
    /// Stores on which days scopes were used. An earlier day than the stored one changes nothing.
    pub fn add_scope_usage(
        &self,
        catalogue: &Catalogue,
        uses: &[CredentialUses],
    ) -> Result<(), StoreError> {
        let mut statement = self.sql.prepare_cached(
            "INSERT INTO scope_usage (key_id, scope, last_day)
             SELECT id, ?2, ?3 FROM api_keys WHERE id = ?1
             ON CONFLICT (key_id, scope) DO UPDATE SET last_day = excluded.last_day
             WHERE last_day < excluded.last_day",
        )?;
        for CredentialUses { key, uses, .. } in uses {
            for (day, scopes) in &uses.scopes {
                for name in catalogue.names(*scopes) {
                    statement.execute(params![key, name, day.0])?;
                }
            }
        }
        Ok(())
    }
}
