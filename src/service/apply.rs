//! Applies a declared state: accounts by their external identifiers, and keys by their digests.
//!
//! It makes only the changes that lead to that state, by the functions that the API uses, in one
//! transaction. So a file is applied as a whole or not at all, and a dry run is the same run, undone.

mod contradictions;

use std::collections::HashSet;

use serde_json::Value;

use self::contradictions::contradictions;
use crate::{
    domain::{
        account::{Account, AccountStatus},
        api_key::ApiKey,
        id::{AccountId, KeyId},
        imported_key::ImportedDigest,
        key_hash::KeyHash,
        plaintext_key::KeyPrefix,
        scope::{Scope, ScopeSet},
        text::{ExternalId, ReasonText},
    },
    service::{
        AccountPatch, Change, DryRunCounts, Error, Fault, ImportRow, KeyAccess, KeyChange,
        KeyPatch, Keyward, NewKey, Principal,
        accounts::{MANAGERS, facts},
        import::{Prepared, Rollback, no_root_key},
        view::{changes, settings},
    },
    store::{KeyRecord, ReadTx, StoreError},
};

/// A section of the file: an account, or a key of an account or of the operator.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Section {
    /// The position of the account; `None` for a key of the operator account.
    pub account: Option<usize>,
    /// The position of the key among those of its account.
    pub key: Option<usize>,
}

/// An account as it must be after the run. What is absent in `patch` stays as it is, or gets its default.
pub struct DeclaredAccount {
    pub section: Section,
    pub external_id: ExternalId,
    pub patch: AccountPatch,
}

/// A key as it must be after the run.
pub struct DeclaredKey {
    pub section: Section,
    pub digest: ImportedDigest,
    /// The account that owns the key; `None` is the operator account.
    pub account: Option<ExternalId>,
    pub patch: KeyPatch,
}

#[derive(Clone, Copy, Debug)]
pub struct ApplyMode {
    /// Find out what would change, and change nothing.
    pub dry_run: bool,
    /// Also remove what an earlier file made and this one does not name.
    pub prune: bool,
}

/// What a run did to one account or key.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum AppliedAction {
    Created,
    /// The account was created, and an account with this external identifier was deleted before.
    Recreated,
    Updated,
    Revoked,
    Suspended,
    /// The key was revoked or has expired, or its digest is no longer that of a key. It does not come back.
    Left,
}

/// One change of a run.
#[derive(Debug)]
pub struct AppliedChange {
    pub action: AppliedAction,
    /// The external identifier of the account; `None` is the operator account.
    pub account: Option<String>,
    /// The name of the key; `None` if the change is about the account.
    pub key: Option<String>,
    /// The identifier of a key that existed before.
    pub key_id: Option<KeyId>,
    /// The settings that changed, before and after.
    pub facts: Value,
}

/// The outcome of a run. With faults, nothing was changed.
#[derive(Debug, Default)]
pub struct Applied {
    pub changes: Vec<AppliedChange>,
    pub faults: Vec<(Section, Fault)>,
}

/// A declared key with its prefix. The hash is made before the transaction, for keys that are not there.
struct PreparedKey {
    declared: DeclaredKey,
    prefix: KeyPrefix,
    hash: Option<KeyHash>,
}

