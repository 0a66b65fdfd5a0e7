//! The two HTTP servers: the one that everybody may ask, and the control socket.

use std::{io, path::Path, sync::Arc, time::Duration};

use actix_web::{
    App, HttpServer, dev::Server, http::KeepAlive, middleware::from_fn, rt::net::TcpStream, web,
};
use utoipa_actix_web::service_config::ServiceConfig;

use super::{
    DRAIN, Error, Site,
    listen::{Listener, SocketFile},
    tls::Certificate,
    workers::Workers,
};
use crate::{
    config::Config,
    http::{
        self, Gate, MalformedRequests, Seldom, TrustedProxies,
        control::{self, JobRunner},
        openapi::RouteTable,
        pages::Documents,
    },
    telemetry::Metrics,
};

/// A gateway keeps its connections; closing them early would cost it a handshake each.
const KEEP_ALIVE: Duration = Duration::from_secs(75);
/// Threads for each worker that wait for the disk; group commit is what they wait for together.
const BLOCKING_THREADS: usize = 64;

/// What the public server is made from.
pub(super) struct Front<'a> {
    pub site: &'a Site,
    pub config: &'a Config,
    pub metrics: &'a Arc<Metrics>,
    pub proxies: &'a Arc<TrustedProxies>,
    pub workers: &'a Arc<Workers>,
}

pub(super) fn public_server(
    shared: &Front<'_>,
    listeners: Vec<Listener>,
    certificate: Option<&Arc<Certificate>>,
) -> Result<(Server, Vec<SocketFile>), Error> {
    // Made once, out here: the closure runs for each worker.
    let app = web::Data::from(Arc::clone(&shared.site.app));
    let metrics = web::Data::from(Arc::clone(shared.metrics));
    let streams = web::Data::from(Arc::clone(&shared.site.streams));
    let proxies = web::Data::from(Arc::clone(shared.proxies));
    let document = http::openapi::document();
    let documents = web::Data::new(Documents::of(&document));
    let table = web::Data::new(RouteTable::of(&document));
    drop(document);
    let malformed = MalformedRequests::new(app.clone(), metrics.clone());
    let complaints = web::Data::new(Seldom::default());
    let docs = shared.config.docs;
    let all = Arc::clone(shared.workers);
    let server = HttpServer::new(move || {
        all.join();
        let ids = web::Data::new(http::RequestIds::new(&app));
        let gate = Gate::new(
            app.clone(),
            metrics.clone(),
            ids.clone(),
            proxies.clone(),
            complaints.clone(),
        );
        let gate = web::Data::new(gate);
        App::new()
            .app_data(app.clone())
            .app_data(ids)
            .app_data(metrics.clone())
            .app_data(streams.clone())
            .app_data(documents.clone())
            .app_data(table.clone())
            .app_data(proxies.clone())
            .app_data(gate.clone())
            .configure(|cfg| Gate::mount(&gate, cfg))
            .configure(|cfg| http::hot_routes(&mut ServiceConfig::new(cfg)))
            // A target that is no path, such as that of `OPTIONS *`.
            .default_service(web::to(http::openapi::no_such_operation).wrap(from_fn(http::wrap)))
            .service(
                web::scope("")
                    .wrap(from_fn(http::read_body))
                    .wrap(from_fn(http::wrap))
                    .configure(|cfg| http::routes(&mut ServiceConfig::new(cfg)))
                    .configure(|cfg| {
                        if docs {
                            http::pages::docs(cfg);
                        } else {
                            http::pages::without_docs(cfg);
                        }
                    })
                    .default_service(web::to(http::openapi::no_such_operation)),
            )
    });
    let mut server = server
        .workers(workers(shared.config))
        .worker_max_blocking_threads(BLOCKING_THREADS)
        .keep_alive(KeepAlive::Timeout(KEEP_ALIVE))
        .shutdown_timeout(DRAIN.as_secs())
        .on_connect(move |io, connection| {
            // Under TLS the framework hands out a type that cannot be named here.
            let peer = io.downcast_ref().and_then(|it: &TcpStream| it.peer_addr().ok());
            malformed.watch(peer, connection);
        })
        .disable_signals();
    let mut sockets = Vec::new();
    for listener in listeners {
        let address = listener.url(false);
        server = match (listener, certificate) {
            (Listener::Tcp(it), Some(certificate)) => {
                server.listen_rustls_0_23(it, certificate.server_config()?)
            }
            (Listener::Tcp(it), None) => server.listen(it),
            // Nobody listens in between two processes of one machine.
            (Listener::Unix(it, file), _) => {
                sockets.extend(file);
                server.listen_uds(it)
            }
        }
        .map_err(|source| Error::Listen { address, source })?;
    }
    Ok((server.run(), sockets))
}

pub(super) fn control_server(
    site: &Site,
    socket: &Path,
    jobs: JobRunner,
) -> Result<Server, io::Error> {
    let jobs = web::Data::new(jobs);
    let app = web::Data::from(Arc::clone(&site.app));
    let streams = web::Data::from(Arc::clone(&site.streams));
    let table = web::Data::new(RouteTable::of(&http::openapi::document()));
    let server = HttpServer::new(move || {
        control::app(app.clone(), streams.clone(), table.clone(), jobs.clone())
    });
    let server = server
        .workers(1)
        .shutdown_timeout(DRAIN.as_secs())
        .disable_signals()
        .listen_uds(site.dir.listen_at(socket)?)?;
    Ok(server.run())
}

fn workers(config: &Config) -> usize {
    match config.workers {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        workers => workers,
    }
}
