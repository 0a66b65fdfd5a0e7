//! Errors of the store, and what the codes of SQLite mean.

use std::{
    error::Error as _,
    io,
    path::{Path, PathBuf},
};

use rusqlite::{ErrorCode, ffi::SQLITE_IOERR};
use rustix::io::Errno;

use crate::{env::Timestamp, store::StorageFault};

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("the database is busy")]
    Busy(#[source] Option<Box<dyn std::error::Error + Send + Sync>>),
    #[error("the disk is full")]
    Full(#[source] rusqlite::Error),
    #[error("the database cannot be written")]
    ReadOnly(#[source] rusqlite::Error),
    #[error("the disk failed")]
    Io(#[source] rusqlite::Error),
    /// The disk failed, or the file is damaged: SQLite tells both of a page that it cannot read.
    #[error("the database cannot be read")]
    Unreadable(#[source] rusqlite::Error),
    /// An earlier change met this fault, and no write has succeeded since.
    #[error("{0}")]
    Unavailable(StorageFault),
    #[error("writing has stopped")]
    Halted,
    #[error("the transaction was rolled back")]
    RolledBack,
    #[error("the transaction could not be committed: {0}")]
    CommitFailed(String),
    #[error("a value that must be unique is taken")]
    Taken(#[source] rusqlite::Error),
    #[error("table {table}, row {row}: column {column} cannot be read")]
    Corrupt { table: &'static str, column: &'static str, row: String },
    #[error("a statement for {wanted} row changed {changed} rows")]
    RowsChanged { wanted: usize, changed: usize },
    #[error("the event of this change is about another row")]
    WrongReceipt,
    #[error("a change panicked")]
    Panicked,
    #[error("{path} is not a keyward database")]
    NotOurs { path: PathBuf },
    #[error("the database was written by a newer keyward (schema {found}, known is {known})")]
    NewerSchema { found: i64, known: i64 },
    #[error(
        "keys were imported in plain text into this database, and this version finds imported keys by \
         their digests only. The database was not changed. Start with a new data directory, and \
         import the same file there: `keyward import` makes the digests"
    )]
    PlainTextImports,
    #[error(
        "this is a database of development mode: `keyward dev` made it, and its keys are public. Start \
         with another data directory"
    )]
    OfDevelopment,
    #[error("{path} can be read by other users; allow its owner only (chmod 600)")]
    Exposed { path: PathBuf },
    #[error("the database is damaged: {0}")]
    Damaged(String),
    #[error("another program changed the tables of the database: {0}")]
    Altered(String),
    #[error(
        "the audit log was changed: event {seq} does not follow from the one before it. Keep a \
         copy of everything as it is; `keyward events verify` tells more"
    )]
    BrokenChain { seq: i64 },
    #[error(
        "the audit log was cut or changed: at {time} it had {size} events, as a checkpoint says, \
         and event {size} is not the same now. Keep a copy of everything as it is; `keyward \
         events verify` tells more"
    )]
    NotAsCheckpointed { size: i64, time: Timestamp },
    #[error("SQLite {0} may lose committed changes; 3.51.3 or later is needed")]
    OldSqlite(&'static str),
    #[error("the database file could not be opened")]
    File(#[source] io::Error),
    /// A file beside the database.
    #[error("{path} cannot be written")]
    Beside { path: PathBuf, source: io::Error },
    #[error("{path} is not a regular file; keyward needs a file of this name")]
    NoFile { path: PathBuf },
    #[error("{path} is empty")]
    Empty { path: PathBuf },
    /// SQLite would remove the log.
    #[error("{path} is missing or empty, and {log}, the log of its last changes, is not")]
    OnlyLog { path: PathBuf, log: PathBuf },
    #[error("the database refused a statement")]
    Sqlite(#[source] rusqlite::Error),
}

impl StoreError {
    /// Builds the error of a file in which a check of SQLite has found this fault. A disk that failed is
    /// no fault of the file.
    pub(super) fn damaged(verdict: &str) -> Self {
        let fault = verdict.strip_prefix("*** in database main ***").unwrap_or(verdict);
        let fault = fault.trim().to_owned();
        if is_failed_read(&fault) {
            let code = rusqlite::ffi::Error::new(SQLITE_IOERR);
            return Self::Io(rusqlite::Error::SqliteFailure(code, Some(fault)));
        }
        Self::Damaged(fault)
    }

    /// Fails unless a statement changed exactly one row. Any other number means that the file is not
    /// what the program takes it for.
    pub(super) fn unless_one(changed: usize) -> Result<(), Self> {
        if changed != 1 {
            return Err(Self::RowsChanged { wanted: 1, changed });
        }
        Ok(())
    }

    /// Returns the error with the file that it is about, its cause, and what to do.
    pub fn about(&self, path: &Path) -> String {
        let text = self.to_string();
        let path = path.display().to_string();
        let text = if text.contains(&path) { text } else { format!("{path}: {text}") };
        let cause = self.source().map(ToString::to_string).filter(|it| !text.ends_with(it));
        let text = cause.map_or_else(|| text.clone(), |it| format!("{text}: {it}"));
        self.advice().map_or_else(|| text.clone(), |it| format!("{text}. {it}"))
    }

    /// Returns what to do about a database that no later attempt can use.
    #[expect(clippy::wildcard_enum_match_arm, reason = "the text of every other error is enough")]
    fn advice(&self) -> Option<&'static str> {
        match self {
            Self::Unreadable(_)
            | Self::Damaged(_)
            | Self::Corrupt { .. }
            | Self::NotOurs { .. }
            | Self::Empty { .. }
            | Self::OnlyLog { .. } => Some(
                "Keep a copy of everything as it is, and restore a backup with `keyward backup \
                 restore`",
            ),
            Self::Altered(_) => Some(
                "Keep a copy of everything as it is, and undo that change with `sqlite3`, or restore a \
                 backup with `keyward backup restore`",
            ),
            Self::NoFile { .. } => Some("Move what is there to another place"),
            Self::NewerSchema { .. } => Some("Install that keyward or a later one"),
            _ => None,
        }
    }

    /// Returns the fault of the storage, if that is the reason.
    #[expect(clippy::wildcard_enum_match_arm, reason = "no other error is about the storage")]
    pub fn storage_fault(&self) -> Option<StorageFault> {
        match self {
            Self::Full(_) => Some(StorageFault::Full),
            Self::ReadOnly(_) => Some(StorageFault::ReadOnly),
            Self::Io(_) | Self::Unreadable(_) => Some(StorageFault::Failed),
            Self::Unavailable(fault) => Some(*fault),
            _ => None,
        }
    }

    /// Returns whether trying again may help, without a person who changes something before.
    pub fn may_pass(&self) -> bool {
        if let Self::File(source) | Self::Beside { source, .. } = self {
            return may_pass(source);
        }
        // A file system stays read-only until a person changes it.
        self.is_temporary() && self.storage_fault() != Some(StorageFault::ReadOnly)
    }

    /// Returns whether a later attempt may succeed, because the request itself is right.
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::Busy(_)
            | Self::Full(_)
            | Self::ReadOnly(_)
            | Self::Io(_)
            | Self::Unavailable(_)
            | Self::Halted
            | Self::RolledBack => true,
            Self::Unreadable(_)
            | Self::Taken(_)
            | Self::CommitFailed(_)
            | Self::Corrupt { .. }
            | Self::RowsChanged { .. }
            | Self::WrongReceipt
            | Self::Panicked
            | Self::NotOurs { .. }
            | Self::NewerSchema { .. }
            | Self::PlainTextImports
            | Self::OfDevelopment
            | Self::Exposed { .. }
            | Self::Damaged(_)
            | Self::Altered(_)
            | Self::BrokenChain { .. }
            | Self::NotAsCheckpointed { .. }
            | Self::OldSqlite(_)
            | Self::File(_)
            | Self::Beside { .. }
            | Self::NoFile { .. }
            | Self::Empty { .. }
            | Self::OnlyLog { .. }
            | Self::Sqlite(_) => false,
        }
    }
}

