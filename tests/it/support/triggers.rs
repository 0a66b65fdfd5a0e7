//! Changes that the triggers of the database refuse.

use rusqlite::Connection;

/// Runs `change` without the triggers of the database, and puts them back: keyward refuses a database
/// without them.
pub fn without_triggers(conn: &Connection, change: impl FnOnce()) {
    let (names, triggers): (Vec<String>, Vec<String>) = {
        let sql = "SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'";
        let mut statement = conn.prepare(sql).expect("a statement");
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).expect("rows");
        rows.map(Result::unwrap).unzip()
    };
    for name in names {
        conn.execute_batch(&format!("DROP TRIGGER {name}")).expect("a trigger");
    }
    change();
    for sql in triggers {
        conn.execute_batch(&sql).expect("the trigger as it was");
    }
}
