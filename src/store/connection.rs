//! The settings of every connection.

use std::time::Duration;

use r2d2::CustomizeConnection;
use rusqlite::{Connection, functions::FunctionFlags};

use crate::domain::visible::folded;

pub(super) const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// The size to which the write-ahead log is cut once it was folded back, in bytes.
const WAL_LIMIT: i64 = 64 * 1024 * 1024;
/// How much of the file is mapped into memory at the start, in bytes. Two threads read the whole
/// file then; without the mapping they would queue for one lock inside SQLite. A running server maps
/// nothing.
pub(super) const READ_MAP: i64 = 1024 * 1024 * 1024;

/// Sets up a connection that writes. Every connection needs this: a pragma holds for the connection
/// that ran it, not for the pool.
pub(super) fn pragmas(conn: &Connection) -> Result<(), rusqlite::Error> {
    add_functions(conn)?;
    conn.busy_timeout(BUSY_TIMEOUT)?;
    conn.set_prepared_statement_cache_capacity(128);
    conn.pragma_update(None, "journal_mode", "WAL")?;
    // NORMAL could lose answered commits at a power loss, among them a revocation.
    conn.pragma_update(None, "synchronous", "FULL")?;
    conn.pragma_update(None, "foreign_keys", true)?;
    conn.pragma_update(None, "recursive_triggers", true)?;
    // Each change has a savepoint, which copies the pages that it changes: into memory, not a file.
    conn.pragma_update(None, "temp_store", "MEMORY")?;
    conn.pragma_update(None, "trusted_schema", false)?;
    conn.pragma_update(None, "journal_size_limit", WAL_LIMIT)
}

/// Sets up a connection that reads.
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

/// Adds `folded`, for search: SQLite's own `lower` only knows the letters of ASCII.
fn add_functions(conn: &Connection) -> Result<(), rusqlite::Error> {
    let pure = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC;
    conn.create_scalar_function("folded", 1, pure, |call| Ok(folded(&call.get::<String>(0)?)))
}
