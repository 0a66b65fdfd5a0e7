//! Sockets that are listened at, before anybody is answered.

use std::{
    fs::{self, Permissions},
    io,
    net::TcpListener,
    os::unix::{
        fs::{FileTypeExt, PermissionsExt},
        net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
};

use super::{Error, limits::bound_connections};
use crate::config::{Config, ListenAddress};

/// A socket that somebody can connect to already.
#[derive(Debug)]
pub enum Listener {
    Tcp(TcpListener),
    /// The path is ours to remove at the end, unless somebody else made the socket.
    Unix(UnixListener, Option<SocketFile>),
}

/// The name of a socket, which is removed with this value.
#[derive(Debug)]
pub struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        // The next start removes it as well.
        let _ = fs::remove_file(&self.0);
    }
}

/// Takes the addresses to listen at, before anything is done that cannot be done again.
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

    /// A socket that somebody else made, and removes.
    pub fn of_unix(listener: UnixListener) -> Result<Self, io::Error> {
        listener.set_nonblocking(true)?;
        Ok(Self::Unix(listener, None))
    }

    /// Makes a socket that every user of the machine may connect to who gets at its directory: as
    /// with a loopback address, the key decides.
    fn at(path: &Path) -> Result<Self, io::Error> {
        remove_stale(path)?;
        let listener = UnixListener::bind(path)?;
        let file = SocketFile(path.to_owned());
        fs::set_permissions(path, Permissions::from_mode(0o666))?;
        listener.set_nonblocking(true)?;
        Ok(Self::Unix(listener, Some(file)))
    }

    /// How people reach it.
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

    /// Whether it can be reached from other machines.
    pub fn faces_the_network(&self) -> bool {
        match self {
            Self::Tcp(it) => it.local_addr().is_ok_and(|it| !it.ip().to_canonical().is_loopback()),
            Self::Unix(..) => false,
        }
    }
}

/// Removes a socket at which nobody answers any more; what is no socket stays.
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
