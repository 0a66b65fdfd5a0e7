//! `/accounts`: for the operator.

use actix_web::{HttpRequest, HttpResponse, delete, get, post, route, web};

use crate::{
    domain::{
        account::{Account, AccountStatus},
        id::AccountId,
        text::ExternalId,
    },
    http::{
        api::{
            idempotency::{self, Begun, IssuedAnswer},
            keys,
            revision::{entity_tag, expected_revision},
        },
        authn::{AnyKey, Caller, ReadAccounts, WriteAccounts},
        blocking::{minted, run},
        problem::Problem,
        request::{
            body::RequestBody,
            query::{self, Query},
        },
        respond::{self, List},
        wire::{
            AccountBody, AccountListBody, AccountStatusBody, ApiKeyBody, ApiKeyListBody,
            CreateAccountRequest, CreateKeyRequest, KeyFilterQuery, UpdateAccountRequest,
            read_account_draft, read_account_patch,
        },
    },
    service::{AccountFilter, AccountPage, Error, KeyAccess, Keyward, Principal},
};

/// List accounts
///
/// Returns all accounts, the oldest first.
#[utoipa::path(
    operation_id = "listAccounts",
    tag = "Accounts",
    security(("ApiKeyAuth" = ["accounts:read"])),
    params(
        ("externalId" = Option<String>, Query, description = "Return only the account with this `externalId`."),
        ("q" = Option<String>, Query, description = "Return only accounts with this text in their name or `externalId`, or whose `id` starts with it."),
        ("status" = Option<AccountStatusBody>, Query, description = "Filter by status."),
    ),
    responses((status = 200, description = "A page of accounts", body = AccountListBody)),
)]
#[get("/accounts")]
pub async fn list_accounts(
    app: web::Data<Keyward>,
    caller: Caller<ReadAccounts>,
    req: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let mut query = Query::of(&req);
    let limit = query.limit();
    let after = query.take("cursor", "the nextCursor of a page", query::account_cursor);
    let external_id = query
        .take("externalId", "1 to 255 visible ASCII characters", |it| ExternalId::parse(it).ok());
    let status = query.take("status", "active or suspended", AccountStatus::parse);
    let filter = AccountFilter { status, text: query.text("q") };
    query.finish()?;
    let read = move |app: &Keyward, last: Option<&Account>, limit| match &external_id {
        Some(id) if last.is_none() => {
            let found = app.account_with_external_id(id)?;
            let matches = |it: &Account| {
                filter.text.as_ref().is_none_or(|text| it.has_text(text))
                    && filter.status.is_none_or(|status| it.status == status)
            };
            Ok(found.filter(matches).into_iter().collect())
        }
        Some(_) => Ok(Vec::new()),
        None => {
            let after = last.map_or(after, |it| Some((it.created_at, it.id)));
            app.list_accounts(AccountPage { after, limit }, &filter)
        }
    };
    let show = |app: &Keyward, it: &Account| AccountBody::new(app, it, None);
    let cursor = |it: &Account| query::cursor(it.created_at, it.id.as_raw());
    respond::page(&app, &caller.principal, &req, List { limit, read, show, cursor, total: None })
        .await
}

/// Create an account
///
/// Returns the account and, in `apiKey`, its first key. That key manages the account's keys and can
/// grant every scope that the account allows. Only this answer contains the full key.
#[utoipa::path(
    operation_id = "createAccount",
    tag = "Accounts",
    security(("ApiKeyAuth" = ["accounts:write"])),
    request_body(content = CreateAccountRequest, example = json!({"name": "Acme Corp"})),
    responses((status = 201, description = "Created", body = AccountBody)),
)]
#[post("/accounts")]
pub async fn create_account(
    app: web::Data<Keyward>,
    caller: Caller<WriteAccounts>,
    req: HttpRequest,
    body: RequestBody,
) -> Result<HttpResponse, Problem> {
    let caller = caller.principal;
    let first = match idempotency::begin(&app, &caller, KeyAccess::Write, &req, &body).await? {
        Begun::Answered(response) => return Ok(response),
        Begun::First(first) => first,
    };
    let members = body.members()?;
    let draft = read_account_draft(members, app.catalogue()).map_err(Problem::invalid)?;
    let permit = move |app: &Keyward| Ok((app.permit_new_account(&caller, &draft)?, draft));
    let (permit, draft) = run(&app, permit).await?;
    let minted = minted(&app).await?;
    let permit = permit.keeping(idempotency::keeper(&app, first, IssuedAnswer::created_account));
    let new = run(&app, move |app| app.create_account(permit, draft, minted)).await?;
    let (key, account) = (&new.first_key, Some(&new.account));
    let answer = IssuedAnswer::created_account(&app, &key.view, &key.plaintext, account);
    Ok(answer.into_response())
}

/// Show the account of the presented key
///
/// Returns the account of the presented key, with its key limit and the scopes that it can grant.
/// Works with any accepted key and needs no scope.
#[utoipa::path(
    operation_id = "getOwnAccount",
    tag = "Accounts",
    security(("ApiKeyAuth" = [])),
    responses((status = 200, description = "The account", body = AccountBody)),
)]
#[get("/accounts/self")]
pub async fn show_own_account(
    app: web::Data<Keyward>,
    caller: Caller<AnyKey>,
) -> Result<HttpResponse, Problem> {
    let account = find(&app, &caller.principal, "self").await?;
    Ok(shown(&app, &account))
}

