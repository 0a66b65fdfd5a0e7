//! The file of `keyward apply`: accounts and keys as they must be afterwards.
//!
//! This reads what is written, with the lines, into the members that the API has. The server checks what it
//! means.

mod member;

use serde_json::{Map, Value};
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use self::member::{ACCOUNT_MEMBERS, KEY_MEMBERS, Member};
pub use self::member::{declared_name, declared_value};
use super::{
    ConfigFile,
    faults::{Fault, nearest, quoted},
    toml_text::TomlText,
};

const KEYS: &str = "keys";
const ACCOUNTS: &str = "accounts";
/// The section that ends a complete file.
const END: &str = "end";
/// The most sections. One transaction makes all changes.
const MOST: usize = 10_000;

/// An account or a key of the file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DeclaredSection {
    /// The members by their names in the API.
    pub members: Map<String, Value>,
    /// The line where the section begins, counted from one.
    line: usize,
    /// The line of each member, by its name in the API.
    lines: Vec<(&'static str, usize)>,
}

/// The sections of a file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DeclaredFile {
    /// The keys of the operator account.
    pub keys: Vec<DeclaredSection>,
    /// The accounts, each with its keys.
    pub accounts: Vec<(DeclaredSection, Vec<DeclaredSection>)>,
    /// Whether the file ends with `[end]`, so that nothing of it was cut off.
    pub is_complete: bool,
}

impl DeclaredSection {
    /// Returns the line of a member, or of the section if the member was not given.
    pub fn line_of(&self, api: &str) -> usize {
        self.lines.iter().find(|(it, _)| *it == api).map_or(self.line, |(_, line)| *line)
    }

    /// Returns whether the member was given, but with a fault of its form.
    pub fn is_malformed(&self, api: &str) -> bool {
        !self.members.contains_key(api) && self.lines.iter().any(|(it, _)| *it == api)
    }
}

impl DeclaredFile {
    /// Reads every section, and returns the faults of the file's form.
    pub fn read(file: ConfigFile<'_>) -> (Self, Vec<Fault>) {
        let mut text = TomlText::new(file);
        let mut read = Self::default();
        if let Some(root) = text.parse() {
            read.root(&mut text, root.get_ref());
        }
        (read, text.into_faults())
    }

    fn root(&mut self, text: &mut TomlText<'_>, root: &DeTable<'_>) {
        for (key, value) in root {
            match &**key.get_ref() {
                KEYS => self.keys = key_sections(text, KEYS, value),
                ACCOUNTS => {
                    for (at, table) in sections(text, ACCOUNTS, value) {
                        let keys = table.iter().find(|(name, _)| name.get_ref() == KEYS);
                        let keys =
                            keys.map(|(_, value)| key_sections(text, "accounts.keys", value));
                        let account = read_section(text, at, table, &ACCOUNT_MEMBERS, true);
                        self.accounts.push((account, keys.unwrap_or_default()));
                    }
                }
                END => {
                    let at = key.span().start;
                    self.is_complete = value.get_ref().as_table().is_some_and(DeTable::is_empty)
                        && text.is_last_header(at);
                    if !self.is_complete {
                        text.fault(at, "`[end]` must be the last line, without members".to_owned());
                    }
                }
                other => {
                    let hint = hint(other, [KEYS, ACCOUNTS, END].into_iter());
                    text.fault(key.span().start, format!("unknown {}{hint}", quoted(other)));
                }
            }
        }
        let keys = self.accounts.iter().map(|(_, keys)| keys.len()).sum::<usize>();
        if MOST < self.keys.len() + self.accounts.len() + keys {
            text.fault(0, format!("there may be at most {MOST} accounts and keys"));
        }
    }
}

/// Returns the tables of a list of sections, each with its offset.
fn sections<'a>(
    text: &mut TomlText<'_>,
    name: &str,
    value: &'a Spanned<DeValue<'a>>,
) -> Vec<(usize, &'a DeTable<'a>)> {
    let message = || format!("`{name}` must be `[[{name}]]` sections");
    let Some(items) = value.get_ref().as_array() else {
        text.fault(value.span().start, message());
        return Vec::new();
    };
    let mut found = Vec::new();
    for item in items {
        match item.get_ref().as_table() {
            Some(table) => found.push((item.span().start, table)),
            None => text.fault(item.span().start, message()),
        }
    }
    found
}

fn key_sections(
    text: &mut TomlText<'_>,
    name: &str,
    value: &Spanned<DeValue<'_>>,
) -> Vec<DeclaredSection> {
    let found = sections(text, name, value);
    found.into_iter().map(|(at, it)| read_section(text, at, it, &KEY_MEMBERS, false)).collect()
}

