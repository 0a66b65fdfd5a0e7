//! What gateways need to verify tokens on their own: public keys, metadata and the status list.

use std::time::Duration;

use actix_web::{
    HttpResponse, get,
    http::header::{self, CacheControl, CacheDirective, ETag, EntityTag, IfNoneMatch},
    web::{self, Bytes},
};
use base64ct::{Base64UrlUnpadded, Encoding};
use pbkdf2::sha2::{Digest, Sha256};
use serde_json::Value;

use crate::{
    http::{blocking::run, problem::Problem, respond::InPieces},
    service::Keyward,
};

/// How long a client may keep keys and metadata. A key is published for longer than this before it signs.
const KEPT: Duration = Duration::from_mins(10);

type Known = Option<web::Header<IfNoneMatch>>;

/// Get the keys that verify tokens
///
/// Returns a JSON Web Key Set (RFC 7517). A new key is in it for a day before it signs.
#[utoipa::path(
    operation_id = "tokenKeys",
    tag = "Tokens",
    security(()),
    responses(
        (status = 200, description = "The public keys", body = HashMap<String, serde_json::Value>, content_type = "application/jwk-set+json", example = json!({"keys": [{
            "kid": "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k",
            "use": "sig",
            "alg": "EdDSA",
            "crv": "Ed25519",
            "kty": "OKP",
            "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
        }]})),
    ),
)]
#[get("/.well-known/jwks.json")]
pub async fn token_keys(app: web::Data<Keyward>, known: Known) -> Result<HttpResponse, Problem> {
    let keys = run(&app, Keyward::token_jwks).await?;
    Ok(document("application/jwk-set+json", &keys, known))
}

/// Get the metadata of the token issuer
///
/// Returns the metadata of an authorization server (RFC 8414).
#[utoipa::path(
    operation_id = "tokenMetadata",
    tag = "Tokens",
    security(()),
    responses(
        (status = 200, description = "The metadata", body = HashMap<String, serde_json::Value>, example = json!({
            "issuer": "https://keys.example.com",
            "token_endpoint": "https://keys.example.com/api/v1/token",
            "jwks_uri": "https://keys.example.com/.well-known/jwks.json",
            "scopes_supported": ["orders:read"],
            "response_types_supported": [],
            "grant_types_supported": ["urn:ietf:params:oauth:grant-type:token-exchange"],
            "token_endpoint_auth_methods_supported": ["none"],
        })),
    ),
)]
#[get("/.well-known/oauth-authorization-server")]
pub async fn token_metadata(
    app: web::Data<Keyward>,
    known: Known,
) -> Result<HttpResponse, Problem> {
    Ok(document("application/json", &app.token_metadata()?, known))
}

/// Get the token status list
///
/// Returns a status list token (draft-ietf-oauth-status-list) with a bit for each place: 1 if tokens with
/// this place are refused. It shows every change that is more than a second old.
#[utoipa::path(
    operation_id = "tokenStatus",
    tag = "Tokens",
    security(()),
    responses(
        (status = 200, description = "The status list, of the media type `application/statuslist+jwt`"),
    ),
)]
#[get("/token-status/1")]
pub async fn token_status(app: web::Data<Keyward>, known: Known) -> Result<HttpResponse, Problem> {
    let list = loop {
        let mut ended = app.watch_list_turns();
        if let Some(list) = app.status_list_in_memory() {
            break list;
        }
        match app.take_list_turn() {
            Some(turn) => break run(&app, move |app| app.status_list(&turn)).await?,
            // It only fails at the end of the server.
            None => _ = ended.changed().await,
        }
    };
    let fresh_for = app.fresh_for(&list);
    let body = Bytes::from(list.token.as_bytes().to_vec());
    Ok(cached("application/statuslist+jwt", body, &list.digest, fresh_for, known))
}

/// Returns a JSON document that changes seldom.
fn document(media_type: &'static str, value: &Value, known: Known) -> HttpResponse {
    let text = format!("{value}\n");
    let digest = Base64UrlUnpadded::encode_string(&Sha256::digest(&text));
    cached(media_type, text.into(), &digest, KEPT, known)
}

/// Returns an answer that any cache may keep for a time, or 304 if the client has it.
fn cached(
    media_type: &'static str,
    body: Bytes,
    digest: &str,
    fresh_for: Duration,
    known: Known,
) -> HttpResponse {
    let tag = EntityTag::new_strong(digest.to_owned());
    let is_known = known.is_some_and(|it| match it.into_inner() {
        IfNoneMatch::Any => true,
        IfNoneMatch::Items(tags) => tags.iter().any(|it| it.weak_eq(&tag)),
    });
    let seconds = u32::try_from(fresh_for.as_secs()).unwrap_or(u32::MAX);
    let cache = CacheControl(vec![CacheDirective::Public, CacheDirective::MaxAge(seconds)]);
    let mut response = if is_known { HttpResponse::NotModified() } else { HttpResponse::Ok() };
    response.insert_header(cache).insert_header(ETag(tag));
    if is_known {
        return response.finish();
    }
    response.insert_header((header::CONTENT_TYPE, media_type)).body(InPieces::of(body))
}
