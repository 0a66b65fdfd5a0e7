//! Requests to the control socket, as the commands on the server's machine send them.

use std::{
    io::{Read, Write},
    os::unix::net::UnixStream,
    path::Path,
};

use serde_json::Value;

/// Posts this body to the server of this data directory, and returns the answer, which must be 200.
#[track_caller]
pub fn control(data_dir: &Path, path: &str, body: &Value) -> Value {
    let mut socket =
        UnixStream::connect(data_dir.join("control.sock")).expect("the server listens");
    let body = body.to_string();
    let head = "host: x\r\ncontent-type: application/json\r\nconnection: close";
    write!(
        socket,
        "POST {path} HTTP/1.1\r\n{head}\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .expect("the server reads");
    let mut answer = String::new();
    socket.read_to_string(&mut answer).expect("the server answers");
    let (head, body) = answer.split_once("\r\n\r\n").expect("an answer");
    assert!(head.starts_with("HTTP/1.1 200 "), "{answer}");
    serde_json::from_str(body).expect("JSON")
}
