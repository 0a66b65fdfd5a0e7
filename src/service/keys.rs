//! Creating, listing, changing and revoking keys.

pub(super) mod addresses;
pub(super) mod expiry;
mod list;
pub(super) mod revocation;

use std::sync::Arc;

use self::{
    expiry::Maker,
    revocation::{RevocationReason, revoke},
};

use serde_json::json;

use crate::{
    domain::{
        account::Account,
        address_list::AddressList,
        api_key::{ApiKey, ConsoleLink, RequestedExpiry},
        credential::Credential,
        event::{EventType, NewEvent},
        id::{AccountId, KeyId},
        imported_key::ImportForm,
        lifetime::Lifetimes,
        notice::LAST_NOTICE,
        plaintext_key::{KeyPrefix, PlaintextKey},
        rate_limit::RateLimit,
        scope::{self, Scope, ScopeSet},
        text::{Metadata, Name, ReasonText},
    },
    env::Timestamp,
    service::{
        Change, ChangePermit, Checks, Conflict, Error, Expiry, Faults, Gain, KeyAccess, KeyChange,
        KeyView, Keyward, Minted, Principal,
        view::{changed_key, changes, key_facts, settings},
    },
    store::{AccountEntry, IndexedCredential, KeyRecord, ReadTx, WriteTx},
};

/// The scopes of which a caller needs one to change a key.
pub(super) const WRITERS: &[&str] = &[scope::KEYS_WRITE, scope::ACCOUNTS_WRITE];

/// A key to create. A setting that is absent in `settings` has its default.
pub struct NewKey {
    pub name: Name,
    pub scopes: ScopeSet,
    pub settings: KeyPatch,
    /// How the key was imported, if another system issued it.
    pub imported: Option<ImportForm>,
    /// What the key may give, if it is the key of a console link.
    pub console_link: Option<ConsoleLink>,
}

/// The properties to change. An absent one stays as it is.
#[derive(Default)]
pub struct KeyPatch {
    pub name: Option<Name>,
    pub scopes: Option<ScopeSet>,
    pub expires_at: RequestedExpiry,
    pub enabled: Option<bool>,
    pub metadata: Option<Metadata>,
    pub allowed_ips: Option<Option<AddressList>>,
    pub rate_limit: Option<Option<RateLimit>>,
}

/// A key and its plaintext, which exists nowhere else.
pub struct IssuedKey {
    pub view: KeyView,
    pub plaintext: PlaintextKey,
}

impl Keyward {
    /// Takes a change from the caller's budget, and refuses what [`Keyward::create_key`] would refuse
    /// now, before a key is minted for nothing.
    pub fn permit_new_key(
        &self,
        caller: &Principal,
        account: AccountId,
        new: &NewKey,
    ) -> Result<ChangePermit, Error> {
        let permit = self.permit_change(caller)?;
        self.store.read(|tx| self.checks(tx, caller).account_of_new_key(account, new))?;
        Ok(permit)
    }

    /// Creates a key in the caller's account, or in another if the caller is the operator.
    pub fn create_key(
        &self,
        permit: ChangePermit,
        account: AccountId,
        new: NewKey,
        minted: Minted,
    ) -> Result<IssuedKey, Error> {
        let Minted { plaintext, hash } = minted;
        let across = account != permit.caller().account;
        let needed: &[_] = if across { &[scope::ACCOUNTS_WRITE] } else { WRITERS };
        self.change(permit, needed, move |change| {
            let account = change.checks().account_of_new_key(account, &new)?;
            let credential = Credential::new(plaintext.prefix(), hash, change.now());
            let record = new.insert(&change, change.maker(&account), account.id, &credential)?;
            change.announce(&record)?;
            IssuedKey::new(&change, record, plaintext, None)
        })
    }

    /// Returns the lifetimes of keys in this account, from memory.
    pub fn lifetimes(&self, account: AccountId) -> Lifetimes {
        let index = self.store.index();
        let of =
            |it: &AccountEntry| (!it.operator).then(|| it.lifetimes.or(self.settings.lifetimes));
        index.account(account, of).flatten().unwrap_or_default()
    }

    /// Returns one key, if the caller may do this with it.
    pub fn find_key(
        &self,
        caller: &Principal,
        id: KeyId,
        access: KeyAccess,
    ) -> Result<KeyView, Error> {
        let record =
            self.store.read(|tx| self.authorizer.accessible_key(tx, caller, id, access))?;
        Ok(self.view(caller, record))
    }

    /// Returns the key with this prefix, of its current credential or of one in its grace period.
    /// Does not check what the caller may do.
    pub fn key_with_prefix(&self, text: &str) -> Option<KeyId> {
        let prefix = KeyPrefix::from_stored(text)?;
        let live = |it: &Arc<IndexedCredential>| (!it.key.revoked).then_some(it.key.id);
        let found = self.store.index().look(prefix, live)??;
        (!self.store.index().grace_is_over(prefix)).then_some(found)
    }

