//! `/api-keys/verify` and `/scopes`: what a gateway asks.

use actix_web::{HttpRequest, HttpResponse, get, post, web};

use crate::{
    domain::{event::Origin, policy::Need},
    http::{
        authn::{AnyKey, Caller, VerifyKeys, identified, note_retired},
        body::RequestBody,
        problem::Problem,
        wire::{
            ScopeBody, ScopeListBody, VerificationBody, VerifyKeyRequest, VerifyQuestion,
            read_plain_question, read_question,
        },
    },
    service::Keyward,
    telemetry::Metrics,
};

/// Verify an API key
///
/// Is this key good for that, now? The answer is 200 whatever the outcome; look at `valid`. Nothing
/// is read from disk, and a revoked key is refused from the moment its revocation was answered.
#[utoipa::path(
    operation_id = "verifyApiKey",
    tag = "Verification",
    security(("ApiKeyAuth" = ["api-keys:verify"])),
    request_body(content = VerifyKeyRequest, example = json!({
        "key": "rg_8fK2mQ9zTabcdefghijklmnopqrstuvwxyz0123453bAXzK",
        "scopes": ["orders:read"],
    })),
    responses(
        (status = 200, description = "The outcome", body = VerificationBody<'_>),
        (status = "4XX", description = "Refused", body = Problem, content_type = "application/problem+json"),
    ),
)]
#[post("/api-keys/verify")]
pub async fn verify_key(
    app: web::Data<Keyward>,
    metrics: web::Data<Metrics>,
    caller: Caller<VerifyKeys>,
    body: RequestBody,
) -> Result<HttpResponse, Problem> {
    let catalogue = &app.rules().catalogue;
    let plain = body.json_bytes().and_then(|it| read_plain_question(it, catalogue));
    let VerifyQuestion { key, wanted, client_ip } = match plain {
        Some(question) => question,
        None => read_question(body.members()?, catalogue).map_err(Problem::invalid)?,
    };
    let identity = identified(&app, key.as_bytes()).await?;
    let found = app.judge(&identity, Need::all(wanted));
    metrics.count_verification(found.verdict);
    let origin = caller.principal.origin;
    note_retired(&app, &found, &Origin { client_ip, ..origin });
    Ok(HttpResponse::Ok().json(VerificationBody::new(&app, &found)))
}

/// List the scopes
///
/// The catalogue: your API's scopes, then keyward's own.
#[utoipa::path(
    operation_id = "listScopes",
    tag = "Verification",
    security(("ApiKeyAuth" = [])),
    responses(
        (status = 200, description = "Every scope there is", body = ScopeListBody),
        (status = "4XX", description = "Refused", body = Problem, content_type = "application/problem+json"),
    ),
)]
#[get("/scopes")]
pub async fn list_scopes(
    app: web::Data<Keyward>,
    _caller: Caller<AnyKey>,
    _req: HttpRequest,
) -> HttpResponse {
    let entries = app.rules().catalogue.entries().iter();
    let data = entries.map(|it| ScopeBody {
        name: it.scope.as_str().to_owned(),
        description: it.description.clone(),
        reserved: it.reserved,
    });
    HttpResponse::Ok().json(ScopeListBody { data: data.collect() })
}
