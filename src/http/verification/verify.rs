//! `/api-keys/verify` and `/scopes`: what a gateway asks.

use actix_web::{
    HttpRequest, HttpResponse,
    http::header::{self, HeaderValue},
    post, web,
};

use crate::{
    domain::{
        event::{Actor, EventSource},
        policy::RequiredScopes,
        verdict::Verdict,
    },
    http::{
        authn::{
            DeniedCaller, Permission, VerifyKeys, identified, presented_key, recognise,
            record_retired_use, unambiguous, without_key,
        },
        problem::Problem,
        request::{
            body::RequestBody,
            id::{REQUEST_ID, RequestId, request_id},
        },
        verification::state::VerificationState,
        wire::{
            VerificationBody, VerifyKeyRequest, VerifyQuestion, read_plain_question, read_question,
        },
    },
    service::{DeniedCall, Error, Keyward},
    telemetry::{EntryPoint, Outcome},
};

/// Room for nearly every answer.
const ANSWER_LEN: usize = 512;

/// Verify an API key
///
/// Returns whether the key is accepted now and grants the given scopes. The status is 200 for every
/// outcome: read `valid`. Nothing is read from disk. A key is refused as soon as its revocation was
/// answered.
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
    ),
)]
#[post("/api/v1/api-keys/verify")]
pub async fn verify_key(
    gate: web::Data<VerificationState>,
    req: HttpRequest,
    payload: web::Payload,
) -> HttpResponse {
    // An answer that leaves the body unread costs the connection, so it is read first.
    let (body, unread) = RequestBody::collect(&req, payload.into_inner()).await;
    let id = gate.ids.identify(req.headers().get(&REQUEST_ID));
    let mut response = match gate.verify(&req, &id, body).await {
        Ok(answer) => {
            let json = HeaderValue::from_static("application/json");
            HttpResponse::Ok().insert_header((header::CONTENT_TYPE, json)).body(answer)
        }
        Err(problem) => problem.respond(&id.to_string()),
    };
    let nosniff = HeaderValue::from_static("nosniff");
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, nosniff);
    VerificationState::finish(&req, unread, response, &id)
}

impl VerificationState {
    async fn verify(
        &self,
        req: &HttpRequest,
        id: &RequestId,
        body: RequestBody,
    ) -> Result<Vec<u8>, Problem> {
        let started = self.app.env().time.monotonic();
        self.admit_caller(req, id).await?;
        let (verdict, answer) = answer(&self.app, id, body).await?;
        let took = self.app.env().time.monotonic().since(started);
        self.metrics.count_verification(EntryPoint::Api, Outcome::Judged(verdict), took);
        Ok(answer)
    }

    /// As the middleware of the other operations does, and the shorter way for a gateway whose key
    /// has been proved.
    async fn admit_caller(&self, req: &HttpRequest, id: &RequestId) -> Result<(), Problem> {
        let presented = presented_key(&self.app, req.headers());
        let at_once =
            presented.is_some_and(|it| self.app.admits_from_memory(it, VerifyKeys::ANY_OF));
        let outcome = if at_once {
            unambiguous(&self.app, req)
        } else {
            self.examine_caller(presented, req, id).await
        };
        if let Err(problem) = outcome.as_ref()
            && problem.is_denial()
        {
            let suspect = presented.map(|it| DeniedCaller::of(&self.app, it)).unwrap_or_default();
            let (DeniedCaller { prefix, key }, reason) = (suspect, problem.code());
            let address = self.proxies.client_address(req);
            self.app.note_denial(DeniedCall { reason, prefix, key, address });
        }
        outcome
    }

    async fn examine_caller(
        &self,
        presented: Option<&[u8]>,
        req: &HttpRequest,
        id: &RequestId,
    ) -> Result<(), Problem> {
        let text = presented.ok_or_else(|| without_key(req.query_string()))?;
        let request_id = Some(id.clone().into());
        let client_ip = self.proxies.client_address(req);
        let source = EventSource { actor: Actor::Cli, request_id, client_ip };
        let caller = recognise(&self.app, text, source).await?;
        unambiguous(&self.app, req)?;
        if !self.app.permits(caller.powers, VerifyKeys::ANY_OF) {
            return Err(Error::MissingScope(VerifyKeys::ANY_OF).into());
        }
        Ok(())
    }
}

/// The same for the control socket.
pub async fn verify_for_operator(
    app: web::Data<Keyward>,
    req: HttpRequest,
    body: RequestBody,
) -> Result<HttpResponse, Problem> {
    let (_, answer) = answer(&app, &request_id(&req), body).await?;
    Ok(HttpResponse::Ok().content_type("application/json").body(answer))
}

/// The verdict, and the body that tells it.
async fn answer(
    app: &web::Data<Keyward>,
    id: &RequestId,
    body: RequestBody,
) -> Result<(Verdict, Vec<u8>), Problem> {
    let catalogue = app.catalogue();
    let plain = body.json_bytes().and_then(|it| read_plain_question(it, catalogue));
    let VerifyQuestion { key, wanted, client_ip } = match plain {
        Some(question) => question,
        None => read_question(body.members()?, catalogue).map_err(Problem::invalid)?,
    };
    let identity = identified(app, key.as_bytes()).await?;
    let found = app.judge(&identity, RequiredScopes::all(wanted));
    if found.verdict == Verdict::Rotated {
        let request_id = Some(id.clone().into());
        record_retired_use(app, &found, &EventSource { actor: Actor::Cli, request_id, client_ip });
    }
    let mut answer = Vec::with_capacity(ANSWER_LEN);
    let written = serde_json::to_writer(&mut answer, &VerificationBody::new(app, &found));
    answer.push(b'\n');
    written.map(|()| (found.verdict, answer)).map_err(|_| Problem::internal())
}
