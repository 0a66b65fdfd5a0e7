//! Lists of keys.

use crate::{
    domain::{
        id::AccountId,
        scope::{self, Scope},
    },
    service::{Error, KeyView, Keyward, Principal},
    store::{Creator, KeyFilter, KeyPage, ReadTx},
};

/// The scopes of which one lets a key of the operator read the keys of every account.
const READS_EVERY_ACCOUNT: &[&str] = &[scope::ACCOUNTS_READ];

impl Keyward {
    /// Returns an error unless the caller may list the keys of this account, or of all accounts for
    /// `None`. A caller may list the keys of its own account.
    pub fn check_key_list(
        &self,
        caller: &Principal,
        account: Option<AccountId>,
    ) -> Result<(), Error> {
        if account == Some(caller.account) || self.reads_every_account(caller) {
            return Ok(());
        }
        Err(Error::MissingScope(READS_EVERY_ACCOUNT))
    }

    fn reads_every_account(&self, caller: &Principal) -> bool {
        caller.operator && self.authorizer.permits(caller.powers, READS_EVERY_ACCOUNT)
    }

    /// Returns a page of the keys that the filter selects.
    pub fn list_keys(
        &self,
        caller: &Principal,
        filter: &KeyFilter,
        page: KeyPage,
    ) -> Result<Vec<KeyView>, Error> {
        let now = self.env.time.now();
        let records = self.read_list(caller, filter, |tx, it| Ok(tx.key_page(it, page, now)?))?;
        Ok(self.views(caller, records))
    }

    /// Counts the keys that the filter selects.
    pub fn count_keys(&self, caller: &Principal, filter: &KeyFilter) -> Result<u64, Error> {
        let now = self.env.time.now();
        self.read_list(caller, filter, |tx, it| Ok(tx.key_count(it, now)?))
    }

    /// Reads keys with a filter, as far as the caller may see them.
    fn read_list<T>(
        &self,
        caller: &Principal,
        filter: &KeyFilter,
        read: impl Fn(&ReadTx<'_>, &KeyFilter) -> Result<T, Error>,
    ) -> Result<T, Error> {
        self.check_key_list(caller, filter.account)?;
        if filter.unused_since.is_some() || filter.unused_scopes.is_some() {
            self.flush_usage()?; // The file must know what memory knows.
        }
        self.store.read(|tx| {
            if let Some(account) = filter.account {
                let found = tx.account(account)?.filter(|it| it.deleted_at.is_none());
                found.ok_or(Error::NO_ACCOUNT)?;
            }
            let creator_account = match filter.created_by {
                Some(Creator::Operator) => {
                    Some(tx.operator_account()?.ok_or(Error::NO_ACCOUNT)?.id)
                }
                // Otherwise an account could guess the key behind `operator`.
                Some(Creator::Key(_)) => (!caller.operator).then_some(caller.account),
                None => None,
            };
            read(tx, &KeyFilter { creator_account, ..filter.clone() })
        })
    }

    /// Returns whether the catalogue, or a key or account that the caller sees, names this scope.
    pub fn knows_scope(&self, caller: &Principal, scope: &Scope) -> Result<bool, Error> {
        if self.authorizer.catalogue.find(scope.as_str()).is_some() {
            return Ok(true);
        }
        self.store.read(|tx| {
            Ok(if self.reads_every_account(caller) {
                tx.names_scope_anywhere(scope)?
            } else {
                tx.names_scope(scope, caller.account)?
            })
        })
    }
}
