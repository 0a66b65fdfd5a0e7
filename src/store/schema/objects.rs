//! The tables, indexes, triggers and views of the file, compared with those that keyward makes.

use std::collections::BTreeMap;

use rusqlite::Connection;

use crate::store::StoreError;

/// For the kind and the name of an object: the table to which it belongs, and the statement that made it.
type Objects = BTreeMap<(String, String), (String, String)>;

/// Fails if an object of keyward is missing or was changed. SQLite works without a trigger or an index, but
/// then events can be changed, and the counts of keys become wrong.
///
/// Other programs may have objects in the file, such as the tables of Litestream. Only a trigger or a unique index of
/// theirs on a table of keyward is refused, because it can change or prevent writes. `schema` is the SQL that
/// creates keyward's objects.
pub(super) fn check_objects(conn: &Connection, schema: &str) -> Result<(), StoreError> {
    let fresh = Connection::open_in_memory()?;
    fresh.execute_batch(schema)?;
    let (found, own) = (objects(conn)?, objects(&fresh)?);
    for ((kind, name), (table, sql)) in &own {
        let says = match found.get(&(kind.clone(), name.clone())) {
            Some((_, it)) if it == sql => continue,
            Some(_) => "is not the one that keyward made",
            None => "is missing",
        };
        let how = if kind == "table" || kind == "view" {
            String::new()
        } else {
            format!(". On {table}, keyward makes it with `{sql}`")
        };
        return Err(StoreError::Altered(format!("the {kind} {name} {says}{how}")));
    }
    for (object, (table, sql)) in &found {
        let (kind, name) = object;
        let can_refuse = kind == "trigger" || sql.starts_with("CREATE UNIQUE INDEX");
        let is_on_own = own.contains_key(&("table".to_owned(), table.clone()));
        if can_refuse && is_on_own && !own.contains_key(object) {
            let says = format!("the {kind} {name} on {table} is not keyward's");
            return Err(StoreError::Altered(says));
        }
    }
    Ok(())
}

/// Returns everything that a statement made. SQLite itself makes objects without one, and tables of its own
/// names.
fn objects(conn: &Connection) -> Result<Objects, StoreError> {
    let sql = "SELECT type, name, tbl_name, sql FROM sqlite_schema
        WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'";
    let mut statement = conn.prepare(sql)?;
    let rows = statement.query_map([], |row| {
        let statement = plain(&row.get::<_, String>(3)?);
        Ok(((row.get(0)?, row.get(1)?), (row.get(2)?, statement)))
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Returns the statement without its comments, and with one blank for all white space. SQLite keeps the text
/// as it was written, and the migrations write the columns that they add with other blanks.
fn plain(sql: &str) -> String {
    let lines = sql.lines().map(|it| it.split("--").next().unwrap_or_default());
    let words: Vec<_> = lines.flat_map(str::split_whitespace).collect();
    words.join(" ").replace(" ,", ",").replace(" )", ")").replace("( ", "(")
}
