//! `/checkpoints` and the proofs: what an auditor needs who believes nobody.

use actix_web::{HttpRequest, HttpResponse, get, web};

use crate::{
    http::{
        answers,
        authn::{Caller, ReadEvents},
        events::{event_cursor, read_cursor, seq_of},
        problem::Problem,
        query::Query,
        run,
        wire::{
            CheckpointBody, CheckpointKeyBody, CheckpointListBody, ConsistencyProofBody,
            EventProofBody,
        },
    },
    service::{Error, Keyward, StoredCheckpoint},
};

/// List checkpoints
///
/// Signed statements of what the audit log was, the smallest first. Keep copies elsewhere: they are
/// what a rewritten or truncated log cannot agree with.
#[utoipa::path(
    operation_id = "listCheckpoints",
    tag = "Audit log",
    security(("ApiKeyAuth" = ["events:read"])),
    params(
        ("limit" = Option<u32>, Query, description = "How many to return; 1000 if left out", minimum = 1, maximum = 1000),
        ("cursor" = Option<String>, Query, description = "Where the last page ended: its `nextCursor`"),
        ("after" = Option<i64>, Query, description = "Only checkpoints of more events than this", minimum = 0),
    ),
    responses(
        (status = 200, description = "A page of checkpoints", body = CheckpointListBody),
        (status = "4XX", description = "Refused", body = Problem, content_type = "application/problem+json"),
    ),
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
    answers::page(&app, &caller.principal, &req, limit, read, show, cursor).await
}

/// Show the last checkpoint
///
/// The newest signed statement of what the audit log is. 404 until there is one.
#[utoipa::path(
    operation_id = "getLastCheckpoint",
    tag = "Audit log",
    security(("ApiKeyAuth" = ["events:read"])),
    responses(
        (status = 200, description = "The checkpoint", body = CheckpointBody),
        (status = "4XX", description = "Refused", body = Problem, content_type = "application/problem+json"),
    ),
)]
#[get("/checkpoints/last")]
pub async fn show_last_checkpoint(
    app: web::Data<Keyward>,
    _caller: Caller<ReadEvents>,
    _req: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let last = run(&app, Keyward::last_checkpoint).await?;
    Ok(HttpResponse::Ok().json(CheckpointBody::from(last)))
}

/// Show the key of the checkpoints
///
/// The public key that checkpoints are checked with. Write it down on the first day, elsewhere.
#[utoipa::path(
    operation_id = "getCheckpointKey",
    tag = "Audit log",
    security(("ApiKeyAuth" = ["events:read"])),
    responses(
        (status = 200, description = "The key", body = CheckpointKeyBody),
        (status = "4XX", description = "Refused", body = Problem, content_type = "application/problem+json"),
    ),
)]
#[get("/checkpoints/key")]
pub async fn show_checkpoint_key(
    app: web::Data<Keyward>,
    _caller: Caller<ReadEvents>,
    _req: HttpRequest,
) -> HttpResponse {
    HttpResponse::Ok().json(CheckpointKeyBody::from(app.checkpoint_key()))
}

/// Prove that the log only grew
///
/// A Merkle consistency proof (RFC 6962): with the roots of two checkpoints it shows that nothing
/// was changed or taken away between them.
#[utoipa::path(
    operation_id = "proveConsistency",
    tag = "Audit log",
    security(("ApiKeyAuth" = ["events:read"])),
    params(
        ("from" = u64, Query, description = "The size of the older checkpoint", minimum = 1, example = 1),
        ("to" = u64, Query, description = "The size of the newer one", minimum = 1, example = 1),
    ),
    responses(
        (status = 200, description = "The proof", body = ConsistencyProofBody),
        (status = "4XX", description = "Refused", body = Problem, content_type = "application/problem+json"),
    ),
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
/// A Merkle inclusion proof (RFC 6962) against the last checkpoint, or against any size of the log.
/// The event's `hash` is what the leaf is made of.
#[utoipa::path(
    operation_id = "proveEvent",
    tag = "Audit log",
    security(("ApiKeyAuth" = ["events:read"])),
    params(
        ("seq" = u64, Path, description = "The event's number", example = 1, minimum = 1),
        ("size" = Option<u64>, Query, description = "The size of the log to prove it against; the last checkpoint's if left out", minimum = 1),
    ),
    responses(
        (status = 200, description = "The proof", body = EventProofBody),
        (status = "4XX", description = "Refused", body = Problem, content_type = "application/problem+json"),
    ),
)]
#[get("/events/{seq}/proof")]
pub async fn prove_event(
    app: web::Data<Keyward>,
    caller: Caller<ReadEvents>,
    seq: web::Path<String>,
    req: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let seq = size_of(&seq).ok_or(Error::NotFound)?;
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
