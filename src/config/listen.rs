//! The addresses at which the server listens.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
};

use super::{
    faults::quoted,
    read::{Raw, texts},
};

const SOCKET_PREFIX: &str = "unix:";

/// One address at which the server listens.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ListenAddress {
    Tcp(SocketAddr),
    /// A Unix socket at this path.
    Unix(PathBuf),
}

impl ListenAddress {
    /// Whether other machines can connect to it.
    pub fn faces_the_network(&self) -> bool {
        match self {
            Self::Tcp(address) => !address.ip().to_canonical().is_loopback(),
            Self::Unix(_) => false,
        }
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "{SOCKET_PREFIX}{}", path.display()),
        }
    }
}

impl From<SocketAddr> for ListenAddress {
    fn from(address: SocketAddr) -> Self {
        Self::Tcp(address)
    }
}

/// Reads one address or several. In a variable or a flag, commas separate them.
pub(super) fn addresses(raw: Raw<'_>) -> Result<Vec<ListenAddress>, String> {
    const WHAT: &str = "an IP address and a port, such as `127.0.0.1:8080`, or `unix:` and a path";
    let several = match raw {
        Raw::Toml(value) if value.as_array().is_none() => vec![raw.text(WHAT)?.to_owned()],
        Raw::Toml(_) | Raw::Text(_) => texts(raw)?,
    };
    let read = |text: &String| match text.strip_prefix(SOCKET_PREFIX) {
        Some("") => Err(format!("must be {WHAT}, not {}", quoted(text))),
        Some(path) => Ok(ListenAddress::Unix(path.into())),
        None => text
            .parse()
            .map(ListenAddress::Tcp)
            .map_err(|_| format!("must be {WHAT}, not {}{}", quoted(text), hint(text))),
    };
    let addresses: Vec<_> = several.iter().map(read).collect::<Result<_, _>>()?;
    if addresses.is_empty() { Err(format!("must be {WHAT}")) } else { Ok(addresses) }
}

/// Returns what the operator probably means. keyward does not look up host names, because the answer
/// could change, or be two addresses.
fn hint(text: &str) -> String {
    let (host, port) = text.rsplit_once(':').unwrap_or(("", text));
    if let Ok(ip) = text.parse::<IpAddr>() {
        return format!("; with a port it is `{}`", SocketAddr::new(ip, 8080));
    }
    match (host, port.parse::<u16>()) {
        ("" | "*", Ok(port)) => format!(
            "; write `127.0.0.1:{port}` for this machine only, \
             `0.0.0.0:{port}` or `[::]:{port}` for all"
        ),
        ("localhost", Ok(port)) => format!("; write `127.0.0.1:{port}` or `[::1]:{port}`"),
        (_, Ok(_)) => "; host names are not looked up".to_owned(),
        (_, Err(_)) => String::new(),
    }
}