impl Keyward {
    /// Makes accounts and keys what they are declared to be. If a section is at fault, changes nothing.
    pub fn apply(
        &self,
        caller: &Principal,
        accounts: Vec<DeclaredAccount>,
        mut keys: Vec<DeclaredKey>,
        mode: ApplyMode,
    ) -> Result<Applied, Error> {
        let permit = self.permit_change(caller)?;
        let faults = contradictions(self, caller, &accounts, &keys);
        let at_fault: HashSet<_> = faults.iter().map(|(section, _)| *section).collect();
        keys.retain(|it| !at_fault.contains(&it.section));
        let refused = accounts.iter().filter(|it| at_fault.contains(&it.section));
        let unsound = refused.map(|it| it.external_id.as_str().to_owned()).collect();
        let maker = self.prefix_maker(mode.dry_run || keys.is_empty())?;
        let (mut known, mut digests) = (Vec::new(), Vec::new());
        self.store.read::<_, Error>(|tx| {
            for declared in keys {
                let prefix = maker.prefix_of(&declared.digest);
                if find(tx, prefix)?.is_some() {
                    known.push(PreparedKey { declared, prefix, hash: None });
                } else {
                    digests.push((declared, prefix));
                }
            }
            Ok(())
        })?;
        let hashes = self.hashes_of(digests.iter().map(|(it, _)| &it.digest));
        let fresh = digests.into_iter().zip(hashes).map(|((declared, prefix), hash)| PreparedKey {
            declared,
            prefix,
            hash: Some(hash),
        });
        let mut keys: Vec<_> = known.into_iter().chain(fresh).collect();
        keys.sort_by_key(|it| (it.declared.section.account, it.declared.section.key));
        let outcome = self.change::<_, Rollback<Applied>>(permit, MANAGERS, move |change| {
            let mut run = Run {
                change: &change,
                applied: Applied { faults, ..Applied::default() },
                unsound,
                deleted: None,
            };
            // First, because a key that ends makes room for a new one in its account.
            if mode.prune && run.applied.faults.is_empty() {
                run.prune(&run.named(&accounts, &keys)?)?;
            }
            for it in accounts {
                run.account(it)?;
            }
            for it in keys {
                run.key(it)?;
            }
            let applied = run.applied;
            let undo = mode.dry_run || !applied.faults.is_empty();
            if undo { Err(Rollback::DryRun(applied)) } else { Ok(applied) }
        });
        match outcome {
            Ok(applied) | Err(Rollback::DryRun(applied)) => Ok(applied),
            Err(Rollback::Failed(err)) => Err(err),
        }
    }
}

/// Returns the key with this digest, also after its rotation, when the digest is that of no credential.
fn find(tx: &ReadTx<'_>, prefix: KeyPrefix) -> Result<Option<KeyRecord>, StoreError> {
    if let Some(found) = tx.key_with_prefix(prefix)? {
        return Ok(Some(found));
    }
    tx.applied_key(prefix)?.map_or(Ok(None), |id| tx.key(id))
}

/// What the file names and the database has.
struct Named {
    accounts: HashSet<AccountId>,
    keys: HashSet<KeyId>,
}

/// A run inside its transaction.
struct Run<'a, 'tx> {
    change: &'a Change<'tx>,
    applied: Applied,
    /// Accounts with a fault, so that their keys need no check.
    unsound: HashSet<String>,
    /// The external identifiers of deleted accounts. Read for the first account that is created.
    deleted: Option<HashSet<String>>,
}

impl Run<'_, '_> {
    fn named(&self, accounts: &[DeclaredAccount], keys: &[PreparedKey]) -> Result<Named, Error> {
        let mut named = Named { accounts: HashSet::new(), keys: HashSet::new() };
        for it in accounts {
            let found = self.change.account_with_external_id(&it.external_id)?;
            named.accounts.extend(found.map(|it| it.id));
        }
        for it in keys {
            named.keys.extend(find(self.change, it.prefix)?.map(|it| it.key.id));
        }
        Ok(named)
    }

    fn account(&mut self, declared: DeclaredAccount) -> Result<(), Error> {
        let DeclaredAccount { section, external_id, patch } = declared;
        let change = self.change;
        let outcome = match change.account_with_external_id(&external_id)? {
            Some(before) => self.patch_account(&before, &patch),
            None => self.add_account(&external_id, patch),
        };
        let name = external_id.as_str().to_owned();
        if self.sound(section, outcome)?.is_none() {
            self.unsound.insert(name);
        }
        Ok(())
    }

