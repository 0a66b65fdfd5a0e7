//! The use cases about accounts, which are the operator's customers.

use serde_json::{Value, json};

use crate::{
    domain::{
        account::{Account, AccountKind, AccountStatus},
        credential::Credential,
        event::{EventType, NewEvent},
        id::AccountId,
        lifetime::Lifetimes,
        rate_limit::RateLimit,
        scope::{self, Catalogue, Scope, ScopeSet},
        text::{ExternalId, Metadata, Name, ReasonText},
    },
    service::{
        Change, ChangePermit, Conflict, Error, IssuedKey, Keyward, Minted, NewKey, Principal,
        keys::{
            addresses::{OUTSIDE, lies_within},
            expiry::outlives,
            revocation::revoke,
        },
        view::{changes, rate_fact, with_metadata},
    },
    store::{AccountFilter, AccountPage, ReadTx, WriteTx},
};

/// The scopes of the first key of an account, besides those of the catalogue.
const FIRST_KEY: [&str; 3] = [scope::KEYS_READ, scope::KEYS_WRITE, scope::EVENTS_READ];
pub(super) const MANAGERS: &[&str] = &[scope::ACCOUNTS_WRITE];

/// The properties of a new account.
pub struct AccountDraft {
    pub name: Name,
    pub external_id: Option<ExternalId>,
    pub allowed_scopes: Option<ScopeSet>,
    pub max_keys: Option<u32>,
    pub lifetimes: Lifetimes,
    pub rate_limit: Option<RateLimit>,
    pub key_rate_limit: Option<RateLimit>,
    pub token_exchange: bool,
    pub metadata: Metadata,
}

/// The properties to change. An absent one stays as it is.
#[derive(Default)]
pub struct AccountPatch {
    pub name: Option<Name>,
    pub external_id: Option<Option<ExternalId>>,
    pub status: Option<AccountStatus>,
    pub allowed_scopes: Option<Option<ScopeSet>>,
    pub max_keys: Option<Option<u32>>,
    pub max_key_lifetime: Option<Option<u32>>,
    pub default_key_lifetime: Option<Option<u32>>,
    pub rate_limit: Option<Option<RateLimit>>,
    pub key_rate_limit: Option<Option<RateLimit>>,
    pub token_exchange: Option<bool>,
    pub metadata: Option<Metadata>,
}

/// An account together with its first key.
pub struct NewAccount {
    pub account: Account,
    pub first_key: IssuedKey,
}

impl Keyward {
    /// Takes a change from the caller's budget, and refuses what [`Keyward::create_account`] would
    /// refuse now, before a key is minted for nothing.
    pub fn permit_new_account(
        &self,
        caller: &Principal,
        draft: &AccountDraft,
    ) -> Result<ChangePermit, Error> {
        let permit = self.permit_change(caller)?;
        self.store.read(|tx| refuse_taken(tx, draft.external_id.as_ref(), None))?;
        Ok(permit)
    }

    pub fn create_account(
        &self,
        permit: ChangePermit,
        draft: AccountDraft,
        minted: Minted,
    ) -> Result<NewAccount, Error> {
        let Minted { plaintext, hash } = minted;
        self.change(permit, MANAGERS, move |change| {
            let (tx, catalogue) = (&*change, &change.authorizer.catalogue);
            let account = change.add_account(draft)?;
            let scopes = first_scopes(catalogue, &account).ok_or(Error::NotFound)?;
            let new = NewKey::new(account.name.clone(), scopes);
            let credential = Credential::new(plaintext.prefix(), hash, tx.now());
            let record = new.insert(tx, change.maker(&account), account.id, &credential)?;
            change.announce(&record)?;
            let first_key = IssuedKey::new(&change, record, plaintext, Some(&account))?;
            Ok(NewAccount { account, first_key })
        })
    }

    pub fn find_account(&self, id: AccountId) -> Result<Account, Error> {
        let found = self.store.read(|tx| tx.account(id))?;
        found.filter(|it| it.deleted_at.is_none()).ok_or(Error::NO_ACCOUNT)
    }

    /// Returns the accounts that the filter selects, by age.
    pub fn list_accounts(
        &self,
        page: AccountPage,
        filter: &AccountFilter,
    ) -> Result<Vec<Account>, Error> {
        Ok(self.store.read(|tx| tx.accounts(page, filter))?)
    }

    /// Returns the account with this external id.
    pub fn account_with_external_id(&self, id: &ExternalId) -> Result<Option<Account>, Error> {
        Ok(self.store.read(|tx| tx.account_with_external_id(id))?)
    }

