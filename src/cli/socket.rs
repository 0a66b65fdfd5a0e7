//! The tiny HTTP client for the control socket. HTTP/1.0, so that an answer ends with its connection.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

use serde::Serialize;
use zeroize::Zeroizing;

/// Longer than any job takes, and than a stream is silent.
const PATIENCE: Duration = Duration::from_mins(1);

/// The status of the answer, and its body.
pub(super) fn post(
    socket: &Path,
    path: &str,
    request: &impl Serialize,
) -> Result<(u16, Zeroizing<Vec<u8>>), io::Error> {
    let body = serde_json::to_vec(request)?;
    let mut stream = connect(socket)?;
    write!(
        stream,
        "POST {path} HTTP/1.0\r\nhost: keyward\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n",
        body.len()
    )?;
    stream.write_all(&body)?;
    // Read at once, and not through a buffer that would keep a copy: there may be a key in it.
    let mut answer = Zeroizing::new(Vec::new());
    stream.read_to_end(&mut answer)?;
    let end = answer.windows(4).position(|it| it == b"\r\n\r\n").ok_or_else(malformed)?;
    let head = String::from_utf8_lossy(&answer[..end]);
    Ok((status(&head)?, answer[end + 4..].to_vec().into()))
}

/// The status of the answer, and its body, to be read as it comes.
pub(super) fn get(socket: &Path, target: &str) -> Result<(u16, BufReader<UnixStream>), io::Error> {
    let mut stream = connect(socket)?;
    write!(stream, "GET {target} HTTP/1.0\r\nhost: keyward\r\n\r\n")?;
    let mut answer = BufReader::new(stream);
    let mut line = String::new();
    answer.read_line(&mut line)?;
    let status = status(&line)?;
    while !line.trim_end().is_empty() {
        line.clear();
        if answer.read_line(&mut line)? == 0 {
            return Err(malformed());
        }
    }
    Ok((status, answer))
}

fn connect(socket: &Path) -> Result<UnixStream, io::Error> {
    let stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

fn status(head: &str) -> Result<u16, io::Error> {
    head.split(' ').nth(1).and_then(|it| it.parse().ok()).ok_or_else(malformed)
}

fn malformed() -> io::Error {
    io::Error::other("the answer is not HTTP")
}
