//! Clients that send requests and read no answers: they use little memory, and only for a short
//! time.

use std::{
    fs,
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    os::unix::fs::PermissionsExt,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use rcgen::generate_simple_self_signed;
use rustix::net::sockopt;
use rustls::{ClientConfig, ClientConnection, RootCertStore, crypto::ring};
use serde_json::{Value, json};

use crate::support::{Binary, Request, Supervised, TestServer};

const KEYS: &str = "/api/v1/api-keys";
const CLIENTS: usize = 500;
/// The most memory that all of them together may use, in KiB.
const MOST_MEMORY: u64 = 150 * 1024;
/// The number of clients with TLS, which needs some more memory.
const TLS_CLIENTS: usize = 60;
const MOST_TLS_MEMORY: u64 = 40 * 1024;
/// The server closes the connections 30 seconds after it has filled their buffers. A busy machine
/// needs more time.
const PATIENCE: Duration = Duration::from_mins(4);
/// The most bytes that a client sends if the server continues to read.
const MOST_SENT: usize = 512 * 1024;

/// Returns the resident memory of a process, in KiB.
fn resident(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the process is there");
    let line = status.lines().find_map(|it| it.strip_prefix("VmRSS:")).expect("its memory");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

/// Returns how many connections the process that listens at this address has (`proc_pid_net(5)`).
/// Only root may read the file table of the process.
fn connections(address: SocketAddr) -> usize {
    let port = format!(":{:04X}", address.port());
    let table = fs::read_to_string("/proc/net/tcp").expect("the sockets of this machine");
    let held = |line: &&str| {
        let fields: Vec<_> = line.split_whitespace().collect();
        // A closed connection, or one that waits to be accepted, has no inode.
        fields[1].ends_with(&port) && fields[3] != "0A" && fields[9] != "0"
    };
    table.lines().skip(1).filter(held).count()
}

fn get(target: &str, key: Option<&str>) -> Vec<u8> {
    let key = key.map(|it| format!("X-API-Key: {it}\r\n")).unwrap_or_default();
    format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n{key}\r\n").into_bytes()
}

/// Connects and sends the request repeatedly until the server reads no more.
fn ask(address: SocketAddr, request: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(address).expect("a connection");
    // Small, so that the server's buffers fill after a few answers and not after thousands.
    sockopt::set_socket_recv_buffer_size(&stream, 4096).expect("a size");
    stream.set_nonblocking(true).expect("it does not block");
    let flood = request.repeat(MOST_SENT / request.len());
    let mut sent = 0;
    while let Some(rest) = flood.get(sent..).filter(|it| !it.is_empty()) {
        match stream.write(rest) {
            Ok(length) => sent += length,
            Err(err) if err.kind() == ErrorKind::WouldBlock => break,
            Err(_) => break,
        }
    }
    stream
}

/// Makes an account whose list of keys and events are longer than any page.
fn large_account(address: SocketAddr, root: &str) -> String {
    let send = |method: &str, target: &str, key: &str, body: &Value| {
        Request::new(method, target).key(key).json(body).send(address).expect(201).json()
    };
    let made = send("POST", "/api/v1/accounts", root, &json!({ "name": "Large" }));
    let owner = made["apiKey"]["key"].as_str().expect("its key").to_owned();
    let body = json!({
        "name": "large",
        "scopes": ["orders:read"],
        "metadata": { "text": "x".repeat(4000) },
    });
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..80).for_each(|_| drop(send("POST", KEYS, &owner, &body))));
        }
    });
    owner
}

#[test]
fn clients_that_do_not_read_use_little_memory_and_are_disconnected() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = Binary::serve_quietly(&dir.path().join("data"));
    let (root, pid) = (server.root_key(), server.child.id());
    let owner = large_account(server.address, &root);
    let requests = [
        get(KEYS, Some(&owner)),
        get("/api/v1/events", Some(&root)),
        get("/api/v1/events/stream?after=0", Some(&owner)),
        get("/docs/swagger-ui-bundle.js", None),
        get("/openapi.json", None),
        get("/metrics", None),
        get("/authz/nginx", None), // The refusal has no body.
    ];
    let before = resident(pid);
    let clients: Vec<_> =
        (0..CLIENTS).map(|it| ask(server.address, &requests[it % requests.len()])).collect();
    let most = most_memory_until_gone(pid, server.address);
    assert!(most < before + MOST_MEMORY, "{before} KiB before, {most} KiB at most");
    drop(clients);
    Request::new("GET", KEYS).key(&owner).send(server.address).expect(200);
}

/// Returns the most resident memory of a process, in KiB, until nearly all its clients are gone.
fn most_memory_until_gone(pid: u32, address: SocketAddr) -> u64 {
    let started = Instant::now();
    let mut most = resident(pid);
    while 8 < connections(address) {
        most = most.max(resident(pid));
        assert!(started.elapsed() < PATIENCE, "{} are left", connections(address));
        thread::sleep(Duration::from_millis(50));
    }
    most
}

/// As [`ask`], over TLS.
fn ask_in_secret(address: SocketAddr, config: &Arc<ClientConfig>, request: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(address).expect("a connection");
    let name = "localhost".try_into().expect("a name");
    let mut tls = ClientConnection::new(Arc::clone(config), name).expect("a client");
    while tls.is_handshaking() {
        tls.complete_io(&mut stream).expect("a handshake");
    }
    stream.set_nonblocking(true).expect("it does not block");
    for piece in request.repeat(MOST_SENT / request.len()).chunks(16 * 1024) {
        tls.writer().write_all(piece).expect("it is buffered");
        while tls.wants_write() {
            if tls.write_tls(&mut stream).is_err() {
                return stream;
            }
        }
    }
    stream
}

