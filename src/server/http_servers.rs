//! The two HTTP servers: the one that everybody may ask, and the control socket.

use std::{io, net::SocketAddr, path::Path, sync::Arc, time::Duration};

use actix_http::{HttpService, KeepAlive, Payload, Request, error::DispatchError};
use actix_service::{
    IntoServiceFactory, Service, ServiceFactory, ServiceFactoryExt, apply_fn_factory, fn_service,
    map_config,
};
use actix_tls::accept::{
    TlsError as AcceptError,
    rustls_0_23::{Acceptor, TlsStream},
};
use actix_web::{
    App, HttpServer,
    body::BoxBody,
    dev::{AppConfig, Server, ServiceRequest, ServiceResponse},
    middleware::from_fn,
    rt::net::{ActixStream, TcpStream, UnixStream},
    web,
};

use super::{
    DRAIN, Error, Instance,
    connection::Connection,
    limits::connections_per_worker,
    listen::{Listener, SocketFile},
    requests::{Answer, Requests},
    tls::Certificate,
    workers::Workers,
};
use crate::{
    config::Config,
    http::{
        self, MalformedRequests, OncePerMinute, RouteTable, TrustedProxies, VerificationState,
        control::{self, JobRunner},
        openapi::of_document,
        routes,
        stream_limits::Streams,
        system::{documents::Documents, swagger_ui},
    },
    service::Keyward,
    telemetry::Metrics,
};

/// A gateway keeps its connections; closing them early would cost it a handshake each.
const KEEP_ALIVE: Duration = Duration::from_secs(75);
/// For the first request's head on a connection, from the connect on.
const HEAD_PATIENCE: Duration = Duration::from_secs(5);
/// How long a client may take to close its end.
const CLOSE_PATIENCE: Duration = Duration::from_secs(1);
/// Threads for each worker that wait for the disk; group commit is what they wait for together.
const BLOCKING_THREADS: usize = 64;

/// What the public server is made from.
pub(super) struct PublicServer<'a> {
    pub instance: &'a Instance,
    pub config: &'a Config,
    pub metrics: &'a Arc<Metrics>,
    pub proxies: &'a Arc<TrustedProxies>,
    pub workers: &'a Arc<Workers>,
}

pub(super) fn public_server(
    shared: &PublicServer<'_>,
    listeners: Vec<Listener>,
    certificate: Option<&Arc<Certificate>>,
) -> Result<(Server, Vec<SocketFile>), Error> {
    let parts = Parts::of(shared);
    let workers = workers(shared.config);
    let mut server = Server::build()
        .workers(workers)
        .worker_max_blocking_threads(BLOCKING_THREADS)
        .max_concurrent_connections(connections_per_worker(shared.config, workers))
        .shutdown_timeout(DRAIN.as_secs())
        .disable_signals();
    let draining = server.graceful_shutdown_signal();
    let draining = move || {
        let signal = draining.clone();
        async move { signal.notified().await }
    };
    let mut sockets = Vec::new();
    for listener in listeners {
        let address = listener.url(false);
        let (parts, draining) = (parts.clone(), draining.clone());
        server = match (listener, certificate) {
            (Listener::Tcp(it), Some(certificate)) => {
                let mut config = certificate.server_config()?;
                config.alpn_protocols = vec![b"http/1.1".to_vec()];
                server.listen(&address, it, move || {
                    Acceptor::new(config.clone())
                        .map_init_err(drop)
                        .map_err(AcceptError::into_service_error)
                        .map(|io: TlsStream<TcpStream>| {
                            let peer = io.get_ref().0.peer_addr().ok();
                            // Around TLS: what counts is what is said inside of it.
                            (Connection::new(io, peer), peer)
                        })
                        .and_then(
                            http_service(parts.clone(), draining.clone())
                                .map_err(AcceptError::Service),
                        )
                })
            }
            (Listener::Tcp(it), None) => server.listen(&address, it, move || {
                fn_service(async |io: TcpStream| {
                    let peer = io.peer_addr().ok();
                    Ok((Connection::new(io, peer), peer))
                })
                .and_then(http_service(parts.clone(), draining.clone()))
            }),
            // No other machine can listen to a Unix socket.
            (Listener::Unix(it, file), _) => {
                sockets.extend(file);
                server.listen_uds(&address, it, move || {
                    fn_service(async |io: UnixStream| Ok((Connection::new(io, None), None)))
                        .and_then(http_service(parts.clone(), draining.clone()))
                })
            }
        }
        .map_err(|source| Error::Listen { address, source })?;
    }
    Ok((server.run(), sockets))
}

/// What each worker makes its application from.
#[derive(Clone)]
struct Parts {
    app: web::Data<Keyward>,
    metrics: web::Data<Metrics>,
    streams: web::Data<Streams>,
    proxies: web::Data<TrustedProxies>,
    documents: web::Data<Documents>,
    table: web::Data<RouteTable>,
    complaints: web::Data<OncePerMinute>,
    malformed: Arc<MalformedRequests>,
    workers: Arc<Workers>,
    docs: bool,
}

