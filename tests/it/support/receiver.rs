//! A receiver of webhooks that answers as the test says, and remembers what it was sent.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Condvar, Mutex},
    thread,
    time::Duration,
};

use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(20);

/// One request.
#[derive(Clone, Debug)]
pub struct Sent {
    /// The first line.
    pub line: String,
    /// The headers by their names in lower case.
    pub headers: BTreeMap<String, String>,
    pub body: String,
}

/// What a [`Receiver`] does with a request.
#[derive(Clone, Debug)]
pub enum Reaction {
    /// Answers with this status and these lines of headers.
    Answer(u16, &'static str),
    /// Answers nothing until the other side closes the connection.
    Hang,
}

/// An HTTP server on the loopback interface.
pub struct Receiver {
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    sent: Mutex<Vec<Sent>>,
    arrived: Condvar,
    reaction: Mutex<Reaction>,
}

impl Sent {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).expect("JSON")
    }

    /// The number of the event.
    pub fn seq(&self) -> i64 {
        self.json()["data"]["seq"].as_i64().expect("a number")
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).unwrap_or_else(|| panic!("no {name}: {self:?}"))
    }
}

impl Receiver {
    pub fn start(reaction: Reaction) -> Self {
        Self::serve(SocketAddr::from(([127, 0, 0, 1], 0)), reaction)
    }

    /// Listens at this address.
    pub fn serve(address: SocketAddr, reaction: Reaction) -> Self {
        let listener = TcpListener::bind(address).expect("the address is free");
        let address = listener.local_addr().expect("its address");
        let shared = Arc::new(Shared {
            sent: Mutex::default(),
            arrived: Condvar::new(),
            reaction: Mutex::new(reaction),
        });
        let inside = Arc::clone(&shared);
        // Ends with the process of the tests.
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let inside = Arc::clone(&inside);
                thread::spawn(move || while exchange(&stream, &inside).is_some() {});
            }
        });
        Self { address, shared }
    }

    pub fn url(&self) -> String {
        format!("http://{}/hook", self.address)
    }

    /// What it does from now on.
    pub fn react(&self, reaction: Reaction) {
        *self.shared.reaction.lock().expect("no thread panicked") = reaction;
    }

    /// Everything that was sent so far.
    pub fn sent(&self) -> Vec<Sent> {
        self.shared.sent.lock().expect("no thread panicked").clone()
    }

    /// Waits until this many requests have been sent, and returns all.
    #[track_caller]
    pub fn wait_for(&self, count: usize) -> Vec<Sent> {
        let sent = self.shared.sent.lock().expect("no thread panicked");
        let few = |it: &mut Vec<Sent>| it.len() < count;
        let (sent, waited) = self
            .shared
            .arrived
            .wait_timeout_while(sent, PATIENCE, few)
            .expect("no thread panicked");
        assert!(!waited.timed_out(), "{} of {count}: {sent:#?}", sent.len());
        sent.clone()
    }
}

/// Reads one request and reacts. `None` at the end of the connection.
fn exchange(stream: &TcpStream, shared: &Shared) -> Option<()> {
    let (mut reader, mut writer) = (BufReader::new(stream), stream);
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let line = line.trim_end().to_owned();
        if line.is_empty() {
            break;
        }
        lines.push(line);
    }
    let header = |it: &String| {
        let (name, value) = it.split_once(": ").expect("a header");
        (name.to_ascii_lowercase(), value.to_owned())
    };
    let headers: BTreeMap<_, _> = lines[1..].iter().map(header).collect();
    let length = headers.get("content-length").and_then(|it| it.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let body = String::from_utf8(body).expect("UTF-8");
    let reaction = shared.reaction.lock().expect("no thread panicked").clone();
    let sent = Sent { line: lines.swap_remove(0), headers, body };
    shared.sent.lock().expect("no thread panicked").push(sent);
    shared.arrived.notify_all();
    match reaction {
        Reaction::Answer(status, headers) => {
            write!(writer, "HTTP/1.1 {status} x\r\n{headers}content-length: 0\r\n\r\n").ok()
        }
        Reaction::Hang => {
            let _ = std::io::copy(&mut reader, &mut std::io::sink());
            None
        }
    }
}
