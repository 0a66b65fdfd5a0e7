//! Creates, opens, migrates and checks the file.

mod objects;

use std::{
    fs::{self, OpenOptions},
    io,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use r2d2::CustomizeConnection;
use rusqlite::{Connection, MAIN_DB, OpenFlags, config::DbConfig};
use rustix::fs::{Access as FileAccess, StatVfsMountFlags, access};

use self::objects::check_objects;
use crate::store::{
    ReadTx, StorageFault, StoreError, WriteTx,
    connection::{READ_MAP, ReaderPragmas, pragmas},
};

const SCHEMA: &str = include_str!("../../schema.sql");
/// "KWRD": tells databases of keyward from other SQLite files.
const APPLICATION_ID: i64 = 0x4B57_5244;
/// "KWDV": a database of development mode. Earlier versions take it for a file of another program.
const DEVELOPMENT_ID: i64 = 0x4B57_4456;
const VERSION: i64 = 5;
/// The migrations: each turns a file of the given version into one of the next. A new one goes to the
/// end, and `schema.sql` gets the same change.
const MIGRATIONS: [(i64, &str); 4] = [
    (1, include_str!("migrations/0002_import.sql")),
    (2, include_str!("migrations/0003_budgets.sql")),
    (3, include_str!("migrations/0004_digests_only.sql")),
    (4, include_str!("migrations/0005_limits.sql")),
];
/// Earlier versions of SQLite could lose committed changes when two connections reset the write-ahead
/// log at the same time.
const OLDEST_SQLITE: i32 = 3_051_003;

/// Opens the file for writing. A new file is readable by its owner only.
pub(super) fn open(path: &Path) -> Result<Connection, StoreError> {
    if rusqlite::version_number() < OLDEST_SQLITE {
        return Err(StoreError::OldSqlite(rusqlite::version()));
    }
    refuse_wrong_files(path)?;
    // SQLite itself would create the file with the mode that the umask leaves.
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(_) => (),
        Err(err) if err.kind() == io::ErrorKind::AlreadyExists => check_mode(path)?,
        Err(err) => return Err(StoreError::File(err)),
    }
    open_existing(path)
}

#[expect(clippy::disallowed_methods, reason = "the one place that opens the file")]
pub(super) fn open_existing(path: &Path) -> Result<Connection, StoreError> {
    let disk = rustix::fs::statvfs(path).map_err(|err| StoreError::File(err.into()))?;
    if disk.f_flag.contains(StatVfsMountFlags::RDONLY) {
        return Err(StoreError::Unavailable(StorageFault::ReadOnly));
    }
    refuse_wrong_files(path)?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(path, flags)?;
    version(&conn, path)?;
    Ok(conn)
}

/// Fails if SQLite would block on one of the files, as on a pipe, or would remove the write-ahead log. It
/// removes a log beside an empty database, also if it only reads.
fn refuse_wrong_files(path: &Path) -> Result<(), StoreError> {
    let found = fs::metadata(path);
    if found.as_ref().is_ok_and(|it| !it.is_file()) {
        return Err(StoreError::NoFile { path: path.to_owned() });
    }
    // SQLite takes a file of one byte for an empty one (ticket 3260 of SQLite), and would overwrite it.
    if found.as_ref().is_ok_and(|it| it.len() == 1) {
        return Err(StoreError::NotOurs { path: path.to_owned() });
    }
    // SQLite follows no link to these.
    for file in ["-wal", "-shm", "-journal"].map(|it| beside(path, it)) {
        if fs::symlink_metadata(&file).is_ok_and(|it| !it.is_file()) {
            return Err(StoreError::NoFile { path: file });
        }
    }
    let log = beside(path, "-wal");
    let is_empty =
        found.map_or_else(|err| err.kind() == io::ErrorKind::NotFound, |it| it.len() == 0);
    if is_empty && fs::metadata(&log).is_ok_and(|it| 0 < it.len()) {
        return Err(StoreError::OnlyLog { path: path.to_owned(), log });
    }
    Ok(())
}

/// Returns the path of a file that SQLite puts beside the database.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Opens the file at `path` for writing, creates it if it does not exist, and migrates it.
///
/// The write-ahead log is folded at the end of the connection only after [`complete_opening`]. So a start
/// that is refused leaves the database and its log as they were.
pub(super) fn open_to_write(path: &Path) -> Result<Connection, StoreError> {
    let mut conn = open(path)?;
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    refuse_read_only(&conn)?;
    pragmas(&conn)?;
    prepare(&mut conn)?;
    Ok(conn)
}

