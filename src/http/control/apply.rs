//! `keyward apply` over the control socket: the accounts and keys of a file.

use std::{collections::HashSet, mem};

use actix_web::{HttpResponse, web};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::import::read_digest;
use crate::{
    domain::{
        event::EventSource, imported_key::ImportedDigest, root_key::is_public, text::ExternalId,
    },
    http::{
        blocking::run,
        problem::Problem,
        request::json::Members,
        wire::{read_account_patch, read_declared_key},
    },
    service::{
        AppliedAction, AppliedChange, ApplyMode, DeclaredAccount, DeclaredKey, Error, Fault,
        Faults, KeyPatch, Keyward, Section,
    },
};

/// The largest request body, in bytes: more than the JSON of the largest file.
pub const MAX_LEN: usize = 48 * 1024 * 1024;

/// The sections of a file.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ApplyRequest {
    pub dry_run: bool,
    pub prune: bool,
    /// The keys of the operator account: the members of an update of a key, and the digest of its text.
    pub keys: Vec<Map<String, Value>>,
    pub accounts: Vec<ApplyAccount>,
}

/// The section of an account.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ApplyAccount {
    /// The members of an update of an account.
    pub settings: Map<String, Value>,
    pub keys: Vec<Map<String, Value>>,
}

/// The outcome of a file. With faults, nothing was changed.
#[derive(Debug, Deserialize, Serialize)]
pub struct ApplyAnswer {
    pub changes: Vec<ApplyChange>,
    pub faults: Vec<ApplyFault>,
}

/// A change. A dry run has the same.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ApplyChange {
    /// `created`, `recreated`, `updated`, `revoked`, `suspended` or `left`.
    pub action: String,
    /// The external identifier; `None` for the operator account.
    pub account: Option<String>,
    /// The name of the key; `None` if the change is about the account.
    pub key: Option<String>,
    pub key_id: Option<String>,
    /// The settings that changed.
    pub before: Map<String, Value>,
    pub after: Map<String, Value>,
}

/// A fault of a section.
#[derive(Debug, Deserialize, Serialize)]
pub struct ApplyFault {
    /// The position of the account; `None` for a key of the operator account.
    pub account: Option<usize>,
    /// The position of the key among those of its account.
    pub key: Option<usize>,
    /// The member; empty if the fault is about the whole section.
    pub field: String,
    pub detail: String,
}

pub(super) async fn apply(
    app: web::Data<Keyward>,
    request: web::Json<ApplyRequest>,
) -> Result<HttpResponse, Problem> {
    let answer = run(&app, move |app| carry_out(app, request.into_inner())).await?;
    Ok(HttpResponse::Ok().json(answer))
}

fn carry_out(app: &Keyward, request: ApplyRequest) -> Result<ApplyAnswer, Error> {
    let ApplyRequest { dry_run, prune, keys, accounts } = request;
    let caller = app.local_operator(EventSource::CLI)?;
    let mut reader = Reader::new(app);
    reader.keys(None, None, keys);
    for (index, it) in accounts.into_iter().enumerate() {
        let name = reader.account(index, it.settings);
        reader.keys(Some(index), name.as_ref(), it.keys);
    }
    let Reader { accounts, keys, faults, .. } = reader;
    // Faults that only the transaction finds are told together with those of the form.
    let mode =
        ApplyMode { dry_run: dry_run || !faults.is_empty(), prune: prune && faults.is_empty() };
    let applied = app.apply(&caller, accounts, keys, mode)?;
    let faults = faults.into_iter().chain(applied.faults).map(ApplyFault::from).collect();
    Ok(ApplyAnswer {
        changes: applied.changes.into_iter().map(ApplyChange::from).collect(),
        faults,
    })
}

/// Reads the sections, and collects their faults.
struct Reader<'a> {
    app: &'a Keyward,
    accounts: Vec<DeclaredAccount>,
    keys: Vec<DeclaredKey>,
    faults: Vec<(Section, Fault)>,
    /// The external identifiers and digests of earlier sections.
    seen: HashSet<Vec<u8>>,
}

