//! Creating, listing, changing and revoking keys.

use std::sync::Arc;

use serde_json::json;

use crate::{
    domain::{
        account::Account,
        api_key::ApiKey,
        credential::Credential,
        event::{EventSource, EventType, NewEvent, Subject},
        id::{AccountId, KeyId},
        imported_key::ImportForm,
        plaintext_key::{KeyPrefix, PlaintextKey},
        scope::{self, Catalogue, Scope, ScopeSet},
        text::{Metadata, Name},
    },
    env::Timestamp,
    service::{
        ChangePermit, Checks, Conflict, Error, Expiry, Gain, KeyAccess, KeyChange, KeyView,
        Keyward, Minted, Principal,
        expiry::Maker,
        view::{changes, key_facts, settings},
    },
    store::{self, KeyFilter, KeyPage, KeyRecord, ReadTx, WriteTx},
};

/// Scopes of which one is needed to change a key.
pub(super) const WRITERS: &[&str] = &[scope::KEYS_WRITE, scope::ACCOUNTS_WRITE];

pub struct NewKey {
    pub name: Name,
    pub scopes: ScopeSet,
    /// Outside: was it given, or is it the maker's own; inside: `None` means never.
    pub expires_at: Option<Option<Timestamp>>,
    pub enabled: bool,
    pub metadata: Metadata,
    /// What was imported of it, if another system issued it.
    pub imported: Option<ImportForm>,
}

/// What is to change; an absent part stays as it is.
#[derive(Default)]
pub struct KeyPatch {
    pub name: Option<Name>,
    pub scopes: Option<ScopeSet>,
    pub expires_at: Option<Option<Timestamp>>,
    pub enabled: Option<bool>,
    pub metadata: Option<Metadata>,
}

/// A key together with its text, which exists nowhere else.
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

    /// Creates a key in the caller's account, or, for the operator, in another.
    pub fn create_key(
        &self,
        permit: ChangePermit,
        account: AccountId,
        new: NewKey,
        minted: Minted,
    ) -> Result<IssuedKey, Error> {
        let Minted { plaintext, hash } = minted;
        let (reader, prefix) = (permit.caller().clone(), plaintext.prefix());
        let across = account != reader.account;
        let needed: &[_] = if across { &[scope::ACCOUNTS_WRITE] } else { WRITERS };
        let record = self.change(permit, needed, move |change| {
            let account = change.checks().account_of_new_key(account, &new)?;
            let credential = Credential::new(prefix, hash, change.now());
            let catalogue = &change.authorizer.catalogue;
            new.insert(&change, catalogue, change.maker(), account.id, credential)
        })?;
        Ok(IssuedKey { view: self.view(&reader, record), plaintext })
    }

    /// The keys of an account. Whoever may not see that account is told that there is none.
    pub fn list_keys(
        &self,
        caller: &Principal,
        account: AccountId,
        filter: &KeyFilter,
        page: KeyPage,
    ) -> Result<Vec<KeyView>, Error> {
        if filter.unused_since.is_some() {
            self.flush_usage()?; // The file must know what memory knows.
        }
        let now = self.env.time.now();
        let records = self.store.read(|tx| {
            let visible = account == caller.account || caller.operator;
            let found = tx.account(account)?.filter(|it| visible && it.deleted_at.is_none());
            found.ok_or(Error::NO_ACCOUNT)?;
            Ok::<_, Error>(tx.keys_of(account, filter, page, now)?)
        })?;
        Ok(self.views(caller, records))
    }

    /// Whether a key or an account that this caller sees still names a scope that the catalogue may have
    /// lost.
    pub fn knows_scope(&self, caller: &Principal, scope: &Scope) -> Result<bool, Error> {
        if self.authorizer.catalogue.find(scope.as_str()).is_some() {
            return Ok(true);
        }
        self.store.read(|tx| {
            Ok(if caller.operator {
                tx.names_scope_anywhere(scope)?
            } else {
                tx.names_scope(scope, caller.account)?
            })
        })
    }

    /// One key, if the caller may do this with it.
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

    /// The key that has a value with this prefix, the current one or one in its grace period. Says
    /// nothing about what a caller may do with it.
    pub fn key_with_prefix(&self, text: &str) -> Option<KeyId> {
        let prefix = KeyPrefix::from_stored(text)?;
        let live = |it: &Arc<store::IndexedCredential>| (!it.key.revoked).then_some(it.key.id);
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
        let record = self.change(permit, WRITERS, move |change| {
            let record = change.checks().key_to_change(wanted, Gain::Settings(&patch))?;
            let (before, catalogue) = (&record.key, &change.authorizer.catalogue);
            if let Some(scopes) = &patch.scopes {
                let account = change.account(before.account_id)?.ok_or(Error::NO_ACCOUNT)?;
                let added = catalogue.bits(scopes).minus(catalogue.bits(&before.scopes));
                let grantable = change.authorizer.grantable(change.caller(), &account);
                change.authorizer.refuse_beyond(added, grantable)?;
            }
            let after = patch.applied_to(before);
            if after.expires_at != before.expires_at && before.is_expired_at(change.now()) {
                return Err(Conflict::KeyNotActive.into());
            }
            if after == *before {
                return Ok(record);
            }
            let receipt = change.record(&NewEvent {
                event_type: EventType::ApiKeyUpdated,
                account: Some(before.account_id),
                subject: Subject::Key(wanted.id),
                data: changes(&settings(catalogue, before), &settings(catalogue, &after)),
            })?;
            change.update_key(&after, &receipt)?;
            keep_a_root_key(&change, before)?;
            change.key(wanted.id)?.ok_or(Error::NotFound)
        })?;
        Ok(self.view(caller, record))
    }

    /// Revokes the key: once this has returned, none of its credentials is accepted. A caller that
    /// revokes itself needs no scope.
    pub fn revoke_key(&self, caller: &Principal, wanted: KeyChange) -> Result<(), Error> {
        let permit = Self::permit_revocation(caller);
        let needed: &[_] = if wanted.access == KeyAccess::Itself { &[] } else { WRITERS };
        self.change(permit, needed, move |change| {
            let record = change.checks().key_to_change(wanted, Gain::Nothing)?;
            revoke(&change, change.source(), &record, "requested")?;
            keep_a_root_key(&change, &record.key)
        })
    }
}

