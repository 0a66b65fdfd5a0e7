//! Programs beside the server that stop reading (the reader of the log, the supervisor), and a disk
//! that does not answer. None of them delays an answer, and a stop ends in time.

use std::{
    fs,
    io::{BufReader, Read, Write},
    net::TcpStream,
    os::unix::net::UnixDatagram,
    process::Stdio,
    time::{Duration, Instant},
};

use serde_json::json;

use crate::support::{Binary, Process, Request, keyward, signal, skip};

/// More than a stop may take (10 seconds), and less than any other time limit.
const LIMIT: Duration = Duration::from_secs(20);
const BATCH: usize = 500;

/// Makes the server answer this many logged requests, in batches on one connection.
fn fill_the_log(server: &Binary, batches: usize) {
    let mut stream = TcpStream::connect(server.address).expect("a connection");
    stream.set_read_timeout(Some(LIMIT)).expect("a deadline");
    let mut answers = BufReader::new(stream.try_clone().expect("a second handle"));
    let request = "GET /api/v1/no-such-operation HTTP/1.1\r\nHost: a\r\n\r\n";
    for _ in 0..batches {
        stream.write_all(request.repeat(BATCH).as_bytes()).expect("a batch is sent");
        for _ in 0..BATCH {
            skip_answer(&mut answers);
        }
    }
}

/// Reads one answer with a `Content-Length`.
fn skip_answer(answers: &mut BufReader<TcpStream>) {
    let mut length = 0;
    loop {
        let mut line = String::new();
        std::io::BufRead::read_line(answers, &mut line)
            .expect("the answer comes even if the log is blocked");
        assert!(!line.is_empty(), "the connection stays");
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().expect("a length");
        }
        if line == "\r\n" {
            break;
        }
    }
    answers.read_exact(&mut vec![0; length]).expect("a body");
}

#[test]
fn an_unread_log_delays_no_answer_and_no_stop() {
    let dir = tempfile::tempdir().unwrap();
    // The test harness reads standard error only after the end.
    let server = Binary::serve(&dir.path().join("data"));
    let root = server.root_key();
    // Several times the capacity of the pipe and the queue together.
    fill_the_log(&server, 20);
    let body = json!({ "key": root });
    let verify = Request::new("POST", "/api/v1/api-keys/verify").key(&root).json(&body);
    assert_eq!(verify.send(server.address).expect(200).json()["code"], "VALID");
    Request::new("GET", "/livez").send(server.address).expect(200);
    let metrics = Request::new("GET", "/metrics").send(server.address).expect(200).text();
    let dropped =
        metrics.lines().find_map(|it| it.strip_prefix("keyward_log_lines_dropped_total "));
    assert!(dropped.unwrap().parse::<u64>().unwrap() > 0, "{metrics}");
    let started = Instant::now();
    assert!(server.terminate().status.success());
    assert!(started.elapsed() < LIMIT);
}

#[test]
fn a_log_that_is_read_again_says_how_much_it_lost() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = Binary::serve(&dir.path().join("data"));
    fill_the_log(&server, 20);
    let mut log = server.child.stderr.take().expect("its log");
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        log.read_to_string(&mut text).map(|_| text)
    });
    assert!(server.terminate().status.success());
    let text = reader.join().unwrap().unwrap();
    assert!(text.contains("log lines were dropped"));
    let last = text.lines().last().unwrap();
    assert!(serde_json::from_str::<serde_json::Value>(last).is_ok(), "only complete lines: {last}");
}

#[test]
fn a_supervisor_that_does_not_read_delays_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("notify");
    let notices = UnixDatagram::bind(&socket).unwrap();
    let mut command = keyward();
    command.env("NOTIFY_SOCKET", &socket).env("WATCHDOG_USEC", "3000");
    let server = Binary::serve_as(command, &dir.path().join("data"));
    // One watchdog message each millisecond soon fills the queues of the kernel and of the server.
    let sender = UnixDatagram::unbound().unwrap();
    sender.set_nonblocking(true).unwrap();
    let deadline = Instant::now() + LIMIT;
    while sender.send_to(b"", &socket).is_ok() {
        assert!(Instant::now() < deadline, "the queue never fills");
    }
    fill_the_log(&server, 1);
    Request::new("GET", "/livez").send(server.address).expect(200);
    assert!(server.terminate().status.success());
    drop(notices);
}

