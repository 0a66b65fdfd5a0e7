//! Rows, read and written by the names of their columns.

use std::{cell::Cell, fmt, fmt::Write as _, iter};

use rusqlite::{
    Params, Row, Rows, Statement, ToSql, params_from_iter,
    types::{FromSql, Null, ValueRef},
};

use crate::{
    domain::{api_key::ConsoleLink, rate_limit::RateLimit},
    store::{StoreError, WriteTx},
};

/// A table, and the column that identifies a row of it in an error.
#[derive(Clone, Copy)]
pub(super) struct Table {
    pub name: &'static str,
    pub key: &'static str,
}

/// The names of a statement's columns, looked up once for all its rows.
pub(super) struct Columns {
    names: Vec<String>,
    /// Where the next look begins. Readers mostly go by the order of the statement, so they
    /// compare one name, not all of them.
    next: Cell<usize>,
}

/// The fields of one row.
#[derive(Clone, Copy)]
pub(super) struct Fields<'a> {
    table: Table,
    columns: &'a Columns,
    row: &'a Row<'a>,
}

/// A column that holds a part of a `T`.
pub(super) struct Column<T> {
    name: &'static str,
    /// `false` if only the INSERT writes it.
    changes: bool,
    part: fn(&T) -> &dyn ToSql,
}

/// The one list of the columns that hold a `T`, for its SELECT, INSERT and UPDATE. Prints the names
/// for the SELECT. Beside them, each row has an `id` and the number of its last event, `audit_seq`.
pub(super) struct ColumnList<T: 'static> {
    pub table: Table,
    pub columns: &'static [Column<T>],
}

impl Table {
    pub const KEYS: Self = Self { name: "api_keys", key: "id" };
    pub const CREDENTIALS: Self = Self { name: "credentials", key: "prefix" };

    /// Returns what `read` makes of each row that the statement finds.
    pub fn all<T>(
        self,
        statement: &mut Statement<'_>,
        params: impl Params,
        read: impl Fn(Fields<'_>) -> Result<T, StoreError>,
    ) -> Result<Vec<T>, StoreError> {
        let mut found = Vec::new();
        self.each(statement, params, |row| {
            found.push(read(row)?);
            Ok(true)
        })?;
        Ok(found)
    }

    /// Returns what `read` makes of the first row that the statement finds, if any.
    pub fn first<T>(
        self,
        statement: &mut Statement<'_>,
        params: impl Params,
        read: impl Fn(Fields<'_>) -> Result<T, StoreError>,
    ) -> Result<Option<T>, StoreError> {
        let mut found = None;
        self.each(statement, params, |row| {
            found = Some(read(row)?);
            Ok(false)
        })?;
        Ok(found)
    }

    /// Gives the rows that the statement finds to `take`, one by one, until it returns `false`.
    pub fn each(
        self,
        statement: &mut Statement<'_>,
        params: impl Params,
        mut take: impl FnMut(Fields<'_>) -> Result<bool, StoreError>,
    ) -> Result<(), StoreError> {
        let columns = Columns::of(statement);
        let mut rows = statement.query(params)?;
        while let Some(row) = columns.next(&mut rows, self)? {
            if !take(row)? {
                break;
            }
        }
        Ok(())
    }
}

impl Columns {
    pub fn of(statement: &Statement<'_>) -> Self {
        let names = statement.column_names().into_iter().map(str::to_owned).collect();
        Self { names, next: Cell::default() }
    }

    /// Returns the next row, whose errors name `table`.
    pub fn next<'a>(
        &'a self,
        rows: &'a mut Rows<'_>,
        table: Table,
    ) -> Result<Option<Fields<'a>>, StoreError> {
        Ok(rows.next()?.map(|row| Fields { table, columns: self, row }))
    }

    fn index(&self, name: &str) -> Option<usize> {
        let next = self.next.get();
        let at = match self.names.get(next) {
            Some(it) if it == name => next,
            Some(_) | None => self.names.iter().position(|it| it == name)?,
        };
        self.next.set(at + 1);
        Some(at)
    }
}

impl<'a> Fields<'a> {
    /// Returns the value in `column`. The error names table, column and row.
    pub fn get<T: FromSql>(&self, column: &'static str) -> Result<T, StoreError> {
        T::column_result(self.raw(column)?).map_err(|_| self.unreadable(column))
    }