/// Show an account
///
/// Returns the settings of an account. Its keys are at `/api/v1/accounts/{id}/api-keys`.
#[utoipa::path(
    operation_id = "getAccount",
    tag = "Accounts",
    security(("ApiKeyAuth" = ["accounts:read"])),
    responses((status = 200, description = "The account", body = AccountBody)),
)]
#[get("/accounts/{id}")]
pub async fn show_account(
    app: web::Data<Keyward>,
    caller: Caller<ReadAccounts>,
    id: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let account = find(&app, &caller.principal, &id).await?;
    Ok(shown(&app, &account))
}

/// Change an account
///
/// Changes the given members. Members that are left out keep their values. Suspending an account
/// stops all its keys at once.
#[utoipa::path(
    operation_id = "updateAccount",
    tag = "Accounts",
    security(("ApiKeyAuth" = ["accounts:write"])),
    request_body(content = UpdateAccountRequest, example = json!({"name": "Operator"})),
    responses((status = 200, description = "The changed account", body = AccountBody)),
)]
#[route("/accounts/{id}", method = "PUT", method = "PATCH")]
pub async fn update_account(
    app: web::Data<Keyward>,
    caller: Caller<WriteAccounts>,
    id: web::Path<String>,
    req: HttpRequest,
    body: RequestBody,
) -> Result<HttpResponse, Problem> {
    let caller = caller.principal;
    let account = find(&app, &caller, &id).await?;
    let members = body.members()?;
    let expected = expected_revision(&req, account.revision)?;
    let patch = read_account_patch(members, app.catalogue(), account.allowed_scopes.as_ref())
        .map_err(Problem::invalid)?;
    let account =
        run(&app, move |app| app.update_account(&caller, account.id, expected, patch)).await?;
    Ok(shown(&app, &account))
}

/// Delete an account
///
/// Revokes all keys of the account in the same transaction. Afterwards, another account can use its
/// `externalId`.
#[utoipa::path(
    operation_id = "deleteAccount",
    tag = "Accounts",
    security(("ApiKeyAuth" = ["accounts:write"])),
    params(("reason" = Option<String>, Query, description = "Why the account is deleted. The event `account.deleted` repeats it as `reasonText`.")),
    responses((status = 204, description = "Deleted")),
)]
#[delete("/accounts/{id}")]
pub async fn delete_account(
    app: web::Data<Keyward>,
    caller: Caller<WriteAccounts>,
    id: web::Path<String>,
    req: HttpRequest,
    body: RequestBody,
) -> Result<HttpResponse, Problem> {
    let account = find(&app, &caller.principal, &id).await?;
    let mut members = body.none()?;
    let expected = expected_revision(&req, account.revision)?;
    let (reason, faults) = query::reason(&req);
    members.faults.extend(faults);
    let reason = members.finish(Some(reason)).map_err(Problem::invalid)?;
    let caller = caller.principal;
    run(&app, move |app| app.delete_account(&caller, account.id, expected, reason)).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// List the API keys of an account
///
/// Returns the keys of one account, with the same filters as `GET /api/v1/api-keys`.
#[utoipa::path(
    operation_id = "listAccountApiKeys",
    tag = "Accounts",
    security(("ApiKeyAuth" = ["accounts:read"])),
    params(KeyFilterQuery),
    responses((status = 200, description = "A page of keys", body = ApiKeyListBody)),
)]
#[get("/accounts/{id}/api-keys")]
pub async fn list_account_keys(
    app: web::Data<Keyward>,
    caller: Caller<ReadAccounts>,
    id: web::Path<String>,
    req: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let account = find(&app, &caller.principal, &id).await?;
    keys::list(&app, caller.principal, Some(account.id), (&req, Query::of(&req))).await
}

/// Create an API key in an account
///
/// Returns the new key with its full key. It can have the scopes that the account allows, and the
/// scopes that every account can hold.
#[utoipa::path(
    operation_id = "createAccountApiKey",
    tag = "Accounts",
    security(("ApiKeyAuth" = ["accounts:write"])),
    request_body(content = CreateKeyRequest, example = json!({
        "name": "Production Integration",
        "scopes": ["orders:read"],
    })),
    responses((status = 201, description = "Created", body = ApiKeyBody)),
)]
#[post("/accounts/{id}/api-keys")]
pub async fn create_account_key(
    app: web::Data<Keyward>,
    caller: Caller<WriteAccounts>,
    id: web::Path<String>,
    req: HttpRequest,
    body: RequestBody,
) -> Result<HttpResponse, Problem> {
    let account = find(&app, &caller.principal, &id).await?;
    keys::create(&app, caller.principal, account.id, &req, body).await
}

pub(super) async fn find(
    app: &web::Data<Keyward>,
    caller: &Principal,
    text: &str,
) -> Result<Account, Problem> {
    let id = match text {
        "self" => caller.account,
        text => AccountId::parse(text).map_err(|_| Error::NO_ACCOUNT)?,
    };
    run(app, move |app| app.find_account(id)).await
}

fn shown(app: &Keyward, account: &Account) -> HttpResponse {
    HttpResponse::Ok()
        .insert_header(entity_tag(account.revision))
        .json(AccountBody::new(app, account, None))
}
