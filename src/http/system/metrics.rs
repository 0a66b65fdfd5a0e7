//! `/metrics`, for Prometheus.

use actix_web::{HttpRequest, HttpResponse, get, web};

use crate::{
    domain::{
        event::{Actor, EventSource},
        policy::RequiredScopes,
        scope,
    },
    http::{
        authn::{identified, presented_key},
        blocking::run,
        problem::Problem,
        request::client_address::{TrustedProxies, is_local},
        respond::InPieces,
        stream_limits::Streams,
    },
    service::{Denial, Error, Keyward},
    telemetry::Metrics,
};

/// Get metrics for Prometheus
///
/// Requests from the server's own machine, by an IP address or `localhost`, need no key. Other
/// requests need the scope `metrics:read`.
#[utoipa::path(
    operation_id = "metrics",
    tag = "Server",
    security((), ("ApiKeyAuth" = ["metrics:read"])),
    responses(
        (status = 200, description = "The metrics in the text format of Prometheus", body = String, content_type = "text/plain", example = json!("keyward_build_info{version=\"0.1.0\"} 1\n")),
    ),
)]
#[get("/metrics")]
pub async fn metrics(
    app: web::Data<Keyward>,
    metrics: web::Data<Metrics>,
    proxies: web::Data<TrustedProxies>,
    streams: web::Data<Streams>,
    req: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let mut caller = None;
    if !is_local(&proxies, &req) {
        let text = presented_key(&app, req.headers());
        let text = text.ok_or(Error::Unauthenticated(Denial::MissingKey))?;
        let identity = identified(&app, text).await?;
        let source = EventSource { actor: Actor::Cli, request_id: None, client_ip: None };
        let found = app.judge(&identity, RequiredScopes::default());
        let found = app.principal(&found, source)?;
        if !app.permits(found.powers, &[scope::METRICS_READ]) {
            return Err(Error::MissingScope(&[scope::METRICS_READ]).into());
        }
        caller = Some(found);
    }
    InPieces::expect_place(&streams, caller.as_ref())?;
    let statistics = run(&app, |app| Ok(app.statistics())).await?;
    let text = metrics.render(&app, &statistics);
    Ok(HttpResponse::Ok()
        .content_type("text/plain; version=0.0.4; charset=utf-8")
        .body(InPieces::in_place(text.into(), &streams, caller.as_ref())?))
}
