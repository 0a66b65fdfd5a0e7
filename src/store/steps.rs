//! Counts the work of SQLite on the writer thread, for tests only: steps can be compared exactly, and
//! time cannot.

use std::{cell::RefCell, collections::HashMap};

use rusqlite::{
    Connection, StatementStatus,
    trace::{TraceEvent, TraceEventCodes},
};

#[derive(Default)]
struct Work {
    steps: u64,
    /// The steps of each statement since it was prepared, as SQLite counts them.
    seen: HashMap<String, i32>,
}

thread_local! {
    static WORK: RefCell<Work> = RefCell::default();
}

/// Counts the statements of this connection from now on.
pub(super) fn count(conn: &Connection) {
    conn.trace_v2(
        TraceEventCodes::SQLITE_TRACE_PROFILE,
        Some(|event| {
            let TraceEvent::Profile(statement, _) = event else { return };
            let steps = statement.get_status(StatementStatus::VmStep);
            WORK.with_borrow_mut(|work| {
                let before = work.seen.insert(statement.sql().into_owned(), steps).unwrap_or(0);
                // Fewer steps than before mean that the statement was prepared again.
                let more = if before <= steps { steps - before } else { steps };
                work.steps += u64::from(more.unsigned_abs());
            });
        }),
    );
}

/// Returns the steps of SQLite's virtual machine on this thread since the last call.
pub fn taken() -> u64 {
    WORK.with_borrow_mut(|work| std::mem::take(&mut work.steps))
}
