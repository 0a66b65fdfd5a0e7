//! `/checkpoints` and the proofs: with them, an auditor need not trust this server.

use actix_web::{HttpRequest, HttpResponse, get, web};

use crate::{
    http::{
        api::events::{event_cursor, read_cursor, seq_of},
        authn::{Caller, ReadEvents},
        blocking::run,
        problem::Problem,
        request::query::Query,
        respond::{self, List},
        wire::{
            CheckpointBody, CheckpointKeyBody, CheckpointListBody, ConsistencyProofBody,
            EventProofBody,
        },
    },
    service::{Error, Keyward, StoredCheckpoint},
};

/// List checkpoints
///
/// Returns the signed checkpoints of the audit log, the smallest first. Keep copies elsewhere: a
/// rewritten or truncated log does not agree with them.
#[utoipa::path(
    operation_id = "listCheckpoints",
    tag = "Audit log",
    security(("ApiKeyAuth" = ["events:read"])),
    params(("after" = Option<i64>, Query, description = "Return only checkpoints of more events than this.", minimum = 0)),
    responses((status = 200, description = "A page of checkpoints", body = CheckpointListBody)),
)]
#[get("/checkpoints")]
pub async fn list_checkpoints(
    app: web::Data<Keyward>,
    caller: Caller<ReadEvents>,
    req: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let mut query = Query::of(&req);
    let limit = query.limit();
    let cursor = query.take("cursor", "the nextCursor of a page", read_cursor);
    let after = query.take("after", "a whole number", seq_of);
    query.finish()?;
    let after = cursor.max(after).unwrap_or(0);
    let read = move |app: &Keyward, last: Option<&StoredCheckpoint>, limit| {
        app.list_checkpoints(last.map_or(after, |it| it.size), limit)
    };
    let show = |_: &Keyward, it: &StoredCheckpoint| CheckpointBody::from(it.clone());
    let cursor = |it: &StoredCheckpoint| event_cursor(it.size);
    respond::page(&app, &caller.principal, &req, List { limit, read, show, cursor, total: None })
        .await
}

/// Show the last checkpoint
///
/// Returns the newest checkpoint, or 404 if there is none yet.
#[utoipa::path(
    operation_id = "getLastCheckpoint",
    tag = "Audit log",
    security(("ApiKeyAuth" = ["events:read"])),
    responses((status = 200, description = "The checkpoint", body = CheckpointBody)),
)]
#[get("/checkpoints/last")]
pub async fn show_last_checkpoint(
    app: web::Data<Keyward>,
    _caller: Caller<ReadEvents>,
) -> Result<HttpResponse, Problem> {
    let last = run(&app, Keyward::last_checkpoint).await?;
    Ok(HttpResponse::Ok().json(CheckpointBody::from(last)))
}

/// Show the public key of the checkpoints
///
/// Returns the public key that verifies the checkpoints. Keep a copy elsewhere from the first day.
#[utoipa::path(
    operation_id = "getCheckpointKey",
    tag = "Audit log",
    security(("ApiKeyAuth" = ["events:read"])),
    responses((status = 200, description = "The key", body = CheckpointKeyBody)),
)]
#[get("/checkpoints/key")]
pub async fn show_checkpoint_key(
    app: web::Data<Keyward>,
    _caller: Caller<ReadEvents>,
) -> HttpResponse {
    HttpResponse::Ok().json(CheckpointKeyBody::from(app.checkpoint_key()))
}

/// Prove that the log only grew
///
/// Returns a Merkle consistency proof (RFC 6962). Together with the roots of two checkpoints, it
/// proves that no event was changed or removed between them.
#[utoipa::path(
    operation_id = "proveConsistency",
    tag = "Audit log",
    security(("ApiKeyAuth" = ["events:read"])),
    params(
        ("from" = u64, Query, description = "The size of the older checkpoint.", minimum = 1, example = 1),
        ("to" = u64, Query, description = "The size of the newer checkpoint.", minimum = 1, example = 1),
    ),
    responses((status = 200, description = "The proof", body = ConsistencyProofBody)),
)]
#[get("/checkpoints/consistency")]
pub async fn prove_consistency(
    app: web::Data<Keyward>,
    _caller: Caller<ReadEvents>,
    req: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let mut query = Query::of(&req);
    let from = query.required("from", "a whole number", size_of).unwrap_or_default();
    let to = query.required("to", "a whole number", size_of).unwrap_or_default();
    query.finish()?;
    let (old, new, path) = run(&app, move |app| app.prove_consistency(from, to)).await?;
    Ok(HttpResponse::Ok().json(ConsistencyProofBody::new((from, old), (to, new), &path)))
}

/// Prove that an event is in the log
///
/// Returns a Merkle inclusion proof (RFC 6962) against the last checkpoint, or against any size of
/// the log. The leaf is made of the event's `hash`.
#[utoipa::path(
    operation_id = "proveEvent",
    tag = "Audit log",
    security(("ApiKeyAuth" = ["events:read"])),
    params(
        ("seq" = u64, Path, description = "The number of the event.", example = 1, minimum = 1),
        ("size" = Option<u64>, Query, description = "The size of the log to prove against. Defaults to the size of the last checkpoint.", minimum = 1),
    ),
    responses((status = 200, description = "The proof", body = EventProofBody)),
)]
#[get("/events/{seq}/proof")]
pub async fn prove_event(
    app: web::Data<Keyward>,
    caller: Caller<ReadEvents>,
    seq: web::Path<String>,
    req: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let seq = size_of(&seq).ok_or(Error::NO_EVENT)?;
    let mut query = Query::of(&req);
    let size = query.take("size", "a whole number", size_of);
    query.finish()?;
    let viewer = caller.principal.viewer();
    let proof = run(&app, move |app| app.prove_event(viewer, seq, size)).await?;
    Ok(HttpResponse::Ok().json(EventProofBody::new(seq, proof)))
}

fn size_of(text: &str) -> Option<u64> {
    seq_of(text).and_then(|it| u64::try_from(it).ok())
}