/// Completes the opening after the first commit, before which a start may be refused: lets SQLite fold the
/// write-ahead log when the last connection to the file ends, and removes its statistics.
///
/// Earlier versions made statistics. They describe the file of the day on which they were made: with those
/// of a young file, SQLite reads a large one from end to end. Without them, its plans are those that the
/// tests see.
pub(super) fn complete_opening(conn: &Connection) {
    if !conn.db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE).unwrap_or(true) {
        return;
    }
    // After an error the next start reads the log.
    let _ = conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false);
    // After an error the next start removes them.
    let _ =
        conn.execute_batch("DROP TABLE IF EXISTS sqlite_stat1; DROP TABLE IF EXISTS sqlite_stat4");
}

/// Fails if the connection only reads: SQLite opens a file that it cannot write for reading, without
/// an error.
pub(super) fn refuse_read_only(conn: &Connection) -> Result<(), StoreError> {
    if conn.is_readonly(MAIN_DB)? {
        return Err(StoreError::Unavailable(StorageFault::ReadOnly));
    }
    Ok(())
}

/// How a reading connection sees the file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Access {
    /// With the memory that all connections share, which is the file `-shm` beside the database.
    Shared,
    /// Without it, where `-shm` cannot be created and the write-ahead log is empty.
    AsItLies,
}

/// Opens the file at `path` for reading only.
///
/// On a full or read-only file system SQLite often cannot create the file `-shm`. A database whose
/// write-ahead log is empty can be read without it; any other cannot.
#[expect(clippy::disallowed_methods, reason = "read only, and the one place that does so")]
pub(super) fn open_to_read(path: &Path) -> Result<(Connection, Access), StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    // Asked here first for the reason of a failure, which SQLite does not give. Not by opening the file:
    // closing it would give up the locks that SQLite holds on it for this process.
    access(path, FileAccess::READ_OK).map_err(|err| StoreError::File(err.into()))?;
    refuse_wrong_files(path)?;
    if fs::metadata(path).map_err(StoreError::File)?.len() == 0 {
        return Err(StoreError::Empty { path: path.to_owned() });
    }
    let shared = Connection::open_with_flags(path, flags).map_err(StoreError::from);
    match shared.and_then(|conn| version(&conn, path).map(|_| conn)) {
        Ok(conn) => Ok((conn, Access::Shared)),
        Err(err) if err.storage_fault().is_some() && log_is_empty(path) => {
            let flags = flags | OpenFlags::SQLITE_OPEN_URI;
            let conn = Connection::open_with_flags(immutable(path), flags)?;
            version(&conn, path)?;
            Ok((conn, Access::AsItLies))
        }
        Err(err) => Err(err),
    }
}

/// Returns the URI of the file for [`Access::AsItLies`].
pub(super) fn immutable(path: &Path) -> String {
    let escape = |it: char| match it {
        '%' | '?' | '#' => format!("%{:02X}", u32::from(it)),
        it => it.to_string(),
    };
    let path: String = path.to_string_lossy().chars().map(escape).collect();
    format!("file:{path}?immutable=1")
}

fn log_is_empty(path: &Path) -> bool {
    fs::metadata(beside(path, "-wal"))
        .map_or_else(|err| err.kind() == io::ErrorKind::NotFound, |it| it.len() == 0)
}

/// Creates the tables of a new file, and migrates an older one.
pub(super) fn prepare(conn: &mut Connection) -> Result<(), StoreError> {
    let found = user_version(conn)?;
    if found == 0 {
        let tx = conn.transaction()?;
        tx.execute_batch(SCHEMA)?;
        tx.commit()?;
        return Ok(());
    }
    let mut steps = MIGRATIONS.iter().filter(|(from, _)| found <= *from).peekable();
    if steps.peek().is_none() {
        return Ok(());
    }
    // One transaction, so that an interruption leaves the file at one version.
    let tx = conn.transaction()?;
    for (_, step) in steps {
        tx.execute_batch(step)?;
    }
    refuse_plain_text_imports(&tx)?;
    tx.pragma_update(None, "user_version", VERSION)?;
    Ok(tx.commit()?)
}

/// Refuses a file of version 2 or 3 into which keys were imported in plain text. No later version
/// finds these keys, and the marks that keep a revoked one from coming back are of no use to it.
pub(super) fn refuse_plain_text_imports(conn: &Connection) -> Result<(), StoreError> {
    let found = conn
        .prepare("SELECT 1 FROM imported_values WHERE '0r' <= prefix AND prefix < '0s'")?
        .exists([])?;
    if found { Err(StoreError::PlainTextImports) } else { Ok(()) }
}

