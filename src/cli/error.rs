//! What can go wrong with a command.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{
    config::ConfigErrors,
    domain::{checkpoint::CheckpointError, text::masked, visible::escaped},
    server,
};

/// Why a command did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("{0}")]
    Config(#[from] ConfigErrors),
    #[error("the configuration file {path} cannot be read")]
    ConfigFile { path: PathBuf, source: io::Error },
    #[error("{0}")]
    Server(#[from] server::Error),
    #[error("the running server cannot be asked")]
    Control(#[source] io::Error),
    #[error(
        "the server does not answer within {} seconds; it is stopped, stuck or overloaded",
        patience.as_secs()
    )]
    Silent { patience: Duration },
    #[error("no server runs in {dir}")]
    NoServer { dir: PathBuf },
    #[error("{url} cannot be reached")]
    Unreachable { url: String, source: ureq::Error },
    #[error("refused: {0}")]
    Refused(String),
    /// What was asked for does not exist, or is hidden from this caller.
    #[error("refused: {0}")]
    Absent(String),
    #[error("refused: {0}")]
    Denied(String),
    #[error("try again: {0}")]
    Busy(String),
    #[error(
        "a key is needed: put it into the variable KEYWARD_KEY, or its file's name into \
         KEYWARD_KEY_FILE"
    )]
    NoKey,
    #[error("{0}")]
    Usage(String),
    #[error("nothing was changed")]
    NotConfirmed,
    #[error("there is no database {path}; `keyward serve` makes one")]
    NoDatabase { path: PathBuf },
    #[error("permission denied: {path}")]
    NoAccess { path: PathBuf },
    #[error("{path} cannot be used")]
    File { path: PathBuf, source: io::Error },
    #[error("{path} holds no public key: {source}")]
    PublicKey { path: PathBuf, source: CheckpointError },
    #[error(
        "the server says that it made {path}, and from here that file is not there: the service has \
         its own /tmp and may write only to its own directories. Leave --to out, or give it a \
         directory by ReadWritePaths= in its unit"
    )]
    OutOfSight { path: PathBuf },
    #[error("there is no job `{name}`; there are {known}")]
    NoSuchJob { name: String, known: String },
    #[error("there is no route policy: name one with --file, or set `authz.policy_file`")]
    NoPolicy,
    #[error("the output cannot be written")]
    Output(#[from] io::Error),
    #[error("{key} was {done}, but its new value could not be written, and nothing else holds it")]
    Undelivered { key: String, done: &'static str, source: io::Error },
    #[error("standard output leads nowhere, so the key would be lost; nothing was done")]
    OutputNowhere,
}

impl Error {
    /// The error and its causes. No key that a person may have typed is in it, and nothing that steers
    /// the terminal.
    pub(super) fn with_causes(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(it) = cause {
            let it_says = it.to_string();
            if !text.ends_with(&it_says) {
                text = format!("{text}: {it_says}");
            }
            cause = it.source();
        }
        let lines: Vec<_> = masked(&text).lines().map(|it| escaped(it).into_owned()).collect();
        lines.join("\n")
    }
}

/// Returns a file error, rather than a database error, if the file cannot be opened.
pub(super) fn readable(path: &Path) -> Result<(), Error> {
    let unreadable = |source| Error::File { path: path.to_owned(), source };
    fs::File::open(path).map(drop).map_err(unreadable)
}
