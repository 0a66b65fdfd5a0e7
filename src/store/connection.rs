//! What every connection is told before it is used.

use std::time::Duration;

use r2d2::CustomizeConnection;
use rusqlite::{Connection, functions::FunctionFlags};

use crate::domain::visible::folded;

pub(super) const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// What the write-ahead log may keep on disk once it has been folded back, in bytes.
const WAL_LIMIT: i64 = 64 * 1024 * 1024;
/// How much of the file a start maps, which reads all of it: without it, the two threads that do so
/// queue for one lock inside SQLite. A running server maps nothing.
pub(super) const READ_MAP: i64 = 1024 * 1024 * 1024;

/// Each connection gets these, not just the first: a pragma that is set once on a pool holds for
/// whichever connection happened to run it.
pub(super) fn pragmas(conn: &Connection) -> Result<(), rusqlite::Error> {
    add_functions(conn)?;
    conn.busy_timeout(BUSY_TIMEOUT)?;
    conn.set_prepared_statement_cache_capacity(128);
    conn.pragma_update(None, "journal_mode", "WAL")?;
    // NORMAL would lose answered commits at power loss, and with them perhaps a revocation.
    conn.pragma_update(None, "synchronous", "FULL")?;
    conn.pragma_update(None, "foreign_keys", true)?;
    conn.pragma_update(None, "recursive_triggers", true)?;
    // Each change has a savepoint, which keeps a copy of the pages it touches: not in a file.
    conn.pragma_update(None, "temp_store", "MEMORY")?;
    conn.pragma_update(None, "trusted_schema", false)?;
    conn.pragma_update(None, "journal_size_limit", WAL_LIMIT)
}

#[derive(Debug)]
pub(super) struct ReaderPragmas;

impl CustomizeConnection<Connection, rusqlite::Error> for ReaderPragmas {
    fn on_acquire(&self, conn: &mut Connection) -> Result<(), rusqlite::Error> {
        add_functions(conn)?;
        conn.busy_timeout(BUSY_TIMEOUT)?;
        conn.set_prepared_statement_cache_capacity(64);
        conn.pragma_update(None, "query_only", true)?;
        // No `mmap_size`: an I/O error on a mapped page is a signal that ends the process.
        conn.pragma_update(None, "trusted_schema", false)
    }
}

/// SQLite's own `lower` knows the letters of ASCII and no others, and no accents.
fn add_functions(conn: &Connection) -> Result<(), rusqlite::Error> {
    let pure = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC;
    conn.create_scalar_function("folded", 1, pure, |call| Ok(folded(&call.get::<String>(0)?)))
}
