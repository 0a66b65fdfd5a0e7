//! The two HTTP servers: the public one and the control socket.

use std::{future::ready, io, net::SocketAddr, path::Path, sync::Arc, time::Duration};

use actix_http::{HttpService, KeepAlive, Request, error::DispatchError};
use actix_service::{
    IntoServiceFactory, Service, ServiceFactory, ServiceFactoryExt, apply_fn_factory, fn_service,
    map_config,
};
use actix_tls::accept::{
    TlsError as AcceptError, max_concurrent_tls_connect,
    rustls_0_23::{Acceptor, TlsStream},
};
use actix_web::{
    App, HttpServer, Route,
    body::BoxBody,
    dev::{AppConfig, Server, ServiceRequest, ServiceResponse},
    middleware::from_fn,
    rt::net::{ActixStream, TcpStream, UnixStream},
    web,
};

use super::{
    DRAIN, DataDirError, Error, Instance,
    connection::Connection,
    limits::connections_per_worker,
    listen::{Listener, SocketFile},
    outermost::{of_panic, refuse_host, unless_panicked},
    requests::{Answer, Requests},
    slots::{Slot, most_without_end},
    tls::Certificate,
    workers::Workers,
};
use crate::{
    config::Config,
    http::{
        self, MalformedRequests, OncePerMinute, REQUEST_ID, RouteTable, TrustedProxies,
        VerificationState, console,
        control::{self, JobRunner},
        development::{self, Development},
        openapi::of_document,
        own_address::OwnAddress,
        routes,
        stream_limits::Streams,
        system::{documents::Documents, pages, swagger_ui},
    },
    service::Keyward,
    telemetry::Metrics,
};

/// The time for the first request's head, from the connect on.
const HEAD_PATIENCE: Duration = Duration::from_secs(5);
/// How long a client may take to close its end.
const CLOSE_PATIENCE: Duration = Duration::from_secs(1);
/// Threads of each worker that wait for the disk. They wait for the same group commit.
const BLOCKING_THREADS: usize = 64;

pub(super) fn public_server(
    parts: &Parts,
    config: &Config,
    listeners: Vec<Listener>,
    certificate: Option<&Arc<Certificate>>,
) -> Result<(Server, Vec<SocketFile>), Error> {
    let workers = workers(config);
    let connections = connections_per_worker(config, workers);
    // A client that begins a handshake and waits holds back all others if fewer than its connections
    // are allowed. The limit on connections limits their memory.
    max_concurrent_tls_connect(connections);
    let most = most_without_end(connections);
    let mut server = Server::build()
        .workers(workers)
        .worker_max_blocking_threads(BLOCKING_THREADS)
        .max_concurrent_connections(connections)
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
                    apply_fn_factory::<_, _, _, _, _, TcpStream, _, _>(
                        Acceptor::new(config.clone()),
                        move |io: TcpStream, acceptor: &_| {
                            let slot = Slot::open(most);
                            let handshake = Service::<TcpStream>::call(acceptor, io);
                            async move { secured(slot, handshake).await }
                        },
                    )
                    .map_init_err(drop)
                    .map_err(AcceptError::into_service_error)
                    .and_then(
                        http_service(parts.clone(), draining.clone()).map_err(AcceptError::Service),
                    )
                })
            }
            (Listener::Tcp(it), None) => server.listen(&address, it, move || {
                fn_service(move |io: TcpStream| {
                    let peer = io.peer_addr().ok();
                    ready(Ok((Connection::new(io, peer, Slot::open(most)), peer)))
                })
                .and_then(http_service(parts.clone(), draining.clone()))
            }),
            // A Unix socket needs no TLS: no other machine can read it.
            (Listener::Unix(it, file), _) => {
                sockets.extend(file);
                server.listen_uds(&address, it, move || {
                    fn_service(move |io: UnixStream| {
                        ready(Ok((Connection::new(io, None, Slot::open(most)), None)))
                    })
                    .and_then(http_service(parts.clone(), draining.clone()))
                })
            }
        }
        .map_err(|source| Error::Listen { address, source })?;
    }
    Ok((server.run(), sockets))
}