#[test]
fn a_supervisor_with_an_abstract_socket_learns_that_the_server_is_ready() {
    use std::os::{linux::net::SocketAddrExt, unix::net::SocketAddr};
    let dir = tempfile::tempdir().unwrap();
    let name = dir.path().display().to_string();
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    let notices = UnixDatagram::bind_addr(&address).unwrap();
    notices.set_read_timeout(Some(LIMIT)).unwrap();
    let mut command = keyward();
    command.env("NOTIFY_SOCKET", format!("@{name}"));
    let server = Binary::serve_as(command, &dir.path().join("data"));
    let mut buffer = [0; 1024];
    let length = notices.recv(&mut buffer).unwrap();
    assert!(String::from_utf8_lossy(&buffer[..length]).starts_with("READY=1\nSTATUS="));
    assert!(server.terminate().status.success());
}

#[test]
fn a_first_line_that_cannot_be_written_ends_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let mut command = keyward();
    command.args(["serve", "--listen", "127.0.0.1:0", "--data-dir"]).arg(&data);
    let mut child = Process::start(command.stdout(full).stderr(Stdio::piped()));
    let deadline = Instant::now() + LIMIT;
    while !data.join("control.sock").exists() {
        assert!(child.try_wait().unwrap().is_none(), "it runs");
        assert!(Instant::now() < deadline, "it never listens");
        std::thread::sleep(Duration::from_millis(10));
    }
    let health = keyward().args(["health", "--data-dir"]).arg(&data).output().unwrap();
    assert!(health.status.success(), "{health:?}");
}

#[test]
fn a_disk_that_does_not_answer_cannot_prevent_a_stop() {
    let can_trace =
        std::process::Command::new("strace").args(["-qq", "-o", "/dev/null", "true"]).status();
    if !can_trace.is_ok_and(|it| it.success()) {
        skip("delaying a sync needs strace and the right to trace");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    // Every sync of a thread from its 30th on takes a minute; only the writer makes that many.
    let fault = "inject=fsync,fdatasync:delay_enter=60000000:when=30+";
    let strace = ["strace", "-D", "-f", "-qq", "-o", "/dev/null", "-e", "trace=fsync,fdatasync"];
    let server = Binary::serve_under(&[&strace[..], &["-e", fault]].concat(), &data);
    let root = server.root_key();
    let create = || {
        let body = json!({ "name": "x", "scopes": ["orders:read"] });
        let mut stream =
            Request::new("POST", "/api/v1/api-keys").key(&root).json(&body).open(server.address);
        stream.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
        let mut start = [0; 12];
        stream.read_exact(&mut start).is_ok()
    };
    let answered = (0..100).take_while(|_| create()).count();
    assert!((1..100).contains(&answered), "{answered}");
    let body = json!({ "key": root });
    let verify = Request::new("POST", "/api/v1/api-keys/verify").key(&root).json(&body);
    assert_eq!(verify.send(server.address).expect(200).json()["code"], "VALID");
    let mut server = server;
    let tracer_pid = tracer(server.child.id());
    let log = BufReader::new(server.child.stderr.take().expect("its log"));
    let started = Instant::now();
    signal(server.child.id(), "-TERM");
    let mut lines = std::io::BufRead::lines(log).map_while(Result::ok);
    assert!(lines.any(|it| it.starts_with("keyward: stopped after 10 seconds")));
    assert!(started.elapsed() < LIMIT);
    // The tracer holds the delayed thread. Without the tracer, the kernel ends the process at once.
    signal(tracer_pid, "-KILL");
    assert_eq!(server.wait().status.code(), Some(75));
}

fn tracer(pid: u32) -> u32 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("a process");
    let line = status.lines().find_map(|it| it.strip_prefix("TracerPid:")).expect("a line");
    line.trim().parse().expect("a number")
}

#[test]
fn a_server_with_a_limit_of_64_open_files_verifies_and_stops() {
    let dir = tempfile::tempdir().unwrap();
    let wrapper = ["sh", "-c", "ulimit -n 64 && exec \"$0\" \"$@\""];
    let server = Binary::serve_under(&wrapper, &dir.path().join("data"));
    let root = server.root_key();
    let idle: Vec<_> = (0..20).map(|_| TcpStream::connect(server.address)).collect();
    assert!(idle.iter().all(Result::is_ok));
    drop(idle);
    let body = json!({ "key": root });
    let verify = Request::new("POST", "/api/v1/api-keys/verify").key(&root).json(&body);
    assert_eq!(verify.send(server.address).expect(200).json()["code"], "VALID");
    let started = Instant::now();
    let output = server.terminate();
    assert!(output.status.success() && started.elapsed() < LIMIT);
    assert!(String::from_utf8_lossy(&output.stderr).contains("allows fewer connections"));
}
