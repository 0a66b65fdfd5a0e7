//! A sample API that keyward.rs protects. It listens on PORT, or else 3000.
mod keyward;

use std::{env, net::SocketAddr};

use axum::middleware::from_fn_with_state;
use axum::{Extension, Router, routing};
use serde_json::json;

use keyward::{Caller, keyward};

const ANY: &[&str] = &[];
const ORDERS_READ: &[&str] = &["orders:read"];
const ORDERS_WRITE: &[&str] = &["orders:write"];

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