    fn add_account(&mut self, external_id: &ExternalId, patch: AccountPatch) -> Result<(), Error> {
        let status = AccountPatch { status: patch.status, ..AccountPatch::default() };
        let says = "is required, because there is no such account yet";
        let draft = patch.into_draft(external_id.clone());
        let draft = draft.ok_or_else(|| Error::invalid("/name", "required", says))?;
        let account = self.change.add_account(draft)?;
        self.change.remember_applied_account(account.id)?;
        let deleted = match self.deleted.take() {
            Some(known) => known,
            None => self.change.deleted_external_ids()?,
        };
        let was_deleted = deleted.contains(external_id.as_str());
        self.deleted = Some(deleted);
        let action = if was_deleted { AppliedAction::Recreated } else { AppliedAction::Created };
        self.tell(action, &account, None, Value::Null);
        self.patch_account(&account, &status)
    }

    fn patch_account(&mut self, before: &Account, patch: &AccountPatch) -> Result<(), Error> {
        let after = self.change.patch_account(before.id, None, patch)?;
        if before.status == AccountStatus::Suspended && after.status == AccountStatus::Active {
            // Otherwise an account that was pruned and declared again would outlive its section.
            self.change.remember_applied_account(before.id)?;
        }
        if after.revision != before.revision {
            let catalogue = &self.change.authorizer.catalogue;
            let facts = changes(&facts(catalogue, before), &facts(catalogue, &after));
            self.tell(AppliedAction::Updated, before, None, facts);
        }
        Ok(())
    }

    fn key(&mut self, prepared: PreparedKey) -> Result<(), Error> {
        let section = prepared.declared.section;
        let change = self.change;
        let account = match &prepared.declared.account {
            Some(name) if self.unsound.contains(name.as_str()) => return Ok(()),
            Some(name) => change.account_with_external_id(name)?,
            None => change.operator_account()?,
        };
        let account = account.ok_or(Error::NO_ACCOUNT)?;
        let outcome = match find(change, prepared.prefix)? {
            Some(record) => self.patch_key(&account, &record.key, &prepared.declared.patch),
            None => self.add_key(&account, prepared),
        };
        self.sound(section, outcome)?;
        Ok(())
    }

    fn add_key(&mut self, account: &Account, prepared: PreparedKey) -> Result<(), Error> {
        let PreparedKey { declared, prefix, hash } = prepared;
        let DeclaredKey { digest, mut patch, .. } = declared;
        let (name, scopes) = (patch.name.take(), patch.scopes.take());
        let shown = name.as_ref().map(|it| it.as_str().to_owned());
        let was_imported = self.change.was_imported(prefix)?;
        // Without a hash, the purge has removed the key since this run began.
        let Some(hash) = hash.filter(|_| !was_imported) else {
            let shown = Some((shown.unwrap_or_default(), None));
            self.tell(AppliedAction::Left, account, shown, Value::Null);
            return Ok(());
        };
        let missing = [("/name", name.is_none()), ("/scopes", scopes.is_none())];
        let (Some(name), Some(scopes)) = (name, scopes) else {
            let says = "is required, because there is no such key yet";
            let missing = missing.into_iter().filter(|(_, it)| *it);
            let faults = missing.map(|(pointer, _)| Fault::new(pointer, "required", says));
            return Err(Error::Invalid(faults.collect()));
        };
        let new = NewKey { settings: patch, ..NewKey::new(name, scopes) };
        let row = ImportRow { digest, account: Some(account.id.to_string()), new };
        let imported = self.change.import(Prepared { row, prefix, hash }, &DryRunCounts::new())?;
        let key = imported.map_err(|fault| Error::Invalid(fault.into()))?.key;
        self.change.remember_applied_key(prefix, key)?;
        let shown = Some((shown.unwrap_or_default(), None));
        self.tell(AppliedAction::Created, account, shown, Value::Null);
        Ok(())
    }

