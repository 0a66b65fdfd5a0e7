//! Reads values: one function for each kind.
//!
//! An error completes the sentence that begins with the name of the setting: `must be …, not …`.

use std::{fmt::Display, ops::RangeInclusive, path::PathBuf, time::Duration};

use chrono::{DateTime, Utc};
use croner::parser::{CronParser, Seconds, Year};
use ipnet::IpNet;
use toml::de::DeValue;

use super::faults::{nearest, quoted};
use crate::domain::{
    address_list::{AddressList, InvalidNetwork},
    plaintext_key::PrefixLabel,
};

/// A value before it is read.
#[derive(Clone, Copy)]
pub(super) enum Raw<'a> {
    /// A variable or a flag, which is always text.
    Text(&'a str),
    /// A value of the file, which has a type.
    Toml(&'a DeValue<'a>),
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum LogFormat {
    /// Text on a terminal, fields in the journal under systemd, JSON elsewhere.
    Auto,
    Text,
    Json,
    /// Fields in the journal of systemd.
    Journal,
}

impl LogLevel {
    pub const ALL: [Self; 5] = [Self::Error, Self::Warn, Self::Info, Self::Debug, Self::Trace];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

impl LogFormat {
    pub const ALL: [Self; 4] = [Self::Auto, Self::Text, Self::Json, Self::Journal];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Text => "text",
            Self::Json => "json",
            Self::Journal => "journal",
        }
    }
}

impl<'a> Raw<'a> {
    /// Returns the text, or the message that it must be `what`.
    pub fn text(self, what: &str) -> Result<&'a str, String> {
        match self {
            Self::Text(text) => Ok(text),
            Self::Toml(value) => {
                value.as_str().ok_or_else(|| format!("must be {what}, not {}", self.shown()))
            }
        }
    }

    /// Returns the value in the form for a message, or its type if that says more.
    fn shown(self) -> String {
        match self {
            Self::Text(text) => quoted(text),
            Self::Toml(DeValue::String(text)) => format!("the string {}", quoted(text)),
            Self::Toml(DeValue::Integer(number)) => quoted(&number.to_string()),
            Self::Toml(DeValue::Float(number)) => quoted(&number.to_string()),
            Self::Toml(DeValue::Boolean(value)) => quoted(&value.to_string()),
            Self::Toml(DeValue::Datetime(_)) => "a date".to_owned(),
            Self::Toml(DeValue::Array(_)) => "an array".to_owned(),
            Self::Toml(DeValue::Table(_)) => "a table".to_owned(),
        }
    }
}

pub(super) fn boolean(raw: Raw<'_>) -> Result<bool, String> {
    let value = match raw {
        Raw::Text(text) => text.parse().ok(),
        Raw::Toml(value) => value.as_bool(),
    };
    value.ok_or_else(|| format!("must be `true` or `false`, not {}", raw.shown()))
}

