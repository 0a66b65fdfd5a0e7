//! Creating, listing, changing and revoking keys.

use std::sync::Arc;

use serde_json::json;

use crate::{
    domain::{
        account::Account,
        api_key::ApiKey,
        credential::{Credential, KeyPrefix, PlaintextKey},
        event::{EventSource, EventType, NewEvent, Subject},
        id::{AccountId, KeyId},
        imported_key::ImportForm,
        key_hash::KeyHash,
        scope::{self, Scope, ScopeSet},
        text::{Metadata, Name},
    },
    env::Timestamp,
    service::{
        Change, ChangePermit, Conflict, Error, Expiry, Gain, KeyAccess, KeyView, Keyward, Minted,
        Principal, Rules,
        expiry::{Maker, outlives},
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
        let now = self.env.time.now();
        self.store.read(|tx| self.rules.check_new_key(tx, now, caller, account, new))?;
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
        let (rules, reader) = (Arc::clone(&self.rules), permit.caller().clone());
        let prefix = plaintext.prefix();
        let across = account != reader.account;
        let needed: &[_] = if across { &[scope::ACCOUNTS_WRITE] } else { WRITERS };
        let record = self.change(permit, needed, move |tx, caller| {
            let account = rules.check_new_key(tx, tx.now(), &caller, account, &new)?;
            rules.insert_key(tx, Maker::from(&caller), account.id, new, prefix, hash)
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
        if self.rules.catalogue.find(scope.as_str()).is_some() {
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
        let record = self.store.read(|tx| self.rules.accessible_key(tx, caller, id, access))?;
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
        change: Change,
        patch: KeyPatch,
    ) -> Result<KeyView, Error> {
        let reader = caller;
        let (rules, permit) = (Arc::clone(&self.rules), self.permit_change(caller)?);
        let record = self.change(permit, WRITERS, move |tx, caller| {
            let id = change.id;
            let record =
                rules.key_to_change(tx, tx.now(), &caller, change, Gain::Settings(&patch))?;
            let before = &record.key;
            if let Some(scopes) = &patch.scopes {
                let account = tx.account(before.account_id)?.ok_or(Error::NO_ACCOUNT)?;
                let held = rules.catalogue.bits(&before.scopes);
                let added = rules.catalogue.bits(scopes).minus(held);
                rules.refuse_beyond(added, rules.grantable(&caller, &account))?;
            }
            let after = patch.applied_to(before);
            if after.expires_at != before.expires_at && before.is_expired_at(tx.now()) {
                return Err(Conflict::KeyNotActive.into());
            }
            if after == *before {
                return Ok(record);
            }
            let receipt = tx.record(
                &caller.source,
                &NewEvent {
                    event_type: EventType::ApiKeyUpdated,
                    account: Some(before.account_id),
                    subject: Subject::Key(id),
                    data: changes(
                        &settings(&rules.catalogue, before),
                        &settings(&rules.catalogue, &after),
                    ),
                },
            )?;
            tx.update_key(&after, &receipt)?;
            keep_a_root_key(tx, &record.key)?;
            tx.key(id)?.ok_or(Error::NotFound)
        })?;
        Ok(self.view(reader, record))
    }

    /// Revokes the key: from the moment this returns, none of its values is accepted. A caller that
    /// revokes itself needs no scope.
    pub fn revoke_key(&self, caller: &Principal, change: Change) -> Result<(), Error> {
        let (rules, permit) = (Arc::clone(&self.rules), Self::permit_revocation(caller));
        let needed: &[_] = if change.access == KeyAccess::Itself { &[] } else { WRITERS };
        self.change(permit, needed, move |tx, caller| {
            let record = rules.key_to_change(tx, tx.now(), &caller, change, Gain::Nothing)?;
            revoke(tx, &caller.source, &record, "requested")?;
            keep_a_root_key(tx, &record.key)
        })
    }
}

impl Rules {
    /// So many revoked and expired keys may an account have for each live one that it may have. They
    /// take memory and disk until retention ends.
    pub const ENDED_FOR_EACH_LIVE: u32 = 10;

    /// The account of a new key, if the caller may create this key in it.
    fn check_new_key(
        &self,
        tx: &ReadTx<'_>,
        now: Timestamp,
        caller: &Principal,
        account: AccountId,
        new: &NewKey,
    ) -> Result<Account, Error> {
        let account = tx.account(account)?.filter(|it| it.deleted_at.is_none());
        let account = account.ok_or(Error::NO_ACCOUNT)?;
        let expiry = Expiry { now, caller, existing: None };
        expiry.fault(new.expires_at).map_or(Ok(()), |it| Err(Error::Invalid(vec![it])))?;
        self.refuse_beyond(self.catalogue.bits(&new.scopes), self.grantable(caller, &account))?;
        self.refuse_too_many(tx, now, &account, 0)?;
        Ok(account)
    }

    /// Writes a new key and its first value, with their event. Its end is its maker's unless another
    /// is given, which must not be later.
    pub(super) fn insert_key(
        &self,
        tx: &WriteTx<'_>,
        maker: Maker<'_>,
        account: AccountId,
        new: NewKey,
        prefix: KeyPrefix,
        hash: KeyHash,
    ) -> Result<KeyRecord, Error> {
        let (now, source) = (tx.now(), maker.source);
        let expires_at = new.expires_at.unwrap_or(maker.expires_at);
        if outlives(expires_at, maker.expires_at) {
            let detail = "must not be later than the end of the key that asks";
            return Err(Error::invalid("/expiresAt", "expires_after_caller", detail));
        }
        let key = ApiKey {
            id: tx.next_key_id(),
            account_id: account,
            name: new.name,
            scopes: new.scopes,
            enabled: new.enabled,
            expires_at,
            metadata: new.metadata,
            created_at: now,
            created_by: source.actor.key_id(),
            updated_at: now,
            rotated_at: None,
            revoked_at: None,
            revision: 1,
        };
        let credential = Credential { prefix, hash, issued_at: now, valid_until: None };
        let event = NewEvent {
            event_type: EventType::ApiKeyCreated,
            account: Some(account),
            subject: Subject::Key(key.id),
            data: match new.imported {
                None => json!({ "after": key_facts(&self.catalogue, &key, prefix) }),
                Some(from) => json!({
                    "after": key_facts(&self.catalogue, &key, prefix),
                    "imported": from.as_str(),
                }),
            },
        };
        let receipt = tx.record(source, &event)?;
        tx.insert_key(&key, &credential, &receipt)?;
        tx.key(key.id)?.ok_or(Error::NotFound)
    }

    /// `unseen` live keys are not counted by the transaction.
    pub(super) fn refuse_too_many(
        &self,
        tx: &ReadTx<'_>,
        now: Timestamp,
        account: &Account,
        unseen: u32,
    ) -> Result<(), Error> {
        if account.is_operator() {
            return Ok(());
        }
        let limit = account.max_keys.unwrap_or(self.max_keys);
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
        let room_at = oldest.after(self.retention);
        let retry_after = room_at.since(now);
        Err(Conflict::TooManyEndedKeys { limit, room_at, retry_after }.into())
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
