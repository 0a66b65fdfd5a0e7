//! `/api-keys`

use actix_web::{HttpRequest, HttpResponse, delete, get, post, route, web};

use crate::{
    domain::{
        api_key::KeyStatus,
        id::{AccountId, KeyId},
        list_order::ListOrder,
        scope::Scope,
    },
    http::{
        api::{
            idempotency::{self, Begun, IssuedAnswer},
            key_request::{KeyRequest, find},
            revision::entity_tag,
        },
        authn::{
            AnyKey, Caller, Permission, ReadKeys, ReadOwnKeys, WriteKeys, WriteOwnKeys, permit,
        },
        blocking::{minted, run},
        problem::Problem,
        request::{
            body::RequestBody,
            query::{self, Query},
        },
        respond::{self, List},
        wire::{
            ApiKeyBody, ApiKeyListBody, CreateKeyRequest, KeyFilterQuery, UpdateKeyRequest,
            read_key_patch, read_new_key, unknown_scope,
        },
    },
    service::{
        Creator, Error, Expiry, KeyAccess, KeyFilter, KeyPage, KeyView, Keyward, OPERATOR,
        Principal,
    },
};

/// List API keys
///
/// Returns the keys of the caller's account, the oldest first. With `account`, returns those of another
/// account or of all accounts. Revoked keys and full keys are never included.
#[utoipa::path(
    operation_id = "listApiKeys",
    tag = "API keys",
    security(("ApiKeyAuth" = ["api-keys:read"])),
    params(
        ("account" = Option<String>, Query, description = "The identifier of an account, or `all`. An account other than that of the caller needs `accounts:read`, in place of `api-keys:read`."),
        KeyFilterQuery,
    ),
    responses((status = 200, description = "A page of keys", body = ApiKeyListBody)),
)]
#[get("/api-keys")]
pub async fn list_keys(
    app: web::Data<Keyward>,
    caller: Caller<ReadKeys>,
    req: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let caller = caller.principal;
    let mut query = Query::of(&req);
    if !query.holds("account") {
        permit(&app, &caller, ReadOwnKeys::ANY_OF)?;
    }
    let account = query.take("account", "the identifier of an account, or all", read_account);
    let account = account.unwrap_or(Some(caller.account));
    app.check_key_list(&caller, account)?;
    list(&app, caller, account, (&req, query)).await
}

/// Create an API key
///
/// Returns the new key. Only this answer contains the full key. Store it safely: the server cannot
/// show it again.
#[utoipa::path(
    operation_id = "createApiKey",
    tag = "API keys",
    security(("ApiKeyAuth" = ["api-keys:write"])),
    request_body(content = CreateKeyRequest, example = json!({
        "name": "Production Integration",
        "scopes": ["orders:read", "products:read"],
        "expiresAt": "2099-01-20T00:00:00Z",
    })),
    responses((status = 201, description = "Created", body = ApiKeyBody)),
)]
#[post("/api-keys")]
pub async fn create_key(
    app: web::Data<Keyward>,
    caller: Caller<WriteOwnKeys>,
    req: HttpRequest,
    body: RequestBody,
) -> Result<HttpResponse, Problem> {
    let account = caller.principal.account;
    create(&app, caller.principal, account, &req, body).await
}

/// Show the presented key
///
/// Returns the key that the request presents. Works with any accepted key and needs no scope.
#[utoipa::path(
    operation_id = "getOwnApiKey",
    tag = "API keys",
    security(("ApiKeyAuth" = [])),
    responses((status = 200, description = "The presented key", body = ApiKeyBody)),
)]
#[get("/api-keys/self")]
pub async fn show_self(
    app: web::Data<Keyward>,
    caller: Caller<AnyKey>,
) -> Result<HttpResponse, Problem> {
    let caller = caller.principal;
    let id = caller.key().ok_or(Error::NO_KEY)?;
    let view = run(&app, move |app| app.find_key(&caller, id, KeyAccess::Itself)).await?;
    Ok(shown(&app, &view))
}

