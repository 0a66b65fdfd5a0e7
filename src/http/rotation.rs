//! `/api-keys/{id}/rotate`: a new value for the same key.

use actix_web::{HttpRequest, HttpResponse, post, web};

use crate::{
    http::{
        authn::{Caller, RotateItself, WriteKeys},
        body::RequestBody,
        entity_tag, expected_revision,
        keys::{find, issued_body, shown},
        minted,
        problem::Problem,
        run,
        wire::{ApiKeyBody, RotateKeyRequest, read_grace},
    },
    service::{Change, Keyward, Principal, Reach},
};

/// Rotate the presented key
///
/// Gives the caller a new value. The scope `api-keys:rotate` allows this and nothing else.
#[utoipa::path(
    operation_id = "rotateSelf",
    tag = "API keys",
    security(("ApiKeyAuth" = ["api-keys:rotate", "api-keys:write"])),
    request_body(content = Option<RotateKeyRequest>, example = json!({"gracePeriodSeconds": 300})),
    responses(
        (status = 200, description = "Rotated", body = ApiKeyBody, headers(
            ("ETag" = String, description = "The key's revision"),
        )),
        (status = "4XX", description = "Refused", body = Problem, content_type = "application/problem+json"),
    ),
)]
#[post("/api-keys/self/rotate")]
pub async fn rotate_self(
    app: web::Data<Keyward>,
    caller: Caller<RotateItself>,
    req: HttpRequest,
    body: RequestBody,
) -> Result<HttpResponse, Problem> {
    rotate(&app, caller.principal, "self", Reach::Itself, &req, body).await
}

/// Rotate an API key
///
/// Gives the key a new value; identifier and settings stay. The old value is accepted until the
/// grace period is over. At most three values of a key are alive at once.
#[utoipa::path(
    operation_id = "rotateApiKey",
    tag = "API keys",
    security(("ApiKeyAuth" = ["api-keys:write", "accounts:write"])),
    params(
        ("id" = String, Path, description = "The key's identifier, its `keyPrefix`, or `self`", example = "key_01KYq8Zt3mV5xW7aBcDeFg"),
        ("If-Match" = Option<String>, Header, nullable = false, description = "Rotate only this revision: the key's `ETag`"),
    ),
    request_body(content = Option<RotateKeyRequest>, example = json!({"gracePeriodSeconds": 300})),
    responses(
        (status = 200, description = "Rotated", body = ApiKeyBody, headers(
            ("ETag" = String, description = "The key's revision"),
        )),
        (status = "4XX", description = "Refused", body = Problem, content_type = "application/problem+json"),
    ),
)]
#[post("/api-keys/{id}/rotate")]
pub async fn rotate_key(
    app: web::Data<Keyward>,
    caller: Caller<WriteKeys>,
    id: web::Path<String>,
    req: HttpRequest,
    body: RequestBody,
) -> Result<HttpResponse, Problem> {
    rotate(&app, caller.principal, &id, Reach::Write, &req, body).await
}

/// End the grace periods of an API key
///
/// From the moment this is answered, only the current value is accepted.
#[utoipa::path(
    operation_id = "completeRotation",
    tag = "API keys",
    security(("ApiKeyAuth" = ["api-keys:write", "accounts:write"])),
    params(
        ("id" = String, Path, description = "The key's identifier, its `keyPrefix`, or `self`", example = "key_01KYq8Zt3mV5xW7aBcDeFg"),
        ("If-Match" = Option<String>, Header, nullable = false, description = "Only for this revision: the key's `ETag`"),
    ),
    responses(
        (status = 200, description = "The key as it is now", body = ApiKeyBody, headers(
            ("ETag" = String, description = "The key's revision"),
        )),
        (status = "4XX", description = "Refused", body = Problem, content_type = "application/problem+json"),
    ),
)]
#[post("/api-keys/{id}/rotate/complete")]
pub async fn complete_rotation(
    app: web::Data<Keyward>,
    caller: Caller<WriteKeys>,
    id: web::Path<String>,
    req: HttpRequest,
    body: RequestBody,
) -> Result<HttpResponse, Problem> {
    let view = find(&app, &caller.principal, &id, Reach::Write).await?;
    let nothing = body.none()?;
    let expected = expected_revision(&req, view.key.revision)?;
    nothing.finish(Some(())).map_err(Problem::invalid)?;
    let change = Change { id: view.key.id, reach: Reach::Write, expected };
    let view = run(&app, move |app| app.complete_rotation(&caller.principal, change)).await?;
    Ok(shown(&app, &view))
}

async fn rotate(
    app: &web::Data<Keyward>,
    caller: Principal,
    id: &str,
    reach: Reach,
    req: &HttpRequest,
    body: RequestBody,
) -> Result<HttpResponse, Problem> {
    let view = find(app, &caller, id, reach).await?;
    let members = body.optional_members()?;
    let expected = expected_revision(req, view.key.revision)?;
    let grace = read_grace(members).map_err(Problem::invalid)?;
    let change = Change { id: view.key.id, reach, expected };
    let permit = run(app, move |app| app.permit_rotation(&caller, change, grace)).await?;
    let minted = minted(app).await?;
    let issued = run(app, move |app| app.rotate_key(permit, change, grace, minted)).await?;
    Ok(HttpResponse::Ok()
        .insert_header(entity_tag(issued.view.key.revision))
        .json(issued_body(app, &issued)))
}
