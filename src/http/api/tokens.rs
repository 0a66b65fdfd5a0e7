//! `/token`: exchanges an API key for a token.

use actix_web::{HttpRequest, HttpResponse, post, web};

use crate::{
    domain::{event::RequestContext, verdict::Verdict},
    http::{
        authn::{DeniedCaller, PresentedKey, identified, judged_identity, without_key},
        blocking::run,
        problem::{Problem, TokenErrorBody},
        rate_fields::RateFields,
        request::{body::RequestBody, client_address::TrustedProxies, id::request_id},
        wire::{TokenBody, TokenExchangeRequest, TokenRequest, read_token_request},
    },
    service::{Error, Keyward, Question, TokenTerms, Verification},
    telemetry::Metrics,
};

/// Exchange an API key for a token
///
/// Returns a token that a gateway verifies on its own: a JSON Web Token, signed with a key of
/// `/.well-known/jwks.json`. It never says more than the API key and never outlives it, and
/// `/token-status/1` tells which tokens are revoked. The exchange is a use of the key: it counts for its
/// rate limits. The operator must allow it for the account of the key (`tokenExchange`), and set
/// `public_url`.
#[utoipa::path(
    operation_id = "exchangeToken",
    tag = "Tokens",
    security((), ("ApiKeyAuth" = [])),
    request_body(
        content = TokenExchangeRequest,
        content_type = "application/x-www-form-urlencoded",
        example = json!({
            "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
            "requested_token_type": "urn:ietf:params:oauth:token-type:access_token",
        }),
    ),
    responses(
        (status = 200, description = "The token", body = TokenBody),
        (status = "4XX", description = "The request or its key is refused. `error` and `code` say why.", body = TokenErrorBody<'_>),
        (
            status = "5XX",
            description = "The server cannot answer now.",
            body = TokenErrorBody<'_>,
            example = json!({
                "error": "temporarily_unavailable",
                "error_description": "the service is busy",
                "code": "unavailable",
                "requestId": "req_4fLq0N2vT8xYb7Jm00000001",
            }),
        ),
    ),
)]
#[post("/api/v1/token")]
pub async fn exchange_token(
    app: web::Data<Keyward>,
    proxies: web::Data<TrustedProxies>,
    metrics: web::Data<Metrics>,
    req: HttpRequest,
    body: RequestBody,
) -> HttpResponse {
    let outcome = exchange(&app, &proxies, &req, &body).await;
    if let Err(problem) = &outcome
        && problem.is_denial()
    {
        denied_caller(&app, &req, &body).record(&app, problem, proxies.client_address(&req));
    }
    metrics.count_exchange(outcome.as_ref().map_or_else(Problem::code, |_| "issued"), 1);
    outcome.unwrap_or_else(|problem| problem.respond_to_exchange(request_id(&req).as_str()))
}

async fn exchange(
    app: &web::Data<Keyward>,
    proxies: &TrustedProxies,
    req: &HttpRequest,
    body: &RequestBody,
) -> Result<HttpResponse, Problem> {
    let refused = |(code, detail)| Problem::bad_request(code, detail);
    let request = read_token_request(body.form()?)?;
    let mut presented = PresentedKey::in_request(app, req.headers());
    if let Some(key) = &request.key {
        presented = presented.with_key(key.as_bytes()).map_err(refused)?;
    }
    if let Some(ambiguity) = presented.ambiguity(app, req.query_string()) {
        return Err(refused(ambiguity));
    }
    let text = presented.text.ok_or_else(|| without_key(req.query_string()))?;
    let TokenRequest { scope, audiences, .. } = &request;
    let identity = identified(app, text).await?;
    let terms = app.token_terms(scope.as_deref(), audiences.clone());
    let terms = app.refuse_exchange(&identity).and(terms);
    let terms = terms.and_then(|it| app.refuse_empty_token(&identity, &it).map(|()| it));
    let context = RequestContext {
        request_id: Some(request_id(req).into()),
        client_ip: proxies.client_address(req),
    };
    let client_ip = &|| context.client_ip;
    let required = terms.as_ref().map(TokenTerms::required).unwrap_or_default();
    // A request that is refused anyway is no use of the key.
    let question = Question { required, client_ip, cost: 1, is_ambiguous: terms.is_err() };
    let found = judged_identity(app, &identity, question, || context.clone());
    if let Some(refusal) = refusal(app, &found) {
        return Err(refusal.into());
    }
    let terms = terms?;
    let fields = RateFields::new(&found.rates, || app.env().time.now());
    let ip = context.client_ip;
    let issued = run(app, move |app| app.issue_token(&found, &terms, ip)).await?;
    let mut response = HttpResponse::Ok();
    if let Some(fields) = fields {
        fields.append_to(&mut response);
    }
    Ok(response.json(TokenBody::new(&request, issued)))
}

/// Reads the key of a request that was refused because of it.
fn denied_caller(app: &Keyward, req: &HttpRequest, body: &RequestBody) -> DeniedCaller {
    let request = body.form().and_then(|it| read_token_request(it)).ok();
    let key = request.as_ref().and_then(|it| it.key.as_ref());
    match key {
        Some(key) => DeniedCaller::of_key(app, key.as_bytes()),
        None => DeniedCaller::in_request(app, req.headers()),
    }
}

/// Returns why a key is refused; `None` if it is not.
fn refusal(app: &Keyward, found: &Verification) -> Option<Error> {
    if found.verdict == Verdict::Valid {
        return None;
    }
    Some(if found.verdict == Verdict::InsufficientScopes {
        Error::LacksScopes(app.catalogue().names(found.missing).map(str::to_owned).collect())
    } else if found.verdict == Verdict::RateLimited {
        Error::RateLimited(Box::new(found.rates), app.env().time.now())
    } else {
        Error::of_caller(found.verdict)
    })
}