    /// Returns the rate limit in the columns of its limit and of its window; `None` if both are NULL.
    pub fn rate_limit(
        &self,
        limit: &'static str,
        window_secs: &'static str,
    ) -> Result<Option<RateLimit>, StoreError> {
        match (self.get(limit)?, self.get(window_secs)?) {
            (None, None) => Ok(None),
            (Some(number), Some(secs)) => {
                RateLimit::new(number, secs).map(Some).ok_or_else(|| self.unreadable(limit))
            }
            (_, _) => Err(self.unreadable(limit)),
        }
    }

    /// Returns what a key may give as a console link; `None` if it is no link.
    pub fn console_link(&self) -> Result<Option<ConsoleLink>, StoreError> {
        let (is_link, gives_until) = (self.get("console_link")?, self.get("gives_until_ms")?);
        Ok(if is_link { Some(ConsoleLink { gives_until }) } else { None })
    }

    /// Returns the text in `column` where it lies, without a copy.
    pub fn text(&self, column: &'static str) -> Result<&'a str, StoreError> {
        self.raw(column)?.as_str().map_err(|_| self.unreadable(column))
    }

    /// Returns the same row of a join as a row of another of its tables.
    pub fn of(&self, table: Table) -> Self {
        Self { table, ..*self }
    }

    /// The error for a value that cannot be read.
    pub fn unreadable(&self, column: &'static str) -> StoreError {
        let key = self.raw(self.table.key);
        let row = key.map_or_else(
            |_| String::new(),
            |it| match it {
                ValueRef::Integer(number) => number.to_string(),
                ValueRef::Text(text) => String::from_utf8_lossy(text).into_owned(),
                ValueRef::Null | ValueRef::Real(_) | ValueRef::Blob(_) => String::new(),
            },
        );
        StoreError::Corrupt { table: self.table.name, column, row }
    }

    fn raw(&self, column: &'static str) -> Result<ValueRef<'a>, StoreError> {
        let unknown = || rusqlite::Error::InvalidColumnName(column.to_owned());
        Ok(self.row.get_ref(self.columns.index(column).ok_or_else(unknown)?)?)
    }
}

impl<T> Column<T> {
    /// A column that an UPDATE writes as well.
    pub const fn new(name: &'static str, part: fn(&T) -> &dyn ToSql) -> Self {
        Self { name, changes: true, part }
    }

    /// A column that keeps what the INSERT wrote, or that the UPDATE itself computes.
    pub const fn fixed(name: &'static str, part: fn(&T) -> &dyn ToSql) -> Self {
        Self { name, changes: false, part }
    }
}

/// The limit of a rate limit, for its column.
pub(super) fn limit_of(rate: Option<&RateLimit>) -> &dyn ToSql {
    rate.map_or(&Null, |it| it.limit())
}

/// The window of a rate limit, for its column.
pub(super) fn window_of(rate: Option<&RateLimit>) -> &dyn ToSql {
    rate.map_or(&Null, |it| it.window_secs())
}

/// Whether a key is that of a console link, for its column.
pub(super) fn is_link(link: Option<&ConsoleLink>) -> &dyn ToSql {
    if link.is_some() { &true } else { &false }
}

/// The latest end that a console link gives, for its column.
pub(super) fn link_end(link: Option<&ConsoleLink>) -> &dyn ToSql {
    link.map_or(&Null, |it| &it.gives_until)
}

impl<T> ColumnList<T> {
    /// Adds the row `id`, which the event `audit_seq` tells of.
    pub fn insert(
        &self,
        tx: &WriteTx<'_>,
        id: &dyn ToSql,
        it: &T,
        audit_seq: i64,
    ) -> Result<(), StoreError> {
        let marks = ", ?".repeat(self.columns.len());
        let table = self.table.name;
        let sql = format!("INSERT INTO {table} ({self}, audit_seq) VALUES (?{marks}, ?)");
        let parts = self.columns.iter().map(|column| (column.part)(it));
        let values = iter::once(id).chain(parts).chain(iter::once(&audit_seq as &dyn ToSql));
        tx.sql.prepare_cached(&sql)?.execute(params_from_iter(values))?;
        Ok(())
    }

    /// Writes all that can change as the next revision of the row `id`, which the event `audit_seq`
    /// tells of.
    pub fn update(
        &self,
        tx: &WriteTx<'_>,
        id: &dyn ToSql,
        it: &T,
        audit_seq: i64,
    ) -> Result<(), StoreError> {
        let changing = || self.columns.iter().filter(|it| it.changes);
        let mut set = String::new();
        for column in changing() {
            let _ = write!(set, "{} = ?, ", column.name);
        }
        let table = self.table.name;
        let sql = format!(
            "UPDATE {table} SET {set}updated_at_ms = ?, revision = revision + 1, audit_seq = ?
             WHERE id = ?"
        );
        let now = tx.now();
        let last: [&dyn ToSql; 3] = [&now, &audit_seq, id];
        let values = changing().map(|column| (column.part)(it)).chain(last);
        StoreError::unless_one(tx.sql.prepare_cached(&sql)?.execute(params_from_iter(values))?)
    }
}

impl<T> fmt::Display for ColumnList<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("id")?;
        self.columns.iter().try_for_each(|column| write!(f, ", {}", column.name))
    }
}

#[cfg(test)]
mod tests {
    use rusqlite::Connection;