/// Reads the members of a section; `has_keys` tells that its member `keys` is read elsewhere.
fn read_section(
    text: &mut TomlText<'_>,
    at: usize,
    table: &DeTable<'_>,
    known: &'static [Member],
    has_keys: bool,
) -> DeclaredSection {
    let mut section = DeclaredSection { line: text.line(at), ..DeclaredSection::default() };
    for (key, value) in table {
        let name: &str = key.get_ref();
        if has_keys && name == KEYS {
            continue;
        }
        let Some(member) = known.iter().find(|it| it.name == name) else {
            let message = unknown(name, known, has_keys);
            text.fault(key.span().start, message);
            continue;
        };
        section.lines.push((member.api, text.line(key.span().start)));
        match member.read(value.get_ref()) {
            Ok(value) => drop(section.members.insert(member.api.to_owned(), value)),
            Err(why) => text.fault(value.span().start, format!("`{name}` {why}")),
        }
    }
    section
}

fn unknown(name: &str, known: &[Member], has_keys: bool) -> String {
    if name == "key" {
        return "unknown `key`: the file holds no text of a key, write its `sha256`".to_owned();
    }
    let names = known.iter().map(|it| it.name).chain(has_keys.then_some(KEYS));
    format!("unknown {}{}", quoted(name), hint(name, names))
}