    fn patch_key(
        &mut self,
        account: &Account,
        key: &ApiKey,
        patch: &KeyPatch,
    ) -> Result<(), Error> {
        let shown = (key.name.as_str().to_owned(), Some(key.id));
        if key.revoked_at.is_none() && key.account_id != account.id {
            let says = "the key with this digest belongs to another account, and cannot move";
            return Err(Error::invalid("", "other_account", says));
        }
        if key.revoked_at.is_some() || key.is_expired_at(self.change.now()) {
            self.tell(AppliedAction::Left, account, Some(shown), Value::Null);
            return Ok(());
        }
        let is_root = |scopes: &ScopeSet| scopes.iter().any(|it| it.as_str() == Scope::EVERYTHING);
        if patch.scopes.as_ref().is_some_and(is_root) && !is_root(&key.scopes) {
            let says = no_root_key(account);
            return Err(Error::invalid("/scopes", "scope_escalation", says));
        }
        let wanted = KeyChange { id: key.id, access: KeyAccess::Write, expected: None };
        let after = self.change.patch_key(wanted, patch)?.key;
        if after.revision != key.revision {
            let catalogue = &self.change.authorizer.catalogue;
            let facts = changes(&settings(catalogue, key), &settings(catalogue, &after));
            self.tell(AppliedAction::Updated, account, Some(shown), facts);
        }
        Ok(())
    }

    /// Revokes the keys that an earlier file made, and suspends the accounts that it made or resumed, if this one does not
    /// name them. An account is not deleted, because that is final, and it may have keys that no file made. It is suspended
    /// once: afterwards it is as if no file had made it, so that an operator can resume it.
    fn prune(&mut self, named: &Named) -> Result<(), Error> {
        let change = self.change;
        let reason = ReasonText::parse("removed from the applied file").ok();
        let keys = change.applied_keys()?.into_iter();
        for id in keys.filter(|it| !named.keys.contains(it)).collect::<Vec<_>>() {
            let Some(record) = change.key(id)?.filter(|it| it.key.revoked_at.is_none()) else {
                continue;
            };
            let account = change.account(record.key.account_id)?.ok_or(Error::NO_ACCOUNT)?;
            let wanted = KeyChange { id, access: KeyAccess::Write, expected: None };
            let shown = (record.key.name.as_str().to_owned(), Some(id));
            change.end_key(wanted, reason.as_ref())?;
            self.tell(AppliedAction::Revoked, &account, Some(shown), Value::Null);
        }
        let accounts = change.applied_accounts()?.into_iter();
        for id in accounts.filter(|it| !named.accounts.contains(it)).collect::<Vec<_>>() {
            change.forget_applied_account(id)?;
            let account = change.account(id)?.filter(|it| it.deleted_at.is_none());
            let active = account.filter(|it| it.status == AccountStatus::Active);
            let Some(before) = active else { continue };
            let status = Some(AccountStatus::Suspended);
            change.patch_account(id, None, &AccountPatch { status, ..AccountPatch::default() })?;
            self.tell(AppliedAction::Suspended, &before, None, Value::Null);
        }
        Ok(())
    }

    fn tell(
        &mut self,
        action: AppliedAction,
        account: &Account,
        key: Option<(String, Option<KeyId>)>,
        facts: Value,
    ) {
        let (key, key_id) = key.map_or((None, None), |(name, id)| (Some(name), id));
        let named = account.external_id.as_ref().map(|it| it.as_str().to_owned());
        let account = named.or_else(|| (!account.is_operator()).then(|| account.id.to_string()));
        self.applied.changes.push(AppliedChange { action, account, key, key_id, facts });
    }

    /// Returns what a section did, or notes its faults. Every other error ends the run.
    fn sound<T>(
        &mut self,
        section: Section,
        outcome: Result<T, Error>,
    ) -> Result<Option<T>, Error> {
        let err = match outcome {
            Ok(done) => return Ok(Some(done)),
            Err(err) => err,
        };
        let faults = if let Error::Invalid(faults) = err {
            faults
        } else if let Error::ScopeEscalation(names) = &err {
            let says = format!("this account cannot have {}", names.join(", "));
            Fault::new("/scopes", "scope_escalation", says).into()
        } else if let Error::Conflict(conflict) = &err {
            Fault::new("", "conflict", conflict.to_string()).into()
        } else {
            return Err(err);
        };
        self.applied.faults.extend(faults.into_iter().map(|it| (section, it)));
        Ok(None)
    }
}
