//! `/api-keys/{id}/usage`: how often a key is used.

use actix_web::{HttpRequest, HttpResponse, get, web};

use crate::{
    http::{
        api::key_request::find,
        authn::{Caller, ReadKeys},
        blocking::run,
        problem::Problem,
        request::query::Query,
        wire::UsageBody,
    },
    service::{KeyAccess, Keyward},
};

const USUAL_DAYS: u32 = 30;

/// Show the usage of an API key
///
/// Returns how often the key was accepted and how often it was refused, by day (UTC), today last.
/// Counts are stored every few seconds, so a crash can lose the most recent ones.
#[utoipa::path(
    operation_id = "getApiKeyUsage",
    tag = "API keys",
    security(("ApiKeyAuth" = ["api-keys:read", "accounts:read"])),
    params(("days" = Option<u32>, Query, description = "The number of days. Defaults to 30.", minimum = 1, maximum = 366)),
    responses((status = 200, description = "The counts of each day", body = UsageBody)),
)]
#[get("/api-keys/{id}/usage")]
pub async fn show_usage(
    app: web::Data<Keyward>,
    caller: Caller<ReadKeys>,
    id: web::Path<String>,
    req: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let view = find(&app, &caller.principal, &id, KeyAccess::Read).await?;
    let mut query = Query::of(&req);
    let expected = format!("a whole number from 1 to {}", Keyward::MOST_DAYS);
    let days = query.take("days", &expected, |it| {
        let plain = it.bytes().all(|b| b.is_ascii_digit());
        it.parse().ok().filter(|n| plain && (1..=Keyward::MOST_DAYS).contains(n))
    });
    query.finish()?;
    let (caller, id) = (caller.principal, view.key.id);
    let days = days.unwrap_or(USUAL_DAYS);
    let usage = run(&app, move |app| app.usage_of(&caller, id, days)).await?;
    Ok(HttpResponse::Ok().json(UsageBody::from(usage)))
}