/// Returns the connection after its handshake. The handshake fails if another connection needs the slot.
async fn secured<Refused>(
    mut slot: Slot,
    handshake: impl Future<Output = Result<TlsStream<TcpStream>, AcceptError<io::Error, Refused>>>,
) -> Result<(Connection<TlsStream<TcpStream>>, Option<SocketAddr>), AcceptError<io::Error, Refused>>
{
    let io = slot.unless_needed(handshake).await.unwrap_or(Err(AcceptError::Timeout))?;
    let peer = io.get_ref().0.peer_addr().ok();
    // The limits are for the decrypted bytes.
    Ok((Connection::new(io, peer, slot), peer))
}

/// The parts of each worker's application.
#[derive(Clone)]
pub(super) struct Parts {
    app: web::Data<Keyward>,
    metrics: web::Data<Metrics>,
    streams: web::Data<Streams>,
    pub proxies: web::Data<TrustedProxies>,
    documents: web::Data<Documents>,
    table: web::Data<RouteTable>,
    address: web::Data<OwnAddress>,
    complaints: web::Data<OncePerMinute>,
    malformed: Arc<MalformedRequests>,
    pub workers: Arc<Workers>,
    console: bool,
    docs: bool,
    development: Option<(web::Data<Development>, web::Data<JobRunner>)>,
}