impl Parts {
    fn of(shared: &PublicServer<'_>) -> Self {
        let (documents, table) =
            of_document(|document| (Documents::of(document), RouteTable::of(document)));
        let app = web::Data::from(Arc::clone(&shared.instance.app));
        let metrics = web::Data::from(Arc::clone(shared.metrics));
        Self {
            malformed: MalformedRequests::new(app.clone(), metrics.clone()),
            complaints: web::Data::new(OncePerMinute::default()),
            workers: Arc::clone(shared.workers),
            app,
            metrics,
            streams: web::Data::from(Arc::clone(&shared.instance.streams)),
            proxies: web::Data::from(Arc::clone(shared.proxies)),
            documents: web::Data::new(documents),
            table: web::Data::new(table),
            docs: shared.config.docs,
        }
    }

    fn application(
        self,
    ) -> App<
        impl ServiceFactory<
            ServiceRequest,
            Config = (),
            Response = ServiceResponse<BoxBody>,
            Error = actix_web::Error,
            InitError = (),
        >,
    > {
        let Self { app, metrics, streams, proxies, documents, table, docs, .. } = self;
        self.workers.join();
        let ids = web::Data::new(http::RequestIds::new(&app));
        let gate = VerificationState::new(
            app.clone(),
            metrics.clone(),
            ids.clone(),
            proxies.clone(),
            self.complaints,
        );
        let gate = web::Data::new(gate);
        App::new()
            .app_data(app)
            .app_data(ids)
            .app_data(metrics)
            .app_data(streams)
            .app_data(documents)
            .app_data(table)
            .app_data(proxies)
            .app_data(gate.clone())
            .configure(|cfg| VerificationState::mount(&gate, cfg))
            .configure(routes::hot_routes)
            // A target that is no path, such as that of `OPTIONS *`.
            .default_service(web::to(http::no_such_operation).wrap(from_fn(http::wrap)))
            .service(
                web::scope("")
                    .wrap(from_fn(http::read_body))
                    .wrap(from_fn(http::wrap))
                    .configure(routes::routes)
                    .configure(|cfg| {
                        if docs {
                            swagger_ui::docs(cfg);
                        } else {
                            swagger_ui::without_docs(cfg);
                        }
                    })
                    .default_service(web::to(http::no_such_operation)),
            )
    }
}

/// HTTP/1 on connections that count their requests. As [`HttpServer`] makes it, which leaves no
/// place for a connection of our own.
fn http_service<IO, Draining>(
    parts: Parts,
    draining: impl Fn() -> Draining + 'static,
) -> impl ServiceFactory<
    (Connection<IO>, Option<SocketAddr>),
    Config = (),
    Response = (),
    Error = DispatchError,
    InitError = (),
>
where
    IO: ActixStream + 'static,
    Draining: Future<Output = ()> + 'static,
{
    let malformed = Arc::clone(&parts.malformed);
    let app = parts.application().into_factory();
    let app = app.map_err(|err: actix_web::Error| err.error_response());
    let counted = apply_fn_factory(
        map_config(app, |()| AppConfig::default()),
        |mut request: Request, app: &_| {
            let with_body = !matches!(request.payload(), Payload::None);
            let mut running = request.conn_data::<Requests>().map(|it| it.begin(with_body));
            let answer = app.call(request);
            async move {
                let answer: ServiceResponse<BoxBody> = answer.await?;
                if let Some(running) = &mut running {
                    running.has_its_answer();
                }
                Ok(answer.map_body(|_, body| Answer::new(body, running)))
            }
        },
    );
    HttpService::build()
        .keep_alive(KeepAlive::Timeout(KEEP_ALIVE))
        .client_request_timeout(HEAD_PATIENCE)
        .client_disconnect_timeout(CLOSE_PATIENCE)
        .graceful_shutdown_signal(draining)
        .on_connect_ext(move |io: &Connection<IO>, data| {
            data.insert(io.requests.clone());
            malformed.watch(io.peer, data);
        })
        .h1(counted)
}

pub(super) fn control_server(
    instance: &Instance,
    socket: &Path,
    jobs: JobRunner,
) -> Result<Server, io::Error> {
    let jobs = web::Data::new(jobs);
    let app = web::Data::from(Arc::clone(&instance.app));
    let streams = web::Data::from(Arc::clone(&instance.streams));
    let table = web::Data::new(of_document(RouteTable::of));
    let server = HttpServer::new(move || {
        control::app(app.clone(), streams.clone(), table.clone(), jobs.clone())
    });
    let server = server
        .workers(1)
        .shutdown_timeout(DRAIN.as_secs())
        .disable_signals()
        .listen_uds(instance.dir.listen_at(socket)?)?;
    Ok(server.run())
}

fn workers(config: &Config) -> usize {
    match config.workers {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        workers => workers,
    }
}