    /// Changes what the patch names. A suspension stops all keys of the account at once.
    pub fn update_account(
        &self,
        caller: &Principal,
        id: AccountId,
        expected: Option<i64>,
        patch: AccountPatch,
    ) -> Result<Account, Error> {
        let permit = self.permit_change(caller)?;
        self.change(permit, MANAGERS, move |change| change.patch_account(id, expected, &patch))
    }

    /// Deletes the account and revokes all its keys, in one transaction. The event repeats the reason.
    pub fn delete_account(
        &self,
        caller: &Principal,
        id: AccountId,
        expected: Option<i64>,
        reason: Option<ReasonText>,
    ) -> Result<(), Error> {
        let permit = self.permit_change(caller)?;
        self.change(permit, MANAGERS, move |change| {
            let (tx, catalogue) = (&*change, &change.authorizer.catalogue);
            let account = account_to_change(tx, id, expected)?;
            if account.is_operator() {
                return Err(Conflict::OperatorAccount.into());
            }
            for record in tx.unrevoked_keys(id)? {
                revoke(tx, change.source(), &record, "account_deleted")?;
            }
            let mut data = json!({ "before": facts(catalogue, &account) });
            if let Some(reason) = &reason {
                data["reasonText"] = json!(reason.as_str());
            }
            let event = NewEvent::about_account(EventType::AccountDeleted, id, data);
            let receipt = change.record(&event)?;
            let tombstone = Account { deleted_at: Some(tx.now()), ..account };
            Ok(tx.update_account(&tombstone, &receipt)?)
        })
    }
}

impl Change<'_> {
    /// Writes a new account, with its event.
    pub(super) fn add_account(&self, draft: AccountDraft) -> Result<Account, Error> {
        refuse_taken(self, draft.external_id.as_ref(), None)?;
        let account = Account {
            id: self.next_account_id(),
            kind: AccountKind::Customer,
            name: draft.name,
            external_id: draft.external_id,
            status: AccountStatus::Active,
            allowed_scopes: draft.allowed_scopes,
            max_keys: draft.max_keys,
            lifetimes: draft.lifetimes,
            rate_limit: draft.rate_limit,
            key_rate_limit: draft.key_rate_limit,
            token_exchange: draft.token_exchange,
            metadata: draft.metadata,
            created_at: self.now(),
            updated_at: self.now(),
            deleted_at: None,
            revision: 1,
        };
        let event = NewEvent::about_account(
            EventType::AccountCreated,
            account.id,
            json!({ "after": facts(&self.authorizer.catalogue, &account) }),
        );
        let receipt = self.record(&event)?;
        self.insert_account(&account, &receipt)?;
        Ok(account)
    }

    /// Changes what the patch names, with an event. A change of nothing leaves no trace.
    pub(super) fn patch_account(
        &self,
        id: AccountId,
        expected: Option<i64>,
        patch: &AccountPatch,
    ) -> Result<Account, Error> {
        let before = account_to_change(self, id, expected)?;
        let after = patch.applied_to(&before);
        refuse_reactivation(self, self.caller(), &before, &after)?;
        refuse_taken(self, after.external_id.as_ref(), Some(id))?;
        let limited = after.status == AccountStatus::Suspended
            || after.allowed_scopes.is_some()
            || after.max_keys.is_some()
            || after.lifetimes != Lifetimes::default();
        if after.is_operator() && limited {
            return Err(Conflict::OperatorAccount.into());
        }
        if after == before {
            return Ok(before);
        }
        let catalogue = &self.authorizer.catalogue;
        let event = NewEvent::about_account(
            EventType::AccountUpdated,
            id,
            changes(&facts(catalogue, &before), &facts(catalogue, &after)),
        );
        let receipt = self.record(&event)?;
        self.update_account(&after, &receipt)?;
        self.account(id)?.ok_or(Error::NO_ACCOUNT)
    }
}

impl AccountPatch {
    /// Returns a new account with these properties; `None` without a name.
    pub(super) fn into_draft(self, external_id: ExternalId) -> Option<AccountDraft> {
        Some(AccountDraft {
            name: self.name?,
            external_id: Some(external_id),
            allowed_scopes: self.allowed_scopes.flatten(),
            max_keys: self.max_keys.flatten(),
            lifetimes: Lifetimes {
                max: self.max_key_lifetime.flatten(),
                default: self.default_key_lifetime.flatten(),
            },
            rate_limit: self.rate_limit.flatten(),
            key_rate_limit: self.key_rate_limit.flatten(),
            token_exchange: self.token_exchange.unwrap_or_default(),
            metadata: self.metadata.unwrap_or_else(Metadata::empty),
        })
    }

