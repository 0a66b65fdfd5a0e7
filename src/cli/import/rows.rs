//! Reads the rows of a file to import as JSON, and replaces key texts by their digests.

use std::io::Read;

use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use crate::{
    cli::{error::Error, import::LONGEST_LINE, limits},
    domain::{
        imported_key::ImportedKey,
        json::{INEXACT, inexact_members, is_inexact},
        plaintext_key::PlaintextKey,
    },
    http::{
        control::import::{ONE_FORM, RowFault},
        request::json::{self, NotJson},
    },
};

/// The members of a row: those of a new key, its account, and one of the last three.
const MEMBERS: [&str; 11] = [
    "name",
    "scopes",
    "expiresAt",
    "enabled",
    "metadata",
    "allowedIps",
    "rateLimit",
    "account",
    "key",
    "sha256",
    "sha512",
];
/// The fewest characters of a key text. A shorter text can be guessed from its digest.
const MIN_KEY_LEN: usize = 20;

/// Removes the byte order mark that some programs write at the start of a file.
pub(super) fn without_mark(number: u64, line: &[u8]) -> &[u8] {
    let mark = "\u{feff}".as_bytes();
    line.strip_prefix(mark).filter(|_| number == 1).unwrap_or(line)
}

/// Reads a line of JSON Lines.
pub(super) fn from_line(text: &[u8]) -> Result<Map<String, Value>, RowFault> {
    match json::parse(text) {
        Ok(Value::Object(row)) => {
            let text = std::str::from_utf8(text).unwrap_or_default();
            match inexact_members(text).first() {
                Some(name) => Err(fault(name, "out_of_range", INEXACT)),
                None => Ok(row),
            }
        }
        Ok(_) => Err(fault("", "invalid_json", "must be a JSON object")),
        // The fault names the line of the file, so the place in the body is left out.
        Err(NotJson(says)) => {
            let says = says.split(" (line ").next().unwrap_or_default();
            Err(fault("", "invalid_json", &says.replace("the body", "the line")))
        }
    }
}

/// Reads the column names in the first line. A wrong name would be a fault of every row.
pub(super) fn names_of<R: Read>(table: &mut csv::Reader<R>) -> Result<Vec<String>, Error> {
    let unusable = |says: String| Error::Usage(format!("the line of names {says}"));
    let line = table.headers().map_err(|_| unusable("cannot be read".to_owned()))?;
    let names: Vec<_> = line.iter().map(|it| it.trim().to_owned()).collect();
    for (index, name) in names.iter().enumerate() {
        if !MEMBERS.contains(&name.as_str()) {
            // The name is not repeated: in a file without names, it may be a key.
            let known = MEMBERS.join(", ");
            let says =
                format!("has no known name in column {}; the known names are {known}", index + 1);
            return Err(unusable(says));
        }
        if names.get(..index).is_some_and(|before| before.contains(name)) {
            return Err(unusable(format!("has `{name}` twice")));
        }
    }
    Ok(names)
}

/// Reads a row of CSV. Scopes and networks have blanks between them, a rate limit is written as for
/// `keyward keys create`, metadata is JSON, an empty cell is an absent
/// member.
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
            "scopes" | "allowedIps" => json!(text.split_whitespace().collect::<Vec<_>>()),
            "metadata" if is_inexact(text) => return Err(fault(name, "out_of_range", INEXACT)),
            "metadata" => metadata(text)
                .ok_or_else(|| fault(name, "invalid_json", "must be a JSON object"))?,
            "rateLimit" => {
                limits::rate(text).map_err(|says| fault(name, "invalid_format", &says))?
            }
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

/// Reads the JSON of a cell as strictly as that of a line, in which it is a member.
fn metadata(text: &str) -> Option<Value> {
    match json::parse(format!("{{\"metadata\":{text}}}").as_bytes()) {
        Ok(Value::Object(mut row)) if row.len() == 1 => row.shift_remove("metadata"),
        Ok(_) | Err(_) => None,
    }
}

