//! Creating, listing, changing and revoking keys.

use std::sync::Arc;

use serde_json::json;

use crate::{
    domain::{
        account::Account,
        api_key::ApiKey,
        credential::{Credential, KeyPrefix, PlaintextKey},
        event::{EventType, NewEvent, Origin, Subject},
        foreign_key::Origin as ImportOrigin,
        id::{AccountId, KeyId},
        key_hash::KeyHash,
        scope::{self, Scope, ScopeSet},
        text::{Metadata, Name},
    },
    env::Timestamp,
    service::{
        Conflict, Error, Fault, KeyView, Keyward, Principal, Reach, Rules,
        view::{changes, key_facts, settings},
    },
    store::{KeyFilter, KeyPage, KeyRecord, ReadTx, WriteTx},
};

/// Scopes of which one is needed to change a key.
pub(super) const WRITERS: &[&str] = &[scope::KEYS_WRITE, scope::ACCOUNTS_WRITE];

pub struct NewKey {
    pub name: Name,
    pub scopes: ScopeSet,
    /// Outside: was it given; inside: `None` means never.
    pub expires_at: Option<Option<Timestamp>>,
    pub enabled: bool,
    pub metadata: Metadata,
    /// What was imported of it, if another system issued it.
    pub imported: Option<ImportOrigin>,
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
    /// Creates a key in the caller's account, or, for the operator, in another.
    pub fn create_key(
        &self,
        caller: &Principal,
        account: AccountId,
        new: NewKey,
    ) -> Result<IssuedKey, Error> {
        let permit = self.permit_change(caller)?;
        let (plaintext, hash) = self.mint();
        let rules = Arc::clone(&self.rules);
        let prefix = plaintext.prefix();
        let across = account != caller.account;
        let needed: &[_] = if across { &[scope::ACCOUNTS_WRITE] } else { WRITERS };
        let record = self.change(permit, needed, move |tx, caller| {
            let account = tx.account(account)?.filter(|it| it.deleted_at.is_none());
            let account = account.ok_or(Error::NotFound)?;
            let expiry = Expiry { now: tx.now(), caller: caller.expires_at, existing: None };
            expiry.fault(new.expires_at).map_or(Ok(()), |it| Err(Error::Invalid(vec![it])))?;
            rules.within(rules.catalogue.bits(&new.scopes), rules.grantable(&caller, &account))?;
            rules.refuse_too_many(tx, &account, 0)?;
            let new =
                NewKey { expires_at: Some(new.expires_at.unwrap_or(caller.expires_at)), ..new };
            rules.insert_key(tx, &caller.origin, account.id, new, prefix, hash)
        })?;
        Ok(IssuedKey { view: self.view(record), plaintext })
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
            found.ok_or(Error::NotFound)?;
            Ok::<_, Error>(tx.keys_of(account, filter, page, now)?)
        })?;
        Ok(records.into_iter().map(|it| self.view(it)).collect())
    }

    /// One key, if the caller may do this with it.
    pub fn find_key(&self, caller: &Principal, id: KeyId, reach: Reach) -> Result<KeyView, Error> {
        let record = self.store.read(|tx| self.rules.reach(tx, caller, id, reach))?;
        Ok(self.view(record))
    }

    /// Changes what the patch names. A change of nothing leaves no trace.
    pub fn update_key(
        &self,
        caller: &Principal,
        id: KeyId,
        expected: Option<i64>,
        patch: KeyPatch,
    ) -> Result<KeyView, Error> {
        let (rules, permit) = (Arc::clone(&self.rules), self.permit_change(caller)?);
        let record = self.change(permit, WRITERS, move |tx, caller| {
            let record = rules.reach(tx, &caller, id, Reach::Write)?;
            refuse_changed(&record, expected)?;
            let before = &record.key;
            let expiry =
                Expiry { now: tx.now(), caller: caller.expires_at, existing: Some(before) };
            expiry.fault(patch.expires_at).map_or(Ok(()), |it| Err(Error::Invalid(vec![it])))?;
            rules.refuse_weaker(&caller, before)?;
            if let Some(scopes) = &patch.scopes {
                let account = tx.account(before.account_id)?.ok_or(Error::NotFound)?;
                let held = rules.catalogue.bits(&before.scopes);
                let added = rules.catalogue.bits(scopes).minus(held);
                rules.within(added, rules.grantable(&caller, &account))?;
            }
            let after = patch.applied_to(before);
            if after.expires_at != before.expires_at && before.is_expired_at(tx.now()) {
                return Err(Conflict::KeyNotActive.into());
            }
            if after == *before {
                return Ok(record);
            }
            let receipt = tx.record(
                &caller.origin,
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
        Ok(self.view(record))
    }

    /// Revokes the key: from the moment this returns, none of its values is accepted.
    pub fn revoke_key(
        &self,
        caller: &Principal,
        id: KeyId,
        expected: Option<i64>,
    ) -> Result<(), Error> {
        let (rules, permit) = (Arc::clone(&self.rules), Self::permit_revocation(caller));
        self.change(permit, WRITERS, move |tx, caller| {
            let record = rules.reach(tx, &caller, id, Reach::Write)?;
            refuse_changed(&record, expected)?;
            rules.refuse_weaker(&caller, &record.key)?;
            revoke(tx, &caller.origin, &record, "requested")?;
            keep_a_root_key(tx, &record.key)
        })
    }
}

impl Rules {
    /// So many revoked and expired keys may an account have for each live one that it may have. They
    /// take memory and disk until retention ends.
    pub const ENDED_FOR_EACH_LIVE: u32 = 10;

    /// Writes a new key and its first value, with their event.
    pub(super) fn insert_key(
        &self,
        tx: &WriteTx<'_>,
        origin: &Origin,
        account: AccountId,
        new: NewKey,
        prefix: KeyPrefix,
        hash: KeyHash,
    ) -> Result<KeyRecord, Error> {
        let now = tx.now();
        let key = ApiKey {
            id: tx.next_key_id(),
            account_id: account,
            name: new.name,
            scopes: new.scopes,
            enabled: new.enabled,
            expires_at: new.expires_at.flatten(),
            metadata: new.metadata,
            created_at: now,
            created_by: origin.actor.key_id(),
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
        let receipt = tx.record(origin, &event)?;
        tx.insert_key(&key, &credential, &receipt)?;
        tx.key(key.id)?.ok_or(Error::NotFound)
    }

    /// `unseen` live keys are not counted by the transaction.
    pub(super) fn refuse_too_many(
        &self,
        tx: &WriteTx<'_>,
        account: &Account,
        unseen: u32,
    ) -> Result<(), Error> {
        if account.is_operator() {
            return Ok(());
        }
        let limit = account.max_keys.unwrap_or(self.max_keys);
        let live = tx.live_key_count(account.id, tx.now())?;
        if limit <= live.saturating_add(unseen) {
            return Err(Conflict::TooManyKeys { limit }.into());
        }
        let ended = tx.stored_key_count(account.id)?.saturating_sub(live);
        let limit = limit.saturating_mul(Self::ENDED_FOR_EACH_LIVE);
        if ended < limit {
            return Ok(());
        }
        let oldest = tx.oldest_end(account.id, tx.now())?.unwrap_or_else(|| tx.now());
        let room_at = oldest.after(self.retention);
        let retry_after = room_at.since(tx.now());
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
    origin: &Origin,
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
    let receipt = tx.record(origin, &event)?;
    let tombstone = ApiKey { revoked_at: Some(tx.now()), ..record.key.clone() };
    Ok(tx.update_key(&tombstone, &receipt)?)
}

/// Refuses a change to another revision than the one that the client knows.
pub(super) fn refuse_changed(record: &KeyRecord, expected: Option<i64>) -> Result<(), Error> {
    match expected {
        Some(revision) if revision != record.key.revision => Err(Error::PreconditionFailed),
        Some(_) | None => Ok(()),
    }
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

/// What an expiry is held against.
#[derive(Clone, Copy)]
pub struct Expiry<'a> {
    pub now: Timestamp,
    /// The caller's own end: it gives no later one.
    pub caller: Option<Timestamp>,
    /// The key that is changed; what it has already is no change.
    pub existing: Option<&'a ApiKey>,
}

impl Expiry<'_> {
    /// What is wrong with an expiry, if it was given: outside the option.
    pub fn fault(self, wanted: Option<Option<Timestamp>>) -> Option<Fault> {
        let wanted = wanted?;
        if self.existing.is_some_and(|it| it.expires_at == wanted) {
            return None;
        }
        let fault = |code, detail: &str| Some(Fault::new("/expiresAt", code, detail));
        match (wanted, self.caller) {
            (Some(at), _) if at <= self.now => fault("in_the_past", "must lie in the future"),
            (Some(at), Some(end)) if end < at => fault(
                "expires_after_caller",
                &format!("must not be later than the end of the key that asks, {end}"),
            ),
            (None, Some(end)) => fault(
                "expires_after_caller",
                &format!("must not be null: the key that asks ends at {end}"),
            ),
            (Some(_) | None, _) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_gives_no_later_end_than_its_own() {
        let at = Timestamp::from_millis;
        let code = |caller: Option<i64>, wanted: Option<Option<i64>>| {
            let expiry = Expiry { now: at(1_000), caller: caller.map(at), existing: None };
            expiry.fault(wanted.map(|it| it.map(at))).map(|it| it.code)
        };
        assert_eq!(code(None, None), None);
        assert_eq!(code(None, Some(None)), None);
        assert_eq!(code(None, Some(Some(1_001))), None);
        assert_eq!(code(None, Some(Some(1_000))), Some("in_the_past"));
        assert_eq!(code(Some(2_000), None), None);
        assert_eq!(code(Some(2_000), Some(Some(2_000))), None);
        assert_eq!(code(Some(2_000), Some(Some(2_001))), Some("expires_after_caller"));
        assert_eq!(code(Some(2_000), Some(None)), Some("expires_after_caller"));
    }
}
