//! `keyward import` over the control socket: the rows of a file, in batches.

use std::collections::HashMap;

use actix_web::{HttpResponse, web};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{
    domain::{
        id::AccountId,
        imported_key::{ImportedDigest, decoded},
        lifetime::Lifetimes,
    },
    http::{
        blocking::run,
        problem::Problem,
        request::json::{Members, as_it_is},
        wire::read_new_key,
    },
    service::{Error, Expiry, Fault, Faults, ImportRow, Keyward},
};

/// The largest request body, in bytes. A request has a hundred rows.
pub const MAX_LEN: usize = 16 * 1024 * 1024;

/// The fault of a row of a file that does not give its key in exactly one form.
pub const ONE_FORM: &str = "exactly one of key, sha256 and sha512 is needed";

/// Some rows of a file.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ImportRequest {
    /// Only in a dry run: how many keys the earlier rows would give to each account.
    pub dry_run_counts: Option<HashMap<String, u32>>,
    /// The members of a new key, its account, and the digest of its text.
    pub rows: Vec<Map<String, Value>>,
}

/// The outcome of each row, in the same order.
#[derive(Debug, Deserialize, Serialize)]
pub struct ImportAnswer {
    pub outcomes: Vec<RowOutcome>,
}

#[derive(Debug, Deserialize, Serialize)]
pub struct RowOutcome {
    pub key_id: Option<String>,
    pub account_id: Option<String>,
    pub faults: Vec<RowFault>,
}

/// A fault of a row.
#[derive(Debug, Deserialize, Serialize)]
pub struct RowFault {
    pub field: String,
    pub code: String,
    pub detail: String,
}

/// The outcome of a file.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ImportSummary {
    pub accepted: u64,
    pub refused: u64,
    /// Whether the whole file was read.
    pub complete: bool,
    /// Digest of the file, if it held no text of a key.
    pub sha256: Option<String>,
}

impl From<Fault> for RowFault {
    fn from(fault: Fault) -> Self {
        let field = fault.pointer.trim_start_matches('/').to_owned();
        let Fault { code, mut detail, .. } = fault;
        // Columns may be mixed up, so the answer repeats no text that could be a key.
        if code == "unknown_scope" {
            "there is no such scope".clone_into(&mut detail);
        }
        Self { field, code: code.to_owned(), detail }
    }
}

impl RowOutcome {
    fn refused(faults: impl IntoIterator<Item = Fault>) -> Self {
        Self {
            key_id: None,
            account_id: None,
            faults: faults.into_iter().map(RowFault::from).collect(),
        }
    }
}

pub(super) async fn import(
    app: web::Data<Keyward>,
    request: web::Json<ImportRequest>,
) -> Result<HttpResponse, Problem> {
    let answer = run(&app, move |app| carry_out(app, request.into_inner())).await?;
    Ok(HttpResponse::Ok().json(answer))
}

pub(super) async fn finish(
    app: web::Data<Keyward>,
    summary: web::Json<ImportSummary>,
) -> Result<HttpResponse, Problem> {
    let ImportSummary { accepted, refused, complete, sha256 } = summary.into_inner();
    run(&app, move |app| app.record_import(accepted, refused, complete, sha256.as_deref())).await?;
    Ok(HttpResponse::Ok().json(()))
}

fn carry_out(app: &Keyward, request: ImportRequest) -> Result<ImportAnswer, Error> {
    let caller = app.local_operator(crate::domain::event::EventSource::CLI)?;
    // The lifetimes of the account are checked when the account is known.
    let (now, lifetimes) = (app.env().time.now(), Lifetimes::default());
    let mut outcomes: Vec<Option<RowOutcome>> = Vec::new();
    let mut sound = Vec::new();
    for row in request.rows {
        let read = read_row(app, row, Expiry { now, caller: &caller, lifetimes, existing: None });
        match read {
            Ok(row) => {
                outcomes.push(None);
                sound.push(row);
            }
            Err(faults) => outcomes.push(Some(RowOutcome::refused(faults))),
        }
    }
    let known = |it: HashMap<String, u32>| {
        it.into_iter()
            .filter_map(|(id, count)| Some((AccountId::parse(&id).ok()?, count)))
            .collect()
    };
    let mut imported =
        app.import_keys(&caller, sound, request.dry_run_counts.map(known))?.into_iter();
    let outcomes = outcomes.into_iter().map(|known| {
        let outcome = || match imported.next() {
            Some(Ok(it)) => RowOutcome {
                key_id: Some(it.key.to_string()),
                account_id: Some(it.account.to_string()),
                faults: Vec::new(),
            },
            Some(Err(fault)) => RowOutcome::refused([fault]),
            None => RowOutcome::refused([Fault::new("", "internal", "the row was skipped")]),
        };
        known.unwrap_or_else(outcome)
    });
    Ok(ImportAnswer { outcomes: outcomes.collect() })
}

/// Reads a row, or returns all its faults.
fn read_row(
    app: &Keyward,
    row: Map<String, Value>,
    expiry: Expiry<'_>,
) -> Result<ImportRow, Faults> {
    let mut members = Members::new(Value::Object(row));
    let account = members.optional("account", as_it_is::<String>);
    let digest = read_digest(&mut members);
    let mut faults = std::mem::take(&mut members.faults);
    match (read_new_key(members, app.catalogue(), expiry), digest) {
        (Ok(new), Some(digest)) if faults.is_empty() => Ok(ImportRow { digest, account, new }),
        (Ok(_), _) => Err(faults),
        (Err(more), _) => {
            faults.extend(more);
            Err(faults)
        }
    }
}

/// Reads the one digest of a row. Every other row gets a fault.
pub fn read_digest(members: &mut Members) -> Option<ImportedDigest> {
    if members.holds("key") {
        let says = "the server takes no key text; send its SHA-256, as `keyward import` does";
        members.faults.push(Fault::new("/key", "unknown_field", says));
        return None;
    }
    let mut given = Vec::new();
    for name in ["sha256", "sha512"] {
        if let Some(text) = members.optional(name, as_it_is::<String>) {
            given.push((name, text));
        }
    }
    let [(name, text)] = &*given else {
        members.faults.push(Fault::new("/key", "invalid_combination", ONE_FORM));
        return None;
    };
    let digest = match *name {
        "sha256" => decoded(text).map(ImportedDigest::Sha256),
        _ => decoded(text).map(|it| ImportedDigest::Sha512(Box::new(it))),
    };
    if digest.is_none() {
        let says = match *name {
            "sha256" => "must be 32 bytes in hexadecimal or base64",
            _ => "must be 64 bytes in hexadecimal or base64",
        };
        members.faults.push(Fault::new(format!("/{name}"), "invalid_format", says));
    }
    digest
}