    /// Changes what the patch names. A change of nothing leaves no trace.
    pub fn update_key(
        &self,
        caller: &Principal,
        wanted: KeyChange,
        patch: KeyPatch,
    ) -> Result<KeyView, Error> {
        let permit = self.permit_change(caller)?;
        let record =
            self.change(permit, WRITERS, move |change| change.patch_key(wanted, &patch))?;
        Ok(self.view(caller, record))
    }

    /// Revokes the key: once this has returned, none of its credentials is accepted. A caller that
    /// revokes itself needs no scope. The event repeats the reason.
    pub fn revoke_key(
        &self,
        caller: &Principal,
        wanted: KeyChange,
        reason: Option<ReasonText>,
    ) -> Result<(), Error> {
        let permit = Self::permit_revocation(caller);
        let needed: &[_] = if wanted.access == KeyAccess::Itself { &[] } else { WRITERS };
        self.change(permit, needed, move |change| change.end_key(wanted, reason.as_ref()))
    }
}

impl Change<'_> {
    /// Changes what the patch names, with an event. A change of nothing leaves no trace.
    pub(super) fn patch_key(
        &self,
        wanted: KeyChange,
        patch: &KeyPatch,
    ) -> Result<KeyRecord, Error> {
        let record = self.checks().key_to_change(wanted, Gain::Settings(patch))?;
        let (before, catalogue) = (&record.key, &self.authorizer.catalogue);
        if before.console_link.is_some() {
            return Err(Conflict::IsConsoleLink.into());
        }
        if let Some(scopes) = &patch.scopes {
            let account = self.account(before.account_id)?.ok_or(Error::NO_ACCOUNT)?;
            let added = catalogue.bits(scopes).minus(catalogue.bits(&before.scopes));
            self.checks().refuse_beyond_grantable(added, &account)?;
        }
        let mut after = patch.applied_to(before, self.now());
        let moved = after.expires_at != before.expires_at;
        if moved && before.is_expired_at(self.now()) {
            return Err(Conflict::KeyNotActive.into());
        }
        if after == *before {
            return Ok(record);
        }
        after.announced_days = self.announced_days(before, &after);
        let data = changes(&settings(catalogue, before), &settings(catalogue, &after));
        let event = NewEvent::about_key(EventType::ApiKeyUpdated, before, data);
        let receipt = self.record(&event)?;
        self.update_key(&after, &receipt)?;
        keep_a_root_key(self, before)?;
        let record = self.key(wanted.id)?.ok_or(Error::NotFound)?;
        if moved {
            self.announce(&record)?;
        }
        Ok(record)
    }

    /// Revokes a key, unless it is the last root key.
    pub(super) fn end_key(
        &self,
        wanted: KeyChange,
        reason: Option<&ReasonText>,
    ) -> Result<(), Error> {
        let record = self.checks().key_to_change(wanted, Gain::Nothing)?;
        let why = RevocationReason { code: "requested", text: reason };
        revoke(self, self.source(), &record, why)?;
        keep_a_root_key(self, &record.key)
    }
}

impl IssuedKey {
    /// Shows a key to the caller that has created or rotated it, and keeps the answer for a retry.
    /// `account` was made with the key.
    pub(super) fn new(
        change: &Change<'_>,
        record: KeyRecord,
        plaintext: PlaintextKey,
        account: Option<&Account>,
    ) -> Result<Self, Error> {
        let view = changed_key(change, change.caller(), record, &change.index)?;
        if let Some(keeper) = &change.keeper {
            keeper.keep(change, &view, &plaintext, account)?;
        }
        Ok(Self { view, plaintext })
    }
}

