//! The limit on connections: clients that ask nothing never keep out one that does.

use std::{
    collections::VecDeque,
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use rustix::net::sockopt;

use crate::support::{Request, TestServer};

const LIMIT: u32 = 64;
/// Clients that connect, several times as many as the limit.
const MANY: usize = 300;
/// Less than an idle connection may stay (75 s). An answer that takes longer waited for others.
const PATIENCE: Duration = Duration::from_secs(20);

fn server() -> TestServer {
    TestServer::with(|it| it.max_connections = LIMIT)
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Sends a request without a body and reads its answer to the end.
fn ask(stream: &mut TcpStream) {
    stream.write_all(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    let mut piece = [0; 1024];
    while !answer.ends_with(b"\r\n\r\nok\n") {
        let length = stream.read(&mut piece).unwrap();
        assert_ne!(length, 0, "{}", String::from_utf8_lossy(&answer));
        answer.extend_from_slice(&piece[..length]);
    }
}

/// Sends a request whose body lacks its last byte, and waits until its head was read. It is answered only
/// with the rest of it.
fn begin(server: &TestServer) -> TcpStream {
    const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";
    let mut stream = connect(server.address);
    let lines = [
        "POST /api/v1/api-keys/verify HTTP/1.1\r\nHost: localhost\r\nX-API-Key: ",
        &server.root.text,
        "\r\nContent-Type: application/json\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n",
    ];
    stream.write_all(lines.concat().as_bytes()).unwrap();
    let mut answer = [0; CONTINUE.len()];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(answer, CONTINUE);
    stream.write_all(b"{").unwrap();
    stream
}

/// Reads the status of the next answer.
fn status_of(stream: &mut TcpStream) -> u16 {
    let mut line = [0; 12];
    stream.read_exact(&mut line).unwrap();
    str::from_utf8(&line).unwrap().strip_prefix("HTTP/1.1 ").unwrap().parse().unwrap()
}

/// Returns whether the server has ended this connection.
fn is_ended(stream: &mut TcpStream) -> bool {
    stream.set_nonblocking(true).unwrap();
    match stream.read(&mut [0; 1]) {
        Ok(length) => length == 0,
        Err(err) => err.kind() != ErrorKind::WouldBlock,
    }
}

#[test]
fn idle_connections_beyond_the_limit_make_room_for_clients_that_ask() {
    let server = server();
    let mut kept = connect(server.address);
    ask(&mut kept);
    let mut idle: Vec<_> = (0..MANY)
        .map(|number| {
            let mut stream = connect(server.address);
            ask(&mut stream);
            if number % 10 == 0 {
                ask(&mut kept);
            }
            stream
        })
        .collect();
    ask(&mut kept);
    server.send(&Request::new("GET", "/livez")).expect(200);
    // The oldest ones made room, and only as many as needed.
    let ended: Vec<_> = idle.iter_mut().map(is_ended).collect();
    let first_open = ended.iter().position(|it| !it).unwrap();
    let open = MANY - first_open;
    assert!(ended[first_open..].iter().all(|it| !it), "{ended:?}");
    let least = usize::try_from(LIMIT).unwrap() / 16 * 14;
    assert!((least..=usize::try_from(LIMIT).unwrap()).contains(&open), "{open}");
}

#[test]
fn silent_connections_beyond_the_limit_make_room_for_clients_that_ask() {
    // Few, so that one that waits for the time limit of each silent connection waits for too long.
    let server = TestServer::with(|it| it.max_connections = LIMIT / 4);
    for half in ["", "GET /livez HTTP/1.1\r\nHost: "] {
        let silent = (0..MANY).map(|_| {
            let mut stream = connect(server.address);
            // A connection that made room for a later one may be gone.
            let _ = stream.write_all(half.as_bytes());
            stream
        });
        let silent: Vec<_> = silent.collect();
        ask(&mut connect(server.address));
        drop(silent);
    }
}

#[test]
fn a_request_that_was_read_is_never_cut_off() {
    let server = server();
    let mut busy: Vec<_> = (0..20).map(|_| begin(&server)).collect();
    server.send(&Request::new("GET", "/livez")).expect(200);
    for _ in 0..MANY {
        ask(&mut connect(server.address));
    }
    let idle: Vec<_> = (0..MANY).map(|_| connect(server.address)).collect();
    server.send(&Request::new("GET", "/livez")).expect(200);
    for stream in &mut busy {
        stream.write_all(b"}").unwrap();
        assert_eq!(status_of(stream), 422);
    }
    drop(idle);
}

#[test]
fn a_client_waits_while_every_connection_works_and_is_served_when_one_ends() {
    let server = server();
    let stream = Request::new("GET", "/api/v1/events/stream").key(&server.root.text);
    let busy = (0..LIMIT).map(|_| {
        let mut stream = stream.open(server.address);
        assert_eq!(status_of(&mut stream), 200);
        stream
    });
    let mut busy: Vec<_> = busy.collect();
    let mut waiting = connect(server.address);
    waiting.write_all(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    waiting.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    let early = waiting.read(&mut [0; 1]).map_err(|it| it.kind());
    assert_eq!(early, Err(ErrorKind::WouldBlock), "the limit holds");
    waiting.set_read_timeout(Some(PATIENCE)).unwrap();
    busy.truncate(40);
    assert_eq!(status_of(&mut waiting), 200);
}

/// Answers that are longer than the buffers of the kernel. They have several lengths, so what is left in the
/// server when the kernel takes no more differs.
#[test]
fn a_client_that_reads_long_answers_slowly_gets_all_of_them() {
    let server = server();
    let targets = ["/docs/swagger-ui-bundle.js", "/docs/swagger-ui.css", "/openapi.json", "/"];
    let mut readers: Vec<_> = targets
        .iter()
        .map(|last| {
            let mut stream = connect(server.address);
            // The kernel doubles it. A smaller one would make each turn slow.
            sockopt::set_socket_recv_buffer_size(&stream, 32 * 1024).unwrap();
            let before = ["/docs/swagger-ui-bundle.js"; 2];
            for target in before.iter().chain([last]) {
                let request = format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n");
                stream.write_all(request.as_bytes()).unwrap();
            }
            let lengths = before.iter().chain([last]).map(|it| length_of_answer(&server, it));
            (last, stream, lengths.sum::<usize>())
        })
        .collect();
    let mut idle = VecDeque::new();
    let mut piece = [0; 8 * 1024];
    while readers.iter().any(|(_, _, left)| 0 < *left) {
        for (last, stream, left) in &mut readers {
            let most = piece.len().min(*left);
            let outcome = stream.read_exact(&mut piece[..most]);
            outcome.unwrap_or_else(|err| panic!("{last}: {err}, with {left} bytes left"));
            *left -= most;
        }
        // Always more connections than the server keeps.
        idle.extend((0..4).map(|_| connect(server.address)));
        idle.drain(..idle.len().saturating_sub(100));
    }
}

/// Returns the length of an answer with its head. Two answers to the same request have the same length.
fn length_of_answer(server: &TestServer, target: &str) -> usize {
    let mut stream = connect(server.address);
    let request = format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let (mut answer, mut piece) = (Vec::new(), vec![0; 256 * 1024]);
    loop {
        let length = stream.read(&mut piece).unwrap();
        assert_ne!(length, 0, "{target}");
        answer.extend_from_slice(&piece[..length]);
        let Some(end) = answer.windows(4).position(|it| it == b"\r\n\r\n") else { continue };
        let head = str::from_utf8(&answer[..end]).unwrap().to_ascii_lowercase();
        let body = head.lines().find_map(|it| it.strip_prefix("content-length: "));
        let all = end + 4 + body.unwrap().parse::<usize>().unwrap();
        if all == answer.len() {
            return all;
        }
    }
}
