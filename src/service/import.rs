//! Keys that another system issued, taken over as they are.

use std::{collections::HashMap, panic::resume_unwind, thread};

use serde_json::json;

use crate::{
    domain::{
        credential::Credential,
        event::EventType,
        id::{AccountId, KeyId},
        imported_key::{ImportForm, Material, Tagger},
        key_hash::KeyHash,
        plaintext_key::KeyPrefix,
        scope::Scope,
        text::ExternalId,
    },
    service::{
        Change, Conflict, Error, Fault, Keyward, NewKey, Principal, kdf_pool, keys::WRITERS,
    },
    store::WriteTx,
};

/// A key to be taken over.
pub struct ImportRow {
    pub material: Material,
    /// Whose it is to be: an identifier, or the operator's own for a customer; `None` is the
    /// operator.
    pub account: Option<String>,
    pub new: NewKey,
}

/// What became of a row.
pub type ImportOutcome = Result<Imported, Fault>;

/// A key that was taken over, or would be.
#[derive(Clone, Copy, Debug)]
pub struct Imported {
    pub key: KeyId,
    pub account: AccountId,
}

/// How many keys each account got by rows that came before: a rehearsal keeps nothing of them.
pub type Rehearsed = HashMap<AccountId, u32>;

/// A row with what takes time done, outside of any transaction.
struct Prepared {
    row: ImportRow,
    /// `None` if there is no secret to make one under.
    handle: Option<KeyPrefix>,
    /// Under which the same key would be that came in another form.
    twins: Vec<KeyPrefix>,
    /// By which the digests of a text will be recognised.
    marks: Vec<KeyPrefix>,
    hash: KeyHash,
}

/// Ends a transaction that is to leave no trace.
enum Ending {
    Rehearsed(Vec<ImportOutcome>),
    Failed(Error),
}

impl From<Error> for Ending {
    fn from(err: Error) -> Self {
        Self::Failed(err)
    }
}

impl From<crate::store::StoreError> for Ending {
    fn from(err: crate::store::StoreError) -> Self {
        Self::Failed(err.into())
    }
}

impl Keyward {
    /// Takes over what can be, in one transaction, and tells of each row what became of it. A
    /// rehearsal does everything but leave a trace. A key that is there already, or was, is refused, so
    /// that the same rows may be given again and nothing comes back to life; so is a root key, which
    /// must be one of keyward's own.
    pub fn import_keys(
        &self,
        caller: &Principal,
        rows: Vec<ImportRow>,
        rehearsal: Option<Rehearsed>,
    ) -> Result<Vec<ImportOutcome>, Error> {
        let permit = self.permit_change(caller)?;
        let texts = rows.iter().any(|it| it.material.origin() == ImportForm::Raw);
        let tagger = self.tagger(texts, rehearsal.is_some())?;
        let prepared = self.prepare(&tagger, rows);
        let outcome = self.change::<_, Ending>(permit, WRITERS, move |change| {
            let (rehearsed, before) = (rehearsal.is_some(), rehearsal.unwrap_or_default());
            let mut outcomes = Vec::with_capacity(prepared.len());
            for it in prepared {
                outcomes.push(change.import(it, &before)?);
            }
            if rehearsed { Err(Ending::Rehearsed(outcomes)) } else { Ok(outcomes) }
        });
        match outcome {
            Ok(outcomes) | Err(Ending::Rehearsed(outcomes)) => Ok(outcomes),
            Err(Ending::Failed(err)) => Err(err),
        }
    }

    /// Records how a file was taken over: `complete` if all of it was read. `sha256` is that of a file
    /// without any key in it; of one with a single key it would be a hash of that key.
    pub fn record_import(
        &self,
        accepted: u64,
        refused: u64,
        complete: bool,
        sha256: Option<&str>,
    ) -> Result<(), Error> {
        let data = json!({
            "accepted": accepted, "refused": refused, "complete": complete, "fileSha256": sha256,
        });
        self.record_server_event(EventType::ApiKeysImported, data)
    }

