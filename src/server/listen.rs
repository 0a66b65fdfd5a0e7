//! The sockets at which the server listens, before it answers.

use std::{
    fs::{self, Permissions},
    io,
    net::{SocketAddr, TcpListener},
    os::unix::{
        fs::{FileTypeExt, PermissionsExt},
        net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
};

use super::{Error, limits::bound_connections};
use crate::config::{Config, ListenAddress};

/// A socket that accepts connections.
#[derive(Debug)]
pub enum Listener {
    Tcp(TcpListener),
    /// With the file that keyward removes at the end, unless another program made the socket.
    Unix(UnixListener, Option<SocketFile>),
}

/// The file of a socket. It is removed when this value is dropped.
#[derive(Debug)]
pub struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        // The next start removes a file that stays.
        let _ = fs::remove_file(&self.0);
    }
}

/// Binds all addresses. This runs before the steps of a start that cannot be repeated.
pub fn bind(config: &Config) -> Result<Vec<Listener>, Error> {
    let bind = |address: &ListenAddress| {
        let listener = match address {
            ListenAddress::Tcp(it) => TcpListener::bind(it).and_then(Listener::of_tcp),
            ListenAddress::Unix(path) => Listener::at(path),
        };
        listener.map_err(|source| Error::Listen { address: address.to_string(), source })
    };
    config.listen.iter().map(bind).collect()
}

impl Listener {
    pub fn of_tcp(listener: TcpListener) -> Result<Self, io::Error> {
        listener.set_nonblocking(true)?;
        bound_connections(&listener)?;
        Ok(Self::Tcp(listener))
    }

    /// A socket that another program made and removes.
    pub fn of_unix(listener: UnixListener) -> Result<Self, io::Error> {
        listener.set_nonblocking(true)?;
        Ok(Self::Unix(listener, None))
    }

    /// Makes a socket. Every user of the machine who can enter its directory may connect. As with a
    /// loopback address, requests need a key.
    fn at(path: &Path) -> Result<Self, io::Error> {
        remove_stale(path)?;
        let listener = UnixListener::bind(path)?;
        let file = SocketFile(path.to_owned());
        fs::set_permissions(path, Permissions::from_mode(0o666))?;
        listener.set_nonblocking(true)?;
        Ok(Self::Unix(listener, Some(file)))
    }

    /// Returns its URL.
    pub fn url(&self, tls: bool) -> String {
        match self {
            Self::Tcp(it) => {
                let scheme = if tls { "https" } else { "http" };
                it.local_addr().map_or_else(|_| scheme.to_owned(), |it| format!("{scheme}://{it}"))
            }
            Self::Unix(it, _) => {
                let address = it.local_addr().ok();
                let path = address.as_ref().and_then(|it| it.as_pathname());
                format!("unix:{}", path.unwrap_or(Path::new("")).display())
            }
        }
    }

    /// Returns the address with the real port, unless it is a Unix socket.
    pub fn tcp_address(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(it) => it.local_addr().ok(),
            Self::Unix(..) => None,
        }
    }

    /// Whether other machines can connect to it.
    pub fn faces_the_network(&self) -> bool {
        self.tcp_address().is_some_and(|it| ListenAddress::Tcp(it).faces_the_network())
    }
}

/// Removes a socket at which no process answers. Fails if the file is not a socket.
fn remove_stale(path: &Path) -> Result<(), io::Error> {
    let Ok(found) = fs::symlink_metadata(path) else { return Ok(()) };
    if !found.file_type().is_socket() {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    match UnixStream::connect(path) {
        Ok(_) => Err(io::ErrorKind::AddrInUse.into()),
        Err(err) if err.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        Err(err) => Err(err),
    }
}
