//! No prepared statement reads a whole table: the cost of a write must not grow with the amount of
//! stored data.

use std::{fs, path::Path};

use rusqlite::{Connection, functions::FunctionFlags};

use crate::support::TestServer;

const SCHEMA: &str = include_str!("../../schema.sql");
/// Tables that stay small: one row for each prefix label, or a single row; and what files made, which only
/// `apply --prune` reads, to compare it with a file.
const SMALL: [&str; 5] =
    ["key_brands", "import_secret", "time_floor", "applied_accounts", "applied_keys"];

/// Returns the string literal at the beginning of `text`, as the compiler reads it.
fn literal(text: &str) -> Option<String> {
    let mut chars = text.strip_prefix('"')?.chars().peekable();
    let mut read = String::new();
    loop {
        match chars.next()? {
            '"' => return Some(read),
            '\\' => match chars.next()? {
                '\n' => while chars.next_if(|it| it.is_whitespace()).is_some() {},
                other => read.push(other),
            },
            other => read.push(other),
        }
    }
}

/// Returns the literals that follow `before` in `code`, with only white space and `format!`
/// between.
fn literals_after(code: &str, before: &str) -> Vec<String> {
    let starts = code.match_indices(before).map(|(at, _)| code[at + before.len()..].trim_start());
    starts.filter_map(|it| literal(it.strip_prefix("&format!(").unwrap_or(it))).collect()
}

/// Returns the selections of keys in `code`, each as the statement that finds their ids.
fn selections(code: &str) -> Vec<String> {
    let part = |text: &str, before| literals_after(text, before).into_iter().next();
    let blocks = code.split("Selection {").skip(1);
    blocks
        .filter_map(|block| {
            let block = &block[..block.find("params:")?];
            let filter = part(block, "filter:")?;
            let index = part(block, "index: Some(").map(|it| format!("INDEXED BY {it}"));
            let order = part(block, "order:").unwrap_or_default();
            let index = index.unwrap_or_default();
            Some(format!("SELECT k.id FROM api_keys AS k {index} WHERE {filter} {order}"))
        })
        .collect()
}

/// Returns every prepared statement of the store, with the name of its file.
fn statements() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/store");
    let folders = [root.join("index"), root];
    let mut found = Vec::new();
    for entry in folders.iter().flat_map(|it| fs::read_dir(it).unwrap()) {
        let path = entry.unwrap().path();
        let Ok(code) = fs::read_to_string(&path) else { continue };
        let file = path.file_name().unwrap().to_string_lossy().into_owned();
        let filters = literals_after(&code, "self.one_account(");
        for sql in literals_after(&code, "prepare_cached(") {
            let sql = ["{COLUMNS}", "{CREDENTIAL}", "{columns}"]
                .iter()
                .fold(sql, |sql, list| sql.replace(list, "*"));
            if sql.contains("{filter}") {
                found.extend(filters.iter().map(|it| (file.clone(), sql.replace("{filter}", it))));
            } else {
                found.push((file.clone(), sql));
            }
        }
        found.extend(selections(&code).into_iter().map(|sql| (file.clone(), sql)));
    }
    found
}

fn plan(conn: &Connection, sql: &str) -> Vec<String> {
    let explained = format!("EXPLAIN QUERY PLAN {sql}");
    let mut statement = conn.prepare(&explained).unwrap_or_else(|err| panic!("{sql}: {err}"));
    let rows = statement.raw_query().mapped(|row| row.get::<_, String>(3));
    rows.collect::<Result<_, _>>().unwrap()
}

#[test]
fn no_prepared_statement_scans_a_table_that_grows() {
    let conn = Connection::open_in_memory().unwrap();
    conn.execute_batch(SCHEMA).unwrap();
    conn.create_scalar_function("lower_case", 1, FunctionFlags::default(), |call| {
        call.get::<String>(0)
    })
    .unwrap();
    let statements = statements();
    assert!(50 < statements.len(), "only {} statements were found", statements.len());
    let mut scans = Vec::new();
    for (file, sql) in &statements {
        let words = sql.split_whitespace().collect::<Vec<_>>().join(" ");
        // The plan of a new event names the tables that refer to events. SQLite reads them only
        // while a reference is broken, and no transaction breaks one.
        if words.starts_with("INSERT INTO events ") {
            continue;
        }
        // The statement reads a few rows from one end of the table.
        let bounded = words.contains("LIMIT") && !words.contains("WHERE");
        for step in plan(&conn, sql) {
            let table = step.strip_prefix("SCAN ").and_then(|it| it.split(' ').next());
            let grows = table.is_some_and(|it| {
                let named = conn.table_exists(None, it).unwrap() || it.len() == 1;
                named && !SMALL.contains(&it)
            });
            // SQLite does not know which of the log's indexes finds few events.
            let guessed = step.split_once("SEARCH events USING INDEX ").is_some_and(|(_, it)| {
                let index = it.split(' ').next().unwrap_or_default();
                !words.contains(&format!("INDEXED BY {index}"))
            });
            if guessed
                || grows && !bounded
                || step.contains("TEMP B-TREE") && !words.contains("k.id")
            {
                scans.push(format!("{file}: {step}: {words}"));
            }
        }
    }
    assert!(scans.is_empty(), "{scans:#?}");
}

/// With the statistics of a young file, SQLite would read a large table from end to end.
#[test]
fn the_plans_do_not_depend_on_statistics_of_an_earlier_day() {
    let mut server = TestServer::start();
    server.stop();
    let file = server.data_dir().join("keyward.db");
    let tables = |conn: &Connection| conn.table_exists(None, "sqlite_stat1").unwrap();
    let conn = Connection::open(&file).unwrap();
    conn.execute_batch("ANALYZE").unwrap();
    assert!(tables(&conn));
    drop(conn);
    server.restart(|_| ());
    server.run_job("upkeep");
    server.stop();
    assert!(!tables(&Connection::open(&file).unwrap()));
}
