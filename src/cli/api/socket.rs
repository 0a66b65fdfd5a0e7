//! An HTTP client for the control socket. It speaks HTTP/1.0, so an answer ends with its connection.

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
use crate::cli::error::Error;

/// The time limit for an answer, and for the next line of a stream, which sends heartbeats more
/// often.
const PATIENCE: Duration = Duration::from_mins(1);
/// The time limit for a probe. A later answer is of no use to a monitor.
pub(crate) const PROBE_PATIENCE: Duration = Duration::from_secs(5);
/// The time limit for a job. Every job takes less.
const JOB_PATIENCE: Duration = Duration::from_hours(1);

/// Sends a request that may take as long as a job.
pub(super) fn post(socket: &Path, path: &str, request: &impl Serialize) -> Result<Answer, Error> {
    let body = serde_json::to_vec(request).map_err(|err| Error::Control(err.into()))?;
    exchange(socket, "POST", path, Some(&body), JOB_PATIENCE)
}

/// Sends a request that a healthy server answers at once.
pub(super) fn send(
    socket: &Path,
    method: &str,
    target: &str,
    body: Option<&[u8]>,
) -> Result<Answer, Error> {
    exchange(socket, method, target, body, PATIENCE)
}

fn exchange(
    socket: &Path,
    method: &str,
    target: &str,
    body: Option<&[u8]>,
    patience: Duration,
) -> Result<Answer, Error> {
    let exchange = || {
        let mut stream = connect(socket, patience)?;
        let length = body.map_or(0, <[u8]>::len);
        write!(
            stream,
            "{method} {target} HTTP/1.0\r\nhost: keyward\r\ncontent-length: {length}\r\n"
        )?;
        let kind = if body.is_some() { "content-type: application/json\r\n" } else { "" };
        write!(stream, "{kind}\r\n")?;
        stream.write_all(body.unwrap_or_default())?;
        // Not through a buffer, which would keep a copy of a key.
        let mut answer = Zeroizing::new(Vec::new());
        stream.read_to_end(&mut answer)?;
        let end = answer.windows(4).position(|it| it == b"\r\n\r\n").ok_or_else(malformed)?;
        let head = String::from_utf8_lossy(&answer[..end]);
        Ok((status(&head)?, answer[end + 4..].to_vec().into()))
    };
    exchange().map_err(|err| unanswered(socket, patience, err))
}

/// Returns the status of the answer to a GET request.
///
/// The request runs in a thread of its own, because connecting to a stuck server blocks once the queue
/// of its socket is full, and no time limit of a socket bounds that.
pub(crate) fn probe(socket: PathBuf, target: &'static str) -> Result<u16, Error> {
    let (tell, answer) = mpsc::channel();
    // Nothing receives an answer that comes too late.
    thread::spawn(move || tell.send(send(&socket, "GET", target, None)));
    match answer.recv_timeout(PROBE_PATIENCE) {
        Ok(answer) => answer.map(|(status, _)| status),
        Err(RecvTimeoutError::Timeout) => Err(Error::Silent { patience: PROBE_PATIENCE }),
        Err(RecvTimeoutError::Disconnected) => {
            Err(Error::Control(io::Error::other("the thread panicked")))
        }
    }
}

/// Returns the status of the answer to a GET request, and the lines of its body as they come.
pub(super) fn stream(socket: &Path, target: &str) -> Result<(u16, Lines), Error> {
    let start = || {
        let mut stream = connect(socket, PATIENCE)?;
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
        let lines: Lines = Box::new(answer.lines().map_while(Result::ok));
        Ok((status, lines))
    };
    start().map_err(|err| unanswered(socket, PATIENCE, err))
}

fn connect(socket: &Path, patience: Duration) -> Result<UnixStream, io::Error> {
    let stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(patience))?;
    Ok(stream)
}

fn unanswered(socket: &Path, patience: Duration, err: io::Error) -> Error {
    use io::ErrorKind as Kind;
    let is_one_of = |kinds: [Kind; 2]| kinds.contains(&err.kind());
    if is_one_of([Kind::WouldBlock, Kind::TimedOut]) {
        return Error::Silent { patience };
    }
    if is_one_of([Kind::NotFound, Kind::ConnectionRefused]) {
        return Error::NoServer { dir: socket.parent().unwrap_or(socket).to_owned() };
    }
    if err.kind() == Kind::PermissionDenied {
        return Error::NoAccess { path: socket.to_owned() };
    }
    Error::Control(err)
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
        assert!(matches!(answer, Err(Error::Silent { .. })));
    }
}
