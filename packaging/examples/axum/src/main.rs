// axum: lets keyward verify the API key of each request. Needs hyper-util, http-body-util, serde_json and chrono.
// Protect a route with .route_layer(from_fn_with_state(ORDERS_READ, keyward)); handlers take Extension<Caller>.
// KEYWARD_URL is the address of keyward. KEYWARD_KEY_FILE holds your service's own key, with the scope
// api-keys:verify; it is read for each request. The rules are in docs/integrate.md.
use std::{env, fs, net::SocketAddr, sync::LazyLock, time::Duration};

use axum::body::{Body, Bytes};
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderValue, StatusCode};
use axum::{middleware::Next, response::Response};
use chrono::{DateTime, Utc};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};
use tokio::time::timeout;

/// keyward's answer about the key of a request: `accountId`, `externalId`, `keyId`, `scopes` and more.
#[derive(Clone)]
pub struct Caller(pub Value);
type Scopes = &'static [&'static str];

/// Keeps connections to keyward open.
static CLIENT: LazyLock<Client<HttpConnector, Full<Bytes>>> =
    LazyLock::new(|| Client::builder(TokioExecutor::new()).build_http());

/// The errors hold no text of an answer, because it could hold a key.
async fn verify(question: Value) -> Result<Value, String> {
    let address = env::var("KEYWARD_URL").unwrap_or("http://127.0.0.1:8080".into());
    let own = fs::read_to_string(env::var("KEYWARD_KEY_FILE").unwrap_or_default());
    let own = own.map_err(|_| "KEYWARD_KEY_FILE cannot be read")?;
    let request = || {
        let request = Request::post(format!("{address}/api/v1/api-keys/verify"));
        let request = request.header("Content-Type", "application/json").header("X-API-Key", own.trim());
        request.body(Full::from(question.to_string())).map_err(|_| "KEYWARD_URL is wrong")
    };
    let mut answer = CLIENT.request(request()?).await;
    if answer.as_ref().is_err_and(|error| !error.is_connect()) {
        answer = CLIENT.request(request()?).await; // Only a connection that was closed is tried once more.
    }
    let (head, body) = answer.map_err(|_| "no answer")?.into_parts();
    let text = body.collect().await.map_err(|_| "no answer")?.to_bytes();
    let found = serde_json::from_slice(&text).ok().filter(|_| head.status == 200);
    found.ok_or(format!("status {}, {} bytes", head.status, text.len()))
}

pub async fn keyward(
    State(scopes): State<Scopes>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    mut request: Request,
    next: Next,
) -> Response {
    let text = |it: &HeaderValue| String::from_utf8_lossy(it.as_bytes()).into_owned();
    let bearer = request.headers().get("Authorization").map(text).and_then(|it| {
        let (scheme, token) = it.split_once(' ')?;
        scheme.eq_ignore_ascii_case("Bearer").then(|| token.trim_start().to_owned())
    });
    let keys: Vec<_> = request.headers().get_all("X-API-Key").iter().map(text).chain(bearer).collect();
    let found = if keys.is_empty() {
        Ok(json!({"code": "MISSING_KEY"}))
    } else if keys.iter().any(|it| *it != keys[0]) {
        Ok(json!({"code": "CONFLICTING_KEYS"}))
    } else {
        let question = json!({"key": keys[0], "scopes": scopes, "clientIp": peer.ip().to_string()});
        timeout(Duration::from_secs(2), verify(question)).await.unwrap_or(Err("time-out".into()))
    };
    let mut found = found.unwrap_or_else(|reason| json!({"reason": reason}));
    let (status, header, value) = match found["code"].as_str().unwrap_or_default() {
        "VALID" if found["valid"] == true => {
            request.extensions_mut().insert(Caller(found));
            return next.run(request).await;
        }
        "MISSING_KEY" | "MALFORMED" | "NOT_FOUND" | "REVOKED" | "ROTATED" | "EXPIRED" | "DISABLED"
        | "ACCOUNT_SUSPENDED" => (401, "WWW-Authenticate", r#"ApiKey realm="api", header="X-API-Key""#.into()),
        "CONFLICTING_KEYS" => (400, "Cache-Control", "no-store".into()),
        "INSUFFICIENT_SCOPES" | "IP_NOT_ALLOWED" => (403, "Cache-Control", "no-store".into()),
        "RATE_LIMITED" => (429, "Retry-After", seconds_until(&found["rateLimit"]["resetAt"]).to_string()),
        _ => {
            eprintln!("keyward cannot verify: {}", found["reason"].as_str().unwrap_or("unknown answer"));
            found = json!({"code": "UNAVAILABLE"});
            (503, "Retry-After", "5".into())
        }
    };
    let title = StatusCode::from_u16(status).unwrap().canonical_reason();
    let mut problem = json!({"type": "about:blank", "title": title, "status": status, "code": found["code"]});
    if status == 403 {
        problem["missingScopes"] = found["missingScopes"].clone();
    }
    let response = Response::builder().status(status).header("Content-Type", "application/problem+json");
    response.header(header, value).body(Body::from(problem.to_string())).unwrap()
}

fn seconds_until(instant: &Value) -> i64 {
    let instant = instant.as_str().and_then(|it| it.parse::<DateTime<Utc>>().ok()).unwrap_or_default();
    (instant - Utc::now()).num_seconds().max(0) + 1
}

// ---- End of the middleware. Below is a sample API. ----

use axum::middleware::from_fn_with_state;
use axum::{Extension, Router, routing};

const ANY: Scopes = &[];
const ORDERS_READ: Scopes = &["orders:read"];
const ORDERS_WRITE: Scopes = &["orders:write"];

async fn show(Extension(Caller(caller)): Extension<Caller>) -> ([(&'static str, &'static str); 1], String) {
    let answer = json!({"account": caller["accountId"], "key": caller["keyId"], "scopes": caller["scopes"]});
    ([("Content-Type", "application/json")], answer.to_string())
}

#[tokio::main]
async fn main() {
    let needs = |scopes| from_fn_with_state(scopes, keyward);
    let app = Router::new()
        .route("/orders", routing::get(show).route_layer(needs(ORDERS_READ)))
        .route("/orders", routing::post(show).route_layer(needs(ORDERS_WRITE)))
        .route("/whoami", routing::get(show).route_layer(needs(ANY)));
    let port = env::var("PORT").unwrap_or("3000".into());
    let listener = tokio::net::TcpListener::bind(format!("127.0.0.1:{port}")).await.unwrap();
    axum::serve(listener, app.into_make_service_with_connect_info::<SocketAddr>()).await.unwrap();
}