    use super::*;
    use crate::domain::id::KeyId;

    const THINGS: Table = Table { name: "things", key: "name" };

    fn things() -> Connection {
        let conn = Connection::open_in_memory().unwrap();
        conn.execute_batch(
            "CREATE TABLE things (name TEXT, size INTEGER, owner TEXT);
             INSERT INTO things VALUES ('cup', 1, NULL), ('pot', 2, 'nonsense');",
        )
        .unwrap();
        conn
    }

    #[test]
    fn a_column_is_found_by_its_name_wherever_it_stands_and_in_any_order() {
        let conn = things();
        for sql in
            ["SELECT name, size, owner FROM things", "SELECT owner, 7 AS x, size, name FROM things"]
        {
            let mut statement = conn.prepare(sql).unwrap();
            let read = |row: Fields<'_>| {
                Ok((row.get::<i64>("size")?, row.text("name")?.to_owned(), row.get("size")?))
            };
            let found = THINGS.all(&mut statement, [], read).unwrap();
            assert_eq!(found, [(1, "cup".to_owned(), 1), (2, "pot".to_owned(), 2)], "{sql}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_named_by_table_column_and_row() {
        let conn = things();
        let mut statement = conn.prepare("SELECT * FROM things ORDER BY name").unwrap();
        let owner = |row: Fields<'_>| row.get::<Option<KeyId>>("owner");
        assert_eq!(THINGS.first(&mut statement, [], owner).unwrap(), Some(None));
        let error = THINGS.all(&mut statement, [], owner).unwrap_err();
        assert_eq!(error.to_string(), "table things, row pot: column owner cannot be read");
        let error = THINGS.all(&mut statement, [], |row| row.get::<i64>("name")).unwrap_err();
        assert_eq!(error.to_string(), "table things, row cup: column name cannot be read");
        let unknown = THINGS.all(&mut statement, [], |row| row.get::<i64>("colour")).unwrap_err();
        assert!(matches!(unknown, StoreError::Sqlite(_)), "{unknown}");
    }
}
