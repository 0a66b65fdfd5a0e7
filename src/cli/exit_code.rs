//! Every exit code, and which error ends with which.

use std::{io, process::ExitCode};

use crate::{
    cli::error::Error,
    server::{self, DataDirError, WebhookError},
    service::{self, BackupError, Mismatch},
    store::{Divergence, StoreError, may_pass},
};

/// The command failed, or a check did.
const FAILED: u8 = 1;
/// The command line is wrong.
pub(super) const USAGE: u8 = 2;
/// The answer is no.
const NO: u8 = 3;
/// No key was given, or the key may not do this.
const NOT_ALLOWED: u8 = 4;
/// Busy, or the disk failed: trying again may help (`EX_TEMPFAIL` of sysexits.h).
const TRY_AGAIN: u8 = 75;
/// The configuration or the data is wrong: trying again does not help (`EX_CONFIG` of sysexits.h).
const WRONG: u8 = 78;

/// The exit codes, for `--help` and the manual pages.
pub(super) const EXIT_STATUSES: [(&str, &str); 7] = [
    ("0", "Done; for a question, the answer is yes"),
    ("1", "Failed, or a check did: `scan` found a key, for example"),
    ("2", "Wrong usage; nothing was done"),
    ("3", "The answer is no: a key, a log, a backup, a policy or an imported row is not valid"),
    ("4", "Not allowed: no key was given, or the key may not do this"),
    ("75", "Try again: the data directory or the database is in use, or the disk failed"),
    ("78", "The configuration or the data is wrong; trying again does not help"),
];

/// Returns the exit code of a command that did its work.
pub(super) fn done((): ()) -> ExitCode {
    ExitCode::SUCCESS
}

/// Returns the exit code of a command that answers a question.
pub(super) fn answer(yes: bool) -> ExitCode {
    if yes { ExitCode::SUCCESS } else { ExitCode::from(NO) }
}

/// Returns the exit code of a command that checks whether something works.
pub(super) fn health(well: bool) -> ExitCode {
    if well { ExitCode::SUCCESS } else { ExitCode::from(FAILED) }
}

impl Error {
    /// Returns the exit code of a command that ends with this error.
    pub(super) fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_)
            | Self::ConfigFile { .. }
            | Self::NoDatabase { .. }
            | Self::NoAccess { .. } => WRONG,
            Self::NoSuchJob { .. } | Self::PublicKey { .. } | Self::NoPolicy | Self::Usage(_) => {
                USAGE
            }
            Self::NoKey | Self::Denied(_) => NOT_ALLOWED,
            Self::Busy(_) => TRY_AGAIN,
            Self::Server(err) => server_exit_code(err),
            Self::Control(_)
            | Self::Silent { .. }
            | Self::NoServer { .. }
            | Self::Refused(_)
            | Self::Absent(_)
            | Self::Unreachable { .. }
            | Self::NotConfirmed
            | Self::OutOfSight { .. }
            | Self::File { .. }
            | Self::Undelivered { .. }
            | Self::OutputNowhere
            | Self::Output(_) => FAILED,
        }
    }
}

fn server_exit_code(err: &server::Error) -> u8 {
    match err {
        server::Error::DataDir(DataDirError::InUse { .. } | DataDirError::LockRemoved { .. })
        | server::Error::CutShort
        | server::Error::NotStored(_)
        | server::Error::DiskFull { .. }
        | server::Error::Halted(Divergence::Replaced { .. } | Divergence::LockLost { .. }) => {
            TRY_AGAIN
        }
        server::Error::DataDir(
            DataDirError::Unusable { source, .. }
            | DataDirError::NoLock { source, .. }
            | DataDirError::KeyFile { source, .. }
            | DataDirError::TokenKeyFile { source, .. },
        )
        | server::Error::Mismatch(Mismatch::File { source, .. }) => file_exit_code(source),
        server::Error::Halted(Divergence::WriterPanicked)
        | server::Error::Webhook(WebhookError::Start(_)) => FAILED,
        server::Error::Store(err)
        | server::Error::Database { fault: err, .. }
        | server::Error::Mismatch(Mismatch::Store(err))
        | server::Error::Service(
            service::Error::Unavailable(err) | service::Error::Internal(err),
        ) => store_exit_code(err),
        server::Error::DataDir(_)
        | server::Error::Halted(_)
        | server::Error::Mismatch(_)
        | server::Error::Tls(_)
        | server::Error::Policy(_)
        | server::Error::RootKeyFile(_)
        | server::Error::Webhook(_) => WRONG,
        server::Error::Migration(err) => migration_exit_code(err),
        server::Error::Backup(err) => backup_exit_code(err),
        server::Error::AfterExchange { source, .. } => server_exit_code(source),
        // A low port, or a directory of another user: trying again does not help.
        server::Error::Listen { source, .. }
            if source.kind() == io::ErrorKind::PermissionDenied =>
        {
            WRONG
        }
        server::Error::Service(_)
        | server::Error::Listen { .. }
        | server::Error::Jobs(_)
        | server::Error::Run(_) => FAILED,
    }
}

fn store_exit_code(err: &StoreError) -> u8 {
    if err.may_pass() { TRY_AGAIN } else { WRONG }
}

fn file_exit_code(err: &io::Error) -> u8 {
    if may_pass(err) { TRY_AGAIN } else { WRONG }
}

/// A damaged backup is an answer, not an error of this machine.
fn backup_exit_code(err: &BackupError) -> u8 {
    match err {
        err if err.is_verdict() => NO,
        err if err.may_pass() => TRY_AGAIN,
        BackupError::Store(_) | BackupError::Copy { .. } => WRONG,
        BackupError::File { .. }
        | BackupError::Space { .. }
        | BackupError::Digest { .. }
        | BackupError::Differs
        | BackupError::Log(_) => FAILED,
    }
}

/// A start that cannot make its backup fails for every reason.
fn migration_exit_code(err: &BackupError) -> u8 {
    if err.may_pass() { TRY_AGAIN } else { WRONG }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_of_the_writer_is_reason_for_another_start() {
        // The unit of systemd does not start again after 78.
        assert_eq!(server_exit_code(&server::Error::Halted(Divergence::WriterPanicked)), FAILED);
    }
}