/// Show an API key
///
/// Returns all properties of the key except the full key.
#[utoipa::path(
    operation_id = "getApiKey",
    tag = "API keys",
    security(("ApiKeyAuth" = ["api-keys:read", "accounts:read"])),
    responses((status = 200, description = "The key", body = ApiKeyBody)),
)]
#[get("/api-keys/{id}")]
pub async fn show_key(
    app: web::Data<Keyward>,
    caller: Caller<ReadKeys>,
    id: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let view = find(&app, &caller.principal, &id, KeyAccess::Read).await?;
    Ok(shown(&app, &view))
}

/// Change an API key
///
/// Changes the given members. Members that are left out keep their values. An expired key cannot
/// be extended.
#[utoipa::path(
    operation_id = "updateApiKey",
    tag = "API keys",
    security(("ApiKeyAuth" = ["api-keys:write", "accounts:write"])),
    request_body(content = UpdateKeyRequest, example = json!({"name": "Production Integration"})),
    responses((status = 200, description = "The changed key", body = ApiKeyBody)),
)]
#[route("/api-keys/{id}", method = "PUT", method = "PATCH")]
pub async fn update_key(
    app: web::Data<Keyward>,
    caller: Caller<WriteKeys>,
    id: web::Path<String>,
    req: HttpRequest,
    body: RequestBody,
) -> Result<HttpResponse, Problem> {
    let key = KeyRequest { caller: caller.principal, id: &id, access: KeyAccess::Write, req: &req };
    let view = key.find(&app).await?;
    let members = body.members()?;
    let (change, caller) = (key.change(&view)?, key.caller);
    let now = app.env().time.now();
    let lifetimes = app.lifetimes(view.key.account_id);
    let expiry = Expiry { now, caller: &caller, lifetimes, existing: Some(&view.key) };
    let patch =
        read_key_patch(members, app.catalogue(), expiry, &view.key).map_err(Problem::invalid)?;
    let view = run(&app, move |app| app.update_key(&caller, change, patch)).await?;
    Ok(shown(&app, &view))
}

/// Revoke the presented key
///
/// Works with any accepted key and needs no scope. After the answer, no credential of the key is
/// accepted. A revocation cannot be undone.
#[utoipa::path(
    operation_id = "revokeOwnApiKey",
    tag = "API keys",
    security(("ApiKeyAuth" = [])),
    params(("reason" = Option<String>, Query, description = "Why the key is revoked. The event `api_key.revoked` repeats it as `reasonText`.")),
    responses((status = 204, description = "Revoked")),
)]
#[delete("/api-keys/self")]
pub async fn revoke_self(
    app: web::Data<Keyward>,
    caller: Caller<AnyKey>,
    req: HttpRequest,
    body: RequestBody,
) -> Result<HttpResponse, Problem> {
    let (caller, access) = (caller.principal, KeyAccess::Itself);
    revoke(&app, KeyRequest { caller, id: "self", access, req: &req }, body).await
}

/// Revoke an API key
///
/// After the answer, no credential of the key is accepted. A revocation cannot be undone.
#[utoipa::path(
    operation_id = "revokeApiKey",
    tag = "API keys",
    security(("ApiKeyAuth" = ["api-keys:write", "accounts:write"])),
    params(("reason" = Option<String>, Query, description = "Why the key is revoked. The event `api_key.revoked` repeats it as `reasonText`.")),
    responses((status = 204, description = "Revoked")),
)]
#[delete("/api-keys/{id}")]
pub async fn revoke_key(
    app: web::Data<Keyward>,
    caller: Caller<WriteKeys>,
    id: web::Path<String>,
    req: HttpRequest,
    body: RequestBody,
) -> Result<HttpResponse, Problem> {
    let (caller, access) = (caller.principal, KeyAccess::Write);
    revoke(&app, KeyRequest { caller, id: &id, access, req: &req }, body).await
}

