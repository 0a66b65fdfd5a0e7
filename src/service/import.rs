//! Imports keys that another system issued, by their digests.

use std::{collections::HashMap, panic::resume_unwind, thread};

use serde_json::json;
use zeroize::Zeroizing;

use crate::{
    domain::{
        account::Account,
        credential::Credential,
        development_key::is_development_digest,
        event::EventType,
        id::{AccountId, KeyId},
        imported_key::{ImportedDigest, PrefixMaker},
        key_hash::KeyHash,
        plaintext_key::KeyPrefix,
        scope::Scope,
        text::ExternalId,
    },
    service::{
        Change, Conflict, Error, Expiry, Fault, Keyward, NewKey, Principal, kdf_pool, keys::WRITERS,
    },
    store::{StoreError, WriteTx},
};

/// A key to import.
pub struct ImportRow {
    pub digest: ImportedDigest,
    /// The owner account: its identifier or its external identifier. `None` is the operator account.
    pub account: Option<String>,
    pub new: NewKey,
}

/// The outcome of a row: the imported key, or why it was refused.
pub type ImportOutcome = Result<Imported, Fault>;

/// An imported key. After a dry run, no such key exists.
#[derive(Clone, Copy, Debug)]
pub struct Imported {
    pub key: KeyId,
    pub account: AccountId,
}

/// How many keys the earlier rows of a dry run would give to each account. The database knows nothing
/// of them.
pub type DryRunCounts = HashMap<AccountId, u32>;

/// A row with its key prefix and hash, which are made before the transaction.
pub(super) struct Prepared {
    pub row: ImportRow,
    pub prefix: KeyPrefix,
    pub hash: KeyHash,
}

/// Rolls the transaction back.
pub(super) enum Rollback<T> {
    /// Everything was right, but a dry run changes nothing.
    DryRun(T),
    Failed(Error),
}

impl<T> From<Error> for Rollback<T> {
    fn from(err: Error) -> Self {
        Self::Failed(err)
    }
}

impl<T> From<StoreError> for Rollback<T> {
    fn from(err: StoreError) -> Self {
        Self::Failed(err.into())
    }
}

impl Keyward {
    /// Imports the rows in one transaction and returns the outcome of each. A dry run does the same and
    /// rolls back.
    ///
    /// A row is refused if its key is here or was here, so a file may be imported twice and no revoked key
    /// comes back. A root key is refused: it must be one of keyward's own.
    pub fn import_keys(
        &self,
        caller: &Principal,
        rows: Vec<ImportRow>,
        dry_run: Option<DryRunCounts>,
    ) -> Result<Vec<ImportOutcome>, Error> {
        let permit = self.permit_change(caller)?;
        let maker = self.prefix_maker(dry_run.is_some())?;
        let hashes = self.hashes_of(rows.iter().map(|it| &it.digest));
        let prepared = rows.into_iter().zip(hashes).map(|(row, hash)| Prepared {
            prefix: maker.prefix_of(&row.digest),
            row,
            hash,
        });
        let prepared: Vec<_> = prepared.collect();
        let outcome = self.change::<_, Rollback<_>>(permit, WRITERS, move |change| {
            let (is_dry_run, counts) = (dry_run.is_some(), dry_run.unwrap_or_default());
            let mut outcomes = Vec::with_capacity(prepared.len());
            for it in prepared {
                outcomes.push(change.import(it, &counts)?);
            }
            if is_dry_run { Err(Rollback::DryRun(outcomes)) } else { Ok(outcomes) }
        });
        match outcome {
            Ok(outcomes) | Err(Rollback::DryRun(outcomes)) => Ok(outcomes),
            Err(Rollback::Failed(err)) => Err(err),
        }
    }

    /// Records the import of a file. `complete` says whether the whole file was read. `sha256` is the
    /// digest of the file; `None` if it held the text of a key, because the digest of a file with one key
    /// would let readers of the log test guesses.
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

