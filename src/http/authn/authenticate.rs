//! From the headers of a request to its caller.

use actix_web::{
    HttpMessage,
    body::{EitherBody, MessageBody},
    dev::{ServiceRequest, ServiceResponse},
    middleware::Next,
    web,
};
use tokio::sync::oneshot;

use super::presented::{presented_key, unambiguous, without_key};
use crate::{
    domain::{
        event::{Actor, EventSource},
        id::{AccountId, KeyId},
        plaintext_key::{KeyPrefix, PlaintextKey},
        policy::RequiredScopes,
    },
    http::{
        blocking::run,
        problem::Problem,
        request::{client_address::TrustedProxies, id::request_id},
    },
    service::{Identity, Keyward, Principal, Upgrade, Verification},
};

/// Lets through only requests that carry an accepted key, and none that is ambiguous.
pub async fn authenticate<B: MessageBody + 'static>(
    app: web::Data<Keyward>,
    proxies: web::Data<TrustedProxies>,
    req: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<EitherBody<B>>, actix_web::Error> {
    let source = EventSource {
        actor: Actor::Cli, // Replaced by the key itself once it is known.
        request_id: Some(request_id(req.request()).into()),
        client_ip: proxies.client_address(req.request()),
    };
    let presented = presented_key(&app, req.headers());
    let outcome = match presented {
        Some(text) => recognise(&app, text, source).await,
        None => Err(without_key(req.query_string())),
    };
    let admitted = outcome.and_then(|it| unambiguous(&app, req.request()).map(|()| it));
    match admitted {
        Ok(principal) => {
            req.extensions_mut().insert(principal);
            Ok(next.call(req).await?.map_into_left_body())
        }
        Err(problem) => {
            let suspect =
                presented_key(&app, req.headers()).map(|text| DeniedCaller::of(&app, text));
            req.extensions_mut().insert(suspect.unwrap_or_default());
            Ok(req.error_response(problem).map_into_right_body())
        }
    }
}

/// Lets everybody through, as the operator: for the control socket, where being able to connect is
/// the permission.
pub async fn admit_operator<B: MessageBody + 'static>(
    app: web::Data<Keyward>,
    req: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<EitherBody<B>>, actix_web::Error> {
    let request_id = Some(request_id(req.request()).into());
    let source = EventSource { actor: Actor::Cli, request_id, client_ip: None };
    match run(&app, move |app| app.local_operator(source)).await {
        Ok(principal) => {
            req.extensions_mut().insert(principal);
            Ok(next.call(req).await?.map_into_left_body())
        }
        Err(problem) => Ok(req.error_response(problem).map_into_right_body()),
    }
}

/// What is known of a caller who was refused.
#[derive(Clone, Copy, Default)]
pub struct DeniedCaller {
    pub prefix: Option<KeyPrefix>,
    /// Only if the whole secret was presented.
    pub key: Option<(KeyId, AccountId)>,
}

impl DeniedCaller {
    pub fn of(app: &Keyward, text: &[u8]) -> Self {
        let prefix = PlaintextKey::parse(text).ok().map(|it| it.prefix());
        let key = match app.identify(text) {
            Identity::Known(entry) => Some((entry.key.id, entry.key.account)),
            Identity::Malformed | Identity::Unknown | Identity::Unverified(_) => None,
        };
        Self { prefix, key }
    }

    /// Of a caller who was let in, and then refused what it asked for.
    pub fn of_principal(it: &Principal) -> Self {
        let presented = it.presented;
        Self {
            prefix: presented.map(|it| it.prefix),
            key: presented.map(|presented| (presented.key, it.account)),
        }
    }
}

pub async fn recognise(
    app: &web::Data<Keyward>,
    text: &[u8],
    source: EventSource,
) -> Result<Principal, Problem> {
    let identity = identified(app, text).await?;
    let found = app.judge(&identity, RequiredScopes::default());
    record_retired_use(app, &found, &source);
    Ok(app.principal(&found, source)?)
}

/// Whose key this is; only the first use of a secret leaves this thread.
pub async fn identified(app: &web::Data<Keyward>, text: &[u8]) -> Result<Identity, Problem> {
    let unverified = match app.identify(text) {
        Identity::Unverified(it) => it,
        known @ (Identity::Malformed | Identity::Unknown | Identity::Known(_)) => return Ok(known),
    };
    let (tell, told) = oneshot::channel();
    // Whoever asked may have gone meanwhile; the proof is for the next one, then.
    let proved = app.verify_secret_apart(unverified, |outcome| drop(tell.send(outcome)));
    proved.map_err(|_| Problem::unavailable())?;
    let (identity, upgrade) = told.await.map_err(|_| Problem::internal())??;
    if let Some(upgrade) = upgrade {
        let app = app.clone();
        // Off the answer's path; a failure is logged and the next first use tries again.
        actix_web::rt::spawn(async move { rehash(&app, upgrade).await });
    }
    Ok(identity)
}

async fn rehash(app: &web::Data<Keyward>, upgrade: Upgrade) -> Result<(), Problem> {
    let (tell, told) = oneshot::channel();
    let accepted = app.rehash_apart(upgrade, |rehashed| drop(tell.send(rehashed)));
    accepted.map_err(|_| Problem::unavailable())?;
    let rehashed = told.await.map_err(|_| Problem::internal())?;
    run(app, move |app| app.store_rehashed(rehashed)).await
}

/// Records, at most once an hour for each key, that a retired value is still in use somewhere.
pub fn record_retired_use(app: &web::Data<Keyward>, found: &Verification, source: &EventSource) {
    if app.should_note_retired_use(found) {
        let (app, found, source) = (app.clone(), found.clone(), source.clone());
        actix_web::rt::spawn(async move {
            run(&app, move |app| app.record_retired_use(&found, source)).await
        });
    }
}
