//! Opens the file again after a failure, and brings the index up to date with it.

use std::{collections::HashSet, error::Error as _, fs, path::Path, time::Duration};

use rusqlite::{Connection, ErrorCode};

use super::{Opened, WriterThread};
use crate::store::{
    Divergence, KeyIndex, LockHolder, ReadTx, StorageFault, StoreError,
    connection::{BUSY_TIMEOUT, pragmas},
    outage::{FilesBeside, Identity, Outage, is_absence},
    schema,
    tx::{Marks, Touched},
};

/// How long an attempt waits for another process; the next attempt comes soon.
const PATIENCE: Duration = Duration::from_millis(100);
/// How long folding the write-ahead log back waits for readers.
const FOLD_PATIENCE: Duration = Duration::from_millis(20);

/// The state of the disk when the storage last worked.
pub(super) struct Known<'a> {
    pub path: &'a Path,
    pub identity: Identity,
    pub marks: Marks,
    pub index: &'a KeyIndex,
    /// The rows that the failed commit changed. The file may hold the change or not; no caller got
    /// an answer.
    pub touched: &'a HashSet<Touched>,
}

/// Why the file was not opened again.
#[derive(Debug)]
pub(super) enum NotReopened {
    /// A later attempt may succeed.
    Yet(StoreError),
    Ever(Divergence),
}

impl<E: Into<StoreError>> From<E> for NotReopened {
    fn from(err: E) -> Self {
        Self::Yet(err.into())
    }
}

impl NotReopened {
    /// Turns an error about the contents of the file, which no later attempt can change, into a
    /// divergence.
    fn final_if_known(self, path: &Path) -> Self {
        match &self {
            Self::Yet(err) if !may_pass(err) => {
                let cause = err.source().map(|it| format!(": {it}")).unwrap_or_default();
                unusable(path, &format!("{err}{cause}"))
            }
            Self::Yet(_) | Self::Ever(_) => self,
        }
    }
}

fn unusable(path: &Path, why: &str) -> NotReopened {
    NotReopened::Ever(Divergence::Unusable { path: path.to_owned(), why: why.to_owned() })
}

/// Returns whether a later attempt may succeed after this error.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "a later attempt may succeed after every other error"
)]
fn may_pass(err: &StoreError) -> bool {
    match err {
        StoreError::Unreadable(cause) => cause.sqlite_error_code() != Some(ErrorCode::NotADatabase),
        err => !matches!(
            err,
            StoreError::NotOurs { .. }
                | StoreError::NewerSchema { .. }
                | StoreError::Corrupt { .. }
                | StoreError::NoFile { .. }
        ),
    }
}

/// Returns the fault of the storage, if this error is a reason to open the file again.
#[expect(clippy::wildcard_enum_match_arm, reason = "no other error is about the storage")]
fn fault_of(err: &StoreError) -> Option<StorageFault> {
    match err {
        // Not a full queue. The lock may be one that this process could not release.
        StoreError::Busy(Some(cause)) if cause.is::<rusqlite::Error>() => {
            Some(StorageFault::Locked)
        }
        // SQLite itself rolls the transaction back when it cannot read or write a page.
        StoreError::RolledBack => Some(StorageFault::Failed),
        err => err.storage_fault(),
    }
}

/// Opens the file, checks that it continues the known log, commits once to show that it can be
/// written, and puts into the index what the failed commit may have changed.
///
/// Every answered change is in the index and stays there. What is added was read from the file inside
/// the transaction, as for any commit.
pub(super) fn reopen(known: &Known<'_>) -> Result<(Connection, Marks), NotReopened> {
    let Known { path, identity, .. } = known;
    if identity.is_gone(path) {
        return Err(NotReopened::Ever(Divergence::Gone { path: path.to_path_buf() }));
    }
    // What is not in its place may come back.
    let found = fs::metadata(path).map_err(|err| {
        if is_absence(&err) {
            StoreError::Unavailable(StorageFault::Moved)
        } else {
            StoreError::File(err)
        }
    })?;
    if found.len() == 0 {
        // Not opened: SQLite removes the log beside an empty file.
        return Err(unusable(path, "it is empty"));
    }
    let conn = schema::open_existing(path)?;
    schema::refuse_read_only(&conn)?;
    if !schema::is_current(&conn)? {
        return Err(unusable(path, "its version is another one"));
    }
    pragmas(&conn)?;
    conn.busy_timeout(PATIENCE)?;
    conn.execute_batch("BEGIN IMMEDIATE")?;
    let read = ReadTx::new(&conn);
    let marks = compare(known, &read)?;
    known.index.retire_again(&read, known.touched)?;
    let images = known.index.images(&read, &mut known.touched.clone())?;
    schema::write_version(&conn)?;
    conn.execute_batch("COMMIT")?;
    known.index.apply(images);
    conn.busy_timeout(BUSY_TIMEOUT)?;
    Ok((conn, marks))
}