impl Parts {
    pub fn new(
        instance: &Instance,
        config: &Config,
        metrics: &Arc<Metrics>,
        jobs: JobRunner,
    ) -> Self {
        let (documents, table) =
            of_document(|document| (Documents::of(document), RouteTable::of(document)));
        let app = web::Data::from(Arc::clone(&instance.app));
        let metrics = web::Data::from(Arc::clone(metrics));
        Self {
            malformed: MalformedRequests::new(app.clone(), metrics.clone()),
            complaints: web::Data::new(OncePerMinute::default()),
            workers: Arc::default(),
            app,
            metrics,
            streams: web::Data::from(Arc::clone(&instance.streams)),
            proxies: web::Data::new(TrustedProxies::new(config.trusted_proxies.clone())),
            documents: web::Data::new(documents),
            table: web::Data::new(table),
            address: web::Data::new(OwnAddress {
                configured: config.public_url.clone(),
                tls: config.tls.certificate.is_some(),
            }),
            console: config.console,
            docs: config.docs,
            development: instance
                .development
                .clone()
                .map(|it| (web::Data::from(it), web::Data::new(jobs))),
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
        let Self {
            app, metrics, streams, proxies, documents, table, address, console, docs, ..
        } = self;
        self.workers.join();
        let ids = web::Data::new(http::RequestIds::new(&app));
        let state = VerificationState::new(
            app.clone(),
            metrics.clone(),
            ids.clone(),
            proxies.clone(),
            self.complaints,
        );
        let state = web::Data::new(state);
        let development = self.development;
        App::new()
            .app_data(app)
            .app_data(ids)
            .app_data(metrics)
            .app_data(streams)
            .app_data(documents)
            .app_data(table)
            .app_data(address)
            .app_data(proxies)
            .app_data(state.clone())
            .configure(|cfg| match development {
                None => {
                    cfg.default_service(no_path());
                    services(cfg, &state, console, docs, |_| ());
                }
                // The mark is around all services, so that the server of every day has no part of it.
                Some((development, jobs)) => {
                    cfg.app_data(development).app_data(jobs);
                    cfg.default_service(no_path().wrap(from_fn(development::mark)));
                    let inside = |cfg: &mut web::ServiceConfig| {
                        services(cfg, &state, console, docs, development::routes);
                    };
                    let marked = web::scope("").wrap(from_fn(development::mark));
                    cfg.service(marked.configure(inside));
                }
            })
    }
}

/// Answers a request whose target is not a path, as in `OPTIONS *`.
fn no_path() -> Route {
    web::to(http::no_such_operation).wrap(from_fn(http::read_body)).wrap(from_fn(http::wrap))
}

/// Adds all services of the public address. `further` adds those of development mode.
fn services(
    cfg: &mut web::ServiceConfig,
    state: &web::Data<VerificationState>,
    console: bool,
    docs: bool,
    further: impl FnOnce(&mut web::ServiceConfig),
) {
    cfg.configure(|cfg| VerificationState::mount(state, cfg))
        .configure(routes::hot_routes)
        .service(
            web::scope("")
                .wrap(from_fn(http::read_body))
                .wrap(from_fn(http::wrap))
                .configure(routes::routes)
                .configure(further)
                .configure(|cfg| {
                    pages::first_page(cfg, [(console, "/console/"), (docs, "/docs/")]);
                    if console {
                        console::pages(cfg);
                    }
                    if docs {
                        swagger_ui::docs(cfg);
                    }
                })
                .default_service(web::to(http::no_such_operation)),
        );
}

/// Builds the HTTP/1 service of connections that count their requests. It is as [`HttpServer`] builds
/// it, which does not allow another type of connection.
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
    let unread = Arc::clone(&malformed);
    let ids = Arc::new(http::RequestIds::new(&parts.app));
    let app = parts.application().into_factory();
    let app = app.map_err(|err: actix_web::Error| err.error_response());
    let counted = apply_fn_factory(
        map_config(app, |()| AppConfig::default()),
        move |mut request: Request, app: &_| {
            let requests = request.conn_data::<Requests>().cloned();
            let running = requests.map(|it| it.begin(&mut request));
            let ids = Arc::clone(&ids);
            let given = request.head().headers.get(REQUEST_ID).cloned();
            let answer = match refuse_host(&mut request, &ids) {
                Some(refusal) => {
                    unread.record(request.peer_addr(), "the header Host is no host");
                    Err(refusal)
                }
                None => Ok(app.call(request)),
            };
            async move {
                let answer = unless_panicked(answer?).await;
                let answer: ServiceResponse<BoxBody> =
                    answer.unwrap_or_else(|| Err(of_panic(given.as_ref(), &ids)))?;
                Ok(answer.map_body(|_, body| Answer::new(body, running)))
            }
        },
    );
    HttpService::build()
        // The connection ends itself.
        .keep_alive(KeepAlive::Os)
        .client_request_timeout(HEAD_PATIENCE)
        .client_disconnect_timeout(CLOSE_PATIENCE)
        .graceful_shutdown_signal(draining)
        .on_connect_ext(move |io: &Connection<IO>, data| {
            data.insert(io.requests.clone());
            malformed.watch(io.peer, data);
        })
        .h1(counted)
}

/// Returns the server of the control socket. `url` is the URL of the public server, for links.
pub(super) fn control_server(
    instance: &Instance,
    socket: &Path,
    jobs: JobRunner,
    url: &str,
) -> Result<Server, Error> {
    let unusable = |source| DataDirError::Unusable { path: socket.to_owned(), source };
    let listener = instance.dir.listen_at(socket).map_err(unusable)?;
    let jobs = web::Data::new(jobs);
    let app = web::Data::from(Arc::clone(&instance.app));
    let streams = web::Data::from(Arc::clone(&instance.streams));
    let table = web::Data::new(of_document(RouteTable::of));
    let address = OwnAddress { configured: Some(url.to_owned()), tls: false };
    let address = web::Data::new(address);
    let server = HttpServer::new(move || {
        let (app, streams, table) = (app.clone(), streams.clone(), table.clone());
        control::app(app, streams, table, jobs.clone(), address.clone())
    });
    let server = server
        .workers(1)
        .shutdown_timeout(DRAIN.as_secs())
        .disable_signals()
        .listen_uds(listener)
        .map_err(Error::Run)?;
    Ok(server.run())
}

fn workers(config: &Config) -> usize {
    match config.workers {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        workers => workers,
    }
}
