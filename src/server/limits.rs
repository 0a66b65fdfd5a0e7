//! How many connections there may be, and what the kernel keeps of each.

use std::{fs, io, os::fd::AsFd, time::Duration};

use rustix::{
    net::sockopt,
    process::{Resource, getrlimit, setrlimit},
};

use crate::config::Config;

/// What one connection of a hostile client takes at most, in bytes: unread input (128 KiB),
/// requests taken apart (some 60 KiB), output (up to 100 KiB).
const PER_CONNECTION: u64 = 300 * 1024;
/// Bounds of the limit that is made from the memory.
const FEWEST: u64 = 256;
const MOST: u64 = 20_000;
/// Files that are not connections: the database, its readers, the log, sockets of commands.
const OTHER_FILES: u64 = 96;
/// Bytes that the kernel keeps for a client which does not take them. The kernel doubles it.
const SEND_BUFFER: usize = 128 * 1024;
/// For the client's machine to take or acknowledge what was sent, if it is there at all.
const PATIENCE: Duration = Duration::from_secs(30);
/// Silence after which the client's machine is asked whether it is still there, and how often.
const PROBE_AFTER: Duration = Duration::from_mins(1);
const PROBE_EVERY: Duration = Duration::from_secs(10);

/// Connections of one worker at the same time; further ones wait to be accepted.
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

/// Half of the memory may go into connections, were all of them hostile.
fn by_memory(memory: Option<u64>) -> u64 {
    memory.map_or(FEWEST, |it| (it / 2 / PER_CONNECTION).clamp(FEWEST, MOST))
}

/// The memory that this process may use, in bytes: the machine's, or its control group's if that is
/// less.
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

/// Takes as many open files as the system allows; returns how many that are.
fn raise_file_limit() -> u64 {
    let limits = getrlimit(Resource::Nofile);
    let raised = rustix::process::Rlimit { current: limits.maximum, maximum: limits.maximum };
    if setrlimit(Resource::Nofile, raised).is_ok() {
        return limits.maximum.unwrap_or(u64::MAX);
    }
    limits.current.unwrap_or(u64::MAX)
}

/// Sets what every connection that is accepted at this socket takes over from it.
pub(super) fn bound_connections(listener: &impl AsFd) -> io::Result<()> {
    sockopt::set_socket_send_buffer_size(listener, SEND_BUFFER)?;
    // Long answers are written in pieces: the last one would wait for the client's machine to
    // acknowledge those before it, which that puts off for 40 ms.
    sockopt::set_tcp_nodelay(listener, true)?;
    sockopt::set_socket_keepalive(listener, true)?;
    sockopt::set_tcp_keepidle(listener, PROBE_AFTER)?;
    sockopt::set_tcp_keepintvl(listener, PROBE_EVERY)?;
    // Also ends a connection whose client acknowledges and never takes anything (Linux 5.11).
    let patience = u32::try_from(PATIENCE.as_millis()).unwrap_or(u32::MAX);
    Ok(sockopt::set_tcp_user_timeout(listener, patience)?)
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn what_is_accepted_takes_over_what_the_socket_has() {
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
    fn the_connections_follow_from_the_memory() {
        const GIB: u64 = 1024 * 1024 * 1024;
        assert_eq!(by_memory(None), 256);
        assert_eq!(by_memory(Some(GIB / 8)), 256);
        assert_eq!(by_memory(Some(GIB)), 1747);
        assert_eq!(by_memory(Some(64 * GIB)), 20_000);
    }
}
