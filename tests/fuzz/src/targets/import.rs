//! The rows of files of `keyward import`, as JSON Lines and as CSV.

use keyward::{
    domain::lifetime::Lifetimes,
    env::Timestamp,
    fuzzing::{read_digest, rows_of_lines, rows_of_table, take_key},
    http::{control::import::RowFault, request::json::Members, wire},
    service::Expiry,
};
use serde_json::{Map, Value};

use super::{APPLICATION, CATALOGUE, KEY, keeps_the_secret};

pub const TOKENS: &[&str] = &[
    KEY,
    "name,scopes,sha256\n",
    "name,scopes,key,metadata,rateLimit,enabled,allowedIps,expiresAt,account\n",
    "\"name\":\"a\"",
    "\"scopes\":[\"orders:read\"]",
    "\"metadata\":{\"a\":1}",
    "\"{\"\"a\"\":1}\"",
    "\"{\"\"a\"\":1,\"\"a\"\":2}\"",
    "\"rateLimit\":{\"limit\":100,\"windowSeconds\":60}",
    "100/60s",
    "old_key_of_another_system",
    "\u{feff}",
    "1e400",
    "\r\n",
];

type Row = Result<Map<String, Value>, RowFault>;

pub fn run(input: &[u8]) {
    for row in rows_of_lines(input) {
        match row {
            Ok(row) => {
                as_table(&row);
                accepted(row);
            }
            Err(fault) => sound(&fault),
        }
    }
    let Some(rows) = rows_of_table(input) else { return };
    let mut table = csv::ReaderBuilder::new().flexible(true).from_reader(input);
    let names = table.headers().expect("the names were read").clone();
    for (row, record) in rows.into_iter().zip(table.into_records()) {
        match row {
            Ok(row) => {
                as_lines(&names, &record.expect("the row was read"), &row);
                accepted(row);
            }
            Err(fault) => sound(&fault),
        }
    }
}

fn sound(fault: &RowFault) {
    keeps_the_secret(&fault.detail);
}

/// Checks that the row of a table is the same as a line of JSON. Metadata stands in both as it is written.
fn as_lines(names: &csv::StringRecord, record: &csv::StringRecord, row: &Map<String, Value>) {
    let cells = names.iter().map(str::trim).zip(record);
    let members = cells.filter_map(|(name, cell)| {
        let value = row.get(name)?.to_string();
        let value = if name == "metadata" { cell.trim().replace(['\r', '\n'], " ") } else { value };
        Some(format!("\"{name}\":{value}"))
    });
    let line = format!("{{{}}}", members.collect::<Vec<_>>().join(","));
    let found: Vec<Row> = rows_of_lines(line.as_bytes());
    match &found[..] {
        [Ok(found)] => assert_eq!(found, row, "{line}"),
        other => panic!("a table accepts what lines refuse: {line}: {other:?}"),
    }
}

/// Checks that a line is the same as a row of a table, if a table can say it.
fn as_table(row: &Map<String, Value>) {
    let Some(cells) = row.iter().map(|(name, it)| cell(name, it)).collect::<Option<Vec<_>>>()
    else {
        return;
    };
    // The mark at the start of a file is no part of the first name.
    if row.keys().next().is_none_or(|it| it.starts_with('\u{feff}')) {
        return;
    }
    let mut table = csv::Writer::from_writer(Vec::new());
    table.write_record(row.keys()).expect("no names");
    table.write_record(cells).expect("no row");
    let table = table.into_inner().expect("no table");
    let Some(rows) = rows_of_table(&table) else { return };
    let shown = String::from_utf8_lossy(&table);
    match &rows[..] {
        [Ok(found)] => assert_eq!(found, row, "{shown}"),
        other => panic!("lines accept what a table refuses: {shown}: {other:?}"),
    }
}

fn cell(name: &str, value: &Value) -> Option<String> {
    let text = |it: &Value| {
        let text = it.as_str()?;
        (!text.is_empty() && text.trim() == text).then(|| text.to_owned())
    };
    match name {
        "scopes" | "allowedIps" => {
            let words = value.as_array()?.iter().map(text).collect::<Option<Vec<_>>>()?;
            let single = words.iter().all(|it| it.split_whitespace().count() == 1);
            (single && !words.is_empty()).then(|| words.join(" "))
        }
        "metadata" => value.as_object().map(|_| value.to_string()),
        "rateLimit" => {
            let members = value.as_object()?;
            let number = |name| u32::try_from(members.get(name)?.as_u64()?).ok();
            let in_order = members.keys().eq(["limit", "windowSeconds"]);
            in_order.then_some(format!("{}/{}s", number("limit")?, number("windowSeconds")?))
        }
        "enabled" => value.as_bool().map(|it| it.to_string()),
        _ => text(value),
    }
}

/// Reads a row as the command and then the server do.
fn accepted(mut row: Map<String, Value>) {
    match take_key(&mut row) {
        Ok(None) => (),
        Ok(Some(key)) => {
            assert!((20..=512).contains(&key.expose().len()));
            let text = String::from_utf8_lossy(key.expose()).into_owned();
            let rest = Value::Object(row.clone()).to_string();
            assert!(
                text.contains(['"', '\\']) || !rest.contains(&text),
                "the text stays here: {rest}"
            );
        }
        Err(fault) => return sound(&fault),
    }
    let mut members = Members::new(Value::Object(row));
    let _ = read_digest(&mut members);
    let now = Timestamp::from_millis(1_767_225_600_000);
    let (caller, lifetimes) = (&APPLICATION.operator, Lifetimes::default());
    let expiry = Expiry { now, caller, lifetimes, existing: None };
    if let Err(faults) = wire::read_new_key(members, &CATALOGUE, expiry) {
        faults.iter().for_each(|it| keeps_the_secret(&it.detail));
    }
}