impl Checks<'_> {
    /// How many revoked and expired keys an account may have for each live one that it may have.
    /// They take memory and disk until retention ends.
    pub const ENDED_FOR_EACH_LIVE: u32 = 10;

    /// Returns the account of a new key, if the caller may create this key in it.
    fn account_of_new_key(self, account: AccountId, new: &NewKey) -> Result<Account, Error> {
        let Self { tx, now, caller, authorizer, .. } = self;
        let account = tx.account(account)?.filter(|it| it.deleted_at.is_none());
        let account = account.ok_or(Error::NO_ACCOUNT)?;
        let expiry = Expiry { now, caller, existing: None };
        expiry.fault(new.expires_at).map_or(Ok(()), |it| Err(Error::Invalid(vec![it])))?;
        let wanted = authorizer.catalogue.bits(&new.scopes);
        authorizer.refuse_beyond(wanted, authorizer.grantable(caller, &account))?;
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
        let oldest = tx.oldest_end(account.id, now)?.unwrap_or(now);
        let room_at = oldest.after(settings.retention);
        let retry_after = room_at.since(now);
        Err(Conflict::TooManyEndedKeys { limit, room_at, retry_after }.into())
    }
}

impl NewKey {
    /// Writes the key and its first credential, with their event. The key ends with its maker unless
    /// another end is given, which the caller has checked.
    pub(super) fn insert(
        self,
        tx: &WriteTx<'_>,
        catalogue: &Catalogue,
        maker: Maker<'_>,
        account: AccountId,
        credential: Credential,
    ) -> Result<KeyRecord, Error> {
        let now = tx.now();
        let key = ApiKey {
            id: tx.next_key_id(),
            account_id: account,
            name: self.name,
            scopes: self.scopes,
            enabled: self.enabled,
            expires_at: self.expires_at.unwrap_or(maker.expires_at),
            metadata: self.metadata,
            created_at: now,
            created_by: maker.source.actor.key_id(),
            updated_at: now,
            rotated_at: None,
            revoked_at: None,
            revision: 1,
        };
        let mut data = json!({ "after": key_facts(catalogue, &key, credential.prefix) });
        if let Some(form) = self.imported {
            data["imported"] = json!(form.as_str());
        }
        let event = NewEvent {
            event_type: EventType::ApiKeyCreated,
            account: Some(account),
            subject: Subject::Key(key.id),
            data,
        };
        let receipt = tx.record(maker.source, &event)?;
        tx.insert_key(&key, &credential, &receipt)?;
        tx.key(key.id)?.ok_or(Error::NotFound)
    }
}

/// The operator must always have a way in that does not end by itself.
fn keep_a_root_key(tx: &ReadTx<'_>, before: &ApiKey) -> Result<(), Error> {
    if !before.scopes.iter().any(|it| it.as_str() == Scope::EVERYTHING) {
        return Ok(()); // It was none of those that could be the last.
    }
    let operator = tx.operator_account()?.ok_or(Error::NotFound)?;
    if before.account_id == operator.id && tx.root_keys(operator.id)?.is_empty() {
        return Err(Conflict::LastRootKey.into());
    }
    Ok(())
}

/// Makes a tombstone of the key, with its event. It stays until retention ends, so that
/// verification can say why it refuses.
pub(super) fn revoke(
    tx: &WriteTx<'_>,
    source: &EventSource,
    record: &KeyRecord,
    reason: &'static str,
) -> Result<(), Error> {
    let prefixes: Vec<_> = record
        .credentials
        .iter()
        .filter(|it| it.ended_at.is_none())
        .map(|it| it.credential.prefix.as_str())
        .collect();
    let event = NewEvent {
        event_type: EventType::ApiKeyRevoked,
        account: Some(record.key.account_id),
        subject: Subject::Key(record.key.id),
        data: json!({
            "reason": reason,
            "before": { "name": record.key.name.as_str(), "keyPrefixes": prefixes },
        }),
    };
    let receipt = tx.record(source, &event)?;
    let tombstone = ApiKey { revoked_at: Some(tx.now()), ..record.key.clone() };
    Ok(tx.update_key(&tombstone, &receipt)?)
}

impl KeyPatch {
    fn applied_to(&self, key: &ApiKey) -> ApiKey {
        ApiKey {
            name: self.name.clone().unwrap_or_else(|| key.name.clone()),
            scopes: self.scopes.clone().unwrap_or_else(|| key.scopes.clone()),
            expires_at: self.expires_at.unwrap_or(key.expires_at),
            enabled: self.enabled.unwrap_or(key.enabled),
            metadata: self.metadata.clone().unwrap_or_else(|| key.metadata.clone()),
            ..key.clone()
        }
    }
}