impl WriterThread {
    /// Fails if the lock or a file is not where it was. SQLite itself would go on with files that were
    /// moved or removed, and the next start would not find what it writes there.
    pub fn check_place(&mut self, conn: &Connection) -> Result<(), StoreError> {
        match self.state.lock_holder() {
            LockHolder::ThisProcess => (),
            LockHolder::ThisProcessAgain => {
                if ReadTx::new(conn).audit_head()? != self.marks.head {
                    self.state.part(self.lock_lost());
                    return Err(StoreError::Unavailable(StorageFault::Locked));
                }
            }
            LockHolder::AnotherProcess => {
                return Err(StoreError::Unavailable(StorageFault::Locked));
            }
            LockHolder::Unknown => return Err(StoreError::Unavailable(StorageFault::Failed)),
        }
        let path = &self.opened.path;
        self.identity.check(path)?;
        self.beside.check(path)
    }

    pub fn check_while_idle(&mut self) {
        let Some(conn) = self.conn.take() else { return };
        match self.check_place(&conn) {
            Ok(()) => self.conn = Some(conn),
            Err(err) => self.undo(conn, &err, HashSet::new()),
        }
    }

    fn lock_lost(&self) -> Divergence {
        let path = &self.opened.path;
        Divergence::LockLost { dir: path.parent().unwrap_or(path).to_owned() }
    }

    /// Returns the answer to a change during an outage.
    pub fn refusal(&self) -> StoreError {
        match &self.outage {
            Some(it) if self.state.divergence().is_none() => StoreError::Unavailable(it.fault),
            Some(_) | None => StoreError::Halted,
        }
    }

    pub fn undo(&mut self, conn: Connection, err: &StoreError, touched: HashSet<Touched>) {
        let error = err as &dyn std::error::Error;
        if !conn.is_autocommit() {
            // An error changes nothing: closing the connection rolls back as well.
            let _ = conn.execute_batch("ROLLBACK");
        }
        // If only the log was removed, this saves what is in it. SQLite would also write into an empty file.
        let path = &self.opened.path;
        let is_empty = fs::metadata(path).is_ok_and(|it| it.len() == 0);
        let is_unsaved = err.storage_fault() == Some(StorageFault::Moved)
            && !is_empty
            && !fold(&conn).unwrap_or(false)
            && self.identity.check(path).is_ok();
        // A connection that is still in a transaction could never begin another one.
        let stuck = (!conn.is_autocommit()).then_some(StorageFault::Failed);
        match stuck.or_else(|| fault_of(err)) {
            Some(StorageFault::Full) => self.state.failed(StorageFault::Full),
            Some(fault) => {
                tracing::error!(
                    error,
                    cause = error.source(),
                    "{fault}: changes are refused until it works again; verification goes on"
                );
                self.begin_outage(fault, touched);
                if let Some(outage) = &mut self.outage {
                    outage.lock_was_lost =
                        matches!(err, StoreError::Unavailable(StorageFault::Locked));
                    outage.unsaved = is_unsaved.then_some(conn);
                }
                return;
            }
            None => (),
        }
        tracing::error!(error, cause = error.source(), "a transaction failed");
        if let StoreError::Full(_) = err {
            // Folding the log back may free the needed space.
            let _ = fold(&conn);
        }
        self.conn = Some(conn);
    }

    /// Folds the log back; see [`fold`]. An error counts as the error of a change.
    pub fn upkeep(&mut self) -> Result<bool, StoreError> {
        let Some(conn) = self.conn.take() else { return Err(self.refusal()) };
        let outcome = fold(&conn);
        match &outcome {
            Ok(_) => self.conn = Some(conn),
            Err(err) => self.undo(conn, err, HashSet::new()),
        }
        outcome
    }

    pub fn begin_outage(&mut self, fault: StorageFault, touched: HashSet<Touched>) {
        self.state.failed(fault);
        self.beside = FilesBeside::default();
        self.outage = Some(Outage::new(fault, touched, self.now()));
    }