async fn revoke(
    app: &web::Data<Keyward>,
    key: KeyRequest<'_>,
    body: RequestBody,
) -> Result<HttpResponse, Problem> {
    let (change, reason) = key.revocation(app, body).await?;
    let caller = key.caller;
    run(app, move |app| app.revoke_key(&caller, change, reason)).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Answers with a page of the keys of an account, or of all accounts for `None`.
pub(super) async fn list(
    app: &web::Data<Keyward>,
    caller: Principal,
    account: Option<AccountId>,
    (req, mut query): (&HttpRequest, Query),
) -> Result<HttpResponse, Problem> {
    let limit = query.limit();
    let order = query.order();
    let expected = "the nextCursor of a page in the same order";
    let after = query.take("cursor", expected, |it| query::key_cursor(it, order));
    let counts = query.flag("total");
    let filter = KeyFilter { account, ..read_filter(&mut query) };
    if let Some(scope) = filter.scope.clone() {
        let reader = caller.clone();
        let wanted = scope.clone();
        if !run(app, move |app| app.knows_scope(&reader, &wanted)).await? {
            let detail = unknown_scope(app.catalogue(), scope.as_str());
            query.fault("scope", "unknown_scope", detail);
        }
    }
    query.finish()?;
    let asker = caller.clone();
    let total = if counts {
        let (caller, filter) = (caller.clone(), filter.clone());
        Some(run(app, move |app| app.count_keys(&caller, &filter)).await?)
    } else {
        None
    };
    let read = move |app: &Keyward, last: Option<&KeyView>, limit| {
        let after = last.map_or(after, |it| Some((it.key.created_at, it.key.id)));
        app.list_keys(&caller, &filter, KeyPage { order, after, limit })
    };
    let show = |app: &Keyward, it: &KeyView| ApiKeyBody::new(app, it, None);
    let cursor: fn(&KeyView) -> String = match order {
        ListOrder::Ascending => |it| query::cursor(it.key.created_at, it.key.id.as_raw()),
        ListOrder::Descending => {
            |it| query::descending_cursor(it.key.created_at, it.key.id.as_raw())
        }
    };
    respond::page(app, &asker, req, List { limit, read, show, cursor, total }).await
}

/// Reads the account of a list; `Some(None)` for all accounts.
pub(super) fn read_account(text: &str) -> Option<Option<AccountId>> {
    if text == "all" { Some(None) } else { AccountId::parse(text).ok().map(Some) }
}

fn read_filter(query: &mut Query) -> KeyFilter {
    let statuses = "one of active, expiring, expired, disabled";
    let creators = "the identifier of a key, or operator";
    KeyFilter {
        account: None,
        status: query.take("status", statuses, KeyStatus::parse),
        scope: query.take("scope", "a scope like orders:read", |it| Scope::parse(it).ok()),
        unused_since: query.instant("unusedSince"),
        unused_scopes: query.optional_flag("unusedScopes"),
        expiring_before: query.instant("expiringBefore"),
        text: query.text("q"),
        created_by: query.take("createdBy", creators, |it| match it {
            OPERATOR => Some(Creator::Operator),
            it => KeyId::parse(it).ok().map(Creator::Key),
        }),
        creator_account: None,
    }
}

pub(super) async fn create(
    app: &web::Data<Keyward>,
    caller: Principal,
    account: AccountId,
    req: &HttpRequest,
    body: RequestBody,
) -> Result<HttpResponse, Problem> {
    let first = match idempotency::begin(app, &caller, KeyAccess::Write, req, &body).await? {
        Begun::Answered(response) => return Ok(response),
        Begun::First(first) => first,
    };
    let members = body.members()?;
    let now = app.env().time.now();
    let lifetimes = app.lifetimes(account);
    let expiry = Expiry { now, caller: &caller, lifetimes, existing: None };
    let new = read_new_key(members, app.catalogue(), expiry).map_err(Problem::invalid)?;
    let (permit, new) =
        run(app, move |app| Ok((app.permit_new_key(&caller, account, &new)?, new))).await?;
    let minted = minted(app).await?;
    let permit = permit.keeping(idempotency::keeper(app, first, IssuedAnswer::created_key));
    let issued = run(app, move |app| app.create_key(permit, account, new, minted)).await?;
    let answer = IssuedAnswer::created_key(app, &issued.view, &issued.plaintext, None);
    Ok(answer.into_response())
}

pub(super) fn shown(app: &Keyward, view: &KeyView) -> HttpResponse {
    HttpResponse::Ok()
        .insert_header(entity_tag(view.key.revision))
        .json(ApiKeyBody::new(app, view, None))
}
