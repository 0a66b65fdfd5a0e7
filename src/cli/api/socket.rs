//! The tiny HTTP client for the control socket. HTTP/1.0, so that an answer ends with its connection.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::Duration,
};

use serde::Serialize;
use zeroize::Zeroizing;

use super::answer::{Answer, Lines};

/// Longer than a stream is silent.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);
/// How long a probe waits: a later answer is of no use to a monitor.
pub(crate) const PROBE_PATIENCE: Duration = Duration::from_secs(5);
/// Longer than any job takes.
const LONG_PATIENCE: Duration = Duration::from_hours(1);

/// Sends `request` as JSON; what is asked for may take as long as it needs.
pub(crate) fn post(
    socket: &Path,
    path: &str,
    request: &impl Serialize,
) -> Result<Answer, io::Error> {
    exchange(socket, "POST", path, Some(&serde_json::to_vec(request)?), LONG_PATIENCE)
}

/// Asks what is answered in a moment, by a server that is well.
pub(crate) fn send(
    socket: &Path,
    method: &str,
    target: &str,
    body: Option<&[u8]>,
) -> Result<Answer, io::Error> {
    exchange(socket, method, target, body, PATIENCE)
}

/// Whether an answer did not come in time.
pub(crate) fn is_silence(err: &io::Error) -> bool {
    matches!(err.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

fn exchange(
    socket: &Path,
    method: &str,
    target: &str,
    body: Option<&[u8]>,
    patience: Duration,
) -> Result<Answer, io::Error> {
    let mut stream = connect(socket)?;
    stream.set_read_timeout(Some(patience))?;
    let length = body.map_or(0, <[u8]>::len);
    write!(stream, "{method} {target} HTTP/1.0\r\nhost: keyward\r\ncontent-length: {length}\r\n")?;
    let kind = if body.is_some() { "content-type: application/json\r\n" } else { "" };
    write!(stream, "{kind}\r\n")?;
    stream.write_all(body.unwrap_or_default())?;
    // Read at once, and not through a buffer that would keep a copy: there may be a key in it.
    let mut answer = Zeroizing::new(Vec::new());
    stream.read_to_end(&mut answer)?;
    let end = answer.windows(4).position(|it| it == b"\r\n\r\n").ok_or_else(malformed)?;
    let head = String::from_utf8_lossy(&answer[..end]);
    Ok((status(&head)?, answer[end + 4..].to_vec().into()))
}

/// The status that `target` is answered, unless that takes longer than `patience`: then the error is
/// [`io::ErrorKind::TimedOut`].
///
/// In a thread of its own, as a server that stands still also keeps whoever connects waiting once
/// its queue is full, and no time limit of a socket bounds that.
pub(crate) fn probe(
    socket: PathBuf,
    target: &'static str,
    patience: Duration,
) -> Result<u16, io::Error> {
    let (tell, answer) = mpsc::channel();
    // Nobody listens any more if it comes too late.
    thread::spawn(move || tell.send(send(&socket, "GET", target, None)));
    match answer.recv_timeout(patience) {
        Ok(answer) => answer.map(|(status, _)| status),
        Err(RecvTimeoutError::Timeout) => Err(io::ErrorKind::TimedOut.into()),
        Err(RecvTimeoutError::Disconnected) => Err(io::Error::other("the thread panicked")),
    }
}

/// The status of the answer, and the lines of its body as they come.
pub(crate) fn get(socket: &Path, target: &str) -> Result<(u16, Lines), io::Error> {
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
    Ok((status, Box::new(answer.lines().map_while(Result::ok))))
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

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn a_server_that_says_nothing_is_given_up() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("socket");
        let _silent = UnixListener::bind(&socket).unwrap();
        let patience = Duration::from_millis(1);
        let answer = exchange(&socket, "GET", "/livez", None, patience);
        assert!(answer.is_err_and(|err| is_silence(&err)));
    }
}