    fn attempt(&self, outage: &mut Outage) -> Result<(Connection, Marks), NotReopened> {
        let holder = self.state.lock_holder();
        let is_taken = outage.is_taken(holder);
        let Opened { path, index, readers, .. } = &self.opened;
        let known = Known {
            path,
            identity: self.identity,
            marks: self.marks,
            index,
            touched: &outage.touched,
        };
        let outcome = match self.state.divergence() {
            Some(why) => Err(NotReopened::Ever(why.clone())),
            None if is_taken => Err(NotReopened::Ever(self.lock_lost())),
            None if holder == LockHolder::AnotherProcess => {
                Err(StoreError::Unavailable(StorageFault::Locked).into())
            }
            None if holder == LockHolder::Unknown => {
                Err(StoreError::Unavailable(StorageFault::Failed).into())
            }
            None => {
                // Once the files are back, the connections must share the new ones.
                let is_back =
                    outage.fault == StorageFault::Moved && self.identity.check(path).is_ok();
                let must_close = is_back || outage.fault == StorageFault::Locked;
                let unsaved = &mut outage.unsaved;
                let save_and_reopen = || {
                    if let Some(conn) = unsaved.as_ref() {
                        // A reader that began before the last commit holds the log.
                        if !fold(conn)? {
                            return Err(StoreError::Unavailable(StorageFault::Moved).into());
                        }
                        // SQLite shares what it has in memory with all connections to one file.
                        *unsaved = None;
                    }
                    reopen(&known)
                };
                readers
                    .reopen_after(must_close, save_and_reopen)
                    .map_err(|err| err.final_if_known(path))
            }
        };
        match outcome {
            Ok((_, marks)) if outage.lock_was_lost && marks.head != self.marks.head => {
                Err(NotReopened::Ever(self.lock_lost()))
            }
            outcome => outcome,
        }
    }

    /// Tries to open the file again.
    pub fn end_outage(&mut self) {
        let Some(mut outage) = self.outage.take() else { return };
        let outcome = self.attempt(&mut outage);
        match outcome {
            Ok((conn, marks)) => {
                self.conn = Some(conn);
                self.marks = marks;
                self.state.works();
                self.announce();
                tracing::warn!(event.seq = marks.head.seq, "the storage works again");
                return;
            }
            Err(NotReopened::Ever(why)) => {
                let error = &why as &dyn std::error::Error;
                tracing::error!(error, "nothing can be written any more");
                self.state.part(why);
                outage.goes_on(outage.fault, self.now());
            }
            Err(NotReopened::Yet(err)) => {
                let fault = fault_of(&err).unwrap_or(StorageFault::Failed);
                let error = &err as &dyn std::error::Error;
                if err.is_temporary() {
                    tracing::debug!(error, cause = error.source(), "the storage still fails");
                } else {
                    tracing::warn!(
                        error,
                        cause = error.source(),
                        "the file cannot be opened again"
                    );
                }
                self.state.still(fault);
                outage.goes_on(fault, self.now());
            }
        }
        self.outage = Some(outage);
    }
}

/// Fails unless the log in the file continues the known one. Returns its end.
fn compare(known: &Known<'_>, read: &ReadTx<'_>) -> Result<Marks, NotReopened> {
    let path = || known.path.to_path_buf();
    let (head, found) = (known.marks.head, read.audit_head()?);
    if found.seq < head.seq {
        let (known, found) = (head.seq, found.seq);
        return Err(NotReopened::Ever(Divergence::Shorter { path: path(), known, found }));
    }
    if !read.is_as_checkpointed(head.seq, head.hash)? {
        return Err(NotReopened::Ever(Divergence::Differs { path: path(), seq: head.seq }));
    }
    if let Some(seq) = read.first_broken_event(head.seq)? {
        return Err(NotReopened::Ever(Divergence::Differs { path: path(), seq }));
    }
    if !Identity::of(known.path)?.is_file_of(known.identity) {
        // The lock that this process holds may be in another directory than the file.
        return Err(NotReopened::Ever(Divergence::Replaced { path: path() }));
    }
    Ok(Marks { head: found, last_id: read.last_id()?.max(known.marks.last_id) })
}

/// Folds the write-ahead log back into the database (SQLite calls this a checkpoint) and empties
/// it. Returns `false` if a reader holds the log: then only the part that it does not need is
/// folded back, and the log keeps its size.
///
/// Waits for readers only a moment, because changes wait meanwhile.
fn fold(conn: &Connection) -> Result<bool, StoreError> {
    let passive = "PRAGMA wal_checkpoint(PASSIVE)";
    let (pages, folded) =
        conn.query_row(passive, [], |row| Ok((row.get::<_, i64>(1)?, row.get::<_, i64>(2)?)))?;
    if folded < pages {
        return Ok(false);
    }
    conn.busy_timeout(FOLD_PATIENCE)?;
    let busy = conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, bool>(0));
    conn.busy_timeout(BUSY_TIMEOUT)?;
    Ok(!busy?)
}
