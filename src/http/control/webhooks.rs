//! `keyward webhooks` over the control socket.

use actix_web::{HttpResponse, web};
use serde::{Deserialize, Serialize};

use crate::{
    http::{blocking::run, problem::Problem},
    service::{Keyward, WebhookStatus},
};

/// Every webhook of the server, in the order of the names.
#[derive(Debug, Deserialize, Serialize)]
pub struct WebhookList {
    pub data: Vec<WebhookAnswer>,
}

/// A webhook and its position in the audit log.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct WebhookAnswer {
    pub name: String,
    /// `active`, `retrying` or `disabled`.
    pub status: String,
    /// The newest event that was delivered or passed over.
    pub seq: i64,
    /// How many events of the log come after it.
    pub lag: i64,
    /// Failed attempts at the next event.
    pub attempts: u32,
    pub next_attempt_at: Option<String>,
    pub disabled_at: Option<String>,
    pub last_error: Option<String>,
}

impl From<WebhookStatus> for WebhookAnswer {
    fn from(it: WebhookStatus) -> Self {
        let status = match it.cursor {
            cursor if cursor.disabled_at.is_some() => "disabled",
            cursor if cursor.attempts != 0 => "retrying",
            _ => "active",
        };
        Self {
            name: it.name,
            status: status.to_owned(),
            seq: it.cursor.seq,
            lag: it.lag,
            attempts: it.cursor.attempts,
            next_attempt_at: it.cursor.next_attempt.map(|it| it.to_string()),
            disabled_at: it.cursor.disabled_at.map(|it| it.to_string()),
            last_error: it.last_error,
        }
    }
}

pub(super) async fn list(app: web::Data<Keyward>) -> Result<HttpResponse, Problem> {
    let found = run(&app, Keyward::list_webhooks).await?;
    let data = found.into_iter().map(WebhookAnswer::from).collect();
    Ok(HttpResponse::Ok().json(WebhookList { data }))
}

pub(super) async fn enable(
    app: web::Data<Keyward>,
    name: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    run(&app, move |app| app.enable_webhook(&name)).await?;
    list(app).await
}