fn hint<'a>(name: &str, known: impl Iterator<Item = &'a str> + Clone) -> String {
    match nearest(name, known.clone()) {
        Some(near) => format!("; did you mean `{near}`?"),
        None => format!("; known here: {}", known.collect::<Vec<_>>().join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::json;

    use super::{
        member::{Kind, by_api_name},
        *,
    };
    use crate::domain::json::INEXACT;

    fn read(text: &str) -> (DeclaredFile, Vec<String>) {
        let (file, faults) = DeclaredFile::read(ConfigFile { path: Path::new("a.toml"), text });
        (file, faults.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn members_get_their_names_in_the_api_and_their_lines() {
        let text = "[[accounts]]\nexternal_id = \"a\"\nmax_key_lifetime = \"90d\"\n\
                    max_keys = \"server\"\nkey_rate_limit = \"5/2h\"\n\n\
                    [[accounts.keys]]\nexpires_at = 2027-01-01T00:00:00Z\nallowed_ips = \"any\"\n\
                    metadata = { a = [1, 2.5, true, { b = \"c\" }] }\n";
        let (file, faults) = read(text);
        assert_eq!(faults, [""; 0]);
        let [(account, keys)] = &file.accounts[..] else { panic!("{file:?}") };
        let expected = json!({
            "externalId": "a",
            "maxKeyLifetimeSeconds": 7_776_000,
            "maxKeys": null,
            "keyRateLimit": { "limit": 5, "windowSeconds": 7_200 },
        });
        assert_eq!(Value::Object(account.members.clone()), expected);
        let lines = ["externalId", "maxKeys", "keyRateLimit", "name"].map(|it| account.line_of(it));
        assert_eq!(lines, [2, 4, 5, 1]);
        let [key] = &keys[..] else { panic!("{file:?}") };
        let expected = json!({
            "expiresAt": "2027-01-01T00:00:00Z",
            "allowedIps": null,
            "metadata": { "a": [1, 2.5, true, { "b": "c" }] },
        });
        assert_eq!(Value::Object(key.members.clone()), expected);
        assert_eq!((key.line_of("expiresAt"), key.line_of("")), (8, 7));
    }

    #[test]
    fn a_file_that_was_cut_off_is_not_complete() {
        let text = "[[keys]]\nname = \"a\"\n\n[[accounts]]\nexternal_id = \"b\"\n[[accounts.keys]]\n\
                    name = \"c\"\n\n[end]\n\n# The end.\n";
        let end = text.find("[end]").unwrap() + "[end]".len();
        for length in 0..=text.len() {
            let (file, faults) = read(text.get(..length).unwrap());
            assert_eq!(file.is_complete && faults.is_empty(), end <= length, "{faults:?}");
        }
        for bad in [
            "end = {}\n[[keys]]\nname = \"a\"\n",
            "[end]\n[[keys]]\nname = \"a\"\n",
            "[end]\nname = \"a\"\n",
            "[[end]]\n",
            "end = 1\n",
        ] {
            let (file, faults) = read(bad);
            assert!(!file.is_complete, "{bad}");
            assert!(faults[0].ends_with("`[end]` must be the last line, without members"), "{bad}");
        }
    }

    #[test]
    fn metadata_follows_the_rules_of_a_body() {
        let metadata = |value: &str| read(&format!("[[keys]]\nmetadata = {{ a = {value} }}\n"));
        let nested = |levels: usize| format!("{}1{}", "[".repeat(levels), "]".repeat(levels));
        for kept in [
            "9007199254740993",
            "18446744073709551615",
            "-9223372036854775808",
            "0xff",
            "+1.5",
            "1e300",
        ] {
            assert_eq!(metadata(kept).1, [""; 0], "{kept}");
        }
        let value = |text: &str| metadata(text).0.keys[0].members["metadata"]["a"].clone();
        assert_eq!((value("18446744073709551615"), value("0xff")), (json!(u64::MAX), json!(255)));
        assert_eq!(metadata(&nested(30)).1, [""; 0]);
        for (bad, why) in [
            ("18446744073709551616", INEXACT),
            ("-9223372036854775809", INEXACT),
            ("9007199254740993.0", INEXACT),
            ("0.1000000000000000000001", INEXACT),
            ("1e-400", INEXACT),
            ("1e400", INEXACT),
            ("+inf", "holds `inf`, and JSON has no such number"),
            ("-inf", "holds `-inf`, and JSON has no such number"),
            ("nan", "holds `nan`, and JSON has no such number"),
            (&nested(31), "nests deeper than 31 levels"),
        ] {
            assert_eq!(metadata(bad).1, [format!("a.toml:2: `metadata` {why}")], "{bad}");
        }
    }

    #[test]
    fn every_value_is_shown_as_the_file_writes_it() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/packaging/examples/apply.toml");
        let (file, faults) = read(&std::fs::read_to_string(path).unwrap());
        assert_eq!(faults, [""; 0]);
        let accounts = file.accounts.iter().map(|(account, _)| account);
        for section in accounts.chain(&file.keys) {
            for (api, value) in &section.members {
                let member = by_api_name(api).unwrap();
                let shown = declared_value(api, value);
                let text = match member.kind {
                    Kind::Texts | Kind::Number | Kind::Flag => shown,
                    Kind::Data => continue,
                    Kind::Text | Kind::Instant | Kind::Lifetime | Kind::Rate => {
                        format!("\"{shown}\"")
                    }
                };
                let section = if file.keys.contains(section) { KEYS } else { ACCOUNTS };
                let (again, faults) =
                    read(&format!("[[{section}]]\n{} = {text}\n", declared_name(api)));
                assert_eq!(faults, [""; 0], "{text}");
                let read = again.accounts.iter().map(|(it, _)| it).chain(&again.keys).next();
                assert_eq!(read.unwrap().members.get(api), Some(value));
            }
        }
    }

    #[test]
    fn a_rate_out_of_bounds_is_told_with_the_bounds_of_both_numbers() {
        for bad in ["1/0s", "0/60s", "1/31d", "4294967295/1s"] {
            let (_, faults) = read(&format!("[[keys]]\nrate_limit = \"{bad}\"\n"));
            let expected = format!(
                "a.toml:2: `rate_limit` must have a limit from 1 to 1000000000 and a window from 1s to \
                 30d, not `{bad}`, or \"none\""
            );
            assert_eq!(faults, [expected]);
        }
    }

    #[test]
    fn faults_of_the_form_are_told_together() {
        let (_, faults) = read(
            "keys = 1\n[[accounts]]\nkeys = [1]\nmax_keys = -1\nmax_key_lifetime = \"90\"\n\
             rate_limit = \"5\"\nmetadata = 1\nname = 7\nalowed_scopes = []\n",
        );
        let expected = [
            "a.toml:1: `keys` must be `[[keys]]` sections",
            "a.toml:3: `accounts.keys` must be `[[accounts.keys]]` sections",
            "a.toml:4: `max_keys` must be a whole number from 0 to 4294967295, not `-1`, or \"server\"",
            "a.toml:5: `max_key_lifetime` must be a duration with its unit, such as \"5m\" or \"30d\", \
             not `90`, or \"server\"",
            "a.toml:6: `rate_limit` must be a number, a slash and a window in s, m, h or d, such as \
             \"100/60s\", not `5`, or \"none\"",
            "a.toml:7: `metadata` must be a table",
            "a.toml:8: `name` must be a string, not `7`",
            "a.toml:9: unknown `alowed_scopes`; did you mean `allowed_scopes`?",
        ];
        assert_eq!(faults, expected);
    }
}
