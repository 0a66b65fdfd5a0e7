//! A small blocking HTTP client that can also send invalid requests.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use serde_json::Value;

/// A request, sent exactly as it is.
#[derive(Clone, Debug)]
pub struct Request {
    method: String,
    target: String,
    headers: Vec<(String, String)>,
    body: Option<Vec<u8>>,
}

#[derive(Clone, Debug)]
pub struct Response {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Request {
    pub fn new(method: &str, target: &str) -> Self {
        Self { method: method.into(), target: target.into(), headers: vec![], body: None }
    }

    pub fn key(self, key: &str) -> Self {
        self.header("X-API-Key", key)
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    pub fn json(self, body: &Value) -> Self {
        self.header("Content-Type", "application/json").body(body.to_string())
    }

    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = Some(body.into());
        self
    }

    /// Sends it over a new connection and reads the whole answer. An event stream has no end, so of
    /// it only the head is read.
    pub fn send(&self, address: SocketAddr) -> Response {
        Response::parse(&self.exchange(address).expect("the server accepts and reads"))
    }

    /// As [`Request::send`]; `None` if the server died before the answer was complete.
    pub fn try_send(&self, address: SocketAddr) -> Option<Response> {
        let answer = self.exchange(address).ok()?;
        answer.windows(4).any(|it| it == b"\r\n\r\n").then_some(())?;
        let response = Response::parse(&answer);
        let length = response.header("content-length").map_or(Ok(0), str::parse);
        (length == Ok(response.body.len())).then_some(response)
    }

    fn exchange(&self, address: SocketAddr) -> Result<Vec<u8>, io::Error> {
        let mut stream = self.try_open(address)?;
        let mut answer = Vec::new();
        let mut piece = [0; 16 * 1024];
        loop {
            let len = match stream.read(&mut piece) {
                Ok(0) => break,
                Ok(len) => len,
                // Any thread of the tests may get this signal. With a time limit on the socket, it
                // ends the read.
                Err(err) if err.kind() == io::ErrorKind::Interrupted => continue,
                Err(err) if answer.is_empty() => return Err(err),
                Err(_) => break,
            };
            answer.extend_from_slice(&piece[..len]);
            let head = answer.windows(4).position(|it| it == b"\r\n\r\n").unwrap_or(0);
            let endless = b"content-type: text/event-stream";
            if answer[..head].windows(endless.len()).any(|it| it == endless) {
                answer.truncate(head + 4);
                break;
            }
            // Some programs leave the connection open for a while.
            let length = length_of(&answer[..head]).filter(|_| self.method != "HEAD");
            if length.is_some_and(|it| it + head + 4 == answer.len()) {
                break;
            }
        }
        Ok(answer)
    }

    /// Sends it over a new connection; the caller reads the answer.
    pub fn open(&self, address: SocketAddr) -> TcpStream {
        self.try_open(address).expect("the server accepts and reads")
    }

    fn try_open(&self, address: SocketAddr) -> Result<TcpStream, io::Error> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(Duration::from_secs(45)))?;
        let mut head = format!("{} {} HTTP/1.1\r\nConnection: close\r\n", self.method, self.target);
        if !self.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
            head.push_str("Host: localhost\r\n");
        }
        for (name, value) in &self.headers {
            head.extend([name, ": ", value, "\r\n"]);
        }
        if let Some(body) = &self.body {
            head.extend(["Content-Length: ", &body.len().to_string(), "\r\n"]);
        }
        head.push_str("\r\n");
        stream.write_all(head.as_bytes())?;
        if let Some(body) = &self.body {
            // The server may refuse and stop reading. Only its answer counts.
            let _ = stream.write_all(body);
        }
        Ok(stream)
    }
}

/// Returns the length of the body, if the head of an answer holds it.
fn length_of(head: &[u8]) -> Option<usize> {
    let head = String::from_utf8_lossy(head).to_ascii_lowercase();
    head.lines().find_map(|it| it.strip_prefix("content-length: ")?.parse().ok())
}

impl Response {
    fn parse(answer: &[u8]) -> Self {
        let end = answer.windows(4).position(|it| it == b"\r\n\r\n");
        let end = end.unwrap_or_else(|| panic!("no answer: {}", String::from_utf8_lossy(answer)));
        let head = String::from_utf8(answer[..end].to_vec()).expect("a head in ASCII");
        let mut lines = head.split("\r\n");
        let status = lines.next().and_then(|it| it.split(' ').nth(1)).expect("a status line");
        Self {
            status: status.parse().expect("a status"),
            headers: lines
                .filter_map(|it| it.split_once(": "))
                .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
                .collect(),
            body: answer[end + 4..].to_vec(),
        }
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(it, _)| it == name).map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Returns the body as JSON; null if it is not JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    /// Returns the stable code of a problem document, and checks that the document is complete.
    pub fn problem(&self) -> String {
        let body = self.json();
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{self:?}");
        assert_eq!(body["status"], self.status, "{body}");
        for member in ["type", "title", "detail", "code", "requestId"] {
            assert!(body[member].as_str().is_some_and(|it| !it.is_empty()), "{member}: {body}");
        }
        assert_eq!(body["requestId"].as_str(), self.header("x-request-id"), "{body}");
        body["code"].as_str().unwrap_or_default().to_owned()
    }

    /// Returns the faults of a 422: pointer and code of each.
    pub fn faults(&self) -> Vec<(String, String)> {
        assert_eq!((self.status, self.problem().as_str()), (422, "invalid_request"), "{self:?}");
        let errors = self.json()["errors"].as_array().cloned().unwrap_or_default();
        let text = |it: &Value| it.as_str().unwrap_or_default().to_owned();
        errors.iter().map(|it| (text(&it["pointer"]), text(&it["code"]))).collect()
    }

    /// Fails the test unless the status is this one.
    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}", self.text());
        self
    }
}
