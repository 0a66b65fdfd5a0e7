//! What can go wrong with a command, in words and as an exit code.

use std::{
    io::{self, Write},
    path::PathBuf,
    sync::mpsc,
    thread,
    time::Duration,
};

use super::{advice::Advice, backup};
use crate::{
    config::ConfigErrors,
    domain::{checkpoint::CheckpointError, text::masked, visible::escaped},
    server::{self, DataDirError},
    service::{self, Mismatch},
    store::{Divergence, StorageFault, StoreError},
};

/// How long the report of an error waits for its reader.
const LAST_WORDS: Duration = Duration::from_secs(2);

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
    #[error("no server answers in {dir}, so nothing can be added to its log")]
    NothingToFollow { dir: PathBuf },
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
    /// 1 failed, 2 wrong usage, 4 not allowed, 75 busy or I/O (try again), 78 configuration or data.
    /// That an answer is no ([`NO`]) is no error.
    pub(super) fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_)
            | Self::ConfigFile { .. }
            | Self::NoDatabase { .. }
            | Self::NoAccess { .. } => 78,
            Self::NoSuchJob { .. } | Self::PublicKey { .. } | Self::NoPolicy | Self::Usage(_) => 2,
            Self::NoKey | Self::Denied(_) => 4,
            Self::Busy(_) => 75,
            Self::Server(err) => server_exit_code(err),
            Self::Control(_)
            | Self::Silent { .. }
            | Self::NoServer { .. }
            | Self::Refused(_)
            | Self::Absent(_)
            | Self::Unreachable { .. }
            | Self::NotConfirmed
            | Self::NothingToFollow { .. }
            | Self::OutOfSight { .. }
            | Self::File { .. }
            | Self::Undelivered { .. }
            | Self::OutputNowhere
            | Self::Output(_) => 1,
        }
    }

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

    /// Writes the error to standard error. A reader that has paused cannot keep the process from
    /// its end for longer than [`LAST_WORDS`].
    pub(super) fn report(&self) {
        let mut text = format!("keyward: {}\n", self.with_causes());
        if let Some(advice) = Advice::about(self) {
            text.push_str(&advice.to_string());
            text.push('\n');
        }
        let (done, wait) = mpsc::channel();
        let writer = thread::Builder::new().spawn(move || {
            // There is no further place to report to.
            let _ = io::stderr().write_all(text.as_bytes());
            let _ = done.send(());
        });
        if writer.is_ok() {
            let _ = wait.recv_timeout(LAST_WORDS);
        }
    }
}

fn server_exit_code(err: &server::Error) -> u8 {
    match err {
        server::Error::DataDir(DataDirError::InUse { .. })
        | server::Error::CutShort
        | server::Error::NotStored(_)
        | server::Error::DiskFull { .. }
        | server::Error::Halted(Divergence::Replaced { .. }) => 75,
        server::Error::Store(err)
        | server::Error::Mismatch(Mismatch::Store(err))
        | server::Error::Service(
            service::Error::Unavailable(err) | service::Error::Internal(err),
        ) => store_exit_code(err),
        server::Error::DataDir(_)
        | server::Error::Halted(_)
        | server::Error::Mismatch(_)
        | server::Error::Tls(_)
        | server::Error::Policy(_) => 78,
        server::Error::Migration(err) => backup::migration_exit_code(err),
        server::Error::Backup(err) => backup::exit_code(err),
        server::Error::AfterExchange { source, .. } => server_exit_code(source),
        // A low port, or a directory of others: it stays closed however often it is tried.
        server::Error::Listen { source, .. }
            if source.kind() == io::ErrorKind::PermissionDenied =>
        {
            78
        }
        server::Error::Service(_)
        | server::Error::Listen { .. }
        | server::Error::Jobs(_)
        | server::Error::Run(_) => 1,
    }
}

pub(super) fn store_exit_code(err: &StoreError) -> u8 {
    // A file system that is read-only stays so until a person changes it.
    let read_only = err.storage_fault() == Some(StorageFault::ReadOnly);
    if err.is_temporary() && !read_only { 75 } else { 78 }
}
