//! How often keys are used (`/api-keys/{id}/usage`, `/accounts/{id}/usage`), and from where
//! (`/api-keys/{id}/addresses`).

use actix_web::{HttpRequest, HttpResponse, get, web};

use crate::{
    domain::id::AccountId,
    http::{
        api::{accounts, key_request::find},
        authn::{Caller, ReadAccounts, ReadKeys},
        blocking::run,
        problem::Problem,
        request::query::Query,
        wire::{KeyAddressesBody, UsageBody},
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
    let days = read_days(&req)?;
    let (caller, id) = (caller.principal, view.key.id);
    let usage = run(&app, move |app| app.usage_of(&caller, id, days)).await?;
    Ok(HttpResponse::Ok().json(UsageBody::from(usage)))
}

/// Show from where an API key is used
///
/// Returns the last five addresses of the clients that used the key: those of `clientIp` in requests to
/// verify, and those of the clients of forward auth and of this API. The list is empty if the server
/// stores no addresses.
#[utoipa::path(
    operation_id = "getApiKeyAddresses",
    tag = "API keys",
    security(("ApiKeyAuth" = ["api-keys:read", "accounts:read"])),
    responses((status = 200, description = "The addresses", body = KeyAddressesBody)),
)]
#[get("/api-keys/{id}/addresses")]
pub async fn show_addresses(
    app: web::Data<Keyward>,
    caller: Caller<ReadKeys>,
    id: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let view = find(&app, &caller.principal, &id, KeyAccess::Read).await?;
    let (caller, id) = (caller.principal, view.key.id);
    let addresses = run(&app, move |app| app.addresses_of(&caller, id)).await?;
    Ok(HttpResponse::Ok().json(KeyAddressesBody::from(addresses)))
}

/// Show the usage of the account of the presented key
///
/// Returns the sums of the counts of all keys of the account, by day (UTC), today last. Revoked keys
/// count until they are purged.
#[utoipa::path(
    operation_id = "getOwnAccountUsage",
    tag = "Accounts",
    security(("ApiKeyAuth" = ["api-keys:read", "accounts:read"])),
    params(("days" = Option<u32>, Query, description = "The number of days. Defaults to 30.", minimum = 1, maximum = 366)),
    responses((status = 200, description = "The counts of each day", body = UsageBody)),
)]
#[get("/accounts/self/usage")]
pub async fn show_own_account_usage(
    app: web::Data<Keyward>,
    caller: Caller<ReadKeys>,
    req: HttpRequest,
) -> Result<HttpResponse, Problem> {
    of_account(&app, caller.principal.account, &req).await
}

/// Show the usage of an account
///
/// Returns the sums of the counts of all keys of the account, by day (UTC), today last. Revoked keys
/// count until they are purged.
#[utoipa::path(
    operation_id = "getAccountUsage",
    tag = "Accounts",
    security(("ApiKeyAuth" = ["accounts:read"])),
    params(("days" = Option<u32>, Query, description = "The number of days. Defaults to 30.", minimum = 1, maximum = 366)),
    responses((status = 200, description = "The counts of each day", body = UsageBody)),
)]
#[get("/accounts/{id}/usage")]
pub async fn show_account_usage(
    app: web::Data<Keyward>,
    caller: Caller<ReadAccounts>,
    id: web::Path<String>,
    req: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let account = accounts::find(&app, &caller.principal, &id).await?;
    of_account(&app, account.id, &req).await
}

async fn of_account(
    app: &web::Data<Keyward>,
    account: AccountId,
    req: &HttpRequest,
) -> Result<HttpResponse, Problem> {
    let days = read_days(req)?;
    let usage = run(app, move |app| app.usage_of_account(account, days)).await?;
    Ok(HttpResponse::Ok().json(UsageBody::from(usage)))
}

fn read_days(req: &HttpRequest) -> Result<u32, Problem> {
    let mut query = Query::of(req);
    let expected = format!("a whole number from 1 to {}", Keyward::MOST_DAYS);
    let days = query.take("days", &expected, |it| {
        let plain = it.bytes().all(|b| b.is_ascii_digit());
        it.parse().ok().filter(|n| plain && (1..=Keyward::MOST_DAYS).contains(n))
    });
    query.finish()?;
    Ok(days.unwrap_or(USUAL_DAYS))
}
