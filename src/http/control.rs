//! The control socket, for commands on this machine.
//!
//! It is a Unix socket in the data directory, which only the owner of the directory can open. Being able
//! to connect is the permission: a request needs no key. Besides a few commands of its own, the socket has
//! the whole API, as the operator.

use std::path::PathBuf;

use actix_web::{
    App, HttpResponse,
    body::MessageBody,
    dev::{ServiceFactory, ServiceRequest, ServiceResponse},
    middleware::from_fn,
    web,
};
use futures_core::future::BoxFuture;
use serde::{Deserialize, Serialize};

use crate::{
    http::{
        api::stream,
        authn,
        blocking::run,
        envelope,
        problem::Problem,
        request::{
            body::read_body, client_address::TrustedProxies, id::RequestIds,
            own_address::OwnAddress,
        },
        route_table::{RouteTable, no_such_operation},
        routes,
        stream_limits::Streams,
        system::health,
        verification::verify,
    },
    service::{Census, Error, Job, Keyward},
};

pub mod apply;
pub mod import;
pub mod webhooks;

/// The request of `root-key reset`.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ResetRequest {
    pub revoke_others: bool,
    /// The file for the new key; without one, the answer holds the key.
    pub to_file: Option<PathBuf>,
}

/// The answer to `root-key reset`: the only one besides the API's that holds a key.
#[derive(Debug, Deserialize, Serialize)]
pub struct ResetAnswer {
    pub key_id: String,
    pub key_prefix: String,
    pub key: Option<String>,
    pub revoked: Vec<String>,
}

/// Runs a job as the scheduler does: in its turn, and counted. The server provides it, because this layer
/// does not know the scheduler. Returns `None` if the job panicked.
pub struct JobRunner(pub Box<RunJob>);

type RunJob = dyn Fn(Job) -> BoxFuture<'static, Option<Result<u64, Error>>> + Send + Sync;

/// The answer to `run-job`.
#[derive(Debug, Deserialize, Serialize)]
pub struct JobAnswer {
    pub changed: u64,
}

/// The answer to `clock accept`.
#[derive(Debug, Deserialize, Serialize)]
pub struct ClockAnswer {
    /// By how much time went back, in milliseconds.
    pub back_ms: u64,
}

/// The request of `backup create`.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct BackupRequest {
    /// The file of the backup; without one, it is made in the backup directory.
    pub to: Option<PathBuf>,
}

/// The answer to `backup create`.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BackupAnswer {
    pub path: PathBuf,
    pub bytes: u64,
    pub sha256: String,
    pub events: i64,
    pub accounts: i64,
    pub keys: i64,
}

/// Returns the application behind the socket.
pub fn app(
    app: web::Data<Keyward>,
    streams: web::Data<Streams>,
    table: web::Data<RouteTable>,
    jobs: web::Data<JobRunner>,
    address: web::Data<OwnAddress>,
) -> App<
    impl ServiceFactory<
        ServiceRequest,
        Config = (),
        Response = ServiceResponse<impl MessageBody>,
        Error = actix_web::Error,
        InitError = (),
    >,
> {
    let ids = web::Data::new(RequestIds::new(&app));
    App::new()
        .app_data(app)
        .app_data(ids)
        .app_data(streams)
        .app_data(web::Data::new(TrustedProxies::new(Vec::new())))
        .app_data(table)
        .app_data(jobs)
        .app_data(address)
        .wrap(from_fn(envelope::wrap))
        .service(health::livez)
        .service(health::readyz)
        .route("/root-key/reset", web::post().to(reset_root_key))
        .route("/jobs/{name}/run", web::post().to(run_job))
        .app_data(web::JsonConfig::default().limit(import::MAX_LEN))
        .route("/imports", web::post().to(import::import))
        .service(
            web::resource("/apply")
                .app_data(web::JsonConfig::default().limit(apply::MAX_LEN))
                .route(web::post().to(apply::apply)),
        )
        .route("/imports/finish", web::post().to(import::finish))
        .route("/backups", web::post().to(create_backup))
        .route("/clock/accept", web::post().to(accept_clock))
        .route("/webhooks/list", web::post().to(webhooks::list))
        .route("/webhooks/{name}/enable", web::post().to(webhooks::enable))
        .route("/events/stream", web::get().to(stream::stream_to_operator))
        .service(
            web::scope("/api/v1")
                .wrap(from_fn(authn::admit_operator))
                .wrap(from_fn(read_body))
                .route("/api-keys/verify", web::post().to(verify::verify_for_operator))
                .configure(routes::api)
                .default_service(web::to(no_such_operation)),
        )
}

async fn reset_root_key(
    app: web::Data<Keyward>,
    request: web::Json<ResetRequest>,
) -> Result<HttpResponse, Problem> {
    let ResetRequest { revoke_others, to_file } = request.into_inner();
    let answered = to_file.is_none();
    let reset = run(&app, move |app| app.reset_root_key(revoke_others, to_file.as_deref())).await?;
    let key = &reset.root_key.plaintext;
    Ok(HttpResponse::Ok().json(ResetAnswer {
        key_id: reset.root_key.id.to_string(),
        key_prefix: key.prefix().as_str().to_owned(),
        key: answered.then(|| key.expose().to_owned()),
        revoked: reset.revoked.iter().map(ToString::to_string).collect(),
    }))
}

async fn create_backup(
    app: web::Data<Keyward>,
    request: web::Json<BackupRequest>,
) -> Result<HttpResponse, Problem> {
    let made = run(&app, move |app| app.create_backup(request.to.as_deref())).await?;
    let Census { events, accounts, keys, .. } = made.census;
    let (path, bytes, sha256) = (made.path, made.bytes, made.sha256);
    Ok(HttpResponse::Ok().json(BackupAnswer { path, bytes, sha256, events, accounts, keys }))
}

async fn run_job(
    jobs: web::Data<JobRunner>,
    name: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let job = Job::parse(&name).ok_or(Error::NotFound)?;
    let changed = jobs.0(job).await.ok_or_else(Problem::internal)??;
    Ok(HttpResponse::Ok().json(JobAnswer { changed }))
}

async fn accept_clock(app: web::Data<Keyward>) -> Result<HttpResponse, Problem> {
    let back = run(&app, Keyward::accept_clock).await?;
    let back_ms = u64::try_from(back.as_millis()).unwrap_or(u64::MAX);
    Ok(HttpResponse::Ok().json(ClockAnswer { back_ms }))
}
