//! The tables, indexes, triggers and views of the file, compared with those that keyward makes.

use std::collections::BTreeMap;

use rusqlite::Connection;

use crate::store::StoreError;

/// The kind and the name of an object, and the statement that made it.
type Objects = BTreeMap<(String, String), String>;

/// Fails if an object of keyward is missing or was changed. SQLite works without a trigger or an index, but
/// nothing then keeps the log append-only, and no number stays right.
///
/// Objects of others may be there, such as the tables of Litestream. `schema` makes those of keyward, in the
/// version of the file.
pub(super) fn check_objects(conn: &Connection, schema: &str) -> Result<(), StoreError> {
    let fresh = Connection::open_in_memory()?;
    fresh.execute_batch(schema)?;
    let found = objects(conn)?;
    for ((kind, name), sql) in objects(&fresh)? {
        let says = match found.get(&(kind.clone(), name.clone())) {
            Some(it) if *it == sql => continue,
            Some(_) => "is not the one that keyward made",
            None => "is missing",
        };
        return Err(StoreError::Damaged(format!("the {kind} {name} {says}")));
    }
    Ok(())
}

/// Returns everything that a statement made. SQLite itself makes objects without one, and tables of its own
/// names.
fn objects(conn: &Connection) -> Result<Objects, StoreError> {
    let sql = "SELECT type, name, sql FROM sqlite_schema
        WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'";
    let mut statement = conn.prepare(sql)?;
    let rows = statement
        .query_map([], |row| Ok(((row.get(0)?, row.get(1)?), plain(&row.get::<_, String>(2)?))))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Returns the statement without its comments, and with one blank for all white space. SQLite keeps the text
/// as it was written, and the migrations write the columns that they add with other blanks.
fn plain(sql: &str) -> String {
    let lines = sql.lines().map(|it| it.split("--").next().unwrap_or_default());
    let words: Vec<_> = lines.flat_map(str::split_whitespace).collect();
    words.join(" ").replace(" ,", ",").replace(" )", ")").replace("( ", "(")
}