impl<'a> Reader<'a> {
    fn new(app: &'a Keyward) -> Self {
        Self {
            app,
            accounts: Vec::new(),
            keys: Vec::new(),
            faults: Vec::new(),
            seen: HashSet::new(),
        }
    }

    /// Reads an account. Returns its external identifier, if the section is sound.
    fn account(&mut self, index: usize, settings: Map<String, Value>) -> Option<ExternalId> {
        let section = Section { account: Some(index), key: None };
        let members = Members::new(Value::Object(settings));
        let read = read_account_patch(members, self.app.catalogue(), None).and_then(|mut patch| {
            let external_id = patch.external_id.take().flatten();
            let says = "is required, because it identifies the account";
            let missing = || Fault::new("/externalId", "required", says);
            let external_id = external_id.ok_or_else(missing)?;
            if !self.seen.insert(external_id.as_str().as_bytes().to_vec()) {
                let says = "names an account that an earlier section has";
                return Err(Fault::new("/externalId", "duplicate", says).into());
            }
            Ok(DeclaredAccount { section, external_id, patch })
        });
        let account = self.sound(section, read)?;
        let name = account.external_id.clone();
        self.accounts.push(account);
        Some(name)
    }

    /// Reads the keys of an account. Without a sound account, only their own faults are of interest.
    fn keys(
        &mut self,
        account: Option<usize>,
        owner: Option<&ExternalId>,
        keys: Vec<Map<String, Value>>,
    ) {
        for (index, it) in keys.into_iter().enumerate() {
            let section = Section { account, key: Some(index) };
            let read = self.key(it);
            if let Some((digest, patch)) = self.sound(section, read)
                && (account.is_none() || owner.is_some())
            {
                self.keys.push(DeclaredKey { section, digest, account: owner.cloned(), patch });
            }
        }
    }

    fn key(&mut self, members: Map<String, Value>) -> Result<(ImportedDigest, KeyPatch), Faults> {
        let mut members = Members::new(Value::Object(members));
        let digest = read_digest(&mut members);
        if let Some(digest) = &digest
            && is_public(digest)
        {
            let says = "is the digest of a text that is publicly known";
            members.fault(digest.form().as_str(), "weak", says);
        }
        if let Some(digest) = &digest
            && !self.seen.insert(digest.bytes().to_vec())
        {
            let says = "is the digest of a key that an earlier section has";
            members.fault(digest.form().as_str(), "duplicate", says);
        }
        let mut faults = mem::take(&mut members.faults);
        let read = read_declared_key(members, self.app.catalogue());
        match (read, digest) {
            (Ok(patch), Some(digest)) if faults.is_empty() => Ok((digest, patch)),
            (Ok(_), _) => Err(faults),
            (Err(more), _) => {
                faults.extend(more);
                Err(faults)
            }
        }
    }

    fn sound<T>(&mut self, section: Section, read: Result<T, Faults>) -> Option<T> {
        let faults = match read {
            Ok(read) => return Some(read),
            Err(faults) => faults,
        };
        self.faults.extend(faults.into_iter().map(|it| (section, it)));
        None
    }
}

impl From<(Section, Fault)> for ApplyFault {
    fn from((section, fault): (Section, Fault)) -> Self {
        // A pointer goes on to the item of a list, and the line of the member is enough.
        let field = fault.pointer.split('/').nth(1).unwrap_or_default().to_owned();
        Self { account: section.account, key: section.key, field, detail: fault.detail }
    }
}

impl From<AppliedChange> for ApplyChange {
    fn from(change: AppliedChange) -> Self {
        let AppliedChange { action, account, key, key_id, mut facts } = change;
        let mut members = |name: &str| match facts.get_mut(name).map(Value::take) {
            Some(Value::Object(members)) => members,
            Some(_) | None => Map::new(),
        };
        Self {
            action: match action {
                AppliedAction::Created => "created",
                AppliedAction::Recreated => "recreated",
                AppliedAction::Updated => "updated",
                AppliedAction::Revoked => "revoked",
                AppliedAction::Suspended => "suspended",
                AppliedAction::Left => "left",
            }
            .to_owned(),
            account,
            key,
            key_id: key_id.map(|it| it.to_string()),
            before: members("before"),
            after: members("after"),
        }
    }
}