pub(super) fn number<T>(raw: Raw<'_>, range: RangeInclusive<T>) -> Result<T, String>
where
    T: Copy + Display + PartialOrd + TryFrom<i128>,
{
    let value = match raw {
        Raw::Text(text) => text.parse().ok(),
        Raw::Toml(value) => {
            value.as_integer().and_then(|it| i128::from_str_radix(it.as_str(), it.radix()).ok())
        }
    };
    value.and_then(|it| T::try_from(it).ok()).filter(|it| range.contains(it)).ok_or_else(|| {
        let (low, high) = range.into_inner();
        format!("must be a whole number from {low} to {high}, not {}", raw.shown())
    })
}

pub(super) fn choice<T: Copy>(
    raw: Raw<'_>,
    all: &[T],
    name: fn(T) -> &'static str,
) -> Result<T, String> {
    let names = all.iter().map(|it| format!("`{}`", name(*it))).collect::<Vec<_>>().join(", ");
    let text = raw.text(&format!("one of {names}"))?;
    all.iter().copied().find(|it| name(*it) == text).ok_or_else(|| {
        let hint = nearest(text, all.iter().map(|it| name(*it)))
            .map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
        format!("must be one of {names}, not {}{hint}", quoted(text))
    })
}

pub(super) fn path(raw: Raw<'_>) -> Result<PathBuf, String> {
    path_of("the path of a directory", raw)
}

/// Reads the URL of a server: a scheme and a host, and perhaps a port. An empty text is `None`.
pub(super) fn optional_url(raw: Raw<'_>) -> Result<Option<String>, String> {
    const WHAT: &str = "a URL without a path, such as `https://keys.example.com`, or empty";
    let text = raw.text(WHAT)?;
    if text.is_empty() {
        return Ok(None);
    }
    let url = text.trim_end_matches('/');
    let host = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    let is_host = |it: char| it.is_ascii_alphanumeric() || "-._:[]".contains(it);
    match host {
        Some(host) if !host.is_empty() && host.chars().all(is_host) => Ok(Some(url.to_owned())),
        Some(_) | None => Err(format!("must be {WHAT}, not {}", quoted(text))),
    }
}

/// Reads the path of a file. An empty text is `None`.
pub(super) fn optional_file(raw: Raw<'_>) -> Result<Option<PathBuf>, String> {
    const WHAT: &str = "the path of a file, or empty";
    if raw.text(WHAT)?.is_empty() { Ok(None) } else { path_of(WHAT, raw).map(Some) }
}

pub(super) fn optional_dir(raw: Raw<'_>) -> Result<Option<PathBuf>, String> {
    const WHAT: &str = "the path of a directory, or empty";
    if raw.text(WHAT)?.is_empty() { Ok(None) } else { path_of(WHAT, raw).map(Some) }
}

fn path_of(what: &str, raw: Raw<'_>) -> Result<PathBuf, String> {
    let text = raw.text(what)?;
    if text.is_empty() || text.contains('\0') {
        return Err(format!("must be {what}, not {}", quoted(text)));
    }
    if text == "~" || text.starts_with("~/") {
        return Err("must be a path without `~`, which only a shell expands".to_owned());
    }
    Ok(PathBuf::from(text))
}

/// Reads strings: an array in a file, a list with commas elsewhere.
pub(super) fn texts(raw: Raw<'_>) -> Result<Vec<String>, String> {
    let texts: Option<Vec<&str>> = match raw {
        Raw::Text(text) => {
            Some(text.split(',').map(str::trim).filter(|it| !it.is_empty()).collect())
        }
        Raw::Toml(value) => value
            .as_array()
            .and_then(|items| items.iter().map(|it| it.get_ref().as_str()).collect()),
    };
    let texts = texts.ok_or_else(|| format!("must be an array of strings, not {}", raw.shown()))?;
    Ok(texts.into_iter().map(str::to_owned).collect())
}

/// Reads networks, as the address lists of keys are read. A single address is a network of one.
pub(super) fn networks(raw: Raw<'_>) -> Result<Vec<IpNet>, String> {
    const WHAT: &str = "networks, such as \"10.0.0.0/8\" or \"::1\"";
    let read = |it: &String| {
        AddressList::parse_network(it).map_err(|err| match err {
            InvalidNetwork::Syntax => format!("must be {WHAT}, not {}", quoted(it)),
            InvalidNetwork::HostBits(_) => format!("must be {WHAT}, and {} {err}", quoted(it)),
        })
    };
    texts(raw)?.iter().map(read).collect()
}

/// Reads the audiences of tokens: names or URLs without blanks.
pub(super) fn audiences(raw: Raw<'_>) -> Result<Vec<String>, String> {
    const WHAT: &str = "1 to 255 visible ASCII characters, such as \"https://api.example.com\"";
    let audiences = texts(raw)?;
    let is_good =
        |it: &&String| (1..=255).contains(&it.len()) && it.bytes().all(|it| it.is_ascii_graphic());
    match audiences.iter().find(|it| !is_good(it)) {
        Some(bad) => Err(format!("must be {WHAT}, not {}", quoted(bad))),
        None => Ok(audiences),
    }
}

pub(super) fn key_prefix(raw: Raw<'_>) -> Result<PrefixLabel, String> {
    const WHAT: &str = "1 to 4 lower-case letters or digits, a letter first";
    let text = raw.text(WHAT)?;
    PrefixLabel::parse(text).map_err(|_| format!("must be {WHAT}, not {}", quoted(text)))
}

/// Reads a duration of whole seconds, the unit of grace periods in the API.
pub(super) fn duration(raw: Raw<'_>, range: RangeInclusive<Duration>) -> Result<Duration, String> {
    const WHAT: &str = "a duration with its unit, such as \"5m\" or \"30d\"";
    let text = raw.text(WHAT)?;
    let value = humantime::parse_duration(text)
        .map_err(|_| format!("must be {WHAT}, not {}", quoted(text)))?;
    if !range.contains(&value) {
        let (low, high) = range.into_inner();
        let (low, high) = (duration_text(low), duration_text(high));
        return Err(format!("must be from {low} to {high}, not {}", quoted(text)));
    }
    if value.subsec_nanos() != 0 {
        return Err(format!("must be in whole seconds, not {}", quoted(text)));
    }
    Ok(value)
}

/// Reads a duration as [`duration`] does. An empty text is `None`.
pub(super) fn optional_duration(
    raw: Raw<'_>,
    range: RangeInclusive<Duration>,
) -> Result<Option<Duration>, String> {
    const WHAT: &str = "a duration with its unit, such as \"90d\", or empty";
    if raw.text(WHAT)?.is_empty() { Ok(None) } else { duration(raw, range).map(Some) }
}

/// Returns the duration in the largest unit that leaves no rest. `humantime` would use months.
pub(super) fn duration_text(value: Duration) -> String {
    let seconds = value.as_secs();
    [(86_400, "d"), (3600, "h"), (60, "m")]
        .into_iter()
        .find(|(size, _)| seconds != 0 && seconds.is_multiple_of(*size))
        .map_or_else(|| format!("{seconds}s"), |(size, unit)| format!("{}{unit}", seconds / size))
}

/// Reads a cron line that the scheduler accepts and that comes due at least once.
pub(super) fn cron(raw: Raw<'_>) -> Result<String, String> {
    const WHAT: &str = "a cron line of six fields, seconds first, such as \"0 */10 * * * *\"";
    let text = raw.text(WHAT)?;
    // The parser also accepts nicknames such as `@daily`, and its message about a short line does
    // not mention the seconds.
    if !text.is_ascii() || text.split_whitespace().count() != 6 {
        return Err(format!("must be {WHAT}, not {}", quoted(text)));
    }
    // As in the scheduler, a day of the month and a day of the week must both match.
    let line = CronParser::builder()
        .seconds(Seconds::Required)
        .year(Year::Disallowed)
        .dom_and_dow(true)
        .build()
        .parse(text)
        .map_err(|err| format!("must be {WHAT}, not {}: {err}", quoted(text)))?;
    // Without a year field it comes due after every instant or after none, so any instant will do.
    line.find_next_occurrence(&DateTime::<Utc>::UNIX_EPOCH, false)
        .map_err(|_| format!("must come due some day, and {} never does", quoted(text)))?;
    Ok(text.to_owned())
}