/// Runs [`check`] on a connection of its own.
pub(super) fn check_file(path: &Path) -> Result<(), StoreError> {
    let (mut conn, _) = open_to_read(path)?;
    ReaderPragmas.on_acquire(&mut conn)?;
    conn.pragma_update(None, "mmap_size", READ_MAP)?;
    check(&conn)
}

/// Fails unless the file is intact and the audit log is unchanged. Reads the whole file. Of a file of the
/// current version, also compares the schema.
pub(super) fn check(conn: &Connection) -> Result<(), StoreError> {
    let verdict: String = conn.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if verdict != "ok" {
        return Err(StoreError::damaged(&verdict));
    }
    let log = ReadTx::new(conn).check_log();
    // Reports a changed log before a missing trigger, and a missing table before the statement that fails
    // without it.
    if is_current(conn)? && matches!(log, Ok(()) | Err(StoreError::Sqlite(_))) {
        check_objects(conn, SCHEMA)?;
    }
    log
}

/// Returns the version of the schema, 0 for an empty file. Fails if the file is not a database of
/// keyward or is newer than this program.
pub(super) fn version(conn: &Connection, path: &Path) -> Result<i64, StoreError> {
    let not_ours = || StoreError::NotOurs { path: path.to_owned() };
    let tables =
        conn.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get::<_, i64>(0));
    let tables = tables.map_err(|err| match err.sqlite_error_code() {
        Some(rusqlite::ErrorCode::NotADatabase) => not_ours(),
        _ => err.into(),
    })?;
    let application = application_id(conn)?;
    let found = user_version(conn)?;
    match (application, tables) {
        (APPLICATION_ID | DEVELOPMENT_ID, _) if (1..=VERSION).contains(&found) => Ok(found),
        (APPLICATION_ID | DEVELOPMENT_ID, _) if found < 1 => {
            Err(StoreError::Damaged(format!("its version is {found}")))
        }
        (APPLICATION_ID | DEVELOPMENT_ID, _) => {
            Err(StoreError::NewerSchema { found, known: VERSION })
        }
        (0, 0) => Ok(0),
        _ => Err(not_ours()),
    }
}

/// Returns whether the file has the schema of this program.
pub(super) fn is_current(conn: &Connection) -> Result<bool, StoreError> {
    Ok(user_version(conn)? == VERSION)
}

/// Writes the version again, so that a commit reaches the disk: SQLite does not write a row that is
/// unchanged.
pub(super) fn write_version(conn: &Connection) -> Result<(), StoreError> {
    Ok(conn.pragma_update(None, "user_version", VERSION)?)
}

impl WriteTx<'_> {
    /// Changes no row, but makes the commit reach the disk.
    pub fn touch_disk(&self) -> Result<(), StoreError> {
        write_version(self.sql)
    }

    /// Marks the file, and so each copy and backup of it, as a database of development mode.
    pub fn mark_as_development(&self) -> Result<(), StoreError> {
        Ok(self.sql.pragma_update(None, "application_id", DEVELOPMENT_ID)?)
    }
}

impl ReadTx<'_> {
    /// Fails if development mode made this database.
    pub fn refuse_development(&self) -> Result<(), StoreError> {
        let is_ours = application_id(self.sql)? != DEVELOPMENT_ID;
        if is_ours { Ok(()) } else { Err(StoreError::OfDevelopment) }
    }
}

fn application_id(conn: &Connection) -> Result<i64, StoreError> {
    Ok(conn.pragma_query_value(None, "application_id", |row| row.get(0))?)
}

/// Returns the version of the file, if a migration would change it.
pub(super) fn outdated(conn: &Connection) -> Result<Option<i64>, StoreError> {
    let found = user_version(conn)?;
    Ok((0 < found && found < VERSION).then_some(found))
}

fn user_version(conn: &Connection) -> Result<i64, StoreError> {
    Ok(conn.pragma_query_value(None, "user_version", |row| row.get(0))?)
}

/// Fails if other users can read the file.
pub(super) fn check_mode(path: &Path) -> Result<(), StoreError> {
    const OTHERS: u32 = 0o007;
    let mode = fs::metadata(path).map_err(StoreError::File)?.permissions().mode();
    if mode & OTHERS != 0 {
        return Err(StoreError::Exposed { path: path.to_owned() });
    }
    Ok(())
}
