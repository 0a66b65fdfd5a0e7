//! `/api-keys/{id}/rotate`: a new credential for the same key.

use actix_web::{HttpRequest, HttpResponse, post, web};

use crate::{
    http::{
        api::{
            idempotency::{self, Begun, IssuedAnswer},
            key_request::KeyRequest,
            keys::shown,
        },
        authn::{Caller, RotateItself, WriteKeys},
        blocking::{minted, run},
        problem::Problem,
        request::body::RequestBody,
        wire::{ApiKeyBody, RotateKeyRequest, read_grace},
    },
    service::{KeyAccess, Keyward},
};

/// Rotate the presented key
///
/// Gives the presented key a new credential. The scope `api-keys:rotate` allows only this operation.
#[utoipa::path(
    operation_id = "rotateOwnApiKey",
    tag = "API keys",
    security(("ApiKeyAuth" = ["api-keys:rotate", "api-keys:write"])),
    request_body(content = Option<RotateKeyRequest>, example = json!({"gracePeriodSeconds": 300})),
    responses((status = 200, description = "The rotated key", body = ApiKeyBody)),
)]
#[post("/api-keys/self/rotate")]
pub async fn rotate_self(
    app: web::Data<Keyward>,
    caller: Caller<RotateItself>,
    req: HttpRequest,
    body: RequestBody,
) -> Result<HttpResponse, Problem> {
    let (caller, access) = (caller.principal, KeyAccess::Itself);
    rotate(&app, KeyRequest { caller, id: "self", access, req: &req }, body).await
}

/// Rotate an API key
///
/// Gives the key a new credential. Its identifier and settings stay. The old credential is accepted
/// until its grace period ends. A key has at most three accepted credentials at a time.
#[utoipa::path(
    operation_id = "rotateApiKey",
    tag = "API keys",
    security(("ApiKeyAuth" = ["api-keys:write", "accounts:write"])),
    request_body(content = Option<RotateKeyRequest>, example = json!({"gracePeriodSeconds": 300})),
    responses((status = 200, description = "The rotated key", body = ApiKeyBody)),
)]
#[post("/api-keys/{id}/rotate")]
pub async fn rotate_key(
    app: web::Data<Keyward>,
    caller: Caller<WriteKeys>,
    id: web::Path<String>,
    req: HttpRequest,
    body: RequestBody,
) -> Result<HttpResponse, Problem> {
    let (caller, access) = (caller.principal, KeyAccess::Write);
    rotate(&app, KeyRequest { caller, id: &id, access, req: &req }, body).await
}

/// End the grace periods of an API key
///
/// After the answer, only the current credential of the key is accepted.
#[utoipa::path(
    operation_id = "completeRotation",
    tag = "API keys",
    security(("ApiKeyAuth" = ["api-keys:write", "accounts:write"])),
    responses((status = 200, description = "The key", body = ApiKeyBody)),
)]
#[post("/api-keys/{id}/rotate/complete")]
pub async fn complete_rotation(
    app: web::Data<Keyward>,
    caller: Caller<WriteKeys>,
    id: web::Path<String>,
    req: HttpRequest,
    body: RequestBody,
) -> Result<HttpResponse, Problem> {
    let (caller, access) = (caller.principal, KeyAccess::Write);
    let key = KeyRequest { caller, id: &id, access, req: &req };
    let change = key.change_without_body(&app, body).await?;
    let caller = key.caller;
    let view = run(&app, move |app| app.complete_rotation(&caller, change)).await?;
    Ok(shown(&app, &view))
}

async fn rotate(
    app: &web::Data<Keyward>,
    key: KeyRequest<'_>,
    body: RequestBody,
) -> Result<HttpResponse, Problem> {
    let first = match idempotency::begin(app, &key.caller, key.access, key.req, &body).await? {
        Begun::Answered(response) => return Ok(response),
        Begun::First(first) => first,
    };
    let view = key.find(app).await?;
    let members = body.optional_members()?;
    let (change, caller) = (key.change(&view)?, key.caller);
    let grace = read_grace(members).map_err(Problem::invalid)?;
    let permit = run(app, move |app| app.permit_rotation(&caller, change, grace)).await?;
    let minted = minted(app).await?;
    let permit = permit.keeping(idempotency::keeper(app, first, IssuedAnswer::rotated_key));
    let issued = run(app, move |app| app.rotate_key(permit, change, grace, minted)).await?;
    let answer = IssuedAnswer::rotated_key(app, &issued.view, &issued.plaintext, None);
    Ok(answer.into_response())
}