    fn applied_to(&self, account: &Account) -> Account {
        Account {
            name: self.name.clone().unwrap_or_else(|| account.name.clone()),
            external_id: self.external_id.clone().unwrap_or_else(|| account.external_id.clone()),
            status: self.status.unwrap_or(account.status),
            allowed_scopes: self
                .allowed_scopes
                .clone()
                .unwrap_or_else(|| account.allowed_scopes.clone()),
            max_keys: self.max_keys.unwrap_or(account.max_keys),
            lifetimes: Lifetimes {
                max: self.max_key_lifetime.unwrap_or(account.lifetimes.max),
                default: self.default_key_lifetime.unwrap_or(account.lifetimes.default),
            },
            rate_limit: self.rate_limit.unwrap_or(account.rate_limit),
            key_rate_limit: self.key_rate_limit.unwrap_or(account.key_rate_limit),
            token_exchange: self.token_exchange.unwrap_or(account.token_exchange),
            metadata: self.metadata.clone().unwrap_or_else(|| account.metadata.clone()),
            ..account.clone()
        }
    }
}

fn account_to_change(
    tx: &ReadTx<'_>,
    id: AccountId,
    expected: Option<i64>,
) -> Result<Account, Error> {
    let account = tx.account(id)?.filter(|it| it.deleted_at.is_none()).ok_or(Error::NO_ACCOUNT)?;
    if expected.is_some_and(|it| it != account.revision) {
        return Err(Error::PreconditionFailed);
    }
    Ok(account)
}

/// Refuses to reactivate an account with keys that outlive the caller, or are accepted from more
/// addresses than the caller: that would enable them again. A key that has expired stays refused.
fn refuse_reactivation(
    tx: &WriteTx<'_>,
    caller: &Principal,
    before: &Account,
    after: &Account,
) -> Result<(), Error> {
    let revived = before.status != after.status && after.status == AccountStatus::Active;
    if !revived || (caller.allowed_ips.is_none() && caller.gives_until.is_none()) {
        return Ok(());
    }
    let mut keys = tx.unrevoked_keys(before.id)?;
    keys.retain(|it| it.key.enabled && !it.key.is_expired_at(tx.now()));
    let limit = caller.allowed_ips.as_ref();
    if keys.iter().any(|it| !lies_within(it.key.allowed_ips.as_ref(), limit)) {
        let detail = "keys of this account are accepted from addresses outside the allowedIps of the calling key";
        return Err(Error::invalid("/status", OUTSIDE, detail));
    }
    let Some(limit) = caller.gives_until else { return Ok(()) };
    if keys.iter().any(|it| outlives(it.key.gives_until(), Some(limit))) {
        let detail =
            format!("keys of this account outlive the calling key, which expires at {limit}");
        return Err(Error::invalid("/status", "expires_after_caller", detail));
    }
    Ok(())
}

/// Refuses an external identifier that another account has, or that could be taken for another account's `id`. An
/// account that already has such an identifier keeps it.
fn refuse_taken(
    tx: &ReadTx<'_>,
    external_id: Option<&ExternalId>,
    own: Option<AccountId>,
) -> Result<(), Error> {
    let Some(external_id) = external_id else { return Ok(()) };
    match tx.account_with_external_id(external_id)? {
        Some(holder) if Some(holder.id) != own => Err(Conflict::ExternalIdTaken.into()),
        None if external_id.is_like_account_id() => {
            let detail = "must not be `self` or begin with `acct_`, as the `id` of an account does";
            Err(Error::invalid("/externalId", "like_account_id", detail))
        }
        Some(_) | None => Ok(()),
    }
}

/// Returns all scopes that the account may have of the catalogue, and those that manage its keys.
pub(super) fn first_scopes(catalogue: &Catalogue, account: &Account) -> Option<ScopeSet> {
    let ceiling = catalogue.ceiling(account.allowed_scopes.as_ref());
    let own = catalogue.entries().iter().filter(|it| !it.reserved).map(|it| it.scope.as_str());
    let own = own.filter(|it| catalogue.find(it).is_some_and(|bit| bit.is_subset_of(ceiling)));
    ScopeSet::new(own.chain(FIRST_KEY).filter_map(|it| Scope::parse(it).ok()))
}

/// Returns the properties that the operator can change, for the log.
pub(super) fn facts(catalogue: &Catalogue, account: &Account) -> Value {
    with_metadata(
        json!({
            "name": account.name.as_str(),
            "externalId": account.external_id.as_ref().map(ExternalId::as_str),
            "status": account.status.as_str(),
            "allowedScopes": account.allowed_scopes.as_ref().map(|it| catalogue.ordered(it)),
            "maxKeys": account.max_keys,
            "maxKeyLifetimeSeconds": account.lifetimes.max,
            "defaultKeyLifetimeSeconds": account.lifetimes.default,
            "rateLimit": account.rate_limit.map(rate_fact),
            "keyRateLimit": account.key_rate_limit.map(rate_fact),
            "tokenExchange": account.token_exchange,
        }),
        &account.metadata,
    )
}
