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
    service::with_causes,
};

/// The reasons why a command fails.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("{0}")]
    Config(#[from] ConfigErrors),
    #[error("the configuration file {path} cannot be read")]
    ConfigFile { path: PathBuf, source: io::Error },
    #[error("{0}")]
    Server(#[from] server::Error),
    #[error("the answer of the running server cannot be read")]
    Control(#[source] io::Error),
    #[error(
        "the server does not answer within {} seconds; it is stopped, stuck or overloaded",
        patience.as_secs()
    )]
    Silent { patience: Duration },
    #[error("no server uses the data directory {dir}; start one with `keyward serve`")]
    NoServer { dir: PathBuf },
    #[error("{url} cannot be reached")]
    Unreachable { url: String, source: ureq::Error },
    #[error("refused: {0}")]
    Refused(String),
    /// The resource does not exist, or is hidden from this caller.
    #[error("refused: {0}")]
    Absent(String),
    #[error("refused: {0}")]
    Denied(String),
    #[error("try again: {0}")]
    Busy(String),
    #[error(
        "no API key: set KEYWARD_KEY to a key, or KEYWARD_KEY_FILE to the path of a file that holds \
         one"
    )]
    NoKey,
    #[error("{0}")]
    Usage(String),
    #[error("not confirmed; nothing was changed")]
    NotConfirmed,
    #[error("there is no database {path}; `keyward serve` creates one")]
    NoDatabase { path: PathBuf },
    #[error("permission denied: {path}")]
    NoAccess { path: PathBuf },
    #[error("{path} cannot be used")]
    File { path: PathBuf, source: io::Error },
    #[error("{path} is not a public key of checkpoints: {source}")]
    PublicKey { path: PathBuf, source: CheckpointError },
    #[error(
        "the server created {path}, but this command cannot see that file: the service has its own \
         /tmp and may write only to its own directories. Omit --to, or allow a directory with \
         ReadWritePaths= in the unit"
    )]
    OutOfSight { path: PathBuf },
    #[error("unknown job `{name}`; the jobs are {known}")]
    NoSuchJob { name: String, known: String },
    #[error("no route policy: name a file with --file, or set `authz.policy_file`")]
    NoPolicy,
    #[error("the output cannot be written")]
    Output(#[from] io::Error),
    #[error(
        "{key} was {done}, but the full key could not be written, and keyward keeps only its hash"
    )]
    Undelivered { key: String, done: &'static str, source: io::Error },
    #[error("standard output is discarded, so the key would be lost; nothing was done")]
    OutputNowhere,
}

impl Error {
    /// Returns the error and its causes, with keys masked and control characters escaped.
    pub(super) fn with_causes(&self) -> String {
        let text = with_causes(self);
        let lines: Vec<_> = masked(&text).lines().map(|it| escaped(it).into_owned()).collect();
        lines.join("\n")
    }
}

/// Returns a file error, rather than a database error, if the file cannot be opened.
pub(super) fn readable(path: &Path) -> Result<(), Error> {
    let unreadable = |source| Error::File { path: path.to_owned(), source };
    fs::File::open(path).map(drop).map_err(unreadable)
}
