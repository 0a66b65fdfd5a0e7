//! `/metrics`, for Prometheus.

use actix_web::{HttpRequest, HttpResponse, get, web};

use crate::{
    domain::{event::RequestContext, scope},
    http::{
        authn,
        blocking::run,
        problem::Problem,
        request::{
            client_address::{TrustedProxies, is_local},
            id::request_id,
        },
        respond::InPieces,
        stream_limits::Streams,
    },
    service::Keyward,
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
        (status = 200, description = "The metrics in the text format of Prometheus", body = String, content_type = "text/plain", example = json!("keyward_build_info{version=\"0.1.0\",commit=\"3f9c2a17be04\"} 1\n")),
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
        let context = RequestContext {
            request_id: Some(request_id(&req).into()),
            client_ip: proxies.client_address(&req),
        };
        caller = Some(authn::caller(&app, &req, &[scope::METRICS_READ], context).await?);
    }
    InPieces::check_permit(&streams, caller.as_ref())?;
    let statistics = run(&app, |app| Ok(app.statistics())).await?;
    let text = metrics.render(&app, &statistics);
    Ok(HttpResponse::Ok()
        .content_type("text/plain; version=0.0.4; charset=utf-8")
        .body(InPieces::with_permit(text.into(), &streams, caller.as_ref())?))
}