impl Checks<'_> {
    /// How many revoked and expired keys an account may have for each live one that it may have.
    /// They take memory and disk until retention ends.
    pub const ENDED_FOR_EACH_LIVE: u32 = 10;

    /// Returns the account of a new key, if the caller may create this key in it.
    fn account_of_new_key(self, account: AccountId, new: &NewKey) -> Result<Account, Error> {
        let Self { tx, now, caller, authorizer, settings, .. } = self;
        let account = tx.account(account)?.filter(|it| it.deleted_at.is_none());
        let account = account.ok_or(Error::NO_ACCOUNT)?;
        let lifetimes = settings.lifetimes_of(&account);
        let expiry = Expiry { now, caller, lifetimes, existing: None };
        let KeyPatch { expires_at, allowed_ips, .. } = &new.settings;
        let faults = [expiry.fault(*expires_at), expiry.address_fault(allowed_ips.as_ref())];
        let faults: Faults = faults.into_iter().flatten().collect();
        if !faults.is_empty() {
            return Err(Error::Invalid(faults));
        }
        let wanted = authorizer.catalogue.bits(&new.scopes);
        self.refuse_beyond_grantable(wanted, &account)?;
        self.refuse_too_many(&account, 0)?;
        Ok(account)
    }

    /// Refuses another key in an account that has as many as it may have. `unseen` live keys are not
    /// in the transaction.
    pub fn refuse_too_many(self, account: &Account, unseen: u32) -> Result<(), Error> {
        let Self { tx, now, settings, .. } = self;
        if account.is_operator() {
            return Ok(());
        }
        let limit = account.max_keys.unwrap_or(settings.max_keys);
        let live = tx.live_key_count(account.id, now)?;
        if limit <= live.saturating_add(unseen) {
            return Err(Conflict::TooManyKeys { limit }.into());
        }
        let ended = tx.stored_key_count(account.id)?.saturating_sub(live);
        let limit = limit.saturating_mul(Self::ENDED_FOR_EACH_LIVE);
        if ended < limit {
            return Ok(());
        }
        // If the limit was lowered, several keys must be purged before there is room.
        let last_in_the_way = tx.nth_end(account.id, now, ended - limit)?.unwrap_or(now);
        let room_at = last_in_the_way.after(settings.retention);
        let retry_after = room_at.since(now);
        Err(Conflict::TooManyEndedKeys { limit, room_at, retry_after }.into())
    }
}

impl NewKey {
    /// Builds a key with the defaults of a new key: enabled, and without an expiry of its own.
    pub fn new(name: Name, scopes: ScopeSet) -> Self {
        Self { name, scopes, settings: KeyPatch::default(), imported: None, console_link: None }
    }

    /// Writes the key and its first credential, with their event. The caller has checked the
    /// wanted expiry.
    pub(super) fn insert(
        self,
        tx: &WriteTx<'_>,
        maker: Maker<'_>,
        account: AccountId,
        credential: &Credential,
    ) -> Result<KeyRecord, Error> {
        let now = tx.now();
        let defaults = ApiKey {
            id: tx.next_key_id(),
            account_id: account,
            name: self.name,
            scopes: self.scopes,
            enabled: true,
            expires_at: maker.default_expiry(now),
            metadata: Metadata::empty(),
            allowed_ips: maker.allowed_ips.cloned(),
            rate_limit: None,
            created_at: now,
            created_by: maker.source.actor.key_id(),
            updated_at: now,
            rotated_at: None,
            revoked_at: None,
            // A link gets no notice of its end: it is always near.
            announced_days: self.console_link.map(|_| LAST_NOTICE),
            console_link: self.console_link,
            revision: 1,
        };
        let key = self.settings.applied_to(&defaults, now);
        let mut data = json!({ "after": key_facts(maker.catalogue, &key, credential.prefix) });
        if let Some(form) = self.imported {
            data["imported"] = json!(form.as_str());
        }
        if key.console_link.is_some() {
            data["consoleLink"] = json!(true);
        }
        let event = NewEvent::about_key(EventType::ApiKeyCreated, &key, data);
        let receipt = tx.record(maker.source, &event)?;
        tx.insert_key(&key, credential, &receipt)?;
        tx.key(key.id)?.ok_or(Error::NotFound)
    }
}

/// Refuses a change after which the operator account has no root key that never expires.
fn keep_a_root_key(tx: &ReadTx<'_>, before: &ApiKey) -> Result<(), Error> {
    if !before.scopes.iter().any(|it| it.as_str() == Scope::EVERYTHING) {
        return Ok(()); // It was no root key.
    }
    let operator = tx.operator_account()?.ok_or(Error::NotFound)?;
    if before.account_id == operator.id && tx.root_keys(operator.id)?.is_empty() {
        return Err(Conflict::LastRootKey.into());
    }
    Ok(())
}

impl KeyPatch {
    /// Returns whether the key gets a scope that it has not.
    pub(super) fn widens_scopes_of(&self, key: &ApiKey) -> bool {
        self.scopes.iter().flat_map(ScopeSet::iter).any(|it| !key.scopes.contains(it))
    }

    fn applied_to(&self, key: &ApiKey, now: Timestamp) -> ApiKey {
        let Self { name, scopes, expires_at, enabled, metadata, allowed_ips, rate_limit } = self;
        ApiKey {
            name: name.clone().unwrap_or_else(|| key.name.clone()),
            scopes: scopes.clone().unwrap_or_else(|| key.scopes.clone()),
            expires_at: expires_at.or(key.expires_at, now),
            enabled: enabled.unwrap_or(key.enabled),
            metadata: metadata.clone().unwrap_or_else(|| key.metadata.clone()),
            allowed_ips: allowed_ips.clone().unwrap_or_else(|| key.allowed_ips.clone()),
            rate_limit: rate_limit.unwrap_or(key.rate_limit),
            ..key.clone()
        }
    }
}