    /// On all processors, where nothing else wants them: a raw key takes a while.
    fn prepare(&self, tagger: &Tagger, rows: Vec<ImportRow>) -> Vec<Prepared> {
        let threads = thread::available_parallelism().map_or(1, usize::from);
        let share = rows.len().div_ceil(threads).max(1);
        let mut rest = rows.into_iter();
        let shares: Vec<Vec<_>> =
            (0..threads).map(|_| rest.by_ref().take(share).collect()).collect();
        let prepare = |row: ImportRow| {
            let handle = tagger.handle(&row.material);
            let digests = [ImportForm::Sha256, ImportForm::Sha512];
            let (twins, marks): (Vec<_>, Vec<_>) = match &row.material {
                Material::Raw(key) => (
                    digests.into_iter().filter_map(|it| tagger.handle_of(it, key)).collect(),
                    [&key.sha256()[..], &key.sha512()]
                        .into_iter()
                        .filter_map(|it| tagger.mark_of_digest(it))
                        .collect(),
                ),
                digest @ (Material::Sha256(_) | Material::Sha512(_)) => {
                    (tagger.mark_of_digest(digest.bytes()).into_iter().collect(), Vec::new())
                }
            };
            let iterations =
                handle.map_or(self.settings.hash_iterations, |it| self.settings.iterations_for(it));
            let hash = KeyHash::of_material(&row.material, iterations, &*self.env.entropy);
            Prepared { row, handle, twins, marks, hash }
        };
        thread::scope(|scope| {
            let workers: Vec<_> = shares
                .into_iter()
                .map(|share| {
                    scope.spawn(move || {
                        kdf_pool::lower_priority();
                        share.into_iter().map(prepare).collect::<Vec<_>>()
                    })
                })
                .collect();
            let done =
                workers.into_iter().map(|it| it.join().unwrap_or_else(|it| resume_unwind(it)));
            done.flatten().collect()
        })
    }
}

impl Change<'_> {
    /// What is refused here leaves no trace, for nothing is written before everything is checked.
    fn import(&self, prepared: Prepared, before: &Rehearsed) -> Result<ImportOutcome, Error> {
        let (tx, caller, catalogue) = (&**self, self.caller(), &self.authorizer.catalogue);
        let Prepared { row, handle, twins, marks, hash } = prepared;
        let ImportRow { material, account, new } = row;
        let refuse = |pointer, code, says: String| Ok(Err(Fault::new(pointer, code, &says)));
        let Some(account) = Self::account_called(tx, caller, account.as_deref())? else {
            return refuse("/account", "not_found", "there is no such account".to_owned());
        };
        let account = tx.account(account)?.ok_or(Error::NotFound)?;
        if new.scopes.iter().any(|it| it.as_str() == Scope::EVERYTHING) {
            let says = "a root key is not imported; `keyward root-key reset` makes one".to_owned();
            return refuse("/scopes", "scope_escalation", says);
        }
        let wanted = catalogue.bits(&new.scopes);
        if let Err(Error::ScopeEscalation(names)) =
            self.authorizer.refuse_beyond(wanted, self.authorizer.grantable(caller, &account))
        {
            let says = format!("this account cannot have {}", names.join(", "));
            return refuse("/scopes", "scope_escalation", says);
        }
        let unseen = before.get(&account.id).copied().unwrap_or(0);
        match self.checks().refuse_too_many(&account, unseen) {
            Err(Error::Conflict(Conflict::TooManyKeys { limit })) => {
                let says = format!("the account has its {limit} keys already");
                return refuse("/account", "too_many_keys", says);
            }
            Err(Error::Conflict(full @ Conflict::TooManyEndedKeys { .. })) => {
                return refuse("/account", "too_many_ended_keys", full.to_string());
            }
            other => other?,
        }
        let Some(handle) = handle else {
            let says = "there is no secret to find it by".to_owned();
            return refuse("/key", "not_findable", says);
        };
        for handle in twins.into_iter().chain([handle]) {
            if let Some(found) = tx.key_with_prefix(handle)? {
                let says = format!("it is here already, as {}", found.key.id);
                return refuse("", "already_imported", says);
            }
            if tx.was_imported(handle)? {
                let says = "it is or was here, in this form or another; make a new key instead";
                return refuse("", "was_imported", says.to_owned());
            }
        }
        let new = NewKey { imported: Some(material.origin()), ..new };
        let credential = Credential::new(handle, hash, tx.now());
        let record = new.insert(tx, catalogue, self.maker(), account.id, credential)?;
        tx.mark_imported(&marks)?;
        Ok(Ok(Imported { key: record.key.id, account: account.id }))
    }

    fn account_called(
        tx: &WriteTx<'_>,
        caller: &Principal,
        name: Option<&str>,
    ) -> Result<Option<AccountId>, Error> {
        let Some(name) = name else { return Ok(Some(caller.account)) };
        let found = match AccountId::parse(name) {
            Ok(id) => tx.account(id)?,
            Err(_) => match ExternalId::parse(name) {
                Ok(id) => tx.account_with_external_id(&id)?,
                Err(_) => None,
            },
        };
        Ok(found.filter(|it| it.deleted_at.is_none()).map(|it| it.id))
    }
}
