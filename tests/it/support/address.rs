//! Addresses for programs that a test starts later.

use std::{
    net::{Ipv4Addr, SocketAddr},
    os::fd::OwnedFd,
};

use rustix::net::{self, AddressFamily, SocketFlags, SocketType, sockopt};

/// An address that the system gives to no other program while this value exists. A socket is bound to it and does not
/// listen. A program that sets `SO_REUSEADDR`, as servers do, can listen on it. Until then it refuses connections.
pub struct ReservedAddress {
    pub address: SocketAddr,
    _socket: OwnedFd,
}

impl ReservedAddress {
    pub fn new() -> Self {
        let (family, kind) = (AddressFamily::INET, SocketType::STREAM);
        let socket = net::socket_with(family, kind, SocketFlags::CLOEXEC, None).expect("a socket");
        sockopt::set_socket_reuseaddr(&socket, true).expect("an address that can be shared");
        net::bind(&socket, &SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).expect("a free port");
        let address = net::getsockname(&socket).expect("its name").try_into().expect("an address");
        Self { address, _socket: socket }
    }
}
