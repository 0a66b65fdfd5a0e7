//! `/accounts/{id}/console-links`: for the operator, who sends a link to the holder of an account.

use actix_web::{HttpRequest, HttpResponse, post, web};

use crate::{
    http::{
        api::{
            accounts,
            idempotency::{self, Begun, IssuedAnswer},
        },
        authn::{Caller, WriteAccounts},
        blocking::{minted, run},
        problem::Problem,
        request::{body::RequestBody, client_address::TrustedProxies, own_address::OwnAddress},
        wire::{ConsoleLinkBody, CreateConsoleLinkRequest, read_console_link},
    },
    service::{KeyAccess, KeyView, Keyward},
};

/// Create a link to the console
///
/// Returns an address of the console whose fragment holds a new key of the account. The key expires soon.
/// The page rotates it at once, so that the link works for one browser. With the link, the holder of the
/// account manages its keys and needs nothing else. Only this answer contains the link.
#[utoipa::path(
    operation_id = "createConsoleLink",
    tag = "Accounts",
    security(("ApiKeyAuth" = ["accounts:write"])),
    request_body(content = Option<CreateConsoleLinkRequest>, example = json!({"expiresIn": 900})),
    responses((status = 201, description = "Created", body = ConsoleLinkBody)),
)]
#[post("/accounts/{id}/console-links")]
pub async fn create_console_link(
    app: web::Data<Keyward>,
    caller: Caller<WriteAccounts>,
    id: web::Path<String>,
    req: HttpRequest,
    body: RequestBody,
) -> Result<HttpResponse, Problem> {
    let caller = caller.principal;
    let account = accounts::find(&app, &caller, &id).await?.id;
    let first = match idempotency::begin(&app, &caller, KeyAccess::Write, &req, &body).await? {
        Begun::Answered(response) => return Ok(response),
        Begun::First(first) => first,
    };
    let members = body.optional_members()?;
    let draft = read_console_link(members, app.catalogue()).map_err(Problem::invalid)?;
    let server = server(&req)?;
    let permit =
        move |app: &Keyward| Ok((app.permit_console_link(&caller, account, &draft)?, draft));
    let (permit, draft) = run(&app, permit).await?;
    let minted = minted(&app).await?;
    let answer = move |app: &Keyward, view: &KeyView, plaintext: &_, _: Option<&_>| {
        let link = ConsoleLinkBody::new(app, &server, view, plaintext);
        IssuedAnswer::created_link(view, &link)
    };
    let permit = permit.keeping(idempotency::keeper(&app, first, answer.clone()));
    let issued =
        run(&app, move |app| app.create_console_link(permit, account, draft, minted)).await?;
    Ok(answer(&app, &issued.view, &issued.plaintext, None).into_response())
}

/// Returns the URL of this server, for links.
fn server(req: &HttpRequest) -> Result<String, Problem> {
    let address = req.app_data::<web::Data<OwnAddress>>();
    let proxies = req.app_data::<web::Data<TrustedProxies>>();
    let (address, proxies) = address.zip(proxies).ok_or_else(Problem::internal)?;
    Ok(address.of_request(req, proxies))
}
