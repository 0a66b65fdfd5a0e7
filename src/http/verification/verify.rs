//! `/api-keys/verify`, which gateways call.

use actix_web::{
    HttpRequest, HttpResponse,
    http::header::{self, HeaderValue},
    post, web,
};

use crate::{
    domain::{event::RequestContext, verdict::Verdict},
    http::{
        authn::{DeniedCaller, Permission, PresentedKey, VerifyKeys, caller, judged},
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
    service::{Keyward, Question},
    telemetry::{EntryPoint, Outcome},
};

/// The length of nearly every answer is less, in bytes.
const ANSWER_LEN: usize = 512;

/// Verify an API key
///
/// Returns whether the key is accepted now and grants the required scopes. The status is 200 for
/// every outcome: read `valid`. Verification reads nothing from disk. Once the server has answered a
/// revocation, it refuses the key.
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
    state: web::Data<VerificationState>,
    req: HttpRequest,
    payload: web::Payload,
) -> HttpResponse {
    // Read first: an answer that leaves the body unread ends the connection.
    let (body, unread) = RequestBody::collect(&req, payload.into_inner()).await;
    let id = state.ids.identify(req.headers().get(&REQUEST_ID));
    let mut response = match state.verify(&req, &id, body).await {
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

    /// Does what the middleware does for the other operations, with a fast path for a gateway whose key
    /// was verified since the start.
    async fn admit_caller(&self, req: &HttpRequest, id: &RequestId) -> Result<(), Problem> {
        let presented = PresentedKey::in_request(&self.app, req.headers());
        let address = || self.proxies.client_address(req);
        let is_clear = presented.ambiguity(&self.app, req.query_string()).is_none();
        let is_known =
            |it| is_clear && self.app.admits_from_memory(it, VerifyKeys::ANY_OF, &address);
        let outcome = if presented.text.is_some_and(is_known) {
            Ok(())
        } else {
            let request_id = Some(id.clone().into());
            let context = RequestContext { request_id, client_ip: address() };
            caller(&self.app, req, VerifyKeys::ANY_OF, context).await.map(drop)
        };
        if let Err(problem) = &outcome
            && problem.is_denial()
        {
            let caller = DeniedCaller::in_request(&self.app, req.headers());
            caller.record(&self.app, problem, address());
        }
        outcome
    }
}

/// Verifies a key as [`verify_key`] does, for the control socket.
pub async fn verify_for_operator(
    app: web::Data<Keyward>,
    req: HttpRequest,
    body: RequestBody,
) -> Result<HttpResponse, Problem> {
    let (_, answer) = answer(&app, &request_id(&req), body).await?;
    Ok(HttpResponse::Ok().content_type("application/json").body(answer))
}

/// Returns the verdict, and the body of the answer.
async fn answer(
    app: &web::Data<Keyward>,
    id: &RequestId,
    body: RequestBody,
) -> Result<(Verdict, Vec<u8>), Problem> {
    let catalogue = app.catalogue();
    let plain = body.json_bytes().and_then(|it| read_plain_question(it, catalogue));
    let VerifyQuestion { key, required, client_ip, cost } = match plain {
        Some(question) => question,
        None => read_question(body.members()?, catalogue).map_err(Problem::invalid)?,
    };
    let context = || RequestContext { request_id: Some(id.clone().into()), client_ip };
    let question = Question { required, client_ip: &|| client_ip, cost, is_ambiguous: false };
    let found = judged(app, key.as_bytes(), question, context).await?;
    let mut answer = Vec::with_capacity(ANSWER_LEN);
    let written = serde_json::to_writer(&mut answer, &VerificationBody::new(app, &found));
    answer.push(b'\n');
    written.map(|()| (found.verdict, answer)).map_err(|_| Problem::internal())
}