    /// Derives the hashes of digests, on a thread of low priority.
    pub(super) fn hashes_of<'a>(
        &self,
        digests: impl Iterator<Item = &'a ImportedDigest> + Send,
    ) -> Vec<KeyHash> {
        let (iterations, entropy) = (self.settings.hash_iterations, &*self.env.entropy);
        thread::scope(|scope| {
            let thread = scope.spawn(|| {
                kdf_pool::lower_priority();
                digests.map(|it| KeyHash::of_digest(it, iterations, entropy)).collect()
            });
            thread.join().unwrap_or_else(|panic| resume_unwind(panic))
        })
    }

    /// Returns what makes the key prefixes. The first import makes and stores its secret; a dry run
    /// before that makes one that is forgotten.
    pub(super) fn prefix_maker(&self, dry_run: bool) -> Result<PrefixMaker, Error> {
        if let Some(known) = self.imported_prefixes.get() {
            return Ok(known.clone());
        }
        let mut fresh = Zeroizing::new([0; 32]);
        self.env.entropy.fill(&mut *fresh);
        if dry_run {
            return Ok(PrefixMaker::new(fresh));
        }
        // Two first imports at once both get the secret that was stored first.
        let secret = self.system_change::<_, Error>(move |tx| Ok(tx.import_secret_or(fresh)?))?;
        Ok(self.imported_prefixes.get_or_init(|| PrefixMaker::new(secret)).clone())
    }
}

/// Returns why a file gives no key of this account the scope `*`.
pub(super) fn no_root_key(account: &Account) -> &'static str {
    if account.is_operator() {
        "`*` makes a root key, and no file makes one; use `keyward root-key reset`"
    } else {
        "this account cannot have *; only the operator account has root keys"
    }
}

impl Change<'_> {
    /// Imports one row, or returns why it is refused. Nothing is written before all checks passed, so a
    /// refused row leaves no trace in the transaction.
    pub(super) fn import(
        &self,
        prepared: Prepared,
        counts: &DryRunCounts,
    ) -> Result<ImportOutcome, Error> {
        let (tx, caller, catalogue) = (&**self, self.caller(), &self.authorizer.catalogue);
        let Prepared { row: ImportRow { digest, account, new }, prefix, hash } = prepared;
        let refuse = |pointer, code, says: String| Ok(Err(Fault::new(pointer, code, &says)));
        let Some(account) = Self::account_named(tx, caller, account.as_deref())? else {
            return refuse("/account", "not_found", "there is no such account".to_owned());
        };
        let account = tx.account(account)?.ok_or(Error::NotFound)?;
        if new.scopes.iter().any(|it| it.as_str() == Scope::EVERYTHING) {
            return refuse("/scopes", "scope_escalation", no_root_key(&account).to_owned());
        }
        if is_development_digest(&digest) {
            let says = "this is a key of `keyward dev`, which is public; create a new key instead";
            return refuse("", "development_key", says.to_owned());
        }
        let wanted = catalogue.bits(&new.scopes);
        if let Err(Error::ScopeEscalation(names)) =
            self.authorizer.refuse_beyond(wanted, self.authorizer.grantable(caller, &account))
        {
            let says = format!("this account cannot have {}", names.join(", "));
            return refuse("/scopes", "scope_escalation", says);
        }
        let unseen = counts.get(&account.id).copied().unwrap_or(0);
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
        if let Some(found) = tx.key_with_prefix(prefix)? {
            let says = format!("the key is here already, as {}", found.key.id);
            return refuse("", "already_imported", says);
        }
        if tx.was_imported(prefix)? {
            let says = "the key was imported before and was removed; create a new key instead";
            return refuse("", "was_imported", says.to_owned());
        }
        let maker = self.maker(&account);
        let (now, lifetimes) = (tx.now(), maker.lifetimes);
        let expiry = Expiry { now, caller, lifetimes, existing: None };
        if let Some(fault) = expiry.fault(new.settings.expires_at) {
            return Ok(Err(fault));
        }
        let new = NewKey { imported: Some(digest.form()), ..new };
        let credential = Credential::new(prefix, hash, tx.now());
        let record = new.insert(tx, maker, account.id, &credential)?;
        self.announce(&record)?;
        Ok(Ok(Imported { key: record.key.id, account: account.id }))
    }

    /// Finds an account by its identifier or external identifier. Without a name, it is the caller's.
    fn account_named(
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