/// Takes the key text out of a row, if it has one. The text is wiped when the key is dropped.
pub fn take_key(row: &mut Map<String, Value>) -> Result<Option<ImportedKey>, RowFault> {
    let text = match row.shift_remove("key") {
        None => return Ok(None),
        Some(Value::String(text)) => Zeroizing::new(text),
        Some(Value::Null) => return Err(fault("key", "not_nullable", "must not be null")),
        Some(Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => {
            return Err(fault("key", "invalid_type", "must be a string"));
        }
    };
    if row.contains_key("sha256") || row.contains_key("sha512") {
        return Err(fault("key", "invalid_combination", ONE_FORM));
    }
    if text.len() < MIN_KEY_LEN {
        let says = "has fewer than 20 characters, so its digest would reveal it; issue a new key";
        return Err(fault("key", "invalid_format", says));
    }
    let key = ImportedKey::parse(text.as_bytes());
    let key =
        key.ok().filter(|_| PlaintextKey::parse(text.as_bytes()).is_err()).ok_or_else(|| {
            let says = "must be 20 to 512 visible ASCII characters, and not a key of keyward's own";
            fault("key", "invalid_format", says)
        })?;
    if row.keys().any(|it| it.contains(&*text)) {
        let says = "the key itself must not stand in the name of a member";
        return Err(fault("key", "contains_api_key", says));
    }
    match row.iter().find(|(_, value)| holds(value, &text)) {
        Some((name, _)) => {
            Err(fault(name, "contains_api_key", "the key itself must not stand in it"))
        }
        None => Ok(Some(key)),
    }
}

/// Returns whether a member contains the text, in a string or in the name of a nested member.
fn holds(value: &Value, text: &str) -> bool {
    match value {
        Value::String(it) => it.contains(text),
        Value::Array(items) => items.iter().any(|it| holds(it, text)),
        Value::Object(members) => {
            members.iter().any(|(name, it)| name.contains(text) || holds(it, text))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

/// Reads every line of a file of JSON Lines.
#[cfg(feature = "fuzzing")]
pub fn rows_of_lines(file: &[u8]) -> Vec<Result<Map<String, Value>, RowFault>> {
    let lines = (1..).zip(file.split(|it| *it == b'\n')).map(|(n, it)| without_mark(n, it));
    lines.filter(|it| !it.trim_ascii().is_empty()).map(from_line).collect()
}

/// Reads every row of a table; `None` if its first line does not name the columns.
#[cfg(feature = "fuzzing")]
pub fn rows_of_table(file: &[u8]) -> Option<Vec<Result<Map<String, Value>, RowFault>>> {
    let mut table = csv::ReaderBuilder::new().flexible(true).from_reader(file);
    let names = names_of(&mut table).ok()?;
    let unreadable = || fault("", "invalid_csv", "the line is not CSV");
    let row =
        |it: csv::Result<csv::StringRecord>| from_columns(&names, &it.map_err(|_| unreadable())?);
    Some(table.records().map(row).collect())
}

/// Makes the fault of a row.
pub(super) fn fault(field: &str, code: &str, detail: &str) -> RowFault {
    RowFault { field: field.to_owned(), code: code.to_owned(), detail: detail.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_member_of_a_row_repeats_its_key() {
        let key = "old_key_of_another_system";
        for (name, value, field) in [
            ("name", json!(key), "name"),
            ("metadata", json!({ "a": [{ key: 1 }] }), "metadata"),
            (key, json!(1), "key"),
        ] {
            let mut row = Map::new();
            row.insert(name.to_owned(), value);
            row.insert("key".to_owned(), json!(key));
            let RowFault { field: found, code, .. } = take_key(&mut row).unwrap_err();
            assert_eq!((&*found, &*code), (field, "contains_api_key"));
        }
    }

    #[test]
    fn metadata_in_a_cell_is_read_as_strictly_as_in_a_line() {
        let names = ["metadata".to_owned()];
        let nested = |depth: usize| format!("{{\"a\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
        for (text, good) in [
            (r#"{"a":1,"b":{"a":2}}"#.to_owned(), true),
            (nested(30), true),
            (nested(31), false),
            (r#"{"a":1,"a":2}"#.to_owned(), false),
            (r#"{"a":{"b":1,"\u0062":2}}"#.to_owned(), false),
            (r#"{},"name":"x""#.to_owned(), false),
            (r"{}}".to_owned(), false),
            (r#"{"a":0.1000000000000000000001}"#.to_owned(), false),
        ] {
            let row = from_columns(&names, &csv::StringRecord::from(vec![text.as_str()]));
            let line = from_line(format!("{{\"metadata\":{text}}}").as_bytes());
            assert_eq!(row.is_ok(), good, "{text}");
            if let Ok(row) = row {
                assert_eq!(line.ok(), Some(row), "{text}");
            }
        }
    }
}