/// Returns whether a file may be usable later: a disk that failed or is full, or a system without a free lock
/// or descriptor, may work again.
pub fn may_pass(err: &io::Error) -> bool {
    const PASSING: [Errno; 9] = [
        Errno::IO,
        Errno::NOSPC,
        Errno::DQUOT,
        Errno::NOLCK,
        Errno::NOMEM,
        Errno::MFILE,
        Errno::NFILE,
        Errno::STALE,
        Errno::TIMEDOUT,
    ];
    Errno::from_io_error(err).is_some_and(|it| PASSING.contains(&it))
}

/// Returns whether the check of SQLite found a page that the disk did not give, rather than a wrong page.
fn is_failed_read(verdict: &str) -> bool {
    let code = verdict.split_once("unable to get the page. error code=").and_then(|(_, rest)| {
        rest.split(|it: char| !it.is_ascii_digit()).next()?.parse::<i32>().ok()
    });
    // The lowest byte of an extended code is its primary code.
    code.is_some_and(|it| it & 0xff == SQLITE_IOERR) || verdict.contains("failed to get page")
}

impl From<rusqlite::Error> for StoreError {
    fn from(err: rusqlite::Error) -> Self {
        use rusqlite::ffi::{
            SQLITE_CONSTRAINT_PRIMARYKEY, SQLITE_CONSTRAINT_UNIQUE, SQLITE_IOERR_SHMSIZE,
        };
        let Some(cause) = err.sqlite_error().copied() else { return Self::Sqlite(err) };
        if let SQLITE_CONSTRAINT_PRIMARYKEY | SQLITE_CONSTRAINT_UNIQUE = cause.extended_code {
            return Self::Taken(err);
        }
        // No space for the memory that connections share, which is a file beside the database.
        if cause.extended_code == SQLITE_IOERR_SHMSIZE {
            return Self::Full(err);
        }
        #[expect(clippy::wildcard_enum_match_arm, reason = "SQLite's codes, not our enum")]
        match cause.code {
            ErrorCode::DatabaseBusy
            | ErrorCode::DatabaseLocked
            | ErrorCode::FileLockingProtocolFailed => Self::Busy(Some(err.into())),
            ErrorCode::DiskFull => Self::Full(err),
            ErrorCode::ReadOnly => Self::ReadOnly(err),
            ErrorCode::SystemIoFailure | ErrorCode::CannotOpen => Self::Io(err),
            ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase => Self::Unreadable(err),
            _ => Self::Sqlite(err),
        }
    }
}

impl From<r2d2::Error> for StoreError {
    fn from(err: r2d2::Error) -> Self {
        Self::Busy(Some(err.into()))
    }
}
