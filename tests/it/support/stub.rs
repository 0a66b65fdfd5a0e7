//! Servers that replace others: an API behind a proxy, or a keyward with invalid answers.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
};

/// The answer of a [`Stub`].
#[derive(Clone, Debug)]
pub enum Answer {
    /// The head of an answer with an empty body. The stub adds the length of the body.
    Head(&'static str),
    /// These bytes; then the stub closes the connection.
    Bytes(String),
    /// Nothing, until the other side closes the connection.
    Never,
    /// These bytes, and then nothing until the other side closes the connection.
    Stall(String),
    /// The handshake of RFC 6455; then the stub sends each byte back.
    Upgrade,
}

/// An HTTP server that gives each request the same answer and remembers the heads of all requests.
pub struct Stub {
    pub address: SocketAddr,
    seen: Arc<Mutex<Vec<String>>>,
    answer: Arc<Mutex<Answer>>,
}

impl Stub {
    /// Listens on a free port of the loopback interface.
    pub fn start(answer: Answer) -> Self {
        Self::serve(SocketAddr::from(([127, 0, 0, 1], 0)), answer)
    }

    pub fn serve(address: SocketAddr, answer: Answer) -> Self {
        let listener = TcpListener::bind(address).expect("the address is free");
        let address = listener.local_addr().expect("its address");
        let stub = Self { address, seen: Arc::default(), answer: Arc::new(Mutex::new(answer)) };
        let (heads, answer) = (Arc::clone(&stub.seen), Arc::clone(&stub.answer));
        // This thread runs until the process of the tests ends.
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (heads, answer) = (Arc::clone(&heads), Arc::clone(&answer));
                thread::spawn(move || exchange(&stream, &answer, &heads));
            }
        });
        stub
    }

    /// Sets the answer from now on.
    pub fn answer_with(&self, answer: Answer) {
        *self.answer.lock().expect("no thread panicked") = answer;
    }

    /// Returns the heads of the requests since the last call, in lower case.
    pub fn take_seen(&self) -> Vec<String> {
        std::mem::take(&mut *self.seen.lock().expect("no thread panicked"))
    }
}

fn exchange(stream: &TcpStream, answer: &Mutex<Answer>, heads: &Mutex<Vec<String>>) {
    let (mut head, mut reader, mut writer) = (Vec::new(), BufReader::new(stream), stream);
    while !head.ends_with(b"\r\n\r\n") {
        if reader.read_until(b'\n', &mut head).unwrap_or(0) == 0 {
            return; // The proxy only tested the connection.
        }
    }
    let head = String::from_utf8_lossy(&head).to_ascii_lowercase();
    let length = head.lines().find_map(|it| it.strip_prefix("content-length: ")?.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    if reader.read_exact(&mut body).is_err() {
        return;
    }
    heads.lock().expect("no thread panicked").push(head);
    let answer = answer.lock().expect("no thread panicked").clone();
    let _ = match answer {
        Answer::Head(head) => {
            write!(writer, "{head}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        }
        Answer::Bytes(bytes) => writer.write_all(bytes.as_bytes()),
        Answer::Stall(bytes) => {
            let _ = writer.write_all(bytes.as_bytes());
            std::io::copy(&mut reader, &mut std::io::sink()).map(|_| ())
        }
        Answer::Never => std::io::copy(&mut reader, &mut std::io::sink()).map(|_| ()),
        Answer::Upgrade => {
            // The accept value belongs to the sample key of RFC 6455, 1.3.
            let head = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\
                        Connection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
            let _ = write!(writer, "{head}\r\n\r\n");
            std::io::copy(&mut reader, &mut writer).map(|_| ())
        }
    };
}