#[test]
fn clients_that_do_not_read_use_little_memory_with_tls_and_are_disconnected() {
    let dir = tempfile::tempdir().expect("a directory");
    let pair = generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let (certificate, key) = (dir.path().join("a.pem"), dir.path().join("a.key"));
    fs::write(&certificate, pair.cert.pem()).expect("a file");
    fs::write(&key, pair.signing_key.serialize_pem()).expect("a file");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).expect("it is ours");
    let config = format!(
        "listen = \"127.0.0.1:0\"\n[log]\nlevel = \"warn\"\n[tls]\ncertificate = {certificate:?}\nkey = {key:?}\n"
    );
    let server = Supervised::serve(dir.path(), &config);
    let url = server.url("https://");
    let address = url.trim_start_matches("https://").parse().expect("an address");
    let mut roots = RootCertStore::empty();
    roots.add(pair.cert.der().clone()).expect("an authority");
    let client = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let client = client.with_safe_default_protocol_versions().expect("versions");
    let client = Arc::new(client.with_root_certificates(roots).with_no_client_auth());
    let pid = server.child.id();
    let before = resident(pid);
    let requests =
        [get("/readyz", None), get("/docs/swagger-ui-bundle.js", None), get("/authz/nginx", None)];
    let clients: Vec<_> = (0..TLS_CLIENTS)
        .map(|it| ask_in_secret(address, &client, &requests[it % requests.len()]))
        .collect();
    let most = most_memory_until_gone(pid, address);
    assert!(most < before + MOST_TLS_MEMORY, "{before} KiB before, {most} KiB at most");
    drop(clients);
}

/// Returns the processor time of a process, in ticks of 10 ms (`proc_pid_stat(5)`).
fn processor_time(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("the process is there");
    let (_, fields) = stat.rsplit_once(") ").expect("its name");
    let fields = fields.split(' ').skip(11).take(2);
    fields.map(|it| it.parse::<u64>().expect("a number")).sum()
}

#[test]
fn requests_behind_a_stream_take_no_processor_time() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = Binary::serve_quietly(&dir.path().join("data"));
    let (root, pid) = (server.root_key(), server.child.id());
    let mut stream = TcpStream::connect(server.address).expect("a connection");
    stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a time-out");
    let head = format!("Host: localhost\r\nX-API-Key: {root}\r\nContent-Length: 2\r\n\r\n{{}}");
    let request = format!("GET /api/v1/events/stream HTTP/1.1\r\n{head}");
    stream.write_all(request.as_bytes()).expect("it is taken");
    let mut first = [0; 16];
    stream.read_exact(&mut first).expect("an answer");
    assert!(first.starts_with(b"HTTP/1.1 200"), "{first:?}");
    stream.set_nonblocking(true).expect("it does not block");
    let flood = get("/livez", None).repeat(10_000);
    let mut sent = 0;
    let deadline = Instant::now() + Duration::from_secs(3);
    while Instant::now() < deadline {
        match stream.write(&flood[sent..]) {
            Ok(length) => sent += length,
            Err(_) => thread::sleep(Duration::from_millis(10)),
        }
    }
    let before = processor_time(pid);
    thread::sleep(Duration::from_secs(2));
    let ticks = processor_time(pid) - before;
    assert!(ticks < 10, "{ticks} of 200 ticks used while waiting; {sent} bytes were accepted");
}

#[test]
fn a_client_that_pipelines_and_reads_gets_every_answer_in_order() {
    let server = TestServer::start();
    let mut stream = TcpStream::connect(server.address).expect("a connection");
    stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a time-out");
    let mut reader = stream.try_clone().expect("its other half");
    let count = 2000;
    let sender = thread::spawn(move || {
        for number in 0..count {
            let target = if number % 3 == 0 { "/readyz" } else { "/livez" };
            let id = format!("X-Request-Id: pipelined-{number}\r\n");
            let text = format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n{id}\r\n");
            stream.write_all(text.as_bytes()).expect("the server reads");
        }
        stream
    });
    let mut text = String::new();
    let last = format!("x-request-id: pipelined-{}\r\n", count - 1);
    let mut piece = [0; 16 * 1024];
    while !(text.contains(&last) && text.ends_with("\r\n\r\nok\n")) {
        let length = reader.read(&mut piece).expect("more");
        assert_ne!(length, 0, "{text}");
        text.push_str(std::str::from_utf8(&piece[..length]).expect("ASCII"));
    }
    let ids = text.lines().filter_map(|it| it.strip_prefix("x-request-id: pipelined-"));
    let ids: Vec<usize> = ids.map(|it| it.parse().expect("a number")).collect();
    assert_eq!(ids, (0..count).collect::<Vec<_>>());
    drop(sender.join());
}

#[test]
fn a_body_that_looks_like_http_is_not_read_as_pipelined_requests() {
    let server = TestServer::start();
    let text = "GET / HTTP/1.1 ".repeat(200);
    let body = json!({ "name": "x", "scopes": ["orders:read"], "metadata": { "text": text } });
    let request = Request::new("POST", KEYS).key(&server.root.text).json(&body);
    server.send(&request).expect(201);
}
