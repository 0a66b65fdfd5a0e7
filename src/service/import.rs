//! Keys that another system issued, taken over as they are.

use std::{collections::HashMap, sync::Arc, thread};

use serde_json::json;

use crate::{
    domain::{
        credential::KeyPrefix,
        event::{EventType, Origin},
        foreign_key::{Material, Origin as ImportOrigin, Tagger},
        id::{AccountId, KeyId},
        key_hash::KeyHash,
        scope::Scope,
        text::ExternalId,
    },
    service::{Conflict, Error, Fault, Keyward, NewKey, Principal, Rules, keys::WRITERS, prover},
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
    handles: Vec<KeyPrefix>,
    /// Under which the same key would be that came as a digest.
    twins: Vec<KeyPrefix>,
    hash: KeyHash,
    /// The value that it is already.
    known: Option<KeyPrefix>,
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
    /// rehearsal does everything but leave a trace. A key that is there already is refused, so that
    /// the same rows may be given again; so is a root key, which must be one of keyward's own.
    pub fn import_keys(
        &self,
        caller: &Principal,
        rows: Vec<ImportRow>,
        rehearsal: Option<Rehearsed>,
    ) -> Result<Vec<ImportOutcome>, Error> {
        let tagger = self.tagger(rehearsal.is_some())?;
        let prepared = self.prepare(&tagger, rows);
        let (rules, caller) = (Arc::clone(&self.rules), caller.clone());
        let outcome = self.store.write::<_, Ending>(move |tx| {
            let caller = rules.recheck(tx, &caller, WRITERS)?;
            let (rehearsed, before) = (rehearsal.is_some(), rehearsal.unwrap_or_default());
            let mut outcomes = Vec::with_capacity(prepared.len());
            for it in prepared {
                outcomes.push(rules.import(tx, &caller, it, &before)?);
            }
            if rehearsed { Err(Ending::Rehearsed(outcomes)) } else { Ok(outcomes) }
        });
        match outcome {
            Ok(outcomes) | Err(Ending::Rehearsed(outcomes)) => Ok(outcomes),
            Err(Ending::Failed(err)) => Err(err),
        }
    }

    /// Records that a whole file was taken over.
    pub fn record_import(&self, accepted: u64, refused: u64, sha256: &str) -> Result<(), Error> {
        let data = json!({ "accepted": accepted, "refused": refused, "fileSha256": sha256 });
        self.record_server_event(EventType::ApiKeysImported, data)
    }

    /// Makes the secret for tags if there is none; a rehearsal makes one that nobody keeps.
    fn tagger(&self, rehearsal: bool) -> Result<Arc<Tagger>, Error> {
        if let Some(tagger) = &*self.tagger.load() {
            return Ok(Arc::clone(tagger));
        }
        let mut fresh = [0; 32];
        self.env.entropy.fill(&mut fresh);
        if rehearsal {
            return Ok(Arc::new(Tagger::new(fresh)));
        }
        let secret = self.store.write::<_, Error>(move |tx| Ok(tx.import_secret(fresh)?))?;
        let tagger = Arc::new(Tagger::new(secret));
        self.tagger.store(Some(Arc::clone(&tagger)));
        Ok(tagger)
    }

    /// A digest has a handle of its own, whatever is stored of its key by now; of raw keys several
    /// may share one.
    fn is_known(&self, handle: KeyPrefix, material: &Material) -> bool {
        let Some(entry) = self.store.index().find(handle) else { return false };
        match material {
            Material::Sha256(_) | Material::Sha512(_) => true,
            Material::Raw(key) => entry.hash.matches_foreign(key),
        }
    }

    /// On all processors, where nothing else wants them: a raw key takes a while.
    fn prepare(&self, tagger: &Tagger, rows: Vec<ImportRow>) -> Vec<Prepared> {
        let threads = thread::available_parallelism().map_or(1, usize::from);
        let share = rows.len().div_ceil(threads).max(1);
        let mut rest = rows.into_iter();
        let shares: Vec<Vec<_>> =
            (0..threads).map(|_| rest.by_ref().take(share).collect()).collect();
        let prepare = |row: ImportRow| {
            let origin = row.material.origin();
            let handles: Vec<_> = tagger.handles(origin, row.material.bytes()).collect();
            let known = handles.iter().copied().find(|it| self.is_known(*it, &row.material));
            let twins = match &row.material {
                Material::Raw(key) => [ImportOrigin::Sha256, ImportOrigin::Sha512]
                    .into_iter()
                    .flat_map(|it| tagger.handles_of(it, key))
                    .collect(),
                Material::Sha256(_) | Material::Sha512(_) => Vec::new(),
            };
            let iterations = handles
                .first()
                .map_or(KeyHash::FOREIGN_ITERATIONS, |it| self.rules.iterations_for(*it));
            let hash = KeyHash::of_material(&row.material, iterations, &*self.env.entropy);
            Prepared { row, handles, twins, hash, known }
        };
        thread::scope(|scope| {
            let workers: Vec<_> = shares
                .into_iter()
                .map(|share| {
                    scope.spawn(move || {
                        prover::give_way();
                        share.into_iter().map(prepare).collect::<Vec<_>>()
                    })
                })
                .collect();
            workers.into_iter().flat_map(|it| it.join().unwrap_or_default()).collect()
        })
    }
}

impl Rules {
    /// What is refused here leaves no trace, for nothing is written before everything is checked.
    fn import(
        &self,
        tx: &WriteTx<'_>,
        caller: &Principal,
        prepared: Prepared,
        before: &Rehearsed,
    ) -> Result<ImportOutcome, Error> {
        let Prepared { row, handles, twins, hash, known } = prepared;
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
        let wanted = self.catalogue.bits(&new.scopes);
        if let Err(Error::ScopeEscalation(names)) =
            self.within(wanted, self.grantable(caller, &account))
        {
            let says = format!("this account cannot have {}", names.join(", "));
            return refuse("/scopes", "scope_escalation", says);
        }
        match self.refuse_too_many(tx, &account, before.get(&account.id).copied().unwrap_or(0)) {
            Err(Error::Conflict(Conflict::TooManyKeys { limit })) => {
                let says = format!("the account has its {limit} keys already");
                return refuse("/account", "too_many_keys", says);
            }
            other => other?,
        }
        let own = matches!(material, Material::Sha256(_) | Material::Sha512(_));
        let mut free = None;
        for handle in twins.iter().chain(&handles).copied() {
            let same = own || known == Some(handle) || twins.contains(&handle);
            match tx.key_with_prefix(handle)? {
                // Also one that came with another row of the same transaction.
                Some(found) if same => {
                    let says = format!("it is here already, as {}", found.key.id);
                    return refuse("", "already_imported", says);
                }
                Some(_) => (),
                None if twins.contains(&handle) => (),
                None => free = free.or(Some(handle)),
            }
        }
        let Some(handle) = free else {
            let says = "too many other keys share its tag".to_owned();
            return refuse("", "too_many_alike", says);
        };
        let new = NewKey { imported: Some(material.origin()), ..new };
        let origin: &Origin = &caller.origin;
        let record = self.insert_key(tx, origin, account.id, new, handle, hash)?;
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
