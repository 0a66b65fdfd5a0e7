//! Advice on an error: a sentence, and a command that can be pasted.

use std::{
    env,
    fmt::{self, Display},
    io,
    path::Path,
};

use crate::{
    cli::error::Error,
    domain::text::masked,
    server::{self, DataDirError, user_of},
};

/// A port other than the usual one.
const OTHER_PORT: u16 = 8081;

/// What to do about an error.
pub(super) struct Advice {
    says: String,
    command: String,
}

impl Display for Advice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:\n    {}", self.says, self.command)
    }
}

impl Advice {
    /// Returns the advice on `err`, if there is one that suits every user.
    pub(super) fn about(err: &Error) -> Option<Self> {
        if let Some(path) = kept_for_another_user(err) {
            return Some(Self::as_user(&user_of(path)));
        }
        if let Error::Undelivered { key, .. } = err {
            return Some(Self {
                says: "To get a key that can be kept, rotate it again".to_owned(),
                command: beside(&format!("keys rotate {key} --grace 0s")),
            });
        }
        let Error::Server(err) = err else { return None };
        if let server::Error::DataDir(DataDirError::InUse { path, .. }) = err {
            return serving().then(|| Self::second_server(path));
        }
        let server::Error::Listen { address, source } = err else { return None };
        Self::elsewhere(address, source.kind())
    }

    /// Suggests the same command as another user.
    fn as_user(user: &str) -> Self {
        let says = format!("Only the user {user} may do this; try");
        let sudo =
            if user == "root" { "sudo".to_owned() } else { format!("sudo -u {}", quoted(user)) };
        Self { says, command: format!("{sudo} {}", this_command()) }
    }

    fn elsewhere(address: &str, kind: io::ErrorKind) -> Option<Self> {
        let (host, port) = address.rsplit_once(':')?;
        let port: u16 = port.parse().ok()?;
        let (says, address) = if kind == io::ErrorKind::AddrInUse {
            let free = port.checked_add(1).unwrap_or(OTHER_PORT);
            ("Another program listens there; choose another port", format!("{host}:{free}"))
        } else if kind == io::ErrorKind::PermissionDenied {
            ("Only root may use a port below 1024; choose another", format!("{host}:{OTHER_PORT}"))
        } else if kind == io::ErrorKind::AddrNotAvailable {
            let says = "This machine has no such address; listen on one that it has";
            (says, format!("127.0.0.1:{port}"))
        } else {
            return None;
        };
        Some(Self { says: says.to_owned(), command: with(&[("--listen", &address)]) })
    }

    fn second_server(taken: &Path) -> Self {
        let other = format!("{}-2", taken.display());
        let says = "Stop that one, or give a second server its own data and its own address";
        let address = format!("127.0.0.1:{OTHER_PORT}");
        let command = with(&[("--data-dir", &other), ("--listen", &address)]);
        Self { says: says.to_owned(), command }
    }
}

/// Returns the file that this user may not use and another user may.
fn kept_for_another_user(err: &Error) -> Option<&Path> {
    if let Error::NoAccess { path }
    | Error::Server(server::Error::DataDir(DataDirError::NotOwner { path, .. })) = err
    {
        return Some(path);
    }
    let (Error::ConfigFile { path, source }
    | Error::Server(server::Error::DataDir(
        DataDirError::Unusable { path, source } | DataDirError::KeyFile { path, source },
    ))) = err
    else {
        return None;
    };
    // A directory that does not exist has no owner.
    let directory =
        matches!(err, Error::Server(server::Error::DataDir(DataDirError::Unusable { .. })));
    (is_refusal(source) && (!directory || path.exists())).then_some(path)
}

fn is_refusal(err: &io::Error) -> bool {
    err.kind() == io::ErrorKind::PermissionDenied
}

fn serving() -> bool {
    env::args_os().nth(1).is_some_and(|it| it == "serve")
}

/// Returns this command, as it can be typed again.
fn this_command() -> String {
    with(&[])
}

/// Returns another command, for the same keyward.
fn beside(command: &str) -> String {
    const TARGET: [&str; 3] = ["--url", "--data-dir", "--config"];
    let mut words = vec![command.to_owned()];
    let mut given = env::args_os().map(|it| it.to_string_lossy().into_owned());
    let program = given.next().map_or_else(|| "keyward".to_owned(), |it| quoted(&it));
    while let Some(word) = given.next() {
        let (name, value) = word.split_once('=').map_or((&*word, None), |it| (it.0, Some(it.1)));
        if TARGET.contains(&name) {
            words.push(quoted(&word));
            words.extend(value.is_none().then(|| given.next()).flatten().map(|it| quoted(&it)));
        }
    }
    format!("{program} {}", words.join(" "))
}

/// Returns this command with these options in place of those given, and with keys masked.
fn with(options: &[(&str, &str)]) -> String {
    let mut words = Vec::new();
    let mut given = env::args_os().map(|it| it.to_string_lossy().into_owned());
    while let Some(word) = given.next() {
        let (name, value) = word.split_once('=').map_or((&*word, None), |it| (it.0, Some(it.1)));
        if !options.iter().any(|(it, _)| *it == name) {
            words.push(quoted(&word));
        } else if value.is_none() {
            given.next();
        }
    }
    words.extend(options.iter().flat_map(|(name, value)| [(*name).to_owned(), quoted(value)]));
    masked(&words.join(" ")).into_owned()
}

/// Quotes one word for a shell (POSIX, XCU 2.2).
fn quoted(word: &str) -> String {
    let plain = |it: char| it.is_ascii_alphanumeric() || "-_./:=,@%+".contains(it);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}
