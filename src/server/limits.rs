//! The number of connections, and what the kernel buffers for each.

use std::{fs, io, os::fd::AsFd, time::Duration};

use rustix::{
    net::sockopt,
    process::{Resource, getrlimit, setrlimit},
};

use crate::config::Config;

/// The most memory of one connection of a hostile client, in bytes: unread input (128 KiB), parsed
/// requests (about 60 KiB), output (up to 100 KiB).
const PER_CONNECTION: u64 = 300 * 1024;
/// The bounds of the limit that depends on the memory.
const FEWEST: u64 = 256;
const MOST: u64 = 20_000;
/// Open files that are not connections: the database, its readers, the log, sockets of commands.
const OTHER_FILES: u64 = 96;
/// Bytes that the kernel buffers for a client that does not read. The kernel doubles the number.
const SEND_BUFFER: usize = 128 * 1024;
/// The time in which the client's machine must acknowledge sent bytes.
const PATIENCE: Duration = Duration::from_secs(30);
/// The silence after which TCP keep-alive probes the client's machine, and the pause between probes.
const PROBE_AFTER: Duration = Duration::from_mins(1);
const PROBE_EVERY: Duration = Duration::from_secs(10);

/// Returns the most connections of one worker at the same time. Further ones wait.
pub(super) fn connections_per_worker(config: &Config, workers: usize) -> usize {
    let files = raise_file_limit().saturating_sub(OTHER_FILES).max(1);
    let wanted = match config.max_connections {
        0 => by_memory(memory()),
        wanted => u64::from(wanted),
    };
    if files < wanted {
        tracing::warn!(
            wanted,
            connections = files,
            "the limit on open files (ulimit -n) allows fewer connections"
        );
    }
    let share = usize::try_from(wanted.min(files)).unwrap_or(usize::MAX) / workers;
    share.max(1)
}

/// Returns the limit at which hostile connections use at most half of the memory.
fn by_memory(memory: Option<u64>) -> u64 {
    memory.map_or(FEWEST, |it| (it / 2 / PER_CONNECTION).clamp(FEWEST, MOST))
}

/// Returns the memory that this process may use, in bytes: of the machine, or of its control group if
/// that is less.
fn memory() -> Option<u64> {
    let machine = fs::read_to_string("/proc/meminfo").ok().and_then(|it| {
        let line = it.lines().find_map(|it| it.strip_prefix("MemTotal:"))?;
        line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
    });
    let group = fs::read_to_string("/proc/self/cgroup").ok().and_then(|it| {
        let path = it.lines().find_map(|it| it.strip_prefix("0::/"))?.to_owned();
        let limit = fs::read_to_string(format!("/sys/fs/cgroup/{path}/memory.max")).ok()?;
        limit.trim().parse::<u64>().ok()
    });
    machine.into_iter().chain(group).min()
}

/// Raises the limit on open files as far as the system allows, and returns it.
fn raise_file_limit() -> u64 {
    let limits = getrlimit(Resource::Nofile);
    let raised = rustix::process::Rlimit { current: limits.maximum, maximum: limits.maximum };
    if setrlimit(Resource::Nofile, raised).is_ok() {
        return limits.maximum.unwrap_or(u64::MAX);
    }
    limits.current.unwrap_or(u64::MAX)
}

/// Sets the options that every accepted connection inherits from this socket.
pub(super) fn bound_connections(listener: &impl AsFd) -> io::Result<()> {
    sockopt::set_socket_send_buffer_size(listener, SEND_BUFFER)?;
    // A long answer is written in pieces. The last piece would wait until the client's machine
    // acknowledges the others, which it delays by 40 ms.
    sockopt::set_tcp_nodelay(listener, true)?;
    sockopt::set_socket_keepalive(listener, true)?;
    sockopt::set_tcp_keepidle(listener, PROBE_AFTER)?;
    sockopt::set_tcp_keepintvl(listener, PROBE_EVERY)?;
    // Also ends a connection whose client acknowledges probes but never reads (Linux 5.11).
    let patience = u32::try_from(PATIENCE.as_millis()).unwrap_or(u32::MAX);
    Ok(sockopt::set_tcp_user_timeout(listener, patience)?)
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn an_accepted_connection_inherits_the_options_of_the_socket() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        bound_connections(&listener).unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        assert!(
            sockopt::tcp_nodelay(&accepted).unwrap(),
            "pieces of an answer wait for each other"
        );
        assert!(sockopt::socket_keepalive(&accepted).unwrap());
        assert_eq!(sockopt::tcp_user_timeout(&accepted).unwrap(), 30_000);
    }

    #[test]
    fn the_limit_of_connections_depends_on_the_memory() {
        const GIB: u64 = 1024 * 1024 * 1024;
        assert_eq!(by_memory(None), 256);
        assert_eq!(by_memory(Some(GIB / 8)), 256);
        assert_eq!(by_memory(Some(GIB)), 1747);
        assert_eq!(by_memory(Some(64 * GIB)), 20_000);
    }
}
