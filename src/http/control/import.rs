//! `keyward import`, by the control socket: rows of a file, some at a time.

use std::collections::HashMap;

use actix_web::{HttpResponse, web};
use base64ct::{Base64, Encoding};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{
    domain::{
        id::AccountId,
        imported_key::{ImportedKey, Material},
    },
    http::{blocking::run, problem::Problem, request::json::Members, wire::read_new_key},
    service::{Error, Expiry, Fault, ImportRow, Keyward, NewKey},
};

/// How large a message may be; rows come a hundred at a time.
pub const MAX_LEN: usize = 16 * 1024 * 1024;

/// What a row may hold: the members of a new key, whose it is, and one of the last three.
pub const MEMBERS: [&str; 9] =
    ["name", "scopes", "expiresAt", "enabled", "metadata", "account", "key", "sha256", "sha512"];

/// Some rows of a file.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ImportRequest {
    /// Only in a rehearsal: how many keys each account got by the rows before these.
    pub rehearsed: Option<HashMap<String, u32>>,
    /// As in the file; see [`MEMBERS`].
    pub rows: Vec<Map<String, Value>>,
}

/// What became of each, in the same order.
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

/// What is wrong with a row.
#[derive(Debug, Deserialize, Serialize)]
pub struct RowFault {
    pub field: String,
    pub code: String,
    pub detail: String,
}

/// What became of a file.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ImportSummary {
    pub accepted: u64,
    pub refused: u64,
    /// Whether the whole file was read.
    pub complete: bool,
    /// Of the file, if no key stood in it.
    pub sha256: Option<String>,
}

impl From<Fault> for RowFault {
    fn from(fault: Fault) -> Self {
        let field = fault.pointer.trim_start_matches('/').to_owned();
        let Fault { code, mut detail, .. } = fault;
        // Columns may be mixed up: what is told repeats no text that could be a key.
        if code == "unknown_scope" {
            "there is no such scope".clone_into(&mut detail);
        }
        Self { field, code: code.to_owned(), detail }
    }
}

impl RowOutcome {
    fn refused(faults: Vec<Fault>) -> Self {
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
    let now = app.env().time.now();
    let mut outcomes: Vec<Option<RowOutcome>> = Vec::new();
    let mut sound = Vec::new();
    for row in request.rows {
        let read = read_row(app, row, Expiry { now, caller: &caller, existing: None });
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
    let mut imported = app.import_keys(&caller, sound, request.rehearsed.map(known))?.into_iter();
    let outcomes = outcomes.into_iter().map(|known| {
        let outcome = || match imported.next() {
            Some(Ok(it)) => RowOutcome {
                key_id: Some(it.key.to_string()),
                account_id: Some(it.account.to_string()),
                faults: Vec::new(),
            },
            Some(Err(fault)) => RowOutcome::refused(vec![fault]),
            None => RowOutcome::refused(vec![Fault::new("", "internal", "it was passed over")]),
        };
        known.unwrap_or_else(outcome)
    });
    Ok(ImportAnswer { outcomes: outcomes.collect() })
}

/// All that is wrong with a row, or what is to be imported.
fn read_row(
    app: &Keyward,
    row: Map<String, Value>,
    expiry: Expiry<'_>,
) -> Result<ImportRow, Vec<Fault>> {
    let mut members = Members::new(Value::Object(row));
    let account = members.string("account");
    let account = members.not_null("account", account);
    let material = read_material(&mut members);
    let mut faults = std::mem::take(&mut members.faults);
    let read = read_new_key(members, app.catalogue(), expiry);
    if let (Ok(new), Some(Material::Raw(key))) = (&read, &material)
        && let Some(member) = member_with(key, new)
    {
        let says = "the key itself must not stand in it";
        faults.push(Fault::new(member, "contains_api_key", says));
    }
    match read {
        Ok(new) if faults.is_empty() => {
            let missing = || vec![Fault::new("/key", "required", "is missing")];
            Ok(ImportRow { material: material.ok_or_else(missing)?, account, new })
        }
        Ok(_) => Err(faults),
        Err(more) => {
            faults.extend(more);
            Err(faults)
        }
    }
}

/// Where the row tells everybody what its key is.
fn member_with(key: &ImportedKey, new: &NewKey) -> Option<&'static str> {
    let holds =
        |text: &str| text.as_bytes().windows(key.expose().len()).any(|it| it == key.expose());
    if holds(new.name.as_str()) {
        return Some("/name");
    }
    holds(new.metadata.as_json()).then_some("/metadata")
}

/// Exactly one of the three.
fn read_material(members: &mut Members) -> Option<Material> {
    let mut given = Vec::new();
    for name in ["key", "sha256", "sha512"] {
        let text = members.string(name);
        if let Some(text) = members.not_null(name, text) {
            given.push((name, text));
        }
    }
    let [(name, text)] = &*given else {
        let says = "exactly one of key, sha256 and sha512 is needed";
        members.faults.push(Fault::new("/key", "invalid_combination", says));
        return None;
    };
    let material = match *name {
        "key" => ImportedKey::parse_raw(text.as_bytes()).ok().map(Material::Raw),
        "sha256" => decoded(text).map(Material::Sha256),
        _ => decoded(text).map(|it| Material::Sha512(Box::new(it))),
    };
    if material.is_none() {
        let says = match *name {
            "key" => "must be 20 to 512 visible ASCII characters, and not a key of keyward's own",
            "sha256" => "must be 32 bytes in hexadecimal or base64",
            _ => "must be 64 bytes in hexadecimal or base64",
        };
        members.faults.push(Fault::new(format!("/{name}"), "invalid_format", says));
    }
    material
}

/// From hexadecimal, or base64.
pub fn decoded<const N: usize>(text: &str) -> Option<[u8; N]> {
    let text = text.trim();
    if text.len() == 2 * N {
        let digit = |it: &u8| char::from(*it).to_digit(16).and_then(|it| u8::try_from(it).ok());
        let pairs = text.as_bytes().chunks_exact(2);
        let byte = |it: &[u8]| Some(digit(it.first()?)? << 4 | digit(it.get(1)?)?);
        return pairs.map(byte).collect::<Option<Vec<_>>>()?.try_into().ok();
    }
    Base64::decode_vec(text).ok()?.try_into().ok()
}
