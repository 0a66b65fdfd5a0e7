//! Rows of a file to import, as JSON.

use std::io::Read;

use serde_json::{Map, Value, json};

use crate::{
    cli::{error::Error, import::LONGEST_LINE},
    http::{
        control::import::{MEMBERS, RowFault},
        request::{
            json::{self, NotJson},
            numbers::{INEXACT, inexact_members, is_inexact},
        },
    },
};

/// The first line may begin with the mark that some programs put before UTF-8.
pub(super) fn without_mark(number: u64, line: &[u8]) -> &[u8] {
    let mark = "\u{feff}".as_bytes();
    line.strip_prefix(mark).filter(|_| number == 1).unwrap_or(line)
}

pub(super) fn from_line(text: &[u8]) -> Result<Map<String, Value>, RowFault> {
    match json::parse(text) {
        Ok(Value::Object(row)) => {
            let text = std::str::from_utf8(text).unwrap_or_default();
            match inexact_members(text).first() {
                Some(name) => Err(fault(name, "out_of_range", INEXACT)),
                None => Ok(row),
            }
        }
        Ok(_) => Err(fault("", "invalid_json", "this is no JSON object")),
        // Where it is, in a body of one line, is of no interest.
        Err(NotJson(says)) => {
            let says = says.split(" (line ").next().unwrap_or_default();
            Err(fault("", "invalid_json", &says.replace("the body", "the line")))
        }
    }
}

/// What the first line calls the columns. A wrong name there would be a fault of every row.
pub(super) fn names_of<R: Read>(table: &mut csv::Reader<R>) -> Result<Vec<String>, Error> {
    let unusable = |says: String| Error::Usage(format!("the line of names {says}"));
    let line = table.headers().map_err(|_| unusable("cannot be read".to_owned()))?;
    let names: Vec<_> = line.iter().map(|it| it.trim().to_owned()).collect();
    for (place, name) in names.iter().enumerate() {
        if !MEMBERS.contains(&name.as_str()) {
            // It may be the first row of a file without such a line.
            let known = MEMBERS.join(", ");
            let says = format!("has no known name in column {}; known are {known}", place + 1);
            return Err(unusable(says));
        }
        if names.get(..place).is_some_and(|before| before.contains(name)) {
            return Err(unusable(format!("has `{name}` twice")));
        }
    }
    Ok(names)
}

/// A row of JSON from one of text: blanks between scopes, JSON for metadata, nothing for nothing.
pub(super) fn from_columns(
    names: &[String],
    record: &csv::StringRecord,
) -> Result<Map<String, Value>, RowFault> {
    if LONGEST_LINE <= record.as_slice().len() as u64 {
        return Err(fault("", "too_long", "the line is too long"));
    }
    if record.len() != names.len() {
        let says = format!("it has {} columns, and the first line {}", record.len(), names.len());
        return Err(fault("", "invalid_csv", &says));
    }
    let mut row = Map::new();
    for (name, text) in names.iter().map(String::as_str).zip(record.iter().map(str::trim)) {
        let value = match name {
            _ if text.is_empty() => continue,
            "scopes" => json!(text.split_whitespace().collect::<Vec<_>>()),
            "metadata" if is_inexact(text) => return Err(fault(name, "out_of_range", INEXACT)),
            "metadata" => serde_json::from_str(text)
                .map_err(|_| fault(name, "invalid_json", "this is no JSON object"))?,
            "enabled" => match text {
                "true" => json!(true),
                "false" => json!(false),
                _ => return Err(fault(name, "invalid_type", "must be true or false")),
            },
            _ => json!(text),
        };
        row.insert(name.to_owned(), value);
    }
    Ok(row)
}

pub(super) fn fault(field: &str, code: &str, detail: &str) -> RowFault {
    RowFault { field: field.to_owned(), code: code.to_owned(), detail: detail.to_owned() }
}
