//! `/leaked-keys`: a report revokes the keys that it presents.

use actix_web::{HttpRequest, HttpResponse, post, web};

use crate::{
    domain::event::RequestContext,
    http::{
        authn::identified,
        blocking::run,
        problem::Problem,
        request::{body::RequestBody, client_address::TrustedProxies, id::request_id},
        wire::{LeakReport, LeakReportBody, ReportLeakedKeysRequest, read_leak_report},
    },
    service::{Keyward, LeakEffects},
    telemetry::Metrics,
};

/// Report leaked keys
///
/// Revokes the keys in the report; to present a full key is proof enough, so this needs no caller.
/// After the answer, none of them is accepted. A credential that rotation has replaced ends alone:
/// its grace period is over, and the key stays. The last root key stays, too. The answer is the same
/// for known and unknown keys. The number of reports is limited.
#[utoipa::path(
    operation_id = "reportLeakedKeys",
    tag = "API keys",
    security(()),
    request_body(content = ReportLeakedKeysRequest, example = json!({
        "keys": ["rg_8fK2mQ9zTabcdefghijklmnopqrstuvwxyz0123453bAXzK"],
        "location": "https://git.example/acme/shop/commit/1f0c",
    })),
    responses((status = 200, description = "Received", body = LeakReportBody)),
)]
#[post("/api/v1/leaked-keys")]
pub async fn report_leaked_keys(
    app: web::Data<Keyward>,
    proxies: web::Data<TrustedProxies>,
    metrics: web::Data<Metrics>,
    req: HttpRequest,
    body: RequestBody,
) -> Result<HttpResponse, Problem> {
    let report = read_leak_report(body.members()?).map_err(Problem::invalid)?;
    let LeakReport { keys, location } = report;
    let client_ip = proxies.client_address(&req);
    app.permit_leak_report(client_ip, keys.len())?;
    let mut presented = Vec::with_capacity(keys.len());
    for key in &keys {
        // One after the other: a report never holds more than one thread of the derivations.
        presented.push(identified(&app, key.as_bytes()).await?);
    }
    let context = RequestContext { request_id: Some(request_id(&req).into()), client_ip };
    let effects =
        run(&app, move |app| app.end_leaked(&presented, location.as_ref(), &context)).await?;
    count(&metrics, effects);
    Ok(HttpResponse::Ok().json(LeakReportBody { received: keys.len() }))
}

fn count(metrics: &Metrics, LeakEffects { revoked, grace_ended, kept }: LeakEffects) {
    metrics.count_leaked_keys("revoked", revoked);
    metrics.count_leaked_keys("grace_ended", grace_ended);
    metrics.count_leaked_keys("kept", kept);
}
