// axum: lets keyward verify the API key of each request. Needs reqwest with json, serde_json and chrono.
// Protect a route with .route_layer(from_fn_with_state(ORDERS_READ, keyward)); handlers take Extension<Caller>.
// KEYWARD_URL is the address of keyward. KEYWARD_KEY_FILE holds your service's own key, with the scope
// api-keys:verify; it is read for each request. The rules are in docs/integrate.md.
use std::{env, fs, net::SocketAddr, sync::LazyLock, time::Duration};

use axum::extract::{ConnectInfo, Request, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::{http::StatusCode, middleware::Next, response::Response};
use chrono::{DateTime, Utc};
use reqwest::{Client, redirect::Policy};
use serde_json::{Value, json};
use tokio::time::timeout;

/// keyward's answer about the key of a request: `accountId`, `externalId`, `keyId`, `scopes` and more.
#[derive(Clone)]
pub struct Caller(pub Value);

/// Keeps connections to keyward open. No redirection and no proxy from the environment gets the keys.
static CLIENT: LazyLock<Client> =
    LazyLock::new(|| Client::builder().redirect(Policy::none()).no_proxy().build().unwrap());

/// The errors hold no text of an answer, because it could hold a key.
async fn verify(question: Value) -> Result<Value, String> {
    let url = env::var("KEYWARD_URL").unwrap_or("http://127.0.0.1:8080".into());
    let url = url.trim_end_matches('/').to_owned() + "/api/v1/api-keys/verify";
    let own = fs::read_to_string(env::var("KEYWARD_KEY_FILE").unwrap_or_default());
    let own = own.map_err(|_| "KEYWARD_KEY_FILE cannot be read")?;
    let ask = || CLIENT.post(&url).header("X-API-Key", own.trim()).json(&question).send();
    let mut answer = ask().await;
    if answer.as_ref().is_err_and(|error| !error.is_connect()) {
        answer = ask().await; // Only a connection that was closed is tried once more.
    }
    let answer = answer.map_err(|_| "no answer")?;
    let (status, found) = (answer.status(), answer.json().await);
    found.ok().filter(|_| status == StatusCode::OK).ok_or(format!("status {status}, with an unknown answer"))
}

pub async fn keyward(State(scopes): State<&'static [&'static str]>, mut req: Request, next: Next) -> Response {
    let text = |it: &HeaderValue| String::from_utf8_lossy(it.as_bytes()).into_owned();
    let bearer = req.headers().get("Authorization").map(text).and_then(|it| {
        let (scheme, token) = it.split_once(' ')?;
        scheme.eq_ignore_ascii_case("Bearer").then(|| token.trim_start().to_owned())
    });
    let mut keys: Vec<_> = req.headers().get_all("X-API-Key").iter().map(text).chain(bearer).collect();
    keys.dedup();
    // Without `into_make_service_with_connect_info::<SocketAddr>()`, as on a Unix socket, the address is unknown.
    let address = req.extensions().get::<ConnectInfo<SocketAddr>>().map(|it| ("clientIp", json!(it.ip())));
    let members = [("key", json!(keys.first())), ("scopes", json!(scopes))].into_iter().chain(address);
    let answer = match keys.len() {
        0 => Ok(json!({"code": "MISSING_KEY"})),
        1 => timeout(Duration::from_secs(2), verify(members.collect())).await.unwrap_or(Err("time-out".into())),
        _ => Ok(json!({"code": "CONFLICTING_KEYS"})),
    };
    let mut found = answer.unwrap_or_else(|reason| json!({"reason": reason}));
    let reset = found["rateLimit"]["resetAt"].as_str().and_then(|it| it.parse::<DateTime<Utc>>().ok());
    let wait = (reset.unwrap_or_default() - Utc::now()).num_seconds().max(0) + 1;
    let (status, header, value) = match found["code"].as_str().unwrap_or_default() {
        "VALID" if found["valid"] == true => {
            req.extensions_mut().insert(Caller(found));
            return next.run(req).await;
        }
        "MISSING_KEY" | "MALFORMED" | "NOT_FOUND" | "REVOKED" | "ROTATED" | "EXPIRED" | "DISABLED"
        | "ACCOUNT_SUSPENDED" => (401, WWW_AUTHENTICATE, r#"ApiKey realm="api", header="X-API-Key""#.into()),
        "CONFLICTING_KEYS" => (400, CACHE_CONTROL, "no-store".into()),
        "INSUFFICIENT_SCOPES" | "IP_NOT_ALLOWED" => (403, CACHE_CONTROL, "no-store".into()),
        "RATE_LIMITED" => (429, RETRY_AFTER, wait.to_string()),
        _ => {
            eprintln!("keyward cannot verify: {}", found["reason"].as_str().unwrap_or("unknown answer"));
            found = json!({"code": "UNAVAILABLE"});
            (503, RETRY_AFTER, "5".to_string())
        }
    };
    let title = StatusCode::from_u16(status).unwrap().canonical_reason();
    let mut problem = json!({"type": "about:blank", "title": title, "status": status, "code": found["code"]});
    if status == 403 {
        problem["missingScopes"] = found["missingScopes"].take();
    }
    let response = Response::builder().status(status).header(CONTENT_TYPE, "application/problem+json");
    response.header(header, value).body(problem.to_string().into()).unwrap()
}
