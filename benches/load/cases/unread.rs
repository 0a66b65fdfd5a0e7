//! Clients that send requests and do not read the answers.

use std::{
    io::Write,
    net::TcpStream,
    thread,
    time::{Duration, Instant},
};

use super::{Bench, thousands};
use crate::{Outcome, report::Table};

const CLIENTS: usize = 500;
/// The most bytes that a client sends if the server continues to read.
const MOST_SENT: usize = 512 * 1024;
/// The server closes the connections after 30 seconds; a busy machine needs more time.
const PATIENCE: Duration = Duration::from_mins(2);
const LOOK: Duration = Duration::from_millis(50);

/// Memory with clients that pipeline one request and read none of its answers.
pub fn memory(bench: &mut Bench) -> Outcome<()> {
    let columns = ["", "before", "at most", "after they are let go", "all let go after, s"];
    let title = format!("unread: {CLIENTS} clients that do not read, RSS in MiB");
    let table = Table::begin(&title, &columns);
    let kinds = [
        "GET /api/v1/api-keys",
        "GET /api/v1/events",
        "GET /docs/swagger-ui-bundle.js",
        "GET /metrics",
        "GET /authz/nginx",
    ];
    for kind in kinds {
        let (site, process) = bench.serve(Bench::MIDDLE)?;
        let request = format!("{kind} HTTP/1.1\r\nHost: x\r\nX-API-Key: {}\r\n\r\n", site.root);
        let flood = request.repeat(MOST_SENT / request.len());
        let (before, idle) = (process.rss()?, process.sockets()?);
        let mut clients = Vec::new();
        for _ in 0..CLIENTS {
            let mut stream = TcpStream::connect(process.address)?;
            stream.set_nonblocking(true)?;
            // The write takes as much as the socket accepts. A partial write is enough.
            let _ = stream.write(flood.as_bytes())?;
            clients.push(stream);
        }
        let (started, mut most) = (Instant::now(), before);
        while idle < process.sockets()? {
            if PATIENCE < started.elapsed() {
                return Err("they are not let go".into());
            }
            most = most.max(process.rss()?);
            thread::sleep(LOOK);
        }
        let gone = started.elapsed().as_secs().to_string();
        let mib = |it: u64| thousands(usize::try_from(it >> 20).unwrap_or(usize::MAX));
        table.row(&[kind.to_owned(), mib(before), mib(most), mib(process.rss()?), gone]);
        drop(clients);
        process.stop()?;
    }
    Ok(())
}
