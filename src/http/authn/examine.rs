//! Finds the caller of a request from its headers. Every address uses this.

use actix_web::{HttpRequest, web};
use tokio::sync::oneshot;

use super::presented::{Ambiguity, PresentedKey, without_key};
use crate::{
    domain::{event::RequestContext, verdict::Verdict},
    http::{blocking::run, problem::Problem},
    service::{Error, Identity, Keyward, Principal, Question, Upgrade, Verification},
};

/// Why a request has no accepted caller.
pub enum Refusal {
    MissingKey,
    /// The verdict on the presented key, other than [`Verdict::Valid`],
    /// [`Verdict::InsufficientScopes`] and [`Verdict::RateLimited`].
    Key(Verdict),
    Ambiguous(Ambiguity),
    /// The key could not be examined now.
    Failed(Problem),
}

impl Refusal {
    /// Returns the problem that the API answers. `query` is the query of the refused request.
    pub fn into_problem(self, query: &str) -> Problem {
        match self {
            Self::MissingKey => without_key(query),
            Self::Key(verdict) => Error::of_caller(verdict).into(),
            Self::Ambiguous((code, detail)) => Problem::bad_request(code, detail),
            Self::Failed(problem) => problem,
        }
    }
}

/// Returns the caller of a request to this server: an accepted key, presented without ambiguity, that
/// holds one of the scopes `any_of`. With no scopes, every accepted key is a caller.
pub async fn caller(
    app: &web::Data<Keyward>,
    req: &HttpRequest,
    any_of: &'static [&'static str],
    context: RequestContext,
) -> Result<Principal, Problem> {
    let (presented, query) = (PresentedKey::in_request(app, req.headers()), req.query_string());
    let client_ip = &|| context.client_ip;
    // A call of this API uses no rate limit: they are for the protected API.
    let question = Question::of_call(client_ip);
    let found = examine(app, presented, query, question, || context.clone()).await;
    let principal = app.principal(&found.map_err(|it| it.into_problem(query))?, context)?;
    permit(app, &principal, any_of)?;
    Ok(principal)
}

/// Returns 403 if the caller holds none of the scopes `any_of`, and records that it used them. With no
/// scopes, every caller may pass.
pub fn permit(
    app: &Keyward,
    caller: &Principal,
    any_of: &'static [&'static str],
) -> Result<(), Problem> {
    if any_of.is_empty() {
        return Ok(());
    }
    if !app.permits(caller.powers, any_of) {
        return Err(Error::MissingScope(any_of).into());
    }
    app.use_permission(caller, any_of);
    Ok(())
}

/// Returns the verdict on the presented key: [`Verdict::Valid`], [`Verdict::InsufficientScopes`] or
/// [`Verdict::RateLimited`].
///
/// Every other verdict is a [`Refusal`], and so is ambiguity, which is reported last: a client that
/// has no accepted key learns only that. `query` is the query of the request that carries the key.
pub async fn examine(
    app: &web::Data<Keyward>,
    presented: PresentedKey<'_>,
    query: &str,
    question: Question<'_>,
    context: impl FnOnce() -> RequestContext,
) -> Result<Verification, Refusal> {
    let text = presented.text.ok_or(Refusal::MissingKey)?;
    let ambiguity = presented.ambiguity(app, query);
    let question = Question { is_ambiguous: ambiguity.is_some(), ..question };
    let found = judged(app, text, question, context).await.map_err(Refusal::Failed)?;
    if !matches!(found.verdict, Verdict::Valid | Verdict::InsufficientScopes | Verdict::RateLimited)
    {
        return Err(Refusal::Key(found.verdict));
    }
    match ambiguity {
        Some(ambiguity) => Err(Refusal::Ambiguous(ambiguity)),
        None => Ok(found),
    }
}

/// Returns the verdict on a key. Use of a retired credential is recorded, off the answer's path, at
/// most once an hour for each key; only then is `context` called.
pub async fn judged(
    app: &web::Data<Keyward>,
    text: &[u8],
    question: Question<'_>,
    context: impl FnOnce() -> RequestContext,
) -> Result<Verification, Problem> {
    Ok(judged_identity(app, &identified(app, text).await?, question, context))
}

/// As [`judged`], for a key that was identified just now.
pub fn judged_identity(
    app: &web::Data<Keyward>,
    identity: &Identity,
    question: Question<'_>,
    context: impl FnOnce() -> RequestContext,
) -> Verification {
    let found = app.judge(identity, question);
    if app.should_record_retired_use(&found) {
        let (app, found, context) = (app.clone(), found.clone(), context());
        actix_web::rt::spawn(async move {
            run(&app, move |app| app.record_retired_use(&found, context)).await
        });
    }
    found
}

/// Returns the credential that a text is. Only the first use of a secret leaves this thread.
pub async fn identified(app: &web::Data<Keyward>, text: &[u8]) -> Result<Identity, Problem> {
    let unverified = match app.identify(text) {
        Identity::Unverified(it) => it,
        known @ (Identity::Malformed | Identity::Unknown | Identity::Known(_)) => return Ok(known),
    };
    let (sender, receiver) = oneshot::channel();
    // The send fails if the client disconnected meanwhile; its next request finds the secret verified.
    let accepted = app.verify_secret_apart(unverified, |outcome| drop(sender.send(outcome)));
    accepted.map_err(|_| Problem::unavailable())?;
    let (identity, upgrade) = receiver.await.map_err(|_| Problem::internal())??;
    if let Some(upgrade) = upgrade {
        let app = app.clone();
        // Off the answer's path. A failure is logged, and the first use after the next start tries
        // again.
        actix_web::rt::spawn(async move { rehash(&app, upgrade).await });
    }
    Ok(identity)
}

async fn rehash(app: &web::Data<Keyward>, upgrade: Upgrade) -> Result<(), Problem> {
    let (sender, receiver) = oneshot::channel();
    let accepted = app.rehash_apart(upgrade, |rehashed| drop(sender.send(rehashed)));
    accepted.map_err(|_| Problem::unavailable())?;
    let rehashed = receiver.await.map_err(|_| Problem::internal())?;
    run(app, move |app| app.store_rehashed(rehashed)).await
}
